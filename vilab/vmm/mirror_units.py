"""Pieces of mirrored code as records, and the pages that they were read from."""

from __future__ import annotations

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.vmm.code_pages import CodePages
from vilab.vmm.mirror_discovery import Piece
from vilab.vmm.unit import Unit

LINEAR = 0xFFFFFFFF


class MirroredUnit(Unit):
    """The part of a ``Unit`` that mirrors need: jumps run as they stand, so it has no continuations.

    ``start`` to ``end`` are addresses in the mirror.
    """

    __slots__ = ()

    def __init__(self, eip: int, start: int, source: bytes, mirrored_bytes: int) -> None:
        self.eip = eip
        self.end_eip = eip + len(source) & LINEAR
        self.source = source
        self.start = start
        self.end = start + mirrored_bytes
        self.lines = []
        self.pages = []
        self.valid = True


class MirroredPages(CodePages):
    """Code is discovered by the page, so its mapping is looked up once."""

    def watch(self, linear: int) -> int:
        """Watch the page's mapping from now on; its ppn. What was read through another one goes."""
        return self._watch(linear >> PAGE_SHIFT)

    def add_piece(self, unit: Unit, piece: Piece, ppn: int) -> None:
        """Watch what a unit was read from; ``ppn`` is the first page's."""
        offset, source = piece.linear & PAGE_BYTES - 1, piece.source
        size = len(source)
        if offset + size > PAGE_BYTES or ppn not in self.by_ppn:
            self.add(unit, piece.linear - unit.eip)
            return
        unit.pages.append((piece.linear >> PAGE_SHIFT, ppn))
        self.by_ppn[ppn].append((unit, offset, source))
        self._code[ppn][offset : offset + size] = b"\1" * size
