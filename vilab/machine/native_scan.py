"""Passing over plain code without Python: where instructions begin, and where direct jumps lead.

::

    code   8b 44 24 08  74 0e  e8 10 00 00 00  65 a1 04 .. .. ..  fa ...
    marks  1  2  2  2   1  2   1  2  2  2  2   1  2  2  2  2  2   <── stops here: the decoder has to be asked
    jumps               14 + 6 = 20    16 + 11 = 27

A table gives the length of most instructions for each pair (opcode, next byte), a second one behind the escape 0f
(``x86.scan``). What those do not know is a direct jump, a call or a return in its usual form, or goes to the decoder.
The function is a few machine instructions, as ``native`` explains. Its answers lie in cells::

    cell  name    meaning
    0     COUNT   instructions passed over
    1     JUMPS   direct jumps and calls among them,
    2     ENDED   1: the last one was an unconditional jump or a return
    3     FIRST   where the jumps lead, relative to the code's start; one cell each
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from vilab.machine import llvm

COUNT, JUMPS, ENDED, FIRST = range(4)
MOST_BYTES = 4096
CELLS = FIRST + MOST_BYTES // 2
START, INSIDE = 1, 2
MAX_BYTES, NO_BASE = 15, 16

Scan = Callable[[bytes, int, int, int], int]
"""(code, from, last, gap) -> where it stopped. Instructions that begin before ``last`` and end at ``gap`` or before."""

_IR = """
target triple = "{triple}"

