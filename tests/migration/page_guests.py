"""A guest without a monitor, for tests of pages on their way: its content is known, its frames are where they like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Ppn
from vilab.machine.memory import MachineMemory
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.page_state import PageState


class Guest:
    """``pages`` pages on ``frames`` frames that are handed out in the order of ``order``; swapped pages are in
    ``swapped``."""

    def __init__(self, pages: int, order: list[int] | None = None) -> None:
        self.order = list(range(pages)) if order is None else list(order)
        self.memory = MachineMemory(len(self.order) * PAGE_BYTES)
        self.memory.bytes[:] = 0xEE  # what former owners left
        self.swapped: dict[int, bytes] = {}
        self.touched: list[int] = []
        self.popped: list[int] = []
        self.pmap = ManagedPmap(self.memory, 1, pages, self)

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        state = pmap.state_of(ppn)
        if state is PageState.SHARED:
            mpn = self.order.pop(0)
            self.memory.write(mpn << PAGE_SHIFT, pmap.page(ppn))
            pmap.move(ppn, mpn, PageState.PRIVATE)
            return
        if state is PageState.BALLOONED:
            self.popped.append(ppn)
        mpn = self.order.pop(0)
        self.memory.write(mpn << PAGE_SHIFT, self.swapped.pop(ppn, bytes(PAGE_BYTES)))
        pmap.give(ppn, mpn, PageState.PRIVATE)

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        return 0

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        self.touched.append(ppn)

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        return self.swapped[ppn] if pmap.state_of(ppn) is PageState.SWAPPED else bytes(PAGE_BYTES)

    def fill(self, ppn: int, content: bytes) -> None:
        """The page begins with this, and goes on with zeros."""
        self.pmap.write(ppn << PAGE_SHIFT, content.ljust(PAGE_BYTES, b"\0"))

    def swap_out(self, ppn: int) -> None:
        self.swapped[ppn] = self.pmap.page(ppn)
        self.order.append(self.pmap.take_away(ppn, PageState.SWAPPED))

    def balloon(self, ppn: int) -> None:
        self.release(self.pmap, Ppn(ppn), PageState.BALLOONED)

    def release(self, pmap: ManagedPmap, ppn: Ppn, state: PageState) -> None:
        """As ``MemoryManager`` does it, for pages that are not shared."""
        self.swapped.pop(ppn, None)
        if pmap.mpn_of[ppn] >= 0:
            self.order.append(pmap.take_away(ppn, state))
        else:
            pmap.mark(ppn, state)

    def share(self, one: int, other: int) -> None:
        """Two pages with the same content on one frame."""
        assert self.pmap.page(one) == self.pmap.page(other)
        self.pmap.share(one)
        self.order.append(self.pmap.move(other, self.pmap.mpn_of[one], PageState.SHARED))
