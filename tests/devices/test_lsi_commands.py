"""Commands through a 53C1030: data both ways, lists of any shape, errors, task management, suspension."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.lsi_driver import (
    DATA,
    DOORBELL,
    REQUEST,
    SENSE,
    Driver,
    chain,
    scsi_io,
    simple,
    status_of,
    task,
)
from tests.devices.scsi_bench import (
    INQUIRY,
    LATENCY,
    MEMORY_BYTES,
    TEST_UNIT_READY,
    Bench,
    Memory,
    read10,
    write10,
)
from vilab.devices.adapter_events import DmaMoved
from vilab.devices.pc import PcState
from vilab.devices.scsi_events import CommandCompleted, RequestFetched
from vilab.storage.block import BlockError, MemoryDisk

TARGET_GONE, OVERRUN, UNDERRUN, DATA_ERROR, TERMINATED = 0x43, 0x44, 0x45, 0x46, 0x48
INVALID_SGL, INVALID_FIELD, INVALID_BUS, INVALID_TARGET = 3, 7, 0x41, 0x42


def pattern(size: int, seed: int = 1) -> bytes:
    return bytes((at * 7 + at // 512 * 13 + seed) & 0xFF for at in range(size))


@pytest.fixture
def bench() -> Bench:
    return Bench("lsilogic")


@pytest.fixture
def driver(bench: Bench) -> Driver:
    driver = Driver(bench)
    attend(driver)
    return driver


def attend(driver: Driver) -> None:
    """Hear the unit attention of every disk."""
    for target in driver.bench.disks:
        driver.ask(scsi_io(TEST_UNIT_READY, target=target))
    driver.bench.log.events.clear()


def scsi_status(reply: int | bytes) -> tuple[int, int, int, int]:
    """(SCSI status, SCSI state, IOC status, bytes moved)."""
    assert isinstance(reply, bytes)
    status, state, ioc, _, moved = struct.unpack_from("<BBHII", reply, 12)
    return status, state, ioc, moved


def test_the_first_command_is_told_that_power_has_come_on(bench: Bench) -> None:
    driver = Driver(bench)
    reply = driver.ask(scsi_io(TEST_UNIT_READY))
    assert scsi_status(reply) == (2, 1, 0, 0)
    assert struct.unpack_from("<I", reply, 0x18) == (18,)
    sense = bench.memory.read(SENSE, 18)
    assert (sense[2] & 0xF, sense[12], sense[13]) == (6, 0x29, 0)


def test_what_goes_well_comes_back_as_its_context_when_the_disk_has_had_its_time(driver: Driver, bench: Bench) -> None:
    bench.disks[0].write(1024, pattern(1024))
    began = bench.clock.now_ns
    driver.post(scsi_io(read10(2, 2), simple(DATA, 1024), 1024, context=0x0012_3456))
    bench.wait(LATENCY.position_ns)
    assert not bench.line
    assert not any(bench.memory.read(DATA, 1024))
    assert driver.next_reply() == 0x0012_3456
    assert bench.memory.read(DATA, 1024) == pattern(1024)
    assert bench.memory.read(DATA + 1024, 64) == bytes(64)
    assert bench.clock.now_ns - began == 5_000 + LATENCY.duration_ns("read", 1024, sequential=False)
    (fetched,), (done,) = bench.log.of(RequestFetched), bench.log.of(CommandCompleted)
    assert (fetched.cdb, fetched.target, fetched.segments, fetched.data_bytes) == (read10(2, 2), 0, 1, 1024)
    assert (done.scsi_status, done.adapter_status, done.moved_bytes) == (0, 0, 1024)
    moved = [event for event in bench.log.of(DmaMoved) if event.what == "data"]
    assert [(event.direction, event.gpa, event.size_bytes) for event in moved] == [("written", DATA, 1024)]


def test_data_out_is_taken_from_memory_at_the_end_and_goes_to_its_own_disk(driver: Driver, bench: Bench) -> None:
    bench.memory.write(DATA, pattern(512))
    driver.post(scsi_io(write10(3, 1), simple(DATA, 512, write=True), 512, target=3, write=True))
    bench.wait(100_000)
    bench.memory.write(DATA, pattern(512, 9))
    assert driver.next_reply() == 0x1234
    assert bench.disks[3].read(1536, 512) == pattern(512, 9)
    assert not any(bench.disks[0].content)


def test_commands_to_one_disk_wait_for_each_other_and_to_another_do_not(driver: Driver, bench: Bench) -> None:
    for context, target in ((1, 0), (2, 0), (3, 3)):
        driver.post(scsi_io(read10(8 * context, 1), simple(DATA, 512), 512, target=target, context=context))
    order = []
    while len(order) < 3:
        bench.wait_for_line()
        order += driver.replies()
    assert order == [1, 3, 2]
    ended = {event.tag: event.took_ns for event in bench.log.of(CommandCompleted)}
    assert ended[1] == 2 * ended[0]


def test_a_short_answer_is_an_underrun_and_a_long_one_an_overrun(driver: Driver, bench: Bench) -> None:
    bench.memory.write(DATA, b"\xee" * 600)
    assert scsi_status(driver.ask(scsi_io(INQUIRY, simple(DATA, 255), 255))) == (0, 0, UNDERRUN, 36)
    assert bench.memory.read(DATA + 8, 6) == b"VMware"
    assert bench.memory.read(DATA + 36, 10) == b"\xee" * 10
    assert scsi_status(driver.ask(scsi_io(read10(0, 1), simple(DATA, 100), 100))) == (0, 0, OVERRUN, 100)
    assert bench.memory.read(DATA + 100, 10) == b"\xee" * 10


def test_a_disk_that_is_not_there_does_not_answer_and_a_lun_that_is_not_there_does(driver: Driver) -> None:
    assert scsi_status(driver.ask(scsi_io(TEST_UNIT_READY, target=5)))[2] == TARGET_GONE
    assert scsi_status(driver.ask(scsi_io(TEST_UNIT_READY, lun=3)))[:3] == (2, 1, 0)
    assert driver.ask_or_context(scsi_io(INQUIRY, simple(DATA, 36), 36, lun=3)) == 0x1234
    assert driver.bench.memory.read(DATA, 1) == b"\x7f"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (scsi_io(TEST_UNIT_READY, target=7), INVALID_TARGET),
        (scsi_io(TEST_UNIT_READY, target=16), INVALID_TARGET),
        (b"\0\1" + scsi_io(TEST_UNIT_READY)[2:], INVALID_BUS),
        (scsi_io(b""), INVALID_FIELD),
        (scsi_io(bytes(17))[:24] + bytes(24), INVALID_FIELD),
        (scsi_io(read10(0, 1), simple(MEMORY_BYTES - 256, 512), 512), INVALID_SGL),
        (scsi_io(read10(0, 1), simple(0xFFFF_FF00, 512), 512), INVALID_SGL),
        (scsi_io(read10(0, 1), simple(DATA, 256), 512), INVALID_SGL),
        (scsi_io(read10(0, 1), bytes(8), 512), INVALID_SGL),
        (scsi_io(read10(0, 1), struct.pack("<II", 0xD9 << 24 | 512, DATA), 512), INVALID_SGL),
        (scsi_io(read10(0, 1), simple(DATA, 512, last=False) * 10, 512), INVALID_SGL),
        (scsi_io(read10(0, 1), simple(DATA, 512), 512, chain_offset=12), INVALID_SGL),
        (scsi_io(read10(0, 1), chain(DATA, 8), 512, chain_offset=12), INVALID_SGL),
    ],
)
def test_a_request_that_cannot_be_ends_at_once_and_moves_nothing(
    driver: Driver, bench: Bench, message: bytes, status: int
) -> None:
    before = bytes(bench.memory.content[DATA:])
    reply = driver.ask(message)
    assert status_of(reply) == status
    assert bytes(bench.memory.content[DATA:]) == before
    assert not bench.log.of(RequestFetched)
    assert driver.state == 2


def test_a_list_that_chains_to_itself_ends(driver: Driver, bench: Bench) -> None:
    at = DATA + 0x1000
    bench.memory.write(at, simple(DATA, 16, last=False) + chain(at, 16, next_offset=2))
    message = scsi_io(read10(0, 1), chain(at, 16, next_offset=2), 512, chain_offset=12)
    assert status_of(driver.ask(message)) == INVALID_SGL


def test_64_bit_elements_are_understood(driver: Driver, bench: Bench) -> None:
    bench.disks[0].write(0, pattern(512))
    wide = struct.pack("<IQ", 0xD3 << 24 | 512, DATA)
    assert driver.ask_or_context(scsi_io(read10(0, 1), wide, 512)) == 0x1234
    assert bench.memory.read(DATA, 512) == pattern(512)
    beyond = struct.pack("<IQ", 0xD3 << 24 | 512, 1 << 32 | DATA)
    assert status_of(driver.ask(scsi_io(read10(0, 1), beyond, 512))) == INVALID_SGL


def test_an_error_of_the_disk_is_sense_data(driver: Driver, bench: Bench) -> None:
    disk = bench.disks[0]

    def fail(offset_bytes: int, size_bytes: int) -> bytes:
        raise BlockError("medium", "This sector is gone.")

    disk.read = fail  # type: ignore[method-assign]
    reply = driver.ask(scsi_io(read10(0, 1), simple(DATA, 512), 512))
    assert scsi_status(reply)[:2] == (2, 1)
    assert bench.memory.read(SENSE + 2, 1)[0] & 0xF == 3


def test_sense_data_that_cannot_be_written_is_not_promised(driver: Driver) -> None:
    reply = driver.ask(scsi_io(read10(0xFFFF_FFF0, 1), simple(DATA, 512), 512, sense_gpa=MEMORY_BYTES))
    assert scsi_status(reply)[:2] == (2, 0)


# Task management


def under_way(driver: Driver) -> None:
    """Two writes on disk 0, one on disk 3."""
    for context, target in ((11, 0), (12, 0), (13, 3)):
        sgl = simple(DATA, 512, write=True)
        driver.post(scsi_io(write10(context, 1), sgl, 512, target=target, write=True, context=context))
    driver.bench.memory.write(DATA, b"\xff" * 512)
    driver.bench.wait(50_000)


@pytest.mark.parametrize(
    ("message", "ended"),
    [
        (task(1, 0, context=12), [12]), (task(1, 3, context=12), []), (task(2, 0), [11, 12]), (task(3, 3), [13]),
        (task(4), [11, 12, 13]), (task(5, 0), [11, 12]), (task(7, 0, context=12), []),
    ],
)  # fmt: skip
def test_what_task_management_ends_says_so_first_and_never_happens(
    driver: Driver, bench: Bench, message: bytes, ended: list[int]
) -> None:
    under_way(driver)
    driver.post(message)
    bench.settle()
    found = driver.replies()
    frames = [reply for reply in found if isinstance(reply, bytes)]
    contexts = [struct.unpack_from("<I", reply, 8)[0] for reply in frames if reply[3] == 0]
    assert contexts == ended
    assert all(scsi_status(reply)[1:3] == (0x0C, TERMINATED) for reply in frames if reply[3] == 0)
    (done,) = [reply for reply in frames if reply[3] == 1]
    assert struct.unpack_from("<I", done, 0x14) == (len(ended),)
    assert done[4] == (8 if message[5] == 7 else 0)
    assert sorted(reply for reply in found if isinstance(reply, int)) == sorted({11, 12, 13} - set(ended)) or (
        message[5] in (3, 4, 5)
    )
    for context, target in ((11, 0), (12, 0), (13, 3)):
        assert any(bench.disks[target].read(512 * context, 512)) == (context not in ended)


def test_a_reset_is_told_to_the_next_command(driver: Driver, bench: Bench) -> None:
    driver.ask(task(3, 3))
    assert scsi_status(driver.ask(scsi_io(TEST_UNIT_READY, target=3)))[0] == 2
    assert bench.memory.read(SENSE + 12, 2) == b"\x29\x02"
    assert driver.ask_or_context(scsi_io(TEST_UNIT_READY)) == 0x1234


def test_a_message_unit_reset_forgets_what_was_under_way(driver: Driver, bench: Bench) -> None:
    under_way(driver)
    driver.write(DOORBELL, 0x40 << 24)
    bench.settle()
    assert driver.replies() == []
    assert not any(bench.disks[0].content)
    driver.start()
    assert driver.ask_or_context(scsi_io(TEST_UNIT_READY)) == 0x1234


def test_task_management_through_the_doorbell_answers_in_a_frame(driver: Driver, bench: Bench) -> None:
    under_way(driver)
    message = task(4)
    driver.write(0x30, 0)
    driver.write(DOORBELL, 0x42 << 24 | len(message) // 4 << 16)
    driver._wait_for_doorbell()
    driver.write(0x30, 0)
    for at in range(0, len(message), 4):
        driver.write(DOORBELL, int.from_bytes(message[at : at + 4], "little"))
    driver._wait_for_doorbell()
    driver.write(0x30, 0)
    assert not driver.read(DOORBELL) >> 27 & 1
    bench.settle()
    assert [reply[3] for reply in driver.replies() if isinstance(reply, bytes)] == [0, 0, 0, 1]


# Suspended in the middle


def carried(bench: Bench) -> Bench:
    """The same machine elsewhere; its memory and disks have come along."""
    other = Bench("lsilogic", bench.memory, bench.disks)
    other.clock.forget_all(bench.clock.now_ns)
    other.pc.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(bench.pc.save_state()), type=PcState))
    assert other.pc.save_state() == bench.pc.save_state()
    return other


@pytest.mark.parametrize("at_ns", [0, 2_500, 5_000, 500_000, 1_000_000, 1_500_000, 3_000_000])
def test_commands_under_way_go_on_elsewhere_as_if_nothing_had_been(at_ns: int) -> None:
    seen = []
    for moved in (False, True):
        bench = Bench("lsilogic")
        driver = Driver(bench)
        attend(driver)
        under_way_soon(driver)
        bench.wait(at_ns)
        if moved:
            bench = carried(bench)
            driver.bench = bench
        ended: list[tuple[int, object]] = []
        while len(ended) < 4:
            bench.wait_for_line()
            ended += [(bench.clock.now_ns, reply) for reply in driver.replies()]
        seen.append((ended, bytes(bench.memory.content), [bytes(disk.content) for disk in bench.disks.values()]))
    assert seen[0] == seen[1]


def under_way_soon(driver: Driver) -> None:
    driver.bench.memory.write(DATA, pattern(1024))
    driver.bench.disks[3].write(0, pattern(512, 4))
    driver.post(scsi_io(write10(4, 2), simple(DATA, 1024, write=True), 1024, write=True, context=1))
    driver.post(scsi_io(read10(0, 1), simple(DATA + 4096, 512), 512, target=3, context=2))
    driver.post(scsi_io(read10(4, 2), simple(DATA + 8192, 1024), 1024, context=3))
    driver.post(scsi_io(TEST_UNIT_READY, target=9))


# Anything a guest may do


@st.composite
def shaped_lists(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int]]:
    """Pieces of memory that do not overlap, in any order, and how many elements stand in each buffer."""
    count = draw(st.integers(1, 24))
    sizes = [draw(st.integers(1, 300)) for _ in range(count)]
    places = draw(st.permutations(range(count)))
    pieces = [(DATA + place * 512, size) for place, size in zip(places, sizes, strict=True)]
    cuts, left = [], count
    while left:
        cuts.append(min(left, draw(st.integers(1, 8))))
        left -= cuts[-1]
    return pieces, cuts


@settings(max_examples=40, deadline=None)
@given(shaped_lists())
def test_a_list_of_any_shape_is_filled_in_order(shape: tuple[list[tuple[int, int]], list[int]]) -> None:
    pieces, cuts = shape
    bench = Bench("lsilogic", disks={0: MemoryDisk(pattern(16384))})
    driver = Driver(bench)
    attend(driver)
    size = sum(length for _, length in pieces) // 512 * 512
    if not size:
        return
    sgl, chain_offset = build_list(bench.memory, pieces, cuts)
    reply = driver.ask_or_context(scsi_io(read10(0, size // 512), sgl, size, chain_offset=chain_offset))
    assert reply == 0x1234
    got = b"".join(bench.memory.read(gpa, length) for gpa, length in pieces)
    assert got[:size] == pattern(16384)[:size]
    assert not any(got[size:])


def build_list(memory: Memory, pieces: list[tuple[int, int]], cuts: list[int]) -> tuple[bytes, int]:
    """The list in its buffers; what stands in the frame, and the frame's chain offset."""
    buffers, at = [], 0
    for index, count in enumerate(cuts):
        last = index == len(cuts) - 1
        part = [
            simple(gpa, size, last=last and n == count - 1) for n, (gpa, size) in enumerate(pieces[at : at + count])
        ]
        buffers.append(b"".join(part))
        at += count
    place, following = 0x80000, b""
    for index in range(len(buffers) - 1, 0, -1):
        memory.write(place, buffers[index] + following)
        size = len(buffers[index] + following)
        next_offset = len(buffers[index]) // 4 if following else 0
        following = chain(place, size, next_offset)
        place += 0x400
    chain_offset = (0x30 + len(buffers[0])) // 4 if following else 0
    return buffers[0] + following, chain_offset


