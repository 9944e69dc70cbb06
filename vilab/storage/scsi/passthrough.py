"""A logical unit that is somebody else's: every command goes on to a LUN, and its answer comes back as it is.

::

    guest ── CDB ── adapter ── PassthroughUnit ── Lun.submit ──> the LUN, over whichever path works

What a logical unit remembers (reservations, unit attentions, mode pages) the LUN remembers itself.
"""

from __future__ import annotations

from typing import Final

from vilab.protocols import Lun, ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.geometry import ShapedLike
from vilab.storage.scsi.cdb import decode
from vilab.storage.scsi.inquiry import lun_list
from vilab.storage.scsi.request import Response, ScsiCommand
from vilab.storage.scsi.sense import ScsiError, Sense, SenseKey, Status, parse_sense
from vilab.storage.scsi.state import Nexus
from vilab.storage.scsi.target import Target
from vilab.storage.scsi.unit import AWAY, LogicalUnit

FAILED = Sense(SenseKey.HARDWARE_ERROR, 0x4400)
REPORT_LUNS: Final = 0xA0


class PassthroughDisk(ShapedLike):
    """A LUN as a guest sees it through a physical mapping; the Protocol ``vilab.protocols.Lun``."""

    def __init__(self, lun: Lun) -> None:
        self.lun = self._behind = lun

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> tuple[int, bytes, bytes]:
        """Every command goes to the LUN; REPORT LUNS is answered here: there is LUN 0, this one."""
        if cdb[:1] != bytes([REPORT_LUNS]):
            return self.lun.submit(cdb, data_out)
        try:
            return Status.GOOD, lun_list(decode(cdb), (0,)), b""
        except ScsiError as error:
            return error.status, b"", b"" if error.sense is None else error.sense.fixed()

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self.lun.read(offset_bytes, size_bytes)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self.lun.write(offset_bytes, data)

    def flush(self) -> None:
        self.lun.flush()

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self.lun.unmap(offset_bytes, size_bytes)


class PassthroughUnit(LogicalUnit):
    """In the place of a unit of ``target``.

    MODEL: a reset by the guest ends what this adapter has under way and is not passed on: other hosts use the LUN too.
    """

    def __init__(self, device: Lun, target: Target, lun: int = 0) -> None:
        under = target.units[lun]
        super().__init__(device, under.identity, lun, under.thin, target.clock, target.log)
        self.lun_device = device
        self.luns, self.abort = under.luns, under.abort
        target.units[lun] = self

    def execute(self, nexus: Nexus, cdb: bytes, data_out: ReadableBytes = b"") -> Response:
        try:
            status, data_in, sense_bytes = self.lun_device.submit(cdb, data_out)
            response = Response(Status(status), data_in, parse_sense(sense_bytes), sense_bytes)
        except BlockError as error:
            sense = AWAY if error.kind == "away" else FAILED
            response = Response(Status.CHECK_CONDITION, b"", sense, sense.fixed())
        if self.log.active:
            self.log.emit(
                ScsiCommand(
                    self.clock.now_ns, str(nexus), self.lun, bytes(cdb), response.status, response.sense_bytes,
                    len(response.data_in), len(data_out),
                )
            )  # fmt: skip
        return response
