"""The grain directory and tables of one sparse extent, as arrays: read when needed, written back in a safe order.

::

    entries(grains)        table --> array --> the caller                 at most ``KEPT_TABLES`` clean ones are kept
    change(grains, new)    caller --> array, remembered as changed        the file does not know of it yet
    write_back()           1  new and changed tables, the redundant ones first      ── the caller has synced the data
                           2  sync, if a table is new
                           3  directory entries of new tables

So a table never names a grain whose data could still be lost, nor a directory a table. A changed entry is in one
sector: after a crash it is the old one or the new one.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.storage.block import SECTOR_BYTES, BlockError
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.extent import runs

Entries = npt.NDArray[np.uint32]

KEPT_TABLES = 64


class SparseShape(msgspec.Struct, frozen=True):
    """The numbers of a header that matter afterwards. ``kind``: ``KDMV`` or ``COWD``."""

    kind: str
    sectors: int
    grain_sectors: int
    table_entries: int
    gd_offset: int
    redundant_gd_offset: int
    """0: there is none."""
    first_data: int
    """No grain lies before this sector of the file."""
    zero_grains: bool
    """Entry 1 means zeros."""

    @property
    def grains(self) -> int:
        return -(-self.sectors // self.grain_sectors)

    @property
    def tables(self) -> int:
        return -(-self.grains // self.table_entries)

    @property
    def table_sectors(self) -> int:
        return -(-self.table_entries * 4 // SECTOR_BYTES)

    @property
    def directory_sectors(self) -> int:
        return -(-self.tables * 4 // SECTOR_BYTES)


class SparseTables:
    """The tables of ``file``."""

    def __init__(self, file: DiskFile, shape: SparseShape) -> None:
        self.file, self.shape = file, shape
        self.directory = self._directory(shape.gd_offset)
        self.redundant = self._directory(shape.redundant_gd_offset) if shape.redundant_gd_offset else None
        self._kept: dict[int, Entries] = {}
        self._changed: dict[int, tuple[int, int]] = {}

    def _directory(self, sector: int) -> Entries:
        data = self.file.read(sector * SECTOR_BYTES, self.shape.tables * 4)
        return np.frombuffer(data, "<u4").copy()

    @property
    def changed(self) -> bool:
        return bool(self._changed)

    def stored(self, table: int, redundant: bool = False) -> Entries | None:
        """A table as the file has it; ``None`` where the directory names none."""
        directory = self.redundant if redundant and self.redundant is not None else self.directory
        sector = int(directory[table])
        if not sector:
            return None
        data = self.file.read(sector * SECTOR_BYTES, self.shape.table_entries * 4)
        return np.frombuffer(data, "<u4").copy()

    def _table(self, number: int) -> Entries:
        kept = self._kept.get(number)
        if kept is None:
            kept = self.stored(number)
            if kept is None:
                kept = np.zeros(self.shape.table_entries, np.uint32)
            if len(self._kept) >= KEPT_TABLES:
                clean = next((each for each in self._kept if each not in self._changed), None)
                if clean is not None:
                    del self._kept[clean]
            self._kept[number] = kept
        return kept

    def entries(self, first: int, grains: int) -> Entries:
        """A copy of the entries of so many grains."""
        each = self.shape.table_entries
        number, at = divmod(first, each)
        if at + grains <= each:
            return self._table(number)[at : at + grains].copy()
        parts = []
        while grains:
            number, at = divmod(first, each)
            some = min(grains, each - at)
            parts.append(self._table(number)[at : at + some])
            first, grains = first + some, grains - some
        return np.concatenate(parts)

    def next_entry(self, grain: int) -> int:
        """The first grain, that one on, whose entry is not 0; ``shape.grains`` if there is none."""
        each = self.shape.table_entries
        number, at = divmod(grain, each)
        while number < self.shape.tables:
            if not self.directory[number] and number not in self._kept:
                number, at = self._next_table(number + 1), 0
                continue
            here = np.flatnonzero(self._table(number)[at:])
            if len(here):
                return min(self.shape.grains, number * each + at + int(here[0]))
            number, at = number + 1, 0
        return self.shape.grains

    def _next_table(self, number: int) -> int:
        """The first table, that one on, which the directory names or which is kept here."""
        kept = min((each for each in self._kept if each >= number), default=self.shape.tables)
        while number < kept:
            there = np.flatnonzero(self.directory[number : number + 4096])
            if len(there):
                return min(kept, number + int(there[0]))
            number += 4096
        return kept

    def change(self, first: int, new: Entries) -> None:
        each = self.shape.table_entries
        done = 0
        while done < len(new):
            number, at = divmod(first + done, each)
            some = min(len(new) - done, each - at)
            self._table(number)[at : at + some] = new[done : done + some]
            low, high = self._changed.get(number, (at, at + some))
            self._changed[number] = min(low, at), max(high, at + some)
            done += some

    def write_back(self, free_sector: int) -> int:
        """Changed tables to the file; new ones at ``free_sector`` on. The next free sector. The caller syncs after."""
        new: list[int] = []
        for number in sorted(self._changed):
            low, high = self._changed[number]
            table = self._kept[number]
            for directory in (self.redundant, self.directory):
                if directory is None:
                    continue
                if directory[number]:
                    self.file.write(int(directory[number]) * SECTOR_BYTES + low * 4, table[low:high].astype("<u4").data)
                    continue
                if free_sector + self.shape.table_sectors > 0xFFFF_FFFF:
                    raise BlockError("no_space", f"{self.file.path} cannot grow beyond 2 TB.")
                self.file.write(free_sector * SECTOR_BYTES, table.astype("<u4").tobytes())
                directory[number] = free_sector
                free_sector += self.shape.table_sectors
                new.append(number)
        if new:
            self.file.sync()
            order = np.unique(np.array(new, np.int64))
            for directory, sector in (
                (self.redundant, self.shape.redundant_gd_offset),
                (self.directory, self.shape.gd_offset),
            ):
                if directory is not None:
                    for low, high in runs(order):
                        a, b = int(order[low]), int(order[high - 1]) + 1
                        self.file.write(sector * SECTOR_BYTES + a * 4, directory[a:b].astype("<u4").tobytes())
        self._changed.clear()
        return free_sector

    def repair_redundant(self) -> None:
        """After a crash: the redundant tables are made what the others are."""
        if self.redundant is None:
            return
        for number in range(self.shape.tables):
            primary, redundant = self.stored(number), self.stored(number, redundant=True)
            if primary is not None and redundant is not None and not np.array_equal(primary, redundant):
                self.file.write(int(self.redundant[number]) * SECTOR_BYTES, primary.astype("<u4").tobytes())
