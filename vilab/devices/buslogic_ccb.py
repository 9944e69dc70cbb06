"""Command control blocks and mailboxes of a BusLogic MultiMaster adapter in 32-bit mode. Little-endian.

::

    CCB  00  operation  direction 4-3, tag 7-5  CDB length  sense length
         04  data length                        or length of the list of segments
         08  data address                       or where that list is: length, address, 4 bytes each
         0c  ..  ..  adapter status  target status          <- the answer
         10  target  LUN 5-0  CDB (12 bytes) ...
         20  ..
         24  address for sense data

    operation   00 data in one piece  02 in segments  03, 04 the same, and what was not moved is written to 04
                81 reset the target
    direction   0 as the command says, lengths are not checked   1 in   2 out   3 no data

    outgoing mailbox   CCB address | .. .. .. action        0 free  1 start  2 abort
    incoming mailbox   CCB address | adapter status, target status, .., completion
                                     0 free  1 well  2 aborted  3 abort: not found  4 error  5 no such CCB

The segments come from the guest: at most ``MOST_SEGMENTS``, none outside memory.
Source: BusLogic MultiMaster technical reference, command control blocks.
"""

from __future__ import annotations

import struct

import msgspec

from vilab.devices.bus_master import BusMaster, Segment
from vilab.devices.buslogic_commands import MOST_SEGMENTS

CCB_BYTES, MAILBOX_BYTES, SEGMENT_BYTES = 40, 8, 8
STATUS_AT, RESIDUAL_AT = 14, 4
FREE, START, ABORT = range(3)
WELL, ABORTED_BY_HOST, NOT_FOUND, ERROR = 1, 2, 3, 4

PLAIN, SEGMENTED, PLAIN_RESIDUAL, SEGMENTED_RESIDUAL, RESET_TARGET = 0x00, 0x02, 0x03, 0x04, 0x81
AS_COMMANDED, INTO_MEMORY, FROM_MEMORY, NO_DATA = range(4)

COMPLETED, NO_SELECTION, RUN_ERROR, BAD_ACTION, BAD_OPERATION, BAD_PARAMETER = 0x00, 0x11, 0x12, 0x15, 0x16, 0x1A
TARGET_WAS_RESET, ABORTED = 0x25, 0x26

_CCB = struct.Struct("<BBBBIIHBBBB12s2x4xI")
MOST_CDB = 12


class Ccb(msgspec.Struct, frozen=True):
    """A CCB as it stands in memory."""

    operation: int
    direction: int
    cdb_bytes: int
    sense_bytes: int
    data_bytes: int
    data_gpa: int
    target: int
    lun: int
    cdb: bytes
    sense_gpa: int

    @property
    def wants_residual(self) -> bool:
        return self.operation in (PLAIN_RESIDUAL, SEGMENTED_RESIDUAL)


def parse(raw: bytes, extended_lun: bool) -> Ccb:
    """From ``CCB_BYTES`` bytes."""
    operation, control, cdb_bytes, sense, data_bytes, data, _, _, _, target, lun, cdb, sense_gpa = _CCB.unpack(raw)
    sense_bytes = {0: 14, 1: 0}.get(sense, sense)
    lun &= 0x3F if extended_lun else 0x1F
    return Ccb(
        operation, control >> 3 & 3, cdb_bytes, sense_bytes, data_bytes, data, target, lun, cdb[:cdb_bytes], sense_gpa
    )


def segments_of(ccb: Ccb, master: BusMaster) -> list[Segment] | None:
    """Where the data is; ``None`` if the list or a piece of it cannot be."""
    if ccb.direction == NO_DATA or not ccb.data_bytes:
        return []
    if ccb.operation in (PLAIN, PLAIN_RESIDUAL):
        found = [(ccb.data_gpa, ccb.data_bytes)]
    else:
        size = ccb.data_bytes // SEGMENT_BYTES * SEGMENT_BYTES
        raw = None if size > MOST_SEGMENTS * SEGMENT_BYTES else master.read(ccb.data_gpa, size)
        if raw is None:
            return None
        found = [(gpa, length) for length, gpa in struct.iter_unpack("<II", raw) if length]
    return found if all(master.reaches(gpa, length) for gpa, length in found) else None


def incoming(gpa: int, adapter_status: int, target_status: int, completion: int) -> bytes:
    """An incoming mailbox."""
    return struct.pack("<IBBBB", gpa, adapter_status, target_status, 0, completion)
