"""The RAM disk: what its registers say, when blocks move, and that a PC without one is the PC that it was."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.helpers import FakeConsole, Line, make_pc, run_to
from vilab.clock import NEVER_NS, VirtualClock
from vilab.devices import ramdisk
from vilab.devices.pc import IRQ_RAMDISK, Pc, PcState
from vilab.devices.ramdisk import (
    ACKNOWLEDGE,
    ADDRESS,
    BLOCK,
    BLOCK_BYTES,
    BLOCKS,
    BUSY,
    COMMAND,
    DONE,
    ID,
    IDENTITY,
    LATENCY_NS,
    READ,
    REFUSED,
    STATUS,
    WRITE,
    BlockTransferred,
    Ramdisk,
    RamdiskState,
)
from vilab.events import EventLog

PAGES = 8
DISK_BLOCKS = 6


class Memory:
    """Guest memory as plain bytes."""

    def __init__(self) -> None:
        self.content = bytearray(PAGES * BLOCK_BYTES)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return bytes(self.content[gpa : gpa + size_bytes])

    def write(self, gpa: int, data: bytes) -> None:
        self.content[gpa : gpa + len(data)] = data


class Bench:
    def __init__(self) -> None:
        self.clock, self.line, self.memory = VirtualClock(), Line(), Memory()
        self.log = EventLog(keep=True)
        self.disk = Ramdisk(self.clock, self.log, self.line, self.memory, DISK_BLOCKS * BLOCK_BYTES)

    def begin(self, command: int, block: int, gpa: int) -> int:
        for port, value in ((BLOCK, block), (ADDRESS, gpa), (COMMAND, command)):
            self.disk.write_port(port, 4, value)
        return self.disk.read_port(STATUS, 4)

    def transfer(self, command: int, block: int, gpa: int) -> None:
        assert self.begin(command, block, gpa) == BUSY
        run_to(self.clock, self.clock.now_ns + self.disk.latency_ns)
        assert self.disk.read_port(STATUS, 4) == DONE
        self.disk.write_port(ACKNOWLEDGE, 4, 0)


def word(block: int, index: int) -> int:
    return (1024 * block + index) * 0x9E3779B1 & 0xFFFFFFFF


def test_a_block_that_nobody_has_written_says_which_one_it_is() -> None:
    bench = Bench()
    bench.transfer(READ, 5, 2 * BLOCK_BYTES)
    words = struct.unpack("<1024I", bench.memory.read(2 * BLOCK_BYTES, BLOCK_BYTES))
    assert words == tuple(word(5, index) for index in range(1024))
    assert not any(bench.memory.content[: 2 * BLOCK_BYTES])
    assert not any(bench.memory.content[3 * BLOCK_BYTES :])


def test_bytes_move_when_the_latency_is_over_and_the_line_is_high_until_acknowledged() -> None:
    bench = Bench()
    bench.begin(READ, 1, 0)
    run_to(bench.clock, LATENCY_NS - 1)
    assert bench.disk.read_port(STATUS, 4) == BUSY
    assert not any(bench.memory.content)
    assert not bench.line.level
    run_to(bench.clock, LATENCY_NS)
    assert bench.line.level
    assert bench.memory.read(0, BLOCK_BYTES) == ramdisk.original(1)
    bench.disk.write_port(ACKNOWLEDGE, 4, 0)
    assert not bench.line.level
    assert bench.disk.read_port(STATUS, 4) == 0
    assert bench.log.events == [BlockTransferred(LATENCY_NS, "read", 1, 0)]
    assert (bench.disk.reads, bench.disk.writes) == (1, 0)


def test_another_latency_counts_from_the_next_command_on() -> None:
    bench = Bench()
    bench.disk.latency_ns = 70
    bench.begin(WRITE, 0, 0)
    assert bench.clock.next_ns() == 70
    bench.disk.latency_ns = 90
    assert bench.clock.next_ns() == 70


@pytest.mark.parametrize(
    ("command", "block", "gpa"),
    [(0, 0, 0), (3, 0, 0), (READ, DISK_BLOCKS, 0), (WRITE, 0xFFFFFFFF, 0), (READ, 0, 1), (WRITE, 0, 0x800)],
)
def test_a_command_that_cannot_be_is_refused_and_does_nothing(command: int, block: int, gpa: int) -> None:
    bench = Bench()
    assert bench.begin(command, block, gpa) == REFUSED
    assert bench.clock.next_ns() == NEVER_NS
    assert not bench.line.level
    bench.disk.write_port(ACKNOWLEDGE, 4, 0)
    assert bench.disk.read_port(STATUS, 4) == 0
    assert bench.disk.refusals == 1


def test_a_second_command_is_refused_while_the_first_one_goes_on_with_its_own_block() -> None:
    bench = Bench()
    bench.begin(READ, 3, 0)
    assert bench.begin(READ, 4, BLOCK_BYTES) == BUSY | REFUSED
    bench.disk.write_port(ACKNOWLEDGE, 4, 0)
    run_to(bench.clock, LATENCY_NS)
    assert bench.memory.read(0, 2 * BLOCK_BYTES) == ramdisk.original(3) + bytes(BLOCK_BYTES)


def test_registers_are_32_bits_wide_and_a_narrower_access_finds_nobody() -> None:
    bench = Bench()
    assert bench.disk.read_port(ID, 4) == IDENTITY
    assert bench.disk.read_port(BLOCKS, 4) == DISK_BLOCKS
    assert bench.disk.read_port(ID, 2) == 0xFFFF
    assert bench.disk.read_port(ID, 1) == 0xFF
    bench.disk.write_port(BLOCK, 2, 3)
    assert bench.disk.read_port(BLOCK, 4) == 0


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("read", "write", "store", "carry")),
            st.integers(0, DISK_BLOCKS - 1),
            st.integers(0, PAGES - 1),
            st.binary(min_size=1, max_size=8),
        ),
        max_size=20,
    )
)
def test_what_was_written_comes_back_also_when_the_disk_is_carried_elsewhere_in_the_middle(
    steps: list[tuple[str, int, int, bytes]],
) -> None:
    bench = Bench()
    blocks = [ramdisk.original(block) for block in range(DISK_BLOCKS)]
    pages = [bytes(BLOCK_BYTES) for _ in range(PAGES)]
    for action, block, page, data in steps:
        if action == "store":
            bench.memory.write(page * BLOCK_BYTES, data)
            pages[page] = data + pages[page][len(data) :]
        elif action == "carry":
            bench.begin(READ, block, page * BLOCK_BYTES)
            pages[page] = blocks[block]
            carried = msgspec.msgpack.encode(bench.disk.save_state())
            now = bench.clock.now_ns
            bench.clock.forget_all(now)
            bench.disk = Ramdisk(bench.clock, bench.log, bench.line, bench.memory, BLOCK_BYTES)
            bench.disk.load_state(msgspec.msgpack.decode(carried, type=RamdiskState))
            assert msgspec.msgpack.encode(bench.disk.save_state()) == carried
            run_to(bench.clock, now + LATENCY_NS)
            bench.disk.write_port(ACKNOWLEDGE, 4, 0)
        elif action == "read":
            bench.transfer(READ, block, page * BLOCK_BYTES)
            pages[page] = blocks[block]
        else:
            bench.transfer(WRITE, block, page * BLOCK_BYTES)
            blocks[block] = pages[page]
        assert bytes(bench.memory.content) == b"".join(pages)
        assert [bench.disk.content(each) for each in range(DISK_BLOCKS)] == blocks


def test_saved_state_is_not_touched_by_what_the_disk_does_next() -> None:
    bench = Bench()
    saved = bench.disk.save_state()
    before = msgspec.msgpack.encode(saved)
    bench.transfer(WRITE, 2, 0)
    assert msgspec.msgpack.encode(saved) == before
    bench.disk.load_state(saved)
    bench.transfer(WRITE, 3, 0)
    assert msgspec.msgpack.encode(saved) == before


def disk_pc(ramdisk_bytes: int = DISK_BLOCKS * BLOCK_BYTES) -> tuple[Pc, VirtualClock, Memory]:
    clock, memory = VirtualClock(), Memory()
    pc = Pc(clock, EventLog(), FakeConsole(), 64 << 20, memory=memory, ramdisk_bytes=ramdisk_bytes)
    return pc, clock, memory


def test_in_a_pc_it_answers_on_its_ports_and_interrupts_on_irq_5() -> None:
    pc, clock, memory = disk_pc()
    for register in ramdisk.REGISTERS:
        assert register.port in pc.ramdisk.ports  # type: ignore[union-attr]
    assert pc.read_port(ID, 4) == IDENTITY
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFF & ~(1 << IRQ_RAMDISK))):
        pc.write_port(port, 1, value)
    for port, value in ((BLOCK, 2), (ADDRESS, BLOCK_BYTES), (COMMAND, READ)):
        pc.write_port(port, 4, value)
    assert not pc.interrupts.pending()
    run_to(clock, LATENCY_NS)
    assert pc.interrupts.acknowledge() == 0x20 + IRQ_RAMDISK
    assert memory.read(BLOCK_BYTES, BLOCK_BYTES) == ramdisk.original(2)


def test_a_pc_that_was_not_asked_for_one_reads_all_ones_and_has_the_same_state_record_as_ever() -> None:
    pc, _, _ = make_pc()
    assert pc.ramdisk is None
    assert pc.read_port(ID, 4) == 0xFFFFFFFF
    pc.write_port(COMMAND, 4, READ)
    assert b"ramdisk" not in msgspec.msgpack.encode(pc.save_state())


def test_a_state_with_a_disk_brings_it_along_and_one_without_does_not_fit_a_pc_that_has_one() -> None:
    pc, clock, _ = disk_pc()
    pc.write_port(BLOCK, 4, 4)
    pc.write_port(COMMAND, 4, WRITE)
    run_to(clock, LATENCY_NS)
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(pc.save_state()), type=PcState)
    other, other_clock, _ = disk_pc(ramdisk_bytes=0)
    without = other.save_state()
    other_clock.forget_all(clock.now_ns)
    other.load_state(carried)
    assert other.ramdisk is not None
    assert other.ramdisk.content(4) == bytes(BLOCK_BYTES)
    assert other.read_port(STATUS, 4) == DONE
    with pytest.raises(ValueError, match="without a RAM disk"):
        other.load_state(without)
