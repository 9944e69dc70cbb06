"""Reading a stream-optimized extent: compressed grains, found through tables that stand behind them.

A place is made of the sector in the extent, not in the file; reading it expands the grain, of which the last few are
kept. Such a disk is for transport and cannot be written.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict

import numpy as np

from vilab.storage.block import SECTOR_BYTES, BlockError
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.extent import SLOT_SHIFT, Filler, OldContent, Places, Reader
from vilab.storage.disks.sparse_tables import SparseShape, SparseTables
from vilab.storage.disks.vmdk_layout import GRAIN_MARKER

KEPT_GRAINS = 16


class StreamExtent:
    """One compressed file."""

    def __init__(self, file: DiskFile, shape: SparseShape) -> None:
        self.file, self.shape, self.sectors, self.slot = file, shape, shape.sectors, 0
        self.grain_sectors = shape.grain_sectors
        self.tables = SparseTables(file, shape)
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def reader(self) -> Reader | None:
        return self._read

    def filler(self) -> Filler | None:
        return self._fill

    def _fill(self, offset_bytes: int, view: memoryview) -> int:
        data = self._read(view.nbytes, offset_bytes)
        view[: len(data)] = data
        return len(data)

    def locate(self, first: int, places: Places) -> None:
        grain = self.shape.grain_sectors
        begin, end = first // grain, -(-(first + len(places)) // grain)
        skip = first - begin * grain
        entries = np.repeat(self.tables.entries(begin, end - begin), grain)[skip : skip + len(places)]
        zero = 1 if self.shape.zero_grains else 0
        at = (self.slot << SLOT_SHIFT) + first
        np.copyto(places, np.arange(at, at + len(places)), where=entries > zero)
        if zero:
            np.copyto(places, np.arange(len(places)), where=entries == 1)

    def next_known(self, first: int) -> int:
        grain = self.shape.grain_sectors
        return min(self.sectors, max(first, self.tables.next_entry(first // grain) * grain))

    def _read(self, size_bytes: int, offset_bytes: int) -> bytes:
        each = self.shape.grain_sectors * SECTOR_BYTES
        parts = []
        while size_bytes > 0:
            grain, skip = divmod(offset_bytes, each)
            part = self._grain(grain)[skip : skip + size_bytes]
            if not part:
                break
            parts.append(part)
            offset_bytes, size_bytes = offset_bytes + len(part), size_bytes - len(part)
        return b"".join(parts)

    def _grain(self, number: int) -> bytes:
        kept = self._kept.get(number)
        if kept is None:
            kept = self._expand(number)
            self._kept[number] = kept
            if len(self._kept) > KEPT_GRAINS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(number)
        return kept

    def _expand(self, number: int) -> bytes:
        each = self.shape.grain_sectors * SECTOR_BYTES
        at = int(self.tables.entries(number, 1)[0]) * SECTOR_BYTES
        start = self.file.read_some(at, GRAIN_MARKER.size + each)
        wrong = f"{self.file.path} is damaged: the compressed grain {number} at byte {at} "
        if len(start) < GRAIN_MARKER.size:
            raise BlockError("medium", wrong + "lies behind the end of the file.")
        sector, size = GRAIN_MARKER.unpack_from(start)
        if sector != number * self.shape.grain_sectors or not 0 < size <= 2 * each + 1024:
            raise BlockError("medium", wrong + f"says it is sector {sector} in {size} bytes.")
        data = start[GRAIN_MARKER.size : GRAIN_MARKER.size + size]
        if len(data) < size:
            data += self.file.read_some(at + len(start), size - len(data))
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(data, each + 1)
        except zlib.error as error:
            raise BlockError("medium", wrong + f"cannot be expanded ({error}).") from None
        needed = min(each, (self.sectors - sector) * SECTOR_BYTES)
        if len(content) > each or len(content) < needed or not inflater.eof:
            raise BlockError("medium", wrong + f"has not the {each} bytes of a grain.")
        return content

    def write(self, first: int, data: memoryview, old: OldContent) -> bool:
        raise NotImplementedError  # the disk is read-only

    def unmap(self, first: int, sectors: int, hides: bool, old: OldContent) -> bool:
        raise NotImplementedError

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.file.close()
