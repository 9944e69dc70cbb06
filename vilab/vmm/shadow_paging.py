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
from vilab.vmm.shadow_policy import TracePolicy, policy_named
from vilab.vmm.shadow_table import CODE, LARGE, SMALL, TABLE, Key, Root, ShadowTable, key_of, seen
from vilab.vmm.walk import Mapping
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.machine.cpu import Cpu
    from vilab.machine.memory import MachineMemory
    from vilab.memory.pmap import Pmap
    from vilab.vmm.monitor import MonitorFrames

MOST_ROOTS, MOST_TABLES = 64, 3072
"""More than this, and everything is dropped: 12 MB of shadow tables a virtual machine."""
LINKED = pg.PRESENT | pg.WRITABLE | pg.USER | pg.ACCESSED
"""A shadow directory entry allows everything: the entries below hold what both levels of the guest's tables allow."""
GLOBAL_MARK = 1 << 9
"""In a bit that the processor leaves to software: the guest's entry is global."""
SWEPT_ENTRIES = 256
"""So many different entries stored to without one use in between: the page is no table any more."""
NOT_PAGED = -1


class ShadowTables:
    """All shadow tables of one virtual machine, and the pages that are traced.

    Parameters
    ----------
    frames : where tables come from. policy : ``all``, ``lazy`` or ``prevalidate``.
    """

    def __init__(self, cpu: Cpu, memory: MachineMemory, frames: MonitorFrames, pmap: Pmap, policy: str = "all") -> None:
        self._cpu, self._memory, self._frames, self._pmap = cpu, memory, frames, pmap
        self._words = memory.words
        self._entries = memory.bytes.view(np.uint32)
        self._free: list[int] = []  # first dwords of frames that were tables
        self._roots: dict[int, Root] = {}  # least recently used first
        self._tables: dict[Key, ShadowTable] = {}
        self._tables_of: dict[int, dict[ShadowTable, None]] = {}  # ppn of a guest table, or number of a 4 MB page
        self._monitor_tables: dict[int, int] = {}
        self._entries_of: dict[int, set[int]] = {}  # ppn -> dwords that map it, and some that do so no more
        self.traced: dict[int, int] = {}
        self.in_ring_3 = bytearray(pmap.pages)
        """A byte a page: 1 once ring 3 could reach it, and so execute it."""
        self.paging = False
        self.large_pages = self.global_pages = False
        self.policy: TracePolicy = policy_named(policy, self)
        self.root = self._new_root(NOT_PAGED)
        pmap.listeners.append(self)

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

    def _table(self, key: Key) -> ShadowTable:
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = ShadowTable(key, self._new_frame())
            self._tables_of.setdefault(self._name(key), {})[table] = None
            if key[0] == LARGE:
                self._fill_large(table)
        return table

    # Filling and dropping ----------------------------------------------------------------------------------------

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
                flags |= pg.WRITABLE | pg.DIRTY
            elif write and not mapping.writable:
                flags = flags & ~pg.USER | pg.WRITABLE | pg.DIRTY
        if mapping.entry & pg.GLOBAL and self.global_pages:
            flags |= GLOBAL_MARK
        at = table.at + (gva >> 12 & 0x3FF)
        if self._words[at] & pg.PRESENT:
            self._cpu.flush_tlb()
        self._words[at] = mpa & 0xFFFFF000 | flags
        if flags & pg.USER and self.paging and ppn < len(self.in_ring_3):
            self.in_ring_3[ppn] = 1
        if not mapping.large:
            self._enter_reverse(ppn, at)
            if table.snapshot is not None:
                table.snapshot[gva >> 12 & 0x3FF] = mapping.entry
                table.page = None

    def _enter_reverse(self, ppn: int, at: int) -> None:
        entries = self._entries_of.get(ppn)
        if entries is None:
            self._entries_of[ppn] = {at}
        else:
            entries.add(at)

    def _fill_large(self, table: ShadowTable) -> None:
        """All pages of a 4 MB page that have memory: what allows one allows all."""
        _, base, rights = table.key
        first = base >> PAGE_SHIFT
        frames = self._pmap.frames(first, 1024)
        flags = pg.PRESENT | pg.ACCESSED | rights & pg.USER
        if rights & pg.WRITABLE and rights & pg.DIRTY:
            flags |= pg.WRITABLE | pg.DIRTY
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
            flags |= pg.WRITABLE | pg.DIRTY
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
            self._words[table.at + (gva >> 12 & 0x3FF)] = 0

    def drop_local(self, table: ShadowTable) -> int:
        """Forget the entries that are not global; how many."""
        entries = self._entries[table.at : table.at + 1024]
        local = (entries & np.uint32(GLOBAL_MARK | pg.PRESENT)) == pg.PRESENT
        count = int(np.count_nonzero(local))
        if count:
            entries[local] = 0
        return count

    def drop_all(self, table: ShadowTable) -> None:
        """Forget every entry."""
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

    # Traces ------------------------------------------------------------------------------------------------------

    def trace(self, ppn: int, why: int = CODE) -> None:
        """From now on the page is read-only for the guest; a store faults."""
        reasons = self.traced.get(ppn, 0)
        if not reasons & why:
            self.traced[ppn] = reasons | why
            if not reasons:
                self.protect(ppn)

    def untrace(self, ppn: int, why: int = CODE) -> None:
        """The next store faults once more, and then the page is writable."""
        reasons = self.traced.get(ppn, 0) & ~why
        if reasons:
            self.traced[ppn] = reasons
        else:
            self.traced.pop(ppn, None)

    def _dwords(self, ppn: int) -> list[int]:
        """Every shadow entry that maps the page now."""
        mpn = self._pmap.frame(ppn)
        if mpn is None:
            return []
        words = self._words
        entries = self._entries_of.get(ppn)
        found = []
        if entries:
            found = [at for at in entries if words[at] >> PAGE_SHIFT == mpn and words[at] & pg.PRESENT]
            if len(found) < len(entries) - 32:
                self._entries_of[ppn] = set(found)
        large = self._tables_of.get(-1 - (ppn >> 10))
        if large:
            found += [at for at in (table.at + (ppn & 0x3FF) for table in large) if words[at] & pg.PRESENT]
        return found

    def protect(self, ppn: int) -> None:
        """Make every entry of the page read-only."""
        changed = False
        for at in self._dwords(ppn):
            if self._words[at] & pg.WRITABLE:
                self._words[at] &= ~pg.WRITABLE
                changed = True
        if changed:
            self._cpu.flush_tlb()

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

    def page_unmapped(self, ppn: Ppn) -> None:
        for at in self._dwords(ppn):
            self._words[at] = 0
        self._entries_of.pop(ppn, None)
        self._cpu.flush_tlb()

    def page_write_protected(self, ppn: Ppn) -> None:
        self.protect(ppn)

    def page_watched(self, ppn: Ppn) -> None:
        for at in self._dwords(ppn):
            self._words[at] = 0
        self._cpu.flush_tlb()

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        self.written(ppn, offset, size_bytes)
