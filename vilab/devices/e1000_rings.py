"""Descriptor rings of the 82545EM, and what is in a descriptor: 16 bytes, two little-endian words of 64 bits.

::

    base                    head               tail             base + length
    |  the driver's         |== the device's ==|  the driver's  |        the device takes from head, up to before tail

    receive          | buffer address                                                          | first word
                     | special 63-48 | errors 47-40 | status 39-32 | checksum 31-16 | length 15-0 | second word, written

    transmit         | buffer address                                                          |
      legacy         | special 63-48 | CSS 47-40 | status 35-32 | command 31-24 | CSO 23-16 | length 15-0 |
      data           | special 63-48 | options 47-40 | status 35-32 | command 31-24 | type 1 23-20 | length 19-0 |
      context        | TUCSE 63-48 | TUCSO 47-40 | TUCSS 39-32 | IPCSE 31-16 | IPCSO 15-8 | IPCSS 7-0 |
                     | MSS 63-48 | header 47-40 | status 35-32 | command 31-24 | type 0 23-20 | payload 19-0 |

    command   0 end of packet, 1 FCS, 2 checksum (legacy) or segment, 3 report, 5 extended, 6 VLAN, 7 delay interrupt
    of a context: 0 TCP, 1 IPv4, 2 for segmentation                   options   0 IP checksum, 1 TCP or UDP checksum

A ring is read and written in one piece, or in two where it wraps. Source: the manual's 3.2.3 (receive), 3.3.3
(legacy), 3.3.6 (context), 3.3.7 (data), 3.2.6 and 3.4 (rings).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vilab.devices.bus_master import BusMaster
from vilab.devices.e1000_offload import Context

DESCRIPTOR_BYTES = 16
_HIGH, _LENGTH, _HEAD, _TAIL = 0x04, 0x08, 0x10, 0x18

EOP, SEGMENT_OR_CHECKSUM, REPORT, REPORT_SENT, EXTENDED, INSERT_VLAN, DELAY = (
    1 << bit for bit in (0, 2, 3, 4, 5, 6, 7)
)
CONTEXT_TCP, CONTEXT_IPV4 = 1 << 0, 1 << 1
CONTEXT, DATA = 0, 1
OPTION_IP, OPTION_TCP = 1 << 0, 1 << 1
DONE_BYTE = 12
"""Where the status is in a transmit descriptor; bit 0: done."""

RX_DD, RX_EOP, RX_IXSM, RX_VP, RX_TCPCS, RX_IPCS = (1 << bit for bit in (0, 1, 2, 3, 5, 6))
RX_TCPE, RX_IPE, RX_RXE = 1 << 5, 1 << 6, 1 << 7


class Ring(NamedTuple):
    """Where a ring is and how far both sides are; ``size``, ``head`` and ``tail`` count descriptors."""

    base: int
    size: int
    head: int
    tail: int

    @classmethod
    def of(cls, registers: dict[int, int], at: int) -> Ring:
        """From the registers that begin at RDBAL or TDBAL."""
        base = registers[at] | registers[at + _HIGH] << 32
        size = registers[at + _LENGTH] // DESCRIPTOR_BYTES
        return cls(base, size, registers[at + _HEAD], registers[at + _TAIL])

    @property
    def is_sound(self) -> bool:
        """Are both ends in it?"""
        return self.head < self.size and self.tail < self.size

    @property
    def waiting(self) -> int:
        """How many descriptors are the device's; none of a ring that is not sound."""
        return (self.tail - self.head) % self.size if self.is_sound else 0

    def gpa(self, index: int) -> int:
        """Of the ``index``-th descriptor from the head on."""
        return self.base + DESCRIPTOR_BYTES * ((self.head + index) % self.size)

    def read(self, master: BusMaster, most: int) -> bytearray | None:
        """Up to so many of the device's descriptors, from the head on. ``None``: the ring is not in memory."""
        count = min(most, self.waiting)
        first = min(count, self.size - self.head)
        before = master.read(self.gpa(0), first * DESCRIPTOR_BYTES)
        behind = master.read(self.base, (count - first) * DESCRIPTOR_BYTES)
        return None if before is None or behind is None else bytearray(before + behind)

    def write(self, master: BusMaster, at: int, data: bytes | bytearray) -> None:
        """Descriptors from the ``at``-th from the head on."""
        start = (self.head + at) % self.size
        room = (self.size - start) * DESCRIPTOR_BYTES
        master.write(self.base + start * DESCRIPTOR_BYTES, bytes(data[:room]))
        master.write(self.base, bytes(data[room:]))


def context_of(first: int, second: int) -> Context:
    """From the two words of a context descriptor."""
    command = second >> 24
    return Context(
        ip_start=first & 0xFF, ip_at=first >> 8 & 0xFF, ip_end=first >> 16 & 0xFFFF,
        tcp_start=first >> 32 & 0xFF, tcp_at=first >> 40 & 0xFF, tcp_end=first >> 48,
        payload_bytes=second & 0xF_FFFF, header_bytes=second >> 40 & 0xFF, mss=second >> 48,
        is_tcp=bool(command & CONTEXT_TCP), is_ipv4=bool(command & CONTEXT_IPV4),
    )  # fmt: skip


def received(address: int, length: int, checksum: int, status: int, errors: int, special: int) -> bytes:
    """A receive descriptor as it is written back."""
    return struct.pack("<QHHBBH", address, length, checksum, status, errors, special)
