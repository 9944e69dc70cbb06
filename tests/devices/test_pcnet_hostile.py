"""PCnet: a driver that writes anything anywhere. Nothing breaks, nothing is touched outside of memory, work is bounded.

The memory of the bench asserts that it is never asked for what is outside. Random bytes seldom are a ring that is
worth a look: half of the runs have a start with good registers and descriptors of random bits.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.pcnet_bench import ADDRESS, BLOCK, BROADCAST, OTHER, RECEIVE_RING, TRANSMIT_RING, Bench, Driver
from tests.devices.recording_port import RecordingPort
from tests.devices.scsi_bench import MEMORY_BYTES, Memory
from vilab.devices.pc import PcState
from vilab.devices.pci_adapter import FIRMWARE_NS
from vilab.devices.pcnet_am79c970a import LEAST_POLL_NS
from vilab.devices.pcnet_buffers import MOST_DESCRIPTORS, MOST_FRAME_BYTES

MOST_READS = 2 * (MOST_DESCRIPTORS + MOST_FRAME_BYTES + 1) + 1
"""In one look: a descriptor and its buffer each time, one more to see whose the next is, an initialization block."""


class CountingMemory(Memory):
    def __init__(self) -> None:
        super().__init__()
        self.reads = self.writes = 0

    def read(self, gpa: int, size_bytes: int) -> bytes:
        self.reads += 1
        return super().read(gpa, size_bytes)

    def write(self, gpa: int, data: bytes) -> None:
        self.writes += 1
        super().write(gpa, data)


word = st.integers(0, 0xFFFF)
register = st.one_of(st.integers(0, 127), st.sampled_from((0, 0, 0, 1, 2, 3, 4, 5, 15, 24, 30, 47, 72, 74, 76, 78)))
command = st.sampled_from((0x01, 0x02, 0x03, 0x43, 0x04, 0x08, 0x48, 0x7F40, 0x7F48, 0x4B))
size = st.one_of(st.integers(0, 80), st.integers(0, 5000))
destination = st.sampled_from((ADDRESS, OTHER, BROADCAST, bytes.fromhex("01005e000001")))
actions = st.lists(
    st.one_of(
        st.tuples(st.just("csr"), register, word),
        st.tuples(st.just("csr"), st.just(0), command),
        st.tuples(st.just("csr"), st.just(15), st.sampled_from((0, 4, 0x8004, 0x8000, 0x44))),
        st.tuples(st.just("csr"), st.just(5), st.sampled_from((0, 1, 0x4000))),
        st.tuples(st.just("bcr"), st.integers(0, 40), word),
        st.tuples(st.just("bcr"), st.just(20), st.integers(0, 4)),
        st.tuples(st.just("raw"), st.integers(0, 31), st.sampled_from((1, 2, 4))),
        st.tuples(st.just("frame"), size, destination),
        st.tuples(st.just("wait"), st.sampled_from((5_000, 20_000, 3_000_000)), st.just(0)),
        st.tuples(st.just("link"), st.booleans(), st.just(0)),
        st.tuples(st.just("master"), st.sampled_from((3, 7, 7, 7)), st.just(0)),
    ),
    max_size=30,
)
flags = st.sampled_from((0x8000, 0x8300, 0x8200, 0x8100, 0x0000, 0xFFFF))
address = st.one_of(st.integers(0, MEMORY_BYTES - 1), st.sampled_from((MEMORY_BYTES - 1, MEMORY_BYTES, 0xFFFF_FFFF)))
descriptor = st.tuples(address, st.one_of(st.integers(0xF000, 0xFFFF), st.just(0xFFFF)), flags).map(
    lambda parts: struct.pack("<IHHII", *parts, parts[0], 0)
)
rings = st.one_of(st.none(), st.tuples(st.integers(0, 4), st.lists(descriptor, min_size=1, max_size=8), st.booleans()))


def prepared(content: tuple[int, list[bytes], bool] | None, lengths: int) -> Bench:
    """A bench; with ``content`` (style, descriptors that fill both rings, start) one whose card was set up."""
    bench = Bench(CountingMemory())
    if content is None:
        return bench
    style, pattern, start = content
    driver = Driver(bench, style)
    for ring in (RECEIVE_RING, TRANSMIT_RING):
        bench.memory.write(ring, b"".join(pattern * (0x2000 // 16 // len(pattern))))
    bench.memory.write(BLOCK, driver.block(receive=lengths & 15 if style else 2, transmit=lengths >> 4 if style else 2))
    driver.set_bcr(20, style)
    driver.set_csr(1, BLOCK)
    if start:
        driver.set_csr(0, 0x43)
    return bench


def act(bench: Bench, action: tuple[Any, Any, Any]) -> None:
    what, first, second = action
    driver = Driver(bench)
    if what == "csr":
        driver.set_csr(first, second)
    elif what == "bcr":
        driver.set_bcr(first, second)
    elif what == "raw":
        driver.read(first, second)
        driver.write(first, 0x0102_0304 & (1 << 8 * second) - 1, second)
    elif what == "frame":
        bench.port.send((second + bytes(8) + bytes(max(first - 14, 0)))[:first])
    elif what == "link":
        bench.port.link_up = first
        bench.card.link_changed(first)
    elif what == "master":
        bench.config_write(4, first)
    else:
        bench.wait(first)


@settings(max_examples=300, deadline=None)
@given(rings, st.integers(0, 255), actions)
def test_nothing_breaks_whatever_is_written(
    content: tuple[int, list[bytes], bool] | None, lengths: int, steps: list[tuple[Any, Any, Any]]
) -> None:
    bench = prepared(content, lengths)
    driver, card = Driver(bench), bench.card
    for step in steps:
        act(bench, step)
        state = card.save_state()
        assert all(0 <= value <= 0xFFFF for value in state.csr + state.bcr)
        assert card._interrupting() == bench.line == state.line
        stopped = state.csr[0] & 4
        assert not (stopped and state.csr[0] & 0x7FFB & ~0x40), "a stopped card has nothing to say"
        assert not (stopped and state.look_ns), "and nothing to do"
    driver.read(0x18, 4)
    driver.read(0x14)
    assert not bench.line
    before = bench.memory.reads, bench.memory.writes
    bench.wait(10_000_000)
    assert (bench.memory.reads, bench.memory.writes) == before


@settings(max_examples=150, deadline=None)
@given(rings.filter(lambda content: content is not None), st.integers(0, 255), actions)
def test_one_look_does_no_more_than_it_may(
    content: tuple[int, list[bytes], bool], lengths: int, steps: list[tuple[Any, Any, Any]]
) -> None:
    bench = prepared(content, lengths)
    memory = bench.memory
    assert isinstance(memory, CountingMemory)
    for step in steps:
        if step[0] == "wait":
            end_ns = bench.clock.now_ns + step[1]
            while bench.clock.next_ns() <= end_ns:
                before, at_ns = memory.reads, bench.clock.now_ns
                bench.wait(bench.clock.next_ns() - at_ns)
                looped = MOST_FRAME_BYTES * MOST_DESCRIPTORS if bench.card.save_state().csr[15] & 4 else 0
                assert memory.reads - before <= MOST_READS + looped
                due = bench.card.save_state().look_ns
                assert due == 0 or due >= bench.clock.now_ns + min(FIRMWARE_NS, LEAST_POLL_NS)
        else:
            before = memory.reads
            act(bench, step)
            assert memory.reads - before <= (MOST_FRAME_BYTES + 1 if step[0] == "frame" else 0), step


def test_a_ring_of_nothing_but_owned_descriptors_is_worked_off_in_portions() -> None:
    bench = Bench(CountingMemory())
    driver = Driver(bench)
    driver.start()
    driver.set_csr(5, 1)
    driver.set_csr(78, 1)  # 65,535 descriptors
    driver.set_csr(74, 1)
    bench.memory.write(TRANSMIT_RING, struct.pack("<IIII", 0x1000, 0x83FF_F000 | -60 & 0xFFF, 0, 0) * 0xC000)
    driver.set_csr(5, 0)
    for _ in range(100):
        before = bench.memory.reads
        bench.wait(FIRMWARE_NS)
        assert bench.memory.reads - before <= 2 * MOST_DESCRIPTORS
    assert len(bench.port.sent) == 100 * MOST_DESCRIPTORS


@settings(max_examples=80, deadline=None)
@given(rings, st.integers(0, 255), actions, st.integers(0, 30))
def test_a_card_that_was_saved_and_loaded_goes_on_like_one_that_was_not(
    content: tuple[int, list[bytes], bool] | None, lengths: int, steps: list[tuple[Any, Any, Any]], at: int
) -> None:
    straight, bench = prepared(content, lengths), prepared(content, lengths)
    for number, step in enumerate([*steps, ("wait", 50_000, 0)]):
        if number == at:
            port = RecordingPort()
            port.sent, port.link_up = bench.port.sent, bench.port.link_up
            other = Bench(bench.memory, port)
            other.clock.forget_all(bench.clock.now_ns)
            saved = msgspec.msgpack.encode(bench.pc.save_state())
            other.pc.load_state(msgspec.msgpack.decode(saved, type=PcState))
            bench = other
        act(straight, step)
        act(bench, step)
        assert bench.pc.save_state() == straight.pc.save_state()
    assert bench.port.sent == straight.port.sent
    assert bench.memory.content == straight.memory.content
    assert bench.line == straight.line
