"""A LUN behind an iSCSI target as a disk of this host, and for raw CDBs.

::

    read, write, flush, unmap ──> LunDisk ──READ, WRITE, SYNCHRONIZE CACHE, ...──┐
    submit(cdb, data)         ──────────── any CDB, answered with whatever came ─┴─> SessionLun ──> session ──> target

What a ``LunDisk`` does is done again when the session was lost: the next command logs in once more, and a block that is
read or written twice is the same block. Not so under a reservation (RESERVE(6)): it is gone with its session, somebody
else may have been there, and what was under way is ``ReservationLost``. A raw CDB is never repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.client import IscsiSession, SocketLink
from vilab.storage.iscsi.errors import IscsiError, SessionLostError
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.session_lun import SessionLun
from vilab.storage.scsi.lun_disk import LunDisk
from vilab.storage.scsi.lun_identity import Answer
from vilab.storage.scsi.sense import Status

LOST_SESSIONS = 16
"""So often a session may break under one command before it is given up."""
BUSY_PAUSE_S = 0.02
CONFLICT_RETRIES, CONFLICT_PAUSE_S = 80, 0.05


class IscsiDisk(LunDisk):
    """``conflict_retries``: how often a command is tried again, after a pause, while another initiator has the disk
    reserved (ESX calls it Scsi.ConflictRetries); a raw one never is. 0 for hosts on VMFS, which do their own waiting.
    """

    def __init__(
        self,
        session: IscsiSession,
        lun: int,
        sleep: Callable[[float], None] = time.sleep,
        conflict_retries: int = CONFLICT_RETRIES,
    ) -> None:
        self.session, self.lun = session, lun
        self.conflict_retries = conflict_retries
        self._sleep = sleep
        self._login = 0
        super().__init__(SessionLun(session, lun).submit)

    def __repr__(self) -> str:
        return f"<IscsiDisk {self._where}, {self.size_bytes} bytes>"

    @property
    def _where(self) -> str:
        return f"LUN {self.lun} of {self.session.name}"

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """Any command, once. Raises ``SessionLostError`` if the answer never came, and if the reservation that was
        held is gone with its session: then nothing was sent.
        """
        if self.reserved and not (self.session.alive and self.session.logins == self._login):
            self.reserved = False
            raise SessionLostError(f"{self._where} was reserved, and the session that held it has ended.")
        try:
            answer = super().submit(cdb, data_out)
        except SessionLostError:
            self.reserved = False
            raise
        self._login = self.session.logins
        return answer

    def _repeatable(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """Over as many sessions, and as many conflicts, as it takes."""
        losses = conflicts = 0
        while True:
            held = self.reserved
            try:
                answer = self.submit(cdb, data_out)
            except SessionLostError as error:
                if held:
                    raise self._lost(str(error).rstrip(".")) from None
                losses += 1
                if losses == LOST_SESSIONS:
                    raise
                continue
            if answer[0] == Status.RESERVATION_CONFLICT and not held and conflicts < self.conflict_retries:
                conflicts += 1
                self._sleep(CONFLICT_PAUSE_S)
                continue
            if answer[0] in (Status.BUSY, Status.TASK_SET_FULL):
                self._sleep(BUSY_PAUSE_S)
            return answer

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> IscsiDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_lun(
    address: str,
    target: str,
    lun: int,
    initiator: str,
    credentials: Credentials | None = None,
    conflict_retries: int = CONFLICT_RETRIES,
    **config: Any,
) -> IscsiDisk:
    """A LUN over TCP. ``address``: ``host:port``; ``config``: what else ``InitiatorConfig`` takes."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise IscsiError(f"{address!r} is no portal; one looks like 127.0.0.1:3260.")
    wanted = InitiatorConfig(initiator, target, credentials, **config)
    session = IscsiSession(lambda: SocketLink(host, int(port)), wanted)
    return IscsiDisk(session, lun, conflict_retries=conflict_retries)
