"""Machine memory: one array of bytes, divided into frames of 4 KB.

::

    mpa   0                                            size_bytes      0xFFFFFFFF
          | frame 0 | frame 1 | ...            | frame n-1 |   nothing: reads all ones
"""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Mpa, Mpn
from vilab.errors import AdminError, VmmBug

Bytes = npt.NDArray[np.uint8]


class MachineMemory:
    """The frames of one machine.

    Parameters
    ----------
    size_bytes : a multiple of 4096.
    """

    def __init__(self, size_bytes: int) -> None:
        if size_bytes <= 0 or size_bytes % PAGE_BYTES:
            raise AdminError(f"Machine memory of {size_bytes} bytes is not a whole number of 4 KB frames.")
        self.size_bytes = size_bytes
        self.frames = size_bytes >> PAGE_SHIFT
        # One frame more than needed, so that the part in use can begin on a page boundary of the host.
        raw = np.zeros(size_bytes + PAGE_BYTES, dtype=np.uint8)
        start = -raw.ctypes.data % PAGE_BYTES
        self._raw = raw
        self.bytes: Bytes = raw[start : start + size_bytes]
        self.view: memoryview = memoryview(self.bytes)  # type: ignore[arg-type]
        self.words: memoryview = self.view.cast("I")
        self.host_address: int = self.bytes.ctypes.data

    def read(self, mpa: int, size_bytes: int) -> bytes:
        return bytes(self.view[mpa : mpa + size_bytes])

    def write(self, mpa: int, data: bytes) -> None:
        self.view[mpa : mpa + len(data)] = data

    def frame(self, mpn: Mpn | int) -> Bytes:
        """The 4096 bytes of a frame, read-only."""
        page = self.bytes[mpn << PAGE_SHIFT : (mpn + 1) << PAGE_SHIFT]
        page.flags.writeable = False
        return page

    def zero_frame(self, mpn: Mpn | int) -> None:
        self.bytes[mpn << PAGE_SHIFT : (mpn + 1) << PAGE_SHIFT] = 0


class FrameAllocator:
    """Hands out frames, lowest first; a freed frame is the next to go."""

    def __init__(self, memory: MachineMemory) -> None:
        self._memory = memory
        self._next = 0
        self._freed = array("i")
        self._free_runs: list[range] = []
        self._is_free = bytearray(memory.frames)

    @property
    def free_frames(self) -> int:
        return self._memory.frames - self._next + len(self._freed) + sum(map(len, self._free_runs))

    @property
    def used_frames(self) -> int:
        """No frame at or above this has ever been handed out."""
        return self._next

    def allocate(self, zeroed: bool = True) -> Mpn:
        """One frame, of zeros unless the caller fills it.

        Raises
        ------
        AdminError : the machine has no frame left.
        """
        if self._freed:
            mpn = self._freed.pop()
        elif self._next < self._memory.frames:
            self._next += 1
            return Mpn(self._next - 1)
        elif self._free_runs:
            run = self._free_runs.pop()
            mpn = run[0]
            if len(run) > 1:
                self._free_runs.append(run[1:])
        else:
            raise AdminError(f"The machine's {self._memory.size_bytes >> 20} MB of memory are all in use.")
        self._is_free[mpn] = 0
        if zeroed:
            self._memory.zero_frame(mpn)
        return Mpn(mpn)

    def allocate_many(self, count: int) -> npt.NDArray[np.int64]:
        """As many frames as ``allocate`` would hand out one after the other, for a caller that fills them.

        Raises
        ------
        AdminError : there are not so many; none is taken.
        """
        if count > self.free_frames:
            raise AdminError(f"{count} frames were asked for, and the machine has {self.free_frames} left.")
        start = len(self._freed) - min(count, len(self._freed))
        freed = np.array(self._freed[start:], np.int64)[::-1]
        del self._freed[start:]
        np.frombuffer(self._is_free, np.uint8)[freed] = 0
        fresh = np.arange(self._next, min(self._next + count - len(freed), self._memory.frames))
        self._next += len(fresh)
        others = [self.allocate(zeroed=False) for _ in range(count - len(freed) - len(fresh))]
        return np.concatenate([freed, fresh, np.array(others, np.int64)])

    def allocate_run(self, count: int) -> Mpn:
        """The first of ``count`` adjacent zeroed frames."""
        for index, run in enumerate(self._free_runs):
            if len(run) >= count:
                first = run[0]
                self._free_runs[index : index + 1] = [run[count:]] if len(run) > count else []
                self._is_free[first : first + count] = bytes(count)
                self._memory.bytes[first << PAGE_SHIFT : (first + count) << PAGE_SHIFT] = 0
                return Mpn(first)
        if self._next + count > self._memory.frames:
            raise AdminError(
                f"The machine has {self.free_frames >> 8} MB of memory left; {count >> 8} MB in one piece are needed."
            )
        first = self._next
        self._next += count
        return Mpn(first)

    def free(self, mpn: Mpn) -> None:
        if mpn >= self._next or self._is_free[mpn]:
            raise VmmBug(f"Frame {mpn:#x} was freed twice or never allocated.")
        self._is_free[mpn] = 1
        self._freed.append(mpn)

    def free_many(self, mpns: npt.NDArray[np.int64]) -> None:
        """Different frames; the last one is the next to go."""
        is_free = np.frombuffer(self._is_free, np.uint8)
        if len(mpns) and (mpns.max() >= self._next or is_free[mpns].any() or _twice(mpns, len(is_free))):
            raise VmmBug(f"Of {len(mpns)} frames one was freed twice or never allocated.")
        is_free[mpns] = 1
        self._freed.frombytes(mpns.astype(np.int32).tobytes())

    def free_run(self, first: Mpn, count: int) -> None:
        """Give back adjacent frames; they may become a run again."""
        if first + count > self._next or any(self._is_free[first : first + count]):
            raise VmmBug(f"Frames {first:#x} to {first + count - 1:#x} were freed twice or never allocated.")
        self._is_free[first : first + count] = b"\1" * count
        if count:
            self._free_runs.append(range(first, first + count))

    def withdraw(self, first: int, count: int) -> None:
        """Those of these frames that are free are handed out no more: somebody clears the place."""
        end = first + count
        if end > self._next:
            new = range(self._next, max(first, self._next))
            if new:
                self._is_free[new.start : new.stop] = b"\1" * len(new)
                self._free_runs.append(new)
            self._next = end
        self._freed = array("i", (mpn for mpn in self._freed if not first <= mpn < end))
        runs = [part for run in self._free_runs for part in (range(run.start, min(run.stop, first)),
                                                             range(max(run.start, end), run.stop)) if part]  # fmt: skip
        self._free_runs = runs
        self._is_free[first:end] = bytes(count)

    def mpa(self, mpn: Mpn) -> Mpa:
        return Mpa(mpn << PAGE_SHIFT)


def _twice(mpns: npt.NDArray[np.int64], frames: int) -> bool:
    """One of these is there more than once."""
    seen = np.zeros(frames, np.bool_)
    seen[mpns] = True
    return int(np.count_nonzero(seen)) < len(mpns)
