"""PCnet: frames through the rings, in all forms of descriptors; interrupts, loopback, saved states."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from tests.devices.pcnet_bench import (
    ADDRESS,
    BUFFER_BYTES,
    BUFFERS,
    ENP,
    ERR,
    OTHER,
    OWN,
    RECEIVE_RING,
    STP,
    TRANSMIT_RING,
    Bench,
    Driver,
    frame,
    refusals,
    started,
)
from tests.devices.recording_port import RecordingPort
from vilab.devices import pcnet_registers as r
from vilab.devices.network_events import FrameFetched, FrameStored
from vilab.devices.pc import PcState

STYLES = (0, 1, 2, 3)
PAM, RECEIVE_CRC = 1 << 22, 1 << 27


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("style", STYLES)
def test_a_frame_goes_out_and_its_descriptor_comes_back(bench: Bench, style: int) -> None:
    driver = started(bench, style)
    driver.send(0, frame(OTHER, 100))
    assert bench.port.sent == [frame(OTHER, 100)]
    assert driver.get(TRANSMIT_RING, 0) == (STP | ENP, 0)
    assert driver.csr(0) & r.TINT
    assert bench.line
    (fetched,) = bench.log.of(FrameFetched)
    assert (fetched.gpa, fetched.descriptors, fetched.segments) == (TRANSMIT_RING, 1, 1)


@pytest.mark.parametrize("style", STYLES)
def test_a_frame_comes_in_with_its_check_sequence_counted(bench: Bench, style: int) -> None:
    driver = started(bench, style)
    bench.port.send(frame(size_bytes=777))
    status, message = driver.get(RECEIVE_RING, 0)
    assert status == STP | ENP | (PAM if style else 0)
    assert message == 781
    whole = driver.received(0)
    assert whole[:-4] == frame(size_bytes=777)
    assert zlib.crc32(whole) == 0x2144DF1C  # what every frame with a right FCS comes to
    assert driver.csr(0) & r.RINT
    assert bench.line
    (stored,) = bench.log.of(FrameStored)
    assert (stored.gpa, stored.descriptors, stored.frame) == (RECEIVE_RING, 1, frame(size_bytes=777))


@pytest.mark.parametrize("style", STYLES)
def test_a_frame_in_pieces_is_one_frame(bench: Bench, style: int) -> None:
    driver = started(bench, style)
    whole = frame(OTHER, 1000)
    driver.send(0, frame(OTHER))
    driver.send(1, frame(OTHER))
    driver.send(2, whole[:1], whole[1:300], whole[300:])  # around the end of the ring
    assert bench.port.sent[2:] == [whole]
    assert [driver.get(TRANSMIT_RING, at)[0] for at in (2, 3, 0)] == [STP, 0, ENP]
    assert bench.log.of(FrameFetched)[2].descriptors == 3


@pytest.mark.parametrize("style", STYLES)
def test_a_frame_is_spread_over_receive_buffers_that_are_too_small(bench: Bench, style: int) -> None:
    driver = started(bench, style)
    for at in range(4):
        driver.put(RECEIVE_RING, at, OWN, BUFFERS + at * BUFFER_BYTES, 64)
    bench.port.send(frame(size_bytes=150))
    statuses = [driver.get(RECEIVE_RING, at)[0] for at in range(4)]
    assert [status & (OWN | ERR | STP | ENP) for status in statuses] == [STP, 0, ENP, OWN]
    assert driver.get(RECEIVE_RING, 2)[1] == 154
    content = b"".join(bench.memory.read(BUFFERS + at * BUFFER_BYTES, 64) for at in range(3))
    assert content[:150] == frame(size_bytes=150)
    bench.port.send(frame(size_bytes=60))
    assert driver.get(RECEIVE_RING, 3)[0] & (OWN | STP | ENP) == STP | ENP


def test_rings_go_around_as_often_as_it_takes(bench: Bench) -> None:
    driver = started(bench, receive=1, transmit=2)
    for number in range(11):
        sent, come = frame(OTHER, 60 + number), frame(ADDRESS, 200 + number)
        driver.send(number % 4, sent)
        bench.port.send(come)
        assert bench.port.sent[-1] == sent
        assert driver.received(number % 2)[:-4] == come
        driver.put(RECEIVE_RING, number % 2, OWN, BUFFERS + number % 2 * BUFFER_BYTES, BUFFER_BYTES)
    assert driver.csr(112) == 0
    assert (driver.csr(28), driver.csr(34)) == (RECEIVE_RING + 16, TRANSMIT_RING + 3 * 16)


@pytest.mark.parametrize(("style", "log", "entries"), [(0, 7, 128), (2, 9, 512), (3, 15, 512), (2, 0, 1)])
def test_how_long_a_ring_is(bench: Bench, style: int, log: int, entries: int) -> None:
    driver = Driver(bench, style)
    driver.start(receive=2, transmit=2)
    driver.set_csr(0, r.STOP)
    bench.memory.write(0x1000, driver.block(receive=log, transmit=log))
    driver.set_csr(0, r.INIT)
    bench.wait()
    assert (-driver.csr(76) & 0xFFFF, -driver.csr(78) & 0xFFFF) == (entries, entries)


def test_a_driver_can_set_rings_up_without_the_block(bench: Bench) -> None:
    driver = Driver(bench)
    driver.set_bcr(20, 2)
    for number, value in ((24, RECEIVE_RING), (25, 0), (30, TRANSMIT_RING), (31, 0), (76, -3), (78, -5)):
        driver.set_csr(number, value & 0xFFFF)
    driver.set_csr(72, -3 & 0xFFFF)
    driver.set_csr(74, -1 & 0xFFFF)
    for at in range(3):
        driver.put(RECEIVE_RING, at, OWN, BUFFERS + at * BUFFER_BYTES, BUFFER_BYTES)
    driver.set_csr(0, r.STRT | r.IENA)
    driver.send(4, frame(OTHER), frame(OTHER)[:10], of=5)  # the last one, and the first
    assert bench.port.sent == [frame(OTHER) + frame(OTHER)[:10]]
    for size in (60, 61, 62):
        bench.port.send(frame(size_bytes=size))
    assert [driver.get(RECEIVE_RING, at)[1] for at in range(3)] == [64, 65, 66]


def test_without_a_demand_the_ring_is_looked_at_now_and_then(bench: Bench) -> None:
    driver = started(bench)
    driver.memory.write(BUFFERS, frame(OTHER))
    driver.put(TRANSMIT_RING, 0, OWN | STP | ENP, BUFFERS, 60)
    bench.wait(1_000_000)
    assert not bench.port.sent
    bench.wait(1_000_000)
    assert bench.port.sent == [frame(OTHER)]


def test_txdpoll_leaves_it_to_the_demand(bench: Bench) -> None:
    driver = Driver(bench)
    driver.set_csr(4, r.TXDPOLL)
    driver.start(command=0x0004)
    driver.set_csr(4, r.TXDPOLL)
    driver.set_csr(0, r.INIT | r.STRT)
    bench.wait()
    driver.memory.write(BUFFERS, frame(OTHER))
    driver.put(TRANSMIT_RING, 0, OWN | STP | ENP, BUFFERS, 60)
    bench.wait(50_000_000)
    assert not bench.port.sent
    driver.set_csr(0, r.TDMD)
    assert driver.csr(0) & r.TDMD
    bench.wait()
    assert bench.port.sent == [frame(OTHER)]
    assert not driver.csr(0) & r.TDMD


def test_many_frames_go_out_in_several_looks_and_in_order(bench: Bench) -> None:
    driver = started(bench, transmit=9, receive=2)
    for at in range(512):
        driver.memory.write(0x10000 + at * 64, frame(OTHER)[:58] + at.to_bytes(2, "big"))
        driver.put(TRANSMIT_RING, at, OWN | STP | ENP, 0x10000 + at * 64, 60)
    driver.set_csr(0, r.TDMD | r.IENA)
    counts = []
    while len(bench.port.sent) < 512:
        before = len(bench.port.sent)
        bench.wait(5_000)
        counts.append(len(bench.port.sent) - before)
    assert max(counts) == 64
    assert [int.from_bytes(each[58:], "big") for each in bench.port.sent] == list(range(512))


# Interrupts at the end of a frame


def test_the_driver_chooses_which_frames_interrupt(bench: Bench) -> None:
    driver = started(bench)
    last, wanted = r.LTINTEN, 1 << 28
    for csr5, status, interrupts in (
        (0, 0, True),
        (0, wanted, True),
        (last, 0, False),
        (last, wanted, True),
        (r.TOKINTD, 0, False),
        (r.TOKINTD | last, wanted, False),
    ):
        driver.set_csr(5, csr5)
        at = -driver.csr(78) - (-driver.csr(74)) & 3
        driver.send(at, frame(OTHER), status=status)
        assert bool(driver.csr(0) & r.TINT) == interrupts, (csr5, status)
        assert driver.get(TRANSMIT_RING, at)[0] == STP | ENP | (status if csr5 & last else 0)  # else it is MORE
        driver.set_csr(0, r.TINT | r.IENA)
    assert len(bench.port.sent) == 6


# Loopback


@pytest.mark.parametrize("style", STYLES)
def test_loopback_brings_a_frame_back_and_lets_none_out(bench: Bench, style: int) -> None:
    driver = started(bench, style, mode=r.LOOP | 1 << 6)
    driver.send(0, frame(ADDRESS, 100))
    driver.send(1, frame(OTHER, 100))
    bench.port.send(frame())
    assert not bench.port.sent
    assert driver.received(0)[:-4] == frame(ADDRESS, 100)
    assert driver.get(RECEIVE_RING, 1)[0] == OWN
    assert refusals(bench) == [(True, "filter"), (True, "off")]


def test_a_wrong_check_sequence_is_found_in_loopback(bench: Bench) -> None:
    driver = started(bench, mode=r.LOOP | r.DXMTFCS)
    driver.send(0, frame() + zlib.crc32(frame()).to_bytes(4, "little"))
    driver.send(1, frame() + b"oops")
    assert driver.get(RECEIVE_RING, 0)[0] == STP | ENP | PAM
    assert driver.get(RECEIVE_RING, 1)[0] == STP | ENP | PAM | ERR | RECEIVE_CRC


def test_a_port_that_answers_at_once_is_answered_in_the_same_look() -> None:
    bench = Bench(port=RecordingPort(lambda sent: [frame(ADDRESS, len(sent))]))
    driver = started(bench)
    for at in range(3):
        driver.send(at, frame(OTHER, 60 + at))
        assert driver.received(at)[:-4] == frame(ADDRESS, 60 + at)


# State


def carried_over(bench: Bench) -> Bench:
    """The same machine, from its saved state; memory and port go along."""
    other = Bench(bench.memory, bench.port)
    other.clock.forget_all(bench.clock.now_ns)
    other.pc.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(bench.pc.save_state()), type=PcState))
    assert other.pc.save_state() == bench.pc.save_state()
    return other


def test_nothing_is_lost_by_a_state_that_is_saved_in_the_middle(bench: Bench) -> None:
    driver = started(bench, transmit=9)
    for at in range(200):
        driver.memory.write(0x10000 + at * 64, frame(OTHER)[:58] + at.to_bytes(2, "big"))
        driver.put(TRANSMIT_RING, at, OWN | STP | ENP, 0x10000 + at * 64, 60)
    driver.set_csr(0, r.TDMD | r.IENA)
    for _ in range(12):
        bench.wait(2_000)
        bench = carried_over(bench)
    bench.wait()
    assert [int.from_bytes(each[58:], "big") for each in bench.port.sent] == list(range(200))
    assert bench.line


def test_what_the_port_has_for_the_card_travels_with_it(bench: Bench) -> None:
    started(bench, mode=r.PROM)
    bench.port.arriving = b"under way"
    state = bench.card.save_state()
    other = Bench(bench.memory)
    other.card.load_state(state)
    assert other.port.arriving == b"under way"
    assert other.port.listens[-1] == (ADDRESS, True)
