"""CLI, STI and RDTSC of a guest's kernel without Python, where an INT3 in its mirrored code stands for them.

A kernel switches interrupts off and on hundreds of thousands of times while it boots. Behind ``native_time`` the
function here takes such an INT3, if the engine has said which instruction is there, and does what the engine would::

    table[EIP & ffff] == EIP << 8 | what ?  ──yes──> charge it; IF <- 0, or IF <- 1, or EDX:EAX <- time; go on
                └─ no ──> Cpu._on_interrupt (Python); the engine enters it into the table

It works on cells of its own::

    cell  name      meaning
    0     RING_0    nonzero: the guest is in ring 0, in its mirrors
    1     CS_BASE   the CPU's base of CS that the entries of the table were made for
    2     SHADOW    bytes executed when an STI was done: there no interrupt is taken yet
    3     TABLE     host address of the table's 65,536 entries
    4     PYTHON    host address of the callback for everything else
    5     DONE      how many of each kind were dealt with here: CLI, STI, RDTSC

An STI while an interrupt waits goes to Python, for what follows is the engine's business.
"""

from __future__ import annotations

from typing import Any

from vilab.machine import llvm, native, native_time
from vilab.machine.context import BASE, SEGMENT_BYTES, Layout

RING_0, CS_BASE, SHADOW, TABLE, PYTHON, DONE = range(6)
CLI, STI, RDTSC = range(3)
KINDS = ("cli", "sti", "rdtsc")
CELLS = DONE + len(KINDS)
ENTRIES = 1 << 16
IF = 0x200
MORE_OF_RDTSC = 1
"""RDTSC has a second byte behind the INT3."""

