"""vmxnet3 sends: rings and generations, offloads judged by ``vilab.network.packets``, exits that are saved, errors."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.scsi_bench import MEMORY_BYTES
from tests.devices.vmxnet3_driver import (
    ADDRESS,
    ECR,
    PEER,
    QUEUES,
    RESET,
    SHARED,
    TX,
    TX_BUFFERS,
    TX_ENTRIES,
    Bench,
    Driver,
)
from vilab.devices.network_events import FrameFetched, FrameRefused
from vilab.devices.vmxnet3 import IDLE_NS, POLL_NS
from vilab.network.ethernet import priority_of, tagged, vlan_of
from vilab.network.packets import FIN, PSH, Ipv4, Tcp, Udp, checksum, ip_of, parse_ipv4, parse_tcp, parse_udp

HERE, THERE = ip_of("10.0.0.1"), ip_of("10.0.0.2")
CWR = 0x80


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def driver(bench: Bench) -> Driver:
    driver = Driver(bench)
    assert driver.start() == 0
    return driver


def plain(size_bytes: int, seed: int = 0) -> bytes:
    data = bytes((seed * 7 + n * 13 + (n >> 8)) & 0xFF for n in range(size_bytes - 14))
    return PEER + ADDRESS + b"\x88\xb5" + data


def tcp_frame(data: bytes, flags: int = FIN | PSH | CWR | 16, options: bytes = b"") -> bytes:
    """As the driver hands it over: length and checksums are the card's business."""
    tcp = Tcp(1000, 2000, 0xFFFF_F000, 5, flags, 4096, data=data, options=options).encode(HERE, THERE)
    ip = Ipv4(HERE, THERE, 6, b"", identification=0xFFFE).encode()
    return PEER + ADDRESS + b"\x08\x00" + ip[:2] + b"\0\0" + ip[4:10] + b"\0\0" + ip[12:] + tcp


def test_frames_leave_in_order_and_are_completed_through_many_generations(bench: Bench, driver: Driver) -> None:
    sent, ends, done = [], [], []
    for number in range(5 * TX_ENTRIES):
        frame = plain(60 + number * 37 % 1455, number)
        pieces = [[], [42], [14, 20, 20], [14] * 3][number % 4]
        ends.append(driver.send(frame, pieces))
        sent.append(frame)
        if number % 10 == 9:
            bench.settle()
            done += driver.completed()
    assert bench.port.sent == sent
    assert done == ends
    assert driver.counters()[2:4] == (len(sent), sum(map(len, sent)))
    events = bench.log.of(FrameFetched)
    assert [event.frame for event in events] == sent
    assert [event.descriptors for event in events[:4]] == [1, 2, 4, 4]
    assert events[1].gpa == TX + 16


def test_completions_are_written_for_those_that_ask(bench: Bench, driver: Driver) -> None:
    driver.send(plain(60))
    bench.memory.write(TX + 12, struct.pack("<I", 1 << 12))
    last = driver.send(plain(61))
    bench.settle()
    assert len(bench.port.sent) == 2
    assert driver.completed() == [last]


def test_short_frames_are_padded_and_shorter_ones_than_a_header_refused(bench: Bench, driver: Driver) -> None:
    driver.send(plain(14))
    driver.send(plain(20)[:13])
    bench.settle()
    assert bench.port.sent == [plain(14).ljust(60, b"\0")]
    assert driver.completed() == [0, 1]
    assert driver.counters()[8] == 1
    assert [event.why for event in bench.log.of(FrameRefused)] == ["too_short"]


def test_the_length_0_means_16_kilobytes(bench: Bench, driver: Driver) -> None:
    bench.memory.write(TX_BUFFERS, plain(1 << 14))
    bench.memory.write(TX, struct.pack("<QII", TX_BUFFERS, 1 << 14, 3 << 12))
    driver.data(0x600, 1)
    bench.settle()
    assert [event.size_bytes for event in bench.log.of(FrameRefused)] == [1 << 14]


