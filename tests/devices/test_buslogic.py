"""A BT-958 as a driver sees it: registers, mailboxes, CCBs, aborts and resets, suspension, hostile guests."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.scsi_bench import (
    INQUIRY,
    IRQ,
    LATENCY,
    MEMORY_BYTES,
    SLOT,
    TEST_UNIT_READY,
    Bench,
    read10,
    write10,
)
from vilab.devices.pc import PcState
from vilab.devices.scsi_events import CommandCompleted, RequestFetched

CONTROL, COMMAND, INTERRUPT, GEOMETRY = range(4)
BOXES, CCBS, LIST, SENSE, DATA = 0x8000, 0x10000, 0x18000, 0x30000, 0x40000
COUNT = 8
WELL, ABORTED, NOT_FOUND, ERROR = 1, 2, 3, 4


class Driver:
    """Knows its mailboxes and how to read them; independent of the adapter's own code."""

    def __init__(self, bench: Bench, start: bool = True) -> None:
        self.bench, self.out, self.into, self.ccb = bench, 0, 0, 0
        if start:
            self.start()

    def read(self, register: int) -> int:
        return self.bench.pc.read_port(self.bench.io + register, 1)

    def write(self, register: int, value: int) -> None:
        self.bench.pc.write_port(self.bench.io + register, 1, value)

    def command(self, code: int, *parameters: int) -> bytes | None:
        """The answer, ``None`` if the command is invalid."""
        assert self.read(CONTROL) & 0x10
        self.write(COMMAND, code)
        for parameter in parameters:
            self.write(COMMAND, parameter)
        answer = b""
        while self.read(CONTROL) & 0x04:
            answer += bytes((self.read(COMMAND),))
        assert self.read(INTERRUPT) == 0x84
        invalid = self.read(CONTROL) & 1
        self.write(CONTROL, 0x20)
        assert self.read(INTERRUPT) == 0
        assert self.read(CONTROL) & 0x11 == 0x10
        return None if invalid else answer

    def start(self) -> None:
        self.bench.memory.write(BOXES, bytes(16 * COUNT))
        self.out = self.into = 0
        assert self.command(0x81, COUNT, *BOXES.to_bytes(4, "little")) == b""
        assert self.command(0x8F, 1) == b""
        assert self.command(0x96, 1) == b""

    def post(self, ccb: bytes, action: int = 1, gpa: int | None = None) -> int:
        """A CCB into the next outgoing mailbox; its address."""
        if gpa is None:
            gpa = CCBS + self.ccb % 64 * 64
            self.ccb += 1
            self.bench.memory.write(gpa, ccb)
        self.bench.memory.write(BOXES + 8 * self.out, struct.pack("<IBBBB", gpa, 0, 0, 0, action))
        self.out = (self.out + 1) % COUNT
        self.write(COMMAND, 2)
        return gpa

    def collect(self) -> list[tuple[int, int, int, int]]:
        """Incoming mailboxes: (CCB, adapter status, target status, completion), freed again."""
        found = []
        while (box := self.bench.memory.read(BOXES + 8 * (COUNT + self.into), 8))[7]:
            gpa, adapter, target, _, completion = struct.unpack("<IBBBB", box)
            found.append((gpa, adapter, target, completion))
            self.bench.memory.write(BOXES + 8 * (COUNT + self.into) + 7, b"\0")
            self.into = (self.into + 1) % COUNT
        return found

    def next(self) -> list[tuple[int, int, int, int]]:
        """As an interrupt handler does it."""
        self.bench.wait_for_line()
        assert self.read(INTERRUPT) == 0x81
        self.write(CONTROL, 0x20)
        assert not self.bench.line
        return self.collect()

    def run(self, ccb: bytes) -> tuple[int, int, int]:
        """(adapter status, target status, completion); the CCB says the same."""
        gpa = self.post(ccb)
        (found,) = self.next()
        assert found[0] == gpa
        if found[1] != 0x1A:
            assert tuple(self.bench.memory.read(gpa + 14, 2)) == found[1:3]
        return found[1:]


def ccb(
    cdb: bytes, data: int = 0, size: int = 0, *, operation: int = 0, direction: int = 0, target: int = 0, lun: int = 0,
    sense: int = 96,
) -> bytes:  # fmt: skip
    return struct.pack(
        "<BBBBIIHBBBB12s2x4xI", operation, direction << 3, len(cdb), sense, size, data, 0, 0xEE, 0xEE, target, lun, cdb,
        SENSE,
    )  # fmt: skip


@pytest.fixture
def bench() -> Bench:
    return Bench("buslogic")


@pytest.fixture
def driver(bench: Bench) -> Driver:
    driver = Driver(bench)
    for target in bench.disks:
        driver.run(ccb(TEST_UNIT_READY, target=target))
    bench.log.events.clear()
    return driver


