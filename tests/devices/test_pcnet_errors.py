"""PCnet: what a driver does wrong, what the network does not fit, and how the driver hears of it."""

from __future__ import annotations

import pytest

from tests.devices.pcnet_bench import (
    BUFFERS,
    ENP,
    ERR,
    OTHER,
    OWN,
    RECEIVE_RING,
    SLOT,
    STP,
    TRANSMIT_RING,
    Bench,
    Driver,
    frame,
    refusals,
    started,
)
from tests.devices.scsi_bench import MEMORY_BYTES
from vilab.devices import pcnet_registers as r
from vilab.devices.adapter_events import DmaMoved
from vilab.devices.network_events import FrameStored

STYLES = (0, 1, 2, 3)
BUFF, UFLO, LCAR = 1 << 31, 1 << 30, 1 << 27
RECEIVE_BUFF = 1 << 26


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_no_receive_descriptor_is_a_frame_missed_and_counted(bench: Bench) -> None:
    driver = started(bench, receive=0)
    for _ in range(3):
        bench.port.send(frame())
    assert driver.csr(112) == 2
    assert driver.csr(0) & (r.MISS | r.ERROR) == r.MISS | r.ERROR
    assert refusals(bench) == [(True, "no_descriptor")] * 2
    driver.set_csr(0, r.MISS | r.IENA)
    assert not driver.csr(0) & (r.MISS | r.ERROR)
    driver.set_csr(0, r.STOP)
    assert driver.csr(112) == 0


def test_the_counter_of_missed_frames_says_when_it_overflows(bench: Bench) -> None:
    driver = started(bench, receive=0)
    bench.port.send(frame())
    state = bench.card.save_state()
    state.csr[112] = 0xFFFF
    bench.card.load_state(state)
    bench.port.send(frame())
    assert driver.csr(112) == 0
    assert driver.csr(4) & r.MFCO


def test_no_buffer_for_the_rest_is_an_error_in_the_last_one(bench: Bench) -> None:
    driver = started(bench)
    driver.put(RECEIVE_RING, 0, OWN, BUFFERS, 64)
    driver.put(RECEIVE_RING, 1, OWN, BUFFERS + 64, 64)
    driver.put(RECEIVE_RING, 2, 0, 0, 64)
    bench.port.send(frame(size_bytes=400))
    assert driver.get(RECEIVE_RING, 0)[0] == STP
    assert driver.get(RECEIVE_RING, 1)[0] == ERR | RECEIVE_BUFF
    assert driver.csr(0) & r.RINT
    assert not bench.log.of(FrameStored)
    assert refusals(bench) == [(True, "no_descriptor")]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_chain_without_end_is_an_underflow(bench: Bench, style: int, goes_on: bool) -> None:
    driver = started(bench, style)
    driver.set_csr(3, r.DXSUFLO if goes_on else 0)
    driver.put(TRANSMIT_RING, 1, 0, 0, 1)
    driver.put(TRANSMIT_RING, 0, OWN | STP, BUFFERS, 60)
    driver.set_csr(0, r.TDMD | r.IENA)
    bench.wait()
    status, message = driver.get(TRANSMIT_RING, 0)
    assert status == STP | ERR
    assert message == (BUFF | UFLO if style else (BUFF | UFLO) >> 16)
    assert bool(driver.csr(0) & r.TXON) == goes_on
    assert driver.csr(0) & r.TINT
    driver.send(1, frame(OTHER))
    assert bench.port.sent == ([frame(OTHER)] if goes_on else [])
    assert refusals(bench) == [(False, "no_descriptor")]


def test_what_does_not_begin_a_frame_is_skipped_and_given_back(bench: Bench) -> None:
    driver = started(bench)
    driver.put(TRANSMIT_RING, 0, OWN, BUFFERS, 60)
    driver.put(TRANSMIT_RING, 1, OWN | ENP, BUFFERS, 60)
    driver.send(2, frame(OTHER))
    assert bench.port.sent == [frame(OTHER)]
    assert [driver.get(TRANSMIT_RING, at)[0] & OWN for at in range(3)] == [0, 0, 0]


