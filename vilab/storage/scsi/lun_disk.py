"""A LUN as a block device: reads, writes, flushes and unmappings become SCSI commands.

::

    read, write      READ(10), WRITE(10); (16) beyond 2 TB; 1 MB a command at most
    flush            SYNCHRONIZE CACHE(10)
    unmap            WRITE SAME(16) with one block of zeros, with the bit UNMAP where the disk knows it: reads as zeros,
                     whatever it frees; zeros are written where it does not know WRITE SAME
    reserve          RESERVE(6), release RELEASE(6)

``LunDisk`` needs nothing but ``submit`` (``lun_identity``): ``nexus_to`` a target of this process, a path of
``vilab.storage.luns``, a session of ``vilab.storage.iscsi``. A reservation ends with a reset and with its nexus; who
held it hears ``ReservationLost`` from the first command that tells so, which is not repeated.
"""

from __future__ import annotations

import struct
from collections import deque

from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, ReservationLost, check_range
from vilab.storage.geometry import ShapedBySize
from vilab.storage.scsi.lun_identity import Answer, LunIdentity, Submit, ask, identify, must
from vilab.storage.scsi.sense import Sense, SenseKey, Status, parse_sense
from vilab.storage.scsi.state import Nexus
from vilab.storage.scsi.target import Target

SYNCHRONIZE_CACHE = b"\x35" + bytes(9)
START_UNIT = b"\x1b\x00\x00\x00\x01\x00"
RESERVE_6 = b"\x16" + bytes(5)
RELEASE_6 = b"\x17" + bytes(5)
RESERVES, RELEASES = frozenset({b"\x16", b"\x56"}), frozenset({b"\x17", b"\x57"})
"""By operation code: of 6 and of 10 bytes."""
ENDS_RESERVATION = frozenset({0x2900, 0x2901, 0x2902, 0x2903, 0x2904, 0x2907, 0x2A03, 0x2A04})
"""Unit attentions after which RESERVE(6) does not hold any more."""
KEPT_ATTENTIONS = 64


def read_cdb(sector: int, sectors: int) -> bytes:
    return _transfer(0x28, 0x88, sector, sectors)


def write_cdb(sector: int, sectors: int) -> bytes:
    return _transfer(0x2A, 0x8A, sector, sectors)


def _transfer(short: int, long: int, sector: int, sectors: int) -> bytes:
    if sector + sectors <= 1 << 32:
        return struct.pack(">BBIBHB", short, 0, sector, 0, sectors, 0)
    return struct.pack(">BBQIBB", long, 0, sector, sectors, 0, 0)


def write_same_cdb(sector: int, sectors: int, unmap: bool) -> bytes:
    """WRITE SAME(16): one block is sent along."""
    return struct.pack(">BBQIBB", 0x93, 0x08 if unmap else 0, sector, sectors, 0, 0)


