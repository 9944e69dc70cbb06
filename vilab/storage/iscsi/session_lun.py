"""A LUN through a session, as the transport of ``vilab.storage.scsi.lun_disk``: CDBs out, status and data back.

iSCSI wants to know beforehand how much a command may bring back; the CDB says it, in sectors for READ. How large a
sector is, READ CAPACITY tells, which goes through here before any READ.
"""

from __future__ import annotations

from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.client import IscsiSession
from vilab.storage.scsi.lun_identity import READ_CAPACITY_10, Answer
from vilab.storage.scsi.request import data_in_bytes


class SessionLun:
    """``lun`` of the session's target."""

    def __init__(self, session: IscsiSession, lun: int) -> None:
        self.session, self.lun = session, lun
        self.sector_bytes = 512

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """One command. ``IscsiError`` where there is no session, or it broke before the answer came."""
        most = 0 if memoryview(data_out).nbytes else data_in_bytes(cdb, self.sector_bytes)
        response = self.session.execute(self.lun, cdb, data_out, most)
        if cdb[:1] == READ_CAPACITY_10[:1] and len(response.data_in) >= 8:
            self.sector_bytes = int.from_bytes(response.data_in[4:8], "big")
        return response.status, response.data_in, response.sense_bytes
