"""The block hook: counts executed code and preempts, at the processor's own speed.

Unicorn calls a hook at the start of each basic block. As a Python function it would cost a microsecond a block; this
one is a few machine instructions that llvmlite compiles at start-up. It works on an array of 64-bit cells::

    cell  name       meaning
    0     EXECUTED   bytes of code executed since power-on; a block is counted when it is entered
    1     LIMIT      a block that would take EXECUTED beyond this is not entered: the processor stops before it
    2     BLOCK      linear address of the block entered last
    3     SIZE       its length in bytes; 0 after a stop, or when the rest was refunded
    4     PENDING    nonzero: an interrupt waits, so look at the interrupt flag
    5     FLAG_AT    host address of a byte that holds the virtual interrupt flag (bit 1); 0: ask the CPU's EFLAGS
    6     STOPPED    set to 1 when LIMIT, 2 when an interrupt stopped the processor
    7     COUNT_AT   host address of the instruction hook's count; 0: nobody counts

A store into the block that it stands in makes the processor leave that block and begin the store again, in a block of
its own. Such a block lies in the one before and ends before it (a jump back into a block runs to the same end, unless
it leads into the middle of an instruction); then the rest of the one before is taken off again, and the instruction is
not counted twice.

A block left early (a fault, a callout, a single step) is refunded by ``Cpu``, so the count does not depend on where
blocks begin and end. Without llvmlite the same function runs in Python: slower, and equal in every count.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

EXECUTED, LIMIT, BLOCK, SIZE, PENDING, FLAG_AT, STOPPED, COUNT_AT = range(8)
CELLS = 8
STOPPED_BY_LIMIT = 1
STOPPED_BY_INTERRUPT = 2

EFLAGS_IF = 0x200

Cells = npt.NDArray[np.int64]

_IR = """
define void @on_block(i8* %uc, i64 %address, i32 %size32, i64* %cells) {{
entry:
  %size = zext i32 %size32 to i64
  %limit_p = getelementptr i64, i64* %cells, i64 1
  %block_p = getelementptr i64, i64* %cells, i64 2
  %size_p = getelementptr i64, i64* %cells, i64 3
  %pending_p = getelementptr i64, i64* %cells, i64 4
  %executed_before = load i64, i64* %cells
  %block_before = load i64, i64* %block_p
  %size_before = load i64, i64* %size_p
  %offset = sub i64 %address, %block_before
  %end = add i64 %offset, %size
  %rest = sub i64 %size_before, %offset
  %inside = icmp ult i64 %offset, %size_before
  %shorter = icmp ult i64 %end, %size_before
  %again = and i1 %inside, %shorter
  %twice = select i1 %again, i64 %rest, i64 0
  %executed = sub i64 %executed_before, %twice
  %limit = load i64, i64* %limit_p
  %pending = load i64, i64* %pending_p
  %after = add i64 %executed, %size
  %over = icmp sgt i64 %after, %limit
  %waits = icmp ne i64 %pending, 0
  %over_or_waits = or i1 %over, %waits
  %either = or i1 %over_or_waits, %again
  br i1 %either, label %rare, label %enter
enter:
  %now = phi i64 [ %after, %entry ], [ %total, %rarer ], [ %total, %look ], [ %total, %ask ]
  store i64 %now, i64* %cells
  store i64 %address, i64* %block_p
  store i64 %size, i64* %size_p
  ret void
rare:
  br i1 %again, label %second, label %rarer
second:
  %count_at_p = getelementptr i64, i64* %cells, i64 7
  %count_at = load i64, i64* %count_at_p
  %counted = icmp ne i64 %count_at, 0
  br i1 %counted, label %look_back, label %rarer
look_back:
  %count_p = inttoptr i64 %count_at to i64*
  %last_p = getelementptr i64, i64* %count_p, i64 5
  %last = load i64, i64* %last_p
  %same = icmp eq i64 %last, %address
  br i1 %same, label %subtract, label %first_time
first_time:
  %executed_and_size = add i64 %executed_before, %size
  br label %rarer
subtract:
  %count = load i64, i64* %count_p
  %less = sub i64 %count, 1
  store i64 %less, i64* %count_p
  br label %rarer
rarer:
  %total = phi i64 [ %after, %rare ], [ %after, %second ], [ %after, %subtract ], [ %executed_and_size, %first_time ]
  %so_far = sub i64 %total, %size
  store i64 %so_far, i64* %cells
  br i1 %over_or_waits, label %why_stop, label %enter
why_stop:
  br i1 %over, label %stop, label %interrupt
interrupt:
  %flag_at_p = getelementptr i64, i64* %cells, i64 5
  %flag_at = load i64, i64* %flag_at_p
  %virtual = icmp ne i64 %flag_at, 0
  br i1 %virtual, label %look, label %ask
look:
  %flag_p = inttoptr i64 %flag_at to i8*
  %flag = load i8, i8* %flag_p
  %flag_bit = and i8 %flag, 2
  %flag_on = icmp ne i8 %flag_bit, 0
  br i1 %flag_on, label %stop, label %enter
ask:
  %eflags_p = alloca i64
  store i64 0, i64* %eflags_p
  %eflags_v = bitcast i64* %eflags_p to i8*
  %read = inttoptr i64 {reg_read} to i32 (i8*, i32, i8*)*
  %ok = call i32 %read(i8* %uc, i32 {eflags}, i8* %eflags_v)
  %eflags = load i64, i64* %eflags_p
  %if_bit = and i64 %eflags, 512
  %if_on = icmp ne i64 %if_bit, 0
  br i1 %if_on, label %stop, label %enter
stop:
  %why = select i1 %over, i64 1, i64 2
  %stopped_p = getelementptr i64, i64* %cells, i64 6
  store i64 %why, i64* %stopped_p
  store i64 0, i64* %size_p
  %halt = inttoptr i64 {emu_stop} to i32 (i8*)*
  %ok2 = call i32 %halt(i8* %uc)
  ret void
}}

