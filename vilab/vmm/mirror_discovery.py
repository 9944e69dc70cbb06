"""Discovering a piece of code: from one instruction on, as far as it certainly goes on.

::

    what the guest has         what stands in the mirror         mark        unless
    most                       the same bytes                    START       it reads memory through CS: IN_PLACE
    jumps, calls, returns      the same bytes                    START       it leads into another instruction: IN_PLACE
    PUSHF, IN, OUT, MOV r,DS   the same bytes                    START
    what is sensitive          cc, the rest of it as it is       CALLOUT     (EMULATED by the monitor)
    an instruction that        cc, in its first byte only        CALLOUT     (run IN_PLACE)
    overlaps another

A piece ends behind unconditional control flow, at what is discovered already, with its page, or before what cannot be
fetched. *In place* means: one step of the guest's own bytes where they stand, with the guest's own base of CS. It is
right for everything that is not sensitive.

MODEL: a return or an indirect jump into the middle of a discovered instruction runs the bytes there as they are; what
is critical among them is not emulated. Direct jumps, IRET, far transfers and deliveries go where they should: what was
discovered there before gives way to the new reading of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.addresses import PAGE_BYTES
from vilab.errors import GuestFault
from vilab.vmm.mirror import CALLOUT, INSIDE, INT3, LINEAR, MARKED, START
from vilab.vmm.translator import DATA_SELECTOR_READS, PASSED_THROUGH, VEX
from vilab.vmm.unit import CALLOUT as CALLED_OUT
from vilab.vmm.unit import CONTROL, IDENT, Line
from vilab.x86.decode import CS, Instruction, Kind, Truncated, decode
from vilab.x86.scan import scan

EMULATED, IN_PLACE = 0, 1
"""What becomes of a callout."""

PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
CS_PREFIX = 0x2E
VEX_STARTS = frozenset((0xC4, 0xC5, 0x62))
JUMPS = frozenset((0x0F, 0xE8, 0xE9, 0xEB, *range(0x70, 0x80), *range(0xE0, 0xE4)))
"""First opcode bytes of direct jumps and calls, and of others."""
ODD_STARTS = PREFIXES | VEX_STARTS
"""First bytes of IDENT instructions that have to be looked at more closely."""
NO_ACCESS = frozenset((0x8D, *range(0x0F18, 0x0F20)))
"""LEA and the long NOPs name memory and do not touch it."""
IMPLICIT_MEMORY = frozenset((0xA4, 0xA5, 0xA6, 0xA7, 0xAC, 0xAD, 0xD7, 0x6E, 0x6F))
ENDS = frozenset((Kind.JMP_REL, Kind.JMP_IND, Kind.RET, Kind.FAR, Kind.UNDEFINED))
LOOKED_AT = frozenset((Kind.SENSITIVE, Kind.FAR, Kind.UNDEFINED))
DIRECT = frozenset((Kind.JCC, Kind.JMP_REL, Kind.CALL_REL))
MARKS = tuple(bytes((START, *(INSIDE,) * (size - 1))) if size else b"" for size in range(16))
CALLOUT_MARKS = tuple(bytes((CALLOUT, *(INSIDE,) * (size - 1))) if size else b"" for size in range(16))
MOST_INSTRUCTIONS = PAGE_BYTES


class Piece:
    """What one discovery found.

    ``source`` are the guest's bytes, ``code`` and ``marks`` what goes into the mirror (shorter, if the last instruction
    overlaps another). ``callouts``: (offset, instruction, EMULATED or IN_PLACE). ``jumps``: (offset, target's linear
    address). ``lines`` only where somebody listens.
    """

    __slots__ = ("callouts", "code", "count", "ident", "jumps", "lines", "marks", "source")

    def __init__(self) -> None:
        self.source = b""
        self.code = bytearray()
        self.marks = b""
        self.callouts: list[tuple[int, Instruction, int]] = []
        self.jumps: list[tuple[int, int]] = []
        self.lines: list[Line] = []
        self.count = self.ident = 0


def discover(
    linear: int,
    eip: int,
    fetch: Callable[[int, int], bytes],
    marks: bytes | bytearray,
    next_marks: Callable[[], bytes | bytearray],
    place: int | None = None,
) -> Piece:
    """The piece at a place whose mark is UNKNOWN.

    Parameters
    ----------
    fetch : (linear address, size) -> the guest's bytes; raises ``GuestFault``.
    marks : of the page; next_marks : of the page behind it.
    place : address of the mirror, if the piece's lines are wanted.

    Raises
    ------
    GuestFault : the first instruction cannot be fetched (#PF).
    """
    offset = linear & PAGE_BYTES - 1
    room = PAGE_BYTES - offset
    found = MARKED.search(marks, offset)
    gap = found.start() - offset if found else room
    page_code = fetch(linear, min(gap + 15, room))
    code = memoryview(page_code)
    piece = Piece()
    at = 0
    pieces: list[bytes] = []
    while at < gap:
        try:
            run = scan(code[at:], eip + at & LINEAR, MOST_INSTRUCTIONS, past_sensitive=True)
        except Truncated:
            if len(code) > room:
                break
            try:
                page_code += fetch(linear + room & LINEAR, 15)
            except GuestFault:
                if not at:
                    raise
                break
            code = memoryview(page_code)
            continue
        base = at
        kind = Kind.IDENT
        for here, size, kind in run:
            at = base + here
            if at >= gap:
                break
            end = at + size
            overlaps = gap < end and (gap < room or MARKED.search(next_marks()[: end - room]) is not None)
            how, target = -1, None
            if kind in DIRECT and code[at] not in PREFIXES and not overlaps:
                target = end + int.from_bytes(code[end - (1 if size == 2 else 4) : end], "little", signed=True)
            elif kind in LOOKED_AT or overlaps or (code[at] in ODD_STARTS and _is_odd(code[at:end])):
                instruction = decode(code[at : at + 15], eip + at & LINEAR)
                how = _treatment(instruction, IN_PLACE if overlaps else -1)
                if how >= 0:
                    piece.callouts.append((at, instruction, how))
                elif instruction.target is not None:
                    target = instruction.target - eip
            piece.count += 1
            if how < 0:
                pieces.append(MARKS[size])
                piece.ident += 1
                if target is not None:
                    piece.jumps.append((at, linear + target & LINEAR))
            else:
                pieces.append(bytes((CALLOUT,)) if overlaps else CALLOUT_MARKS[size])
            if place is not None:
                name = CALLED_OUT if how >= 0 else CONTROL if kind in DIRECT or kind in ENDS else IDENT
                piece.lines.append((eip + at & LINEAR, size, name, place + at, size))
            at = end
            if overlaps:
                gap = 0
                break
        if kind in ENDS:
            break
    piece.source = page_code[:at]
    piece.marks = b"".join(pieces)
    piece.code = bytearray(page_code[: len(piece.marks)])
    for callout, _, _ in piece.callouts:
        piece.code[callout] = INT3
    return piece


def _is_odd(code: memoryview) -> bool:
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
