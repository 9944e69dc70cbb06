"""An extent that is a whole LUN: what a raw device mapping stands for (see ``rdm``)."""

from __future__ import annotations

import numpy as np

from vilab.protocols import Lun
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.extent import SLOT_SHIFT, Filler, OldContent, Places, Reader


class LunExtent:
    """Sector n of the extent is sector n of the LUN. The LUN itself stays open: others may use it."""

    grain_sectors = 1

    def __init__(self, lun: Lun, sectors: int) -> None:
        self.lun, self.sectors, self.slot = lun, sectors, 0
        self._written = False

    def reader(self) -> Reader | None:
        return lambda size_bytes, offset_bytes: self.lun.read(offset_bytes, size_bytes)

    def filler(self) -> Filler | None:
        return self._fill

    def _fill(self, offset_bytes: int, view: memoryview) -> int:
        view[:] = self.lun.read(offset_bytes, view.nbytes)
        return view.nbytes

    def locate(self, first: int, places: Places) -> None:
        begin = (self.slot << SLOT_SHIFT) + first
        places[:] = np.arange(begin, begin + len(places))

    def next_known(self, first: int) -> int:
        return first

    def write(self, first: int, data: memoryview, old: OldContent) -> bool:
        self._written = True
        self.lun.write(first * SECTOR_BYTES, data)
        return False

    def unmap(self, first: int, sectors: int, hides: bool, old: OldContent) -> bool:
        self._written = True
        self.lun.unmap(first * SECTOR_BYTES, sectors * SECTOR_BYTES)
        return False

    def flush(self) -> None:
        if self._written:
            self.lun.flush()
            self._written = False

    def close(self) -> None:
        self.flush()
