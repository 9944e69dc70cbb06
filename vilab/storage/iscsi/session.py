"""A session's records on the target's side, and how much a peer may make it hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vilab.storage.iscsi.layout import HEADER_BYTES
from vilab.storage.iscsi.text import MAX_TEXT_BYTES
from vilab.storage.scsi.blocks import MAX_TRANSFER_BYTES
from vilab.storage.scsi.state import Nexus

if TYPE_CHECKING:
    from vilab.storage.iscsi.connection import TargetConnection


class Portal(msgspec.Struct, frozen=True):
    """``address``: host:port, as initiators know it. Portals of one ``group`` would share sessions (4.1.1)."""

    address: str
    group: int = 1


class Limits(msgspec.Struct, frozen=True):
    """What one target grants.

    ``commands``: of a session, under way at a time. ``immediate``: writes besides that do not take
    a place in the window. ``data_bytes``: received in one
    PDU. ``data_out_bytes``: asked for by R2T and not there yet, of a session; at least what the largest write needs.
    ``output_bytes``: not taken by the peer yet; with more than that a connection reads no further.
    """

    connections: int = 64
    sessions: int = 32
    commands: int = 128
    immediate: int = 16
    data_bytes: int = 262144
    burst_bytes: int = 1 << 20
    first_burst_bytes: int = 65536
    outstanding_r2t: int = 8
    data_out_bytes: int = 32 << 20
    output_bytes: int = 1 << 15
    login_pdus: int = 32

    @property
    def session_bytes(self) -> int:
        """The most that a connection holds: data on their way in, commands out of order, a PDU, answers."""
        waiting = (self.commands + self.immediate) * self.first_burst_bytes
        early = self.commands * (self.first_burst_bytes + HEADER_BYTES)
        asked = max(self.data_out_bytes, MAX_TRANSFER_BYTES)
        pdu = 2 * (self.data_bytes + RECEIVED_BYTES)
        answers = self.output_bytes + MAX_TRANSFER_BYTES + 64 * (MAX_TRANSFER_BYTES // 512)
        return waiting + early + asked + pdu + answers + MAX_TEXT_BYTES


RECEIVED_BYTES = 1 << 18
"""What a transport hands over at once."""


class LoginRequest(msgspec.Struct):
    """Who wants in, and where."""

    isid: bytes = b""
    tsih: int = 0
    cid: int = 0
    initiator: str = ""
    group: int = 1
    discovery: bool = False


class Session:
    """``connection`` is ``None`` only while the session ends."""

    __slots__ = ("cid", "connection", "discovery", "initiator", "nexus", "tsih")

    def __init__(
        self, tsih: int, nexus: Nexus, initiator: str, discovery: bool, connection: TargetConnection, cid: int = 0
    ) -> None:
        self.tsih = tsih
        self.nexus = nexus
        self.initiator = initiator
        self.discovery = discovery
        self.connection: TargetConnection | None = connection
        self.cid = cid


class Numbers(msgspec.Struct):
    """The numbers of a connection: the next command expected, the last one allowed, the next status, the next TTT."""

    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0
    stat_sn: int = 0
    ttt: int = 0

    def next_stat_sn(self) -> int:
        now = self.stat_sn
        self.stat_sn = (now + 1) & 0xFFFF_FFFF
        return now

    def next_ttt(self) -> int:
        self.ttt = (self.ttt + 1) % 0xFFFF_FFFF
        return self.ttt

    def open_window(self, commands: int) -> None:
        """So many more commands may come; what has been allowed is never taken back (RFC 7143, 4.2.2.1)."""
        allowed = (self.exp_cmd_sn + commands - 1) & 0xFFFF_FFFF
        if (allowed - self.max_cmd_sn) & 0xFFFF_FFFF < 1 << 31:
            self.max_cmd_sn = allowed
