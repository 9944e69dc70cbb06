"""The pmap: a guest's physical pages and the machine frames behind them.

::

    ppn     0      1      2      3   ...
          +------+------+------+------+
    mpn   | 0012 | 0013 | 0a40 |  --  |     -- : nothing behind it (a hole, or a device's registers)
          +------+------+------+------+

Whoever keeps copies of these mappings (shadow or nested tables, translations of code) listens, and hears *before* a
mapping becomes less than it was; the pmap knows none of them. Waldspurger 2002, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_OFFSET_MASK, PAGE_SHIFT, Mpn, Ppn
from vilab.machine.memory import MachineMemory

Frames = npt.NDArray[np.int64]
"""Machine page numbers."""
NO_FRAMES: Frames = np.zeros(0, np.int64)


class PmapListener(Protocol):
    """Keeps copies of mappings and is told when they go stale."""

    def page_unmapped(self, ppn: Ppn) -> None:
        """The frame behind the page is about to change or go."""
        ...

    def page_write_protected(self, ppn: Ppn) -> None:
        """The next write has to ask again."""
        ...

    def all_write_protected(self) -> None:
        """The same for every page of the guest."""
        ...

    def harvest(self) -> Frames:
        """Take the Dirty bits: the machine frames that were written through these mappings since the last time."""
        ...

    def stop_harvest(self) -> None:
        """Nobody asks for them any more."""
        ...

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """Somebody other than the guest's processor (DMA, the host) has written there."""
        ...

    def page_watched(self, ppn: Ppn) -> None:
        """The next access of any kind has to ask again; what is there stays there."""
        ...


class Pmap:
    """One guest's pages.

    Parameters
    ----------
    memory : the machine's.
    frames : ``frames[ppn]`` is the machine frame of page ``ppn``.
    """

    all_writable = True
    """No page is shared: what may be read may be written."""

    def __init__(self, memory: MachineMemory, frames: Sequence[int]) -> None:
        self.memory = memory
        self.mpn_of: MutableSequence[int] = list(frames)
        self.pages = len(self.mpn_of)
        self.size_bytes = self.pages << PAGE_SHIFT
        self.listeners: list[PmapListener] = []
        self._high: dict[int, int] = {}
        self.on_wait: Callable[[int], None] | None = None
        """Called with the nanoseconds that a page took to get."""
        self.device_reads = False
        """A device is reading at this moment, not the processor."""

    def map_high(self, ppn: int, mpn: int) -> None:
        """A frame beyond the end of memory: a ROM's. MODEL: it can be written."""
        self._high[ppn] = mpn

    def resolve(self, ppn: int, for_write: bool) -> Mpn | None:
        """The frame behind a page, made ready for that kind of access; ``None`` where there is no memory."""
        if ppn >= self.pages:
            high = self._high.get(ppn)
            return None if high is None else Mpn(high)
        return Mpn(self.mpn_of[ppn])

    def note_written(self, ppn: int) -> None:
        """A page was written through a mapping that is about to go. Here nobody asks."""

    def frame(self, ppn: int) -> Mpn | None:
        """The frame that is behind a page at this moment, without asking for one."""
        return Mpn(self.mpn_of[ppn]) if 0 <= ppn < self.pages else self.resolve(ppn, False)

    def mappable(self, ppn: int) -> Mpn | None:
        """The frame that a mapping made unasked may lead to; ``None`` where the first access has to ask."""
        return self.frame(ppn)

    def writable(self, ppn: int) -> bool:
        """May a mapping of the frame that is behind a page allow writes?"""
        return True

    def writable_frames(self, first_ppn: int, count: int) -> npt.NDArray[np.bool_]:
        """The same for up to ``count`` pages."""
        return np.ones(max(0, min(count, self.pages - first_ppn)), np.bool_)

    def content(self) -> bytes:
        """All of the guest's memory, in order."""
        return self.read(0, self.size_bytes)

    def restore(self, content: bytes) -> None:
        """Become these bytes."""
        self.write(0, content)

    def frames(self, first_ppn: int, count: int) -> npt.NDArray[np.int64]:
        """The frames behind up to ``count`` pages at this moment, -1 for none; fewer where memory ends."""
        return np.array(self.mpn_of[first_ppn : first_ppn + count], dtype=np.int64)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        """Guest physical memory; all ones where there is none."""
        offset = gpa & PAGE_OFFSET_MASK
        if offset + size_bytes <= PAGE_BYTES:
            mpn = self.resolve(gpa >> PAGE_SHIFT, False)
            if mpn is None:
                return b"\xff" * size_bytes
            start = (mpn << PAGE_SHIFT) + offset
            return bytes(self.memory.view[start : start + size_bytes])
        first = PAGE_BYTES - offset
        return self.read(gpa, first) + b"".join(
            self.read(gpa + at, min(PAGE_BYTES, size_bytes - at)) for at in range(first, size_bytes, PAGE_BYTES)
        )

    def write(self, gpa: int, data: bytes) -> None:
        """Write as the host does; listeners hear of it. Writes to where there is no memory are lost."""
        at = 0
        while at < len(data):
            address = gpa + at
            offset = address & PAGE_OFFSET_MASK
            part = data[at : at + PAGE_BYTES - offset]
            mpn = self.resolve(address >> PAGE_SHIFT, True)
            if mpn is not None:
                self.memory.write((mpn << PAGE_SHIFT) + offset, part)
                for listener in self.listeners:
                    listener.page_content_changed(Ppn(address >> PAGE_SHIFT), offset, len(part))
            at += len(part)

    def read_u32(self, gpa: int) -> int:
        """An aligned dword; all ones where there is no memory."""
        ppn = gpa >> PAGE_SHIFT
        if ppn >= self.pages:
            return 0xFFFFFFFF
        return self.memory.words[self.mpn_of[ppn] << 10 | (gpa & PAGE_OFFSET_MASK) >> 2]

    def look_u32(self, gpa: int) -> int:
        """The same, and nothing changes by it: for views, and for who only checks."""
        return self.read_u32(gpa)

    def look(self, gpa: int, size_bytes: int) -> bytes:
        """Guest physical memory, and nothing changes by it."""
        return self.read(gpa, size_bytes)

    def write_u32(self, gpa: int, value: int) -> None:
        """An aligned dword, without telling anybody: for Accessed and Dirty bits, which the processor sets itself."""
        ppn = gpa >> PAGE_SHIFT
        if ppn < self.pages:
            self.memory.words[self.mpn_of[ppn] << 10 | (gpa & PAGE_OFFSET_MASK) >> 2] = value
