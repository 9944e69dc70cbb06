"""Sparse extents that can be written: KDMV with its 64 KB grains, COWD with its grains of one sector.

::

    write 3 sectors      grain 7 is allocated: in place
                         grain 8 is not: the whole grain (its other sectors from the parent) at the end of the file,
                                         then its table entry, in memory
    flush                sync the data -> tables -> sync -> what the header counts

Whatever a crash leaves, a table entry names a grain with its data, or nothing: see ``sparse_tables``. Grains that
entries in the file may still name are not given to others before the entries have been written back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vilab.storage.block import SECTOR_BYTES, BlockError, write_zeros
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.extent import SLOT_SHIFT, Filler, OldContent, Places, Reader, runs
from vilab.storage.disks.sparse_tables import SparseShape, SparseTables
from vilab.storage.disks.vmdk_layout import COWD_FREE_AT, COWD_UNCLEAN_AT, KDMV_UNCLEAN_AT

FLUSH_AFTER_BYTES = 64 << 20
"""After so many bytes the tables are written back without being asked."""


class SparseExtent:
    """One sparse file. ``unclean``: the header says that a writer did not come to its end."""

    def __init__(self, file: DiskFile, shape: SparseShape, free_sector: int, unclean: bool) -> None:
        self.file, self.shape, self.sectors = file, shape, shape.sectors
        self.slot, self.grain_sectors = 0, shape.grain_sectors
        self.free_sector = max(free_sector, shape.first_data, -(-file.size_bytes // SECTOR_BYTES))
        self.tables = SparseTables(file, shape)
        self.unclean = unclean
        self._marked = False
        self._written_bytes = 0
        self.flush_after_bytes = FLUSH_AFTER_BYTES
        self.on_allocated: Callable[[int, int, int], None] | None = None
        """Told of new grains: (first sector, sectors, the first one's sector in the file)."""
        self._freed: list[int] = []
        self._free: list[int] = []
        self._zero_entry = 1 if shape.zero_grains else 0
        self._inside = np.arange(shape.grain_sectors)

    def reader(self) -> Reader | None:
        return self.file.pread

    def filler(self) -> Filler | None:
        return self.file.fill

    def locate(self, first: int, places: Places) -> None:
        grain, shape = self.shape.grain_sectors, self.shape
        begin, end = first // grain, -(-(first + len(places)) // grain)
        entries = self.tables.entries(begin, end - begin).astype(np.int64)
        if not entries.any():
            return
        if grain > 1:
            skip = first - begin * grain
            spread = (entries[:, None] + self._inside).reshape(-1)[skip : skip + len(places)]
            entries = np.repeat(entries, grain)[skip : skip + len(places)]
        else:
            spread = entries
        here = entries > self._zero_entry
        if (bad := here & (entries < shape.first_data)).any():
            raise BlockError(
                "medium",
                f"{self.file.path} is damaged: the table entry of sector {first + int(np.argmax(bad))} names sector "
                f"{int(entries[np.argmax(bad)])}, which belongs to the header or the tables; see vilab vmdk check.",
            )
        np.copyto(places, spread + (self.slot << SLOT_SHIFT), where=here)
        if self._zero_entry:
            np.copyto(places, np.arange(len(places)), where=entries == 1)

    def next_known(self, first: int) -> int:
        grain = self.shape.grain_sectors
        return min(self.sectors, max(first, self.tables.next_entry(first // grain) * grain))

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(self, first: int, data: memoryview, old: OldContent) -> bool:
        grain = self.shape.grain_sectors
        sectors = data.nbytes // SECTOR_BYTES
        begin, end = first // grain, -(-(first + sectors) // grain)
        entries = self.tables.entries(begin, end - begin)
        missing = entries <= self._zero_entry
        self._mark_unclean()
        if not missing.any():
            self._put(first, data, entries.astype(np.int64), begin)
            return False
        last = first + sectors
        if missing[0] and first % grain:
            head = begin * grain
            data = memoryview(self._old(entries[0], head, first - head, old) + bytes(data))
            first = head
        if missing[-1] and last % grain:
            rest = min(end * grain, self.sectors) - last
            # A grain reaches beyond the end of the disk where that is not a multiple of grains.
            tail = self._old(entries[-1], last, rest, old) + bytes((end * grain - last - rest) * SECTOR_BYTES)
            data = memoryview(bytes(data) + tail)
        places = entries.astype(np.int64)
        places[missing] = self._allocate(int(missing.sum()))
        self._put(first, data, places, begin)
        self.tables.change(begin, places.astype(np.uint32))
        if self.on_allocated is not None:
            self._tell(begin, places, missing)
        if self._written_bytes > self.flush_after_bytes:
            self.flush()
        return True

    def _tell(self, begin: int, places: Places, missing: npt.NDArray[np.bool_]) -> None:
        """Runs of new grains that lie one behind the other."""
        assert self.on_allocated is not None
        grain, new = self.shape.grain_sectors, np.flatnonzero(missing)
        cuts = np.flatnonzero((np.diff(new) != 1) | (np.diff(places[new]) != grain)) + 1
        for run in np.split(new, cuts):
            first = (begin + int(run[0])) * grain
            self.on_allocated(first, min(len(run) * grain, self.sectors - first), int(places[run[0]]))

    def _old(self, entry: int, first: int, sectors: int, old: OldContent) -> bytes:
        if entry == 1 and self._zero_entry:
            return bytes(sectors * SECTOR_BYTES)
        return old(first, sectors) if sectors else b""

    def _put(self, first: int, data: memoryview, places: Places, begin: int) -> None:
        """The data of sectors ``first`` on into grains that lie at ``places``."""
        grain = self.shape.grain_sectors
        skip = first - begin * grain
        end = skip + data.nbytes // SECTOR_BYTES
        for low, high in runs(places, grain):
            a, b = max(skip, low * grain), min(end, high * grain)
            at = int(places[low]) + a - low * grain
            self.file.write(at * SECTOR_BYTES, data[(a - skip) * SECTOR_BYTES : (b - skip) * SECTOR_BYTES])
        self._written_bytes += data.nbytes

    def _allocate(self, grains: int) -> Places:
        grain = self.shape.grain_sectors
        reused = [self._free.pop() for _ in range(min(grains, len(self._free)))]
        rest = grains - len(reused)
        end = self.free_sector + rest * grain
        if end > 0xFFFF_FFFF:
            raise BlockError("no_space", f"{self.file.path} cannot grow beyond 2 TB, where its tables cannot point to.")
        new = np.arange(self.free_sector, end, grain)
        self.free_sector = end
        return np.concatenate((np.array(reused, np.int64), new))

    def unmap(self, first: int, sectors: int, hides: bool, old: OldContent) -> bool:
        grain = self.shape.grain_sectors
        begin, end = -(-first // grain), (first + sectors) // grain
        if first + sectors == self.sectors:
            end = self.shape.grains
        if begin >= end or (hides and not self._zero_entry):

            def write(offset_bytes: int, data: bytes) -> None:
                self.write(offset_bytes // SECTOR_BYTES, memoryview(data), old)

            write_zeros(write, first * SECTOR_BYTES, sectors * SECTOR_BYTES)
            return True
        if head := begin * grain - first:
            self.write(first, memoryview(bytes(head * SECTOR_BYTES)), old)
        if (tail := first + sectors - end * grain) > 0:
            self.write(end * grain, memoryview(bytes(tail * SECTOR_BYTES)), old)
        self._mark_unclean()
        step = self.shape.table_entries
        for some in range(begin, end, step):
            entries = self.tables.entries(some, min(step, end - some))
            self._freed += entries[entries > self._zero_entry].tolist()
            entries[:] = self._zero_entry
            self.tables.change(some, entries)
        return True

    def _mark_unclean(self) -> None:
        if not self._marked:
            if self.unclean:
                self.tables.repair_redundant()
            self._mark(1)
            self._marked = self.unclean = True

    def _mark(self, value: int) -> None:
        if self.shape.kind == "KDMV":
            self.file.write(KDMV_UNCLEAN_AT, bytes([value]))
        else:
            self.file.write(COWD_UNCLEAN_AT, struct.pack("<I", value))

    def flush(self) -> None:
        if not self._written_bytes and not self.tables.changed:
            return
        if self._written_bytes:
            self.file.sync()
        if self.tables.changed:
            self.free_sector = self.tables.write_back(self.free_sector)
            if self.shape.kind == "COWD":
                self.file.write(COWD_FREE_AT, struct.pack("<I", self.free_sector))
            self.file.sync()
        self._free += self._freed
        self._freed = []
        self._written_bytes = 0

    def close(self) -> None:
        try:
            if self.file.writable:
                self.flush()
                if self._marked:
                    self._mark(0)
                    self.file.sync()
        finally:
            self.file.close()