define i64 @scan(i8* %code, i64 %from, i64 %last, i64 %gap, i8* %one, i8* %two, i8* %marks, i64* %cells) {{
entry:
  br label %next
next:
  %at = phi i64 [ %from, %entry ], [ %end, %marked ]
  %count = phi i64 [ 0, %entry ], [ %count_more, %marked ]
  %jumps = phi i64 [ 0, %entry ], [ %jumps_more, %marked ]
  %over = phi i64 [ 0, %entry ], [ %ends, %marked ]
  %is_over = icmp ne i64 %over, 0
  %in_range = icmp slt i64 %at, %last
  %not_over = xor i1 %is_over, true
  %more = and i1 %in_range, %not_over
  br i1 %more, label %look, label %done
look:
  %first_p = getelementptr i8, i8* %code, i64 %at
  %first = load i8, i8* %first_p
  %behind = add i64 %at, 1
  switch i8 %first, label %opcode [ i8 38, label %prefixed
                                    i8 54, label %prefixed
                                    i8 62, label %prefixed
                                    i8 100, label %prefixed
                                    i8 101, label %prefixed ]
prefixed:
  br label %opcode
opcode:
  %here = phi i64 [ %at, %look ], [ %behind, %prefixed ]
  %b0_p = getelementptr i8, i8* %code, i64 %here
  %b0 = load i8, i8* %b0_p
  %b1_p = getelementptr i8, i8* %b0_p, i64 1
  %b1 = load i8, i8* %b1_p
  %b2_p = getelementptr i8, i8* %b0_p, i64 2
  %b2 = load i8, i8* %b2_p
  %b3_p = getelementptr i8, i8* %b0_p, i64 3
  %b3 = load i8, i8* %b3_p
  %escaped = icmp eq i8 %b0, 15
  %row = select i1 %escaped, i8 %b1, i8 %b0
  %column = select i1 %escaped, i8 %b2, i8 %b1
  %sib = select i1 %escaped, i8 %b3, i8 %b2
  %table = select i1 %escaped, i8* %two, i8* %one
  %row_i = zext i8 %row to i64
  %column_i = zext i8 %column to i64
  %row_at = shl i64 %row_i, 8
  %entry_at = or i64 %row_at, %column_i
  %size_p = getelementptr i8, i8* %table, i64 %entry_at
  %size_8 = load i8, i8* %size_p
  %entry_v = zext i8 %size_8 to i64
  %has_sib = icmp ugt i64 %entry_v, {NO_BASE}
  %without = sub i64 %entry_v, {NO_BASE}
  %base = and i8 %sib, 7
  %no_base = icmp eq i8 %base, 5
  %longer = select i1 %no_base, i64 4, i64 0
  %with_sib = add i64 %without, %longer
  %size = select i1 %has_sib, i64 %with_sib, i64 %entry_v
  %known = icmp ne i64 %size, 0
  %plain_end = add i64 %here, %size
  br i1 %known, label %mark, label %unknown
unknown:
  %bare = icmp eq i64 %here, %at
  br i1 %bare, label %control, label %done
control:
  switch i8 %b0, label %maybe_short [ i8 15, label %maybe_long
                                      i8 195, label %return
                                      i8 232, label %near
                                      i8 233, label %near_jump
                                      i8 235, label %short_jump ]
maybe_short:
  %high = and i8 %b0, 240
  %is_jcc = icmp eq i8 %high, 112
  %low = and i8 %b0, 252
  %is_loop = icmp eq i8 %low, 224
  %is_short = or i1 %is_jcc, %is_loop
  br i1 %is_short, label %short, label %done
maybe_long:
  %long_high = and i8 %b1, 240
  %is_long = icmp eq i8 %long_high, 128
  br i1 %is_long, label %long, label %done
return:
  %return_end = add i64 %at, 1
  br label %mark
short_jump:
  br label %short
short:
  %short_ends = phi i64 [ 0, %maybe_short ], [ 1, %short_jump ]
  %short_end = add i64 %at, 2
  %rel_8 = sext i8 %b1 to i64
  %short_to = add i64 %short_end, %rel_8
  br label %jump
near_jump:
  br label %near
near:
  %near_ends = phi i64 [ 0, %control ], [ 1, %near_jump ]
  %near_end = add i64 %at, 5
  %near_p = bitcast i8* %b1_p to i32*
  %near_rel = load i32, i32* %near_p, align 1
  %near_rel_i = sext i32 %near_rel to i64
  %near_to = add i64 %near_end, %near_rel_i
  br label %jump
long:
  %long_end = add i64 %at, 6
  %long_p = bitcast i8* %b2_p to i32*
  %long_rel = load i32, i32* %long_p, align 1
  %long_rel_i = sext i32 %long_rel to i64
  %long_to = add i64 %long_end, %long_rel_i
  br label %jump
jump:
  %jump_end = phi i64 [ %short_end, %short ], [ %near_end, %near ], [ %long_end, %long ]
  %jump_to = phi i64 [ %short_to, %short ], [ %near_to, %near ], [ %long_to, %long ]
  %jump_ends = phi i64 [ %short_ends, %short ], [ %near_ends, %near ], [ 0, %long ]
  %jump_fits = icmp sle i64 %jump_end, %gap
  br i1 %jump_fits, label %note, label %done
note:
  %jump_index = add i64 %jumps, {FIRST}
  %jump_p = getelementptr i64, i64* %cells, i64 %jump_index
  store i64 %jump_to, i64* %jump_p
  %jumps_one_more = add i64 %jumps, 1
  br label %mark
mark:
  %end = phi i64 [ %plain_end, %opcode ], [ %return_end, %return ], [ %jump_end, %note ]
  %jumps_more = phi i64 [ %jumps, %opcode ], [ %jumps, %return ], [ %jumps_one_more, %note ]
  %ends = phi i64 [ 0, %opcode ], [ 1, %return ], [ %jump_ends, %note ]
  %fits = icmp sle i64 %end, %gap
  %bytes = sub i64 %end, %at
  %legal = icmp sle i64 %bytes, {MAX_BYTES}
  %good = and i1 %fits, %legal
  br i1 %good, label %start, label %done
start:
  %mark_p = getelementptr i8, i8* %marks, i64 %at
  store i8 {START}, i8* %mark_p
  %count_more = add i64 %count, 1
  br label %inside
inside:
  %byte = phi i64 [ %behind, %start ], [ %byte_more, %one_inside ]
  %is_inside = icmp slt i64 %byte, %end
  br i1 %is_inside, label %one_inside, label %marked
one_inside:
  %inside_p = getelementptr i8, i8* %marks, i64 %byte
  store i8 {INSIDE}, i8* %inside_p
  %byte_more = add i64 %byte, 1
  br label %inside
marked:
  br label %next
done:
  store i64 %count, i64* %cells
  %jumps_p = getelementptr i64, i64* %cells, i64 {JUMPS}
  store i64 %jumps, i64* %jumps_p
  %ended_p = getelementptr i64, i64* %cells, i64 {ENDED}
  store i64 %over, i64* %ended_p
  ret i64 %at
}}
"""

_engine: Any = None


def compile_scan(one: bytes, two: bytes, marks: bytearray, cells: memoryview) -> Scan | None:
    """The function; ``None`` where llvmlite is missing.

    Parameters
    ----------
    one, two : the tables of lengths.
    marks : at least ``MOST_BYTES`` + ``MAX_BYTES``, written to from where the scan begins.
    cells : ``CELLS`` signed 64-bit ones.
    """
    global _engine
    if _engine is None:
        _engine = llvm.compile_module(
            _IR, NO_BASE=NO_BASE, FIRST=FIRST, JUMPS=JUMPS, ENDED=ENDED, MAX_BYTES=MAX_BYTES, START=START,
            INSIDE=INSIDE,
        )  # fmt: skip
    if _engine is None:
        return None
    void, i64 = ctypes.c_void_p, ctypes.c_int64
    kind = ctypes.PYFUNCTYPE(i64, ctypes.c_char_p, i64, i64, i64, ctypes.c_char_p, ctypes.c_char_p, void, void)
    function = kind(_engine.get_function_address("scan"))
    marks_at = void(ctypes.addressof(ctypes.c_char.from_buffer(marks)))
    cells_at = void(ctypes.addressof(ctypes.c_char.from_buffer(cells)))

    def scan(code: bytes, start: int, last: int, gap: int) -> int:
        stopped: int = function(code, start, last, gap, one, two, marks_at, cells_at)
        return stopped

    return scan
