"""PCnet: which frames are let in; padding and check sequences on both ways."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.pcnet_bench import (
    ADDRESS,
    BROADCAST,
    ENP,
    OTHER,
    OWN,
    RECEIVE_RING,
    STP,
    TRANSMIT_RING,
    Bench,
    frame,
    refusals,
    started,
)
from vilab.devices import pcnet_registers as r

STYLES = (0, 1, 2, 3)
PAM, LAFM, BAM = 1 << 22, 1 << 21, 1 << 20


@pytest.fixture
def bench() -> Bench:
    return Bench()


def bit_by_bit(address: bytes) -> int:
    """The hash as a shift register sees it: polynomial 04c11db7, bits as on the wire, then its low six, reversed."""
    register = 0xFFFF_FFFF
    for octet in address:
        for at in range(8):
            feedback = register >> 31 ^ octet >> at & 1
            register = register << 1 & 0xFFFF_FFFF ^ (0x04C1_1DB7 if feedback else 0)
    return int(f"{register & 0x3F:06b}"[::-1], 2)


FIRST_OCTETS = "85 a5 e5 c5 45 65 25 05 2b 0b 4b 6b"
"""Of addresses that end in zeros: those for bits 0 to 11, from the table of the LANCE data sheet."""


def test_the_hash_is_the_one_of_the_data_sheet() -> None:
    octets = bytes.fromhex(FIRST_OCTETS)
    assert [bit_by_bit(bytes((octet, 0, 0, 0, 0, 0))) for octet in octets] == list(range(len(octets)))


@given(st.binary(min_size=6, max_size=6).map(lambda address: bytes((address[0] | 1,)) + address[1:]))
def test_a_group_comes_in_by_its_bit_and_by_no_other(group: bytes) -> None:
    if group == BROADCAST:
        return
    bit = 1 << bit_by_bit(group)
    for filter_bits in (bit, ~bit & (1 << 64) - 1):
        bench = Bench()
        driver = started(bench, groups=filter_bits)
        assert bench.card.wants_multicast(group) == (filter_bits == bit)
        bench.port.send(frame(group))
        assert driver.get(RECEIVE_RING, 0)[0] == (STP | ENP | LAFM if filter_bits == bit else OWN)


GROUP = bytes.fromhex("01005e000001")


@pytest.mark.parametrize(
    ("mode", "destination", "bits"),
    [
        (0, ADDRESS, PAM),
        (0, BROADCAST, BAM),
        (0, OTHER, None),
        (0, GROUP, None),
        (r.DRCVBC, BROADCAST, None),
        (r.DRCVBC, ADDRESS, PAM),
        (r.DRCVPA, ADDRESS, None),
        (r.DRCVPA, BROADCAST, BAM),
        (r.PROM, OTHER, 0),
        (r.PROM, GROUP, 0),
        (r.PROM, ADDRESS, PAM),
        (r.PROM | r.DRCVBC | r.DRCVPA, BROADCAST, 0),
    ],
)
def test_who_is_let_in(bench: Bench, mode: int, destination: bytes, bits: int | None) -> None:
    driver = started(bench, mode=mode)
    bench.port.send(frame(destination))
    assert driver.get(RECEIVE_RING, 0)[0] == (OWN if bits is None else STP | ENP | bits)
    assert refusals(bench) == ([(True, "filter")] if bits is None else [])


def test_broadcast_is_a_group_like_others_if_it_is_switched_off(bench: Bench) -> None:
    driver = started(bench, mode=r.DRCVBC, groups=1 << bit_by_bit(BROADCAST))
    bench.port.send(frame(BROADCAST))
    assert driver.get(RECEIVE_RING, 0)[0] == STP | ENP | LAFM


# Padding and check sequence


def test_short_frames_are_padded_if_the_driver_wants_it(bench: Bench) -> None:
    driver = started(bench)
    driver.send(0, frame(OTHER)[:20])
    driver.set_csr(4, r.APAD_XMT)
    driver.send(1, frame(OTHER)[:20])
    driver.send(2, frame(OTHER, 70))
    assert bench.port.sent == [frame(OTHER)[:20], frame(OTHER)[:20] + bytes(40), frame(OTHER, 70)]


def test_what_is_shorter_than_a_header_is_no_frame(bench: Bench) -> None:
    driver = started(bench)
    driver.send(0, b"x" * 13)
    assert not bench.port.sent
    assert driver.get(TRANSMIT_RING, 0)[0] == STP | ENP
    assert refusals(bench) == [(False, "too_short")]


def test_short_frames_arrive_padded(bench: Bench) -> None:
    driver = started(bench)
    bench.port.send(frame()[:42])
    assert driver.received(0)[:-4] == frame()[:42] + bytes(18)


@pytest.mark.parametrize(("length", "kept"), [(10, 24), (45, 59), (46, 64), (0x0800, 64)])
def test_padding_is_taken_off_where_a_length_says_so(bench: Bench, length: int, kept: int) -> None:
    driver = started(bench)
    driver.set_csr(4, r.ASTRP_RCV)
    sent = frame(kind=length)
    bench.port.send(sent)
    assert driver.get(RECEIVE_RING, 0)[1] == kept
    assert driver.received(0) == (sent + zlib.crc32(sent).to_bytes(4, "little"))[:kept]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("override", [False, True])
def test_who_makes_the_check_sequence(bench: Bench, style: int, override: bool) -> None:
    """DXMTFCS: the driver. Bit 29 of the descriptor: ADD_FCS, or with style 1 NO_FCS, which is the default then."""
    driver = started(bench, style, mode=r.DXMTFCS if style != 1 else 0)
    bit, made_by_card = (1 << 29 if override else 0), override != (style == 1)
    whole = frame(OTHER)
    driver.send(0, whole if made_by_card else whole + zlib.crc32(whole).to_bytes(4, "little"), status=bit)
    assert bench.port.sent == [whole]
    driver.send(1, whole + b"oops", status=bit)
    assert bench.port.sent == ([whole, whole + b"oops"] if made_by_card else [whole])
    assert refusals(bench) == ([] if made_by_card else [(False, "bad_fcs")])
