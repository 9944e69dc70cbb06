"""What an initiator asks of a LUN before it uses it: who are you, how large, what may be sent?

::

    INQUIRY              is there a disk at all; vendor, product
    INQUIRY, page 83     its name: the same through every port, so that paths to one disk belong together
    READ CAPACITY(10)    sectors; (16) where that is not enough
    INQUIRY, page B0     how much one command may move; page B2: WRITE SAME(16) may unmap (LBPWS)
    MODE SENSE(6)        write protected

A transport, here and in ``lun_disk``, is ``submit(cdb, data_out) -> (status, data for the initiator, sense data)``. One
that has to know beforehand how much may come back (iSCSI) reads it from the CDB (``request.data_in_bytes``), as it has
to for a guest's commands.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, Refusal, ReservationConflict
from vilab.storage.scsi.sense import Sense, SenseKey, Status, parse_sense

Answer: TypeAlias = tuple[int, bytes, bytes]
"""Status, data for the initiator, sense data."""
Submit: TypeAlias = Callable[[bytes, ReadableBytes], Answer]


def _page(number: int) -> bytes:
    """INQUIRY for a page of vital product data, 256 bytes at most."""
    return bytes((0x12, 1, number, 1, 0, 0))


TEST_UNIT_READY = bytes(6)
REPORT_LUNS = b"\xa0" + bytes(5) + (16384).to_bytes(4, "big") + bytes(2)
INQUIRY = b"\x12\x00\x00\x00\x60\x00"
INQUIRY_NAMES, INQUIRY_LIMITS, INQUIRY_PROVISIONING = _page(0x83), _page(0xB0), _page(0xB2)
READ_CAPACITY_10 = b"\x25" + bytes(9)
READ_CAPACITY_16 = b"\x9e\x10" + bytes(11) + b"\x20" + bytes(2)
MODE_SENSE = b"\x1a\x08\x3f\x00\xc0\x00"
MOST_BYTES = 1 << 20
"""In one command, if the disk takes as much."""
MOST_BLOCKS = 0xFFFF
"""What the length of READ(10) can say."""
SECTOR_SIZES = frozenset(1 << shift for shift in range(9, 17))
MOST_ATTEMPTS = 16
"""So often a command is sent again that a unit attention or a busy unit has turned away."""


class LunIdentity(msgspec.Struct, frozen=True):
    """What a disk says of itself.

    ``name``: of page 83, ``naa.`` and hexadecimal digits, or ``t10.`` and text; empty if it has none. ``most_blocks``:
    in one command. ``unmaps``: WRITE SAME(16) knows the bit UNMAP.
    """

    name: str
    vendor: str
    product: str
    sectors: int
    sector_bytes: int
    unmaps: bool
    most_blocks: int
    read_only: bool


def luns_of(data: bytes) -> list[int]:
    """The list that REPORT LUNS has brought: peripheral and flat space addressing (SAM-4, 4.6)."""
    size = min(int.from_bytes(data[:4], "big"), max(0, len(data) - 8))
    entries = [int.from_bytes(data[at : at + 2], "big") for at in range(8, 8 + size // 8 * 8, 8)]
    return [entry & 0x3FFF for entry in entries]


def name_of(page: bytes) -> str | None:
    """The name of page 83 that is best for telling disks apart: NAA (type 3), else T10 vendor (type 1)."""
    found: dict[int, str] = {}
    at, end = 4, min(len(page), 4 + int.from_bytes(page[2:4], "big"))
    while at + 4 <= end:
        kind, size = page[at + 1] & 0xF, page[at + 3]
        body = page[at + 4 : min(end, at + 4 + size)]
        if page[at + 1] & 0x30 == 0 and body:  # of the unit, not of a port
            text = f"naa.{body.hex()}" if kind == 3 else "t10." + body.decode("ascii", "replace").strip()
            if kind in (1, 3):
                found.setdefault(kind, text)
        at += 4 + size
    return found.get(3) or found.get(1)


def ask(
    submit: Submit, cdb: bytes, data_out: ReadableBytes = b"", on_attention: Callable[[Sense], None] | None = None
) -> Answer:
    """The answer that counts: unit attentions are heard and the command repeated, as for a busy unit."""
    for _ in range(MOST_ATTEMPTS):
        answer = submit(cdb, data_out)
        sense = parse_sense(answer[2]) if answer[0] == Status.CHECK_CONDITION else None
        again = sense is not None and sense.key == SenseKey.UNIT_ATTENTION
        if sense is not None and again and on_attention is not None:
            on_attention(sense)
        if not again and answer[0] not in (Status.BUSY, Status.TASK_SET_FULL):
            break
    return answer


def must(answer: Answer, what: str) -> bytes:
    """The data of a command that was carried out; of another one, why not, as a ``BlockError``."""
    status, data, sense = answer
    if status == Status.GOOD:
        return data
    if status == Status.RESERVATION_CONFLICT:
        raise ReservationConflict(f"{what} was refused: another host has reserved the LUN.")
    if status != Status.CHECK_CONDITION:
        raise BlockError("away", f"{what} was not carried out: status {status:#04x}.")
    parsed = parse_sense(sense) or Sense(SenseKey.NO_SENSE, 0)
    kind: Refusal = "medium"
    if parsed.key == SenseKey.DATA_PROTECT:
        kind = "no_space" if parsed.code == 0x2707 else "read_only"
    elif parsed.key == SenseKey.NOT_READY:
        kind = "away"
    raise BlockError(kind, f"{what} was not carried out: {parsed.describe()}.")


def ask_name(submit: Submit) -> str:
    """The name of a disk, which it tells through a passive path and while it is reserved too."""
    _inquiry(submit, "this LUN")
    name = name_of(_optional(submit, INQUIRY_NAMES))
    if name is None:
        raise BlockError("medium", "The LUN has no name (INQUIRY, page 83), so that its paths cannot be told apart.")
    return name


def identify(submit: Submit, where: str = "this LUN") -> LunIdentity:
    """Ask a disk who it is and how large. ``BlockError`` where it does not say."""
    inquiry = _inquiry(submit, where)
    vendor, product = (part.decode("ascii", "replace").strip() for part in (inquiry[8:16], inquiry[16:32]))
    name = name_of(_optional(submit, INQUIRY_NAMES)) or ""
    data = must(ask(submit, READ_CAPACITY_10), f"READ CAPACITY on {name or where}")
    last, sector_bytes = struct.unpack(">II", data[:8].ljust(8, b"\0"))
    if last == 0xFFFF_FFFF:
        data = must(ask(submit, READ_CAPACITY_16), f"READ CAPACITY(16) on {name or where}")
        last, sector_bytes = struct.unpack(">QI", data[:12].ljust(12, b"\0"))
    if sector_bytes not in SECTOR_SIZES:
        raise BlockError("medium", f"Disk {name or where} has blocks of {sector_bytes} bytes, which is not possible.")
    limits, provisioning = _optional(submit, INQUIRY_LIMITS), _optional(submit, INQUIRY_PROVISIONING)
    most = int.from_bytes(limits[8:12], "big") or MOST_BLOCKS
    mode = _optional(submit, MODE_SENSE)
    return LunIdentity(
        name, vendor, product, last + 1, sector_bytes,
        unmaps=len(provisioning) > 5 and bool(provisioning[5] & 0x40),
        most_blocks=max(1, min(most, MOST_BYTES // sector_bytes, MOST_BLOCKS)),
        read_only=len(mode) >= 3 and bool(mode[2] & 0x80),
    )  # fmt: skip


def _inquiry(submit: Submit, where: str) -> bytes:
    status, inquiry, _ = ask(submit, INQUIRY)
    if status != Status.GOOD or len(inquiry) < 36 or inquiry[0]:
        raise BlockError("medium", f"There is no disk at {where}: INQUIRY finds none.")
    return inquiry


def _optional(submit: Submit, cdb: bytes) -> bytes:
    """What a disk need not know; empty then. A conflict is none of that: who asks again is told."""
    answer = ask(submit, cdb)
    if answer[0] == Status.RESERVATION_CONFLICT:
        must(answer, "A question to the LUN")
    return answer[1] if answer[0] == Status.GOOD else b""
