"""Reading the time-stamp counter without Python.

A guest that waits reads the counter over and over: millions of exits that all end alike. So the function that Unicorn
calls on an exception is a few machine instructions, which deal with such an exit and leave all others to Python::

    exception ──> translation cache's INT3 that stands for RDTSC? ──yes──> charge it, EDX:EAX = time, go on
              ──> RDTSC itself, which exits on the bare machine?  ──yes──> EDX:EAX = time, EIP behind it, go on
                      └─ no ──> Cpu._on_interrupt (Python)

It does what ``Cpu`` and the engine would have done, to the nanosecond, on cells of its own::

    cell  name        meaning
    0     ON          0: everything goes to Python; 1: marked INT3; 2: #VMEXIT of RDTSC; 3: see ``native_callouts``
    1     OFFSET_NS   virtual time beside executed code (the engine's ``offset_ns``)
    2     COST_NS     what one read costs
    3     TSC_PER_US  how fast the counter counts
    4     READS       how many were dealt with here
    5     TC_BASE     linear address of the translation cache,
    6     TC_SPAN     its length in bytes,
    7     TC_MARKS    and the host address of one mark a byte: ``READS_TIME`` at an INT3 that stands for RDTSC
    8     CONTEXT     host address of the buffer for the processor's context
    9     CELLS       host address of the block hook's cells
    10    PYTHON      host address of the callback for everything else; it gets these cells
    11    MORE_AT     host address of the cells of ``native_callouts``, if that is the callback

Virtual time is one nanosecond a byte of code here; with another cost model ON stays 0.
"""

from __future__ import annotations

from typing import Any

from vilab.machine import llvm, native
from vilab.machine.context import BASE, SEGMENT_BYTES, Layout

ON, OFFSET_NS, COST_NS, TSC_PER_US, READS, TC_BASE, TC_SPAN, TC_MARKS, CONTEXT, CELLS_AT, PYTHON, MORE_AT = range(12)
CELLS = 12
READS_TIME = 2
BREAKPOINT = 3
OF_CACHE, OF_PROCESSOR, OF_MIRRORS = 1, 2, 3
VMEXIT_OF_RDTSC = 0x100 + 0x6E
RDTSC_CODE, RDTSC_BYTES = 0x310F, 2
"""As it stands in memory, without prefixes; one that has some goes to Python."""
CS = 1
RING_1, RINGS = 1, 3
"""Fragments run in ring 1; a program in ring 3 may have any EIP, through a base of its CS."""
LAZY_FLAGS_GONE = ~0xCD5
"""EFLAGS without the arithmetic flags and DF, which inside a run lie elsewhere."""

