"""Frames that a host should not send: random fields, lengths that lie, checksums that do not add up, pieces, noise."""

from __future__ import annotations

import random

from tests.guests import network_peer as net

ATTACKER = bytes.fromhex("005056000066")


class Hostile:
    """``neighbours``: few enough that the kernel never has to forget one."""

    def __init__(self, seed: int, guest: bytes, guest_ip: bytes, least_bytes: int = 0) -> None:
        self.lot = random.Random(seed)
        self.guest, self.guest_ip, self.least_bytes = guest, guest_ip, least_bytes
        self.sources = [guest_ip[:3] + bytes((each,)) for each in (0, 255, 77, 78, 79, guest_ip[3])]
        self.sources += [bytes(4), net.dotted("127.0.0.1"), net.dotted("224.0.0.1"), net.dotted("8.8.8.8")]

    def _bytes(self, most: int) -> bytes:
        return self.lot.randbytes(self.lot.randrange(most + 1))

    def _to_ip(self) -> bytes:
        return self.guest_ip if self.lot.random() < 0.9 else self.lot.choice(self.sources)

    def _arp(self) -> bytes:
        source = self.lot.choice(self.sources)
        sender = ATTACKER if self.lot.random() < 0.8 else self.lot.choice((bytes(6), net.BROADCAST))
        packet = bytearray(net.arp(self.lot.choice((1, 1, 2, 3)), sender, source, self.guest, self._to_ip()))
        if self.lot.random() < 0.3:
            packet[self.lot.randrange(8)] = self.lot.randrange(256)
        return bytes(packet)

    def _payload(self, source: bytes, to: bytes) -> tuple[int, bytes]:
        kind = self.lot.choice(("echo", "icmp", "udp", "udp", "other"))
        if kind == "echo":
            return net.ICMP, net.icmp(8, 0, self.lot.randbytes(4) + self._bytes(1400))
        if kind == "icmp":
            return net.ICMP, net.icmp(
                self.lot.randrange(20), self.lot.randrange(3), self.lot.randbytes(4) + self._bytes(99)
            )
        if kind == "udp":
            whole = net.udp(source, to, self.lot.randrange(65536), self.lot.randrange(65536), self._bytes(1400))
            if self.lot.random() < 0.2:
                whole = whole[:4] + self.lot.choice((self.lot.randbytes(2), b"\0\7", b"\0\10")) + whole[6:]
            return net.UDP, whole[:6] + b"\0\0" + whole[8:] if self.lot.random() < 0.2 else whole
        return self.lot.choice((0, 2, 6, 50, 255)), self._bytes(200)

    def _ip(self) -> bytes:
        source, to = self.lot.choice(self.sources), self._to_ip()
        protocol, data = self._payload(source, to)
        if self.lot.random() < 0.15:
            data = data[: self.lot.randrange(8)]  # ends within its header
        options = self.lot.randbytes(4 * self.lot.randrange(1, 11)) if self.lot.random() < 0.1 else b""
        fragment = self.lot.choice((0x2000, 0x2001, 1, 185, 0x1FFF)) if self.lot.random() < 0.1 else 0x4000
        packet = bytearray(net.ip(source, to, protocol, data, self.lot.randrange(65536), fragment, options))
        if self.lot.random() < 0.15:  # a length that lies, with a checksum that does not
            packet[2:4] = self.lot.choice((b"\0\0", b"\0\x13", b"\xff\xff", self.lot.randbytes(2)))
            packet[10:12] = b"\0\0"
            packet[10:12] = net.checksum(bytes(packet[: 4 * (packet[0] & 15)])).to_bytes(2, "big")
        return bytes(packet[: net.MOST - 14])

    def next(self) -> bytes:
        kind = self.lot.choice(("arp", "ip", "ip", "ip", "ip", "noise"))
        to = self.guest if self.lot.random() < 0.9 else net.BROADCAST
        source = ATTACKER if self.lot.random() < 0.95 else net.BROADCAST
        if kind == "noise":
            noise = self.lot.choice((b"\x08\0", b"\x08\6", b"\x81\0", self.lot.randbytes(2))) + self._bytes(1500)
            return (to + source + noise).ljust(self.least_bytes, b"\0")
        kind_number, data = (net.ARP, self._arp()) if kind == "arp" else (net.IP, self._ip())
        frame = bytearray(net.ethernet(to, source, kind_number, data))
        if self.lot.random() < 0.2:  # one bit on the way, behind the addresses
            at = self.lot.randrange(12, min(len(frame), 80))
            frame[at] ^= 1 << self.lot.randrange(8)
        if self.lot.random() < 0.1:  # cut off
            del frame[max(self.least_bytes, self.lot.randrange(14, len(frame))) :]
        return bytes(frame).ljust(self.least_bytes, b"\0")
