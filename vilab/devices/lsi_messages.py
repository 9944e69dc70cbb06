"""Fusion-MPT messages: what stands in request and reply frames. Little-endian, in dwords.

Every request begins the same, and every reply does::

    offset  request                                       reply
    00      ..  ..  chain offset  function                ..  ..  length in dwords  function
    04      ..  ..  ..  flags                             ..  ..  ..  flags
    08      context, which the driver chooses             the same context
    0c                                                    ..  ..  IOC status (16 bits)
    10                                                    IOC log info

SCSI IO request (function 00)                       SCSI IO reply, only if it did not simply go well::

    00  target  bus  chain offset  00               00  target  bus  09  00
    04  CDB length  sense length  ..  flags         04  CDB length  sense length  ..  flags
    08  context                                     08  context
    0c  LUN, 8 bytes                                0c  SCSI status  SCSI state  IOC status
    14  control: direction 25-24                    10  log info
    18  CDB, 16 bytes                               14  bytes moved
    28  data length                                 18  sense bytes
    2c  address for sense data                      1c  response info
    30  scatter-gather list (lsi_sgl.py)            20  task tag

Source: LSI Logic, Fusion-MPT Message Passing Interface Specification 1.2.
"""

from __future__ import annotations

import struct

import msgspec

SCSI_IO, TASK_MANAGEMENT, IOC_INIT, IOC_FACTS, CONFIG, PORT_FACTS, PORT_ENABLE, EVENT_NOTIFICATION, EVENT_ACK = range(9)
UNIT_RESET_MESSAGE, IO_UNIT_RESET, HANDSHAKE, REMOVE_REPLY_FRAMES = 0x40, 0x41, 0x42, 0x43

SUCCESS, INVALID_FUNCTION, BUSY, INVALID_SGL = 0x0000, 0x0001, 0x0002, 0x0003
INVALID_FIELD, INVALID_STATE = 0x0007, 0x0008
CONFIG_INVALID_ACTION, CONFIG_INVALID_TYPE, CONFIG_INVALID_PAGE, CONFIG_INVALID_DATA = 0x20, 0x21, 0x22, 0x23
SCSI_INVALID_BUS, SCSI_INVALID_TARGET, SCSI_NOT_THERE, SCSI_OVERRUN, SCSI_UNDERRUN, SCSI_DATA_ERROR = (
    0x41, 0x42, 0x43, 0x44, 0x45, 0x46,
)  # fmt: skip
SCSI_TASK_TERMINATED, SCSI_IOC_TERMINATED = 0x48, 0x4B

SENSE_VALID, NO_SCSI_STATUS, TERMINATED = 0x01, 0x04, 0x08

FRAME_BYTES = 128
VERSION, HEADER_VERSION = 0x0102, 0x0000
FIRMWARE_VERSION = 0x0103_2920
"""1.3.41.32, the firmware that VMware's adapter reports."""
PRODUCT = 0x0101
"""SCSI, initiator, 1030."""
CREDITS, REPLY_FRAMES = 128, 256
CHAIN_DEPTH = 34
BLOCK_DWORDS = 16
TARGETS, BUSES, PORTS = 16, 1, 1
ADAPTER_ID = 7
PORT_TYPE_SCSI, PROTOCOL_INITIATOR = 0x01, 0x08

CONTINUES = 0x80
"""Flag of a reply: more will come with this context."""
EVENT_IOC_BUS_RESET, EVENT_EVENT_CHANGE = 0x04, 0x0A

ABORT_TASK, ABORT_TASK_SET, TARGET_RESET, BUS_RESET, UNIT_RESET, _CLEAR_TASK_SET, QUERY_TASK = range(1, 8)
TM_COMPLETE, TM_INVALID_FRAME, TM_NOT_SUPPORTED, TM_SUCCEEDED = 0x00, 0x02, 0x04, 0x08

_SCSI_IO = struct.Struct("<BBBBBBBBI8sI16sII")
SGL_AT = _SCSI_IO.size  # 0x30
DIRECTION_WRITE, DIRECTION_READ = 1, 2


