"""Nested page tables: the second half of every address translation of a guest under hardware assist.

::

            the guest's own tables, CR3                      the VMM's tables, nCR3
    gva ──> directory ──> table ──> gpa ───────────────────> directory ──> table ──> mpa
              each of these is a gpa too, and is
              itself translated on the right first

The processor walks both: the guest loads CR3 and edits its tables as it likes, and the VMM hears nothing of it. A gpa
that the right side does not know, or not for writing, is a nested page fault (#VMEXIT 400h); the VMM enters the page
that the pmap has for it, and the access is repeated.

Both sides have the format of ``x86.paging``, since nested tables have the format of the host's own mode, here 32-bit
without PAE. In an entry:

=============  =====================================================================================
U              always: a guest's access counts as a user's here, whatever its CPL
W              once the guest has written there (the pmap may have to break a sharing first)
A, D           set here with the entry and with W: this processor sets them in the guest's tables only
no memory      the entry leads above the machine's memory, where nobody answers: reads give all ones
=============  =====================================================================================

A fault comes before each kind of access that the entry does not allow yet, so an addition in memory costs two: this
processor loads first and stores then. A walk of the guest's tables sets Accessed bits, so it counts as a write to
them: their pages become writable at once.
Source: AMD APM volume 2, section 15.25.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_SHIFT
from vilab.errors import AdminError, VmmBug
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.machine.memory import MachineMemory
    from vilab.memory.pmap import Pmap
    from vilab.vmm.monitor import MonitorFrames

NOBODY = 1 << 31
"""Added to a gpa without memory that would lead into the machine's memory."""


class NestedEntry(msgspec.Struct, frozen=True):
    """One page that the nested tables map. ``is_memory``: a frame of the pmap's is behind it."""

    ppn: int
    mpn: int
    writable: bool
    accessed: bool
    dirty: bool
    is_memory: bool


class NestedTables:
    """One root, filled on demand.

    Parameters
    ----------
    flush : called when an entry has become less than it was: the processor may still hold the old one in its TLB.
    """

    def __init__(self, memory: MachineMemory, frames: MonitorFrames, pmap: Pmap, flush: Callable[[], None]) -> None:
        self._memory, self._frames, self._pmap, self._flush = memory, frames, pmap, flush
        self._words = memory.words
        self._entries = memory.bytes.view(np.uint32)
        self.root_mpn = frames.run(1)
        self._root = self.root_mpn << 10
        pmap.listeners.append(self)

    def fill(self, gpa: int, for_write: bool) -> int:
        """Enter the page of a gpa; its mpa. An entry only ever becomes more here, so the TLB may keep what it has."""
        at = self._slot(gpa)
        mpn = self._pmap.resolve(gpa >> PAGE_SHIFT, for_write)
        # MODEL: hardware sets A and D in these tables too, so that a VMM can harvest them without a fault.
        flags = pg.PRESENT | pg.USER | pg.ACCESSED | (pg.WRITABLE | pg.DIRTY if for_write else 0)
        if mpn is not None:
            mpa = mpn << PAGE_SHIFT
        else:
            # An address space without memory behind it takes writes too, and loses them.
            mpa = self.nobodys(gpa & pg.FRAME_MASK)
            flags |= pg.WRITABLE | pg.CACHE_DISABLE
        old = self._words[at]
        self._words[at] = mpa | flags
        if old & pg.PRESENT and old & pg.FRAME_MASK != mpa:
            self._flush()
        return mpa

    def nobodys(self, gpa: int) -> int:
        """A machine address above the machine's memory for a gpa that has none."""
        return gpa if gpa >= self._memory.size_bytes else gpa + NOBODY

    def entry(self, gpa: int) -> int:
        """The entry for a gpa as the processor reads it; 0: none."""
        directory = self._words[self._root + (gpa >> pg.LARGE_SHIFT)]
        if not directory & pg.PRESENT:
            return 0
        return self._words[(directory & pg.FRAME_MASK) >> 2 | gpa >> PAGE_SHIFT & 0x3FF]

    def entries(self) -> Iterator[NestedEntry]:
        """Every page that is mapped, by ppn."""
        for index in range(pg.ENTRIES):
            directory = self._words[self._root + index]
            if not directory & pg.PRESENT:
                continue
            table = (directory & pg.FRAME_MASK) >> 2
            for slot, entry in enumerate(self._words[table : table + pg.ENTRIES]):
                if entry & pg.PRESENT:
                    yield NestedEntry(
                        index << 10 | slot, entry >> PAGE_SHIFT, bool(entry & pg.WRITABLE), bool(entry & pg.ACCESSED),
                        bool(entry & pg.DIRTY), entry & pg.FRAME_MASK < self._memory.size_bytes,
                    )  # fmt: skip

    def clear(self) -> None:
        """Forget every page. The tables stay in place, empty."""
        for index in range(pg.ENTRIES):
            directory = self._words[self._root + index]
            if directory & pg.PRESENT:
                self._memory.zero_frame(directory >> PAGE_SHIFT)
        self._flush()

    def _slot(self, gpa: int) -> int:
        """Index of the dword with the entry for a gpa; its table is made if there is none."""
        if gpa >> 32:
            raise VmmBug(f"The nested tables were asked for {gpa:x}, beyond what 32-bit tables can map.")
        at = self._root + (gpa >> pg.LARGE_SHIFT)
        directory = self._words[at]
        if not directory & pg.PRESENT:
            directory = self._frames.run(1) << PAGE_SHIFT | pg.PRESENT | pg.WRITABLE | pg.USER
            self._words[at] = directory
        return (directory & pg.FRAME_MASK) >> 2 | gpa >> PAGE_SHIFT & 0x3FF

    # What the pmap says ------------------------------------------------------------------------------------------

    def page_unmapped(self, ppn: Ppn) -> None:
        if self.entry(ppn << PAGE_SHIFT):
            self._words[self._slot(ppn << PAGE_SHIFT)] = 0
            self._flush()

    def page_watched(self, ppn: Ppn) -> None:
        self.page_unmapped(ppn)

    def page_write_protected(self, ppn: Ppn) -> None:
        entry = self.entry(ppn << PAGE_SHIFT)
        if entry & pg.WRITABLE:
            self._words[self._slot(ppn << PAGE_SHIFT)] = entry & ~pg.WRITABLE
            self._flush()

    def all_write_protected(self) -> None:
        nobodys = np.uint32(self._memory.size_bytes - 1)
        for index in range(pg.ENTRIES):
            directory = self._words[self._root + index]
            if directory & pg.PRESENT:
                at = (directory & pg.FRAME_MASK) >> 2
                entries = self._entries[at : at + pg.ENTRIES]
                entries[entries <= nobodys] &= np.uint32(~pg.WRITABLE & 0xFFFFFFFF)
        self._flush()

    def harvest(self) -> npt.NDArray[np.int64]:
        """MODEL: this processor sets no Dirty bits in nested tables; hardware does."""
        raise AdminError(
            "With nested paging this processor sets no Dirty bits in the tables of the VMM: find written pages by "
            "write traces, or run the machine with shadow paging."
        )

    def stop_harvest(self) -> None:
        return

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """The tables say where, not what: nothing to do."""
