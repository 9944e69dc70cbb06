"""vmxnet3 and a driver that keeps no rule; and its state, saved and loaded at any moment."""

from __future__ import annotations

import random
import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.recording_port import RecordingPort
from tests.devices.scsi_bench import MEMORY_BYTES
from tests.devices.vmxnet3_driver import (
    ACTIVATE,
    ADDRESS,
    BCAST,
    CMD,
    DONE_ENTRIES,
    ECR,
    LINK,
    LINK_UP,
    PEER,
    PROMISC,
    QUEUES,
    RX1,
    RX2,
    RX_DONE,
    SHARED,
    TX,
    TX_BUFFERS,
    TX_DONE,
    TX_ENTRIES,
    UCAST,
    Bench,
    Driver,
)
from vilab.devices.pc import PcState
from vilab.devices.vmxnet3_commands import Vmxnet3State
from vilab.devices.vmxnet3_offload import MOST_SEGMENTS
from vilab.devices.vmxnet3_tx import MOST_FRAMES

COMMANDS = [*range(0xCAFE0000, 0xCAFE0012), *range(0xF00D0000, 0xF00D000E), 0, 0xFFFFFFFF]
INTERESTING = (0, 1, 31, 32, 720, SHARED, QUEUES, TX, MEMORY_BYTES - 8, MEMORY_BYTES, 0xFFFF_FFFF)
PLACES = (SHARED, SHARED + 24, SHARED + 120, QUEUES, QUEUES + 256, TX, TX_DONE, RX1, RX2, RX_DONE)

word = st.one_of(st.sampled_from(INTERESTING), st.integers(0, 0xFFFF_FFFF))
register = st.tuples(
    st.just("register"), st.sampled_from([0, 8, 0x600, 0x608, 0x800, 0xA00, *range(0x1000, 0x1048, 8)]), word
)
command = st.tuples(st.just("register"), st.just(0x1000 + CMD), st.sampled_from(COMMANDS))
memory = st.tuples(
    st.just("memory"), st.tuples(st.sampled_from(PLACES), st.integers(0, 150)).map(lambda at: at[0] + 4 * at[1]), word
)
packet = st.tuples(
    st.just("packet"), st.integers(0, TX_ENTRIES - 1),
    st.tuples(st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF), word),
)  # fmt: skip
frame = st.tuples(st.just("frame"), st.integers(0, 9100), st.integers(0, 255))
wait = st.tuples(st.just("wait"), st.sampled_from([0, 1_000, 50_000]), st.just(0))
link = st.tuples(st.just("link"), st.integers(0, 1), st.just(0))
steps = st.lists(st.one_of(register, command, memory, packet, frame, wait, link), max_size=60)


def carry_out(bench: Bench, step: tuple[object, ...]) -> None:
    """One of the above, on a card."""
    kind, first, second = step
    assert isinstance(first, int)
    if kind == "packet":
        assert isinstance(second, tuple)
        bench.memory.write(TX + 16 * first, struct.pack("<QII", second[2], second[0], second[1]))
        bench.store(bench.window + 0x600, 0)
        return
    assert isinstance(second, int)
    if kind == "register":
        bench.store(bench.window + first, second)
        bench.load(bench.window + first)
    elif kind == "memory":
        bench.memory.write(first, second.to_bytes(4, "little"))
    elif kind == "frame":
        bench.card.receive((random.Random(second).randbytes(14) + bytes([second]) * first)[:first])
    elif kind == "wait":
        bench.wait(first)
    else:
        bench.port.link_up = bool(first)
        bench.card.link_changed(bool(first))


@given(steps=steps, started=st.booleans())
@settings(max_examples=300, deadline=None)
def test_nothing_that_a_driver_does_is_an_error_of_the_card(steps: list[tuple[object, ...]], started: bool) -> None:
    bench = Bench()
    driver = Driver(bench, version=3)
    if started:
        driver.start(mode=UCAST | BCAST | PROMISC)
    for step in steps:
        carry_out(bench, step)
    bench.settle()
    assert len(bench.port.sent) <= len(steps) * MOST_SEGMENTS


@given(seed=st.integers(0, 2**32), density=st.sampled_from([1, 4, 16]))
@settings(max_examples=60, deadline=None)
def test_random_rings_are_worked_through_in_bounded_steps(seed: int, density: int) -> None:
    """Whole rings of random descriptors, most of them the card's."""
    bench, rng = Bench(), random.Random(seed)
    driver = Driver(bench)
    driver.start(mode=PROMISC)
    table = b""
    for _ in range(TX_ENTRIES):
        gpa = rng.choice([TX_BUFFERS, rng.randrange(MEMORY_BYTES), rng.getrandbits(64)])
        end = rng.randrange(density) == 0
        low = rng.getrandbits(32) & ~(1 << 16) | 1 << 14
        table += struct.pack("<QII", gpa, low, rng.getrandbits(32) & ~(1 << 12) | end << 12)
    bench.memory.write(TX, table)
    for base in (RX1, RX2):
        bench.memory.write(base, b"".join(struct.pack("<QII", rng.getrandbits(20), rng.getrandbits(32), 0)
                                          for _ in range(32)))  # fmt: skip
    bench.store(bench.window + 0x600, 0)
    for number in range(40):
        before = len(bench.port.sent)
        bench.wait(5_000)
        assert len(bench.port.sent) - before <= MOST_FRAMES + MOST_SEGMENTS
        bench.card.receive(rng.randbytes(rng.randrange(1600)))
        if number % 10 == 0:
            driver.command(0xF00D0001)
    bench.settle()