def test_without_a_link_there_is_no_carrier(bench: Bench) -> None:
    driver = started(bench)
    bench.card.link_changed(False)
    driver.send(0, frame(OTHER))
    assert not bench.port.sent
    assert driver.get(TRANSMIT_RING, 0) == (STP | ENP | ERR, LCAR)
    assert driver.csr(0) & (r.CERR | r.ERROR | r.TXON) == r.CERR | r.ERROR | r.TXON
    bench.card.link_changed(True)
    driver.send(1, frame(OTHER))
    assert bench.port.sent == [frame(OTHER)]


def test_a_long_frame_babbles_and_a_longer_one_stays_here(bench: Bench) -> None:
    driver = started(bench)
    driver.send(0, frame(OTHER, 1514))
    assert not driver.csr(0) & r.BABL
    whole = frame(OTHER, 1515)
    driver.send(1, whole[:1000], whole[1000:])
    assert driver.csr(0) & r.BABL
    assert [len(each) for each in bench.port.sent] == [1514, 1515]
    driver.send(3, *[bytes(1500)] * 3)
    assert len(bench.port.sent) == 2
    assert refusals(bench) == [(False, "too_long")]
    driver.send(2, frame(OTHER))
    assert len(bench.port.sent) == 3


def test_arriving_frames_that_are_too_long_or_too_short_are_refused(bench: Bench) -> None:
    driver = started(bench)
    bench.port.send(frame(size_bytes=4092))
    bench.port.send(frame()[:13])
    bench.port.send(b"")
    assert driver.get(RECEIVE_RING, 0)[0] == OWN
    assert refusals(bench) == [(True, "too_long"), (True, "too_short"), (True, "too_short")]
    driver.put(RECEIVE_RING, 0, OWN, BUFFERS + 0x8000, 4096)
    bench.port.send(frame(size_bytes=4091))
    assert driver.get(RECEIVE_RING, 0)[1] == 4095


def test_a_stopped_card_and_a_suspended_one_take_nothing(bench: Bench) -> None:
    driver = Driver(bench)
    bench.port.send(frame())
    driver.start()
    driver.set_csr(5, r.SPND)
    bench.port.send(frame())
    driver.send(0, frame(OTHER))
    bench.wait(10_000_000)
    assert refusals(bench) == [(True, "off")] * 2
    assert not bench.port.sent
    driver.set_csr(5, 0)
    bench.wait()
    assert bench.port.sent == [frame(OTHER)]
    bench.port.send(frame())
    assert driver.received(0)[:-4] == frame()


@pytest.mark.parametrize("what", ["block", "receive ring", "transmit ring", "receive buffer", "transmit buffer"])
def test_an_address_that_leads_nowhere_stops_the_card(bench: Bench, what: str) -> None:
    driver = started(bench)
    driver.set_csr(5, 1 << 10)
    beyond = MEMORY_BYTES - 8
    if what == "block":
        driver.set_csr(0, r.STOP)
        driver.set_csr(1, beyond & 0xFFFF)
        driver.set_csr(2, beyond >> 16)
        driver.set_csr(0, r.INIT)
    elif "ring" in what:
        driver.set_csr(5, r.SPND)
        number = 24 if what == "receive ring" else 30
        driver.set_csr(number, beyond & 0xFFFF)
        driver.set_csr(number + 1, beyond >> 16)
        driver.set_csr(5, 1 << 10)
    elif what == "receive buffer":
        driver.put(RECEIVE_RING, 0, OWN, MEMORY_BYTES - 40, 1536)
    else:
        driver.put(TRANSMIT_RING, 0, OWN | STP | ENP, MEMORY_BYTES - 40, 60)
    if "transmit" in what:
        driver.set_csr(0, r.TDMD)
    bench.wait()
    bench.port.send(frame())
    assert driver.csr(0) == r.STOP | r.INTR * (what != "block" or bool(driver.csr(5) & 1 << 10))
    assert driver.csr(5) & r.SINT
    assert bench.card.get(6, 2) & 1 << 13
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | 4)
    bench.pc.write_port(0xCFC + 2, 2, 1 << 13)
    assert not bench.card.get(6, 2) & 1 << 13
    driver.start()
    driver.send(0, frame(OTHER))
    assert bench.port.sent == [frame(OTHER)]


