"""A disk that takes time: requests wait, are served, complete on the virtual clock, and can be withdrawn.

::

    submit --> | waiting, first come first served | --> lane 0 ──┐
                        │                               lane 1 ──┤ latency.duration_ns  --> the disk does it --> on_done
                        └── cancel: never happens       ...    ──┘ cancel: never happens

    flush: begins when everything before it has completed; what comes after it waits until it has.

The disk is touched at the moment of completion and at no other, so that a request which was withdrawn has not
happened at all. Whoever submits keeps its requests in its own state record and submits them again after a restore.
A disk that is *away* (its server does not answer) is asked again every second: the request waits, and whoever has
submitted it decides for how long.

MODEL: a request costs a positioning time (none if it begins where the one before ended) and a time a byte; caches and
rotation are not modelled. With several lanes, requests of one queue may overtake each other, as simple SCSI tags may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.errors import VmmBug
from vilab.events import EventLog
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.block import BlockError, check_range
from vilab.storage.disk_statistics import DiskStatistics, Ending, Operation
from vilab.storage.storage_events import DiskRequestDone

AWAY_RETRY_NS = 1_000_000_000
"""Between two attempts at a disk that is away."""

Status = Literal["waiting", "served", "done", "failed", "cancelled"]


class Latency(msgspec.Struct, frozen=True):
    """What a request costs. The defaults are a 15,000 rpm disk of the time: 3.5 ms seek, 2 ms half a turn, 80 MB/s."""

    position_ns: int = 5_500_000
    sequential_ns: int = 100_000
    flush_ns: int = 2_000_000
    ns_per_kilobyte: int = 12_800
    lanes: int = 1

    def duration_ns(self, operation: Operation, size_bytes: int, sequential: bool) -> int:
        if operation == "flush":
            return self.flush_ns
        first = self.sequential_ns if sequential else self.position_ns
        return first + (0 if operation == "unmap" else size_bytes * self.ns_per_kilobyte // 1024)


class DiskRequest:
    """One request. ``data`` is what a read has brought; ``error`` why it failed."""

    __slots__ = (
        "begun_ns", "data", "error", "offset_bytes", "on_done", "operation", "size_bytes", "status", "submitted_ns",
        "timer",
    )  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        offset_bytes: int,
        size_bytes: int,
        data: bytes,
        on_done: Callable[[DiskRequest], None],
    ) -> None:
        self.operation, self.offset_bytes, self.size_bytes = operation, offset_bytes, size_bytes
        self.data, self.on_done = data, on_done
        self.status: Status = "waiting"
        self.error: BlockError | None = None
        self.submitted_ns = self.begun_ns = 0
        self.timer: Timer | None = None


class TimedDisk:
    """A disk on the virtual clock."""

    def __init__(
        self, device: BlockDevice, clock: VirtualClock, latency: Latency | None = None, log: EventLog | None = None,
        name: str = "disk",
    ) -> None:  # fmt: skip
        self.device, self.clock, self.log, self.name = device, clock, log, name
        self.latency = latency or Latency()
        self.statistics = DiskStatistics()
        self._waiting: deque[DiskRequest] = deque()
        self._served: list[DiskRequest] = []
        self._arm_bytes = -1

    def outstanding(self) -> int:
        return len(self._waiting) + len(self._served)

    def read(self, offset_bytes: int, size_bytes: int, on_done: Callable[[DiskRequest], None]) -> DiskRequest:
        return self._submit(DiskRequest("read", offset_bytes, size_bytes, b"", on_done))

    def write(self, offset_bytes: int, data: ReadableBytes, on_done: Callable[[DiskRequest], None]) -> DiskRequest:
        kept = bytes(data)
        return self._submit(DiskRequest("write", offset_bytes, len(kept), kept, on_done))

    def flush(self, on_done: Callable[[DiskRequest], None]) -> DiskRequest:
        return self._submit(DiskRequest("flush", 0, 0, b"", on_done))

    def unmap(self, offset_bytes: int, size_bytes: int, on_done: Callable[[DiskRequest], None]) -> DiskRequest:
        return self._submit(DiskRequest("unmap", offset_bytes, size_bytes, b"", on_done))

    def cancel(self, request: DiskRequest) -> bool:
        """Withdraw a request: it does not happen and ``on_done`` is not called. False if it has completed already."""
        if request.status == "waiting":
            self._waiting.remove(request)
        elif request.status == "served":
            assert request.timer is not None
            request.timer.cancel()
            self._served.remove(request)
        else:
            return False
        self._withdrawn(request)
        self._begin()
        return True

    def cancel_all(self) -> int:
        """A reset: withdraw everything; how many requests that were."""
        waiting = [*self._waiting, *self._served]
        self._waiting.clear()
        for request in waiting:
            if request.status == "waiting":
                self._withdrawn(request)
            else:
                self.cancel(request)
        return len(waiting)

    def _withdrawn(self, request: DiskRequest) -> None:
        if request.status == "waiting":
            request.begun_ns = self.clock.now_ns
        request.status = "cancelled"
        self._account(request, "cancelled")

    def _account(self, request: DiskRequest, how: Ending) -> None:
        self.statistics.ended(
            request.operation, request.size_bytes, request.submitted_ns, request.begun_ns, self.clock.now_ns, how
        )

    def _submit(self, request: DiskRequest) -> DiskRequest:
        check_range(self.device, request.offset_bytes, request.size_bytes)
        request.submitted_ns = self.clock.now_ns
        self._waiting.append(request)
        self.statistics.queued(self.outstanding())
        self._begin()
        return request

    def _begin(self) -> None:
        """Give free lanes something to do."""
        while self._waiting and len(self._served) < self.latency.lanes:
            if self._served and (self._waiting[0].operation == "flush" or self._served[0].operation == "flush"):
                return
            request = self._waiting.popleft()
            sequential = request.offset_bytes == self._arm_bytes
            duration_ns = self.latency.duration_ns(request.operation, request.size_bytes, sequential)
            if request.operation != "flush":
                self._arm_bytes = request.offset_bytes + request.size_bytes
            request.status, request.begun_ns = "served", self.clock.now_ns
            self._served.append(request)
            request.timer = self.clock.at(self.clock.now_ns + duration_ns, lambda served=request: self._finish(served))  # type: ignore[misc]

    def _finish(self, request: DiskRequest) -> None:
        if request not in self._served:
            raise VmmBug(f"{self.name} completes a request that it does not serve.")
        device = self.device
        try:
            if request.operation == "read":
                request.data = device.read(request.offset_bytes, request.size_bytes)
            elif request.operation == "write":
                device.write(request.offset_bytes, request.data)
            elif request.operation == "flush":
                device.flush()
            else:
                device.unmap(request.offset_bytes, request.size_bytes)
            request.status = "done"
        except BlockError as error:
            if error.kind == "away":
                again_ns = self.clock.now_ns + AWAY_RETRY_NS
                request.timer = self.clock.at(again_ns, lambda: self._finish(request))
                return
            request.status, request.error = "failed", error
        self._served.remove(request)
        self._count(request)
        self._begin()
        request.on_done(request)

    def _count(self, request: DiskRequest) -> None:
        now_ns = self.clock.now_ns
        took_ns = now_ns - request.submitted_ns
        self._account(request, "failed" if request.status == "failed" else "done")
        if self.log is not None and self.log.active:
            error = "" if request.error is None else str(request.error)
            self.log.emit(
                DiskRequestDone(
                    now_ns, self.name, request.operation, request.offset_bytes, request.size_bytes, took_ns, error
                )
            )
