"""Another machine on the network: frames made and answered by the book, apart from the kernel that they are for.

::

    Peer(address, ip).answer(frame)       what a host says to ARP, echo requests, and datagrams for port 7
    Judge(address, ip).judge(frame)       what the kernel has to make of a frame that it receives: a counter, an answer
"""

from __future__ import annotations

import struct

import msgspec

BROADCAST = b"\xff" * 6
IP, ARP, ICMP, UDP = 0x0800, 0x0806, 1, 17
LEAST, MOST = 60, 1514


def dotted(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def checksum(data: bytes) -> int:
    """RFC 1071, in one go: the sum of 16-bit words modulo 2**16 - 1, complemented."""
    data = data + b"\0" * (len(data) % 2)
    total = int.from_bytes(data, "big") % 0xFFFF
    return 0xFFFF - total if total or not any(data) else 0


def ethernet(to: bytes, source: bytes, kind: int, data: bytes) -> bytes:
    return (to + source + struct.pack(">H", kind) + data).ljust(LEAST, b"\0")


def arp(operation: int, sender: bytes, sender_ip: bytes, target: bytes, target_ip: bytes) -> bytes:
    return struct.pack(">HHBBH6s4s6s4s", 1, IP, 6, 4, operation, sender, sender_ip, target, target_ip)


def ip(
    source: bytes, to: bytes, protocol: int, data: bytes, number: int = 0, fragment: int = 0x4000, options: bytes = b""
) -> bytes:
    words = 5 + len(options) // 4
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | words, 0, 4 * words + len(data), number, fragment, 64, protocol, 0, source, to
    )
    header += options
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + data


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    whole = struct.pack(">BBH", kind, code, 0) + rest
    return whole[:2] + struct.pack(">H", checksum(whole)) + whole[4:]


def pseudo(source: bytes, to: bytes, length: int) -> bytes:
    return source + to + struct.pack(">HH", UDP, length)


def udp(source: bytes, to: bytes, source_port: int, to_port: int, data: bytes) -> bytes:
    length = 8 + len(data)
    whole = struct.pack(">HHHH", source_port, to_port, length, 0) + data
    found = checksum(pseudo(source, to, length) + whole) or 0xFFFF
    return whole[:6] + struct.pack(">H", found) + data


class Datagram(msgspec.Struct, frozen=True):
    """One that the guest has sent."""

    to: bytes
    source_port: int
    port: int
    data: bytes


def datagram_of(frame: bytes) -> Datagram | None:
    """``None`` for any other frame. Asserts that its checksums are right."""
    if frame[12:14] != b"\x08\x00" or frame[23] != UDP:
        return None
    header, length = frame[14:34], int.from_bytes(frame[16:18], "big")
    body = frame[34 : 14 + length]
    assert checksum(header) == 0
    assert checksum(pseudo(header[12:16], header[16:20], len(body)) + body) == 0
    source_port, port, size = struct.unpack_from(">HHH", body)
    assert size == len(body)
    return Datagram(header[16:20], source_port, port, body[8:])


class Peer:
    """A host that answers for its address."""

    def __init__(self, address: bytes, ip_address: bytes) -> None:
        self.address, self.ip = address, ip_address
        self.number = 0
        self.datagrams: list[Datagram] = []

    def packet(self, to: bytes, to_ip: bytes, protocol: int, data: bytes) -> bytes:
        self.number += 1
        return ethernet(to, self.address, IP, ip(self.ip, to_ip, protocol, data, self.number))

    def question(self, guest_ip: bytes) -> bytes:
        """Who has this address?"""
        return ethernet(BROADCAST, self.address, ARP, arp(1, self.address, self.ip, bytes(6), guest_ip))

    def echo(self, guest: bytes, guest_ip: bytes, sequence: int, data: bytes = b"are you there") -> bytes:
        return self.packet(guest, guest_ip, ICMP, icmp(8, 0, struct.pack(">HH", 0x1234, sequence) + data))

    def datagram(self, guest: bytes, guest_ip: bytes, port: int, data: bytes, source_port: int = 40000) -> bytes:
        return self.packet(guest, guest_ip, UDP, udp(self.ip, guest_ip, source_port, port, data))

    def answer(self, frame: bytes) -> list[bytes]:
        to, source, kind = frame[:6], frame[6:12], int.from_bytes(frame[12:14], "big")
        if kind == ARP and frame[20:22] == b"\0\1" and frame[38:42] == self.ip:
            return [ethernet(source, self.address, ARP, arp(2, self.address, self.ip, source, frame[28:32]))]
        if kind != IP or to != self.address or frame[30:34] != self.ip:
            return []
        body = frame[34 : 14 + int.from_bytes(frame[16:18], "big")]
        if frame[23] == ICMP and body[0] == 8:
            assert checksum(frame[14:34]) == checksum(body) == 0
            return [self.packet(source, frame[26:30], ICMP, icmp(0, 0, body[4:]))]
        datagram = datagram_of(frame)
        if datagram is not None:
            self.datagrams.append(datagram)
            if datagram.port == 7:
                data = udp(self.ip, frame[26:30], 7, datagram.source_port, datagram.data)
                return [self.packet(source, frame[26:30], UDP, data)]
        return []