# Registers and commands


def test_after_power_on_it_needs_mailboxes_and_is_where_the_firmware_has_put_it(bench: Bench) -> None:
    driver = Driver(bench, start=False)
    assert [driver.read(register) for register in range(4)] == [0x30, 0, 0, 0x80]
    assert [bench.pc.read_mmio(bench.window + register, 1) for register in range(4)] == [0x30, 0, 0, 0x80]
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11)
    assert bench.pc.read_port(0xCFC, 4) == 0x1040_104B


def test_a_hard_reset_looks_after_itself_for_a_while_and_forgets_the_mailboxes(driver: Driver, bench: Bench) -> None:
    driver.post(ccb(TEST_UNIT_READY))
    driver.write(CONTROL, 0x80)
    assert driver.read(CONTROL) == 0x80
    driver.write(COMMAND, 0x04)
    bench.wait(1_000_000)
    assert driver.read(CONTROL) == 0x30
    bench.settle()
    assert not bench.line
    assert driver.collect() == []
    driver.start()
    assert driver.run(ccb(TEST_UNIT_READY)) == (0, 2, ERROR)
    assert bench.memory.read(SENSE + 12, 2) == b"\x29\x02"


def test_it_says_what_it_is(bench: Bench) -> None:
    driver = Driver(bench, start=False)
    assert driver.command(0x04) == b"AA50"
    assert driver.command(0x84) == b"7"
    assert driver.command(0x85) == b"B"
    assert driver.command(0x8B, 5) == b"958  "
    assert driver.command(0x0B) == bytes((0, 1 << IRQ - 9, 7))
    assert driver.command(0x86) == bytes((6, IRQ, 0x83, 0))
    assert driver.command(0x24) == bytes((0b1001, 0))
    assert driver.command(0x0A) == bytes((1, 0, 0, 1, 0, 0, 0, 0))
    assert driver.command(0x23) == bytes(8)
    assert driver.command(0x8C, 16) == bytes((5, 0, 0, 5)) + bytes(12)
    assert driver.command(0x1F, 0x5A) == b"\x5a"
    setup = driver.command(0x0D, 34)
    assert setup is not None
    assert (len(setup), setup[8], setup[9], setup[17:20], setup[21]) == (34, 0x8F, 0, b"BDF", 0b1001)
    extended = driver.command(0x8D, 14)
    assert extended is not None
    assert struct.unpack("<sBHBIB3sB", extended) == (b"E", 0, 8192, 0, 0, 0x40, b"07B", 0x19)
    settings_ = driver.command(0x91, 64, 64)
    assert settings_ is not None
    assert (len(settings_), settings_[:2], settings_[3:9], settings_[14]) == (64, b"FM", b"BT-958", 7)
    assert driver.command(0x8D, 4) == extended[:4]


@pytest.mark.parametrize("code", [0x01, 0x03, 0x0C, 0x1A, 0x83, 0x90, 0xFF])
def test_other_commands_are_invalid(bench: Bench, code: int) -> None:
    assert Driver(bench, start=False).command(code) is None


def test_no_mailboxes_are_none_and_another_port_there_is_not(bench: Bench) -> None:
    driver = Driver(bench, start=False)
    assert driver.command(0x81, 0, 0, 0x80, 0, 0) is None
    assert driver.read(CONTROL) & 0x20
    driver.write(COMMAND, 0x95)
    driver.write(COMMAND, 6)
    assert (driver.read(CONTROL), driver.read(INTERRUPT)) == (0x30, 0)


def test_interrupts_can_be_switched_off(driver: Driver, bench: Bench) -> None:
    driver.write(COMMAND, 0x25)
    driver.write(COMMAND, 0)
    assert (driver.read(INTERRUPT), bench.line) == (0x84, False)
    driver.write(CONTROL, 0x20)
    driver.post(ccb(TEST_UNIT_READY))
    bench.settle()
    assert (driver.read(INTERRUPT), bench.line) == (0x81, False)
    driver.write(COMMAND, 0x25)
    driver.write(COMMAND, 1)
    assert bench.line


# CCBs


