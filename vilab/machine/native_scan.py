"""Passing over the plain code of a page without Python: where instructions begin, and where direct jumps lead.

::

    code   8b 44 24 08  74 0e  e8 10 00 00 00  65 a1 04 .. .. ..  fa ...
    marks  1  2  2  2   1  2   1  2  2  2  2   1  2  2  2  2  2   <── stops here: the decoder has to be asked
    jumps               14 + 6 = 20    16 + 11 = 27               discovered next, when this piece is over

A table gives the length of most instructions for each pair (opcode, next byte), a second one behind the escape 0f
(``x86.scan``). What those do not know is a direct jump, a call or a return in its usual form, or is left to the caller.
Marks and code are put into the page's mirror on the way. A piece ends behind an unconditional jump or a return, or at
what is marked already; then what its jumps lead to in the page comes next, the last one first.

The function is a few machine instructions, as ``native`` explains. It works on cells, and so can be gone on with::

    cell  name     meaning
    0     AT       offset in the page of the next instruction; -1: none, the next piece is to be begun
    1     START    where the piece began
    2     COUNT    its instructions so far
    3     ENDING   nonzero: it is over
    4     JUMPS    how many jumps it has
    5     DEPTH    how many places are to be discovered
    6     STOP     an offset that is not to be discovered, or -1
    7     PIECES   how many pieces are done
    8 on           offsets that the jumps of the piece lead to, in the page or elsewhere;
                   places that are to be discovered; three for each piece: start, end, instructions
"""

from __future__ import annotations

import ctypes
from typing import Any

from vilab.machine import llvm

AT, START_AT, COUNT, ENDING, JUMPS, DEPTH, STOP, PIECES = range(8)
PAGE = 4096
JUMPS_AT = 8
STACK_AT = JUMPS_AT + PAGE
PIECES_AT = STACK_AT + PAGE
CELLS = PIECES_AT + 3 * PAGE
START, INSIDE = 1, 2
MAX_BYTES, NO_BASE = 15, 16
LAST = PAGE - MAX_BYTES - 1
"""What begins behind this may go on in the next page, and is left to the caller."""
PLAIN_SEGMENTS = frozenset((0x26, 0x36, 0x3E, 0x64, 0x65))
"""Overrides that change neither length nor kind of what follows them."""

