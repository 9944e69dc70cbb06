"""A LUN behind a SCSI transport, as hosts on a VMFS volume need it: CDBs out, status and data back.

=====================  ====================================================
read, write            READ(16), WRITE(16), at most 1 MiB a command
flush                  SYNCHRONIZE CACHE(16)
unmap                  WRITE SAME(16) with one block of zeros: reads as zeros whatever the target frees
reserve, release       RESERVE(6), RELEASE(6)
=====================  ====================================================

RESERVATION CONFLICT becomes ``ReservationConflict``. A unit attention is heard and the command repeated, unless it says
that a reset has ended the reservation that this host had: then ``ReservationLost``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, check_range
from vilab.storage.scsi.sense import SenseKey, Status, parse_sense
from vilab.storage.scsi.state import Nexus
from vilab.storage.scsi.target import Target
from vilab.storage.vmfs.errors import ReservationConflict, ReservationLost

Execute: TypeAlias = Callable[[bytes, bytes, int], tuple[int, bytes, bytes]]
"""(cdb, data out, most bytes of data in) -> (status, sense data, data in): a transport, from one nexus to one LUN."""

MOST_BYTES = 1 << 20
ATTENTIONS = 8
"""So many unit attentions in a row are heard before it is an error."""


def nexus_to(target: Target, nexus: Nexus, lun: int) -> Execute:
    """The transport to a target of this process."""

    def execute(cdb: bytes, data_out: bytes, _most: int) -> tuple[int, bytes, bytes]:
        response = target.execute(nexus, lun, cdb, data_out)
        return response.status, response.sense_bytes, response.data_in

    return execute


class ScsiLun:
    """A block device over ``execute``."""

    read_only = False

    def __init__(self, execute: Execute) -> None:
        self.execute = execute
        self.reserved = False
        data = self._command(bytes((0x9E, 0x10)) + bytes(8) + struct.pack(">I", 32) + bytes(2), most=32)
        last, self.sector_bytes = struct.unpack_from(">QI", data)
        self.size_bytes: int = (last + 1) * self.sector_bytes

    def _command(self, cdb: bytes, data: bytes = b"", most: int = 0) -> bytes:
        found = "no sense data"
        for _ in range(ATTENTIONS):
            try:
                status, sense_bytes, data_in = self.execute(cdb, data, most)
            except ReservationLost:  # the transport knows already
                self.reserved = False
                raise
            if status == Status.GOOD:
                return data_in
            if status == Status.RESERVATION_CONFLICT:
                if self.reserved:
                    self.reserved = False
                    raise ReservationLost("Another host has taken over the LUN that this one had reserved.")
                raise ReservationConflict
            sense = parse_sense(sense_bytes)
            found = sense.describe() if sense is not None else Status(status).name.replace("_", " ")
            if sense is None or sense.key != SenseKey.UNIT_ATTENTION:
                break
            if sense.code >> 8 == 0x29 and self.reserved:
                self.reserved = False
                raise ReservationLost(f"The LUN was reset while this host had it reserved ({found}).")
        raise BlockError("medium", f"The LUN has refused command {cdb[0]:#04x}: {found}.")

    def _blocks(self, opcode: int, offset_bytes: int, size_bytes: int) -> bytes:
        first, blocks = offset_bytes // self.sector_bytes, size_bytes // self.sector_bytes
        return struct.pack(">BBQIBB", opcode, 0, first, blocks, 0, 0)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        parts = []
        for at in range(offset_bytes, offset_bytes + size_bytes, MOST_BYTES):
            some = min(MOST_BYTES, offset_bytes + size_bytes - at)
            data = self._command(self._blocks(0x88, at, some), most=some)
            if len(data) != some:
                raise BlockError("medium", f"The LUN has sent {len(data)} bytes of {some}.")
            parts.append(data)
        return b"".join(parts)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        view = memoryview(data).cast("B")
        check_range(self, offset_bytes, view.nbytes)
        for at in range(0, view.nbytes, MOST_BYTES):
            some = bytes(view[at : at + MOST_BYTES])
            self._command(self._blocks(0x8A, offset_bytes + at, len(some)), some)

    def flush(self) -> None:
        self._command(bytes((0x91,)) + bytes(15))

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        check_range(self, offset_bytes, size_bytes)
        for at in range(offset_bytes, offset_bytes + size_bytes, MOST_BYTES):
            some = min(MOST_BYTES, offset_bytes + size_bytes - at)
            self._command(self._blocks(0x93, at, some), bytes(self.sector_bytes))

    def reserve(self) -> None:
        self._command(bytes((0x16, 0, 0, 0, 0, 0)))
        self.reserved = True

    def release(self) -> None:
        self.reserved = False
        self._command(bytes((0x17, 0, 0, 0, 0, 0)))
