"""Requests on the virtual clock: order, duration, withdrawal, counting."""

from __future__ import annotations

import pytest

from vilab.clock import VirtualClock
from vilab.errors import VmmBug
from vilab.events import EventLog
from vilab.storage.block import BlockError, MemoryDisk
from vilab.storage.storage_events import DiskRequestDone
from vilab.storage.timed import DiskRequest, Latency, TimedDisk

SLOW = Latency(position_ns=1000, sequential_ns=10, flush_ns=500, ns_per_kilobyte=1024)


class Desk:
    """A disk, its clock and what has completed when."""

    def __init__(self, latency: Latency = SLOW, read_only: bool = False) -> None:
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        self.content = MemoryDisk(64 << 10, read_only)
        self.disk = TimedDisk(self.content, self.clock, latency, self.log)
        self.done: list[tuple[int, DiskRequest]] = []

    def heard(self, request: DiskRequest) -> None:
        self.done.append((self.clock.now_ns, request))

    def run(self) -> None:
        while self.clock.skip_to_next():
            self.clock.run_due()


def test_a_request_takes_its_position_and_its_bytes_and_a_following_one_no_position():
    desk = Desk()
    desk.disk.write(512, b"a" * 512, desk.heard)
    desk.disk.read(1024, 1024, desk.heard)
    assert not any(desk.content.content), "nothing happens before completion"
    desk.run()
    assert [at for at, _ in desk.done] == [1512, 1512 + 10 + 1024]
    assert desk.content.read(512, 512) == b"a" * 512
    statistics = desk.disk.statistics
    assert (statistics.write.requests, statistics.read.bytes, statistics.deepest_queue) == (1, 1024, 2)
    assert statistics.read.latency_ns == 2546
    assert (statistics.busy_ns, statistics.waited_ns) == (2546, 1512)
    assert (statistics.requests, statistics.latency_ns) == (2, 2546 + 1512)
    assert [event.took_ns for event in desk.log.of(DiskRequestDone)] == [1512, 2546]


def test_lanes_serve_together_but_nothing_passes_a_flush():
    desk = Desk(Latency(position_ns=1000, sequential_ns=1000, flush_ns=500, ns_per_kilobyte=0, lanes=4))
    for offset in (0, 4096, 8192):
        desk.disk.write(offset, b"x" * 512, desk.heard)
    desk.disk.flush(desk.heard)
    desk.disk.read(0, 512, desk.heard)
    desk.run()
    assert [(at, request.operation) for at, request in desk.done] == [
        (1000, "write"), (1000, "write"), (1000, "write"), (1500, "flush"), (2500, "read"),
    ]  # fmt: skip
    assert desk.done[-1][1].data == b"x" * 512


@pytest.mark.parametrize("served", [True, False])
def test_a_withdrawn_request_has_not_happened_and_the_next_one_is_served(served: bool):
    desk = Desk()
    first = desk.disk.write(0, b"1" * 512, desk.heard)
    second = desk.disk.write(512, b"2" * 512, desk.heard)
    withdrawn, kept = (first, second) if served else (second, first)
    assert desk.disk.cancel(withdrawn)
    desk.run()
    assert [request for _, request in desk.done] == [kept]
    assert desk.content.read(withdrawn.offset_bytes, 512) == bytes(512)
    assert desk.disk.statistics.write.cancelled == 1
    assert not desk.disk.cancel(kept), "it has completed"


def test_a_reset_withdraws_everything():
    desk = Desk()
    for sector in range(5):
        desk.disk.write(sector * 512, b"w" * 512, desk.heard)
    assert desk.disk.cancel_all() == 5
    desk.run()
    assert desk.done == []
    assert desk.disk.outstanding() == 0
    assert not any(desk.content.content)


def test_a_disk_that_refuses_fails_the_request_and_goes_on():
    desk = Desk(read_only=True)
    desk.disk.write(0, b"w" * 512, desk.heard)
    desk.disk.read(0, 512, desk.heard)
    desk.run()
    failed, read = (request for _, request in desk.done)
    assert (failed.status, read.status) == ("failed", "done")
    assert failed.error is not None
    assert failed.error.kind == "read_only"
    assert desk.disk.statistics.write.failed == 1


def test_a_request_that_leaves_the_disk_is_a_defect_of_who_asks():
    desk = Desk()
    for offset, size in ((64 << 10, 512), (-512, 512), (1, 512), (0, 100)):
        with pytest.raises(VmmBug):
            desk.disk.read(offset, size, desk.heard)


def test_a_request_to_a_disk_that_is_away_waits_until_it_is_back_or_the_request_is_withdrawn(monkeypatch):
    desk = Desk()
    back_ns = 3_000_000_000

    def away(offset_bytes: int, size_bytes: int) -> bytes:
        if desk.clock.now_ns < back_ns:
            raise BlockError("away", "The file server does not answer.")
        return bytes(size_bytes)

    monkeypatch.setattr(desk.content, "read", away)
    desk.disk.read(0, 512, desk.heard)
    desk.disk.write(512, b"x" * 512, desk.heard)
    desk.run()
    assert [(at >= back_ns, request.status) for at, request in desk.done] == [(True, "done"), (True, "done")]
    assert desk.disk.statistics.read.longest_ns == desk.done[0][0] < back_ns + 1_000_000_000
    back_ns = 1 << 60
    waiting = desk.disk.read(0, 512, desk.heard)
    for _ in range(5):
        desk.clock.skip_to_next()
        desk.clock.run_due()
    assert waiting.status == "served"
    assert desk.disk.cancel(waiting)
    desk.run()
    assert len(desk.done) == 2
