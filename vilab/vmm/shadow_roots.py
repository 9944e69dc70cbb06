"""The frames of shadow tables: a root for each address space of the guest, with the monitor's tables in each of them.

::

    Root "CR3 00101"  ─┬─ index 0: ShadowTable ─┐ shared by all directories that lead to the guest's table
    Root "CR3 00205"  ─┼─ index 3: ────────────┘
    Root "not paged"  ─┴─ the monitor's index: its table, the same in every root

Roots are kept across loads of CR3, the least recently used is given up first. A table that no root leads to any more is
given up, too; its frame is used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_SHIFT
from vilab.vmm.shadow_entries import ShadowEntries
from vilab.vmm.shadow_table import SMALL, TABLE, Key, Root, ShadowTable
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.machine.cpu import Cpu
    from vilab.machine.memory import MachineMemory
    from vilab.memory.pmap import Pmap
    from vilab.vmm.monitor import MonitorFrames
    from vilab.vmm.shadow_policy import TracePolicy

MOST_ROOTS = 64
NOT_PAGED = -1


class ShadowRoots(ShadowEntries):
    """Address spaces and the tables they lead to. ``policy``: hears of loads, flushes and invalidations."""

    policy: TracePolicy

    def __init__(self, cpu: Cpu, memory: MachineMemory, frames: MonitorFrames, pmap: Pmap) -> None:
        super().__init__(cpu, memory, pmap)
        self._frames = frames
        self._free: list[int] = []  # first dwords of frames that were tables
        self._roots: dict[int, Root] = {}  # least recently used first
        self._tables: dict[Key, ShadowTable] = {}
        self._monitor_tables: dict[int, int] = {}
        self.paging = False
        self.large_pages = self.global_pages = False
        self.root = self._new_root(NOT_PAGED)

    @property
    def root_mpn(self) -> int:
        """Where the CPU's CR3 must point."""
        return self.root.mpn

    # The monitor's part ------------------------------------------------------------------------------------------

    def map_monitor(self, gva: int, mpn: int, writable: bool) -> None:
        """Map a page of the monitor's, supervisor's, in every address space."""
        index = gva >> 22
        table = self._monitor_tables.get(index)
        if table is None:
            table = self._monitor_tables[index] = self._new_frame()
            for root in list(self._roots.values()):
                if index in root.tables:
                    self.unlink(root, index)
                self._words[root.at + index] = table << 2 | pg.PRESENT | pg.WRITABLE | pg.ACCESSED
            self._cpu.flush_tlb()
        flags = pg.PRESENT | pg.ACCESSED | pg.DIRTY | (pg.WRITABLE if writable else 0)
        self._words[table + (gva >> 12 & 0x3FF)] = mpn << PAGE_SHIFT | flags

    def unmap_monitor(self, gva: int) -> None:
        """Give the page back; with its last one the 4 MB around it are the guest's again."""
        index = gva >> 22
        table = self._monitor_tables[index]
        self._words[table + (gva >> 12 & 0x3FF)] = 0
        if not self._entries[table : table + 1024].any():
            del self._monitor_tables[index]
            for root in self._roots.values():
                self._words[root.at + index] = 0
            self._free.append(table)
        self._cpu.flush_tlb()

    def is_monitor(self, gva: int) -> bool:
        return gva >> 22 in self._monitor_tables

    # Address spaces ----------------------------------------------------------------------------------------------

    def load(self, cr0: int, cr3: int, cr4: int) -> None:
        """The guest has loaded CR3, or changed how it is used: CR0.PG, CR0.WP, CR4.PSE."""
        paging = bool(cr0 >> 31)
        name = cr3 >> PAGE_SHIFT if paging else NOT_PAGED
        self.paging, self.large_pages, self.global_pages = paging, bool(cr4 & 1 << 4), bool(cr4 & 1 << 7)
        root = self._roots.pop(name, None)
        if root is None:
            if len(self._roots) >= MOST_ROOTS:
                self._drop_root(next(iter(self._roots.values())))
            root = self._new_root(name)
        else:
            self._roots[name] = root
        self.root = root
        if paging:
            self.policy.loaded(root)
        self._cpu.set_cr3(root.mpn << PAGE_SHIFT)

    def flush(self) -> None:
        """Drop everything that is the guest's; an empty root of the same address space takes over."""
        name = self.root.name
        for root in list(self._roots.values()):
            self._drop_root(root)
        self._entries_of.clear()
        self.root = self._new_root(name)
        self._cpu.set_cr3(self.root.mpn << PAGE_SHIFT)

    def flush_tlb(self) -> None:
        """The guest wants every entry of the current address space to be looked up again, global or not."""
        if self.paging:
            self.policy.flushed(self.root)
        self._cpu.flush_tlb()

    def invalidate(self, gva: int) -> None:
        """INVLPG."""
        if self.paging:
            self.policy.invalidated(self.root, gva)
        self._cpu.flush_tlb()

    def unlinked_slot(self, but: int) -> int:
        """A directory index that leads nowhere in any root, not ``but``; where there is none, all is dropped."""
        linked = {index for root in self._roots.values() for index in root.tables} | {but, *self._monitor_tables}
        if len(linked) == pg.ENTRIES:
            self.flush()
            linked = {but, *self._monitor_tables}
        return next(index for index in reversed(range(pg.ENTRIES)) if index not in linked)

    def _new_frame(self) -> int:
        if self._free:
            return self._free.pop()
        return self._frames.run(1) << 10

    def _new_root(self, name: int) -> Root:
        root = Root(name, self._new_frame())
        for index, table in self._monitor_tables.items():
            self._words[root.at + index] = table << 2 | pg.PRESENT | pg.WRITABLE | pg.ACCESSED
        self._roots[name] = root
        return root

    def _drop_root(self, root: Root) -> None:
        for index in list(root.tables):
            self.unlink(root, index)
        del self._roots[root.name]
        self._entries[root.at : root.at + 1024] = 0
        self._free.append(root.at)
        if root.name != NOT_PAGED and root.name not in self._tables_of:
            self.untrace(root.name, TABLE)

    def unlink(self, root: Root, index: int) -> None:
        """The 4 MB at ``index`` lead nowhere any more; a table that nobody leads to is given up."""
        table = root.tables.pop(index)
        del root.pdes[index]
        self._words[root.at + index] = 0
        table.links.pop((root, index), None)
        if not table.links:
            self._give_up(table)

    def _give_up(self, table: ShadowTable) -> None:
        del self._tables[table.key]
        name = self._name(table.key)
        of = self._tables_of[name]
        of.pop(table)
        self._keep_table(table.at)
        self._entries[table.at : table.at + 1024] = 0
        self._free.append(table.at)
        if not of:
            del self._tables_of[name]
            if not table.is_large and table.ppn not in self._roots:
                self.untrace(table.ppn, TABLE)

    @staticmethod
    def _name(key: Key) -> int:
        """Small tables by the ppn of the guest's, large ones by their 4 MB, apart from those."""
        return key[1] >> PAGE_SHIFT if key[0] == SMALL else -1 - (key[1] >> 22)
