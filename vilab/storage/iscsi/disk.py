"""A LUN behind an iSCSI target as a disk of this host, and for raw CDBs.

::

    read, write, flush, unmap ──> IscsiDisk ──READ, WRITE, SYNCHRONIZE CACHE, ...──> IscsiSession ──> target
    submit(cdb, data)         ──────────────── any CDB, answered with whatever came of it ─────┘

The four of the block layer are done again when the session was lost or a unit attention came in between: a block that
is read or written twice is the same block. Not so under a reservation (RESERVE(6), ``reserve``): it is gone with its
session or with a reset, somebody else may have been there, and what was under way is ``ReservationLostError``. A raw
CDB is never repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, check_range
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.client import IscsiSession, SocketLink
from vilab.storage.iscsi.errors import (
    IscsiError,
    ReservationConflictError,
    ReservationLostError,
    SessionLostError,
)
from vilab.storage.iscsi.initiator_login import InitiatorConfig
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import Sense, SenseKey, Status

MAX_TRANSFER_BYTES = 1 << 20
"""In one command, if the target takes as much."""
REPEATS = 16
BUSY_PAUSE_S = 0.02
CONFLICT_RETRIES, CONFLICT_PAUSE_S = 80, 0.05
RESERVE, RELEASE = b"\x16" + bytes(5), b"\x17" + bytes(5)
ENDS_RESERVATION = frozenset({0x2900, 0x2901, 0x2902, 0x2903, 0x2907, 0x2A03, 0x2A04})
"""Unit attentions after which RESERVE(6) does not hold any more."""


class IscsiDisk:
    """A block device. Opening it asks the LUN what it is.

    ``attentions`` collects the unit attentions that were heard (ASC << 8 | ASCQ), newest last, at most 64.
    ``conflict_retries``: how often a command is tried again, after a pause, while another initiator has the disk
    reserved (ESX calls it Scsi.ConflictRetries); a raw one never is.
    """

    def __init__(
        self,
        session: IscsiSession,
        lun: int,
        sleep: Callable[[float], None] = time.sleep,
        conflict_retries: int = CONFLICT_RETRIES,
    ) -> None:
        self.session = session
        self.lun = lun
        self.attentions: list[int] = []
        self._reserved_login: int | None = None
        self.sector_bytes = 512
        self.size_bytes = 0
        self.read_only = False
        self.conflict_retries = conflict_retries
        self._sleep = sleep
        self._unmaps = False
        self._max_blocks = 1
        self.inquiry = self._work(bytes((0x12, 0, 0, 0, 255, 0)), data_in_bytes=255)
        if len(self.inquiry) < 36 or self.inquiry[0] != 0:
            raise IscsiError(f"LUN {lun} of {session.name} is no disk, or there is none.")
        self.look()
        self.naa = self._naa()

    def __repr__(self) -> str:
        return f"<IscsiDisk {self.session.name} LUN {self.lun}, {self.size_bytes} bytes>"

    @property
    def reserved(self) -> bool:
        """Does this host hold the disk, as far as it knows?"""
        return self._reserved_login == self.session.logins and self.session.alive

    def look(self) -> None:
        """Size, limits, write protection, now: after unit attention 2A/09 they may be others."""
        self._work(bytes(6))  # TEST UNIT READY
        capacity = self._work(b"\x25" + bytes(9), data_in_bytes=8)
        last, sector_bytes = int.from_bytes(capacity[:4], "big"), int.from_bytes(capacity[4:8], "big")
        if last == 0xFFFF_FFFF:
            capacity = self._work(b"\x9e\x10" + bytes(8) + (32).to_bytes(4, "big") + bytes(2), data_in_bytes=32)
            last, sector_bytes = int.from_bytes(capacity[:8], "big"), int.from_bytes(capacity[8:12], "big")
        if not sector_bytes or sector_bytes & (sector_bytes - 1) or not 512 <= sector_bytes <= 65536:
            raise IscsiError(f"LUN {self.lun} of {self.session.name} has sectors of {sector_bytes} bytes.")
        self.sector_bytes, self.size_bytes = sector_bytes, (last + 1) * sector_bytes
        limits = self._page(0xB0)
        most = int.from_bytes(limits[8:12], "big") if len(limits) >= 12 else 0
        self._max_blocks = max(1, min(most or 65535, MAX_TRANSFER_BYTES // sector_bytes, 65535))
        provisioning = self._page(0xB2)
        self._unmaps = len(provisioning) > 5 and bool(provisioning[5] & 0x40)
        mode = self._optional(bytes((0x1A, 0x08, 0x3F, 0, 192, 0)), 192)
        self.read_only = len(mode) >= 3 and bool(mode[2] & 0x80)

    def _optional(self, cdb: bytes, data_in_bytes: int) -> bytes:
        """What a target need not know; empty then."""
        response = self._until_heard(cdb, b"", data_in_bytes)
        return response.data_in if response.status == Status.GOOD else b""

    def _page(self, page: int) -> bytes:
        """A page of vital product data; empty if there is none."""
        return self._optional(bytes((0x12, 1, page, 0, 255, 0)), 255)

    def _naa(self) -> bytes:
        """The disk's own name (page 83h, NAA), the same by whatever path it is seen; empty if it has none."""
        page = self._page(0x83)
        at = 4
        while at + 4 <= len(page):
            length = page[at + 3]
            if page[at + 1] & 0x3F == 0x03:  # of the logical unit, NAA
                return page[at + 4 : at + 4 + length]
            at += 4 + length
        return b""

    # raw --------------------------------------------------------------------------------------------------------------

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"", data_in_bytes: int = 0) -> Response:
        """Any command, once. Raises ``SessionLostError`` if the answer never came, and if the reservation that was
        held is gone with its session: then nothing was sent.
        """
        if self._reserved_login is not None and not self.reserved:
            self._reserved_login = None
            raise SessionLostError(f"{self!r} was reserved, and the session that held it has ended.")
        try:
            response = self.session.execute(self.lun, cdb, data_out, data_in_bytes)
        except SessionLostError:
            self._reserved_login = None
            raise
        code = _attention(response)
        if code is not None:
            self.attentions = [*self.attentions[-63:], code]
            if code in ENDS_RESERVATION:
                self._reserved_login = None
        elif response.status == Status.GOOD and cdb[:1] in (b"\x16", b"\x17", b"\x56", b"\x57"):
            self._reserved_login = self.session.logins if cdb[0] in (0x16, 0x56) else None
        return response

    def reserve(self) -> None:
        """RESERVE(6), for this session alone. ``ReservationConflictError``: somebody else has it."""
        self._work(RESERVE)

    def release(self) -> None:
        self._work(RELEASE)

    # the block layer --------------------------------------------------------------------------------------------------

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        pieces = []
        for lba, blocks in self._runs(offset_bytes, size_bytes):
            size = blocks * self.sector_bytes
            data = self._work(_transfer(0x28, 0x88, lba, blocks), data_in_bytes=size)
            if len(data) != size:
                raise BlockError("medium", f"{self!r} has sent {len(data)} of {size} bytes.")
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        view = memoryview(data).cast("B")
        check_range(self, offset_bytes, len(view))
        at = 0
        for lba, blocks in self._runs(offset_bytes, len(view)):
            size = blocks * self.sector_bytes
            self._work(_transfer(0x2A, 0x8A, lba, blocks), view[at : at + size])
            at += size

    def flush(self) -> None:
        """SYNCHRONIZE CACHE(10)."""
        if not self.read_only:
            self._work(b"\x35" + bytes(9))

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        """WRITE SAME(16) with UNMAP, which reads as zeros whatever the target makes of it; else zeros."""
        check_range(self, offset_bytes, size_bytes)
        for lba, blocks in self._runs(offset_bytes, size_bytes):
            cdb = b"\x93\x08" + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(2)
            zeros = bytes(self.sector_bytes)
            if self._unmaps and self._try(cdb, zeros):
                continue
            self._work(_transfer(0x2A, 0x8A, lba, blocks), bytes(blocks * self.sector_bytes))

    def _runs(self, offset_bytes: int, size_bytes: int) -> list[tuple[int, int]]:
        first, end = offset_bytes // self.sector_bytes, (offset_bytes + size_bytes) // self.sector_bytes
        return [(lba, min(self._max_blocks, end - lba)) for lba in range(first, end, self._max_blocks)]

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> IscsiDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # trying again -----------------------------------------------------------------------------------------------------

    def _work(self, cdb: bytes, data_out: ReadableBytes = b"", data_in_bytes: int = 0) -> bytes:
        """A command that may be repeated, to its good end."""
        response = self._until_heard(cdb, data_out, data_in_bytes)
        for _ in range(self.conflict_retries):
            if response.status != Status.RESERVATION_CONFLICT:
                break
            self._sleep(CONFLICT_PAUSE_S)
            response = self._until_heard(cdb, data_out, data_in_bytes)
        if response.status != Status.GOOD:
            raise self._refusal(response)
        return response.data_in

    def _try(self, cdb: bytes, data_out: ReadableBytes = b"", data_in_bytes: int = 0) -> bool:
        """The same, for something that the target need not know: was it done?"""
        response = self._until_heard(cdb, data_out, data_in_bytes)
        if response.sense is not None and response.sense.key == SenseKey.ILLEGAL_REQUEST:
            return False
        if response.status != Status.GOOD:
            raise self._refusal(response)
        return True

    def _until_heard(self, cdb: bytes, data_out: ReadableBytes, data_in_bytes: int) -> Response:
        for _ in range(REPEATS):
            held = self._reserved_login is not None
            try:
                response = self.submit(cdb, data_out, data_in_bytes)
            except SessionLostError:
                if held:
                    raise self._lost() from None
                continue
            if _attention(response) is None and response.status not in (Status.BUSY, Status.TASK_SET_FULL):
                return response
            if held and self._reserved_login is None:
                raise self._lost()
            if _attention(response) is None:
                self._sleep(BUSY_PAUSE_S)
        raise BlockError("medium", f"{self!r} was asked {REPEATS} times and did not come to an answer.")

    def _lost(self) -> ReservationLostError:
        return ReservationLostError(f"{self!r} was reserved, and the reservation has been lost.")

    def _refusal(self, response: Response) -> BlockError:
        if response.status == Status.RESERVATION_CONFLICT:
            return ReservationConflictError(f"{self!r} is reserved by another initiator; try again.")
        sense = response.sense
        sentence = f"{self!r} refuses: {response.describe()}."
        if sense is not None and sense.key == SenseKey.DATA_PROTECT:
            return BlockError("no_space" if sense.code == 0x2707 else "read_only", sentence)
        return BlockError("medium", sentence)


def open_lun(
    address: str, target: str, lun: int, initiator: str, credentials: Credentials | None = None, **config: Any
) -> IscsiDisk:
    """A LUN over TCP. ``address``: ``host:port``; ``config``: what else ``InitiatorConfig`` takes."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise IscsiError(f"{address!r} is no portal; one looks like 127.0.0.1:3260.")
    wanted = InitiatorConfig(initiator, target, credentials, **config)
    return IscsiDisk(IscsiSession(lambda: SocketLink(host, int(port)), wanted), lun)


def _attention(response: Response) -> int | None:
    sense: Sense | None = response.sense
    return sense.code if sense is not None and sense.key == SenseKey.UNIT_ATTENTION else None


def _transfer(short: int, long: int, lba: int, blocks: int) -> bytes:
    """READ or WRITE, (10) where the address fits, else (16)."""
    if lba < 1 << 32:
        return bytes((short, 0)) + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"
    return bytes((long, 0)) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(2)
