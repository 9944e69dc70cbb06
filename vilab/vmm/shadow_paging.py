"""Shadow page tables: what the CPU really walks while a deprivileged guest runs.

::

    guest's tables (gva -> gpa)   +   pmap (gpa -> mpa)   =   shadow tables (gva -> mpa)

The shadow is a cache, as the TLB is: it starts empty, a fault fills one entry (a *hidden* fault, if the guest's own
tables allow the access), INVLPG drops one, loading CR3 drops all. An entry allows what the guest's tables allow, less:

=============  ====================================================================
writable       only once the guest's Dirty bit is set, and not on a traced page
user           as in the guest's tables
=============  ====================================================================

MODEL: with CR0.WP = 0 a supervisor may write read-only pages; such an entry is made writable and supervisor's, and
the next access from ring 3 makes it read-only and user's again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_SHIFT
from vilab.vmm.walk import Mapping
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.machine.cpu import Cpu
    from vilab.machine.memory import MachineMemory
    from vilab.memory.pmap import Pmap
    from vilab.vmm.monitor import MonitorFrames


class ShadowTables:
    """One root, filled on demand.

    ``traced`` holds the ppns that must stay read-only (they hold translated code, for instance).
    """

    def __init__(self, cpu: Cpu, memory: MachineMemory, frames: MonitorFrames, pmap: Pmap) -> None:
        self._cpu, self._memory, self._frames, self._pmap = cpu, memory, frames, pmap
        self._words = memory.words
        self.root_mpn = frames.run(1)
        self._root = self.root_mpn << 10
        self._tables: dict[int, int] = {}  # directory index -> first dword of the table
        self._monitor_tables: dict[int, int] = {}
        self._free: list[int] = []
        self._entries_of: dict[int, set[int]] = {}  # ppn -> dwords of shadow entries that map it
        self._ppn_at: dict[int, int] = {}  # and back
        self.traced: set[int] = set()
        pmap.listeners.append(self)

    # The monitor's part ------------------------------------------------------------------------------------------

    def map_monitor(self, gva: int, mpn: int, writable: bool) -> None:
        index = gva >> 22
        table = self._monitor_tables.get(index)
        if table is None:
            table = self._monitor_tables[index] = self._frames.run(1) << 10
            self._words[self._root + index] = table << 2 | pg.PRESENT | pg.WRITABLE | pg.ACCESSED
        flags = pg.PRESENT | pg.ACCESSED | pg.DIRTY | (pg.WRITABLE if writable else 0)
        self._words[table + (gva >> 12 & 0x3FF)] = mpn << PAGE_SHIFT | flags

    def is_monitor(self, gva: int) -> bool:
        return gva >> 22 in self._monitor_tables

    # Filling and dropping ----------------------------------------------------------------------------------------

    def fill(self, gva: int, mapping: Mapping, mpa: int, write: bool) -> None:
        """Enter one page. ``mpa``: the machine page behind ``mapping.gpa``."""
        index = gva >> 22
        table = self._tables.get(index)
        if table is None:
            table = self._tables[index] = self._new_table()
            self._words[self._root + index] = table << 2 | pg.PRESENT | pg.WRITABLE | pg.USER | pg.ACCESSED
        ppn = mapping.gpa >> PAGE_SHIFT
        flags = pg.PRESENT | pg.ACCESSED
        if mapping.user:
            flags |= pg.USER
        if ppn not in self.traced:
            if mapping.writable and mapping.dirty:
                flags |= pg.WRITABLE | pg.DIRTY
            elif write and not mapping.writable:
                flags = flags & ~pg.USER | pg.WRITABLE | pg.DIRTY
        at = table + (gva >> 12 & 0x3FF)
        old = self._words[at]
        if old & pg.PRESENT:
            self._forget_reverse(at)
            self._cpu.flush_tlb()
        self._words[at] = mpa & 0xFFFFF000 | flags
        self._ppn_at[at] = ppn
        entries = self._entries_of.get(ppn)
        if entries is None:
            self._entries_of[ppn] = {at}
        else:
            entries.add(at)

    def _new_table(self) -> int:
        if self._free:
            return self._free.pop()
        return self._frames.run(1) << 10

    def _forget_reverse(self, at: int) -> None:
        self._entries_of[self._ppn_at.pop(at)].discard(at)

    def flush(self) -> None:
        """Drop everything that is the guest's."""
        view = self._memory.bytes
        for index, table in self._tables.items():
            self._words[self._root + index] = 0
            view[table << 2 : (table << 2) + 4096] = 0
            self._free.append(table)
        self._tables.clear()
        self._entries_of.clear()
        self._ppn_at.clear()
        self._cpu.flush_tlb()

    def invalidate(self, gva: int) -> None:
        """Drop one page, as INVLPG does (with a 4 MB page, each of its parts when it is named)."""
        table = self._tables.get(gva >> 22)
        if table is not None:
            at = table + (gva >> 12 & 0x3FF)
            if self._words[at]:
                self._forget_reverse(at)
                self._words[at] = 0
                self._cpu.flush_tlb()

    def invalidate_large(self, gva: int) -> None:
        """Drop all of a 4 MB page."""
        table = self._tables.pop(gva >> 22, None)
        if table is not None:
            self._words[self._root + (gva >> 22)] = 0
            for at in range(table, table + 1024):
                if self._words[at]:
                    self._forget_reverse(at)
                    self._words[at] = 0
            self._free.append(table)
            self._cpu.flush_tlb()

    # Traces ------------------------------------------------------------------------------------------------------

    def trace(self, ppn: int) -> None:
        """From now on the page is read-only for the guest; a store faults."""
        if ppn not in self.traced:
            self.traced.add(ppn)
            self.protect(ppn)

    def untrace(self, ppn: int) -> None:
        """The next store faults once more, and then the page is writable."""
        self.traced.discard(ppn)

    def protect(self, ppn: int) -> None:
        """Make every entry of the page read-only."""
        changed = False
        for at in self._entries_of.get(ppn, ()):
            if self._words[at] & pg.WRITABLE:
                self._words[at] &= ~pg.WRITABLE
                changed = True
        if changed:
            self._cpu.flush_tlb()

    def open_once(self, gva: int) -> None:
        """Let the one store that is about to be stepped through to a traced page."""
        table = self._tables.get(gva >> 22)
        if table is not None:
            self._words[table + (gva >> 12 & 0x3FF)] |= pg.WRITABLE
            self._cpu.flush_tlb()

    # For checkpoints ---------------------------------------------------------------------------------------------

    def contents(self) -> tuple[Any, ...]:
        """What there is beside the tables themselves, which lie in machine memory."""
        return self._tables, self._monitor_tables, self._free, self._entries_of, self._ppn_at, self.traced

    def set_contents(self, contents: tuple[Any, ...]) -> None:
        self._tables, self._monitor_tables, self._free, self._entries_of, self._ppn_at, self.traced = contents

    # What the pmap says ------------------------------------------------------------------------------------------

    def page_unmapped(self, ppn: Ppn) -> None:
        for at in self._entries_of.pop(ppn, ()):
            del self._ppn_at[at]
            self._words[at] = 0
        self._cpu.flush_tlb()

    def page_write_protected(self, ppn: Ppn) -> None:
        self.protect(ppn)

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        return
