"""PCnet: what lies in memory, the initialization block and the two rings of descriptors, in their 16 and 32-bit forms.

::

    BCR20, SWSTYLE   0  16 bit, as the LANCE had it     2  32 bit     3  32 bit, the words in another order
                     1  32 bit, as the ILACC had it: bit 29 of TMD1 is NO_FCS instead of ADD_FCS

    initialization block, 32 bit                        16 bit
    00  TLEN 31-28 | RLEN 23-20 | MODE 15-0             00  MODE
    04  physical address, octets 0-3                    02  physical address, 6 octets
    08                    octets 4, 5                   08  logical address filter, 8 octets
    0c  logical address filter 31-0                     10  receive ring 15-0
    10                         63-32                    12  RLEN 15-13 | receive ring 23-16
    14  receive ring                                    14  transmit ring 15-0
    18  transmit ring                                   16  TLEN 15-13 | transmit ring 23-16

    descriptor, style 2          style 3                16 bit
    0  buffer                    0  message             0  buffer 15-0
    4  status 31-16 | BCNT 11-0  4  status | BCNT       2  status 15-8 | buffer 23-16
    8  message                   8  buffer              4  BCNT 11-0
    c  the driver's own          c  the driver's own    6  message

    status    31  30  29      28       27   26   25  24  23  22  21   20
    receive   OWN ERR FRAM    OFLO     CRC  BUFF STP ENP BPE PAM LAFM BAM      message: MCNT 11-0, with the FCS
    transmit  OWN ERR ADD_FCS MORE     ONE  DEF  STP ENP BPE                   message: BUFF 31 UFLO 30 LCAR 27 RTRY 26
                              /LTINT

    BCNT is the size of the buffer as a negative number of 12 bits. Here all is at the bits of the 32-bit form.

Source: Am79C970A data sheet, "Initialization Block", "Receive Descriptors", "Transmit Descriptors".

MODEL: addresses lose the low bits that have to be zero, as the chip ignores them.
"""

from __future__ import annotations

import struct

import msgspec

OWN, ERR, ADD_FCS, LAST_INTERRUPT, STP, ENP = 1 << 31, 1 << 30, 1 << 29, 1 << 28, 1 << 25, 1 << 24
RECEIVE_CRC, RECEIVE_BUFF = 1 << 27, 1 << 26
PAM, LAFM, BAM = 1 << 22, 1 << 21, 1 << 20
"""Which filter has let the frame in: physical, logical, broadcast."""
TRANSMIT_KEPT = ADD_FCS | LAST_INTERRUPT | STP | ENP
BUFF, UFLO, LCAR = 1 << 31, 1 << 30, 1 << 27
"""In the message of a transmit descriptor: no end and no next buffer; the FIFO ran dry; no carrier."""

LANCE, ILACC, PCNET_PCI, PCNET_PCI_II = range(4)
MOST_LOG_16, MOST_LOG_32 = 7, 9
"""A ring that the initialization block describes has at most 128 or 512 descriptors."""


class InitBlock(msgspec.Struct, frozen=True):
    """``rings``: (first address, how many descriptors), receive and transmit."""

    mode: int
    address: bytes
    logical_filter: int
    rings: tuple[tuple[int, int], tuple[int, int]]


def is_wide(style: int) -> bool:
    """32-bit structures?"""
    return style != LANCE


def init_block_bytes(style: int) -> int:
    return 28 if is_wide(style) else 24


def descriptor_bytes(style: int) -> int:
    return 16 if is_wide(style) else 8


def parse_init_block(raw: bytes, style: int, high: int) -> InitBlock:
    """``high``: address bits 31-24 for 16-bit structures, from CSR2."""
    if is_wide(style):
        mode, address, logical, receive, transmit = struct.unpack("<I6s2xQII", raw)
        logs = mode >> 20 & 0xF, mode >> 28
        most, low, bases = MOST_LOG_32, 0xF, (receive, transmit)
    else:
        mode, address, logical, receive, transmit = struct.unpack("<H6sQII", raw)
        logs = receive >> 29, transmit >> 29
        most, low, bases = MOST_LOG_16, 0x7, (receive & 0xFF_FFFF | high, transmit & 0xFF_FFFF | high)
    rings = tuple((base & ~low, 1 << min(log, most)) for base, log in zip(bases, logs, strict=True))
    return InitBlock(mode & 0xFFFF, address, logical, (rings[0], rings[1]))


class Descriptor(msgspec.Struct, frozen=True):
    """One descriptor as it was fetched. ``size_bytes``: room in, or contents of its buffer."""

    gpa: int
    style: int
    status: int
    buffer: int
    size_bytes: int

    @property
    def owned(self) -> bool:
        """By the card."""
        return bool(self.status & OWN)


def parse_descriptor(raw: bytes, gpa: int, style: int, high: int) -> Descriptor:
    if is_wide(style):
        first, second, third = struct.unpack_from("<III", raw)
        buffer, status, count = third if style == PCNET_PCI_II else first, second & 0xFFFF_0000, second
    else:
        low, middle, count = struct.unpack_from("<HHH", raw)
        buffer, status = low | (middle & 0xFF) << 16 | high, (middle & 0xFF00) << 16
    return Descriptor(gpa, style, status, buffer, -count & 0xFFF or 0x1000)


def closing(descriptor: Descriptor, status: int, message: int | None = None) -> list[tuple[int, bytes]]:
    """What is written to give a descriptor back: (address, bytes), the owner last. ``message`` ``None``: left alone."""
    gpa, style = descriptor.gpa, descriptor.style
    if is_wide(style):
        writes = [(gpa + 6, (status >> 16).to_bytes(2, "little"))]
        if message is not None:
            writes.insert(0, (gpa if style == PCNET_PCI_II else gpa + 8, message.to_bytes(4, "little")))
    else:
        writes = [(gpa + 3, (status >> 24).to_bytes(1, "little"))]
        if message is not None:
            half = message & 0xFFFF | message >> 16 & 0xFC00
            writes.insert(0, (gpa + 6, half.to_bytes(2, "little")))
    return writes
