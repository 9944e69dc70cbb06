"""One lock over iSCSI: every PDU between a host and a target, decoded.

::

    VmfsHost ── CDBs ── IscsiSession ══ bytes in memory, those that TCP would carry ══ IscsiTarget ── volume
"""

from __future__ import annotations

import msgspec

from vilab.clock import VirtualClock
from vilab.course.feedback import columns
from vilab.course.lock_runs import FILES, NAMES, new_volume, uuid_of
from vilab.events import EventLog
from vilab.storage.iscsi.client import IscsiSession, MemoryLink
from vilab.storage.iscsi.events import IscsiPdu
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import Opcode
from vilab.storage.iscsi.session import Portal
from vilab.storage.iscsi.session_lun import SessionLun
from vilab.storage.iscsi.target import IscsiTarget
from vilab.storage.scsi.cdb import describe_cdb
from vilab.storage.scsi.lun_disk import LunDisk
from vilab.storage.scsi.sense import Status
from vilab.storage.scsi.state import Identity
from vilab.storage.scsi.target import Target
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import SECTOR
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES
from vilab.storage.vmfs.time import VirtualTime
from vilab.view.vmfs_frame import VolumeMoment, capture
from vilab.view.write_path import sectors

IQN = "iqn.2006-06.org.example:san1"
PORTAL = Portal("10.0.0.9:3260")
PATH = FILES["db"][1]


class Pdu(msgspec.Struct, frozen=True):
    """``sent``: by the host. ``where``: what a command is about."""

    sent: bool
    name: str
    words: str
    where: str
    data_bytes: int


class OneLock(msgspec.Struct, frozen=True):
    """What it took to take one lock. Bytes as TCP would carry them, without TCP's own."""

    pdus: tuple[Pdu, ...]
    commands: int
    sent_bytes: int
    received_bytes: int

    def describe(self) -> str:
        rows = [("", "PDU", "", "bytes", "what")]
        for pdu in self.pdus:
            size = f"{pdu.data_bytes:,}" if pdu.data_bytes else ""
            rows.append(("->" if pdu.sent else "  <-", pdu.name, pdu.words, size, pdu.where))
        table = "\n".join(columns(rows))
        return (
            f"{table}\n\n{self.commands} commands, {len(self.pdus)} PDUs, {self.sent_bytes:,} bytes to the target, "
            f"{self.received_bytes:,} bytes back"
        )


class IscsiHost:
    """A host that has mounted the volume over iSCSI."""

    def __init__(self) -> None:
        disk = new_volume(tuple(path for files in FILES.values() for path in files))
        clock = VirtualClock()
        target = Target(clock)
        target.add(0, disk, Identity("san1-lun0"))
        self.node = IscsiTarget(IQN, target, [PORTAL])
        self.log = EventLog(keep=True)
        self.links: list[MemoryLink] = []
        name = NAMES[0]
        config = InitiatorConfig(f"iqn.2006-06.org.example:{name}", target=IQN)
        self.session = IscsiSession(self._connect, config, sleep=lambda _: None, clock=clock, log=self.log)
        self.host = Host(LunDisk(SessionLun(self.session, 0).submit), uuid_of(name), VirtualTime(clock))
        self.volume: VolumeMoment = capture(disk, {uuid_of(name): name})

    def _connect(self) -> MemoryLink:
        self.links.append(MemoryLink(self.node, PORTAL))
        return self.links[-1]

    def take_lock(self, path: str = PATH) -> OneLock:
        """Open a file to write, and tell what went over the wire."""
        self.log.events.clear()
        link = self.links[-1]
        sent, received = link.sent_bytes, link.received_bytes
        self.host.open_to_write(path)
        pdus = tuple(self._pdu(event) for event in self.log.of(IscsiPdu))
        commands = sum(pdu.sent for pdu in pdus)
        return OneLock(pdus, commands, link.sent_bytes - sent, link.received_bytes - received)

    def _pdu(self, event: IscsiPdu) -> Pdu:
        header = event.header
        kind = Opcode(header[0] & 0x3F)
        name = kind.name.replace("_", " ").capitalize().replace("Scsi", "SCSI")
        words, where = "", ""
        if kind == Opcode.SCSI_COMMAND:
            cdb = header[32:48]
            words = describe_cdb(cdb)
            if cdb[0] in (0x28, 0x2A):
                lba, blocks = sectors(cdb[:10])
                where = self.volume.where(lba * SECTOR - OVERHEAD_BYTES, blocks)
        elif kind == Opcode.SCSI_RESPONSE or (kind == Opcode.DATA_IN and header[1] & 0x01):
            words = Status(header[3]).name.replace("_", " ")
        return Pdu(event.sent, name, words, where, event.data_bytes)


def one_lock() -> OneLock:
    """db-flat.vmdk is opened to write by the only host."""
    return IscsiHost().take_lock()
