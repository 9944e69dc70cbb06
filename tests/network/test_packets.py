"""ARP, IPv4, ICMP, UDP and TCP: what is built is read back, and by tshark; what is broken is refused."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.captures import captured, tshark
from vilab.errors import AdminError
from vilab.network import packets
from vilab.network.ethernet import ARP, BROADCAST, IPV4, frame_of
from vilab.network.packets import Arp, Icmp, Ipv4, PacketError, Tcp, Udp

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
IP_A, IP_B = packets.ip_of("10.0.0.1"), packets.ip_of("10.0.0.2")

octets4, octets6 = st.binary(min_size=4, max_size=4), st.binary(min_size=6, max_size=6)
u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
options = st.integers(0, 10).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words))


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert checksum_of("0001f203f4f5f6f7") == 0x220D
    assert checksum_of("ff") == 0x00FF
    assert checksum_of("") == 0xFFFF


def checksum_of(text: str) -> int:
    return packets.checksum(bytes.fromhex(text))


@given(octets4, octets4, st.integers(0, 255), st.binary(max_size=200), st.integers(0, 255), u16, u16, options)
def test_an_ipv4_packet_is_read_back_whatever_padding_follows(
    source: bytes, destination: bytes, protocol: int, payload: bytes, ttl: int, number: int, fragment: int, more: bytes
) -> None:
    packet = Ipv4(source, destination, protocol, payload, ttl, number, fragment, 0, more)
    assert packets.parse_ipv4(packet.encode() + bytes(7)) == packet


@given(u16, octets6, octets4, octets6, octets4)
def test_arp_is_read_back(operation: int, mac: bytes, ip: bytes, other_mac: bytes, other_ip: bytes) -> None:
    message = Arp(operation, mac, ip, other_mac, other_ip)
    assert packets.parse_arp(message.encode() + bytes(18)) == message


@given(octets4, octets4, u16, u16, u32, u32, st.integers(0, 255), u16, options, st.binary(max_size=200))
def test_what_ip_carries_is_read_back(
    source: bytes, destination: bytes, from_port: int, to_port: int, sequence: int, acknowledgement: int, flags: int,
    window: int, more: bytes, data: bytes,
) -> None:  # fmt: skip
    ends = source, destination
    datagram = Udp(from_port, to_port, data)
    assert packets.parse_udp(datagram.encode(*ends), *ends) == datagram
    segment = Tcp(from_port, to_port, sequence, acknowledgement, flags, window, 0, more, data)
    assert packets.parse_tcp(segment.encode(*ends), *ends) == segment
    message = Icmp(flags, 0, struct.pack(">HH", from_port, to_port), data)
    assert packets.parse_icmp(message.encode()) == message


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (
        packets.parse_arp, packets.parse_ipv4, packets.parse_icmp,
        lambda it: packets.parse_udp(it, IP_A, IP_B), lambda it: packets.parse_tcp(it, IP_A, IP_B),
    ):  # fmt: skip
        with contextlib.suppress(PacketError):
            parse(data)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_one_flipped_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    """The one's complement sum finds every single bit, wherever it is."""
    whole = Udp(1000, 2000, payload).encode(IP_A, IP_B)
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8
    if broken[6:8] == b"\0\0":
        return  # the checksum says now that there is none
    with pytest.raises(PacketError):
        packets.parse_udp(bytes(broken), IP_A, IP_B)
    header = bytearray(Ipv4(IP_A, IP_B, packets.UDP, b"").encode())
    header[bit // 8 % 20] ^= 1 << bit % 8
    with pytest.raises(PacketError):
        packets.parse_ipv4(bytes(header))


def test_tshark_reads_the_same_and_finds_every_checksum_right(tmp_path: Path) -> None:
    def ip(protocol: int, payload: bytes, **more: Any) -> bytes:
        return frame_of(B, A, IPV4, Ipv4(IP_A, IP_B, protocol, payload, **more).encode())

    frames = [
        frame_of(BROADCAST, A, ARP, Arp(packets.ARP_REQUEST, A, IP_A, bytes(6), IP_B).encode()),
        ip(packets.ICMP, Icmp(packets.ECHO_REQUEST, 0, b"\0\7\0\3", b"odd").encode(), ttl=17),
        ip(packets.UDP, Udp(1234, 4000, b"hello").encode(IP_A, IP_B), identification=77),
        ip(packets.TCP, Tcp(1025, 80, 1000, 0, packets.SYN, 8192, options=b"\2\4\5\xb4").encode(IP_A, IP_B)),
    ]
    path = captured(tmp_path, frames)
    read = tshark(
        path, "arp.dst.proto_ipv4", "ip.checksum.status", "ip.ttl", "ip.id", "icmp.checksum.status", "icmp.seq",
        "udp.checksum.status", "udp.dstport", "tcp.checksum.status", "tcp.options.mss_val", "_ws.malformed",
    )  # fmt: skip
    assert read[0] == ["10.0.0.2", *[""] * 10]
    assert read[1] == ["", "1", "17", "0x0000", "1", "3", "", "", "", "", ""]
    assert read[2] == ["", "1", "64", "0x004d", "", "", "1", "4000", "", "", ""]
    assert read[3] == ["", "1", "64", "0x0000", "", "", "", "", "1", "1460", ""]


def test_what_cannot_be_built_is_refused() -> None:
    builds: list[Callable[[], bytes]] = [
        lambda: Ipv4(IP_A, IP_B, packets.UDP, bytes(65516)).encode(),
        lambda: Ipv4(IP_A, IP_B, packets.UDP, b"", options=b"\1").encode(),
        lambda: Udp(1, 2, bytes(65528)).encode(IP_A, IP_B),
        lambda: Tcp(1, 2, 0, 0, 0, options=bytes(44)).encode(IP_A, IP_B),
    ]
    for build in builds:
        with pytest.raises(AdminError):
            build()


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "10.0.0.1 ", "10.0.0.٣", "1.2.3.4.5"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AdminError, match="no IPv4 address"):
        packets.ip_of(text)
