"""A supply of pages that keeps taking them away, sharing and watching them: for guests that must not notice."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Ppn
from vilab.machine.memory import MachineMemory
from vilab.memory.frame_table import FrameTable
from vilab.memory.grant import MemoryGrant
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.page_state import FrameUse, PageState

MB = 1 << 20


class Chaos:
    """``PageSupply`` of one guest."""

    def __init__(self, memory_bytes: int, monitor_bytes: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.memory = MachineMemory(2 * memory_bytes + monitor_bytes)
        self.frames = FrameTable(self.memory)
        self.pmap = ManagedPmap(self.memory, 1, memory_bytes >> PAGE_SHIFT, self)
        self.swapped: dict[int, bytes] = {}
        self.counts = {"in": 0, "out": 0, "shared": 0, "broken": 0, "watched": 0, "touched": 0}
        monitor = self.frames.take_overhead(1, monitor_bytes >> PAGE_SHIFT)
        self.grant = MemoryGrant(self.memory, monitor[1:], self.pmap, range(0))

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        state = pmap.state_of(ppn)
        mpn = self.frames.take_private(1, ppn)
        at = mpn << PAGE_SHIFT
        if state is PageState.SHARED:
            self.memory.write(at, self.memory.read(pmap.mpn_of[ppn] << PAGE_SHIFT, PAGE_BYTES))
            self.frames.leave(pmap.take_away(ppn, PageState.UNTOUCHED))
            self.counts["broken"] += 1
        elif state is PageState.SWAPPED:
            self.memory.write(at, self.swapped.pop(ppn))
            self.counts["in"] += 1
        pmap.give(ppn, mpn, PageState.PRIVATE)

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        return 0

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        self.counts["touched"] += 1

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        return self.swapped.get(ppn, bytes(PAGE_BYTES))

    def disturb(self, pages: int) -> None:
        """Between two slices: something happens to so many random pages of those that have a frame."""
        pmap = self.pmap
        present = [ppn for ppn in range(pmap.pages) if pmap.mpn_of[ppn] >= 0]
        for page in self.random.sample(present, min(pages, len(present))):
            ppn = Ppn(page)
            what = self.random.choice(("out", "share", "move", "watch"))
            private = pmap.state_of(ppn) is PageState.PRIVATE
            if what == "out":
                self.swapped[ppn] = pmap.page(ppn)
                self.frames.leave(pmap.take_away(ppn, PageState.SWAPPED))
                self.counts["out"] += 1
            elif what == "share" and private:
                pmap.share(ppn)
                self.frames.make_shared(pmap.mpn_of[ppn])
                self.counts["shared"] += 1
            elif what == "move" and private:
                self._move(ppn)
            elif what == "watch":
                pmap.watch(ppn)
                self.counts["watched"] += 1

    def _move(self, ppn: Ppn) -> None:
        """To a frame that it shares with nobody yet, or with a page of the same content."""
        pmap, content = self.pmap, self.pmap.page(ppn)
        for other in self.random.sample(range(pmap.pages), 20):
            if pmap.state_of(other) is PageState.SHARED and pmap.page(other) == content and other != ppn:
                self.frames.leave(pmap.take_away(ppn, PageState.UNTOUCHED))
                mpn = pmap.mpn_of[other]
                self.frames.join(mpn)
                pmap.give(ppn, mpn, PageState.SHARED)
                self.counts["shared"] += 1
                return
        mpn = self.frames.take_private(1, ppn)
        self.memory.write(mpn << PAGE_SHIFT, content)
        old = pmap.take_away(ppn, PageState.UNTOUCHED)
        # What stood in the frame is overwritten, as the next owner would.
        self.memory.write(old << PAGE_SHIFT, b"\xf4" * PAGE_BYTES)
        self.frames.leave(old)
        pmap.give(ppn, mpn, PageState.PRIVATE)

    def check(self) -> None:
        pmap, frames = self.pmap, self.frames
        users: dict[int, int] = {}
        for ppn in range(pmap.pages):
            mpn = pmap.mpn_of[ppn]
            assert (mpn >= 0) == (pmap.state_of(ppn) in (PageState.PRIVATE, PageState.SHARED))
            if mpn >= 0:
                users[mpn] = users.get(mpn, 0) + 1
        for mpn in range(frames.frames):
            if frames.use[mpn] in (FrameUse.PRIVATE, FrameUse.SHARED):
                assert frames.sharers(mpn) == users.pop(mpn, 0)
        assert not users