def test_a_read_in_segments_when_the_disk_has_had_its_time(driver: Driver, bench: Bench) -> None:
    content = bytes(at * 7 & 0xFF for at in range(1024))
    bench.disks[3].write(1024, content)
    bench.memory.write(LIST, struct.pack("<IIIIII", 100, DATA, 412, DATA + 1000, 512, DATA + 4096))
    began = bench.clock.now_ns
    driver.post(ccb(read10(2, 2), LIST, 24, operation=2, direction=1, target=3))
    bench.wait(LATENCY.position_ns)
    assert not any(bench.memory.read(DATA, 8192))
    assert driver.next()[0][1:] == (0, 0, WELL)
    assert bench.clock.now_ns - began == 5_000 + LATENCY.duration_ns("read", 1024, sequential=False)
    got = bench.memory.read(DATA, 100) + bench.memory.read(DATA + 1000, 412) + bench.memory.read(DATA + 4096, 512)
    assert got == content
    (fetched,), (done,) = bench.log.of(RequestFetched), bench.log.of(CommandCompleted)
    assert (fetched.cdb, fetched.target, fetched.segments, fetched.data_bytes) == (read10(2, 2), 3, 3, 1024)
    assert (done.scsi_status, done.adapter_status, done.moved_bytes) == (0, 0, 1024)


def test_a_write_goes_to_its_own_disk(driver: Driver, bench: Bench) -> None:
    bench.memory.write(DATA, b"\x5a" * 512)
    assert driver.run(ccb(write10(3, 1), DATA, 512, direction=2)) == (0, 0, WELL)
    assert bench.disks[0].read(1536, 512) == b"\x5a" * 512
    assert not any(bench.disks[3].content)


def test_lengths_count_only_where_the_direction_is_given(driver: Driver, bench: Bench) -> None:
    assert driver.run(ccb(INQUIRY, DATA, 255)) == (0, 0, WELL)
    assert bench.memory.read(DATA + 8, 6) == b"VMware"
    assert driver.run(ccb(INQUIRY, DATA, 255, direction=1)) == (0x12, 0, ERROR)
    gpa = driver.post(ccb(INQUIRY, DATA, 255, operation=3, direction=1))
    assert driver.next() == [(gpa, 0, 0, WELL)]
    assert bench.memory.u32(gpa + 4) == 255 - 36


def test_sense_data_is_as_long_as_the_ccb_wants_it(driver: Driver, bench: Bench) -> None:
    beyond = read10(0xFFFF_FF00, 1)
    for wanted, got in ((0, 14), (1, 0), (8, 8), (96, 18)):
        bench.memory.write(SENSE, b"\xee" * 96)
        assert driver.run(ccb(beyond, DATA, 512, direction=1, sense=wanted)) == (0, 2, ERROR)
        assert bench.memory.read(SENSE, 96).index(b"\xee" * 8) == got


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (ccb(TEST_UNIT_READY, target=5), 0x11),
        (ccb(TEST_UNIT_READY, target=7), 0x11),
        (ccb(TEST_UNIT_READY, target=16), 0x1A),
        (ccb(TEST_UNIT_READY, operation=1), 0x16),
        (ccb(b""), 0x1A),
        (ccb(TEST_UNIT_READY)[:2] + b"\x0d" + ccb(TEST_UNIT_READY)[3:], 0x1A),
        (ccb(read10(0, 1), MEMORY_BYTES - 256, 512, direction=1), 0x1A),
        (ccb(read10(0, 1), 0xFFFF_FF00, 512, direction=1), 0x1A),
        (ccb(read10(0, 1), MEMORY_BYTES - 4, 8, operation=2, direction=1), 0x1A),
        (ccb(read10(0, 1), LIST, 8 * 8193, operation=2, direction=1), 0x1A),
    ],
)
def test_a_ccb_that_cannot_be_ends_with_a_status_and_moves_nothing(
    driver: Driver, bench: Bench, block: bytes, status: int
) -> None:
    before = bytes(bench.memory.content[SENSE:])
    assert driver.run(block) == (status, 0, ERROR)
    assert bytes(bench.memory.content[SENSE:]) == before


def test_mailboxes_with_nonsense_in_them(driver: Driver, bench: Bench) -> None:
    driver.post(b"", action=9, gpa=CCBS)
    assert driver.next() == [(CCBS, 0x15, 0, ERROR)]
    driver.post(b"", gpa=MEMORY_BYTES)
    assert driver.next() == [(MEMORY_BYTES, 0x1A, 0, ERROR)]
    driver.post(b"", action=2, gpa=CCBS)
    assert driver.next() == [(CCBS, 0, 0, NOT_FOUND)]


def test_an_aborted_command_never_happens(driver: Driver, bench: Bench) -> None:
    bench.memory.write(DATA, b"\xff" * 512)
    first, second = (driver.post(ccb(write10(n, 1), DATA, 512, direction=2)) for n in (0, 1))
    bench.wait(50_000)
    driver.post(b"", action=2, gpa=second)
    bench.settle()
    assert driver.collect() == [(second, 0x26, 0, ABORTED), (first, 0, 0, WELL)]
    assert bench.disks[0].read(0, 1024) == b"\xff" * 512 + bytes(512)