_IR = """
target triple = "{triple}"

define void @on_callout(i8* %uc, i32 %number, i8* %time_b) {{
entry:
  %time = bitcast i8* %time_b to i64*
  %more_pp = getelementptr i64, i64* %time, i64 {MORE_AT}
  %more_i = load i64, i64* %more_pp
  %more = inttoptr i64 %more_i to i64*
  %on = load i64, i64* %time
  %is_on = icmp eq i64 %on, {OF_MIRRORS}
  %is_breakpoint = icmp eq i32 %number, {breakpoint}
  %maybe = and i1 %is_on, %is_breakpoint
  br i1 %maybe, label %look, label %python
look:
  %ring_p = getelementptr i64, i64* %more, i64 {RING_0}
  %ring = load i64, i64* %ring_p
  %in_ring_0 = icmp ne i64 %ring, 0
  br i1 %in_ring_0, label %save, label %python
save:
  %context_p = getelementptr i64, i64* %time, i64 {CONTEXT}
  %context_i = load i64, i64* %context_p
  %context = inttoptr i64 %context_i to i8*
  %save_f = inttoptr i64 {save} to i32 (i8*, i8*)*
  %saved = call i32 %save_f(i8* %uc, i8* %context)
  %eip_b = getelementptr i8, i8* %context, i64 {eip}
  %eip_p = bitcast i8* %eip_b to i64*
  %eip = load i64, i64* %eip_p
  %cs_b = getelementptr i8, i8* %context, i64 {cs_base}
  %cs_p = bitcast i8* %cs_b to i64*
  %cs = load i64, i64* %cs_p
  %base_p = getelementptr i64, i64* %more, i64 {CS_BASE}
  %base = load i64, i64* %base_p
  %same_base = icmp eq i64 %base, %cs
  br i1 %same_base, label %find, label %python
find:
  %at = sub i64 %eip, 1
  %index = and i64 %at, 65535
  %table_p = getelementptr i64, i64* %more, i64 {TABLE}
  %table_i = load i64, i64* %table_p
  %table = inttoptr i64 %table_i to i64*
  %entry_p = getelementptr i64, i64* %table, i64 %index
  %entry_v = load i64, i64* %entry_p
  %entry_eip = lshr i64 %entry_v, 8
  %known = icmp eq i64 %entry_eip, %at
  %what = and i64 %entry_v, 255
  %cells_pp = getelementptr i64, i64* %time, i64 {CELLS_AT}
  %cells_i = load i64, i64* %cells_pp
  %cells = inttoptr i64 %cells_i to i64*
  %pending_p = getelementptr i64, i64* %cells, i64 {PENDING}
  %pending = load i64, i64* %pending_p
  %waits = icmp ne i64 %pending, 0
  %is_sti = icmp eq i64 %what, {STI}
  %not_now = and i1 %waits, %is_sti
  %now_allowed = xor i1 %not_now, true
  %mine = and i1 %known, %now_allowed
  br i1 %mine, label %do, label %python
do:
  %old_b = getelementptr i8, i8* %context, i64 {old_exception}
  %old_p = bitcast i8* %old_b to i32*
  store i32 -1, i32* %old_p
  %software_b = getelementptr i8, i8* %context, i64 {software}
  %software_p = bitcast i8* %software_b to i32*
  store i32 0, i32* %software_p
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
  %counts = getelementptr i64, i64* %more, i64 {DONE}
  %count_p = getelementptr i64, i64* %counts, i64 %what
  %count_before = load i64, i64* %count_p
  %count = add i64 %count_before, 1
  store i64 %count, i64* %count_p
  %flags_b = getelementptr i8, i8* %context, i64 {eflags}
  %flags_p = bitcast i8* %flags_b to i64*
  %flags_found = load i64, i64* %flags_p
  %flags = and i64 %flags_found, {lazy_flags_gone}
  switch i64 %what, label %cli [ i64 {STI}, label %sti
                                 i64 {RDTSC}, label %rdtsc ]
cli:
  %flags_off = and i64 %flags, {not_if}
  br label %done_so
sti:
  %flags_on = or i64 %flags, {IF}
  %shadow_p = getelementptr i64, i64* %more, i64 {SHADOW}
  %shadow = load i64, i64* %shadow_p
  %before_this = sub i64 %executed, 1
  %shadowed = icmp eq i64 %shadow, %before_this
  %new_shadow = select i1 %shadowed, i64 %shadow, i64 %executed
  store i64 %new_shadow, i64* %shadow_p
  br label %done_so
rdtsc:
  %eip_sum = add i64 %eip, {MORE_OF_RDTSC}
  %eip_behind = and i64 %eip_sum, 4294967295
  store i64 %eip_behind, i64* %eip_p
  %now = add i64 %executed, %offset_ns
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
  br label %done_so
done_so:
  %new_flags = phi i64 [ %flags_off, %cli ], [ %flags_on, %sti ], [ %flags, %rdtsc ]
  store i64 %new_flags, i64* %flags_p
  %restore = inttoptr i64 {restore} to i32 (i8*, i8*)*
  %restored = call i32 %restore(i8* %uc, i8* %context)
  ret void
python:
  %python_p = getelementptr i64, i64* %more, i64 {PYTHON}
  %python_i = load i64, i64* %python_p
  %python_f = inttoptr i64 %python_i to void (i8*, i32, i8*)*
  call void %python_f(i8* %uc, i32 %number, i8* null)
  ret void
}}
"""

_engine: Any = None


def compile_hook(save: int, restore: int, at: Layout) -> int | None:
    """Machine-code address of the function; ``None`` where llvmlite is missing.

    Parameters
    ----------
    save, restore : addresses of ``uc_context_save`` and ``uc_context_restore`` in this process.
    at : where the registers are in the context.
    """
    global _engine
    if _engine is None:
        own = ("RING_0", "CS_BASE", "SHADOW", "TABLE", "PYTHON", "DONE", "STI", "RDTSC", "IF", "MORE_OF_RDTSC")
        theirs = ("CONTEXT", "CELLS_AT", "COST_NS", "OFFSET_NS", "TSC_PER_US", "MORE_AT", "OF_MIRRORS")
        _engine = llvm.compile_module(
            _IR, save=save, restore=restore, breakpoint=native_time.BREAKPOINT, eip=at.eip, eflags=at.eflags,
            eax=at.gpr, edx=at.gpr + 16, cs_base=at.segments + native_time.CS * SEGMENT_BYTES + BASE,
            software=at.error_code + 4, old_exception=at.old_exception,
            lazy_flags_gone=native_time.LAZY_FLAGS_GONE, not_if=~IF, SIZE=native.SIZE, BLOCK=native.BLOCK,
            LIMIT=native.LIMIT, PENDING=native.PENDING, **{name: globals()[name] for name in own},
            **{name: getattr(native_time, name) for name in theirs},
        )  # fmt: skip
    return None if _engine is None else int(_engine.get_function_address("on_callout"))