@pytest.mark.parametrize("mtu", [60, 1500, 9000])
def test_what_is_longer_than_the_mtu_is_refused_and_completed(bench: Bench, mtu: int) -> None:
    driver = Driver(bench)
    assert driver.start(mtu=mtu) == 0
    driver.send(plain(mtu + 18))
    bench.settle()
    driver.send(plain(mtu + 19))
    bench.settle()
    assert bench.port.sent == [plain(mtu + 18)]
    assert driver.completed() == [0, 1]
    assert [event.why for event in bench.log.of(FrameRefused)] == ["too_long"]


def test_a_tag_is_inserted(bench: Bench, driver: Driver) -> None:
    driver.send(plain(60), tag=5 << 13 | 42)
    driver.send(plain(16), tag=0)
    bench.settle()
    assert bench.port.sent == [tagged(plain(60), 42, 5), tagged(plain(16).ljust(60, b"\0"), 0)]
    assert (vlan_of(bench.port.sent[0]), priority_of(bench.port.sent[0])) == (42, 5)


def test_counters_know_broadcast_and_multicast(bench: Bench, driver: Driver) -> None:
    for destination in (b"\xff" * 6, bytes.fromhex("01005e000001"), PEER):
        driver.send(destination + plain(100)[6:])
    bench.settle()
    assert driver.counters()[2:8] == (1, 100, 1, 100, 1, 100)


@given(data=st.binary(min_size=0, max_size=1400), tag=st.sampled_from([None, 7]), inline_tag=st.booleans())
@settings(max_examples=30, deadline=None)
def test_checksums_of_udp_and_tcp_are_finished(data: bytes, tag: int | None, inline_tag: bool) -> None:
    bench = Bench()
    driver = Driver(bench)
    driver.start()
    for protocol, header, at in ((17, Udp(1, 2, data).encode(HERE, THERE)[:8], 6), (6, tcp_frame(b"")[34:54], 16)):
        length = len(header) + len(data)
        pseudo = checksum(HERE + THERE + struct.pack(">BBH", 0, protocol, length)) ^ 0xFFFF
        l4 = header[:at] + struct.pack(">H", pseudo) + header[at + 2 :] + data
        frame = PEER + ADDRESS + (b"\x81\x00\x00\x03" if inline_tag else b"") + b"\x08\x00"
        start = len(frame) + 20
        driver.send(frame + Ipv4(HERE, THERE, protocol, l4).encode(), [start], 2, start, start + at, tag)
    bench.settle()
    assert driver.completed() == [1, 3]
    for frame, parse in zip(bench.port.sent, (parse_udp, parse_tcp), strict=True):
        assert vlan_of(frame) == (tag or (3 if inline_tag else None))
        ip = parse_ipv4(frame[14 + 4 * (tag is not None) + 4 * inline_tag :])
        assert parse(ip.payload, HERE, THERE).data == data


def test_a_checksum_that_is_zero_is_sent_as_ones(bench: Bench, driver: Driver) -> None:
    driver.send(PEER + ADDRESS + b"\x08\x00" + bytes(20) + bytes.fromhex("ffff0000"), [], 2, 34, 36)
    bench.settle()
    assert bench.port.sent[0][36:38] == b"\xff\xff"


@pytest.mark.parametrize(("hlen", "offset"), [(60, 59), (40, 59), (1000, 1022), (0x3FF, 0x3FFF), (61, 60)])
def test_a_checksum_outside_the_frame_is_refused(bench: Bench, driver: Driver, hlen: int, offset: int) -> None:
    driver.send(plain(60), [], 2, hlen, offset)
    bench.settle()
    assert (bench.port.sent, driver.completed(), driver.counters()[8]) == ([], [0], 1)


