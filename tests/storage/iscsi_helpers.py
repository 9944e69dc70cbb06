"""An iSCSI target with one disk in memory, reached by an initiator of ours or by PDUs made by hand."""

from __future__ import annotations

import itertools
from typing import Any

from vilab.events import EventLog
from vilab.storage.block import MemoryDisk
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.client import IscsiSession, MemoryLink
from vilab.storage.iscsi.connection import TargetConnection
from vilab.storage.iscsi.disk import IscsiDisk
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.iscsi.layout import (
    FINAL,
    HEADER,
    IMMEDIATE,
    LENGTH_MASK,
    NO_TAG,
    WORDS,
    Opcode,
)
from vilab.storage.iscsi.pdu import PduReader, PduWriter
from vilab.storage.iscsi.session import Limits, Portal
from vilab.storage.iscsi.target import IscsiTarget
from vilab.storage.iscsi.text import decode_text, encode_text
from vilab.storage.iscsi.transfer import lun_field
from vilab.storage.scsi.state import Identity
from vilab.storage.scsi.target import Target

TARGET = "iqn.2006-06.org.example:target"
PORTAL = Portal("192.0.2.1:3260")
USER, TARGETS_OWN = Credentials("user", "secretsecret"), Credentials("target", "anothersecret")
DISK_BYTES = 1 << 20


def initiator_name(name: str) -> str:
    return f"iqn.2006-06.org.example:{name}"


class Node:
    """The target, and its disk to look at."""

    def __init__(
        self,
        credentials: Credentials | None = None,
        mutual: Credentials | None = None,
        limits: Limits | None = None,
        size_bytes: int = DISK_BYTES,
        keep: bool = False,
    ) -> None:
        self.disk = MemoryDisk(size_bytes)
        self.scsi = Target(log=EventLog(keep=keep))
        self.scsi.add(0, self.disk, Identity("serial-0001"))
        self.iscsi = IscsiTarget(TARGET, self.scsi, [PORTAL], credentials, mutual, limits)

    def session(self, name: str = "a", **config: Any) -> IscsiSession:
        config = {"target": TARGET} | config
        return IscsiSession(
            lambda: MemoryLink(self.iscsi, PORTAL),
            InitiatorConfig(initiator_name(name), **config),
            sleep=lambda _: None,
        )

    def lun(self, name: str = "a", **config: Any) -> IscsiDisk:
        return IscsiDisk(self.session(name, **config), 0, sleep=lambda _: None)


class Pdu:
    """One PDU from the target, its words by name."""

    def __init__(self, header: bytes, data: bytes) -> None:
        self.header, self.data = header, data
        byte0, self.flags, self.byte2, self.byte3, lengths, self.lun, *self.words = HEADER.unpack(header)
        self.opcode = Opcode(byte0 & 0x3F)
        assert lengths & LENGTH_MASK == len(data)

    def __getattr__(self, name: str) -> int:
        return self.words[WORDS[self.opcode].index(name)]

    def __repr__(self) -> str:
        return f"<{self.opcode.name} {self.header.hex()} {self.data[:40]!r}>"

    @property
    def text(self) -> dict[str, str]:
        return dict(decode_text(self.data))


