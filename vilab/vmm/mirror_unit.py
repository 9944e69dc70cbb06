"""A piece of mirrored code as a record: the part of a ``Unit`` that mirrors need."""

from __future__ import annotations

from vilab.vmm.unit import Unit

LINEAR = 0xFFFFFFFF


class MirroredUnit(Unit):
    """``start`` to ``end`` are addresses of the mirror. It has no continuations: jumps run as they stand."""

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
