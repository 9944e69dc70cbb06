"""Frames through an 82545EM: rings and their ends, filters, VLAN tags, sizes, delayed interrupts, loopback."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.e1000_bench import (
    ADDRESS,
    EOP,
    IDE,
    IFCS,
    MEMORY_BYTES,
    PEER,
    RECEIVE_USUAL,
    RS,
    RX_BUFFERS,
    RX_RING,
    TX_DATA,
    TX_RING,
    VLE,
    Bench,
    Memory,
    data,
    frame_of,
    legacy,
)
from vilab.devices import e1000_registers as regs
from vilab.devices.adapter_events import DmaMoved
from vilab.devices.network_events import FrameFetched, FrameRefused, FrameStored

BROADCAST = b"\xff" * 6
GROUP = bytes.fromhex("01005e000001")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def tagged(frame: bytes, tci: int) -> bytes:
    return frame[:12] + b"\x81\x00" + tci.to_bytes(2, "big") + frame[12:]


# Transmit


def test_a_frame_goes_out_and_its_descriptor_comes_back(bench: Bench) -> None:
    bench.write(regs.IMS, regs.TXDW)
    frame = frame_of(PEER, ADDRESS, 100)
    bench.send_frame(frame)
    assert bench.port.sent == [frame]
    assert bench.memory.read(TX_RING + 12, 1) == b"\x01"
    assert bench.line
    assert bench.read(regs.ICR) == regs.TXDW | regs.TXQE
    assert bench.read(regs.TDH) == bench.read(regs.TDT) == 1
    (event,) = bench.log.of(FrameFetched)
    assert (event.gpa, event.descriptors, event.segments, event.frame) == (TX_RING, 1, 1, frame)


def test_nothing_leaves_while_the_register_is_written(bench: Bench) -> None:
    bench.send_frame(frame_of(PEER), settle=False)
    assert bench.port.sent == []
    assert not bench.log.of(DmaMoved)


def test_only_descriptors_that_ask_for_it_are_reported(bench: Bench) -> None:
    bench.memory.write(TX_DATA, bytes(range(200)))
    bench.send(
        data(TX_DATA, 20, IFCS),
        data(TX_DATA + 20, 50, IFCS | EOP),
        data(TX_DATA, 10, RS),
        legacy(TX_DATA + 10, 60, EOP),
    )
    assert bench.port.sent == [bytes(range(70)), bytes(range(70))]
    assert [bench.memory.read(TX_RING + 16 * n + 12, 1)[0] & 1 for n in range(4)] == [0, 0, 1, 0]
    assert bench.read(regs.ICR) & regs.TXDW


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 900), min_size=1, max_size=5), max_size=60), st.sampled_from([8, 16, 40]))
def test_packets_in_any_pieces_go_out_in_order_around_the_ring(packets: list[list[int]], size: int) -> None:
    bench = Bench(start=False)
    bench.start(tx=size)
    content = bytes((n * 7 + n // 256) & 0xFF for n in range(5000))
    bench.memory.write(TX_DATA, content)
    expected = []
    for pieces in packets:
        descriptors, at = [], 0
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            descriptors.append(data(TX_DATA + at, piece, (EOP | RS if last else 0) | IFCS))
            at += piece
        bench.send(*descriptors)
        if at >= 14:
            expected.append(content[:at].ljust(60, b"\0"))
    assert bench.port.sent == expected
    assert bench.read(regs.TDH) == bench.read(regs.TDT) == sum(map(len, packets)) % size


def test_a_full_ring_is_read_and_written_in_one_piece(bench: Bench) -> None:
    for _ in range(2):  # the second time it wraps
        before = len(bench.log.of(DmaMoved))
        bench.port.sent.clear()
        bench.send(*[legacy(TX_DATA, 60) for _ in range(40)])
        assert len(bench.port.sent) == 40
        moved = Counter((event.direction, event.what) for event in bench.log.of(DmaMoved)[before:])
        assert moved["read", "data"] == 40
        assert moved["read", "message"] + moved["written", "message"] <= 4


def test_a_look_is_bounded_and_the_rest_follows_as_fast_as_the_wire_takes_it() -> None:
    bench = Bench(start=False)
    bench.start(tx=512)
    bench.send(*[legacy(TX_DATA, 1514) for _ in range(500)], settle=False)
    bench.wait(10_000)
    first = len(bench.port.sent)
    assert 0 < first <= 64
    bench.wait(first * (1514 + 24) * 8 - 20_000)
    assert len(bench.port.sent) == first
    bench.settle()
    assert len(bench.port.sent) == 500


def test_a_switched_off_transmitter_waits(bench: Bench) -> None:
    bench.write(regs.TCTL, 0)
    bench.send_frame(frame_of(PEER))
    assert bench.port.sent == []
    bench.write(regs.TCTL, regs.TCTL_EN)
    bench.settle()
    assert len(bench.port.sent) == 1


def test_without_a_link_nothing_comes_and_what_is_to_go_waits(bench: Bench) -> None:
    bench.port.link_up = False
    bench.card.link_changed(False)
    bench.send_frame(frame_of(PEER))
    bench.arrive(frame_of())
    assert (bench.port.sent, bench.received(), bench.read(regs.TDH)) == ([], [], 0)
    bench.port.link_up = True
    bench.card.link_changed(True)
    bench.settle()
    assert bench.port.sent == [frame_of(PEER)]
    bench.write(regs.CTRL, 0)
    bench.send_frame(frame_of(PEER))
    assert len(bench.port.sent) == 1


def test_short_frames_are_padded_if_the_driver_wants_it(bench: Bench) -> None:
    bench.send_frame(frame_of(PEER, size=20))
    bench.write(regs.TCTL, regs.TCTL_EN)
    bench.send_frame(frame_of(PEER, size=20))
    assert [len(frame) for frame in bench.port.sent] == [60, 20]


def test_a_tag_is_inserted_where_the_descriptor_and_the_device_agree(bench: Bench) -> None:
    frame = frame_of(PEER, size=80)
    bench.memory.write(TX_DATA, frame)
    bench.send(legacy(TX_DATA, 80, EOP | VLE, special=0x6123))
    bench.write(regs.CTRL, regs.CTRL_SLU | regs.CTRL_VME)
    bench.send(legacy(TX_DATA, 80, EOP | VLE, special=0x6123), data(TX_DATA, 80, EOP | VLE, special=5))
    bench.write(regs.VET, 0x88A8)
    bench.send(data(TX_DATA, 80, EOP | VLE, special=5), legacy(TX_DATA, 80))
    expected = [frame, tagged(frame, 0x6123), tagged(frame, 5), tagged(frame, 5), frame]
    expected[3] = expected[3][:12] + b"\x88\xa8" + expected[3][14:]
    assert bench.port.sent == expected


# Receive


def test_a_frame_arrives_with_its_check_sequence_unless_that_is_stripped(bench: Bench) -> None:
    bench.write(regs.IMS, regs.RXT0)
    frame = frame_of(size=99)
    bench.arrive(frame)
    assert bench.line
    bench.write(regs.RCTL, regs.RCTL_EN)
    bench.arrive(frame)
    first, second = bench.received()
    assert first.data == frame
    assert second.data == frame + zlib.crc32(frame).to_bytes(4, "little")
    assert (first.status, first.errors) == (0b111, 0)
    assert [(event.gpa, event.frame) for event in bench.log.of(FrameStored)] == [
        (RX_RING, frame),
        (RX_RING + 16, frame),
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(60, 16000), min_size=1, max_size=12),
    st.sampled_from([(0, 0, 2048), (1, 0, 1024), (2, 0, 512), (3, 0, 256), (1, 1, 16384), (2, 1, 8192), (3, 1, 4096)]),
)
def test_long_frames_fill_as_many_buffers_as_they_need(sizes: list[int], setting: tuple[int, int, int]) -> None:
    code, extended, size = setting
    bench = Bench(start=False)
    count = min(128, (MEMORY_BYTES - RX_BUFFERS) // size & ~7)
    rctl = RECEIVE_USUAL | regs.RCTL_LPE | code << 16 | (regs.RCTL_BSEX if extended else 0)
    bench.start(rx=count, rctl=rctl, buffer=size)
    whole: list[bytes] = []
    parts = b""
    expected = [frame_of(size=each, fill=each) for each in sizes]
    for frame in expected:
        bench.arrive(frame)
        for each in bench.received():
            assert len(each.data) <= size
            parts += each.data
            if each.status & 2:
                whole.append(parts)
                parts = b""
    assert whole == expected


def test_frames_wait_for_descriptors_in_the_packet_buffer_and_are_lost_beyond_it(bench: Bench) -> None:
    frames = [frame_of(size=1000, fill=n) for n in range(200)]
    bench.arrive(*frames)
    assert len(bench.log.of(FrameStored)) == 48  # what was in the packet buffer of 48 KB
    assert bench.read(0x4010) == 200 - 48
    assert bench.read(regs.ICR) & regs.RXO
    got = [each.data for each in bench.received()]
    bench.arrive(*frames[:40])
    got += [each.data for each in bench.received()]
    assert got == frames[:48] + frames[:40]


def test_without_descriptors_a_frame_waits_and_comes_with_the_next(bench: Bench) -> None:
    for n in range(70):
        bench.arrive(frame_of(size=64, fill=n))
    assert bench.read(regs.RDH) == bench.read(regs.RDT) == 63
    assert bench.read(0x40A0) == 7
    got = bench.received()
    bench.settle()
    got += bench.received()
    assert [each.data for each in got] == [frame_of(size=64, fill=n) for n in range(70)]


def test_many_frames_are_stored_with_one_read_and_one_write_of_the_ring(bench: Bench) -> None:
    bench.arrive(*[frame_of() for _ in range(40)])
    moved = Counter((event.direction, event.what) for event in bench.log.of(DmaMoved))
    assert moved == {("read", "message"): 1, ("written", "data"): 40, ("written", "message"): 1}


def test_an_empty_address_is_passed_over(bench: Bench) -> None:
    bench.memory.write(RX_RING + 16, bytes(16))
    bench.arrive(frame_of(fill=1), frame_of(fill=2))
    first, nothing, second = bench.received()
    assert (first.data, nothing.data, nothing.status, second.data) == (frame_of(fill=1), b"", 1, frame_of(fill=2))


def test_reaching_the_threshold_is_a_cause_of_its_own(bench: Bench) -> None:
    bench.arrive(*[frame_of() for _ in range(30)])
    assert not bench.read(regs.ICR) & regs.RXDMT0
    bench.arrive(*[frame_of() for _ in range(5)])
    assert bench.read(regs.ICR) & regs.RXDMT0
    bench.arrive(frame_of())
    assert not bench.read(regs.ICR) & regs.RXDMT0


def test_a_switched_off_receiver_hears_nothing(bench: Bench) -> None:
    bench.write(regs.RCTL, 0)
    bench.arrive(frame_of())
    bench.write(regs.RCTL, RECEIVE_USUAL)
    bench.settle()
    assert bench.received() == []
    assert [event.why for event in bench.log.of(FrameRefused)] == ["off"]


def test_sizes_are_limited(bench: Bench) -> None:
    bench.arrive(frame_of(size=1518), frame_of(size=1519), frame_of(size=20))
    assert [len(each.data) for each in bench.received()] == [1518, 60]
    assert bench.read(0x40AC) == 1
    bench.write(regs.RCTL, RECEIVE_USUAL | regs.RCTL_LPE)
    bench.arrive(frame_of(size=1519), frame_of(size=16381))
    assert [len(each.data) for each in bench.received()] == [1519]


# Filters, against a model of their own


class Model:
    """The filter as the manual's text has it, written down without a look at the device: sets instead of registers."""

    def __init__(self, setting: dict[str, Any]) -> None:
        self.setting = setting
        self.hashes = {self._hash(each) for each in setting["hashed"]}

    def _hash(self, address: bytes) -> int:
        bits = "".join(f"{byte:08b}" for byte in reversed(address))  # bit 47 of the address first
        start = {0: 0, 1: 1, 2: 2, 3: 4}[self.setting["offset"]]
        return int(bits[start : start + 12], 2)

    def lets(self, frame: bytes) -> bool:
        s, destination = self.setting, frame[:6]
        group, broadcast = bool(destination[0] & 1), destination == BROADCAST
        passes = (
            (broadcast and s["bam"]) or (group and not broadcast and s["mpe"]) or (not group and s["upe"])
            or destination in s["exact"] or (group and self._hash(destination) in self.hashes)
        )  # fmt: skip
        if passes and s["vfe"] and frame[12:14] == b"\x81\x00":
            return (frame[14] & 15) << 8 | frame[15] in s["vlans"]
        return bool(passes)