_IR = """
target triple = "{triple}"

define void @on_interrupt(i8* %uc, i32 %number, i64* %time) {{
entry:
  %code_p = alloca i16
  %on = load i64, i64* %time
  %of_cache = icmp eq i64 %on, {OF_CACHE}
  %is_breakpoint = icmp eq i32 %number, {breakpoint}
  %maybe = and i1 %of_cache, %is_breakpoint
  %of_processor = icmp eq i64 %on, {OF_PROCESSOR}
  %is_exit = icmp eq i32 %number, {VMEXIT_OF_RDTSC}
  %maybe_own = and i1 %of_processor, %is_exit
  %either = or i1 %maybe, %maybe_own
  br i1 %either, label %look, label %python
look:
  %context_p = getelementptr i64, i64* %time, i64 {CONTEXT}
  %context_i = load i64, i64* %context_p
  %context = inttoptr i64 %context_i to i8*
  %save = inttoptr i64 {save} to i32 (i8*, i8*)*
  %saved = call i32 %save(i8* %uc, i8* %context)
  %eip_b = getelementptr i8, i8* %context, i64 {eip}
  %eip_p = bitcast i8* %eip_b to i64*
  %eip_found = load i64, i64* %eip_p
  %cs_b = getelementptr i8, i8* %context, i64 {cs_base}
  %cs_p = bitcast i8* %cs_b to i64*
  %cs = load i64, i64* %cs_p
  br i1 %maybe, label %breakpoint, label %own
own:
  %own_sum = add i64 %eip_found, %cs
  %own_at = and i64 %own_sum, 4294967295
  %code_b = bitcast i16* %code_p to i8*
  %vmem_read = inttoptr i64 {vmem_read} to i32 (i8*, i64, i32, i8*, i64)*
  %read_error = call i32 %vmem_read(i8* %uc, i64 %own_at, i32 1, i8* %code_b, i64 {RDTSC_BYTES})
  %was_read = icmp eq i32 %read_error, 0
  %code = load i16, i16* %code_p
  %is_rdtsc = icmp eq i16 %code, {RDTSC_CODE}
  %is_own = and i1 %was_read, %is_rdtsc
  br i1 %is_own, label %skip, label %python
skip:
  %eip_sum = add i64 %eip_found, {RDTSC_BYTES}
  %eip_behind = and i64 %eip_sum, 4294967295
  store i64 %eip_behind, i64* %eip_p
  br label %mine
breakpoint:
  %base_p = getelementptr i64, i64* %time, i64 {TC_BASE}
  %base = load i64, i64* %base_p
  %span_p = getelementptr i64, i64* %time, i64 {TC_SPAN}
  %span = load i64, i64* %span_p
  %behind_base = sub i64 %eip_found, %base
  %offset = sub i64 %behind_base, 1
  %inside = icmp ult i64 %offset, %span
  %hflags_b = getelementptr i8, i8* %context, i64 {hflags}
  %hflags_p = bitcast i8* %hflags_b to i32*
  %hflags = load i32, i32* %hflags_p
  %ring = and i32 %hflags, {RINGS}
  %in_ring_1 = icmp eq i32 %ring, {RING_1}
  %in_cache = and i1 %inside, %in_ring_1
  br i1 %in_cache, label %marked, label %python
marked:
  %marks_p = getelementptr i64, i64* %time, i64 {TC_MARKS}
  %marks = load i64, i64* %marks_p
  %mark_at = add i64 %marks, %offset
  %mark_p = inttoptr i64 %mark_at to i8*
  %mark = load i8, i8* %mark_p
  %reads_time = icmp eq i8 %mark, {READS_TIME}
  br i1 %reads_time, label %flags_of_breakpoint, label %python
flags_of_breakpoint:
  %flags_b = getelementptr i8, i8* %context, i64 {eflags}
  %flags_p = bitcast i8* %flags_b to i64*
  %flags = load i64, i64* %flags_p
  %flags_kept = and i64 %flags, {lazy_flags_gone}
  store i64 %flags_kept, i64* %flags_p
  br label %mine
mine:
  %eip = phi i64 [ %eip_behind, %skip ], [ %eip_found, %flags_of_breakpoint ]
  %own_bytes = phi i64 [ {RDTSC_BYTES}, %skip ], [ 0, %flags_of_breakpoint ]
  %old_b = getelementptr i8, i8* %context, i64 {old_exception}
  %old_p = bitcast i8* %old_b to i32*
  store i32 -1, i32* %old_p
  %software_b = getelementptr i8, i8* %context, i64 {software}
  %software_p = bitcast i8* %software_b to i32*
  store i32 0, i32* %software_p
  %cells_pp = getelementptr i64, i64* %time, i64 {CELLS_AT}
  %cells_i = load i64, i64* %cells_pp
  %cells = inttoptr i64 %cells_i to i64*
  %size_p = getelementptr i64, i64* %cells, i64 {SIZE}
  %size = load i64, i64* %size_p
  %block_p = getelementptr i64, i64* %cells, i64 {BLOCK}
  %block = load i64, i64* %block_p
  %sum = add i64 %eip, %cs
  %linear = and i64 %sum, 4294967295
  %done = sub i64 %linear, %block
  %in_block = icmp ult i64 %done, %size
  %rest = sub i64 %size, %done
  %refund = select i1 %in_block, i64 %rest, i64 0
  store i64 0, i64* %size_p
  %executed_before = load i64, i64* %cells
  %executed = sub i64 %executed_before, %refund
  store i64 %executed, i64* %cells
  %cost_p = getelementptr i64, i64* %time, i64 {COST_NS}
  %cost = load i64, i64* %cost_p
  %offset_p = getelementptr i64, i64* %time, i64 {OFFSET_NS}
  %offset_before = load i64, i64* %offset_p
  %offset_ns = add i64 %offset_before, %cost
  store i64 %offset_ns, i64* %offset_p
  %limit_p = getelementptr i64, i64* %cells, i64 {LIMIT}
  %limit_before = load i64, i64* %limit_p
  %limit = sub i64 %limit_before, %cost
  store i64 %limit, i64* %limit_p
  %reads_p = getelementptr i64, i64* %time, i64 {READS}
  %reads_before = load i64, i64* %reads_p
  %reads = add i64 %reads_before, 1
  store i64 %reads, i64* %reads_p
  %before_own = sub i64 %executed, %own_bytes
  %now = add i64 %before_own, %offset_ns
  %speed_p = getelementptr i64, i64* %time, i64 {TSC_PER_US}
  %speed = load i64, i64* %speed_p
  %thousands = mul i64 %now, %speed
  %tsc = udiv i64 %thousands, 1000
  %low = and i64 %tsc, 4294967295
  %high = lshr i64 %tsc, 32
  %eax_b = getelementptr i8, i8* %context, i64 {eax}
  %eax_p = bitcast i8* %eax_b to i64*
  store i64 %low, i64* %eax_p
  %edx_b = getelementptr i8, i8* %context, i64 {edx}
  %edx_p = bitcast i8* %edx_b to i64*
  store i64 %high, i64* %edx_p
  %restore = inttoptr i64 {restore} to i32 (i8*, i8*)*
  %restored = call i32 %restore(i8* %uc, i8* %context)
  ret void
python:
  %python_p = getelementptr i64, i64* %time, i64 {PYTHON}
  %python_i = load i64, i64* %python_p
  %python_f = inttoptr i64 %python_i to void (i8*, i32, i8*)*
  %time_b = bitcast i64* %time to i8*
  call void %python_f(i8* %uc, i32 %number, i8* %time_b)
  ret void
}}
"""