def test_without_bus_mastering_the_bus_is_not_had(bench: Bench) -> None:
    driver = Driver(bench)
    bench.config_write(4, 3)
    driver.start()
    assert driver.csr(0) & (r.MERR | r.IDON | r.TXON) == r.MERR
    assert bench.line
    assert not bench.log.of(DmaMoved)
    bench.config_write(4, 7)
    bench.wait(2_000_000)
    assert driver.csr(0) & (r.IDON | r.TXON) == r.IDON | r.TXON


def test_what_comes_back_in_loopback_may_lead_nowhere_too(bench: Bench) -> None:
    driver = started(bench, mode=r.LOOP)
    driver.put(RECEIVE_RING, 0, OWN, MEMORY_BYTES, 1536)
    driver.send(0, frame())
    assert driver.csr(0) == r.STOP
    assert driver.csr(5) & r.SINT
    assert driver.get(TRANSMIT_RING, 0)[0] & OWN


def test_16_bit_structures_are_where_the_upper_byte_of_csr2_says(bench: Bench) -> None:
    driver = started(bench, 0)
    driver.set_csr(0, r.STOP)
    driver.set_csr(2, 0x0100)
    driver.set_csr(0, r.INIT)
    bench.wait()
    assert driver.csr(5) & r.SINT  # 16 MB further up there is no memory
    driver = started(bench, 0)
    driver.set_csr(5, r.SPND)
    driver.set_csr(2, 0x0100)
    driver.set_csr(5, 0)
    driver.send(0, frame(OTHER))
    assert driver.csr(0) & r.STOP


@pytest.mark.parametrize(("style", "low"), [(0, 7), (2, 15), (3, 15)])
def test_addresses_lose_the_bits_that_have_to_be_zero(bench: Bench, style: int, low: int) -> None:
    driver = Driver(bench, style)
    driver.start()
    driver.set_csr(0, r.STOP)
    block = bytearray(bench.memory.read(0x1000, 28))
    for at in (16, 20) if style == 0 else (20, 24):
        block[at] |= low
    bench.memory.write(0x1000, bytes(block))
    driver.set_csr(1, 0x1000 | (1 if style == 0 else 3))
    driver.set_csr(0, r.INIT | r.STRT)
    bench.wait()
    assert (driver.csr(24), driver.csr(30)) == (RECEIVE_RING, TRANSMIT_RING)
    driver.send(0, frame(OTHER))
    assert bench.port.sent == [frame(OTHER)]


def test_a_driver_cannot_ask_for_more_looks_than_there_are(bench: Bench) -> None:
    driver = started(bench)
    driver.set_csr(5, r.SPND)
    driver.set_csr(47, 0xFFFF)
    driver.set_csr(5, 0)
    bench.wait()
    before = len(bench.log.of(DmaMoved))
    bench.wait(1_000_000)
    assert 8 <= len(bench.log.of(DmaMoved)) - before <= 11


def test_a_counter_outside_of_its_ring_stands_for_the_first(bench: Bench) -> None:
    driver = started(bench)
    driver.set_csr(5, r.SPND)
    driver.set_csr(74, 0)
    driver.set_csr(5, 0)
    for at in range(5):
        driver.send(at % 4, frame(OTHER, 60 + at))
    assert [len(each) for each in bench.port.sent] == [60, 61, 62, 63, 64]