class ScsiIo(msgspec.Struct, frozen=True):
    """The head of a SCSI IO request. ``direction``: 0 none, 1 write, 2 read."""

    target: int
    bus: int
    chain_offset: int
    cdb_bytes: int
    sense_bytes: int
    flags: int
    context: int
    lun: int
    direction: int
    cdb: bytes
    data_bytes: int
    sense_gpa: int


def parse_scsi_io(frame: bytes) -> ScsiIo:
    """From the first 48 bytes. A LUN that is not in the first of its four levels becomes one that nobody has."""
    target, bus, chain, _, cdb_bytes, sense_bytes, _, flags, context, lun, control, cdb, data_bytes, sense = (
        _SCSI_IO.unpack_from(frame)
    )
    flat = lun[1] | (lun[0] & 0x3F) << 8
    if lun[0] & 0x80 or any(lun[2:]):
        flat = 0x3FFF
    return ScsiIo(
        target, bus, chain, cdb_bytes, sense_bytes, flags, context, flat, control >> 24 & 3, cdb[: min(cdb_bytes, 16)],
        data_bytes, sense,
    )  # fmt: skip


def context_of(frame: bytes) -> int:
    return int.from_bytes(frame[8:12], "little")


def reply(request: bytes, body: bytes = b"", status: int = SUCCESS, first: int = 0, second: int = 0) -> bytes:
    """The common 20 bytes and what follows. ``first``: bytes 0-1; ``second``: bytes 4-6, and the flags in 7."""
    dwords = (20 + len(body)) // 4
    head = struct.pack("<HBBIIHHI", first, dwords, request[3], second, context_of(request), 0, status, 0)
    return head + body


def ioc_facts(request: bytes, who: int, reply_bytes: int, events: bool, high: tuple[int, int]) -> bytes:
    """60 bytes. ``high``: upper halves of the addresses of frames and of sense data, as IOCInit has set them."""
    body = struct.pack(
        "<BBBBHHHHIHBBIHBBIII",
        CHAIN_DEPTH, who, BLOCK_DWORDS, 0, REPLY_FRAMES, FRAME_BYTES // 4, 0, PRODUCT, high[0], CREDITS, PORTS, events,
        high[1], reply_bytes, TARGETS, BUSES, 0, 0, FIRMWARE_VERSION,
    )  # fmt: skip
    return reply(request, body, first=VERSION, second=HEADER_VERSION)


def port_facts(request: bytes) -> bytes:
    port = request[6]
    body = struct.pack("<BBHHHHHHBBI", 0, PORT_TYPE_SCSI, TARGETS, ADAPTER_ID, PROTOCOL_INITIATOR, 0, 0, 0, 0, 0, 0)
    if port >= PORTS:
        return reply(request, bytes(20), INVALID_FIELD, second=port << 16)
    return reply(request, body, second=port << 16)


def event(context: int, number: int, data: int, flags: int) -> bytes:
    """An event notification reply with one dword of data."""
    return struct.pack(
        "<HBBIIHHIIII", 1, 8, EVENT_NOTIFICATION, flags << 24, context, 0, SUCCESS, 0, number, 0, data
    )  # fmt: skip


def scsi_io_reply(
    request: bytes, scsi_status: int, scsi_state: int, ioc_status: int, moved_bytes: int, sense_bytes: int
) -> bytes:
    """36 bytes; the first 12 repeat the request's."""
    head = request[:2] + bytes((9, SCSI_IO)) + request[4:12]
    return head + struct.pack(
        "<BBHIIIIHH", scsi_status, scsi_state, ioc_status, 0, moved_bytes, sense_bytes, 0, 0xFFFF, 0
    )


def task_reply(request: bytes, response: int, ended: int, status: int = SUCCESS) -> bytes:
    """24 bytes. ``ended``: how many commands it has ended."""
    head = request[:2] + bytes((6, TASK_MANAGEMENT, response, request[5], 0, request[7])) + request[8:12]
    return head + struct.pack("<HHII", 0, status, 0, ended)