class Judge:
    """What the kernel has to make of each frame, in the words of its own counters. ``number``: of its next packet.

    It knows no more than eight neighbours at a time; here there may not be more.
    """

    def __init__(self, address: bytes, ip_address: bytes, ports: tuple[int, ...] = ()) -> None:
        self.address, self.ip, self.ports = address, ip_address, ports
        self.number = 1
        self.known: set[bytes] = set()

    def _is_host(self, address: bytes) -> bool:
        if address[0] in (0, 127) or address[0] >= 224 or address == self.ip:
            return False
        return not (address[:3] == self.ip[:3] and address[3] in (0, 255))

    def judge(self, frame: bytes) -> tuple[str, bytes | None]:
        frame = frame.ljust(LEAST, b"\0")
        if len(frame) > MOST or frame[6] & 1:
            return "frame_bad", None
        kind, data = frame[12:14], frame[14:]
        if kind == b"\x08\x06":
            return self._arp(data)
        if kind != b"\x08\x00":
            return "type_unknown", None
        return self._ip(data, frame[6:12]) if frame[:6] == self.address else ("ip_not_for_us", None)

    def _arp(self, data: bytes) -> tuple[str, bytes | None]:
        head, operation, sender, sender_ip, target_ip = data[:6], data[6:8], data[8:14], data[14:18], data[24:28]
        good = head == bytes((0, 1, 8, 0, 6, 4)) and operation in (b"\0\1", b"\0\2")
        if not good or not any(sender) or sender[0] & 1:
            return "arp_bad", None
        asked, near = operation == b"\0\1" and target_ip == self.ip, sender_ip[:3] == self.ip[:3]
        if near and self._is_host(sender_ip):
            if asked:
                self.known.add(sender_ip)
        elif not (asked and sender_ip == bytes(4)):
            return "arp_ignored", None
        if asked:
            answer = ethernet(sender, self.address, ARP, arp(2, self.address, self.ip, sender, sender_ip))
            return "arp_answered", answer
        return ("arp_learned" if sender_ip in self.known else "arp_ignored"), None

    def _ip(self, data: bytes, source: bytes) -> tuple[str, bytes | None]:
        header_bytes, length = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
        if data[0] >> 4 != 4 or header_bytes < 20 or not header_bytes <= length <= len(data):
            return "ip_bad", None
        header, body = data[:header_bytes], data[header_bytes:length]
        if checksum(header) or not self._is_host(header[12:16]):
            return "ip_bad", None
        if header[16:20] != self.ip:
            return "ip_not_for_us", None
        if int.from_bytes(header[6:8], "big") & 0x3FFF:
            return "ip_fragment", None
        if header[9] == ICMP:
            return self._icmp(header, body, source)
        return self._udp(header, body, source) if header[9] == UDP else ("ip_protocol", None)

    def _packet(self, header: bytes, source: bytes, data: bytes) -> bytes:
        packet = ip(self.ip, header[12:16], ICMP, data, self.number)
        self.number += 1
        return ethernet(source, self.address, IP, packet)

    def _icmp(self, header: bytes, body: bytes, source: bytes) -> tuple[str, bytes | None]:
        if len(body) < 8 or checksum(body):
            return "icmp_bad", None
        if body[:2] != b"\x08\0":
            return "icmp_ignored", None
        return "icmp_answered", self._packet(header, source, icmp(0, 0, body[4:]))

    def _udp(self, header: bytes, body: bytes, source: bytes) -> tuple[str, bytes | None]:
        if len(body) < 8:
            return "udp_bad", None
        port, length = struct.unpack_from(">HH", body, 2)
        if not 8 <= length <= len(body):
            return "udp_bad", None
        if body[6:8] != b"\0\0" and checksum(pseudo(header[12:16], header[16:20], length) + body[:length]):
            return "udp_bad", None
        if port in self.ports:
            return "udp_delivered", None
        return "udp_no_such_port", self._packet(header, source, icmp(3, 3, bytes(4) + header + body[:8]))
