"""Extents: the pieces a disk consists of, each in a file of its own, and where a sector of them lies.

A *place* says where a sector is, in one number, so that a run of sectors that lie one behind the other is a run of
numbers that grow by one::

     63            40 39                             0
    | slot           | sector in that file            |      slot 0: nowhere; reads as zeros, the sector is any

    extent 1:  ... 0x0000020000000080 0x0000020000000081 0x0000020000000082 | 0x0000030000000004 ...
                   └─────────── one read of three sectors ────────────────┘

A chain of disks gives every file a slot; each disk of it, from the base up, writes the places it knows over those of
the disks below (``locate``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vilab.storage.block import SECTOR_BYTES, write_zeros
from vilab.storage.disk_file import DiskFile

Places: TypeAlias = npt.NDArray[np.int64]

SLOT_SHIFT = 40
SECTOR_MASK = (1 << SLOT_SHIFT) - 1

OldContent: TypeAlias = Callable[[int, int], bytes]
"""(first sector, sectors) -> what the disk holds there now, parents included: for the rest of a grain."""

Reader: TypeAlias = Callable[[int, int], bytes]
"""(bytes, offset) -> the bytes: how a slot is read."""

Filler: TypeAlias = Callable[[int, memoryview], int]
"""(offset, where to) -> how many bytes were there: the same without making new bytes."""


class Extent(Protocol):
    """One piece. Sectors count from its own beginning."""

    slot: int
    sectors: int
    grain_sectors: int
    """What is allocated at once; 1 where nothing is."""

    def reader(self) -> Reader | None:
        """How the file behind the slot is read; ``None`` if there is none."""
        ...

    def filler(self) -> Filler | None: ...

    def locate(self, first: int, places: Places) -> None:
        """Overwrite the entries of those sectors, ``first`` on, that are here.

        Zeros become slot 0 with numbers that grow by one.
        """
        ...

    def next_known(self, first: int) -> int:
        """The first sector, that one on, which could be here; ``sectors`` if none: so far ``locate`` finds nothing."""
        ...

    def write(self, first: int, data: memoryview, old: OldContent) -> bool:
        """True if sectors have places now that they had not before."""
        ...

    def unmap(self, first: int, sectors: int, hides: bool, old: OldContent) -> bool:
        """The sectors read as zeros. ``hides``: a parent below must not shine through."""
        ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def runs(places: Places, step: int = 1) -> list[tuple[int, int]]:
    """Cut into [from, to) such that each entry is the one before plus ``step``."""
    if not len(places):
        return []
    cuts = (np.flatnonzero(np.diff(places) != step) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(places)], strict=True))


class FlatExtent:
    """Sector n of the extent is sector ``offset`` + n of the file."""

    grain_sectors = 1

    def __init__(self, file: DiskFile, sectors: int, offset: int = 0) -> None:
        self.file, self.sectors, self.offset = file, sectors, offset
        self.slot = 0
        self._written = False

    def reader(self) -> Reader | None:
        return self.file.pread

    def filler(self) -> Filler | None:
        return self.file.fill

    def locate(self, first: int, places: Places) -> None:
        begin = (self.slot << SLOT_SHIFT) + self.offset + first
        places[:] = np.arange(begin, begin + len(places))

    def next_known(self, first: int) -> int:
        return first

    def write(self, first: int, data: memoryview, old: OldContent) -> bool:
        self._written = True
        self.file.write((self.offset + first) * SECTOR_BYTES, data)
        return False

    def unmap(self, first: int, sectors: int, hides: bool, old: OldContent) -> bool:
        self._written = True
        write_zeros(self.file.write, (self.offset + first) * SECTOR_BYTES, sectors * SECTOR_BYTES)
        return False

    def flush(self) -> None:
        if self._written:
            self.file.sync()
            self._written = False

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self.file.close()


class ZeroExtent:
    """No file at all: zeros, and nothing can be written."""

    grain_sectors = 1

    def __init__(self, sectors: int) -> None:
        self.sectors, self.slot = sectors, 0

    def reader(self) -> Reader | None:
        return None

    def filler(self) -> Filler | None:
        return None

    def locate(self, first: int, places: Places) -> None:
        places[:] = np.arange(len(places))

    def next_known(self, first: int) -> int:
        return first

    def write(self, first: int, data: memoryview, old: OldContent) -> bool:
        raise NotImplementedError  # a disk with such an extent is read-only

    def unmap(self, first: int, sectors: int, hides: bool, old: OldContent) -> bool:
        return False

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
