"""A LUN that a host reaches over iSCSI, as VMFS needs it.

::

    Host ── ScsiLun ── execute ── IscsiDisk.submit ── session ── target

One lost session is nothing by itself: the next command logs in again. But what the session had reserved is gone with
it, and what was under way may have happened or not; for the host that is ``ReservationLost``, as after a reset.
"""

from __future__ import annotations

import time

from vilab.storage.iscsi.disk import IscsiDisk, open_lun
from vilab.storage.iscsi.errors import SessionLostError
from vilab.storage.scsi.sense import Status
from vilab.storage.vmfs.errors import ReservationConflict, ReservationLost
from vilab.storage.vmfs.scsi_lun import Execute, ScsiLun

RESERVE, RELEASE = 0x16, 0x17
REPEATS = 3
PAUSE_S = 0.02


def over(disk: IscsiDisk) -> Execute:
    """The transport: CDBs through this disk's session."""
    reserved = False

    def execute(cdb: bytes, data_out: bytes, most: int) -> tuple[int, bytes, bytes]:
        nonlocal reserved
        for repeat in range(REPEATS):
            try:
                response = disk.submit(cdb, data_out, most)
            except SessionLostError as lost:
                held, reserved = reserved, False
                if held:
                    raise ReservationLost(str(lost)) from None
                if repeat + 1 == REPEATS:
                    raise
                continue
            if response.status == Status.GOOD and cdb[0] in (RESERVE, RELEASE):
                reserved = cdb[0] == RESERVE
            return response.status, response.sense_bytes, response.data_in
        raise AssertionError  # the last round has returned or raised

    return execute


def iscsi_lun(portal: str, iqn: str, lun: int, initiator: str, patience_s: float = 30.0) -> ScsiLun:
    """Log in, and see the disk. ``portal``: ``HOST:PORT``; ``initiator``: the host's name, an iqn; ``patience_s``: how
    long another host may have the LUN reserved meanwhile."""
    execute, until = over(open_lun(portal, iqn, lun, initiator)), time.monotonic() + patience_s
    while True:
        try:
            return ScsiLun(execute)
        except ReservationConflict:
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_S)
