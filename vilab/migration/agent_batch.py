"""What waits for a socket: the buffers of one call, as they were given, and how far they have left.

::

    parts   │ header │ page │ page │ page │ page │ tag │
    ends          32   4128   8224  12320  16416  16800        running sums: where the next byte is, is looked up
                                 ^ sent_bytes
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from vilab.protocols import ReadableBytes


class Batch:
    """Buffers that were sent in one call, and how far they have left."""

    def __init__(self, buffers: Iterable[ReadableBytes]) -> None:
        self.parts = [part for part in [memoryview(buffer) for buffer in buffers] if part.nbytes]
        self.ends = list(accumulate([part.nbytes for part in self.parts]))
        self.sent_bytes = 0

    @property
    def left_bytes(self) -> int:
        return self.ends[-1] - self.sent_bytes if self.ends else 0

    def next(self, most: int) -> list[memoryview]:
        """The next parts."""
        at = bisect_right(self.ends, self.sent_bytes)
        parts = self.parts[at : at + most]
        began = self.ends[at] - parts[0].nbytes
        if self.sent_bytes > began:
            parts[0] = parts[0].cast("B")[self.sent_bytes - began :]
        return parts

    def settle(self) -> None:
        """What is left is ours from now on."""
        at = bisect_right(self.ends, self.sent_bytes)
        if any(not isinstance(part.obj, bytes) for part in self.parts[at:]):
            rest = memoryview(b"".join(self.next(len(self.parts))))
            self.parts, self.ends, self.sent_bytes = [rest], [rest.nbytes], 0