def test_a_target_reset_brings_its_commands_back_first(driver: Driver, bench: Bench) -> None:
    lost = driver.post(ccb(write10(0, 1), DATA, 512, direction=2))
    other = driver.post(ccb(read10(0, 1), DATA, 512, direction=1, target=3))
    bench.wait(50_000)
    reset = driver.post(ccb(b"", operation=0x81))
    bench.settle()
    assert driver.collect() == [(lost, 0x25, 0, ERROR), (reset, 0, 0, WELL), (other, 0, 0, WELL)]


def test_a_full_mailbox_waits_and_nothing_is_lost(driver: Driver, bench: Bench) -> None:
    posted = []
    for _ in range(COUNT):
        posted.append(driver.post(ccb(TEST_UNIT_READY)))
    bench.settle()
    for _ in range(4):
        posted.append(driver.post(ccb(TEST_UNIT_READY)))
    bench.settle()
    assert [box[0] for box in driver.collect()] == posted[:COUNT]
    driver.write(CONTROL, 0x20)
    bench.settle()
    assert [box[0] for box in driver.collect()] == posted[COUNT:]


def test_without_strict_round_robin_every_mailbox_is_looked_at(bench: Bench) -> None:
    driver = Driver(bench)
    driver.command(0x8F, 0)
    driver.out = 5
    gpa = driver.post(ccb(TEST_UNIT_READY))
    bench.settle()
    assert [box[0] for box in driver.collect()] == [gpa]


# Suspended in the middle; hostile guests


def carried(bench: Bench) -> Bench:
    other = Bench("buslogic", bench.memory, bench.disks)
    other.clock.forget_all(bench.clock.now_ns)
    other.pc.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(bench.pc.save_state()), type=PcState))
    assert other.pc.save_state() == bench.pc.save_state()
    return other


@pytest.mark.parametrize("at_ns", [0, 2_500, 5_000, 500_000, 1_500_000, 3_000_000])
def test_commands_under_way_go_on_elsewhere_as_if_nothing_had_been(at_ns: int) -> None:
    seen = []
    for moved in (False, True):
        bench = Bench("buslogic")
        driver = Driver(bench)
        for target in bench.disks:
            driver.run(ccb(TEST_UNIT_READY, target=target))
        bench.memory.write(DATA, b"\x11" * 1024)
        driver.post(ccb(write10(4, 2), DATA, 1024, direction=2))
        driver.post(ccb(read10(0, 1), DATA + 4096, 512, direction=1, target=3))
        driver.post(ccb(read10(4, 2), DATA + 8192, 1024, direction=1))
        driver.post(ccb(TEST_UNIT_READY, target=9))
        bench.wait(at_ns)
        if moved:
            bench = driver.bench = carried(bench)
        ended: list[tuple[int, object]] = []
        while len(ended) < 4:
            ended += [(bench.clock.now_ns, box) for box in driver.next()]
        seen.append((ended, bytes(bench.memory.content), [bytes(disk.content) for disk in bench.disks.values()]))
    assert seen[0] == seen[1]


BLOCKS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        ccb, st.binary(max_size=12), st.integers(0, MEMORY_BYTES + 4096), st.integers(0, 1 << 17),
        operation=st.sampled_from([0, 2, 3, 4, 0x81]), direction=st.integers(0, 3), target=st.integers(0, 16),
    ),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(st.one_of(
    st.tuples(st.just("post"), BLOCKS),
    st.tuples(st.just("abort"), st.integers(0, 4)),
    st.tuples(st.sampled_from([CONTROL, COMMAND, 9]), st.integers(0, 255)),
    st.tuples(st.just("wait"), st.integers(0, 3_000_000)),
    st.tuples(st.just("move"), st.just(0)),
), max_size=14), st.binary(min_size=64, max_size=512))  # fmt: skip
def test_whatever_a_guest_does_is_no_error_of_ours_and_takes_bounded_work(
    steps: list[tuple[object, object]], content: bytes
) -> None:
    bench = Bench("buslogic")
    bench.memory.content[:] = (content * (MEMORY_BYTES // len(content) + 1))[:MEMORY_BYTES]
    driver = Driver(bench)
    for what, value in steps:
        if what == "post":
            driver.post(value)  # type: ignore[arg-type]
        elif what == "abort":
            driver.post(b"", action=2, gpa=CCBS + 64 * value)  # type: ignore[operator]
        elif what == "wait":
            bench.wait(value)  # type: ignore[arg-type]
        elif what == "move":
            bench = driver.bench = carried(bench)
        else:
            driver.write(what, value)  # type: ignore[arg-type]
    bench.settle()
    driver.write(CONTROL, 0x80)
    bench.wait(1_000_000)
    driver.start()
    assert driver.run(ccb(TEST_UNIT_READY))[2] == ERROR
    assert driver.run(ccb(TEST_UNIT_READY)) == (0, 0, WELL)
