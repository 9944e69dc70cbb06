"""Reading the time-stamp counter without Python.

A guest that waits reads the counter over and over: millions of exits that all end alike. So the function that Unicorn
calls on an exception is a few machine instructions, which deal with such an exit and leave all others to Python::

    exception ──> translation cache's INT3 that stands for RDTSC? ──yes──> charge it, EDX:EAX = time, go on
              ──> RDTSC itself, on the bare machine?              ──yes──> EDX:EAX = time, EIP behind it, go on
              ──> RDTSC itself, of a guest in guest mode?         ──yes──> charge the exit, then the same
                      └─ no ──> Cpu._on_interrupt (Python)

It does what ``Cpu`` and the engine would have done, to the nanosecond, on the cells of ``time_cells``.
Virtual time is one nanosecond a byte of code here; with another cost model ON stays 0.
"""

from __future__ import annotations

from typing import Any

from vilab.machine import llvm, native_parts, time_cells
from vilab.machine.context import BASE, SEGMENT_BYTES, Layout
from vilab.machine.registers import HF_INHIBIT_IRQ

BREAKPOINT = 3
VMEXIT_OF_RDTSC = 0x100 + 0x6E
RDTSC_CODE, RDTSC_BYTES = 0x310F, 2
"""As it stands in memory, without prefixes; one that has some goes to Python."""
CS = 1
RING_1, RINGS = 1, 3
"""Fragments run in ring 1; a program in ring 3 may have any EIP, through a base of its CS."""
TF = 0x100
LAZY_FLAGS_GONE = ~0xCD5
"""EFLAGS without the arithmetic flags and DF, which inside a run lie elsewhere."""

_IR = """
define void @on_interrupt(i8* %uc, i32 %number, i64* %time) {{
entry:
  %code_p = alloca i16
  %on = load i64, i64* %time
  %of_cache = icmp eq i64 %on, {OF_CACHE}
  %is_breakpoint = icmp eq i32 %number, {breakpoint}
  %maybe = and i1 %of_cache, %is_breakpoint
  %of_processor = icmp eq i64 %on, {OF_PROCESSOR}
  %of_monitor = icmp eq i64 %on, {OF_MONITOR}
  %itself = or i1 %of_processor, %of_monitor
  %is_exit = icmp eq i32 %number, {VMEXIT_OF_RDTSC}
  %maybe_own = and i1 %itself, %is_exit
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
  %flags_b = getelementptr i8, i8* %context, i64 {eflags}
  %flags_p = bitcast i8* %flags_b to i64*
  %flags = load i64, i64* %flags_p
  %hflags_b = getelementptr i8, i8* %context, i64 {hflags}
  %hflags_p = bitcast i8* %hflags_b to i32*
  %hflags = load i32, i32* %hflags_p
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
  %here = and i1 %was_read, %is_rdtsc
  %trap = and i64 %flags, {TF}
  %untraced = icmp eq i64 %trap, 0
  %is_own = and i1 %here, %untraced
  br i1 %is_own, label %skip, label %python
skip:
  %eip_sum = add i64 %eip_found, {RDTSC_BYTES}
  %eip_behind = and i64 %eip_sum, 4294967295
  store i64 %eip_behind, i64* %eip_p
  %unshadowed = and i32 %hflags, {no_shadow}
  store i32 %unshadowed, i32* %hflags_p
  %executed_too = select i1 %of_processor, i64 {RDTSC_BYTES}, i64 0
  %eip_counted = add i64 %eip_found, %executed_too
  br label %mine
breakpoint:
  %base_p = getelementptr i64, i64* %time, i64 {TC_BASE}
  %base = load i64, i64* %base_p
  %span_p = getelementptr i64, i64* %time, i64 {TC_SPAN}
  %span = load i64, i64* %span_p
  %behind_base = sub i64 %eip_found, %base
  %offset = sub i64 %behind_base, 1
  %inside = icmp ult i64 %offset, %span
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
  %flags_kept = and i64 %flags, {lazy_flags_gone}
  store i64 %flags_kept, i64* %flags_p
  br label %mine
mine:
  %eip = phi i64 [ %eip_counted, %skip ], [ %eip_found, %flags_of_breakpoint ]
  %own_bytes = phi i64 [ %executed_too, %skip ], [ 0, %flags_of_breakpoint ]
  %sum = add i64 %eip, %cs
  %linear = and i64 %sum, 4294967295
  %executed = call i64 @settle(i8* %context, i64* %time, i64 %linear)
  %reads_p = getelementptr i64, i64* %time, i64 {READS}
  %reads_before = load i64, i64* %reads_p
  %reads = add i64 %reads_before, 1
  store i64 %reads, i64* %reads_p
  %before_own = sub i64 %executed, %own_bytes
  call void @read_time(i8* %context, i64* %time, i64 %before_own)
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
        own = ("VMEXIT_OF_RDTSC", "RDTSC_CODE", "RDTSC_BYTES", "RING_1", "RINGS", "TF")
        theirs = (
            "TC_BASE",
            "TC_SPAN",
            "TC_MARKS",
            "READS_TIME",
            "READS",
            "PYTHON",
            "OF_CACHE",
            "OF_PROCESSOR",
            "OF_MONITOR",
        )
        _engine = llvm.compile_module(
            native_parts.SETTLE + native_parts.READ_TIME + _IR, save=save, restore=restore, vmem_read=vmem_read,
            breakpoint=BREAKPOINT, cs_base=at.segments + CS * SEGMENT_BYTES + BASE, lazy_flags_gone=LAZY_FLAGS_GONE,
            no_shadow=~HF_INHIBIT_IRQ,
            **native_parts.words(at), **{name: globals()[name] for name in own},
            **{name: getattr(time_cells, name) for name in theirs},
        )  # fmt: skip
    return None if _engine is None else int(_engine.get_function_address("on_interrupt"))