FRAMES = st.one_of(
    st.binary(min_size=0, max_size=128),
    st.builds(
        lambda head, rest: head[:2] + head[2:3] + rest[:1] + head[3:],
        st.binary(min_size=60, max_size=127), st.sampled_from([bytes((n,)) for n in (0, 0, 0, 1, 2, 4, 7)]),
    ),
    st.builds(
        scsi_io, st.binary(min_size=1, max_size=16), st.binary(max_size=80), st.integers(0, 1 << 20),
        target=st.integers(0, 16), write=st.booleans(), chain_offset=st.integers(0, 40),
    ),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(
    st.tuples(st.just("frame"), FRAMES),
    st.tuples(st.sampled_from([0, 4, 8, 0x30, 0x34, 0x40, 0x44]), st.one_of(
        st.integers(0, 0xFFFFFFFF), st.sampled_from([0x4200_0000 | n << 16 for n in (0, 1, 3, 11, 255)]))),
    st.tuples(st.just("wait"), st.integers(0, 3_000_000)),
    st.tuples(st.just("move"), st.just(0)),
), max_size=12), st.binary(min_size=64, max_size=512))  # fmt: skip
def test_whatever_a_guest_does_is_no_error_of_ours_and_takes_bounded_work(
    steps: list[tuple[object, object]], content: bytes
) -> None:
    bench = Bench("lsilogic")
    bench.memory.content[:] = (content * (MEMORY_BYTES // len(content) + 1))[:MEMORY_BYTES]
    driver = Driver(bench, frames=4)
    for what, value in steps:
        if what == "frame":
            driver.post(value)  # type: ignore[arg-type]
        elif what == "wait":
            bench.wait(value)  # type: ignore[arg-type]
        elif what == "move":
            bench = carried(bench)
            driver.bench = bench
        else:
            driver.write(what, value)  # type: ignore[arg-type]
    bench.settle()
    driver.write(DOORBELL, 0x40 << 24)
    for key in (4, 0xB, 2, 7, 0xD):
        driver.write(4, key)
    driver.write(8, 4)
    assert driver.state == 1
    driver.start()
    driver.write(REQUEST, 0xFFFF_FFF8)
    bench.settle()
    assert driver.state == 4