def test_structures_may_lie_on_top_of_each_other(bench_port: RecordingPort) -> None:
    """The completion ring is the tx ring is DriverShared: the guest harms itself only."""
    bench = Bench(port=bench_port)
    driver = Driver(bench)
    queue = driver.tx_queue()
    struct.pack_into("<QQQ", queue, 16, SHARED, 0, SHARED)
    assert driver.start(tx_queues=[bytes(queue)]) == 0
    driver.data(0x600, 1)
    bench.settle()
    bench.card.receive(b"\xff" * 60)
    bench.settle()


@pytest.fixture
def bench_port() -> RecordingPort:
    return RecordingPort()


# State


def reloaded(bench: Bench, link_up: bool = True) -> Bench:
    """The same machine elsewhere, from bytes."""
    port = RecordingPort()
    port.link_up = link_up
    state = msgspec.msgpack.encode(bench.pc.save_state())
    other = Bench(bench.memory, port)
    other.clock.forget_all(bench.clock.now_ns)
    other.pc.load_state(msgspec.msgpack.decode(state, type=PcState))
    return other


@given(
    script=st.lists(
        st.tuples(st.sampled_from(["send", "receive", "wait", "mode", "counters"]), st.integers(0, 90_000)), max_size=60
    ),
    moves=st.sets(st.integers(0, 60)),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_machine_that_moves_at_any_moment_loses_nothing(script: list[tuple[str, int]], moves: set[int]) -> None:
    def outcome(moves: set[int]) -> tuple[object, ...]:
        bench = Bench()
        driver = Driver(bench, version=3)
        driver.start(mode=UCAST)
        sent, received, done = [], [], []
        for number, (kind, value) in enumerate(script):
            if number in moves:
                sent += bench.port.sent
                bench = reloaded(bench)
                driver.machine = bench
            if kind == "send":
                driver.send(PEER + ADDRESS + value.to_bytes(4, "big") * (12 + value % 300))
            elif kind == "receive":
                bench.card.receive(ADDRESS + PEER + value.to_bytes(4, "big") * (12 + value % 300))
                received += driver.received()
            elif kind == "wait":
                bench.wait(value)
                done += driver.completed()
            elif kind == "mode":
                driver.mode(UCAST if value & 1 else BCAST)
            else:
                done.append(sum(driver.counters()))
        bench.settle()
        done += driver.completed()
        line, icr = bench.line, driver.get(0x38)
        counters = driver.counters(), driver.counters(receive=True)
        return sent + bench.port.sent, received, done, counters, line, icr, driver.kicks, bytes(bench.memory.content)

    assert outcome(moves) == outcome(set())


def test_the_record_survives_its_bytes(bench_port: RecordingPort) -> None:
    bench = Bench(port=bench_port)
    driver = Driver(bench, version=3)
    driver.start()
    driver.send(PEER + ADDRESS + bytes(50))
    state = bench.card.save_state()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Vmxnet3State) == state
    assert reloaded(bench).card.save_state() == state
    state.mac = b""
    assert bench.card.save_state().mac == ADDRESS


def test_where_the_cable_is_out_the_driver_hears_of_it(bench_port: RecordingPort) -> None:
    bench = Bench(port=bench_port)
    driver = Driver(bench)
    driver.start()
    moved = reloaded(bench, link_up=False)
    driver.machine = moved
    moved.wait(0)
    assert (driver.u32(SHARED + 696), moved.line, driver.command(LINK)) == (4, True, 0)
    driver.put(ECR, 4)
    back = reloaded(moved)
    driver.machine = back
    back.wait(0)
    assert (driver.u32(SHARED + 696), driver.command(LINK)) == (4, LINK_UP)
    assert reloaded(back).card.save_state().raised == 0


def test_what_the_port_is_told_is_told_again(bench_port: RecordingPort) -> None:
    bench = Bench(port=bench_port)
    driver = Driver(bench)
    driver.start(mode=PROMISC)
    driver.put(0x28, 0x3322_1102)
    assert reloaded(bench).port.listens[-1] == (bytes.fromhex("02112233") + ADDRESS[4:], True)


def test_a_ring_that_is_full_is_not_overrun(bench_port: RecordingPort) -> None:
    """A driver that never takes anything out of its completion ring gets a round of it, and the card goes on."""
    bench = Bench(port=bench_port)
    driver = Driver(bench)
    driver.start()
    for number in range(3 * TX_ENTRIES):
        driver.send(PEER + ADDRESS + bytes([number]) * 50)
        bench.settle()
    for number in range(2 * DONE_ENTRIES):
        bench.card.receive(b"\xff" * 60 + bytes([number]))
    assert len(bench.port.sent) == 3 * TX_ENTRIES
    assert driver.command(ACTIVATE) == 0
