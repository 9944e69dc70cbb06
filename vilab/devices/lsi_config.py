"""Fusion-MPT configuration pages: what the adapter tells about itself, its bus and its targets.

::

    request  04  header only 00, read 01, write 02 ... | page's header at 14 | page address at 18 | memory at 1c

    page  version  length in dwords  number  type and attributes     types  0 IO unit    1 IOC    3 SCSI port
          ... the rest, little-endian ...                                    4 SCSI device, address: target | bus << 8
                                                                             9 manufacturing

    SCSI device 1, "requested parameters"     what the driver wants to negotiate with a target
    SCSI device 0, "negotiated parameters"    what came of it
        wide 29   offset 23-16   period 15-8   QAS 2   DT 1   IU 0

Negotiating costs nothing here and always succeeds, up to what SCSI port page 0 offers.
Source: Fusion-MPT Message Passing Interface Specification 1.2, configuration messages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from vilab.devices.lsi_messages import ADAPTER_ID, TARGETS
from vilab.devices.lsi_registers import CLASS_SCSI, DEVICE, REVISION, SUBSYSTEM, VENDOR

IO_UNIT, IOC, SCSI_PORT, SCSI_DEVICE, MANUFACTURING = 0x0, 0x1, 0x3, 0x4, 0x9
READ_ONLY, CHANGEABLE = 0x00, 0x10

OFFERED = 0x20000000 | 0x7F << 16 | 0x08 << 8 | 0b111
"""Wide, offset 127, period 8 (160 MHz: Ultra320), QAS, DT, IU."""
PHYSICAL_LVD = 0xFF00_0003
WANTS_ALL = 0x0F
"""Device flags: disconnect, scanned for targets and LUNs, tagged commands."""


class Parameters(msgspec.Struct):
    """SCSI device page 1 of one target."""

    requested: int = 0
    configuration: int = 0


class Page(msgspec.Struct, frozen=True):
    """``body``: without the header of 4 bytes; a multiple of 4."""

    type: int
    number: int
    version: int
    body: bytes
    changeable: bool = False

    @property
    def header(self) -> bytes:
        attributes = CHANGEABLE if self.changeable else READ_ONLY
        return bytes((self.version, len(self.body) // 4 + 1, self.number, self.type | attributes))

    @property
    def content(self) -> bytes:
        return self.header + self.body


def _text(text: str, size_bytes: int) -> bytes:
    return text.encode().ljust(size_bytes, b"\0")


def _ioc_0() -> bytes:
    return struct.pack("<IIHHB3xIHH", 0, 0, VENDOR, DEVICE, REVISION, CLASS_SCSI, *SUBSYSTEM)


def _port_2() -> bytes:
    device = struct.pack("<BBH", 0x0A, 0x08, WANTS_ALL)
    return struct.pack("<II", 0, ADAPTER_ID | 0x30) + device * TARGETS


_FIXED: dict[tuple[int, int], tuple[int, Callable[[], bytes]]] = {
    (IO_UNIT, 0): (0, lambda: bytes(8)),
    (IO_UNIT, 1): (1, lambda: struct.pack("<I", 0x0000_0041)),  # a single function, no RAID
    (IO_UNIT, 2): (0, lambda: bytes(24)),
    (IOC, 0): (1, _ioc_0),
    (IOC, 1): (1, lambda: struct.pack("<IIBB2x", 0, 0, 0, 0xFF)),  # replies are not coalesced
    (IOC, 2): (2, lambda: bytes(8)),  # no RAID volumes
    (IOC, 3): (0, lambda: bytes(4)),
    (IOC, 4): (0, lambda: bytes(4)),
    (SCSI_PORT, 0): (1, lambda: struct.pack("<II", OFFERED, PHYSICAL_LVD)),
    (SCSI_PORT, 1): (3, lambda: struct.pack("<IIBBH", ADAPTER_ID | 1 << ADAPTER_ID + 16, 0, 0, 0, 0)),
    (SCSI_PORT, 2): (2, _port_2),
    (MANUFACTURING, 0): (
        0,
        lambda: (
            _text("53C1030", 16) + _text("A0", 8) + _text("vilab LSI Logic", 16) + _text("L3-01049", 16) + bytes(16)
        ),
    ),
    (MANUFACTURING, 1): (0, lambda: bytes(256)),
}
"""(type, number) -> (version, body). Their length is that of the body."""


def page(type_: int, number: int, target: int, parameters: Parameters, present: bool) -> Page | None:
    """A page as it is now; ``None`` if there is no such page."""
    fixed = _FIXED.get((type_, number))
    if fixed is not None:
        return Page(type_, number, fixed[0], fixed[1]())
    if type_ != SCSI_DEVICE or target >= TARGETS:
        return None
    if number == 0:
        negotiated = parameters.requested & OFFERED if present else 0
        return Page(type_, 0, 3, struct.pack("<II", negotiated, 1 if negotiated else 0))
    if number == 1:
        return Page(type_, 1, 4, struct.pack("<III", parameters.requested, 0, parameters.configuration), True)
    if number == 2:
        return Page(type_, 2, 1, bytes(12))
    if number == 3:
        return Page(type_, 3, 0, bytes(8))
    return None


def known_type(type_: int) -> bool:
    return type_ == SCSI_DEVICE or any(each == type_ for each, _ in _FIXED)


def parameters_from(content: bytes) -> Parameters:
    """SCSI device page 1 as the driver has written it, header included."""
    requested, _, configuration = struct.unpack_from("<III", content, 4)
    return Parameters(requested, configuration)
