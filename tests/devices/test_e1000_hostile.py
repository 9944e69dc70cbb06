"""Drivers of an 82545EM that break every rule, and machines that are moved in the middle of traffic."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.e1000_bench import (
    EOP,
    IFCS,
    MEMORY_BYTES,
    PEER,
    RS,
    RX_BUFFERS,
    RX_RING,
    TSE,
    TX_DATA,
    TX_RING,
    Bench,
    context,
    data,
    frame_of,
    legacy,
)
from vilab.devices import e1000_registers as regs
from vilab.devices.e1000_receive import BUFFER_OVERHEAD_BYTES
from vilab.devices.network_events import FrameRefused

MOST_CALLS = 20_000


@pytest.fixture
def bench() -> Bench:
    return Bench()


def settle(bench: Bench, ns: int = 100_000_000) -> None:
    """With an end to the number of calls that the clock makes."""
    end_ns = bench.clock.now_ns + ns
    for _ in range(MOST_CALLS):
        if bench.clock.next_ns() > end_ns:
            bench.clock.now_ns = end_ns
            return
        bench.clock.now_ns = max(bench.clock.now_ns, bench.clock.next_ns())
        bench.clock.run_due()
    pytest.fail("the card does not come to rest")


def refusals(bench: Bench) -> list[tuple[str, bool]]:
    return [(event.why, event.received) for event in bench.log.of(FrameRefused)]


# Descriptors that lead nowhere


@pytest.mark.parametrize("gpa", [MEMORY_BYTES, MEMORY_BYTES - 10, 1 << 40, (1 << 64) - 8])
def test_a_buffer_outside_memory_costs_its_own_packet_only(bench: Bench, gpa: int) -> None:
    bench.send(data(TX_DATA, 60, IFCS), legacy(gpa, 60), legacy(TX_DATA, 70))
    assert [len(frame) for frame in bench.port.sent] == [70]
    assert [bench.memory.read(TX_RING + 16 * n + 12, 1) for n in (1, 2)] == [b"\1", b"\1"]
    bench.memory.write(RX_RING, struct.pack("<Q", gpa))
    bench.arrive(frame_of(fill=1), frame_of(fill=2))
    broken, whole = bench.received()
    assert (broken.data, broken.status, broken.errors) == (b"", 3, 0x80)
    assert whole.data == frame_of(fill=2)
    assert refusals(bench) == [("bad_descriptor", False), ("bad_descriptor", True)]
    assert bench.read(0x400C) == 1


def test_rings_outside_memory_are_left_alone(bench: Bench) -> None:
    for base in (regs.RDBAL, regs.TDBAL):
        bench.write(base, MEMORY_BYTES - 64)
    bench.send(legacy(TX_DATA, 60), legacy(TX_DATA, 60), legacy(TX_DATA, 60), legacy(TX_DATA, 60), legacy(TX_DATA, 60))
    bench.arrive(frame_of())
    settle(bench)
    assert bench.port.sent == []
    assert refusals(bench) == [("bad_descriptor", False), ("bad_descriptor", True)]


@pytest.mark.parametrize(("head", "tail", "length"), [(0, 200, 1024), (200, 0, 1024), (0, 1, 0), (0xFFFF, 1, 1024)])
def test_ends_outside_a_ring_stop_it(bench: Bench, head: int, tail: int, length: int) -> None:
    for base in (regs.RDBAL, regs.TDBAL):
        bench.write(base + 8, length)
        bench.write(base + 0x10, head)
        bench.write(base + 0x18, tail)
    bench.arrive(frame_of())
    settle(bench)
    assert bench.port.sent == []
    bench.write(regs.CTRL, regs.CTRL_RST)
    bench.start()
    bench.send_frame(frame_of(PEER))
    bench.arrive(frame_of())
    assert (len(bench.port.sent), len(bench.received())) == (1, 1)


def test_a_packet_without_end_is_bounded(bench: Bench) -> None:
    for _ in range(40):
        bench.send(*[data(0, 60_000, TSE) for _ in range(60)], settle=False)
        settle(bench)
        assert sum(map(len, bench.card.save_state().packet.parts)) <= 256 << 10
    bench.send(data(0, 1, TSE | EOP | RS), legacy(TX_DATA, 60))
    assert [len(frame) for frame in bench.port.sent] == [60]
    assert refusals(bench) == [("too_long", False)]


def test_giants_and_stumps_are_refused(bench: Bench) -> None:
    bench.send(legacy(0, 16289), legacy(0, 13), data(0, 0xF_FFFF), data(0, 0), legacy(0, 16288))
    assert [len(frame) for frame in bench.port.sent] == [16288]
    assert [why for why, _ in refusals(bench)] == ["too_long", "too_short", "too_long", "too_short"]


def test_segments_are_neither_too_many_nor_too_long(bench: Bench) -> None:
    for mss in (1, 60_000):
        bench.send(
            context((14, 24, 33), (34, 50, 0), 7, 0xF_FFFF, 54, mss), data(0, 100_000, TSE | EOP | RS, options=3)
        )
    assert bench.port.sent == []
    assert [why for why, _ in refusals(bench)] == ["bad_descriptor", "too_long"]


def test_a_tail_that_never_stops_moving_takes_no_more_than_the_wire(bench: Bench) -> None:
    for number in range(64):
        bench.memory.write(TX_RING + 16 * number, legacy(TX_DATA, 60))
    for number in range(1000):
        bench.write(regs.TDT, (number * 63) % 64)
        bench.wait(1_000)
    assert len(bench.port.sent) <= 1_000_000 // ((60 + 24) * 8) + 64


def test_without_bus_mastering_memory_is_not_reached(bench: Bench) -> None:
    bench.pc.write_port(0xCF8, 4, 1 << 31 | 24 << 11 | 4)
    bench.pc.write_port(0xCFC, 2, 3)
    bench.send_frame(frame_of(PEER))
    bench.arrive(frame_of())
    assert bench.port.sent == []
    assert set(refusals(bench)) == {("bad_descriptor", False), ("bad_descriptor", True)}


# Anything at all

REGISTERS = sorted(
    {*(register.port for register in regs.REGISTERS), *range(regs.RA, regs.RA + 128, 4), 0x5FF0, 0x1FFFC}
)
values = st.one_of(
    st.integers(0, 0xFFFF_FFFF), st.integers(0, 0x100), st.sampled_from([0, 1, 2, 0x80, 0x1000, 0xFFF80, 0x8000_0000]),
    st.integers(0, 31).map(lambda bit: 1 << bit), st.sampled_from([RX_RING, TX_RING, MEMORY_BYTES - 16]),
)  # fmt: skip
words = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, MEMORY_BYTES + 4096))
descriptors = st.one_of(
    st.tuples(words, words).map(lambda pair: struct.pack("<QQ", *pair)),
    st.builds(legacy, words, st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 80), st.integers(0, 80)),
    st.builds(data, words, st.integers(0, 0xF_FFFF), st.integers(0, 0xFF), st.integers(0, 3)),
    st.builds(
        context, st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 100)),
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 100)), st.integers(0, 0xFF),
        st.integers(0, 0xF_FFFF), st.integers(0, 0xFF), st.one_of(st.integers(0, 40), st.integers(0, 0xFFFF)),
    ),
)  # fmt: skip
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(REGISTERS), values),
        st.tuples(st.just("ports"), values, values),
        st.tuples(st.just("read"), st.sampled_from(REGISTERS), st.just(0)),
        st.tuples(st.just("fill"), st.lists(descriptors, max_size=30), st.booleans()),
        st.tuples(st.just("tail"), st.sampled_from([regs.TDT, regs.RDT]), st.integers(0, 70)),
        st.tuples(st.just("frame"), st.binary(max_size=80), st.integers(0, 2000)),
        st.tuples(st.just("link"), st.booleans(), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 1_000_000), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


def take(bench: Bench, what: str, first: Any, second: Any) -> None:
    if what == "write":
        bench.write(first, second)
    elif what == "ports":
        bench.pc.write_port(bench.io, 4, first)
        bench.pc.write_port(bench.io + 4, 4, second)
    elif what == "read":
        bench.read(first)
    elif what == "fill":
        bench.memory.write(TX_RING if second else RX_RING, b"".join(first))
        if second:
            bench.write(regs.TDT, len(first))
    elif what == "tail":
        bench.write(first, second)
    elif what == "frame":
        bench.arrive((first + frame_of())[: max(14, len(first))] + bytes(second), settle=False)
    elif what == "link":
        bench.port.link_up = first
        bench.card.link_changed(first)
    elif what == "wait":
        settle(bench, first)
    elif what == "restart":
        bench.write(regs.CTRL, regs.CTRL_RST)
        bench.start()


@settings(max_examples=150, deadline=None)
@given(steps)
def test_no_driver_breaks_the_card_or_keeps_it_busy_for_ever(script: list[tuple[str, Any, Any]]) -> None:
    """Memory is checked by the bench: an access beyond its end fails the test."""
    bench = Bench()
    for what, first, second in script:
        take(bench, what, first, second)
        state = bench.card.save_state()
        assert state.arrived_bytes == sum(len(frame) + BUFFER_OVERHEAD_BYTES for frame in state.arrived) <= 64 << 10
    settle(bench)
    bench.write(regs.CTRL, regs.CTRL_RST)
    bench.write(regs.CTRL, regs.CTRL_PHY_RST)
    bench.port.link_up = True
    bench.card.link_changed(True)
    settle(bench)
    bench.start()
    bench.port.sent.clear()
    bench.send_frame(frame_of(PEER))
    bench.arrive(frame_of())
    assert bench.port.sent == [frame_of(PEER)]
    assert [each.data for each in bench.received()] == [frame_of()]


@settings(max_examples=100, deadline=None)
@given(steps, st.sets(st.integers(0, 40), min_size=1, max_size=8))
def test_a_machine_that_is_moved_does_what_one_that_stays_does(
    script: list[tuple[str, Any, Any]], moves: set[int]
) -> None:
    staying, moving = Bench(), Bench()
    sent: list[bytes] = []
    for number, (what, first, second) in enumerate(script):
        take(staying, what, first, second)
        take(moving, what, first, second)
        if number in moves:
            sent += moving.port.sent
            moving = moving.moved()
        assert moving.card.save_state() == staying.card.save_state()
        assert moving.line == staying.line
    settle(staying)
    settle(moving)
    assert sent + moving.port.sent == staying.port.sent
    assert moving.memory.content == staying.memory.content
    assert moving.pc.save_state() == staying.pc.save_state()


def test_half_a_packet_and_waiting_frames_travel(bench: Bench) -> None:
    bench.memory.write(TX_DATA, bytes(range(100)))
    bench.send(data(TX_DATA, 40, IFCS))
    bench.write(regs.RDH, 5)
    bench.write(regs.RDT, 5)
    bench.arrive(frame_of(fill=7))
    bench = bench.moved()
    bench.memory.write(TX_DATA, bytes(100))  # what was gathered is not fetched again
    bench.send(data(TX_DATA, 60))
    assert bench.port.sent == [bytes(range(40)) + bytes(60)]
    bench.write(regs.RDT, 10)
    bench.settle()
    assert bench.memory.read(RX_BUFFERS + 5 * 2048, 60) == frame_of(fill=7)