_IR = """
define i64 @scan(i8* %code, i8* %marks, i8* %mirror, i8* %one, i8* %two, i64* %cells) {{
entry:
  %start_p = getelementptr i64, i64* %cells, i64 {START_AT}
  %count_p = getelementptr i64, i64* %cells, i64 {COUNT}
  %ending_p = getelementptr i64, i64* %cells, i64 {ENDING}
  %jumps_p = getelementptr i64, i64* %cells, i64 {JUMPS}
  %depth_p = getelementptr i64, i64* %cells, i64 {DEPTH}
  %stop_p = getelementptr i64, i64* %cells, i64 {STOP}
  %pieces_p = getelementptr i64, i64* %cells, i64 {PIECES}
  %jump_cells = getelementptr i64, i64* %cells, i64 {JUMPS_AT}
  %stack = getelementptr i64, i64* %cells, i64 {STACK_AT}
  %piece_cells = getelementptr i64, i64* %cells, i64 {PIECES_AT}
  %stop = load i64, i64* %stop_p
  %at_given = load i64, i64* %cells
  %ending = load i64, i64* %ending_p
  store i64 0, i64* %ending_p
  %is_ending = icmp ne i64 %ending, 0
  br i1 %is_ending, label %finish, label %begin
begin:
  %none = icmp slt i64 %at_given, 0
  br i1 %none, label %pop, label %next

next:
  %at = phi i64 [ %at_given, %begin ], [ %top, %begun ], [ %end, %marked ]
  %page_over = icmp sge i64 %at, {PAGE}
  br i1 %page_over, label %finish, label %look_at_mark
look_at_mark:
  %own_mark_p = getelementptr i8, i8* %marks, i64 %at
  %own_mark = load i8, i8* %own_mark_p
  %is_marked = icmp ne i8 %own_mark, 0
  br i1 %is_marked, label %finish, label %in_range
in_range:
  %too_far = icmp sgt i64 %at, {LAST}
  br i1 %too_far, label %ask, label %look
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
  br i1 %known, label %check, label %unknown
unknown:
  %bare = icmp eq i64 %here, %at
  br i1 %bare, label %control, label %ask
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
  br i1 %is_short, label %short, label %ask
maybe_long:
  %long_high = and i8 %b1, 240
  %is_long = icmp eq i8 %long_high, 128
  br i1 %is_long, label %long, label %ask
return:
  br label %check
short_jump:
  br label %short
short:
  %short_ends = phi i64 [ 0, %maybe_short ], [ 1, %short_jump ]
  %short_end = add i64 %at, 2
  %rel_8 = sext i8 %b1 to i64
  %short_to = add i64 %short_end, %rel_8
  br label %check
near_jump:
  br label %near
near:
  %near_ends = phi i64 [ 0, %control ], [ 1, %near_jump ]
  %near_end = add i64 %at, 5
  %near_p = bitcast i8* %b1_p to i32*
  %near_rel = load i32, i32* %near_p, align 1
  %near_rel_i = sext i32 %near_rel to i64
  %near_to = add i64 %near_end, %near_rel_i
  br label %check
long:
  %long_end = add i64 %at, 6
  %long_p = bitcast i8* %b2_p to i32*
  %long_rel = load i32, i32* %long_p, align 1
  %long_rel_i = sext i32 %long_rel to i64
  %long_to = add i64 %long_end, %long_rel_i
  br label %check
check:
  %end = phi i64 [ %plain_end, %opcode ], [ %behind, %return ], [ %short_end, %short ], [ %near_end, %near ],
                 [ %long_end, %long ]
  %ends = phi i64 [ 0, %opcode ], [ 1, %return ], [ %short_ends, %short ], [ %near_ends, %near ], [ 0, %long ]
  %to = phi i64 [ 0, %opcode ], [ 0, %return ], [ %short_to, %short ], [ %near_to, %near ], [ %long_to, %long ]
  %jumps_here = phi i64 [ 0, %opcode ], [ 0, %return ], [ 1, %short ], [ 1, %near ], [ 1, %long ]
  %bytes = sub i64 %end, %at
  %legal = icmp sle i64 %bytes, {MAX_BYTES}
  br i1 %legal, label %free, label %ask
free:
  %free_at = phi i64 [ %behind, %check ], [ %free_more, %free_next ]
  %free_over = icmp sge i64 %free_at, %end
  br i1 %free_over, label %mark, label %free_look
free_look:
  %free_p = getelementptr i8, i8* %marks, i64 %free_at
  %free_mark = load i8, i8* %free_p
  %is_free = icmp eq i8 %free_mark, 0
  br i1 %is_free, label %free_next, label %ask
free_next:
  %free_more = add i64 %free_at, 1
  br label %free
mark:
  %count = load i64, i64* %count_p
  %count_more = add i64 %count, 1
  store i64 %count_more, i64* %count_p
  %jumps = load i64, i64* %jumps_p
  %jump_p = getelementptr i64, i64* %jump_cells, i64 %jumps
  store i64 %to, i64* %jump_p
  %jumps_more = add i64 %jumps, %jumps_here
  store i64 %jumps_more, i64* %jumps_p
  br label %put
put:
  %put_at = phi i64 [ %at, %mark ], [ %put_more, %put_next ]
  %put_over = icmp sge i64 %put_at, %end
  br i1 %put_over, label %marked, label %put_next
put_next:
  %is_first = icmp eq i64 %put_at, %at
  %mark_v = select i1 %is_first, i8 {START}, i8 {INSIDE}
  %mark_p = getelementptr i8, i8* %marks, i64 %put_at
  store i8 %mark_v, i8* %mark_p
  %from_p = getelementptr i8, i8* %code, i64 %put_at
  %from = load i8, i8* %from_p
  %to_p = getelementptr i8, i8* %mirror, i64 %put_at
  store i8 %from, i8* %to_p
  %put_more = add i64 %put_at, 1
  br label %put
marked:
  %is_over = icmp ne i64 %ends, 0
  br i1 %is_over, label %finish, label %next

finish:
  %finished = phi i64 [ %at_given, %entry ], [ %at, %next ], [ %at, %look_at_mark ], [ %end, %marked ]
  %pieces = load i64, i64* %pieces_p
  %pieces_more = add i64 %pieces, 1
  store i64 %pieces_more, i64* %pieces_p
  %piece_offset = mul i64 %pieces, 3
  %piece_p = getelementptr i64, i64* %piece_cells, i64 %piece_offset
  %piece_start = load i64, i64* %start_p
  store i64 %piece_start, i64* %piece_p
  %piece_end_p = getelementptr i64, i64* %piece_p, i64 1
  store i64 %finished, i64* %piece_end_p
  %piece_count_p = getelementptr i64, i64* %piece_p, i64 2
  %piece_count = load i64, i64* %count_p
  store i64 %piece_count, i64* %piece_count_p
  %pending = load i64, i64* %jumps_p
  br label %push
push:
  %pushed = phi i64 [ 0, %finish ], [ %pushed_more, %push_next ]
  %push_over = icmp sge i64 %pushed, %pending
  br i1 %push_over, label %pop, label %push_look
push_look:
  %target_p = getelementptr i64, i64* %jump_cells, i64 %pushed
  %target = load i64, i64* %target_p
  %in_page = icmp ult i64 %target, {PAGE}
  %is_stop = icmp eq i64 %target, %stop
  %not_stop = xor i1 %is_stop, true
  %wanted = and i1 %in_page, %not_stop
  br i1 %wanted, label %push_mark, label %push_next
push_mark:
  %target_mark_p = getelementptr i8, i8* %marks, i64 %target
  %target_mark = load i8, i8* %target_mark_p
  %is_new = icmp eq i8 %target_mark, 0
  br i1 %is_new, label %push_one, label %push_next
push_one:
  %depth = load i64, i64* %depth_p
  %slot_p = getelementptr i64, i64* %stack, i64 %depth
  store i64 %target, i64* %slot_p
  %depth_more = add i64 %depth, 1
  store i64 %depth_more, i64* %depth_p
  br label %push_next
push_next:
  %pushed_more = add i64 %pushed, 1
  br label %push

pop:
  %depth_now = load i64, i64* %depth_p
  %is_empty = icmp eq i64 %depth_now, 0
  br i1 %is_empty, label %done, label %take
take:
  %depth_less = sub i64 %depth_now, 1
  store i64 %depth_less, i64* %depth_p
  %top_p = getelementptr i64, i64* %stack, i64 %depth_less
  %top = load i64, i64* %top_p
  %top_mark_p = getelementptr i8, i8* %marks, i64 %top
  %top_mark = load i8, i8* %top_mark_p
  %top_known = icmp ne i8 %top_mark, 0
  br i1 %top_known, label %pop, label %begun
begun:
  store i64 %top, i64* %start_p
  store i64 0, i64* %count_p
  store i64 0, i64* %jumps_p
  br label %next

ask:
  store i64 %at, i64* %cells
  ret i64 1
done:
  store i64 -1, i64* %cells
  ret i64 0
}}
"""

