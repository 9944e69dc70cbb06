"""Operational keys: what two sides may agree upon at login, and how (RFC 7143, section 13).

=========================  ========  =================  ============  =============================================
key                        result    range              default       meaning
=========================  ========  =================  ============  =============================================
HeaderDigest, DataDigest   list      None, CRC32C       None          first of the offerer's that the other can do
MaxConnections             minimum   1 - 65535          1             of a session
InitialR2T                 or        Yes, No            Yes           no data before an R2T, but for immediate data
ImmediateData              and       Yes, No            Yes           data may be in the command's own PDU
MaxRecvDataSegmentLength   declared  512 - 2^24-1       8192          of what the declaring side receives in one PDU
MaxBurstLength             minimum   512 - 2^24-1       262144        of one sequence of Data-In, or one R2T
FirstBurstLength           minimum   512 - 2^24-1       65536         unsolicited data, immediate data included
MaxOutstandingR2T          minimum   1 - 65535          1             of a task
DefaultTime2Wait           maximum   0 - 3600           2             seconds before a new login after a failure
DefaultTime2Retain         minimum   0 - 3600           20            seconds that tasks survive that
DataPDUInOrder             or        Yes, No            Yes           offsets rise within a sequence
DataSequenceInOrder        or        Yes, No            Yes           and from one sequence to the next
ErrorRecoveryLevel         minimum   0 - 2              0             0: a failure ends the session
=========================  ========  =================  ============  =============================================

One side offers, the other answers with the result, and both know the same; a declaration needs no answer. ``ours`` are
the values that this side would choose: one connection, error recovery level 0, data in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from vilab.storage.iscsi.text import TextError, decode_number

MAX_LENGTH = (1 << 24) - 1

NOT_UNDERSTOOD, IRRELEVANT, REJECT = "NotUnderstood", "Irrelevant", "Reject"


class Agreement(msgspec.Struct):
    """What holds for a connection and its session. ``peer_max_data_bytes``: the peer's MaxRecvDataSegmentLength."""

    header_digest: bool = False
    data_digest: bool = False
    max_connections: int = 1
    initial_r2t: bool = True
    immediate_data: bool = True
    peer_max_data_bytes: int = 8192
    max_burst_bytes: int = 262144
    first_burst_bytes: int = 65536
    max_outstanding_r2t: int = 1
    wait_s: int = 2
    retain_s: int = 20
    pdu_in_order: bool = True
    sequence_in_order: bool = True
    error_recovery_level: int = 0


Kind = Literal["list", "or", "and", "min", "max", "declared"]


class Key(msgspec.Struct, frozen=True):
    """``field`` of ``Agreement``. ``session``: makes no sense in a discovery session."""

    name: str
    kind: Kind
    field: str
    low: int = 0
    high: int = 0
    session: bool = False


KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key("HeaderDigest", "list", "header_digest"),
        Key("DataDigest", "list", "data_digest"),
        Key("MaxConnections", "min", "max_connections", 1, 65535, True),
        Key("InitialR2T", "or", "initial_r2t", session=True),
        Key("ImmediateData", "and", "immediate_data", session=True),
        Key("MaxRecvDataSegmentLength", "declared", "peer_max_data_bytes", 512, MAX_LENGTH),
        Key("MaxBurstLength", "min", "max_burst_bytes", 512, MAX_LENGTH, True),
        Key("FirstBurstLength", "min", "first_burst_bytes", 512, MAX_LENGTH, True),
        Key("MaxOutstandingR2T", "min", "max_outstanding_r2t", 1, 65535, True),
        Key("DefaultTime2Wait", "max", "wait_s", 0, 3600),
        Key("DefaultTime2Retain", "min", "retain_s", 0, 3600),
        Key("DataPDUInOrder", "or", "pdu_in_order", session=True),
        Key("DataSequenceInOrder", "or", "sequence_in_order", session=True),
        Key("ErrorRecoveryLevel", "min", "error_recovery_level", 0, 2),
    )
}

OBSOLETE = {"IFMarker": "No", "OFMarker": "No", "IFMarkInt": REJECT, "OFMarkInt": REJECT}
"""RFC 3720's markers, and how to say that there are none (RFC 7143, 13.25)."""
SINCE_3720 = {"TaskReporting": "RFC3720", "iSCSIProtocolLevel": "1"}
"""Keys with one answer."""


def yes(value: bool) -> str:
    return "Yes" if value else "No"


def _boolean(value: str) -> bool:
    if value not in ("Yes", "No"):
        raise TextError(f"neither Yes nor No: {value[:40]!r}")
    return value == "Yes"


def _in_range(key: Key, value: str) -> int:
    number = decode_number(value)
    if not key.low <= number <= key.high:
        raise TextError(f"{key.name} is {number}; it goes from {key.low} to {key.high}")
    return number


COMBINE: dict[str, Callable[[int, int], int]] = {
    "or": lambda ours, theirs: ours | theirs,
    "and": lambda ours, theirs: ours & theirs,
    "min": min,
    "max": max,
}


def answer(key: Key, offered: str, ours: Agreement, agreed: Agreement) -> str | None:
    """The responder's part: note the result in ``agreed`` and say it. ``None``: a declaration, not answered.

    A value out of its range is answered with Reject and changes nothing.
    """
    try:
        if key.kind == "declared":
            setattr(agreed, key.field, _in_range(key, offered))
            return None
        if key.kind == "list":
            return _choose_digest(key, offered, ours, agreed)
        if key.kind in ("or", "and"):
            result = COMBINE[key.kind](getattr(ours, key.field), _boolean(offered))
            setattr(agreed, key.field, bool(result))
            return yes(bool(result))
        result = COMBINE[key.kind](getattr(ours, key.field), _in_range(key, offered))
        setattr(agreed, key.field, result)
        return str(result)
    except TextError:
        return REJECT


def _choose_digest(key: Key, offered: str, ours: Agreement, agreed: Agreement) -> str:
    can = ("CRC32C", "None") if getattr(ours, key.field) else ("None",)
    for name in offered.split(","):
        if name in can:
            setattr(agreed, key.field, name == "CRC32C")
            return name
    return REJECT


def offer(key: Key, ours: Agreement, max_data_bytes: int) -> str:
    """The originator's part: what to put on the wire. ``max_data_bytes``: what this side receives."""
    value = getattr(ours, key.field)
    if key.kind == "declared":
        return str(max_data_bytes)
    if key.kind == "list":
        return "CRC32C,None" if value else "None"
    return yes(value) if isinstance(value, bool) else str(value)


def accept(key: Key, answered: str, ours: Agreement, agreed: Agreement) -> None:
    """The originator hears the result of what it has offered. Raises ``TextError`` for one that cannot be."""
    if answered == IRRELEVANT:
        return
    if key.kind == "declared":
        setattr(agreed, key.field, _in_range(key, answered))
    elif key.kind == "list":
        if answered not in offer(key, ours, 0).split(","):
            raise TextError(f"{key.name} was answered with {answered[:40]!r}, which was not offered")
        setattr(agreed, key.field, answered == "CRC32C")
    else:
        result = _boolean(answered) if key.kind in ("or", "and") else _in_range(key, answered)
        if COMBINE[key.kind](getattr(ours, key.field), result) != result:
            raise TextError(f"{key.name} was answered with {answered[:40]!r}, which does not follow from the offer")
        setattr(agreed, key.field, result)


def settle(agreed: Agreement) -> None:
    """Both sides know the same afterwards: a first burst is never longer than a burst (13.14)."""
    agreed.first_burst_bytes = min(agreed.first_burst_bytes, agreed.max_burst_bytes)
