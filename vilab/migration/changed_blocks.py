"""Which parts of a disk were written since: a bit a grain, and the runs that are to be copied.

::

    guest writes   ......##..........#.......      offset, size in bytes
    grains         | 0 | 1 | 2 | 3 | 4 | 5 |       64 KB each
    bits             0   1   0   0   1   0         set before the write, cleared before the copy is read

A grain that is written and copied in the same round is not copied again: its bit goes when it is read, and comes back
only with a later write. So the round after this one has to copy what was written *behind* the copier, no more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

GRAIN_BYTES = 64 << 10


class ChangedBlocks:
    """Of one disk.

    Parameters
    ----------
    size_bytes : the disk's.
    grain_bytes : what one bit stands for.
    """

    def __init__(self, size_bytes: int, grain_bytes: int = GRAIN_BYTES) -> None:
        self.size_bytes, self.grain_bytes = size_bytes, grain_bytes
        self.bits: npt.NDArray[np.bool_] = np.zeros(-(-size_bytes // grain_bytes), np.bool_)

    def mark(self, offset_bytes: int, size_bytes: int) -> None:
        """Something is about to be written there."""
        if size_bytes > 0:
            first, last = offset_bytes // self.grain_bytes, (offset_bytes + size_bytes - 1) // self.grain_bytes
            self.bits[max(0, first) : last + 1] = True

    def clear(self, offset_bytes: int, size_bytes: int) -> None:
        """These whole grains are about to be read."""
        first, end = offset_bytes // self.grain_bytes, -(-(offset_bytes + size_bytes) // self.grain_bytes)
        self.bits[first:end] = False

    def __contains__(self, offset_bytes: int) -> bool:
        return bool(self.bits[offset_bytes // self.grain_bytes])

    @property
    def grains(self) -> int:
        return int(np.count_nonzero(self.bits))

    @property
    def changed_bytes(self) -> int:
        """As much as has to be copied; the last grain may be shorter than the others."""
        tail = -self.size_bytes % self.grain_bytes if len(self.bits) and self.bits[-1] else 0
        return self.grains * self.grain_bytes - tail

    def runs(self, most_bytes: int) -> Iterator[tuple[int, int]]:
        """(offset, size) of what is marked now, in order, at most so many bytes (a grain at least) at a time.

        Marks that come or go meanwhile do not matter to it.
        """
        edges = np.flatnonzero(np.diff(np.concatenate(([False], self.bits, [False])).astype(np.int8))).tolist()
        step = max(1, most_bytes // self.grain_bytes)
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            for first in range(low, high, step):
                offset, end = first * self.grain_bytes, min(high, first + step) * self.grain_bytes
                yield offset, min(end, self.size_bytes) - offset
