"""Disks on a parallel bus: who is there, how long a command takes, and that nothing happens before its time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.block import MemoryDisk
from vilab.storage.disk_statistics import DiskStatistics
from vilab.storage.scsi.parallel import ELECTRONICS_NS, ParallelBus, movement
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.state import Identity
from vilab.storage.timed import Latency, TimedDisk

LATENCY = Latency(position_ns=1000, sequential_ns=10, flush_ns=500, ns_per_kilobyte=1024)
READ = bytes.fromhex("28000000000a00000100")
INQUIRY = bytes.fromhex("120000006000")
FLUSH = bytes.fromhex("35000000000000000000")


def make(latency: Latency = LATENCY, targets: tuple[int, ...] = (0, 3)) -> tuple[ParallelBus, VirtualClock]:
    clock = VirtualClock()
    disks = {target: (MemoryDisk(1 << 20), Identity(f"disk{target}")) for target in targets}
    bus = ParallelBus(disks, clock, EventLog(), latency)
    for target in targets:
        bus.begin(target, 0, 99, bytes(6))
        bus.finish(target, 99, b"")  # the unit attention
    return bus, clock


def test_a_command_takes_the_time_of_its_disk_and_those_behind_it_wait() -> None:
    bus, _ = make()
    assert bus.begin(0, 0, 1, READ) == (0, 1512)
    assert bus.begin(0, 0, 2, READ) == (0, 1512 + 1512)  # back to where it came from
    assert bus.begin(0, 0, 3, READ[:5] + b"\x0b" + READ[6:]) == (0, 3024 + 10 + 512)  # sequential
    assert bus.begin(0, 0, 4, FLUSH) == (0, 3546 + 500)
    assert bus.begin(3, 0, 5, READ) == (0, 1512)
    assert bus.begin(0, 0, 6, INQUIRY) == (0, ELECTRONICS_NS)


def test_lanes_serve_at_the_same_time_and_a_flush_waits_for_all() -> None:
    bus, _ = make(Latency(position_ns=1000, sequential_ns=10, flush_ns=500, ns_per_kilobyte=1024, lanes=2))
    assert [bus.begin(0, 0, tag, READ)[1] for tag in (1, 2, 3)] == [1512, 1512, 3024]
    assert bus.begin(0, 0, 4, FLUSH)[1] == 3524
    assert bus.begin(0, 0, 5, READ)[1] == 3524 + 1512


def test_a_withdrawn_command_is_nobodys_any_more() -> None:
    bus, _ = make()
    bus.begin(0, 0, 1, READ)
    assert bus.abort(0, 1)
    assert not bus.abort(0, 1)
    assert not bus.abort(9, 1)
    assert bus.finish(0, 1, b"") is None


def test_inquiry_is_that_of_a_wide_synchronous_scsi_2_disk() -> None:
    bus, _ = make()
    bus.begin(0, 0, 1, INQUIRY)
    answer = bus.finish(0, 1, b"")
    assert answer is not None
    assert (answer.data_in[2], answer.data_in[7] & 0x32, answer.data_in[56]) == (2, 0x32, 0x0F)
    assert answer.data_in[8:32] == b"VMware  Virtual disk    "
    for cdb in (INQUIRY[:4] + b"\x05\x00", b"\x12\x01\x83\x00\xff\x00"):  # too short for it; a page
        bus.begin(0, 0, 1, cdb)
        answer = bus.finish(0, 1, b"")
        assert answer is not None
        assert answer.data_in[1:2] in (b"\x00", b"\x83")


def test_its_state_goes_to_bytes_and_back_and_other_disks_are_refused() -> None:
    bus, clock = make()
    bus.begin(0, 0, 1, READ)
    bus.begin(3, 0, 2, READ)
    saved = bus.save_state()
    other, other_clock = make()
    other_clock.now_ns = clock.now_ns
    other.load_state(saved)
    assert other.save_state() == saved
    assert other.begin(0, 0, 3, READ) == bus.begin(0, 0, 3, READ)
    assert other.finish(3, 2, b"") is not None
    with pytest.raises(AdminError, match="attach the same disks"):
        make(targets=(0,))[0].load_state(saved)
    with pytest.raises(AdminError, match="cannot be read"):
        other.load_state(saved[:-3])
    with pytest.raises(AdminError, match="another number of requests"):
        make(Latency(lanes=2))[0].load_state(saved)


@pytest.mark.parametrize("number", [-1, 7, 16])
def test_only_free_numbers_are_given(number: int) -> None:
    with pytest.raises(AdminError, match="SCSI id"):
        ParallelBus({number: (MemoryDisk(512), Identity("d"))}, VirtualClock(), EventLog())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=16))
def test_any_cdb_takes_a_bounded_time(cdb: bytes) -> None:
    bus, clock = make()
    wanted, due_ns = bus.begin(0, 0, 1, cdb)
    assert clock.now_ns < due_ns < 1 << 40
    assert 0 <= wanted <= 1 << 26
    moved = movement(cdb)
    assert moved is None or moved.size_bytes <= 32 << 20
    assert bus.finish(0, 1, bytes(min(wanted, 1 << 20))) is not None


def served(bus: ParallelBus, clock: VirtualClock, target: int, tag: int, cdb: bytes, data: bytes = b"") -> Response:
    _, due_ns = bus.begin(target, 0, tag, cdb)
    clock.now_ns = due_ns
    answer = bus.finish(target, tag, data)
    assert isinstance(answer, Response)
    return answer


def test_each_disk_counts_what_its_arm_does() -> None:
    bus, clock = make()
    write = bytes.fromhex("2a000000000100000200")
    served(bus, clock, 0, 1, write, b"w" * 1024)
    served(bus, clock, 0, 2, READ)
    served(bus, clock, 0, 3, INQUIRY)
    served(bus, clock, 0, 4, FLUSH)
    counted = bus.statistics[0]
    assert (counted.write.requests, counted.write.bytes, counted.write.latency_ns) == (1, 1024, 2024)
    assert (counted.read.requests, counted.read.bytes, counted.flush.requests) == (1, 512, 1)
    assert counted.busy_ns == 2024 + 1512 + 500
    assert (counted.deepest_queue, sum(counted.latency_histogram)) == (1, 3)
    assert bus.statistics[3] == DiskStatistics()


def test_counting_begins_anew_and_what_is_under_way_is_counted_still() -> None:
    bus, clock = make()
    served(bus, clock, 0, 1, READ)
    bus.begin(0, 0, 2, READ)
    bus.restart_statistics()
    assert bus.statistics[0] == DiskStatistics()
    clock.now_ns += 1512
    bus.finish(0, 2, b"")
    assert (bus.statistics[0].requests, bus.statistics[0].busy_ns) == (1, 1512)


def test_what_failed_or_was_withdrawn_is_counted_as_that() -> None:
    bus, clock = make()
    outside = bytes.fromhex("2800000fffff00000100")
    assert served(bus, clock, 0, 1, outside).status
    bus.begin(0, 0, 2, READ)
    bus.begin(0, 0, 3, READ)
    clock.now_ns += 100
    bus.abort(0, 3)
    clock.now_ns += 100
    bus.reset()
    counted = bus.statistics[0]
    assert (counted.read.failed, counted.read.cancelled, counted.read.requests, counted.deepest_queue) == (1, 2, 0, 2)
    assert (counted.busy_ns, counted.waited_ns) == (1512 + 200, 100)
    assert bus.finish(0, 2, b"") is None
    assert counted.read.cancelled == 2


@given(
    st.lists(st.tuples(st.sampled_from(["read", "write", "flush"]), st.integers(0, 40), st.integers(0, 4000))),
    st.integers(1, 3),
)
def test_the_bus_and_a_timed_disk_count_the_same(requests: list[tuple[str, int, int]], lanes: int) -> None:
    latency = Latency(position_ns=1000, sequential_ns=10, flush_ns=500, ns_per_kilobyte=1024, lanes=lanes)
    bus, clock = make(latency)
    timed = TimedDisk(MemoryDisk(1 << 20), clock, latency)
    cdbs = {"read": READ, "write": b"\x2a" + READ[1:], "flush": FLUSH}
    for tag, (kind, lba, pause_ns) in enumerate(requests):
        cdb = cdbs[kind] if kind == "flush" else cdbs[kind][:5] + bytes([lba]) + cdbs[kind][6:]
        _, due_ns = bus.begin(0, 0, tag, cdb)
        clock.at(due_ns, lambda tag=tag, kind=kind: bus.finish(0, tag, bytes(512) if kind == "write" else b""))
        if kind == "flush":
            timed.flush(lambda _: None)
        elif kind == "read":
            timed.read(lba * 512, 512, lambda _: None)
        else:
            timed.write(lba * 512, bytes(512), lambda _: None)
        until_ns = clock.now_ns + pause_ns
        clock.at(until_ns, lambda: None)
        while clock.now_ns < until_ns and clock.skip_to_next():
            clock.run_due()
    while clock.skip_to_next():
        clock.run_due()
    assert bus.statistics[0].copy() == timed.statistics
