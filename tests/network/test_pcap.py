"""Captures: what is written can be read again, by tshark too; what a port's tap sees is what is on the port."""

from __future__ import annotations

import contextlib
import io
import struct
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.captures import tshark
from tests.network.switches import Outside, address, card, new_switch
from vilab.errors import AdminError
from vilab.network.ethernet import BROADCAST, frame_of, tagged
from vilab.network.pcap import SNAPLEN_BYTES, Packet, PcapWriter, packets_of
from vilab.network.policies import SecurityPolicy

LAST_NS = (1 << 32) * 1_000_000_000 - 1
some_packets = st.lists(st.tuples(st.integers(0, LAST_NS), st.binary(max_size=200)), max_size=8)


def written(packets: list[tuple[int, bytes]], nanoseconds: bool = True, snaplen_bytes: int = SNAPLEN_BYTES) -> bytes:
    file = io.BytesIO()
    writer = PcapWriter(file, nanoseconds, snaplen_bytes)
    for at_ns, frame in packets:
        writer(at_ns, frame)
    assert writer.frames == len(packets)
    return file.getvalue()


@given(some_packets, st.booleans(), st.integers(1, 250))
def test_what_is_written_is_read_again(packets: list[tuple[int, bytes]], nanoseconds: bool, snaplen_bytes: int) -> None:
    unit_ns = 1 if nanoseconds else 1000
    expected = [Packet(at - at % unit_ns, frame[:snaplen_bytes], len(frame)) for at, frame in packets]
    assert list(packets_of(io.BytesIO(written(packets, nanoseconds, snaplen_bytes)))) == expected


@given(some_packets, st.booleans())
def test_captures_of_the_other_byte_order_are_read(packets: list[tuple[int, bytes]], nanoseconds: bool) -> None:
    raw = written(packets, nanoseconds)
    swapped = struct.pack(">IHHiIII", *struct.unpack_from("<IHHiIII", raw))
    at = 24
    while at < len(raw):
        head = struct.unpack_from("<IIII", raw, at)
        swapped += struct.pack(">IIII", *head) + raw[at + 16 : at + 16 + head[2]]
        at += 16 + head[2]
    assert list(packets_of(io.BytesIO(swapped))) == list(packets_of(io.BytesIO(raw)))


def test_the_header_is_the_one_of_the_format() -> None:
    assert written([], nanoseconds=False).hex() == "d4c3b2a1020004000000000000000000" + "00000400" + "01000000"
    assert written([])[:4].hex() == "4d3cb2a1"


