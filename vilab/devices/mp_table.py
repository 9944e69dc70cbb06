"""MultiProcessor tables: where a kernel reads which processors, buses and interrupt controllers there are.

::

    F0000-FFFFF, on a 16-byte boundary                      behind it
    +--------+-------+------+------+------+---------+       +--------+------+-----+-----+--- ... +--------+-------+
    | "_MP_" | table | len  | rev  | sum  | feature |  ---> | "PCMP" | size | rev | sum | OEM .. | count  | lapic |
    |        | addr  | 1    | 4    |      | 1 to 5  |       +--------+------+-----+-----+--------+--------+-------+
    +--------+-------+------+------+------+---------+         entries, in this order:
                                                              0 processor 20 bytes     1 bus 8       2 I/O APIC 8
                                                              3 interrupt to an I/O APIC 8       4 to a local APIC 8

Every byte of a structure, its checksum included, adds up to 0.
Source: Intel MultiProcessor Specification 1.4 (242016), chapter 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Protocol

import msgspec

FIRST, LAST = 0xF0000, 0xFFFFF
FLOATING_BYTES = 16
HEADER_BYTES = 44
REVISION = 4
PROCESSOR, BUS, IOAPIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)
ENABLED, BOOTSTRAP = 0b01, 0b10
INT, NMI, EXTINT = 0, 1, 3
CONFORMS, HIGH_EDGE, LOW_LEVEL = 0b0000, 0b0101, 0b1111
"""Polarity and trigger mode: as the bus does it; high and edge; low and level."""
ALL_LAPICS = 0xFF


class MpInterrupt(msgspec.Struct, frozen=True):
    """A line of a bus and the pin that it goes to. ``to`` : number of an I/O APIC, or of a local APIC (255: all)."""

    bus: int
    line: int
    to: int
    pin: int
    kind: int = INT
    flags: int = CONFORMS


class MpRecord(msgspec.Struct, frozen=True):
    """All that the tables say.

    ``processors``: numbers of their local APICs, the bootstrap processor's first. ``buses``: names by number.
    ``ioapics``: (number, address). ``local``: interrupts to local APICs.
    """

    processors: tuple[int, ...]
    signature: int
    features: int
    lapic_version: int
    lapic_address: int
    ioapics: tuple[tuple[int, int], ...]
    ioapic_version: int
    buses: tuple[str, ...]
    interrupts: tuple[MpInterrupt, ...]
    local: tuple[MpInterrupt, ...]
    oem: str = "VILAB"
    product: str = "PC"


class _Memory(Protocol):
    def write(self, gpa: int, data: bytes) -> None: ...


def _summed(data: bytes, at: int) -> bytes:
    """With a byte at ``at`` that makes the sum 0."""
    whole = bytearray(data)
    whole[at] = 0
    whole[at] = -sum(whole) & 0xFF
    return bytes(whole)


def _entries(record: MpRecord) -> list[bytes]:
    entries = [
        struct.pack("<BBBBIIQ", PROCESSOR, number, record.lapic_version, ENABLED | (0 if index else BOOTSTRAP),
                    record.signature, record.features, 0)
        for index, number in enumerate(record.processors)
    ]  # fmt: skip
    entries += [struct.pack("<BB6s", BUS, n, name.ljust(6).encode()) for n, name in enumerate(record.buses)]
    entries += [
        struct.pack("<BBBBI", IOAPIC, number, record.ioapic_version, ENABLED, address)
        for number, address in record.ioapics
    ]
    for kind, interrupts in ((IO_INTERRUPT, record.interrupts), (LOCAL_INTERRUPT, record.local)):
        entries += [struct.pack("<BBHBBBB", kind, i.kind, i.flags, i.bus, i.line, i.to, i.pin) for i in interrupts]
    return entries


def configuration_table(record: MpRecord) -> bytes:
    """The table with its header."""
    entries = _entries(record)
    body = b"".join(entries)
    header = struct.pack(
        "<4sHBB8s12sIHHIHBB", b"PCMP", HEADER_BYTES + len(body), REVISION, 0, record.oem.ljust(8).encode(),
        record.product.ljust(12).encode(), 0, 0, len(entries), record.lapic_address, 0, 0, 0,
    )  # fmt: skip
    return _summed(header + body, 7)


def floating_pointer(table_gpa: int) -> bytes:
    """MODEL: no IMCR: the PIC's output is always wired to LINT0 and to the I/O APIC."""
    return _summed(struct.pack("<4sIBBB5x", b"_MP_", table_gpa, FLOATING_BYTES // 16, REVISION, 0), 10)


def mp_tables(record: MpRecord, at_gpa: int) -> bytes:
    """Pointer and table as one piece for this address, a multiple of 16."""
    return floating_pointer(at_gpa + FLOATING_BYTES) + configuration_table(record)


def place_mp_tables(
    record: MpRecord, memory: _Memory, taken: Iterable[tuple[int, int]], memory_bytes: int
) -> int | None:
    """Write the tables into F0000-FFFFF where nothing is; the address, or ``None`` if there is no room.

    ``taken``: (gpa, size in bytes) of what an image has put, or cleared, in memory.
    """
    size = len(mp_tables(record, FIRST))
    at = FIRST
    for gpa, length in sorted(taken):
        if gpa + length > at and gpa < at + size:
            at = gpa + length + 15 & ~15
    if at + size > min(LAST + 1, memory_bytes):
        return None
    memory.write(at, mp_tables(record, at))
    return at
