"""Guests without a monitor, for tests of sharing: pages that are written, and a supply that gives them frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Mpn, Ppn
from vilab.events import EventLog
from vilab.machine.memory import MachineMemory
from vilab.memory.frame_table import FrameTable
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.memory_events import SharingBroken
from vilab.memory.page_state import FrameUse, PageState
from vilab.memory.sharing import HashPage, PageSharing


class Guests:
    """``vms`` guests of so many pages each on one machine. ``now_ns`` is set by the test."""

    def __init__(self, vms: int, pages: int, frames: int | None = None, hash_page: HashPage | None = None) -> None:
        self.memory = MachineMemory((frames or vms * pages) * PAGE_BYTES)
        self.frames = FrameTable(self.memory)
        self.pmaps = {vm: ManagedPmap(self.memory, vm, pages, self) for vm in range(1, vms + 1)}
        self.log = EventLog(keep=True)
        self.now_ns = 0
        hashing = {} if hash_page is None else {"hash_page": hash_page}
        self.sharing = PageSharing(
            self.frames, self.pmaps, self.take_frame, self.log, lambda: self.now_ns, **hashing
        )  # fmt: skip

    def take_frame(self, pmap: ManagedPmap, ppn: Ppn) -> Mpn:
        """For a copy. What stood there is overwritten, as the last owner would have done."""
        mpn = self.frames.take_private(pmap.vm_id, ppn, zeroed=False)
        self.memory.write(mpn << PAGE_SHIFT, b"\xee" * PAGE_BYTES)
        return mpn

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        if pmap.state_of(ppn) is PageState.SHARED:
            self.sharing.break_sharing(pmap, ppn)
        else:
            pmap.give(ppn, self.frames.take_private(pmap.vm_id, ppn), PageState.PRIVATE)

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        return 0

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        pass

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        return bytes(PAGE_BYTES)

    def fill(self, vm: int, ppn: int, content: bytes) -> None:
        """The page begins with this, and goes on with zeros."""
        self.pmaps[vm].write(ppn << PAGE_SHIFT, content.ljust(PAGE_BYTES, b"\0"))

    def lose(self, vm: int, ppn: int) -> None:
        """What balloon and power-off do: the page is gone, and reads zeros when it comes back."""
        pmap = self.pmaps[vm]
        shared = pmap.state_of(ppn) is PageState.SHARED
        mpn = pmap.take_away(ppn, PageState.UNTOUCHED)
        if shared:
            self.sharing.leave(mpn)
        else:
            self.frames.leave(mpn)

    def content(self, vm: int, ppn: int) -> bytes:
        return self.pmaps[vm].page(ppn)

    def copies_made(self) -> int:
        return sum(event.mpn != event.from_mpn for event in self.log.of(SharingBroken))

    def check(self) -> None:
        """Every frame has one owner or is shared, read-only, by as many as it says; the table holds just those."""
        users: dict[int, list[tuple[int, int]]] = {}
        for vm, pmap in self.pmaps.items():
            for ppn in range(pmap.pages):
                mpn = pmap.mpn_of[ppn]
                assert (mpn >= 0) == (pmap.state_of(ppn) in (PageState.PRIVATE, PageState.SHARED))
                if mpn >= 0:
                    users.setdefault(mpn, []).append((vm, ppn))
        frames, table = self.frames, self.sharing.table
        shared = set()
        for mpn in range(frames.frames):
            pages = users.get(mpn, [])
            if frames.use[mpn] == FrameUse.FREE:
                assert not pages
            elif frames.use[mpn] == FrameUse.PRIVATE:
                ((vm, ppn),) = pages
                assert (vm, ppn) == (frames.owner[mpn], frames.who[mpn])
                assert self.pmaps[vm].state_of(ppn) is PageState.PRIVATE
            else:
                shared.add(mpn)
                assert len(pages) == frames.sharers(mpn) > 0
                assert all(self.pmaps[vm].state_of(ppn) is PageState.SHARED for vm, ppn in pages)
                assert not any(self.pmaps[vm].writable(ppn) for vm, ppn in pages)
        hash_page = self.sharing._hash
        assert table.shared_frames() == {mpn: hash_page(memoryview(self.memory.frame(mpn))) or 1 for mpn in shared}
        counts = self.sharing.counts()
        assert counts.shared_frames == len(shared) == table.shared
        assert counts.shared_pages == sum(frames.sharers(mpn) for mpn in shared)
        assert counts.saved_frames == sum(map(len, users.values())) - len(users)
        assert counts.hints == table.hints == len(table.hinted_pages())
        assert frames.free_frames == frames.frames - len(users)
        assert counts.copies == self.copies_made()
