"""What one disk has done: counted by whoever puts its requests on the clock, drawn by ``vilab/view/disk_statistics``.

::

    submitted_ns      begun_ns                now_ns
       |--- waits ------|======= served ========|         latency: both; busy: only what is served
                                                └── done, failed, or cancelled on the way

``TimedDisk`` and the parallel SCSI bus keep the same record, so a figure means the same wherever it is drawn.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Operation = Literal["read", "write", "flush", "unmap"]
OPERATIONS: tuple[Operation, ...] = ("read", "write", "flush", "unmap")
Ending = Literal["done", "failed", "cancelled"]
BINS = 32


class OperationCounts(msgspec.Struct):
    """Requests of one kind that have completed."""

    requests: int = 0
    bytes: int = 0
    failed: int = 0
    cancelled: int = 0
    latency_ns: int = 0
    """Sum over the requests, from submission to completion."""
    longest_ns: int = 0


class DiskStatistics(msgspec.Struct):
    """What a view draws of one disk."""

    read: OperationCounts = msgspec.field(default_factory=OperationCounts)
    write: OperationCounts = msgspec.field(default_factory=OperationCounts)
    flush: OperationCounts = msgspec.field(default_factory=OperationCounts)
    unmap: OperationCounts = msgspec.field(default_factory=OperationCounts)
    deepest_queue: int = 0
    busy_ns: int = 0
    """Sum over the lanes of the time in which they served."""
    waited_ns: int = 0
    """Sum over the requests of the time before they were served."""
    latency_histogram: list[int] = msgspec.field(default_factory=lambda: [0] * BINS)
    """Entry n: requests that took at least 2**n and less than 2**(n+1) microseconds; 0 also holds the shorter ones."""

    def of(self, operation: Operation) -> OperationCounts:
        counts: OperationCounts = getattr(self, operation)
        return counts

    def queued(self, outstanding: int) -> None:
        """One more is under way: so many are now."""
        self.deepest_queue = max(self.deepest_queue, outstanding)

    def ended(
        self, operation: Operation, size_bytes: int, submitted_ns: int, begun_ns: int, now_ns: int, how: Ending
    ) -> None:
        """A request is over. ``begun_ns`` not before ``now_ns``: it was withdrawn while it was waiting."""
        self.busy_ns += max(0, now_ns - begun_ns)
        self.waited_ns += min(begun_ns, now_ns) - submitted_ns
        counts, took_ns = self.of(operation), now_ns - submitted_ns
        if how == "failed":
            counts.failed += 1
        elif how == "cancelled":
            counts.cancelled += 1
        else:
            counts.requests += 1
            counts.bytes += size_bytes
            counts.latency_ns += took_ns
            counts.longest_ns = max(counts.longest_ns, took_ns)
            self.latency_histogram[min(BINS - 1, max(1, took_ns // 1000).bit_length() - 1)] += 1

    @property
    def requests(self) -> int:
        """All that have completed."""
        return sum(self.of(operation).requests for operation in OPERATIONS)

    @property
    def latency_ns(self) -> int:
        """Sum over those."""
        return sum(self.of(operation).latency_ns for operation in OPERATIONS)

    def copy(self) -> DiskStatistics:
        """As it is now."""
        return msgspec.convert(msgspec.to_builtins(self), DiskStatistics)