@given(
    size=st.integers(0, 40_000), mss=st.integers(500, 1448), options=st.sampled_from([b"", b"\1" * 12]),
    tag=st.sampled_from([None, 9]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_segments_are_whole_tcp_packets_with_all_of_the_data(
    size: int, mss: int, options: bytes, tag: int | None
) -> None:
    bench = Bench()
    driver = Driver(bench)
    driver.start()
    data = bytes((n * n >> 3) & 0xFF for n in range(size))
    headers = 54 + len(options)
    driver.send(tcp_frame(data, options=options), [headers, 8000, 16000], 3, headers, mss, tag)
    bench.settle()
    count = max(1, -(-size // mss))
    assert len(bench.port.sent) == count
    together = b""
    for number, frame in enumerate(bench.port.sent):
        assert vlan_of(frame) == tag
        ip = parse_ipv4(frame[14 if tag is None else 18 :])
        tcp = parse_tcp(ip.payload, HERE, THERE)
        assert ip.identification == (0xFFFE + number) & 0xFFFF
        assert tcp.sequence == (0xFFFF_F000 + len(together)) & 0xFFFF_FFFF
        assert bool(tcp.flags & FIN) == bool(tcp.flags & PSH) == (number == count - 1)
        assert bool(tcp.flags & CWR) == (number == 0)
        assert (tcp.options, tcp.acknowledgement, tcp.window) == (options, 5, 4096)
        together += tcp.data
    assert together == data
    total = sum(map(len, bench.port.sent))
    assert driver.counters()[:4] == (count, total, count, total)
    assert {event.segments for event in bench.log.of(FrameFetched)} == {count}


def test_segments_of_ipv6_have_their_lengths_and_checksums(bench: Bench, driver: Driver) -> None:
    source, destination = bytes(15) + b"\1", bytes(15) + b"\2"
    data = bytes(range(256)) * 20
    tcp = Tcp(1, 2, 100, 5, 16, 10).encode(HERE, THERE)
    ip = struct.pack(">IHBB", 6 << 28, 0, 6, 64) + source + destination
    driver.send(PEER + ADDRESS + b"\x86\xdd" + ip + tcp + data, [74], 3, 74, 1000)
    bench.settle()
    together = b""
    for frame in bench.port.sent:
        length = int.from_bytes(frame[18:20], "big")
        assert length == len(frame) - 54
        assert checksum(source + destination + struct.pack(">II", length, 6), frame[54:]) == 0
        assert int.from_bytes(frame[58:62], "big") == 100 + len(together)
        together += frame[74:]
    assert together == data


TSO = tcp_frame(bytes(3000))
BAD_TSO = {
    "no MSS": (TSO, 54, 0), "header too short": (TSO, 34, 1000), "header too long": (TSO, 58, 1000),
    "header longer than the packet": (TSO[:54], 1000, 1000), "no header": (TSO, 0, 1000),
    "segments longer than the MTU": (TSO, 54, 1500), "UDP": (TSO[:23] + b"\x11" + TSO[24:], 54, 1000),
    "ARP": (TSO[:12] + b"\x08\x06" + TSO[14:], 54, 1000), "IP header of 16": (TSO[:14] + b"\x44" + TSO[15:], 50, 1000),
    "TCP header of 16": (TSO[:46] + b"\x40" + TSO[47:], 50, 1000), "truncated": (TSO[:50], 50, 1000),
    "only Ethernet": (TSO[:14], 14, 1000), "more segments than there may be": (tcp_frame(bytes(10_000)), 54, 4),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_TSO)
def test_segmentation_that_makes_no_sense_is_refused_and_completed(bench: Bench, driver: Driver, what: str) -> None:
    frame, hlen, mss = BAD_TSO[what]
    driver.send(frame, [], 3, hlen, mss)
    driver.send(plain(60))
    bench.settle()
    assert (bench.port.sent, driver.completed(), driver.counters()[8]) == ([plain(60)], [0, 1], 1)
    assert len(bench.log.of(FrameRefused)) == 1


def test_encapsulation_and_buffers_out_of_reach_are_refused_and_completed(bench: Bench, driver: Driver) -> None:
    driver.send(plain(60), [], 1)
    for gpa in (MEMORY_BYTES - 59, 1 << 40, (1 << 64) - 1):
        driver.send(plain(60))
        bench.memory.write(TX + 16 * (driver.tx_next - 1), struct.pack("<Q", gpa))
    bench.settle()
    assert (bench.port.sent, driver.completed(), driver.counters()[8]) == ([], [0, 1, 2, 3], 4)


def broken_ring(driver: Driver, words: list[tuple[int, int]]) -> None:
    for index, (low, high) in enumerate(words):
        driver.machine.write(TX + 16 * index, struct.pack("<QII", TX_BUFFERS, low, high))
    driver.data(0x600, len(words) % TX_ENTRIES)
    driver.machine.settle()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([(100 | 1 << 14, 0)] * 16 + [(100 | 1 << 14, 1 << 12)], 0x80000002),
        ([(100 | 1 << 14, 0)] * TX_ENTRIES, 0x80000002),
        ([(100 | 1 << 14, 3 << 10)] * TX_ENTRIES, 0x80000002),
        ([(100 | 1 << 14, 0)] * 3 + [(100, 1 << 12)], 0x80000000),
        ([(100 | 1 << 14 | 1 << 16, 1 << 12)], 0x80000003),
    ],
    ids=["17 descriptors", "no end", "no end with segmentation", "no end in this round", "type"],
)
def test_a_ring_that_makes_no_sense_stops_the_queue_until_the_card_is_reset(
    bench: Bench, driver: Driver, words: list[tuple[int, int]], error: int
) -> None:
    broken_ring(driver, words)
    assert (driver.u32(SHARED + 696), bench.line) == (2, True)
    assert driver.status() == (1, error)
    driver.put(ECR, 2)
    driver.data(0x600, 0)
    bench.settle()
    assert (bench.port.sent, driver.u32(SHARED + 696)) == ([], 0)
    driver.command(RESET)
    assert driver.start() == 0
    driver.send(plain(60))
    bench.settle()
    assert bench.port.sent == [plain(60)]
    assert driver.status() == (0, 0)


def test_a_packet_of_the_round_before_is_not_sent_again(bench: Bench, driver: Driver) -> None:
    for number in range(TX_ENTRIES):
        driver.send(plain(60, number))
        bench.settle()
    driver.data(0x600, 0)
    bench.settle()
    assert len(bench.port.sent) == TX_ENTRIES


def test_a_stream_of_frames_needs_few_doorbells(bench: Bench, driver: Driver) -> None:
    for number in range(400):
        driver.send(plain(1514, number))
        bench.wait(10_000)
        driver.completed()
    bench.settle()
    assert bench.port.sent == [plain(1514, number) for number in range(400)]
    assert driver.kicks < 10


def test_frames_far_apart_are_sent_at_once(bench: Bench, driver: Driver) -> None:
    for number in range(5):
        driver.send(plain(60, number))
        bench.wait(6_000)
        assert len(bench.port.sent) == number + 1
        assert bench.card.save_state().look_ns == 0
        bench.wait(IDLE_NS)


def test_the_last_frames_of_a_stream_do_not_stay_in_the_ring(bench: Bench, driver: Driver) -> None:
    for gap_ns in (1_000, 7_000, 39_000, 100_000, 159_000, 161_000):
        for number in range(7):
            driver.send(plain(60, number))
            bench.wait(gap_ns)
        bench.wait(POLL_NS)
        assert len(bench.port.sent) == 7
        bench.port.sent.clear()
        bench.settle()
        assert driver.u32(QUEUES + 4) == 1
        assert bench.card.save_state().look_ns == 0
        driver.completed()


def test_what_cannot_wait_is_done_between_two_looks_at_a_busy_ring(bench: Bench, driver: Driver) -> None:
    for number in range(2):
        driver.send(plain(60, number))
        bench.wait(10_000)
    assert driver.u32(QUEUES + 4) > 1
    assert driver.counters()[2] == 2  # in memory before the next block of code
    driver.send(plain(60, 2))
    driver.data(0x600, driver.tx_next)
    bench.wait(6_000)
    assert len(bench.port.sent) == 3


def test_the_work_of_one_look_is_limited(bench: Bench, driver: Driver) -> None:
    driver.data(0x600, 0)
    for number in range(2):
        driver.send(tcp_frame(bytes(40_000), flags=16), [54, 16000, 16000], 3, 54, 500, worth=80)
        assert number or driver.kicks == 1
    bench.wait(5_000)
    assert len(bench.port.sent) == 80
    bench.wait(5_000)
    assert len(bench.port.sent) == 160
