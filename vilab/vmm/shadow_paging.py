"""Shadow page tables: what the CPU really walks while the guest runs on tables of its own.

::

    guest's tables (gva -> gpa)   +   pmap (gpa -> mpa)   =   shadow tables (gva -> mpa)

    guest CR3 ──> Root ──┬──> ShadowTable   for each guest table, shared by all directories that lead to it
                         ├──> ShadowTable   for each 4 MB page, filled as a whole
                         └──> the monitor's tables, the same in every root

The shadow is a cache, as the TLB is: it starts empty, and a fault fills an entry (a *hidden* fault, if the guest's own
tables allow the access). Roots of other address spaces are kept. How the shadow keeps up with what the guest writes
into its tables is the business of a ``TracePolicy``. An entry allows what the guest's tables allow, less:

=============  ====================================================================
present        only once the guest's Accessed bit is set
writable       only once the guest's Dirty bit is set, and not on a traced page
=============  ====================================================================

MODEL: with CR0.WP = 0 a supervisor may write read-only pages; such an entry is made writable and supervisor's, and
the next access from ring 3 makes it read-only and user's again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.vmm.shadow_policy import policy_named
from vilab.vmm.shadow_roots import NOT_PAGED, ShadowRoots
from vilab.vmm.shadow_table import LARGE, TABLE, Key, Root, ShadowTable, key_of, seen
from vilab.vmm.walk import Mapping
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.machine.cpu import Cpu
    from vilab.machine.memory import MachineMemory
    from vilab.memory.pmap import Pmap
    from vilab.vmm.monitor import MonitorFrames

MOST_TABLES = 3072
"""More than this, and everything is dropped: 12 MB of shadow tables a virtual machine."""
LINKED = pg.PRESENT | pg.WRITABLE | pg.USER | pg.ACCESSED
"""A shadow directory entry allows everything: the entries below hold what both levels of the guest's tables allow."""
GLOBAL_MARK = 1 << 9
"""In a bit that the processor leaves to software: the guest's entry is global."""
SWEPT_ENTRIES = 256
"""So many different entries stored to without one use in between: the page is no table any more."""


