"""Checksums and segmentation: what the 82545EM does with a packet between memory and wire.

The Internet checksum is the ones' complement of a sum of 16-bit words in ones' complement arithmetic (RFC 1071). Since
2**16 = 1 (mod 65535), that sum is the number that the bytes make, mod 65535::

    45 00 00 1c ...  ->  n = 0x4500001c...   sum = n mod 65535 (65535 rather than 0 if n > 0)   checksum = ~sum

Segmentation: one packet with up to 256 KB of data becomes frames of MSS bytes of data each, the header copied and set::

    | Ethernet | IP               | TCP                       | data                  |
    0          IPCSS              TUCSS                       HDRLEN
                 total length     sequence number + what has gone before
                 id + number      FIN, PSH in the last one only
                 checksum         checksum: the driver has left the sum of the addresses and the protocol in its
                                  place, without the length, which is added here
                                  UDP: length

    receive:  IP checksum right?  TCP or UDP checksum right?   of packets that are no fragments

Source: the manual's 3.5 (segmentation), 3.4, 3.6 (transmit checksums), 3.2.9 (receive checksums).
MODEL: of IPv6 packets no checksum is looked at when they are received; the real chip does that, without extensions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

MOST_SEGMENTS = 4096
"""MODEL: a packet that would become more frames is refused; 64 KB in frames of the least MTU of IPv4 are 2341."""
FIN_PSH = 0x09
_IPV4_TYPE, TCP, UDP = b"\x08\x00", 6, 17
ETHERNET_BYTES, TAG_BYTES, IPV4_BYTES = 14, 4, 20


class Context(msgspec.Struct):
    """A transmit context descriptor: where headers begin and checksums go. Bytes from the packet's begin.

    An end of 0 is the end of the packet; ends are the last byte. ``payload_bytes`` says nothing that the packet's end
    does not say, and is kept to be seen.
    """

    ip_start: int = 0
    ip_at: int = 0
    ip_end: int = 0
    tcp_start: int = 0
    tcp_at: int = 0
    tcp_end: int = 0
    payload_bytes: int = 0
    header_bytes: int = 0
    mss: int = 0
    is_tcp: bool = False
    is_ipv4: bool = False


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """0 to 65535."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    return number % 0xFFFF or (0xFFFF if number else 0)


def put_checksum(packet: bytearray, start: int, at: int, end: int, never_zero: bool = False) -> None:
    """Sum ``start`` to ``end`` (its last byte; 0: to the packet's end) and write the checksum at ``at``, if all of
    that is in the packet."""
    stop = len(packet) if end == 0 else min(end + 1, len(packet))
    if start < stop and at + 2 <= len(packet):
        value = ~ones_sum(packet[start:stop]) & 0xFFFF
        struct.pack_into(">H", packet, at, value or (0xFFFF if never_zero else 0))


def with_checksums(packet: bytearray, context: Context, ip: bool, tcp: bool) -> None:
    """Insert what a data descriptor asks for."""
    if tcp:
        put_checksum(packet, context.tcp_start, context.tcp_at, context.tcp_end, never_zero=not context.is_tcp)
    if ip:
        put_checksum(packet, context.ip_start, context.ip_at, context.ip_end)


def can_segment(context: Context, packet_bytes: int) -> bool:
    """Is there a header with all that will be set in it, and a size to cut into?"""
    c = context
    ip_bytes, tcp_bytes = (20 if c.is_ipv4 else 40), (20 if c.is_tcp else 8)
    if not c.mss or c.header_bytes < c.tcp_start + tcp_bytes or c.tcp_start < c.ip_start + ip_bytes:
        return False
    return c.header_bytes <= packet_bytes and packet_bytes - c.header_bytes <= MOST_SEGMENTS * c.mss


def segments(packet: bytes, context: Context, ip: bool, tcp: bool) -> Iterator[bytearray]:
    """The frames of a packet that ``can_segment`` has a good word for."""
    c = context
    header, total = packet[: c.header_bytes], len(packet)
    sequence = int.from_bytes(header[c.tcp_start + 4 : c.tcp_start + 8], "big")
    identification = int.from_bytes(header[c.ip_start + 4 : c.ip_start + 6], "big")
    at, number = c.header_bytes, 0
    while at < total or number == 0:
        frame = bytearray(header + packet[at : at + c.mss])
        at += c.mss
        ip_length = len(frame) - c.ip_start
        if c.is_ipv4:
            struct.pack_into(">HH", frame, c.ip_start + 2, ip_length & 0xFFFF, identification + number & 0xFFFF)
        else:
            struct.pack_into(">H", frame, c.ip_start + 4, ip_length - 40 & 0xFFFF)
        tcp_length = len(frame) - c.tcp_start
        if c.is_tcp:
            struct.pack_into(">I", frame, c.tcp_start + 4, sequence + number * c.mss & 0xFFFF_FFFF)
            if at < total:
                frame[c.tcp_start + 13] &= ~FIN_PSH
        else:
            struct.pack_into(">H", frame, c.tcp_start + 4, tcp_length & 0xFFFF)
        if tcp and c.tcp_at + 2 <= len(frame):
            pseudo = struct.pack(">HH", int.from_bytes(frame[c.tcp_at : c.tcp_at + 2], "big"), tcp_length & 0xFFFF)
            struct.pack_into(">H", frame, c.tcp_at, ones_sum(pseudo))
        with_checksums(frame, c, ip, tcp)
        yield frame
        number += 1


class Checked(msgspec.Struct, frozen=True):
    """What was found of a frame that has arrived: looked at, and right."""

    ip: bool = False
    ip_good: bool = True
    tcp: bool = False
    tcp_good: bool = True


def check(frame: bytes, ip: bool, tcp: bool, tag_type: bytes) -> Checked:
    """Checksums of an IPv4 packet, behind a VLAN tag if there is one."""
    at = ETHERNET_BYTES + (TAG_BYTES if frame[12:14] == tag_type else 0)
    header_bytes = (frame[at] & 0xF) * 4 if len(frame) > at else 0
    if frame[at - 2 : at] != _IPV4_TYPE or len(frame) < at + IPV4_BYTES or frame[at] >> 4 != 4:
        return Checked()
    length = int.from_bytes(frame[at + 2 : at + 4], "big")
    if header_bytes < IPV4_BYTES or not header_bytes <= length <= len(frame) - at:
        return Checked(ip=ip, ip_good=not ip)
    ip_good = not ip or ones_sum(frame[at : at + header_bytes]) == 0xFFFF
    found = Checked(ip=ip, ip_good=ip_good)
    fragment = int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF
    protocol, segment = frame[at + 9], frame[at + header_bytes : at + length]
    place = {TCP: 16, UDP: 6}.get(protocol, 0)
    if not tcp or fragment or not place or len(segment) < place + 2:
        return found
    if protocol == UDP and segment[6:8] == b"\0\0":
        return found
    pseudo = frame[at + 12 : at + 20] + struct.pack(">HH", protocol, len(segment))
    good = ones_sum(pseudo + segment) == 0xFFFF
    return msgspec.structs.replace(found, tcp=True, tcp_good=good)
