"""vmxnet3 receives: buffers of both rings, generations, what its checksums are worth, filters, tags, errors."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.scsi_bench import MEMORY_BYTES
from tests.devices.vmxnet3_driver import (
    ADDRESS,
    ALL_MULTI,
    BCAST,
    DONE_ENTRIES,
    ECR,
    F_CSUM,
    F_VLAN,
    FEATURE,
    HEAD_BYTES,
    MCAST,
    PAGE,
    PEER,
    PROMISC,
    RESET,
    RX1,
    RX1_ENTRIES,
    RX2,
    RX2_ENTRIES,
    SHARED,
    UCAST,
    Bench,
    Driver,
)
from vilab.devices.network_events import FrameRefused, FrameStored
from vilab.network.ethernet import tagged
from vilab.network.packets import Ipv4, Tcp, Udp, checksum, ip_of

HERE, THERE = ip_of("10.0.0.1"), ip_of("10.0.0.2")
GROUP, OTHER_GROUP = bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")
L4_GOOD, UDP, TCP, IP_GOOD, V6, V4, FRAGMENT, FCS = (1 << bit for bit in range(16, 24))
RX_TYPE = 3 << 24


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def driver(bench: Bench) -> Driver:
    driver = Driver(bench)
    assert driver.start() == 0
    return driver


def plain(size_bytes: int, seed: int = 0, destination: bytes = ADDRESS) -> bytes:
    data = bytes((seed * 7 + n * 13 + (n >> 8)) & 0xFF for n in range(size_bytes - 14))
    return destination + PEER + b"\x88\xb5" + data


def refusals(bench: Bench) -> list[str]:
    return [event.why for event in bench.log.of(FrameRefused)]


def test_frames_arrive_in_order_through_many_generations(bench: Bench, driver: Driver) -> None:
    expected, got = [], []
    for number in range(5 * DONE_ENTRIES):
        expected.append(plain(14 + number * 41 % 1501, number))
        bench.card.receive(expected[-1])
        if number % 20 == 19:
            got += driver.received()
    assert [each.frame for each in got] == expected
    assert {(each.tag, each.rings, each.error) for each in got} == {(None, (0,), False)}
    assert driver.counters(receive=True)[2:4] == (len(expected), sum(map(len, expected)))
    assert [event.frame for event in bench.log.of(FrameStored)] == expected


@given(sizes=st.lists(st.integers(14, 9014), max_size=30), bodies=st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_large_frames_go_on_in_bodies_of_the_same_ring_and_then_of_the_other(sizes: list[int], bodies: int) -> None:
    bench = Bench()
    driver = Driver(bench)
    assert driver.start(mtu=9000, bodies_after_head=bodies) == 0
    for number, size in enumerate(sizes):
        frame = plain(size, number)
        bench.card.receive(frame)
        (got,) = driver.received()
        more = max(0, -(-(size - HEAD_BYTES) // PAGE))
        assert got.frame == frame
        assert got.rings == (0,) * (1 + min(bodies, more)) + (1,) * max(0, more - bodies)


def test_without_buffers_frames_are_dropped_whole_and_counted(bench: Bench) -> None:
    driver = Driver(bench)
    driver.start(mtu=9000)
    frames = [plain(9014, number) for number in range(RX2_ENTRIES // 2)]
    for frame in frames:
        bench.card.receive(frame)
    bench.card.receive(plain(60))
    kept = (RX2_ENTRIES - 1) // 2
    assert [each.frame for each in driver.received()] == [*frames[:kept], plain(60)]
    assert refusals(bench) == ["no_descriptor"] * (len(frames) - kept)
    assert driver.counters(receive=True)[8] == len(frames) - kept
    for number in range(RX1_ENTRIES):
        bench.card.receive(plain(60, number))
    assert [each.frame for each in driver.received()] == [plain(60, number) for number in range(RX1_ENTRIES - 1)]


def test_most_buffers_for_a_frame_is_honoured(bench: Bench) -> None:
    driver = Driver(bench)
    shared = driver.shared(mtu=9000)
    struct.pack_into("<H", shared, 60, 2)
    driver.start(shared=bytes(shared))
    bench.card.receive(plain(HEAD_BYTES + PAGE))
    bench.card.receive(plain(HEAD_BYTES + PAGE + 1))
    assert [len(each.frame) for each in driver.received()] == [HEAD_BYTES + PAGE]


def test_small_frames_go_to_the_data_ring_of_version_3(bench: Bench) -> None:
    for version, rings in ((3, [(2,), (2,), (0,)]), (2, [(0,), (0,), (0,)])):
        driver = Driver(bench, version)
        driver.start(rx_queue=bytes(driver.rx_queue(128)))
        frames = [plain(size, size) for size in (60, 128, 129)]
        for frame in frames:
            bench.card.receive(frame)
        got = driver.received(128)
        assert [each.frame for each in got] == frames
        assert [each.rings for each in got] == rings


def test_a_data_ring_out_of_reach_is_refused(bench: Bench) -> None:
    driver = Driver(bench, 3)
    for data_bytes, gpa in ((2049, 0xC000), (128, MEMORY_BYTES - 128 * RX1_ENTRIES + 1)):
        queue = driver.rx_queue(data_bytes)
        struct.pack_into("<Q", queue, 48, gpa)
        assert driver.start(rx_queue=bytes(queue)) == 1


# Filters


MODES = {
    UCAST: {"unicast"}, BCAST: {"broadcast"}, MCAST: {"group"}, ALL_MULTI: {"group", "other group"},
    UCAST | BCAST | MCAST: {"unicast", "broadcast", "group"}, 0: set(),
    PROMISC: {"unicast", "broadcast", "group", "other group", "other unicast", "VLAN 5", "VLAN 6"},
    UCAST | ALL_MULTI: {"unicast", "group", "other group"},
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_says_what_is_taken(bench: Bench, driver: Driver, mode: int) -> None:
    driver.mode(mode, groups=[GROUP])
    frames = {
        "unicast": plain(60), "broadcast": plain(60, 1, b"\xff" * 6), "group": plain(60, 2, GROUP),
        "other group": plain(60, 3, OTHER_GROUP), "other unicast": plain(60, 4, PEER),
        "VLAN 5": tagged(plain(60, 5), 5), "VLAN 6": tagged(plain(60, 6, b"\xff" * 6), 6),
    }  # fmt: skip
    for frame in frames.values():
        bench.card.receive(frame)
    taken = driver.received()
    assert len(taken) == len(MODES[mode])
    inner = {each.frame if each.tag is None else tagged(each.frame, each.tag) for each in taken}
    assert {name for name, frame in frames.items() if frame in inner} == MODES[mode]
    assert refusals(bench) == ["filter"] * (len(frames) - len(taken))
    assert bench.card.wants_multicast(GROUP) == ("group" in MODES[mode])
    assert bench.card.wants_multicast(OTHER_GROUP) == ("other group" in MODES[mode])


def test_the_multicast_table_is_exact_and_replaced_as_a_whole(bench: Bench, driver: Driver) -> None:
    table = [bytes.fromhex("01005e0000") + bytes([n]) for n in range(100)]
    driver.mode(MCAST, groups=table)
    assert [group for group in (*table, OTHER_GROUP) if bench.card.wants_multicast(group)] == table
    bench.memory.write(0x3000, OTHER_GROUP * 100)  # the driver's table is the driver's again
    assert bench.card.wants_multicast(table[5])
    driver.mode(MCAST, groups=[OTHER_GROUP])
    assert [group for group in (*table, OTHER_GROUP) if bench.card.wants_multicast(group)] == [OTHER_GROUP]


def test_a_multicast_table_out_of_reach_leaves_the_one_before(bench: Bench, driver: Driver) -> None:
    driver.mode(MCAST, groups=[GROUP])
    bench.memory.write(SHARED + 124, struct.pack("<HHQ", 6, 0, MEMORY_BYTES - 5))
    assert driver.command(0xCAFE0004) == 1
    assert bench.card.wants_multicast(GROUP)


def test_the_address_that_was_programmed_counts(bench: Bench, driver: Driver) -> None:
    driver.put(0x28, 0x3322_1102)
    driver.put(0x30, 0x5544)
    bench.card.receive(plain(60))
    bench.card.receive(plain(60, 1, bytes.fromhex("021122334455")))
    assert [each.frame for each in driver.received()] == [plain(60, 1, bytes.fromhex("021122334455"))]


@given(vlans=st.sets(st.integers(0, 4095), max_size=20), tag=st.integers(0, 0xFFFF), strip=st.booleans())
@settings(max_examples=40, deadline=None)
def test_vlans_are_filtered_and_tags_taken_out(vlans: set[int], tag: int, strip: bool) -> None:
    bench = Bench()
    driver = Driver(bench)
    driver.start(features=F_VLAN if strip else 0)
    driver.mode(UCAST, vlans=[*vlans, 77])
    frame = tagged(plain(100), 0)[:14] + struct.pack(">H", tag) + plain(100)[12:]
    bench.card.receive(plain(60))
    bench.card.receive(frame)
    got = [(each.frame, each.tag) for each in driver.received()[1:]]
    expected = (plain(100), tag) if strip else (frame, None)
    assert got == ([expected] if tag & 0xFFF in {*vlans, 77} else [])


def test_features_can_be_changed(bench: Bench, driver: Driver) -> None:
    frame = tagged(plain(60), 0)
    for features, tag, unchecked in ((F_VLAN | F_CSUM, 0, False), (0, None, True)):
        bench.memory.write(SHARED + 24, struct.pack("<Q", features))
        assert driver.command(FEATURE) == 0
        bench.card.receive(frame)
        (got,) = driver.received()
        assert (got.tag, got.unchecked, len(got.frame)) == (tag, unchecked, 60 if tag is not None else 64)


# Checksums


def ipv4(protocol: int, payload: bytes, fragment: int = 0, options: bytes = b"") -> bytes:
    packet = Ipv4(THERE, HERE, protocol, payload, fragment=fragment, options=options).encode()
    return (ADDRESS + PEER + b"\x08\x00" + packet).ljust(60, b"\0")


def ipv6(protocol: int, payload: bytes) -> bytes:
    addresses = bytes(range(16)) + bytes(range(1, 17))
    at = {6: 16, 17: 6}.get(protocol)
    if at is not None:
        pseudo = addresses + struct.pack(">II", len(payload), protocol)
        check = checksum(pseudo, payload[:at] + b"\0\0" + payload[at + 2 :])
        payload = payload[:at] + struct.pack(">H", check) + payload[at + 2 :]
    return (
        ADDRESS + PEER + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + addresses + payload
    )


UDP_PACKET, TCP_PACKET = (
    Udp(7, 8, b"hello there").encode(THERE, HERE),
    Tcp(7, 8, 9, 10, 16, data=b"odd").encode(THERE, HERE),
)
VERDICTS = {
    "UDP": (ipv4(17, UDP_PACKET), V4 | IP_GOOD | UDP | L4_GOOD),
    "TCP": (ipv4(6, TCP_PACKET), V4 | IP_GOOD | TCP | L4_GOOD),
    "TCP behind options": (ipv4(6, TCP_PACKET, options=b"\1" * 8), V4 | IP_GOOD | TCP | L4_GOOD),
    "UDP that is wrong": (ipv4(17, UDP_PACKET[:-1] + b"E"), V4 | IP_GOOD | UDP),
    "TCP that is wrong": (ipv4(6, TCP_PACKET[:-1] + b"E"), V4 | IP_GOOD | TCP),
    "UDP without": (ipv4(17, UDP_PACKET[:6] + b"\0\0" + UDP_PACKET[8:]), V4 | IP_GOOD | UDP),
    "UDP that is too short": (ipv4(17, UDP_PACKET[:4] + b"\0\7" + UDP_PACKET[6:]), V4 | IP_GOOD | UDP),
    "UDP that is longer than IP": (ipv4(17, UDP_PACKET[:4] + b"\0\x20" + UDP_PACKET[6:]), V4 | IP_GOOD | UDP),
    "TCP without room": (ipv4(6, TCP_PACKET[:19]), V4 | IP_GOOD),
    "ICMP": (ipv4(1, bytes(8)), V4 | IP_GOOD),
    "fragment": (ipv4(17, UDP_PACKET, fragment=0x2000), V4 | IP_GOOD | FRAGMENT),
    "last fragment": (ipv4(17, UDP_PACKET, fragment=0x0010), V4 | IP_GOOD | FRAGMENT),
    "IP header that is wrong": (ipv4(17, UDP_PACKET).replace(THERE, ip_of("10.0.0.3"), 1), V4),
    "IP longer than the frame": (ipv4(17, UDP_PACKET)[:16] + b"\5\0" + ipv4(17, UDP_PACKET)[18:], V4),
    "IP cut off": (ipv4(17, UDP_PACKET)[:30], 0),
    "version 5": (ipv4(17, UDP_PACKET)[:14] + b"\x55" + ipv4(17, UDP_PACKET)[15:], 0),
    "UDP over IPv6": (ipv6(17, UDP_PACKET), V6 | UDP | L4_GOOD),
    "TCP over IPv6": (ipv6(6, TCP_PACKET), V6 | TCP | L4_GOOD),
    "wrong TCP over IPv6": (ipv6(6, TCP_PACKET)[:-1] + b"E", V6 | TCP),
    "IPv6 longer than the frame": (ipv6(6, TCP_PACKET)[:-1], V6),
    "ICMP over IPv6": (ipv6(58, bytes(8)), V6),
    "neither": (plain(60), 0),
}  # fmt: skip


@pytest.mark.parametrize("what", VERDICTS)
@pytest.mark.parametrize("tag", [None, 5])
def test_completions_say_what_checksums_are_worth(bench: Bench, driver: Driver, what: str, tag: int | None) -> None:
    frame, bits = VERDICTS[what]
    driver.mode(UCAST, vlans=[0, 5])
    bench.card.receive(frame if tag is None else tagged(frame, tag))
    (got,) = driver.received()
    assert (got.frame, got.tag, got.unchecked) == (frame, tag, False)
    assert got.bits == bits | FCS | RX_TYPE


@given(
    frame=st.binary(min_size=14, max_size=80),
    kind=st.sampled_from([b"\x08\x00E", b"\x86\xdd`", b"\x81\x00", b""]), protocol=st.sampled_from([6, 17]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_received_as_they_are(frame: bytes, kind: bytes, protocol: int) -> None:
    bench = Bench()
    driver = Driver(bench)
    driver.start(features=F_CSUM)
    driver.mode(UCAST, vlans=list(range(4096)))
    frame = (ADDRESS + frame[6:12] + kind + frame)[: max(14, len(frame))]
    if len(frame) > 24:
        frame = frame[:23] + bytes([protocol]) + frame[24:]
    bench.card.receive(frame)
    assert [each.frame for each in driver.received()] == [frame]


# Errors


def test_too_long_and_too_short_frames_are_refused_and_counted(bench: Bench, driver: Driver) -> None:
    for size in (13, 0, 1519, 1518):
        bench.card.receive((ADDRESS + bytes(1600))[:size])
    assert [len(each.frame) for each in driver.received()] == [1518]
    assert refusals(bench) == ["too_short", "too_short", "too_long"]
    assert driver.counters(receive=True)[9] == 3


def test_a_buffer_out_of_reach_is_given_back_with_an_error(bench: Bench, driver: Driver) -> None:
    for index, gpa in enumerate((MEMORY_BYTES - 50, 1 << 50)):
        bench.memory.write(RX1 + 16 * index, struct.pack("<Q", gpa))
    for number in range(3):
        bench.card.receive(plain(60, number))
    assert [struct.unpack("<I", bench.memory.read(0xB008 + 16 * n, 4))[0] >> 14 & 1 for n in range(3)] == [1, 1, 0]
    assert refusals(bench) == ["bad_descriptor"] * 2
    assert bench.line


@pytest.mark.parametrize(
    ("word", "error"), [(127 | 1 << 31, 0x80000004), (1536 | 1 << 15 | 1 << 31, 0x80000003)], ids=["small", "type"]
)
def test_a_ring_that_makes_no_sense_stops_the_queue_until_the_card_is_reset(
    bench: Bench, driver: Driver, word: int, error: int
) -> None:
    bench.memory.write(RX1 + 8, struct.pack("<I", word))
    bench.card.receive(plain(60))
    bench.wait(0)
    assert (driver.u32(SHARED + 696), bench.line) == (1, True)
    assert (driver.status(receive=True), driver.status()) == ((1, error), (0, 0))
    driver.put(ECR, 1)
    driver.give_buffers()
    bench.card.receive(plain(60))
    assert driver.received() == []
    driver.command(RESET)
    assert driver.start() == 0
    bench.card.receive(plain(60))
    assert [each.frame for each in driver.received()] == [plain(60)]


def test_a_ring_of_bodies_only_is_searched_for_a_while_and_no_longer(bench: Bench, driver: Driver) -> None:
    bench.memory.write(RX1, struct.pack("<QII", 0x40000, PAGE | 1 << 14 | 1 << 31, 0) * RX1_ENTRIES)
    bench.card.receive(plain(60))
    assert refusals(bench) == ["no_descriptor"]


def test_bodies_without_room_end_no_frame(bench: Bench) -> None:
    driver = Driver(bench)
    driver.start(mtu=9000)
    for size in (0, 1):
        bench.memory.write(RX2, struct.pack("<QII", 0x40000, size | 1 << 14 | 1 << 31, 0) * RX2_ENTRIES)
        bench.card.receive(plain(5000))
    assert refusals(bench) == ["no_descriptor"] * 2
