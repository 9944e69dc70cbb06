"""A LUN as a block device: reads, writes, flushes and unmappings become SCSI commands.

::

    read, write      READ(10), WRITE(10); (16) beyond 2 TB; 1 MB a command at most
    flush            SYNCHRONIZE CACHE(10)
    unmap            UNMAP; zeros are written where the disk does not know it
    reserve          RESERVE(6), release RELEASE(6)
    who is it?       INQUIRY, page 83: the NAA name is the same through every port; READ CAPACITY(10), (16) if larger

``LunDisk`` needs nothing but ``submit``; ``paths`` adds what happens when a way to the disk is lost.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, check_range
from vilab.storage.scsi.sense import Sense, SenseKey, Status, parse_sense
from vilab.storage.vmfs.errors import ReservationConflict, ReservationLost

Answer: TypeAlias = tuple[int, bytes, bytes]
"""Status, data for the initiator, sense data."""
Submit: TypeAlias = Callable[[bytes, ReadableBytes], Answer]

TEST_UNIT_READY = bytes(6)
REPORT_LUNS = b"\xa0" + bytes(5) + (16384).to_bytes(4, "big") + bytes(2)
INQUIRY = b"\x12\x00\x00\x00\x60\x00"
INQUIRY_NAMES = b"\x12\x01\x83\x01\x00\x00"
READ_CAPACITY_10 = b"\x25" + bytes(9)
READ_CAPACITY_16 = b"\x9e\x10" + bytes(11) + b"\x20" + bytes(2)
SYNCHRONIZE_CACHE = b"\x35" + bytes(9)
START_UNIT = b"\x1b\x00\x00\x00\x01\x00"
RESERVE_6 = b"\x16" + bytes(5)
RELEASE_6 = b"\x17" + bytes(5)
RESET_OCCURRED = 0x29
MOST_BYTES = 1 << 20
MOST_ATTEMPTS = 8
"""So often a command is sent again that a unit attention or a busy unit has turned away."""


class LunIdentity(msgspec.Struct, frozen=True):
    """What a disk says of itself. ``name``: of page 83, ``naa.`` and hexadecimal digits, or ``t10.`` and text."""

    name: str
    vendor: str
    product: str
    sectors: int
    sector_bytes: int
    thin: bool


def read_cdb(sector: int, sectors: int) -> bytes:
    return _transfer(0x28, 0x88, sector, sectors)


def write_cdb(sector: int, sectors: int) -> bytes:
    return _transfer(0x2A, 0x8A, sector, sectors)


def _transfer(short: int, long: int, sector: int, sectors: int) -> bytes:
    if sector + sectors <= 1 << 32:
        return struct.pack(">BBIBHB", short, 0, sector, 0, sectors, 0)
    return struct.pack(">BBQIBB", long, 0, sector, sectors, 0, 0)


def unmap_command(sector: int, sectors: int) -> tuple[bytes, bytes]:
    """CDB and parameter list (SBC-3, 5.28) for one range."""
    ranges = struct.pack(">HH4xQI4x", 22, 16, sector, sectors)
    return struct.pack(">BBIBHB", 0x42, 0, 0, 0, len(ranges), 0), ranges


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


def ask_name(submit: Submit) -> str:
    """The name of a disk, which it tells through a passive path and while it is reserved too."""
    status, inquiry, _ = ask(submit, INQUIRY)
    if status != Status.GOOD or len(inquiry) < 36 or inquiry[0]:
        raise BlockError("medium", "There is no disk at this LUN: INQUIRY finds none.")
    status, page, _ = ask(submit, INQUIRY_NAMES)
    name = name_of(page) if status == Status.GOOD else None
    if name is None:
        raise BlockError("medium", "The LUN has no name (INQUIRY, page 83), so that its paths cannot be told apart.")
    return name


def identify(submit: Submit) -> LunIdentity:
    """Ask a disk who it is and how large. ``BlockError`` where it does not say."""
    name = ask_name(submit)
    _, inquiry, _ = ask(submit, INQUIRY)
    status, data, sense = ask(submit, READ_CAPACITY_10)
    _must(status, sense, "READ CAPACITY")
    last, sector_bytes = struct.unpack(">II", data[:8].ljust(8, b"\0"))
    status, more, sense = ask(submit, READ_CAPACITY_16)
    thin = status == Status.GOOD and len(more) > 14 and bool(more[14] & 0x80)
    if last == 0xFFFF_FFFF:
        _must(status, sense, "READ CAPACITY(16)")
        last = int.from_bytes(more[:8], "big")
    if sector_bytes < 512 or sector_bytes & (sector_bytes - 1):
        raise BlockError("medium", f"Disk {name} has blocks of {sector_bytes} bytes, which is not possible.")
    vendor, product = (part.decode("ascii", "replace").strip() for part in (inquiry[8:16], inquiry[16:32]))
    return LunIdentity(name, vendor, product, last + 1, sector_bytes, thin)


def _must(status: int, sense: bytes, what: str) -> None:
    if status == Status.GOOD:
        return
    if status == Status.RESERVATION_CONFLICT:
        raise ReservationConflict(f"{what} was refused: another host has reserved the LUN.")
    if status != Status.CHECK_CONDITION:
        raise BlockError("away", f"{what} was not carried out: status {status:#04x}.")
    parsed = parse_sense(sense) or Sense(SenseKey.NO_SENSE, 0)
    kind = {SenseKey.DATA_PROTECT: "no_space" if parsed.code == 0x2707 else "read_only", SenseKey.NOT_READY: "away"}
    raise BlockError(
        kind.get(parsed.key, "medium"),  # type: ignore[arg-type]
        f"{what} was not carried out: {parsed.describe()}.",
    )


class LunDisk:
    """A disk behind ``submit``; the Protocol ``vilab.protocols.Lun``."""

    read_only = False

    def __init__(self, submit: Submit, identity: LunIdentity) -> None:
        self.submit_once, self.identity = submit, identity
        self.reserved = False
        self.sector_bytes = identity.sector_bytes
        self.size_bytes = identity.sectors * identity.sector_bytes

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        return self.submit_once(cdb, data_out)

    def _do(self, what: str, cdb: bytes, data_out: ReadableBytes = b"") -> bytes:
        status, data, sense = ask(self.submit, cdb, data_out, self._attend)
        _must(status, sense, f"{what} on {self.identity.name}")
        return data

    def _attend(self, sense: Sense) -> None:
        """A unit attention. After a reset (29/xx) a reservation is gone, whatever its holder believes."""
        if self.reserved and sense.code >> 8 == RESET_OCCURRED:
            self.reserved = False
            raise ReservationLost(f"The reservation of {self.identity.name} is lost: {sense.describe()}.")

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        parts, each = [], self.sector_bytes
        for at in range(offset_bytes, offset_bytes + size_bytes, MOST_BYTES):
            size = min(MOST_BYTES, offset_bytes + size_bytes - at)
            part = self._do("READ", read_cdb(at // each, size // each))
            if len(part) != size:
                raise BlockError("away", f"READ on {self.identity.name} has brought {len(part)} of {size} bytes.")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        view, each = memoryview(data).cast("B"), self.sector_bytes
        check_range(self, offset_bytes, view.nbytes)
        for at in range(0, view.nbytes, MOST_BYTES):
            part = view[at : at + MOST_BYTES]
            self._do("WRITE", write_cdb((offset_bytes + at) // each, part.nbytes // each), part)

    def flush(self) -> None:
        self._do("SYNCHRONIZE CACHE", SYNCHRONIZE_CACHE)

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        check_range(self, offset_bytes, size_bytes)
        most = MOST_BYTES if not self.identity.thin else 32 * MOST_BYTES
        for at in range(offset_bytes, offset_bytes + size_bytes, most):
            size = min(most, offset_bytes + size_bytes - at)
            if self.identity.thin:
                self._do("UNMAP", *unmap_command(at // self.sector_bytes, size // self.sector_bytes))
            else:
                self.write(at, bytes(size))

    def reserve(self) -> None:
        """RESERVE(6): ``ReservationConflict`` where another initiator has."""
        self._do("RESERVE", RESERVE_6)
        self.reserved = True

    def release(self) -> None:
        self.reserved = False
        self._do("RELEASE", RELEASE_6)