class ShadowTables(ShadowRoots):
    """All shadow tables of one virtual machine, and the pages that are traced.

    Parameters
    ----------
    frames : where tables come from. policy : ``all``, ``lazy`` or ``prevalidate``.
    """

    def __init__(self, cpu: Cpu, memory: MachineMemory, frames: MonitorFrames, pmap: Pmap, policy: str = "all") -> None:
        super().__init__(cpu, memory, frames, pmap)
        self.in_ring_3 = bytearray(pmap.pages)
        """A byte a page: 1 once ring 3 could reach it, and so execute it."""
        self.policy = policy_named(policy, self)
        pmap.listeners.append(self)

    # Filling and dropping ----------------------------------------------------------------------------------------

    def _table(self, key: Key) -> ShadowTable:
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = ShadowTable(key, self._new_frame())
            self._tables_of.setdefault(self._name(key), {})[table] = None
            if key[0] == LARGE:
                self._fill_large(table)
        return table

    def fill(self, gva: int, mapping: Mapping, mpa: int, write: bool) -> None:
        """Enter one page (all 1024 of a 4 MB page). ``mpa``: the machine page behind ``mapping.gpa``."""
        index = gva >> 22
        root, key = self.root, key_of(gva, mapping)
        table = root.tables.get(index)
        if table is None or table.key != key:
            if table is not None:
                self.unlink(root, index)
            if len(self._tables) >= MOST_TABLES:
                self.flush()
                root = self.root
            table = self._table(key)
            table.links[root, index] = None
            root.tables[index] = table
            if root.name != NOT_PAGED:
                self.policy.linked(root, table)
            self._words[root.at + index] = table.at << 2 | LINKED
            self._cpu.flush_tlb()
        pde = seen(mapping.pde)
        if root.pdes.get(index) != pde:
            root.pdes[index] = pde
            root.page = None
        table.swept = 0
        ppn = mapping.gpa >> PAGE_SHIFT
        flags = pg.PRESENT | pg.ACCESSED
        if mapping.user:
            flags |= pg.USER
        if ppn not in self.traced and (write or self._pmap.writable(ppn)):
            if mapping.writable and mapping.dirty:
                flags |= pg.WRITABLE | (pg.DIRTY if write else self.dirty_at_once)
            elif write and not mapping.writable:
                flags = flags & ~pg.USER | pg.WRITABLE | pg.DIRTY
        if mapping.entry & pg.GLOBAL and self.global_pages:
            flags |= GLOBAL_MARK
        at = table.at + (gva >> 12 & 0x3FF)
        if self._words[at] & pg.PRESENT:
            self._keep(self._words[at])
            self._cpu.flush_tlb()
        self._words[at] = mpa & 0xFFFFF000 | flags
        if flags & pg.USER and self.paging and ppn < len(self.in_ring_3):
            self.in_ring_3[ppn] = 1
        if not mapping.large:
            self._enter_reverse(ppn, at)
            if table.snapshot is not None:
                table.snapshot[gva >> 12 & 0x3FF] = mapping.entry
                table.page = None

    def _fill_large(self, table: ShadowTable) -> None:
        """All pages of a 4 MB page that have memory: what allows one allows all."""
        _, base, rights = table.key
        first = base >> PAGE_SHIFT
        frames = self._pmap.frames(first, 1024)
        flags = pg.PRESENT | pg.ACCESSED | rights & pg.USER
        if rights & pg.WRITABLE and rights & pg.DIRTY:
            flags |= pg.WRITABLE | self.dirty_at_once
        if rights & pg.USER and self.paging:
            self.in_ring_3[first : first + len(frames)] = b"\1" * len(frames)
        entries = self._entries[table.at : table.at + len(frames)]
        entries[:] = np.where(frames >= 0, frames.astype(np.uint32) << PAGE_SHIFT | flags, 0)
        if not self._pmap.all_writable:
            entries[~self._pmap.writable_frames(first, 1024)] &= ~np.uint32(pg.WRITABLE)
        for ppn in range(first, first + len(frames)) if len(self.traced) > 1024 else self.traced:
            if first <= ppn < first + len(frames) and ppn in self.traced:
                entries[ppn - first] &= ~np.uint32(pg.WRITABLE)

    # What the guest has written ----------------------------------------------------------------------------------

    def tables_of(self, ppn: int) -> list[ShadowTable]:
        """The shadows of the guest's table in a page."""
        return list(self._tables_of.get(ppn, ()))

    def guest_page(self, ppn: int) -> bytes:
        """What the guest has in a page."""
        return self._pmap.read(ppn << PAGE_SHIFT, PAGE_BYTES)

    def follow(self, table: ShadowTable, index: int, flush: bool = True) -> bool:
        """Bring one entry into line with the guest's. True: it has changed. ``flush``: the TLB may know the old one."""
        _, base, rights = table.key
        entry = self._pmap.read_u32(base + 4 * index)
        if table.snapshot is not None:
            table.snapshot[index] = entry
            table.page = None
        at = table.at + index
        old = self._words[at]
        new = 0
        if entry & (pg.PRESENT | pg.ACCESSED) == pg.PRESENT | pg.ACCESSED:
            new = self._entry_for(entry, rights)
        if new == old:
            return False
        if not old and not new & pg.PRESENT:
            return False
        self._keep(old)
        self._words[at] = new
        if new:
            self._enter_reverse(entry >> PAGE_SHIFT, at)
        if old and flush:
            self._cpu.flush_tlb()
        return True

    def _entry_for(self, entry: int, rights: int) -> int:
        """The shadow of a guest PTE that has been accessed before; 0 where only a fault can tell."""
        ppn = entry >> PAGE_SHIFT
        mpn = self._pmap.mappable(ppn)
        if mpn is None:
            return 0
        both = entry & rights
        flags = pg.PRESENT | pg.ACCESSED | both & pg.USER
        if both & pg.USER:
            self.in_ring_3[ppn] = 1
        if both & pg.WRITABLE and entry & pg.DIRTY and ppn not in self.traced and self._pmap.writable(ppn):
            flags |= pg.WRITABLE | self.dirty_at_once
        if entry & pg.GLOBAL and self.global_pages:
            flags |= GLOBAL_MARK
        return mpn << PAGE_SHIFT | flags

    def follow_directory(self, root: Root, index: int) -> bool:
        """Unlink the 4 MB at ``index`` if the guest's PDE is not what it was. True: it has changed."""
        was = root.pdes.get(index)
        if was is None:
            return False
        if seen(self._pmap.read_u32((root.name << PAGE_SHIFT) + 4 * index)) == was:
            return False
        self.unlink(root, index)
        self._cpu.flush_tlb()
        return True

    def follow_directories(self, root: Root) -> int:
        """All of them; how many have changed."""
        page = self.guest_page(root.name)
        if page == root.page:
            return 0
        root.page = page
        return sum(self.follow_directory(root, index) for index in list(root.pdes))

    def has(self, gva: int) -> bool:
        """May the processor read there without a fault?"""
        table = self.root.tables.get(gva >> 22)
        return table is not None and bool(self._words[table.at + (gva >> 12 & 0x3FF)] & pg.PRESENT)

    def drop_entry(self, root: Root, gva: int) -> None:
        """Forget one page."""
        table = root.tables.get(gva >> 22)
        if table is not None and not table.is_large:
            self._keep(self._words[table.at + (gva >> 12 & 0x3FF)])
            self._words[table.at + (gva >> 12 & 0x3FF)] = 0

    def drop_local(self, table: ShadowTable) -> int:
        """Forget the entries that are not global; how many."""
        entries = self._entries[table.at : table.at + 1024]
        local = (entries & np.uint32(GLOBAL_MARK | pg.PRESENT)) == pg.PRESENT
        count = int(np.count_nonzero(local))
        if count:
            self._keep_table(table.at)
            entries[local] = 0
        return count

    def drop_all(self, table: ShadowTable) -> None:
        """Forget every entry."""
        self._keep_table(table.at)
        self._entries[table.at : table.at + 1024] = 0

    def follow_page(self, ppn: int) -> None:
        """Somewhere in the page a store was done: bring everything that stands for it into line."""
        if not self.traced.get(ppn, 0) & TABLE:
            return
        for table in self.tables_of(ppn):
            for index in np.nonzero(self._entries[table.at : table.at + 1024])[0]:
                self.follow(table, int(index))
        root = self._roots.get(ppn)
        if root is not None:
            self.follow_directories(root)

    def forget_table(self, ppn: int) -> None:
        """The page is no page table any more, or is treated so until it is used as one again."""
        for table in self.tables_of(ppn):
            for root, index in list(table.links):
                self.unlink(root, index)
        directory = self._roots.get(ppn)
        if directory is not None:
            for index in list(directory.tables):
                self.unlink(directory, index)
            if directory is not self.root:
                self._drop_root(directory)
        self.untrace(ppn, TABLE)
        self._cpu.flush_tlb()

    def written(self, ppn: int, offset: int, size_bytes: int) -> None:
        """The guest, a device or the host has stored to a page."""
        if not self.traced.get(ppn, 0) & TABLE:
            return
        first, last = offset >> 2, offset + size_bytes - 1 >> 2
        sweeping = (1 << last - first + 1) - 1 << first
        for table in self.tables_of(ppn):
            table.swept |= sweeping
            if table.swept.bit_count() >= SWEPT_ENTRIES:
                self.forget_table(ppn)
                return
            for index in range(first, last + 1):
                self.follow(table, index)
        root = self._roots.get(ppn)
        if root is not None:
            for index in range(first, last + 1):
                self.follow_directory(root, index)

    def open_once(self, gva: int) -> None:
        """Let the one store that is about to be stepped through to a traced page."""
        table = self.root.tables.get(gva >> 22)
        if table is not None:
            self._words[table.at + (gva >> 12 & 0x3FF)] |= pg.WRITABLE
            self._cpu.flush_tlb()

    # For checkpoints ---------------------------------------------------------------------------------------------

    def contents(self) -> tuple[Any, ...]:
        """What there is beside the tables themselves, which lie in machine memory."""
        return (
            self._free, self._roots, self._tables, self._tables_of, self._monitor_tables, self._entries_of,
            self.traced, (self.paging, self.large_pages, self.global_pages), self.root, self.policy.counts(),
        )  # fmt: skip

    def set_contents(self, contents: tuple[Any, ...]) -> None:
        (self._free, self._roots, self._tables, self._tables_of, self._monitor_tables, self._entries_of,
         self.traced, (self.paging, self.large_pages, self.global_pages), self.root, counts) = contents  # fmt: skip
        self.policy.set_counts(counts)
        self._cpu.set_cr3(self.root.mpn << PAGE_SHIFT)

    # What the pmap says ------------------------------------------------------------------------------------------

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        self.written(ppn, offset, size_bytes)