_engine: Any = None


class Scanner:
    """Pages one after the other: ``open`` one, then ``scan`` until it says False; True: ask the decoder at ``AT``.

    Parameters
    ----------
    one, two : the tables of lengths.
    native : False does it in Python.
    """

    def __init__(self, one: bytes, two: bytes, native: bool = True) -> None:
        global _engine
        self._one, self._two = one, two
        self.cells = memoryview(bytearray(8 * CELLS)).cast("q")
        self._code = b""
        self._marks = bytearray()
        self._mirror = memoryview(self._marks)
        if native and _engine is None:
            words = ("START_AT", "COUNT", "ENDING", "JUMPS", "DEPTH", "STOP", "PIECES", "JUMPS_AT", "STACK_AT",
                     "PIECES_AT", "PAGE", "LAST", "NO_BASE", "MAX_BYTES", "START", "INSIDE")  # fmt: skip
            _engine = llvm.compile_module(_IR, **{name: globals()[name] for name in words})
        self._function: Any = None
        if native and _engine is not None:
            void = ctypes.c_void_p
            kind = ctypes.PYFUNCTYPE(
                ctypes.c_int64, ctypes.c_char_p, void, void, ctypes.c_char_p, ctypes.c_char_p, void
            )
            self._function = kind(_engine.get_function_address("scan"))
            self._cells_at = ctypes.addressof(ctypes.c_char.from_buffer(self.cells))

    def open(self, code: bytes, marks: bytearray, mirror: memoryview, at: int, stop: int) -> None:
        """Begin with a page.

        Parameters
        ----------
        code : the guest's bytes; marks, mirror : one for each, to be written to.
        at : the first place to be discovered; stop : one not to be discovered, or -1.
        """
        self._code, self._marks, self._mirror = code, marks, mirror
        cells = self.cells
        cells[AT], cells[ENDING], cells[DEPTH], cells[STOP], cells[PIECES] = -1, 0, 1, stop, 0
        cells[STACK_AT] = at
        if self._function is not None:
            self._marks_at = ctypes.addressof(ctypes.c_char.from_buffer(marks))
            self._mirror_at = ctypes.addressof(ctypes.c_char.from_buffer(mirror))

    def pieces(self) -> list[int]:
        """Start, end and number of instructions of each piece that is done, one after the other."""
        found: list[int] = self.cells[PIECES_AT : PIECES_AT + 3 * self.cells[PIECES]].tolist()
        return found

    def add_jump(self, to: int) -> None:
        """The decoder has found a jump."""
        cells = self.cells
        cells[JUMPS_AT + cells[JUMPS]] = to
        cells[JUMPS] += 1

    def scan(self) -> bool:
        if self._function is None:
            return self._scan_in_python()
        asks: int = self._function(
            self._code, self._marks_at, self._mirror_at, self._one, self._two, self._cells_at
        )  # fmt: skip
        return bool(asks)

    def _scan_in_python(self) -> bool:
        """The same function."""
        cells, marks = self.cells, self._marks
        at, ending = cells[AT], cells[ENDING]
        cells[ENDING] = 0
        while True:
            if not ending and at >= 0:
                while at < PAGE and not marks[at]:
                    end, to, ending = self._look(at)
                    if end < 0:
                        cells[AT] = at
                        return True
                    marks[at] = START
                    marks[at + 1 : end] = bytes((INSIDE,)) * (end - at - 1)
                    self._mirror[at:end] = self._code[at:end]
                    cells[COUNT] += 1
                    if to is not None:
                        self.add_jump(to)
                    at = end
                    if ending:
                        break
            if at >= 0:
                self._finish(at)
            at, ending = -1, 0
            while at < 0:
                if not cells[DEPTH]:
                    cells[AT] = -1
                    return False
                cells[DEPTH] -= 1
                at = cells[STACK_AT + cells[DEPTH]]
                if marks[at]:
                    at = -1
            cells[START_AT], cells[COUNT], cells[JUMPS] = at, 0, 0

    def _finish(self, end: int) -> None:
        cells = self.cells
        first = PIECES_AT + 3 * cells[PIECES]
        cells[first], cells[first + 1], cells[first + 2] = cells[START_AT], end, cells[COUNT]
        cells[PIECES] += 1
        for to in cells[JUMPS_AT : JUMPS_AT + cells[JUMPS]]:
            if 0 <= to < PAGE and to != cells[STOP] and not self._marks[to]:
                cells[STACK_AT + cells[DEPTH]] = to
                cells[DEPTH] += 1

    def _look(self, at: int) -> tuple[int, int | None, int]:
        """Where the instruction ends (-1: ask the decoder), where it jumps to, and whether the piece ends."""
        asks = -1, None, 0
        if at > LAST:
            return asks
        code, here = self._code, at
        first = code[at]
        if first in PLAIN_SEGMENTS:
            here += 1
            first = code[here]
        escaped = first == 0x0F
        table, rest = (self._two, here + 1) if escaped else (self._one, here)
        size = table[code[rest] << 8 | code[rest + 1]]
        if size > NO_BASE:
            size -= NO_BASE - 4 if code[rest + 2] & 7 == 5 else NO_BASE
        end, jump_bytes, ending = here + size, 0, 0
        if not size:
            if here != at:
                return asks
            if first == 0xC3:
                end, ending = at + 1, 1
            elif first >> 4 == 7 or first >> 2 == 0x38 or first == 0xEB:
                end, jump_bytes, ending = at + 2, 1, int(first == 0xEB)
            elif first in (0xE8, 0xE9):
                end, jump_bytes, ending = at + 5, 4, int(first == 0xE9)
            elif escaped and code[at + 1] >> 4 == 8:
                end, jump_bytes = at + 6, 4
            else:
                return asks
        if end - at > MAX_BYTES or any(self._marks[at + 1 : end]):
            return asks
        if not jump_bytes:
            return end, None, ending
        return end, end + int.from_bytes(code[end - jump_bytes : end], "little", signed=True), ending
