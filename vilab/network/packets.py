"""What is in frames: ARP, IPv4, ICMP, UDP, TCP. Built with their checksums, read with every length checked.

::

    frame  | destination | source | type | data                                         ethernet
    ARP    | 0001 | 0800 | 6 | 4 | operation | sender MAC | sender IP | target MAC | target IP |    28 octets; RARP too
    IPv4   | 4,IHL | TOS | total length | identification | flags, offset | TTL | protocol | checksum |
           | source | destination | options, IHL * 4 - 20 octets | payload, to the total length |  (padding)
    ICMP   | type | code | checksum | rest, 4 octets | data |
    UDP    | source port | destination port | length | checksum | data |
    TCP    | source port | destination port | sequence | acknowledgement | offset | flags | window | checksum | urgent |
           | options, offset * 4 - 20 octets | data |

    checksum: the one's complement of the one's complement sum of 16-bit words; UDP and TCP over a pseudo header too:
           | source | destination | 0 | protocol | length |

Addresses are ``bytes``: four octets (``ip_of``, ``ip_text``). What is no such packet raises ``PacketError``, nothing
else. Sources: RFC 826 and 903 (ARP, RARP), 791 (IP), 792 (ICMP), 768 (UDP), 793 (TCP), 1071 (checksum).
"""

from __future__ import annotations

import re
import struct

import msgspec

from vilab.errors import AdminError, VilabError

ARP_REQUEST, ARP_REPLY, RARP_REQUEST, RARP_REPLY = 1, 2, 3, 4
ICMP, TCP, UDP = 1, 6, 17
ECHO_REPLY, UNREACHABLE, ECHO_REQUEST = 0, 3, 8
PORT_UNREACHABLE = 3
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
MORE_FRAGMENTS, DO_NOT_FRAGMENT = 0x2000, 0x4000

ANY_IP, BROADCAST_IP = bytes(4), b"\xff" * 4

_ARP = struct.Struct(">HHBBH6s4s6s4s")
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_ICMP = struct.Struct(">BBH4s")
_UDP = struct.Struct(">HHHH")
_TCP = struct.Struct(">HHIIBBHHH")

_IP = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)


class PacketError(VilabError):
    """The bytes are not the packet that they should be."""


def ip_of(text: str) -> bytes:
    """``10.0.0.1`` as four octets. Raises ``AdminError``."""
    match = _IP.fullmatch(text)
    octets = [int(part) for part in match.groups()] if match else []
    if not match or max(octets) > 255:
        raise AdminError(f"{text!r} is no IPv4 address: four numbers up to 255 are, as in 10.0.0.1.")
    return bytes(octets)


def ip_text(address: bytes) -> str:
    return ".".join(map(str, address))


def checksum(*pieces: bytes) -> int:
    """RFC 1071. Each piece but the last has an even length. 0 over what has its right checksum in it.

    >>> hex(checksum(bytes.fromhex("0001f203f4f5f6f7")))
    '0x220d'
    """
    data = b"".join(pieces)
    if len(data) & 1:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class Arp(msgspec.Struct, frozen=True):
    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes

    def encode(self) -> bytes:
        return _ARP.pack(
            1, 0x0800, 6, 4, self.operation, self.sender_mac, self.sender_ip, self.target_mac, self.target_ip
        )


def parse_arp(data: bytes) -> Arp:
    """ARP and RARP for IPv4 over Ethernet; anything else is none."""
    if len(data) < _ARP.size:
        raise PacketError(f"ARP needs {_ARP.size} octets, there are {len(data)}.")
    hardware, protocol, mac_bytes, ip_bytes, operation, *addresses = _ARP.unpack_from(data)
    if (hardware, protocol, mac_bytes, ip_bytes) != (1, 0x0800, 6, 4):
        raise PacketError("ARP for something else than IPv4 over Ethernet.")
    return Arp(operation, *addresses)


class Ipv4(msgspec.Struct, frozen=True):
    """``fragment``: the flags and the offset, as they are in the header."""

    source: bytes
    destination: bytes
    protocol: int
    payload: bytes
    ttl: int = 64
    identification: int = 0
    fragment: int = 0
    tos: int = 0
    options: bytes = b""

    @property
    def is_fragment(self) -> bool:
        return bool(self.fragment & 0x3FFF)  # more to come, or an offset

    def encode(self) -> bytes:
        """``AdminError`` if it does not fit into 65535 octets."""
        words = 5 + len(self.options) // 4
        total = words * 4 + len(self.payload)
        if total > 0xFFFF or words > 15 or len(self.options) % 4:
            raise AdminError(f"An IPv4 packet of {total} octets with {len(self.options)} of options cannot be built.")

        def header(check: int) -> bytes:
            fixed = _IPV4.pack(
                0x40 | words, self.tos, total, self.identification, self.fragment, self.ttl, self.protocol, check,
                self.source, self.destination,
            )  # fmt: skip
            return fixed + self.options

        return header(checksum(header(0))) + self.payload


