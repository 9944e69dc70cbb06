"""Mode pages: a unit's settings, read by MODE SENSE and changed by MODE SELECT.

::

    MODE SENSE answer    | header 4 (6) or 8 (10) | block descriptor 0, 8 or 16 | page | page | ...
    page                 | code | length | bytes ...
                           PS 0: nothing can be saved (page control 3 gets 39/00)

    page  name                       length  changeable
    03h   format device              24      nothing
    04h   rigid disk geometry        24      nothing
    08h   caching                    20      WCE, byte 2 bit 2: writes may stay in the cache
    0Ah   control                    12      D_SENSE, byte 2 bit 2: sense data in descriptor format
                                             SWP, byte 4 bit 3: refuse writes (27/02)

Sources: SPC-4, 7.5; SBC-3, 6.4; SBC-2, 6.3.3 for 04h and SCSI-2, 9.3.3.3 for 03h.
"""

from __future__ import annotations

from vilab.storage.scsi.request import Request
from vilab.storage.scsi.sense import bad_data, illegal
from vilab.storage.scsi.state import CACHING_DEFAULT, CONTROL_DEFAULT

ALL_PAGES = 0x3F
ALL_SUBPAGES = 0xFF
WRITE_PROTECT = 0x80
DPO_FUA = 0x10
ROTATIONS_PER_MINUTE = 10_000
CHANGEABLE = {
    0x08: bytes((0x08, 0x12, 0x04)) + bytes(17),
    0x0A: bytes((0x0A, 0x0A, 0x04, 0, 0x08)) + bytes(7),
}
PARAMETERS_CHANGED = 0x2A01


def _format_device(request: Request) -> bytes:
    """Sectors per track, bytes per sector, hard-sectored."""
    geometry = request.device.geometry
    page = bytearray((0x03, 0x16)) + bytes(22)
    page[10:12] = geometry.sectors.to_bytes(2, "big")
    page[12:14] = (request.device.sector_bytes & 0xFFFF).to_bytes(2, "big")
    page[20] = 0x40
    return bytes(page)


def _rigid_disk(request: Request) -> bytes:
    """Cylinders, heads and rotation. MODEL: nothing turns; the figure is for guests that compute with it."""
    geometry = request.device.geometry
    page = bytearray((0x04, 0x16)) + bytes(22)
    page[2:5] = min(geometry.cylinders, 0xFF_FFFF).to_bytes(3, "big")
    page[5] = geometry.heads
    page[20:22] = ROTATIONS_PER_MINUTE.to_bytes(2, "big")
    return bytes(page)


def _page(request: Request, code: int, control: int) -> bytes | None:
    """One page: current values (``control`` 0), what can be changed (1), default values (2)."""
    if code in (0x03, 0x04):
        page = _format_device(request) if code == 0x03 else _rigid_disk(request)
        return page[:2] + bytes(len(page) - 2) if control == 1 else page
    if code not in CHANGEABLE:
        return None
    if control == 1:
        return CHANGEABLE[code]
    if control == 2:
        return CACHING_DEFAULT if code == 0x08 else CONTROL_DEFAULT
    return request.state.caching if code == 0x08 else request.state.control


def _block_descriptor(request: Request, long: bool) -> bytes:
    blocks, size = request.total_blocks, request.device.sector_bytes
    if long:
        return blocks.to_bytes(8, "big") + bytes(4) + size.to_bytes(4, "big")
    return min(blocks, 0xFFFF_FFFF).to_bytes(4, "big") + size.to_bytes(4, "big")  # density 0, 24 bits of length


def mode_sense(request: Request) -> bytes:
    cdb, ten = request.cdb, request.cdb.command.length == 10
    code, subpage, control = cdb.value("page"), cdb.value("subpage"), cdb.value("pc")
    if control == 3:
        raise illegal(0x3900)
    if subpage not in (0, ALL_SUBPAGES):
        raise cdb.refuse("subpage")
    codes = (0x03, 0x04, 0x08, 0x0A) if code == ALL_PAGES else (code,)
    pages = b""
    for each in codes:
        page = _page(request, each, control)
        if page is None:
            raise cdb.refuse("page")
        pages += page
    protect = request.device.read_only or request.state.software_write_protect
    specific = DPO_FUA | (WRITE_PROTECT if protect else 0)
    long = ten and bool(cdb.value("llbaa"))
    descriptor = b"" if cdb.value("dbd") else _block_descriptor(request, long)
    if ten:
        rest = bytes((0, specific, long and bool(descriptor), 0)) + len(descriptor).to_bytes(2, "big")
        rest += descriptor + pages
        return request.answer(len(rest).to_bytes(2, "big") + rest)
    rest = bytes((0, specific, len(descriptor))) + descriptor + pages
    return request.answer(bytes((len(rest),)) + rest)


def mode_select(request: Request) -> bytes:
    """Take new values, all or none: lengths first, then every page against what can be changed."""
    cdb, ten = request.cdb, request.cdb.command.length == 10
    size = cdb.value("parameter_bytes")
    if cdb.value("sp"):
        raise cdb.refuse("sp")
    if not size:
        return b""
    if not cdb.value("pf"):
        raise cdb.refuse("pf")
    data = bytes(request.data[:size])
    header = 8 if ten else 4
    if len(data) < max(size, header):
        raise illegal(0x1A00)
    descriptor_bytes = int.from_bytes(data[6:8], "big") if ten else data[3]
    at = header + descriptor_bytes
    if at > len(data):
        raise illegal(0x1A00)
    _check_descriptor(request, data[header:at], header, ten and bool(data[4] & 1))
    changed: dict[int, bytes] = {}
    while at < len(data):
        code, page = _selected(request, data, at)
        changed[code] = page
        at += len(page)
    state = request.state
    before = (state.caching, state.control)
    state.caching = changed.get(0x08, state.caching)
    state.control = changed.get(0x0A, state.control)
    if before != (state.caching, state.control):
        state.attend_others(request.nexus, PARAMETERS_CHANGED)
        if not state.write_cache:
            request.device.flush()
    return b""


def _check_descriptor(request: Request, descriptor: bytes, at: int, long: bool) -> None:
    """The size of the disk is what it is: only a descriptor that says so, or 0 blocks, is taken."""
    if not descriptor:
        return
    if len(descriptor) != (16 if long else 8):
        raise bad_data(at - 1)
    split = 8 if long else 4
    blocks = int.from_bytes(descriptor[:split], "big")
    length = int.from_bytes(descriptor[-4 if long else -3 :], "big")
    current = _block_descriptor(request, long)
    if blocks not in (0, int.from_bytes(current[:split], "big")):
        raise bad_data(at)
    if length != request.device.sector_bytes:
        raise bad_data(at + len(descriptor) - (4 if long else 3))


def _selected(request: Request, data: bytes, at: int) -> tuple[int, bytes]:
    code = data[at] & 0x3F
    current = _page(request, code, 0)
    if current is None or data[at] & 0x40:
        raise bad_data(at)
    if at + 1 >= len(data):
        raise illegal(0x1A00)
    if data[at + 1] != len(current) - 2:
        raise bad_data(at + 1)
    page = data[at : at + len(current)]
    if len(page) < len(current):
        raise illegal(0x1A00)
    mask = _page(request, code, 1) or b""
    for index in range(2, len(current)):
        if (page[index] ^ current[index]) & ~mask[index] & 0xFF:
            raise bad_data(at + index)
    return code, current[:2] + page[2:]