class Wire:
    """A connection driven by hand: ``send`` puts one PDU on it and returns those that come back."""

    def __init__(self, node: Node, isid: bytes = b"\x80\0\0\0\0\x01", name: str = "a") -> None:
        made = node.iscsi.connect(PORTAL)
        assert made is not None
        self.connection: TargetConnection = made
        self.isid, self.name = isid, name
        self.writer, self.reader = PduWriter(), PduReader(1 << 24)
        self.cmd_sn = 1
        self.tags = itertools.count(0x100)

    def raw(self, data: bytes) -> list[Pdu]:
        self.connection.receive(data)
        return self.read()

    def read(self) -> list[Pdu]:
        found = []
        while True:
            self.reader.feed(self.connection.take_output())
            while (pdu := self.reader.next()) is not None:
                found.append(Pdu(*pdu))
            if not self.connection.stalled:
                return found
            self.connection.run()

    def send(
        self, opcode: int, flags: int, *words: int, lun: int = 0, data: bytes = b"", byte2: int = 0, cdb: bytes = b""
    ) -> list[Pdu]:
        padded = (*words, *[0] * (8 - len(words)))
        header = HEADER.pack(opcode, flags, byte2, 0, len(data), lun_field(lun), *padded)
        self.writer.add(header[:32] + cdb.ljust(16, b"\0") if cdb else header, data)
        return self.raw(self.writer.take())

    def login(
        self, pairs: list[tuple[str, str]], stage: int = 1, next_stage: int | None = 3, tsih: int = 0, cid: int = 0,
        more: bool = False, version_min: int = 0,
    ) -> Pdu:  # fmt: skip
        text = encode_text(pairs)
        flags = stage << 2 | (0x40 if more else 0) | (0 if next_stage is None else 0x80 | next_stage)
        header = HEADER.pack(
            Opcode.LOGIN_REQUEST | IMMEDIATE, flags, version_min, version_min, len(text),
            self.isid + tsih.to_bytes(2, "big"), 7, cid << 16, self.cmd_sn, 0, 0, 0, 0, 0,
        )  # fmt: skip
        self.writer.add(header, text)
        (answer,) = self.raw(self.writer.take())
        return answer

    def names(self) -> list[tuple[str, str]]:
        return [("InitiatorName", initiator_name(self.name)), ("TargetName", TARGET)]

    def enter(self, **offered: object) -> Pdu:
        """Into the full feature phase without security, all unit attentions heard."""
        keys = {"MaxRecvDataSegmentLength": 4096} | offered
        answer = self.login([*self.names(), *((key, str(value)) for key, value in keys.items())])
        assert answer.status == 0, hex(answer.status)
        digests = (answer.text.get("HeaderDigest") == "CRC32C", answer.text.get("DataDigest") == "CRC32C")
        for stream in (self.writer, self.reader):
            stream.header_digest, stream.data_digest = digests
        self.command(bytes(6))
        return answer

    def command(
        self, cdb: bytes, flags: int = FINAL, edtl: int = 0, data: bytes = b"", lun: int = 0, cmd_sn: int | None = None,
        immediate: bool = False, tag: int | None = None,
    ) -> list[Pdu]:  # fmt: skip
        if cmd_sn is None:
            cmd_sn = self.cmd_sn
            if not immediate:
                self.cmd_sn = self.cmd_sn + 1 & 0xFFFF_FFFF
        opcode = Opcode.SCSI_COMMAND | (IMMEDIATE if immediate else 0)
        self.tag = next(self.tags) if tag is None else tag
        return self.send(opcode, flags, self.tag, edtl, cmd_sn, 0, lun=lun, data=data, cdb=cdb)

    def data_out(self, data: bytes, offset: int, ttt: int = NO_TAG, data_sn: int = 0, final: bool = True) -> list[Pdu]:
        return self.send(
            Opcode.DATA_OUT, FINAL if final else 0, self.tag, ttt, 0, 0, 0, data_sn, offset, data=data
        )  # fmt: skip

    def manage(self, function: int, tag: int = NO_TAG, lun: int = 0) -> int:
        (answer,) = self.send(
            Opcode.TASK_REQUEST | IMMEDIATE, FINAL | function, next(self.tags), tag, self.cmd_sn, lun=lun
        )  # fmt: skip
        assert answer.opcode is Opcode.TASK_RESPONSE
        return answer.byte2


def read10(lba: int, blocks: int) -> bytes:
    return b"\x28\0" + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"


def write10(lba: int, blocks: int) -> bytes:
    return b"\x2a" + read10(lba, blocks)[1:]