def parse_ipv4(data: bytes) -> Ipv4:
    """Whatever is behind the total length is padding of the frame, and left out."""
    if len(data) < _IPV4.size:
        raise PacketError(f"An IPv4 header needs {_IPV4.size} octets, there are {len(data)}.")
    first, tos, total, identification, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(data)
    head = (first & 0xF) * 4
    if first >> 4 != 4 or head < _IPV4.size:
        raise PacketError(f"Version {first >> 4} with {head} octets of header is no IPv4.")
    if not head <= total <= len(data):
        raise PacketError(f"The IPv4 header says {total} octets, there are {len(data)}.")
    if checksum(data[:head]):
        raise PacketError("The checksum of the IPv4 header is wrong.")
    return Ipv4(
        source, destination, protocol, data[head:total], ttl, identification, fragment, tos, data[_IPV4.size : head]
    )


class Icmp(msgspec.Struct, frozen=True):
    """``rest``: identifier and sequence number of an echo, two octets each; unused in an error."""

    kind: int
    code: int
    rest: bytes
    data: bytes

    def encode(self) -> bytes:
        check = checksum(_ICMP.pack(self.kind, self.code, 0, self.rest), self.data)
        return _ICMP.pack(self.kind, self.code, check, self.rest) + self.data


def parse_icmp(data: bytes) -> Icmp:
    if len(data) < _ICMP.size:
        raise PacketError(f"ICMP needs {_ICMP.size} octets, there are {len(data)}.")
    if checksum(data):
        raise PacketError("The checksum of the ICMP message is wrong.")
    kind, code, _, rest = _ICMP.unpack_from(data)
    return Icmp(kind, code, rest, data[_ICMP.size :])


def _pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    return source + destination + struct.pack(">BBH", 0, protocol, length)


class Udp(msgspec.Struct, frozen=True):
    source_port: int
    destination_port: int
    data: bytes

    def encode(self, source: bytes, destination: bytes) -> bytes:
        length = _UDP.size + len(self.data)
        if length > 0xFFFF:
            raise AdminError(f"A UDP datagram of {length} octets cannot be built.")
        ports = self.source_port, self.destination_port
        check = checksum(_pseudo(source, destination, UDP, length), _UDP.pack(*ports, length, 0), self.data)
        return _UDP.pack(*ports, length, check or 0xFFFF) + self.data  # 0 would mean: not computed


def parse_udp(data: bytes, source: bytes, destination: bytes) -> Udp:
    """A checksum of 0 says that there is none."""
    if len(data) < _UDP.size:
        raise PacketError(f"UDP needs {_UDP.size} octets, there are {len(data)}.")
    source_port, destination_port, length, check = _UDP.unpack_from(data)
    if not _UDP.size <= length <= len(data):
        raise PacketError(f"The UDP header says {length} octets, there are {len(data)}.")
    if check and checksum(_pseudo(source, destination, UDP, length), data[:length]):
        raise PacketError("The checksum of the UDP datagram is wrong.")
    return Udp(source_port, destination_port, data[_UDP.size : length])


class Tcp(msgspec.Struct, frozen=True):
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    window: int = 0
    urgent: int = 0
    options: bytes = b""
    data: bytes = b""

    def encode(self, source: bytes, destination: bytes) -> bytes:
        words = 5 + len(self.options) // 4
        length = words * 4 + len(self.data)
        if length > 0xFFFF or words > 15 or len(self.options) % 4:
            raise AdminError(f"A TCP segment of {length} octets with {len(self.options)} of options cannot be built.")

        def header(check: int) -> bytes:
            fixed = _TCP.pack(
                self.source_port, self.destination_port, self.sequence, self.acknowledgement, words << 4, self.flags,
                self.window, check, self.urgent,
            )  # fmt: skip
            return fixed + self.options

        check = checksum(_pseudo(source, destination, TCP, length), header(0), self.data)
        return header(check) + self.data


def parse_tcp(data: bytes, source: bytes, destination: bytes) -> Tcp:
    if len(data) < _TCP.size:
        raise PacketError(f"A TCP header needs {_TCP.size} octets, there are {len(data)}.")
    source_port, destination_port, sequence, acknowledgement, offset, flags, window, _, urgent = _TCP.unpack_from(data)
    head = (offset >> 4) * 4
    if not _TCP.size <= head <= len(data):
        raise PacketError(f"The TCP header says that it has {head} octets, there are {len(data)}.")
    if len(data) > 0xFFFF or checksum(_pseudo(source, destination, TCP, len(data)), data):
        raise PacketError("The checksum of the TCP segment is wrong.")
    numbers = source_port, destination_port, sequence, acknowledgement
    return Tcp(*numbers, flags, window, urgent, data[_TCP.size : head], data[head:])