_engine: Any = None


def compile_hook(save: int, restore: int, vmem_read: int, at: Layout) -> int | None:
    """Machine-code address of the function; ``None`` where llvmlite is missing.

    Parameters
    ----------
    save, restore, vmem_read : addresses of ``uc_context_save``, ``uc_context_restore`` and ``uc_vmem_read`` in this
        process.
    at : where the registers are in the context.
    """
    global _engine
    if _engine is None:
        names = (
            "CONTEXT", "TC_BASE", "TC_SPAN", "TC_MARKS", "READS_TIME", "CELLS_AT", "COST_NS", "OFFSET_NS", "READS",
            "TSC_PER_US", "PYTHON", "OF_CACHE", "OF_PROCESSOR", "VMEXIT_OF_RDTSC", "RDTSC_CODE", "RDTSC_BYTES",
            "RING_1", "RINGS",
        )  # fmt: skip
        _engine = llvm.compile_module(
            _IR, save=save, restore=restore, vmem_read=vmem_read, breakpoint=BREAKPOINT, eip=at.eip,
            eflags=at.eflags, hflags=at.hflags, eax=at.gpr, edx=at.gpr + 16,
            cs_base=at.segments + CS * SEGMENT_BYTES + BASE, software=at.error_code + 4,
            old_exception=at.old_exception, lazy_flags_gone=LAZY_FLAGS_GONE, SIZE=native.SIZE, BLOCK=native.BLOCK,
            LIMIT=native.LIMIT, **{name: globals()[name] for name in names},
        )  # fmt: skip
    return None if _engine is None else int(_engine.get_function_address("on_interrupt"))
