"""Who uses which machine frame: seven bytes a frame.

::

    mpn      0           1           2           3
          +-----------+-----------+-----------+-----------+
    use   | OVERHEAD  | PRIVATE   | SHARED    | FREE      |   1 byte
    owner |  vm 1     |  vm 2     |   0       |   0       |   2 bytes: whose; 0 is nobody's, or everybody's
    who   |   -       | ppn 3a0   | 14 pages  |   -       |   4 bytes: which page, or how many share it
          +-----------+-----------+-----------+-----------+

The arrays are what a picture of machine memory is drawn from.
"""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_SHIFT, Mpn
from vilab.errors import VmmBug
from vilab.machine.memory import FrameAllocator, MachineMemory
from vilab.memory.page_state import FrameUse

FREE, OVERHEAD, PRIVATE, SHARED = (int(use) for use in FrameUse)


class FrameTable:
    """Allocates frames and remembers for whom.

    Parameters
    ----------
    reserved_frames : frames that nobody gets: the vmkernel's own.
    """

    def __init__(self, memory: MachineMemory, reserved_frames: int = 0) -> None:
        self.memory = memory
        self.frames = memory.frames
        self._allocator = FrameAllocator(memory)
        # The same bytes twice: plain for the steps one at a time, as arrays for pictures and sums.
        self._use, self._owner = bytearray(self.frames), array("H", bytes(2 * self.frames))
        self._who = array("i", bytes(4 * self.frames))
        self.use: npt.NDArray[np.uint8] = np.frombuffer(self._use, np.uint8)
        self.owner: npt.NDArray[np.uint16] = np.frombuffer(self._owner, np.uint16)
        self.who: npt.NDArray[np.int32] = np.frombuffer(self._who, np.int32)
        if reserved_frames:
            first = self._allocator.allocate_run(reserved_frames)
            self.use[first : first + reserved_frames] = OVERHEAD

    @property
    def free_frames(self) -> int:
        return self._allocator.free_frames

    def take_private(self, owner: int, ppn: int, zeroed: bool = True) -> Mpn:
        """A frame for one page. Raises ``AdminError`` where there is none."""
        mpn = self._allocator.allocate(zeroed)
        self._use[mpn], self._owner[mpn], self._who[mpn] = PRIVATE, owner, ppn
        return mpn

    def take_many(self, owner: int, ppns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A frame for each of these pages, of which the caller writes every byte. Raises ``AdminError``: too few."""
        mpns = self._allocator.allocate_many(len(ppns))
        self.use[mpns], self.owner[mpns], self.who[mpns] = PRIVATE, owner, ppns
        return mpns

    def take_overhead(self, owner: int, count: int) -> range:
        """Adjacent frames for a monitor."""
        first = self._allocator.allocate_run(count)
        self.use[first : first + count], self.owner[first : first + count] = OVERHEAD, owner
        return range(first, first + count)

    def take_own(self) -> Mpn:
        """A frame for the vmkernel itself."""
        mpn = self._allocator.allocate(zeroed=False)
        self._use[mpn] = OVERHEAD
        return mpn

    def give_back_own(self, mpn: int) -> None:
        self._use[mpn] = FREE
        self._allocator.free(Mpn(mpn))

    def withdraw(self, first: int, count: int) -> None:
        """Hand out no more of these frames; what is on them is to go elsewhere."""
        self._allocator.withdraw(first, count)

    def vacate(self, mpn: int) -> None:
        """A withdrawn frame is empty now."""
        self._use[mpn] = FREE
        self._owner[mpn] = self._who[mpn] = 0

    def settle_overhead(self, owner: int, first: int, count: int) -> range:
        """Withdrawn frames, all empty, become a monitor's."""
        self.use[first : first + count], self.owner[first : first + count] = OVERHEAD, owner
        self.memory.bytes[first << PAGE_SHIFT : (first + count) << PAGE_SHIFT] = 0
        return range(first, first + count)

    def move_shared(self, old: int, new: int) -> None:
        """A withdrawn shared frame's pages are on a private one now, which becomes shared by as many."""
        self._use[new], self._owner[new], self._who[new] = SHARED, 0, self._who[old]
        self.vacate(old)

    def copy(self, old: int, new: int) -> None:
        """The content of a frame."""
        view = self.memory.view
        view[new << PAGE_SHIFT : (new + 1) << PAGE_SHIFT] = view[old << PAGE_SHIFT : (old + 1) << PAGE_SHIFT]

    def give_back_overhead(self, frames: range) -> None:
        self.use[frames.start : frames.stop], self.owner[frames.start : frames.stop] = FREE, 0
        self._allocator.free_run(Mpn(frames.start), len(frames))

    def make_shared(self, mpn: int) -> None:
        """The private frame becomes everybody's, with one page on it."""
        if self._use[mpn] != PRIVATE:
            raise VmmBug(f"Frame {mpn:#x} is to be shared, but it is {FrameUse(self._use[mpn]).name}.")
        self._use[mpn], self._owner[mpn], self._who[mpn] = SHARED, 0, 1

    def join(self, mpn: int) -> None:
        """One more page shares the frame."""
        if self._use[mpn] != SHARED:
            raise VmmBug(f"Frame {mpn:#x} is not shared: nobody can join.")
        self._who[mpn] += 1

    def make_private(self, mpn: int, owner: int, ppn: int) -> None:
        """The last page on a shared frame owns it again."""
        if self._use[mpn] != SHARED or self._who[mpn] != 1:
            raise VmmBug(f"Frame {mpn:#x} is to be one page's own, but {self.sharers(mpn)} share it.")
        self._use[mpn], self._owner[mpn], self._who[mpn] = PRIVATE, owner, ppn

    def leave(self, mpn: int) -> bool:
        """One page less on the frame, which is freed after the last one. True: it was the last."""
        if self._use[mpn] == SHARED and self._who[mpn] > 1:
            self._who[mpn] -= 1
            return False
        if self._use[mpn] not in (SHARED, PRIVATE):
            raise VmmBug(f"Frame {mpn:#x} is left, but it is {FrameUse(self._use[mpn]).name}.")
        self._use[mpn] = FREE
        self._owner[mpn] = self._who[mpn] = 0
        self._allocator.free(Mpn(mpn))
        return True

    def leave_private(self, mpns: npt.NDArray[np.int64]) -> None:
        """Nobody's any more: frames that one page each was on."""
        if (self.use[mpns] != PRIVATE).any():
            raise VmmBug(f"{len(mpns)} frames are left as private ones, and not all of them are.")
        self.use[mpns] = FREE
        self.owner[mpns] = self.who[mpns] = 0
        self._allocator.free_many(mpns)

    def sharers(self, mpn: int) -> int:
        """How many pages are on the frame."""
        return int(self._who[mpn]) if self._use[mpn] == SHARED else int(self._use[mpn] == PRIVATE)

    def size_bytes(self) -> int:
        """What this table itself takes."""
        return self.use.nbytes + self.owner.nbytes + self.who.nbytes
