"""Discovering a piece of code: from one instruction on, as far as it certainly goes on.

::

    what the guest has         what stands in the mirror         mark        unless
    most                       the same bytes                    START       it reads memory through CS: IN_PLACE
    jumps, calls, returns      the same bytes                    START
    PUSHF, IN, OUT, MOV r,DS   the same bytes                    START
    what is sensitive          cc, the rest of it as it is       CALLOUT     (EMULATED by the monitor)
    an instruction that        cc, in its first byte only        CALLOUT     (run IN_PLACE)
    overlaps another

A piece ends behind unconditional control flow, at what is discovered already, with its page, or before what cannot be
fetched. *In place* means: one step of the guest's own bytes where they stand, with the guest's own base of CS. It is
right for everything that is not sensitive.

A jump or a return into the middle of an instruction (hostile code, and some that skips a prefix) is noticed when the
processor makes a block of what it finds there (``native_blocks``), or by the monitor where that sets EIP. Then what was
discovered before gives way to the new reading of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.addresses import PAGE_BYTES
from vilab.errors import GuestFault
from vilab.vmm.mirror import CALLOUT, INSIDE, INT3, LINEAR, MARKED, START
from vilab.vmm.mirror_scan import MARKS, PassOver
from vilab.vmm.translator import DATA_SELECTOR_READS, PASSED_THROUGH, VEX
from vilab.vmm.unit import CALLOUT as CALLED_OUT
from vilab.vmm.unit import CONTROL, IDENT, Line
from vilab.x86.decode import CS, MAX_BYTES, Instruction, Kind, Truncated, decode

HALF = 1 << 31
EMULATED, IN_PLACE = 0, 1
"""What becomes of a callout."""

PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
CS_PREFIX = 0x2E
VEX_STARTS = frozenset((0xC4, 0xC5, 0x62))
JUMPS = frozenset((0x0F, 0xE8, 0xE9, 0xEB, *range(0x70, 0x80), *range(0xE0, 0xE4)))
"""First opcode bytes of direct jumps and calls, and of others."""
NO_ACCESS = frozenset((0x8D, *range(0x0F18, 0x0F20)))
"""LEA and the long NOPs name memory and do not touch it."""
IMPLICIT_MEMORY = frozenset((0xA4, 0xA5, 0xA6, 0xA7, 0xAC, 0xAD, 0xD7, 0x6E, 0x6F))
ENDS = frozenset((Kind.JMP_REL, Kind.JMP_IND, Kind.RET, Kind.FAR, Kind.UNDEFINED))
SHORT = {
    **dict.fromkeys((*range(112, 128), *range(224, 228)), (2, Kind.JCC)),
    0xEB: (2, Kind.JMP_REL), 0xE9: (5, Kind.JMP_REL), 0xE8: (5, Kind.CALL_REL), 0xC3: (1, Kind.RET),
}  # fmt: skip
"""Control flow without prefixes: size and kind."""
CALLOUT_MARKS = tuple(bytes((CALLOUT, *(INSIDE,) * (size - 1))) if size else b"" for size in range(16))


class Piece:
    """What one discovery found.

    ``source`` are the guest's bytes, ``code`` and ``marks`` what goes into the mirror (shorter, if the last instruction
    overlaps another). ``callouts``: (offset, instruction, EMULATED or IN_PLACE). ``jumps``: where direct jumps and
    calls lead, relative to the piece's start. ``lines`` only where somebody listens.
    """

    __slots__ = ("callouts", "code", "ident", "jumps", "lines", "marks", "others", "source")

    def __init__(self) -> None:
        self.source = b""
        self.code = bytearray()
        self.marks = b""
        self.callouts: list[tuple[int, Instruction, int]] = []
        self.jumps: list[int] = []
        self.lines: list[Line] = []
        self.ident = self.others = 0

    @property
    def count(self) -> int:
        """Of instructions."""
        return self.ident + self.others


def discover(
    linear: int,
    eip: int,
    fetch: Callable[[int, int], bytes],
    marks: bytes | bytearray,
    next_marks: Callable[[], bytes | bytearray],
    pass_over: PassOver,
    place: int | None = None,
) -> Piece:
    """The piece at a place whose mark is UNKNOWN.

    Parameters
    ----------
    fetch : (linear address, size) -> the guest's bytes; raises ``GuestFault``.
    marks : of the page; next_marks : of the page behind it.
    pass_over : what passes over plain code.
    place : address of the mirror, if the piece's lines are wanted.

    Raises
    ------
    GuestFault : the first instruction cannot be fetched (#PF).
    """
    offset = linear & PAGE_BYTES - 1
    room = PAGE_BYTES - offset
    found = MARKED.search(marks, offset)
    gap = found.start() - offset if found else room
    code = fetch(linear, min(gap + MAX_BYTES, room))
    piece = Piece()
    new_marks, marked = pass_over.marks, 0
    at = 0
    while at < gap:
        start = at
        at = pass_over(code, at, gap, piece.jumps)
        piece.ident += pass_over.count
        if place is not None and at > start:
            piece.lines += _lines(code[start:at], new_marks[start:at], eip + start, place + start)
        marked = at
        if pass_over.ended or at >= gap:
            break
        try:
            kind, size, target, instruction = _look(code, at, eip)
        except Truncated:
            if len(code) > room:
                break
            try:
                code += fetch(linear + room & LINEAR, MAX_BYTES)
            except GuestFault:
                if not at:
                    raise
                break
            continue
        end = at + size
        overlaps = gap < end and (gap < room or MARKED.search(next_marks()[: end - room]) is not None)
        how = IN_PLACE if overlaps else -1
        if overlaps and instruction is None:
            instruction = decode(code[at : at + MAX_BYTES], eip + at & LINEAR)
        if instruction is not None:
            how = _treatment(instruction, how)
        if how >= 0:
            assert instruction is not None
            piece.callouts.append((at, instruction, how))
            piece.others += 1
        else:
            piece.ident += 1
            if target is not None:
                piece.jumps.append(target)
        if place is not None:
            name = CALLED_OUT if how >= 0 else IDENT if kind in (Kind.IDENT, Kind.SENSITIVE) else CONTROL
            piece.lines.append((eip + at & LINEAR, size, name, place + at, size))
        marked = at + (1 if overlaps else size)
        new_marks[at:marked] = (CALLOUT_MARKS if how >= 0 else MARKS)[marked - at]
        at = end
        if overlaps or kind in ENDS:
            break
    piece.source = code[:at]
    piece.marks = bytes(new_marks[:marked])
    piece.code = bytearray(code[:marked])
    for callout, _, _ in piece.callouts:
        piece.code[callout] = INT3
    return piece


def _look(code: bytes, at: int, eip: int) -> tuple[Kind, int, int | None, Instruction | None]:
    """Kind, size, a direct jump's target relative to the piece's start, and the instruction if it was decoded."""
    first = code[at]
    size, kind = SHORT.get(first, (0, Kind.IDENT))
    if first == 0x0F and at + 1 < len(code) and code[at + 1] >> 4 == 8:
        size, kind = 6, Kind.JCC
    end = at + size
    if size and end <= len(code):
        if kind is Kind.RET:
            return kind, size, None, None
        return kind, size, end + int.from_bytes(code[end - (1 if size == 2 else 4) : end], "little", signed=True), None
    i = decode(code[at : at + 15], eip + at & LINEAR)
    if i.kind is Kind.IDENT and not _is_odd(code[at : at + i.size]):
        return i.kind, i.size, None, None
    return i.kind, i.size, None if i.target is None else (i.target - eip + HALF & LINEAR) - HALF, i


def _lines(code: bytes, marks: bytearray, eip: int, place: int) -> list[Line]:
    """Of code that was passed over."""
    starts = [at for at, mark in enumerate(marks) if mark == START]
    found = []
    for at, end in zip(starts, [*starts[1:], len(marks)], strict=True):
        control = code[at] in SHORT or (code[at] == 0x0F and code[at + 1] >> 4 == 8)
        found.append((eip + at & LINEAR, end - at, CONTROL if control else IDENT, place + at, end - at))
    return found


def _is_odd(code: bytes) -> bool:
    """Does it begin with prefixes, and is that more than operand size, LOCK, REP or a segment that is not CS?"""
    for byte in code:
        if byte == CS_PREFIX or byte in VEX_STARTS or byte in JUMPS:
            return True
        if byte not in PREFIXES:
            return False
    return True


def _treatment(i: Instruction, how: int) -> int:
    """-1 as it is, EMULATED, or IN_PLACE. ``how``: what it would be if it were harmless."""
    kind = i.kind
    if kind is Kind.FAR or kind is Kind.UNDEFINED or i.opcode >= VEX:
        return EMULATED
    if kind is Kind.SENSITIVE and not _harmless(i):
        return EMULATED
    reads_memory = i.opcode not in NO_ACCESS and (i.memory is not None or i.opcode in IMPLICIT_MEMORY)
    return IN_PLACE if reads_memory and i.segment_override == CS else how


def _harmless(i: Instruction) -> bool:
    """Of the sensitive instructions those that find in the processor what the guest expects."""
    if i.op == "pushf" or i.op in PASSED_THROUGH:
        return True
    if i.op == "push seg":
        return i.opcode in DATA_SELECTOR_READS
    return i.op == "mov from seg" and i.reg in (0, 3, 4, 5)
