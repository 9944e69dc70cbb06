"""The pmap of a guest whose pages are managed: not every page has a frame of its own, or any.

::

    resolve(ppn, for_write) ──> PRIVATE? ─────────────────────────────> its frame
                                SHARED, and only read? ───────────────> the shared frame
                                else: ask the ``PageSupply``, which finds a frame or makes a copy ──> its frame

Three things are done to a page from below, and each tells the listeners first: its frame goes (``take_away``), it is
shared (``share``), its next access is awaited (``watch``). A fourth is done to all at once: the next write to each is
awaited (``trace_writes``). Waldspurger 2002, sections 2 to 5.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_OFFSET_MASK, PAGE_SHIFT, Mpn, Ppn
from vilab.errors import VmmBug
from vilab.machine.memory import MachineMemory
from vilab.memory.page_state import FLAGS, SAMPLED, TRACED, PageState
from vilab.memory.pmap import Pmap

STATES = tuple(PageState)
UNTOUCHED, PRIVATE, SHARED, BALLOONED, SWAPPED = (int(state) for state in STATES)
EMPTY = (PageState.UNTOUCHED, PageState.BALLOONED)


class PageSupply(Protocol):
    """Where frames come from."""

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        """Make the page PRIVATE (or leave it SHARED where it is only read). Its state says what it is now."""
        ...

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        """Frames for pages that were never touched and are about to be written as a whole. Returns for how many of
        these, the first ones, there were any to spare: the others are asked for one by one."""
        ...

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        """A page that was watched has been accessed."""
        ...

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        """What a page without a frame contains, 4096 bytes; nothing changes."""
        ...


class PmapState(msgspec.Struct):
    """``states``: a ``PageState`` a byte, by ppn; content travels apart. SHARED and SWAPPED are the host's affair, so
    elsewhere they count as PRIVATE."""

    states: bytes


class ManagedPmap(Pmap):
    """One guest's pages.

    Parameters
    ----------
    vm_id : 1 to 65535, as in the frame table.
    """

    all_writable = False

    def __init__(self, memory: MachineMemory, vm_id: int, pages: int, supply: PageSupply) -> None:
        super().__init__(memory, ())
        self.vm_id = vm_id
        self.mpn_of = self._mpns = array("i", [-1]) * pages
        self.state = bytearray(pages)
        self._flags = np.frombuffer(self.state, np.uint8)
        self.pages, self.size_bytes = pages, pages << PAGE_SHIFT
        self.supply = supply
        """Where frames come from; it may be another one for a while."""
        self._harvested = False
        self.on_written: Callable[[int], None] | None = None
        """Told of the first write to a page whose writes are traced, and where a page loses its content."""

    @property
    def states(self) -> npt.NDArray[np.uint8]:
        """A ``PageState`` for each page, read-only."""
        states = self._flags & np.uint8(~FLAGS & 0xFF)
        states.flags.writeable = False
        return states

    def state_of(self, ppn: int) -> PageState:
        return STATES[self.state[ppn] & ~FLAGS]

    def count(self, state: PageState) -> int:
        """Pages in that state."""
        return sum(self.state.count(state | flags) for flags in (0, SAMPLED, TRACED, FLAGS))

    # Who asks ----------------------------------------------------------------------------------------------------

    def resolve(self, ppn: int, for_write: bool) -> Mpn | None:
        if ppn >= self.pages:
            return super().resolve(ppn, for_write)
        state = self.state[ppn]
        if state == PRIVATE or (state == SHARED and not for_write):
            return Mpn(self.mpn_of[ppn])
        page = Ppn(ppn)
        if state & SAMPLED:
            self.state[ppn] = state = state & ~SAMPLED
            self.supply.page_touched(self, page)
        if state & TRACED:
            if for_write:
                self._written(ppn)
            state &= ~TRACED
        if state != PRIVATE and (state != SHARED or for_write):
            self.supply.page_needed(self, page, for_write)
        mpn = self.mpn_of[ppn]
        if mpn < 0:
            raise VmmBug(f"Page {ppn:#x} of virtual machine {self.vm_id} was asked for and has no frame.")
        return Mpn(mpn)

    def frame(self, ppn: int) -> Mpn | None:
        if not 0 <= ppn < self.pages:
            return super().resolve(ppn, False)
        mpn = self.mpn_of[ppn]
        return None if mpn < 0 else Mpn(mpn)

    def mappable(self, ppn: int) -> Mpn | None:
        return None if ppn < self.pages and self.state[ppn] & SAMPLED else self.frame(ppn)

    def writable(self, ppn: int) -> bool:
        return ppn >= self.pages or self.state[ppn] == PRIVATE

    def frames(self, first_ppn: int, count: int) -> npt.NDArray[np.int64]:
        found = np.array(self.mpn_of[first_ppn : first_ppn + count], dtype=np.int64)
        watched = self._flags[first_ppn : first_ppn + count] & SAMPLED
        found[watched != 0] = -1
        return found

    def writable_frames(self, first_ppn: int, count: int) -> npt.NDArray[np.bool_]:
        writable: npt.NDArray[np.bool_] = self._flags[first_ppn : first_ppn + count] == PRIVATE
        return writable

    def read_u32(self, gpa: int) -> int:
        ppn = gpa >> PAGE_SHIFT
        if ppn >= self.pages:
            return 0xFFFFFFFF
        mpn = self.mpn_of[ppn]
        if mpn < 0 or self.state[ppn] & SAMPLED:
            self.resolve(ppn, False)
            mpn = self.mpn_of[ppn]
        return self.memory.words[mpn << 10 | (gpa & PAGE_OFFSET_MASK) >> 2]

    def look_u32(self, gpa: int) -> int:
        ppn = gpa >> PAGE_SHIFT
        if ppn >= self.pages or self.mpn_of[ppn] >= 0:
            return super().read_u32(gpa)
        at = gpa & PAGE_OFFSET_MASK & ~3
        return int.from_bytes(self.page(ppn)[at : at + 4], "little")

    def look(self, gpa: int, size_bytes: int) -> bytes:
        found = b""
        while len(found) < size_bytes:
            at = gpa + len(found)
            ppn, offset = at >> PAGE_SHIFT, at & PAGE_OFFSET_MASK
            part = min(size_bytes - len(found), PAGE_BYTES - offset)
            found += self.page(ppn)[offset : offset + part] if ppn < self.pages else super().look(at, part)
        return found

    def write_u32(self, gpa: int, value: int) -> None:
        ppn = gpa >> PAGE_SHIFT
        if ppn < self.pages:
            mpn = self.resolve(ppn, True)
            assert mpn is not None
            if self._harvested:
                self.note_written(ppn)
            self.memory.words[mpn << 10 | (gpa & PAGE_OFFSET_MASK) >> 2] = value

    # What is done to a page --------------------------------------------------------------------------------------

    def give(self, ppn: int, mpn: int, state: PageState) -> None:
        """A frame for a page that has none."""
        if self.mpn_of[ppn] >= 0:
            raise VmmBug(f"Page {ppn:#x} of virtual machine {self.vm_id} already has frame {self.mpn_of[ppn]:#x}.")
        self.mpn_of[ppn], self.state[ppn] = mpn, state | (self.state[ppn] & FLAGS)

    def give_many(self, ppns: npt.NDArray[np.int64], mpns: npt.NDArray[np.int64]) -> None:
        """Private frames for different pages that have none."""
        frames = np.frombuffer(self._mpns, np.int32)
        if (frames[ppns] >= 0).any():
            raise VmmBug(f"Of {len(ppns)} pages of virtual machine {self.vm_id} one already has a frame.")
        frames[ppns] = mpns
        self._flags[ppns] = PRIVATE | (self._flags[ppns] & np.uint8(FLAGS))

    def take_away(self, ppn: int, state: PageState) -> Mpn:
        """The page's frame, which is the caller's now; ``state`` is what the page becomes. If watched, it stays so."""
        mpn = self.mpn_of[ppn]
        if mpn < 0:
            raise VmmBug(f"Page {ppn:#x} of virtual machine {self.vm_id} has no frame to give.")
        for listener in self.listeners:
            listener.page_unmapped(Ppn(ppn))
        self.mpn_of[ppn], self.state[ppn] = -1, state | (self.state[ppn] & FLAGS)
        if state in EMPTY:
            self._written(ppn)
        return Mpn(mpn)

    def forget_private(self, leave: Callable[[npt.NDArray[np.int64]], None]) -> list[int]:
        """Every page that is PRIVATE becomes UNTOUCHED, of a guest that has ended: there is no listener any more.
        ``leave`` is given their frames. Returns the pages that still have one, or a copy elsewhere."""
        if self.listeners:
            raise VmmBug(f"Virtual machine {self.vm_id} loses all its pages, and somebody still listens.")
        frames, states = np.frombuffer(self._mpns, np.int32), self.states
        private = np.flatnonzero(states == PRIVATE)
        leave(frames[private].astype(np.int64))
        frames[private], self._flags[private] = -1, UNTOUCHED
        others: list[int] = np.flatnonzero(frames >= 0).tolist()
        return others

    def move(self, ppn: int, mpn: int, state: PageState) -> Mpn:
        """Another frame behind the page, with the same content. Returns the old one."""
        old = self.take_away(ppn, state)
        self.give(ppn, mpn, state)
        return old

    def pages_on(self, mpn: int) -> list[int]:
        """The pages that are on a frame."""
        found: list[int] = np.flatnonzero(np.frombuffer(self._mpns, np.int32) == mpn).tolist()
        return found

    def share(self, ppn: int) -> None:
        """The page stays where it is and becomes read-only."""
        for listener in self.listeners:
            listener.page_write_protected(Ppn(ppn))
        self.state[ppn] = SHARED | (self.state[ppn] & FLAGS)

    def own(self, ppn: int) -> None:
        """The last page on a shared frame may write there again."""
        self.state[ppn] = PRIVATE | (self.state[ppn] & FLAGS)

    def mark(self, ppn: int, state: PageState) -> None:
        """A page without a frame becomes another kind of page without a frame."""
        if self.mpn_of[ppn] >= 0:
            raise VmmBug(f"Page {ppn:#x} of virtual machine {self.vm_id} has a frame: it cannot just be {state.name}.")
        self.state[ppn] = state | (self.state[ppn] & FLAGS)
        if state in EMPTY:
            self._written(ppn)

    def watch(self, ppn: int) -> None:
        """Drop the page's mappings, so that its next access is noticed."""
        for listener in self.listeners:
            listener.page_watched(Ppn(ppn))
        self.state[ppn] |= SAMPLED

    def stop_watching(self, ppn: int) -> bool:
        """True: it was not accessed since ``watch``."""
        was = bool(self.state[ppn] & SAMPLED)
        self.state[ppn] &= ~SAMPLED & 0xFF
        return was

    # Writes ------------------------------------------------------------------------------------------------------

    def trace_writes(self) -> None:
        """From now on the first write to each page is told to ``on_written``, whoever writes."""
        self._flags |= np.uint8(TRACED)
        for listener in self.listeners:
            listener.all_write_protected()

    def stop_tracing(self) -> None:
        """Mappings become writable again one by one, by the next write."""
        self._flags &= np.uint8(~TRACED & 0xFF)

    def harvest(self) -> npt.NDArray[np.int64]:
        """The pages that were written through mappings since the last time: the processor's Dirty bits, which are
        cleared. From the first time on whoever else writes is told to ``on_written``.

        Raises ``AdminError``: the mappings have no Dirty bits.
        """
        found = [listener.harvest() for listener in self.listeners]
        self._harvested = True
        mpns = np.concatenate([*found, np.zeros(0, np.int64)])
        ppn_of = np.full(self.memory.size_bytes >> PAGE_SHIFT, -1, np.int64)
        mapped = np.frombuffer(self._mpns, np.int32)
        present = np.flatnonzero(mapped >= 0)
        ppn_of[mapped[present]] = present
        ppns = ppn_of[mpns]
        return np.unique(ppns[ppns >= 0])

    def stop_harvest(self) -> None:
        """Dirty bits are of no interest any more."""
        self._harvested = False
        for listener in self.listeners:
            listener.stop_harvest()

    def note_written(self, ppn: int) -> None:
        """A page was written through a mapping that is about to go, or by somebody who has none."""
        if self.on_written is not None:
            self.on_written(ppn)

    def write(self, gpa: int, data: bytes) -> None:
        super().write(gpa, data)
        if self._harvested:
            for ppn in range(gpa >> PAGE_SHIFT, min(self.pages, (gpa + len(data) - 1 >> PAGE_SHIFT) + 1)):
                self.note_written(ppn)

    def _written(self, ppn: int) -> None:
        self.state[ppn] &= ~TRACED & 0xFF
        if self.on_written is not None:
            self.on_written(ppn)

    # Content, without side effects -------------------------------------------------------------------------------

    def page(self, ppn: int) -> bytes:
        """The 4096 bytes of a page, wherever they are. Nothing changes: for snapshots and views."""
        mpn = self.mpn_of[ppn]
        if mpn >= 0:
            return bytes(self.memory.view[mpn << PAGE_SHIFT : (mpn + 1) << PAGE_SHIFT])
        return self.supply.peek(self, Ppn(ppn))

    def content(self) -> bytes:
        """All of the guest's memory, in order."""
        return b"".join(map(self.page, range(self.pages)))

    def restore(self, content: bytes) -> None:
        """Become these bytes; pages of zeros that were never touched stay so."""
        zero = bytes(PAGE_BYTES)
        for ppn in range(self.pages):
            page = content[ppn << PAGE_SHIFT : (ppn + 1) << PAGE_SHIFT]
            if page != zero or self.state_of(ppn) != PageState.UNTOUCHED:
                self.write(ppn << PAGE_SHIFT, page)

    def save_state(self) -> PmapState:
        states = self.states.copy()
        states[(states == SHARED) | (states == SWAPPED)] = PRIVATE
        return PmapState(states.tobytes())

    def size_of_maps(self) -> int:
        """Bytes that this map itself takes."""
        return len(self.state) + self._mpns.itemsize * len(self._mpns)
