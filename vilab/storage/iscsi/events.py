"""What iSCSI reports."""

from __future__ import annotations

from typing import Literal

from vilab.events import Event
from vilab.storage.iscsi.pdu import describe_pdu


class IscsiLoggedIn(Event, frozen=True, tag=True):
    """A session has begun. ``tsih`` is the target's number for it; ``reinstated``: the port's old one has ended."""

    initiator: str
    target: str
    tsih: int
    discovery: bool
    reinstated: bool


class IscsiRefused(Event, frozen=True, tag=True):
    """A login has failed. ``status`` is class << 8 | detail."""

    initiator: str
    status: int
    why: str


class IscsiSessionEnded(Event, frozen=True, tag=True):
    """A session is over, and with it the commands and the reservation of its nexus."""

    initiator: str
    tsih: int
    why: str


class IscsiPdu(Event, frozen=True, tag=True):
    """One PDU, as one side saw it: received or sent. ``header``: 48 bytes."""

    side: Literal["initiator", "target"]
    sent: bool
    header: bytes
    data_bytes: int

    def describe(self) -> str:
        return f"{self.side} {'sends' if self.sent else 'gets'} {describe_pdu(self.header)}"