@given(some_packets, st.data())
def test_a_capture_that_is_cut_off_gives_whole_frames_and_then_a_sentence(
    packets: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    raw = written(packets)
    cut = data.draw(st.integers(0, len(raw)))
    got: list[Packet] = []
    sentence = ""
    try:
        for packet in packets_of(io.BytesIO(raw[:cut])):
            got.append(packet)
    except AdminError as error:
        sentence = str(error)
    assert sentence == "" or ((cut < len(raw) and "ends within" in sentence) or cut < 24)
    assert [(p.at_ns, p.frame) for p in got] == packets[: len(got)]
    if cut == len(raw):
        assert len(got) == len(packets)


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_a_capture_or_get_a_sentence(data: bytes, with_header: bool) -> None:
    with contextlib.suppress(AdminError):
        list(packets_of(io.BytesIO((written([]) if with_header else b"") + data)))


def test_a_capture_of_something_else_is_refused() -> None:
    raw = bytearray(written([]))
    raw[20] = 105
    with pytest.raises(AdminError, match="not of an Ethernet"):
        list(packets_of(io.BytesIO(raw)))
    with pytest.raises(AdminError, match="pcapng"):
        list(packets_of(io.BytesIO(b"\x0a\x0d\x0d\x0a" + bytes(40))))


def test_a_tag_is_there_on_the_uplink_and_not_on_the_guests_port() -> None:
    switch = new_switch(v105=105)
    outside = Outside("vmnic0")
    uplink = switch.add_uplink(outside)
    guest = card(switch, "v105", 1)
    files = {guest.port: io.BytesIO(), uplink: io.BytesIO()}
    for port, file in files.items():
        port.tap(PcapWriter(file, nanoseconds=True))
    out = frame_of(address(9), guest.address, 0x88B5, b"out".ljust(46, b"\0"))
    back = frame_of(guest.address, address(9), 0x88B5, b"back".ljust(46, b"\0"))
    guest.send(out)
    switch._clock.advance(1_234_567_891)
    outside.on_receive(tagged(back, 105, 6))

    def read(file: io.BytesIO) -> list[tuple[int, bytes]]:
        file.seek(0)
        return [(p.at_ns, p.frame) for p in packets_of(file)]

    assert read(files[guest.port]) == [(0, out), (1_234_567_891, back)]
    assert read(files[uplink]) == [(0, tagged(out, 105)), (1_234_567_891, tagged(back, 105, 6))]
    assert guest.frames == [back]


def test_a_tap_sees_what_a_guest_sends_also_if_it_is_dropped_and_nothing_when_it_is_gone() -> None:
    switch = new_switch(v10=10)
    a, b = card(switch, "v10", 1), card(switch, "v10", 2)
    seen: list[bytes] = []

    def tap(at_ns: int, frame: bytes) -> None:
        seen.append(frame)

    frame = frame_of(b.address, a.address, 0x88B5, bytes(46))
    a.send(frame)
    a.port.tap(tap)
    for sent in (frame, frame, tagged(frame, 20), b"short"):
        a.send(sent)
    assert seen == [frame, frame, tagged(frame, 20), b"short"]
    a.port.untap(tap)
    b.port.tap(tap)
    for _ in range(2):
        a.send(frame)
    assert seen[4:] == [frame, frame]


@pytest.mark.interop
def test_tshark_counts_the_same_frames_in_each_vlan(tmp_path: Path) -> None:
    """A sniffer in a trunk group sees every VLAN: tshark's counts are the counters of the switch."""
    switch = new_switch(est=0, v10=10, v20=20, vgt=4095)
    outside = Outside("vmnic0")
    uplink = switch.add_uplink(outside)
    switch.set_policies(msgspec.structs.replace(switch.policies, security=SecurityPolicy(promiscuous=True)))
    cards = {group: card(switch, group, n) for n, group in enumerate(("est", "v10", "v20", "vgt"), 1)}
    sniffer = card(switch, "vgt", 9, promiscuous=True)
    paths = {sniffer.port: tmp_path / "sniffer.pcap", uplink: tmp_path / "uplink.pcap"}
    files = {port: path.open("wb") for port, path in paths.items()}
    for port, file in files.items():
        port.tap(PcapWriter(file))
    arp = bytes.fromhex("0001080006040001") + bytes(20)
    for n in range(60):
        group = ("est", "v10", "v20", "vgt")[n % 4]
        sender = cards[group]
        to = (BROADCAST, address(0x500), cards["v10"].address, bytes.fromhex("01005e000001"))[n // 4 % 4]
        frame = frame_of(to, sender.address, 0x0806, arp)
        sender.send(tagged(frame, (10, 20, 300)[n % 3], n % 8) if group == "vgt" else frame)
        sender.send(tagged(frame, 4095))
        outside.on_receive(tagged(frame_of(to, address(0x600 + n), 0x0806, arp), (10, 20)[n % 2], n % 8))
        outside.on_receive(frame_of(to, address(0x600 + n), 0x0806, arp))
    for file in files.values():
        file.close()
    seen = Counter(int(row[0] or 0) for row in tshark(paths[sniffer.port], "vlan.id"))
    assert seen == {vlan: s.forwarded.frames for vlan, s in switch.vlans.items() if s.forwarded.frames}
    assert set(seen) == {0, 10, 20, 300}
    on_wire = Counter(int(row[0] or 0) for row in tshark(paths[uplink], "vlan.id"))
    counts = uplink.statistics
    sent = {vlan: c.frames for vlan, c in counts.sent_in.items()}
    received = {vlan: c.frames for vlan, c in counts.received_in.items()}
    assert on_wire == {v: sent.get(v, 0) + received.get(v, 0) for v in sent.keys() | received.keys()}
    assert sum(on_wire.values()) == counts.sent.frames + counts.received.frames
    for path in paths.values():
        rows = tshark(path, "_ws.malformed", "vlan.priority", "frame.len")
        assert not any(row[0] for row in rows)
    lengths = sum(int(row[0]) for row in tshark(paths[uplink], "frame.len"))
    assert lengths == counts.sent.octets + counts.received.octets
