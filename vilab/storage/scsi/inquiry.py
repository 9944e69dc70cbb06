"""INQUIRY and the rest of what a unit tells about itself: pages, capacity, LUNs, operation codes.

Vital product data pages (SPC-4, 7.8; SBC-3, 6.5)::

    00  which pages there are                    B0  block limits: the most of everything
    80  serial number                            B1  block device characteristics: does it turn?
    83  names: NAA 6 and T10 vendor              B2  logical block provisioning: UNMAP and its friends
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.storage.scsi import blocks as scsi_blocks
from vilab.storage.scsi.cdb import Cdb
from vilab.storage.scsi.commands import BY_CODE, COMMANDS, FAMILIES, Command
from vilab.storage.scsi.request import Request
from vilab.storage.scsi.sense import bad_cdb
from vilab.storage.scsi.state import LUNS_CHANGED, Attention, Identity

VERSION_DESCRIPTORS = (0x0080, 0x0460, 0x04C0)
"""SAM-4, SPC-4, SBC-3 (SPC-4, annex D.5)."""
NO_UNIT = 0x7F
"""First byte of INQUIRY where there is no unit: qualifier 011b, device type 1Fh."""
COMMAND_TIMEOUT_S = 30


def _text(text: str, length: int) -> bytes:
    return text.encode("ascii", "replace")[:length].ljust(length)


def standard(identity: Identity, peripheral: int = 0) -> bytes:
    """96 bytes: a disk, not removable, SPC-4, response format 2 with HISUP, commands are queued."""
    head = bytes((peripheral, 0, 6, 0x12, 91, 0, 0, 0x02))
    names = _text(identity.vendor, 8) + _text(identity.product, 16) + _text(identity.revision, 4)
    versions = b"".join(v.to_bytes(2, "big") for v in VERSION_DESCRIPTORS)
    return (head + names + bytes(22) + versions).ljust(96, b"\0")


def _serial(request: Request) -> bytes:
    return request.identity.serial.encode("ascii", "replace")[:252]


def _names(request: Request) -> bytes:
    """Designators: code set (1 binary, 2 ASCII), association and type (3 NAA, 1 T10 vendor), 0, length, name."""
    identity = request.identity
    t10 = _text(identity.vendor, 8) + _text(identity.product, 16) + _serial(request)[:200]
    return bytes((0x01, 0x03, 0, 16)) + identity.naa + bytes((0x02, 0x01, 0, len(t10))) + t10


def _block_limits(request: Request) -> bytes:
    """Bytes 4 to 63. WSNZ 0; transfers have no granularity; unmapping is by single blocks."""
    sector_bytes = request.device.sector_bytes
    page = bytearray(60)
    page[1] = scsi_blocks.MAX_COMPARE_BLOCKS
    page[4:8] = (scsi_blocks.MAX_TRANSFER_BYTES // sector_bytes).to_bytes(4, "big")
    page[8:12] = (scsi_blocks.MAX_TRANSFER_BYTES // sector_bytes // 16).to_bytes(4, "big")  # optimal
    if request.thin:
        page[16:20] = scsi_blocks.MAX_UNMAP_BLOCKS.to_bytes(4, "big")
        page[20:24] = scsi_blocks.MAX_UNMAP_DESCRIPTORS.to_bytes(4, "big")
        page[24:28] = (1).to_bytes(4, "big")  # optimal unmap granularity
    page[32:40] = (scsi_blocks.MAX_WRITE_SAME_BYTES // sector_bytes).to_bytes(8, "big")
    return bytes(page)


def _provisioning(request: Request) -> bytes:
    """LBPU, LBPWS and LBPRZ; type 2: thin provisioned (1: all of it is there)."""
    return bytes((0, 0xC4 if request.thin else 0, 2 if request.thin else 1, 0))


def vital_page(request: Request, page: int) -> bytes:
    """The whole page with its header, or 24/00."""
    if page == 0x00:
        body = bytes(_PAGES)
    elif page in _PAGES and page:
        body = _PAGES[page](request)
    else:
        raise request.cdb.refuse("page")
    return bytes((0, page)) + len(body).to_bytes(2, "big") + body


_PAGES = {
    0x00: lambda request: b"",
    0x80: _serial,
    0x83: _names,
    0xB0: _block_limits,
    0xB1: lambda request: bytes(60),  # medium rotation rate 0: not reported
    0xB2: _provisioning,
}


def inquiry(request: Request) -> bytes:
    cdb = request.cdb
    page = cdb.value("page")
    if cdb.value("evpd"):
        return request.answer(vital_page(request, page))
    if page:
        raise cdb.refuse("page")
    return request.answer(standard(request.identity))


def read_capacity10(request: Request) -> bytes:
    """Last block address (ffffffff: ask READ CAPACITY(16)) and block length."""
    if request.cdb.value("lba") and not request.cdb.value("pmi"):
        raise request.cdb.refuse("lba")
    last = min(request.total_blocks - 1, 0xFFFF_FFFF)
    return last.to_bytes(4, "big") + request.device.sector_bytes.to_bytes(4, "big")


def read_capacity16(request: Request) -> bytes:
    """32 bytes: last block address, block length, no protection, LBPME and LBPRZ at byte 14."""
    if request.cdb.value("lba") and not request.cdb.value("pmi"):
        raise request.cdb.refuse("lba")
    head = (request.total_blocks - 1).to_bytes(8, "big") + request.device.sector_bytes.to_bytes(4, "big")
    return request.answer(head + bytes((0, 0, 0xC0 if request.thin else 0)).ljust(20, b"\0"))


def lun_list(cdb: Cdb, luns: Sequence[int]) -> bytes:
    """8 bytes a LUN, by peripheral addressing below 256 and flat space above (SAM-4, 4.6.7-4.6.8)."""
    select = cdb.value("select")
    if select > 2:
        raise cdb.refuse("select")
    if cdb.value("allocation") < 16:
        raise cdb.refuse("allocation")
    listed = () if select == 1 else luns  # 1: well-known units only, of which there are none
    entries = b"".join((lun if lun < 256 else 0x4000 | lun).to_bytes(2, "big") + bytes(6) for lun in listed)
    return (len(entries).to_bytes(4, "big") + bytes(4) + entries)[: cdb.value("allocation")]


def report_luns(request: Request) -> bytes:
    """Whoever has read the list need not be told that it has changed. MODEL: on this unit only, not on its sisters."""
    data = lun_list(request.cdb, request.luns)
    told = Attention(request.nexus, LUNS_CHANGED)
    if told in request.state.attentions:
        request.state.attentions.remove(told)
    return data


def read_defect_data(request: Request) -> bytes:
    """No block is known to be bad: an empty list of the format that was asked for."""
    bits = request.cdb.value("plist") << 4 | request.cdb.value("glist") << 3 | request.cdb.value("format")
    long = request.cdb.command.length == 12
    return request.answer(bytes((0, bits)).ljust(8 if long else 4, b"\0"))


_TIMEOUTS = bytes((0, 10, 0, 0)) + bytes(4) + COMMAND_TIMEOUT_S.to_bytes(4, "big")


def _listed(command: Command, rctd: int) -> bytes:
    flags = (0x02 if rctd else 0) | (0x01 if command.service_action is not None else 0)
    action = (command.service_action or 0).to_bytes(2, "big")
    head = bytes((command.opcode, 0)) + action + bytes((0, flags)) + command.length.to_bytes(2, "big")
    return head + (_TIMEOUTS if rctd else b"")


def _supported(request: Request, command: Command) -> bool:
    return request.thin or command.name != "UNMAP"


def report_operation_codes(request: Request) -> bytes:
    """All commands (options 0), or one: by operation code (1), with service action (2), or either (3)."""
    cdb = request.cdb
    rctd, options = cdb.value("rctd"), cdb.value("options")
    if options == 0:
        listed = b"".join(_listed(c, rctd) for c in COMMANDS if _supported(request, c))
        return request.answer(len(listed).to_bytes(4, "big") + listed)
    opcode, action = cdb.value("requested"), cdb.value("requested_action")
    family = opcode in FAMILIES
    if options > 3 or (options == 1 and family) or (options == 2 and not family and (opcode, None) in BY_CODE):
        raise cdb.refuse("options")
    command = BY_CODE.get((opcode, action if family else None))
    if command is None or not _supported(request, command) or (options == 3 and not family and action):
        return request.answer(bytes((0, 0x01, 0, 0)))  # SUPPORT 001b: not supported
    head = bytes((0, (0x80 if rctd else 0) | 0x03)) + command.length.to_bytes(2, "big")
    return request.answer(head + command.usage_map() + (_TIMEOUTS if rctd else b""))


def report_task_functions(request: Request) -> bytes:
    """ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, QUERY TASK, TARGET RESET; I_T NEXUS RESET."""
    if request.cdb.value("allocation") < 4:
        raise bad_cdb(6)
    head = bytes((0x80 | 0x40 | 0x10 | 0x08 | 0x04 | 0x02, 0x01, 0))
    if not request.cdb.value("repd"):
        return request.answer(head + b"\0")
    return request.answer(head + b"\x0c" + bytes(12))