addresses = st.one_of(
    st.sampled_from([ADDRESS, PEER, BROADCAST, GROUP, bytes.fromhex("333300000001"), bytes.fromhex("01005e7ffffa")]),
    st.binary(min_size=6, max_size=6),
)
filter_settings = st.fixed_dictionaries(
    {
        "bam": st.booleans(), "mpe": st.booleans(), "upe": st.booleans(), "vfe": st.booleans(),
        "offset": st.integers(0, 3), "exact": st.lists(addresses, max_size=16),
        "hashed": st.lists(addresses, max_size=8), "vlans": st.sets(st.integers(0, 4095), max_size=8),
    }
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(filter_settings, st.lists(st.tuples(addresses, st.one_of(st.none(), st.integers(0, 4095))), max_size=20))
def test_the_filter_lets_in_what_an_independent_model_lets_in(
    setting: dict[str, Any], frames: list[tuple[bytes, int | None]]
) -> None:
    bench = Bench()
    rctl = RECEIVE_USUAL & ~regs.RCTL_BAM | setting["offset"] << 12
    for name, bit in (("bam", 15), ("mpe", 4), ("upe", 3), ("vfe", 18)):
        rctl |= setting[name] << bit
    bench.write(regs.RCTL, rctl)
    bench.write(regs.RA + 4, 0)
    for number, address in enumerate(setting["exact"]):
        bench.write(regs.RA + 8 * number, int.from_bytes(address[:4], "little"))
        bench.write(regs.RA + 8 * number + 4, 1 << 31 | int.from_bytes(address[4:], "little"))
    for address in setting["hashed"]:
        number = (address[5] << 8 | address[4]) >> (4, 3, 2, 0)[setting["offset"]] & 0xFFF
        at = regs.MTA + 4 * (number // 32)
        bench.write(at, bench.read(at) | 1 << number % 32)
    for vlan in setting["vlans"]:
        at = regs.VFTA + 4 * (vlan // 32)
        bench.write(at, bench.read(at) | 1 << vlan % 32)
    candidates = [(address, vlan) for address, vlan in frames]
    candidates += [(address, None) for address in [*setting["exact"], *setting["hashed"]]]
    candidates += [(ADDRESS, vlan) for vlan in setting["vlans"]]
    sent = []
    for number, (address, vlan) in enumerate(candidates):
        frame = frame_of(address, fill=number)
        sent.append(frame if vlan is None else tagged(frame, vlan))
    model = Model(setting)
    for frame in sent:
        if frame[0] & 1 and frame[:6] != BROADCAST:
            untagged = frame[:12] + frame[16:] if frame[12:14] == b"\x81\x00" else frame
            assert bench.card.wants_multicast(frame[:6]) == model.lets(untagged)
        bench.arrive(frame)
    bench.settle()
    assert [each.data for each in bench.received()] == [frame for frame in sent if model.lets(frame)]


def test_the_port_hears_what_the_card_listens_to(bench: Bench) -> None:
    assert bench.port.listens == [(ADDRESS, False)]
    bench.write(regs.RCTL, RECEIVE_USUAL | regs.RCTL_UPE)
    bench.write(regs.RCTL, RECEIVE_USUAL)
    bench.write(regs.RA, int.from_bytes(PEER[:4], "little"))
    bench.write(regs.RA + 4, 1 << 31 | int.from_bytes(PEER[4:], "little"))
    bench.write(regs.RA + 8, int.from_bytes(GROUP[:4], "little"))
    bench.write(regs.RA + 12, 1 << 31 | int.from_bytes(GROUP[4:], "little"))
    assert bench.port.listens[-1] == (PEER, False)
    bench.write(regs.RA + 8, int.from_bytes(ADDRESS[:4], "little"))
    bench.write(regs.RA + 12, 1 << 31 | int.from_bytes(ADDRESS[4:], "little"))
    assert bench.port.listens[-1] == (PEER, True)
    bench.write(regs.CTRL, regs.CTRL_RST)
    assert bench.port.listens[-1] == (ADDRESS, False)


def test_the_port_hears_it_again_after_loading(bench: Bench) -> None:
    bench.card.load_state(bench.card.save_state())
    assert bench.port.listens == [(ADDRESS, False)] * 2


def test_tags_are_stripped_where_the_driver_wants_it(bench: Bench) -> None:
    frame = tagged(frame_of(size=100), 0xA123)
    bench.arrive(frame)
    bench.write(regs.CTRL, regs.CTRL_SLU | regs.CTRL_VME)
    bench.arrive(frame, frame_of())
    kept, stripped, untagged = bench.received()
    assert (kept.data, kept.status & 8, kept.special) == (frame, 0, 0)
    assert (stripped.data, stripped.status & 8, stripped.special) == (frame_of(size=100), 8, 0xA123)
    assert (untagged.status & 8, untagged.special) == (0, 0)


# Delays, loopback


def test_received_frames_delay_their_interrupt_but_not_for_ever(bench: Bench) -> None:
    bench.write(regs.RDTR, 100)
    bench.write(regs.RADV, 250)
    bench.write(regs.IMS, regs.RXT0)
    start_ns, waited = bench.clock.now_ns, 0
    while not bench.line:
        bench.arrive(frame_of(), settle=False)
        bench.wait(50_000)
        waited += 1
    assert 250 * 1024 <= bench.clock.now_ns - start_ns <= 250 * 1024 + 60_000
    bench.read(regs.ICR)
    bench.arrive(frame_of(), settle=False)
    bench.wait(100 * 1024)
    assert not bench.line
    bench.wait(10_000)
    assert bench.line
    bench.read(regs.ICR)
    bench.arrive(frame_of(), settle=False)
    bench.wait(20_000)
    assert not bench.line
    bench.write(regs.RDTR, 1 << 31 | 100)
    assert bench.line


def test_a_sent_frame_delays_its_interrupt_if_its_descriptor_allows_it(bench: Bench) -> None:
    bench.write(regs.TIDV, 100)
    bench.write(regs.IMS, regs.TXDW)
    bench.send(legacy(TX_DATA, 60, EOP | RS | IDE), settle=False)
    bench.wait(20_000)
    assert len(bench.port.sent) == 1
    assert not bench.line
    bench = bench.moved()
    bench.wait(100 * 1024)
    assert bench.line
    bench.read(regs.ICR)
    bench.send(legacy(TX_DATA, 60, EOP | RS), settle=False)
    bench.wait(20_000)
    assert bench.line


@pytest.mark.parametrize("how", ["mac", "phy"])
def test_in_loopback_frames_come_back_and_the_port_has_no_part_in_it(bench: Bench, how: str) -> None:
    if how == "mac":
        bench.write(regs.RCTL, RECEIVE_USUAL | 1 << 6)
    else:
        bench.write(regs.MDIC, 1 << 26 | 1 << 21 | 0x4140)
        bench.settle()
    bench.send_frame(frame_of(size=300))
    bench.arrive(frame_of(fill=9))
    assert [each.data for each in bench.received()] == [frame_of(size=300)]
    assert bench.port.sent == []


def test_every_byte_of_memory_outside_its_buffers_stays(bench: Bench) -> None:
    before = Memory()
    before.content[:] = bench.memory.content
    bench.arrive(frame_of(size=1000))
    bench.send_frame(frame_of(PEER))
    changed = {n for n in range(MEMORY_BYTES) if before.content[n] != bench.memory.content[n]}
    allowed = set(range(RX_BUFFERS, RX_BUFFERS + 1000)) | set(range(RX_RING, RX_RING + 16))
    allowed |= set(range(TX_RING, TX_RING + 16)) | set(range(TX_DATA, TX_DATA + 60))
    assert changed <= allowed
    assert struct.unpack("<Q", bench.memory.read(RX_RING, 8)) == (RX_BUFFERS,)