def nexus_to(target: Target, nexus: Nexus, lun: int) -> Submit:
    """The transport to a target of this process."""

    def submit(cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        response = target.execute(nexus, lun, cdb, data_out)
        return response.status, response.data_in, response.sense_bytes

    return submit


class LunDisk(ShapedBySize):
    """A disk behind ``submit``; the Protocols ``vilab.protocols.Lun`` and ``vilab.storage.vmfs.lun.Lun``.

    ``identity``: what it is, if that is known already; else it is asked. ``reserved``: this host holds it, as far as it
    knows. ``attentions``: the unit attentions that were heard (ASC << 8 | ASCQ), newest last.
    """

    identity: LunIdentity
    sector_bytes: int
    size_bytes: int
    read_only: bool

    def __init__(self, submit: Submit, identity: LunIdentity | None = None) -> None:
        self.submit_once = submit
        self.reserved = False
        self.attentions: deque[int] = deque(maxlen=KEPT_ATTENTIONS)
        self._knows_write_same = True
        self._see(identify(self._repeatable, self._where) if identity is None else identity)

    def _see(self, identity: LunIdentity) -> None:
        self.identity = identity
        self.sector_bytes, self.read_only = identity.sector_bytes, identity.read_only
        self.size_bytes = identity.sectors * identity.sector_bytes

    @property
    def _where(self) -> str:
        """For sentences, before the disk has said its name."""
        return "this LUN"

    @property
    def title(self) -> str:
        return self.identity.name or self._where

    # --- commands -----------------------------------------------------------------------------------------------------

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """Any command, once, answered with whatever came of it."""
        answer = self.submit_once(cdb, data_out)
        self._note(cdb, answer)
        return answer

    def _note(self, cdb: bytes, answer: Answer) -> None:
        """What it means for a reservation, whoever has made it with a command of his own."""
        if answer[0] == Status.GOOD:
            if cdb[:1] in RESERVES:
                self.reserved = True
            elif cdb[:1] in RELEASES:
                self.reserved = False
        elif answer[0] == Status.CHECK_CONDITION:
            sense = parse_sense(answer[2])
            if sense is not None and sense.key == SenseKey.UNIT_ATTENTION:
                self.attentions.append(sense.code)
                if sense.code in ENDS_RESERVATION:
                    self.reserved = False

    def _repeatable(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """A command that may be sent again: a block that is read or written twice is the same block."""
        return self.submit(cdb, data_out)

    def _answer(self, cdb: bytes, data_out: ReadableBytes) -> Answer:
        """To its end. ``ReservationLost`` where this host's reservation has ended before it."""
        held = self.reserved
        answer = ask(self._repeatable, cdb, data_out, self._check_reservation if held else None)
        if held and answer[0] == Status.RESERVATION_CONFLICT:
            raise self._lost("another host has reserved the LUN")
        return answer

    def _check_reservation(self, sense: Sense) -> None:
        if not self.reserved:
            raise self._lost(sense.describe())

    def _lost(self, why: str) -> ReservationLost:
        self.reserved = False
        return ReservationLost(f"The reservation of {self.title} is lost: {why}.")

    def _do(self, what: str, cdb: bytes, data_out: ReadableBytes = b"") -> bytes:
        return must(self._answer(cdb, data_out), f"{what} on {self.title}")

    # --- a block device -----------------------------------------------------------------------------------------------

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        parts = []
        for sector, sectors in self._runs(offset_bytes, size_bytes):
            part, size = self._do("READ", read_cdb(sector, sectors)), sectors * self.sector_bytes
            if len(part) != size:
                raise BlockError("away", f"READ on {self.title} has brought {len(part)} of {size} bytes.")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        view, at = memoryview(data).cast("B"), 0
        check_range(self, offset_bytes, view.nbytes)
        for sector, sectors in self._runs(offset_bytes, view.nbytes):
            size = sectors * self.sector_bytes
            self._do("WRITE", write_cdb(sector, sectors), view[at : at + size])
            at += size

    def flush(self) -> None:
        if not self.read_only:
            self._do("SYNCHRONIZE CACHE", SYNCHRONIZE_CACHE)

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        check_range(self, offset_bytes, size_bytes)
        for sector, sectors in self._runs(offset_bytes, size_bytes):
            if not self._write_same_zeros(sector, sectors):
                self._do("WRITE", write_cdb(sector, sectors), bytes(sectors * self.sector_bytes))

    def _write_same_zeros(self, sector: int, sectors: int) -> bool:
        """``False``: the disk does not know how; nothing has happened."""
        if not self._knows_write_same:
            return False
        answer = self._answer(write_same_cdb(sector, sectors, self.identity.unmaps), bytes(self.sector_bytes))
        sense = parse_sense(answer[2]) if answer[0] == Status.CHECK_CONDITION else None
        if sense is not None and sense.key == SenseKey.ILLEGAL_REQUEST:
            self._knows_write_same = False
            return False
        must(answer, f"WRITE SAME on {self.title}")
        return True

    def _runs(self, offset_bytes: int, size_bytes: int) -> list[tuple[int, int]]:
        """(first sector, sectors) of the commands that it takes."""
        first, end = offset_bytes // self.sector_bytes, (offset_bytes + size_bytes) // self.sector_bytes
        most = self.identity.most_blocks
        return [(sector, min(most, end - sector)) for sector in range(first, end, most)]

    # --- reservations -------------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """RESERVE(6): ``ReservationConflict`` where another initiator has."""
        self._do("RESERVE", RESERVE_6)

    def release(self) -> None:
        """RELEASE(6). A reservation that is gone already need not be given back."""
        self.reserved = False
        self._do("RELEASE", RELEASE_6)
