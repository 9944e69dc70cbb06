"""Which shadow entries map a page of the guest, and which pages are traced.

::

    page (ppn) ──> dwords of shadow tables that map it     _entries_of: small pages, one by one
               └─> tables of 4 MB pages around it          _tables_of: a large page is filled as a whole

    traced page    every entry of it is read-only; a store faults, and whoever traces it hears of that

What the pmap says of a page (unmapped, write-protected, watched) is done to exactly these entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_SHIFT
from vilab.vmm.shadow_table import CODE, ShadowTable
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.machine.cpu import Cpu
    from vilab.machine.memory import MachineMemory
    from vilab.memory.pmap import Pmap


DIRTY_HERE = pg.PRESENT | pg.DIRTY


class ShadowEntries:
    """The reverse of the shadow tables of one virtual machine."""

    def __init__(self, cpu: Cpu, memory: MachineMemory, pmap: Pmap) -> None:
        self._cpu, self._memory, self._pmap = cpu, memory, pmap
        self._words = memory.words
        self._entries = memory.bytes.view(np.uint32)
        self._entries_of: dict[int, set[int]] = {}  # ppn -> dwords that map it, and some that do so no more
        self._tables_of: dict[int, dict[ShadowTable, None]] = {}  # ppn of a guest table, or number of a 4 MB page
        self.traced: dict[int, int] = {}
        self._dirty: npt.NDArray[np.bool_] | None = None
        """While Dirty bits are harvested: frames whose bits went with an entry."""

    def _enter_reverse(self, ppn: int, at: int) -> None:
        entries = self._entries_of.get(ppn)
        if entries is None:
            self._entries_of[ppn] = {at}
        else:
            entries.add(at)

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

    # Dirty bits ----------------------------------------------------------------------------------------------------

    @property
    def dirty_at_once(self) -> int:
        """What an entry begins with that may be written: Dirty, unless somebody waits for the processor to set it."""
        return pg.DIRTY if self._dirty is None else 0

    def _keep(self, entry: int) -> None:
        """An entry is about to change or to go: what its Dirty bit says is kept."""
        if self._dirty is not None and entry & DIRTY_HERE == DIRTY_HERE and entry >> PAGE_SHIFT < len(self._dirty):
            self._dirty[entry >> PAGE_SHIFT] = True

    def _keep_table(self, at: int) -> None:
        """The same for all entries of a table."""
        if self._dirty is not None:
            entries = self._entries[at : at + pg.ENTRIES]
            frames = entries[(entries & np.uint32(DIRTY_HERE)) == DIRTY_HERE] >> np.uint32(PAGE_SHIFT)
            self._dirty[frames[frames < len(self._dirty)]] = True

    def _keep_page(self, ppn: int) -> None:
        """The page is about to get another frame, or to be shared: whoever asks for written pages hears of it now."""
        if self._dirty is None:
            return
        mpn = self._pmap.frame(ppn)
        for at in self._dwords(ppn):
            self._keep(self._words[at])
            self._words[at] &= ~pg.DIRTY
        if mpn is not None and self._dirty[mpn]:
            self._dirty[mpn] = False
            self._pmap.note_written(ppn)

    def harvest(self) -> npt.NDArray[np.int64]:
        if self._dirty is None:
            self._dirty = np.zeros(self._memory.size_bytes >> PAGE_SHIFT, np.bool_)
        for tables in self._tables_of.values():
            for table in tables:
                self._keep_table(table.at)
                self._entries[table.at : table.at + pg.ENTRIES] &= np.uint32(~pg.DIRTY & 0xFFFFFFFF)
        self._cpu.flush_tlb()
        found = np.flatnonzero(self._dirty)
        self._dirty[:] = False
        return found

    def stop_harvest(self) -> None:
        self._dirty = None

    # What the pmap says ------------------------------------------------------------------------------------------

    def page_unmapped(self, ppn: Ppn) -> None:
        self._keep_page(ppn)
        for at in self._dwords(ppn):
            self._words[at] = 0
        self._entries_of.pop(ppn, None)
        self._cpu.flush_tlb()

    def page_write_protected(self, ppn: Ppn) -> None:
        self._keep_page(ppn)
        self.protect(ppn)

    def all_write_protected(self) -> None:
        for tables in self._tables_of.values():
            for table in tables:
                self._entries[table.at : table.at + pg.ENTRIES] &= np.uint32(~pg.WRITABLE & 0xFFFFFFFF)
        self._cpu.flush_tlb()

    def page_watched(self, ppn: Ppn) -> None:
        self._keep_page(ppn)
        for at in self._dwords(ppn):
            self._words[at] = 0
        self._cpu.flush_tlb()