define void @on_code(i8* %uc, i64 %address, i32 %size, i64* %cells) {{
entry:
  %limit_p = getelementptr i64, i64* %cells, i64 1
  %base_p = getelementptr i64, i64* %cells, i64 2
  %span_p = getelementptr i64, i64* %cells, i64 3
  %marks_p = getelementptr i64, i64* %cells, i64 4
  %base = load i64, i64* %base_p
  %span = load i64, i64* %span_p
  %offset = sub i64 %address, %base
  %inside = icmp ult i64 %offset, %span
  br i1 %inside, label %marked, label %count
marked:
  %marks = load i64, i64* %marks_p
  %mark_at = add i64 %marks, %offset
  %mark_p = inttoptr i64 %mark_at to i8*
  %mark = load i8, i8* %mark_p
  %first = icmp ne i8 %mark, 0
  br i1 %first, label %count, label %done
count:
  %n = load i64, i64* %cells
  %limit = load i64, i64* %limit_p
  %full = icmp sge i64 %n, %limit
  br i1 %full, label %stop, label %add
add:
  %n1 = add i64 %n, 1
  store i64 %n1, i64* %cells
  %last_p = getelementptr i64, i64* %cells, i64 5
  store i64 %address, i64* %last_p
  ret void
stop:
  %stopped_p = getelementptr i64, i64* %cells, i64 6
  store i64 1, i64* %stopped_p
  %halt = inttoptr i64 {emu_stop} to i32 (i8*)*
  %ok = call i32 %halt(i8* %uc)
  ret void
done:
  ret void
}}
"""

_engine: Any = None
"""The compiled module must live as long as the process: Unicorn holds addresses into it."""


def compile_hooks(reg_read: int, emu_stop: int, eflags_id: int) -> tuple[int, int] | None:
    """Machine-code addresses of the block hook and of the instruction hook; ``None`` where llvmlite is missing.

    Parameters
    ----------
    reg_read, emu_stop : addresses of Unicorn's functions in this process.
    eflags_id : Unicorn's number for EFLAGS.
    """
    global _engine
    if _engine is None:
        try:
            import llvmlite.binding as llvm
        except ImportError:
            return None
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
        text = _IR.format(triple=llvm.get_default_triple(), reg_read=reg_read, emu_stop=emu_stop, eflags=eflags_id)
        module = llvm.parse_assembly(text)
        module.verify()
        _engine = llvm.create_mcjit_compiler(module, machine)
        _engine.finalize_object()
    return _engine.get_function_address("on_block"), _engine.get_function_address("on_code")


def block_hook_in_python(cells: Cells, read_eflags: Any, emu_stop: Any) -> Any:
    """The block hook as a Python function (uc, address, size, user data), line by line the same."""

    def on_block(uc: int, address: int, size: int, _user_data: Any) -> None:
        offset, before = address - int(cells[BLOCK]), int(cells[SIZE])
        if 0 <= offset < before and offset + size < before:
            count = (ctypes.c_int64 * CELLS).from_address(int(cells[COUNT_AT])) if cells[COUNT_AT] else None
            if count is None or count[LAST] == address:
                cells[EXECUTED] -= before - offset
                if count is not None:
                    count[COUNT] -= 1
        after = int(cells[EXECUTED]) + size
        why = 0
        if after > cells[LIMIT]:
            why = STOPPED_BY_LIMIT
        elif cells[PENDING]:
            at = int(cells[FLAG_AT])
            on = ctypes.c_uint8.from_address(at).value & 2 if at else read_eflags() & EFLAGS_IF
            why = STOPPED_BY_INTERRUPT if on else 0
        if why:
            cells[STOPPED] = why
            cells[SIZE] = 0
            emu_stop(uc)
        else:
            cells[EXECUTED] = after
            cells[BLOCK] = address
            cells[SIZE] = size

    return on_block


# The instruction hook has cells of its own: COUNT, LIMIT, base and length of the translation cache, and the host
# address of one byte for each byte of the cache, nonzero where the translation of a guest instruction begins.
COUNT, COUNT_LIMIT, TC_BASE, TC_SPAN, TC_MARKS, LAST = range(6)


def code_hook_in_python(cells: Cells, emu_stop: Any) -> Any:
    """The instruction hook as a Python function."""

    def on_code(uc: int, address: int, _size: int, _user_data: Any) -> None:
        offset = address - int(cells[TC_BASE])
        if 0 <= offset < cells[TC_SPAN] and not ctypes.c_uint8.from_address(int(cells[TC_MARKS]) + offset).value:
            return
        if cells[COUNT] >= cells[COUNT_LIMIT]:
            cells[STOPPED] = STOPPED_BY_LIMIT
            emu_stop(uc)
        else:
            cells[COUNT] += 1
            cells[LAST] = address

    return on_code
