"""Discovering a page's code: from one instruction on, as far as it certainly goes on, and where its jumps lead.

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
right for everything that is not sensitive. Plain code is passed over by ``native_scan``; the rest is decided here.

A jump or a return into the middle of an instruction (hostile code, and some that skips a prefix) is noticed when the
processor makes a block of what it finds there (``native_blocks``), or by the monitor where that sets EIP. Then what was
discovered before gives way to the new reading of the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import GuestFault
from vilab.machine import native_scan
from vilab.machine.native_scan import AT, COUNT, ENDING, PIECES, START_AT, Scanner
from vilab.vmm.mirror import CALLOUT, INSIDE, INT3, LINEAR, MARKED, START
from vilab.vmm.mirror_treatment import ENDS, IN_PLACE, look, treatment
from vilab.vmm.unit import CALLOUT as CALLED_OUT
from vilab.vmm.unit import CONTROL, IDENT, Line
from vilab.x86.decode import MAX_BYTES, Instruction, Kind, Truncated, decode
from vilab.x86.scan import length_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from vilab.vmm.mirror import Mirror

MARKS = tuple(bytes((START, *(INSIDE,) * (size - 1))) if size else b"" for size in range(MAX_BYTES + 1))
CALLOUT_MARKS = tuple(bytes((CALLOUT, *(INSIDE,) * (size - 1))) if size else b"" for size in range(MAX_BYTES + 1))
LAST_PAGE = LINEAR >> PAGE_SHIFT


class Piece(NamedTuple):
    """``source``: the guest's bytes at ``linear``; fewer are mirrored if the last instruction overlaps another."""

    linear: int
    source: bytes
    mirrored_bytes: int
    instructions: int


class Discovery:
    """For one virtual machine.

    ``callouts`` of the last page: (linear address, instruction, EMULATED or IN_PLACE).

    Parameters
    ----------
    read : (linear address, size) -> the guest's bytes within a page; raises ``GuestFault``.
    native : False does everything in Python.
    """

    def __init__(self, mirror: Mirror, read: Callable[[int, int], bytes], native: bool = True) -> None:
        self._mirror, self._read = mirror, read
        self._scanner = Scanner(*length_tables(), native=native)
        self.callouts: list[tuple[int, Instruction, int]] = []
        self._cut: dict[int, int] = {}  # where a piece begins -> where its mirrored bytes end, if not with it
        self._code = self._following = b""

    def page(self, linear: int, cs_base: int, stop: int | None) -> list[Piece]:
        """What is at a place whose mark is UNKNOWN, and what can be reached from there in its page.

        It is in the mirror afterwards. ``stop``: a linear address that is not to be discovered, unless it is this.

        Raises
        ------
        GuestFault : the first instruction cannot be fetched (#PF).
        """
        base = linear & ~(PAGE_BYTES - 1)
        code = self._code = self._read(base, PAGE_BYTES)
        page = self._mirror.new_page(base >> PAGE_SHIFT)
        self.callouts = []
        self._cut.clear()
        scanner = self._scanner
        stop_at = stop - base if stop is not None and 0 <= stop - base < PAGE_BYTES else -1
        scanner.open(code, page.marks, self._mirror.frame(page), linear - base, stop_at)
        while scanner.scan():
            self._decide(base, cs_base, page.marks)
        found, cut, starts = [], self._cut, iter(scanner.pieces())
        for start, end, count in zip(starts, starts, starts, strict=True):
            source = code[start:end] if end <= PAGE_BYTES else code[start:] + self._following[: end - PAGE_BYTES]
            found.append(Piece(base + start, source, cut.get(start, end) - start, count))
        return found

    def _decide(self, base: int, cs_base: int, marks: bytearray) -> None:
        """One instruction that is not plain, at ``AT``."""
        cells = self._scanner.cells
        at = cells[AT]
        linear = base + at
        eip = linear - cs_base & LINEAR
        code = self._code[at : at + MAX_BYTES]
        try:
            kind, size, target, instruction = look(code, eip)
        except Truncated:
            try:
                self._following = self._read(base + PAGE_BYTES & LINEAR, MAX_BYTES)
            except GuestFault:
                if at != cells[START_AT]:
                    cells[ENDING] = 1
                elif cells[PIECES]:
                    cells[AT] = -1
                else:
                    raise
                return
            code += self._following
            kind, size, target, instruction = look(code[:MAX_BYTES], eip)
        end = at + size
        overlaps = MARKED.search(marks, at + 1, min(end, PAGE_BYTES)) is not None or (
            end > PAGE_BYTES and self._is_marked(base + PAGE_BYTES >> PAGE_SHIFT, end - PAGE_BYTES)
        )
        how = IN_PLACE if overlaps else -1
        if overlaps and instruction is None:
            instruction = decode(code[:MAX_BYTES], eip)
        if instruction is not None:
            how = treatment(instruction, how)
        mirrored = 1 if overlaps else size
        if how >= 0:
            assert instruction is not None
            self.callouts.append((linear, instruction, how))
            self._put(linear, bytes((INT3,)) + code[1:mirrored], CALLOUT_MARKS[mirrored])
        else:
            self._put(linear, code[:size], MARKS[size])
            if target is not None:
                self._scanner.add_jump(at + target)
        if overlaps:
            self._cut[cells[START_AT]] = at + 1
        cells[COUNT] += 1
        cells[AT], cells[ENDING] = end, overlaps or kind in ENDS

    def _is_marked(self, vpn: int, size_bytes: int) -> bool:
        """Is anything discovered at a page's beginning? What goes on at address 0 is always run in place."""
        page = self._mirror.pages.get(vpn)
        return vpn > LAST_PAGE or (page is not None and MARKED.search(page.marks, 0, size_bytes) is not None)

    def _put(self, linear: int, code: bytes, marks: bytes) -> None:
        if (linear & PAGE_BYTES - 1) + len(code) > PAGE_BYTES:
            self._mirror.new_page((linear >> PAGE_SHIFT) + 1)
        self._mirror.write(linear, code, marks)

    def lines(self, piece: Piece, cs_base: int) -> list[Line]:
        """A piece's instructions, for those who listen."""
        found: list[Line] = []
        at, place, eip = 0, self._mirror.place(piece.linear), piece.linear - cs_base
        while at < len(piece.source):
            instruction = decode(piece.source[at : at + MAX_BYTES], eip + at & LINEAR)
            plain = instruction.kind in (Kind.IDENT, Kind.SENSITIVE)
            called = self._mirror.mark(piece.linear + at) == CALLOUT
            name = CALLED_OUT if called else IDENT if plain else CONTROL
            found.append((eip + at & LINEAR, instruction.size, name, place + at, instruction.size))
            at += instruction.size
        return found


assert (START, INSIDE) == (native_scan.START, native_scan.INSIDE)
