"""A host's journal: a change of several sectors happens as a whole or not at all.

::

    slot's journal, 64 KiB, at logical slot * 64 KiB

    sector 0      1        2 .. 3                 4 ...                             127
           | left | header | where each sector    | the sectors themselves           |
           | over |        | belongs: u64 each    |
             │       └ magic, host, heartbeat seq, transaction, count, CRC-32 over all of it
             └ inodes without a name whose blocks are not all free yet

    write 1 to n ─ flush ─ │ the change is certain │ ─ write the sectors in their places ─ flush ─ clear the header

A header whose CRC, host or seq is wrong is no change: it was not written to its end, or is an old one. MODEL: this
format is ours; the one of ESX is not documented. 32 slots of the 2,048 have a journal, as many as hosts can share a
VMFS-3 volume.
"""

from __future__ import annotations

import struct
import zlib
from typing import ClassVar, Final

from vilab.errors import VmmBug
from vilab.storage.vmfs.errors import VmfsDamage
from vilab.storage.vmfs.layout import FS_AT, HEARTBEATS_AT, SECTOR, UNOWNED, Heartbeat
from vilab.storage.vmfs.record import Field, Record
from vilab.storage.vmfs.volume import Readable, Volume

JOURNAL_BYTES: Final = 65536
JOURNAL_SLOTS: Final = FS_AT // JOURNAL_BYTES
JOURNAL_MAGIC: Final = 0x4C4A_4D56
JOURNAL_SECTORS: Final = 124
"""Sectors that one change can have."""
_PAYLOAD_AT: Final = 4 * SECTOR
MOST_LEFT_OVER: Final = 32


class JournalHeader(Record, frozen=True, kw_only=True):
    """Sector 1 of a journal."""

    magic: int = 0
    crc: int = 0
    host: bytes = UNOWNED
    hb_seq: int = 0
    transaction: int = 0
    sectors: int = 0

    SIZE_BYTES: ClassVar[int] = SECTOR
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("magic", 0x00, "I", "0x4c4a4d56; 0: nothing under way"),
        Field("crc", 0x04, "I", "CRC-32 of this sector with 0 here, and of the sectors behind it"),
        Field("host", 0x08, "16s", "UUID"),
        Field("hb_seq", 0x18, "Q", "of the heartbeat slot"),
        Field("transaction", 0x20, "Q", ""),
        Field("sectors", 0x28, "I", "1 to 124"),
    )


def journal_pos(slot: int) -> int:
    return slot * JOURNAL_BYTES


def journal_block(slot: int, block_bytes: int) -> int:
    """The id that the heartbeat names: the file block that the journal lies in."""
    return journal_pos(slot) // block_bytes << 6 | 1


def slot_pos(slot: int) -> int:
    return HEARTBEATS_AT + slot * SECTOR


def slot_of(pos: int) -> int:
    """Of a heartbeat's position, or -1."""
    slot, rest = divmod(pos - HEARTBEATS_AT, SECTOR)
    return slot if not rest and 0 <= slot < 2048 else -1


def has_journal(slot: int, heartbeat: Heartbeat, block_bytes: int) -> bool:
    """Is it one of ours, which can be replayed?"""
    return slot < JOURNAL_SLOTS and heartbeat.journal == journal_block(slot, block_bytes)


def encode_change(heartbeat: Heartbeat, transaction: int, sectors: dict[int, bytes]) -> bytes:
    """Sectors 1 on of the journal."""
    if not 0 < len(sectors) <= JOURNAL_SECTORS:
        raise VmmBug(f"A change of {len(sectors)} sectors does not fit into the journal.")
    order = sorted(sectors)
    body = struct.pack(f"<{len(order)}Q", *order).ljust(2 * SECTOR, b"\0") + b"".join(sectors[pos] for pos in order)
    header = JournalHeader(
        magic=JOURNAL_MAGIC, host=heartbeat.host, hb_seq=heartbeat.seq, transaction=transaction, sectors=len(order)
    ).encode()
    crc = zlib.crc32(header + body)
    return header[:4] + struct.pack("<I", crc) + header[8:] + body


def pending(read: Readable, slot: int, heartbeat: Heartbeat) -> dict[int, bytes]:
    """The sectors of the change that the slot's host has made certain; empty if there is none."""
    pos = journal_pos(slot)
    raw = read.read(pos + SECTOR, SECTOR)
    header = JournalHeader.decode(raw)
    if header.magic != JOURNAL_MAGIC or not 0 < header.sectors <= JOURNAL_SECTORS:
        return {}
    if header.host != heartbeat.host or header.hb_seq != heartbeat.seq or not heartbeat.live:
        return {}
    body = read.read(pos + 2 * SECTOR, 2 * SECTOR + header.sectors * SECTOR)
    if zlib.crc32(raw[:4] + bytes(4) + raw[8:] + body) != header.crc:
        return {}
    places = struct.unpack_from(f"<{header.sectors}Q", body)
    data = body[2 * SECTOR :]
    return {place: data[n * SECTOR : (n + 1) * SECTOR] for n, place in enumerate(places)}


def check_places(volume: Volume, sectors: dict[int, bytes]) -> None:
    """A journal names sectors of the volume, and not those in front of its own blocks, or it is damaged."""
    for pos in sectors:
        own = pos < FS_AT and pos % JOURNAL_BYTES == 0
        if pos % SECTOR or pos + SECTOR > volume.size_bytes or (pos < HEARTBEATS_AT + 2048 * SECTOR and not own):
            raise VmfsDamage(f"The volume is damaged: a journal would change the sector at {pos:#x}.")


def clear(volume: Volume, slot: int) -> None:
    volume.write(journal_pos(slot) + SECTOR, bytes(SECTOR))


def apply(volume: Volume, sectors: dict[int, bytes]) -> None:
    """Write the sectors in their places, neighbours together."""
    run: list[int] = []
    for pos in [*sorted(sectors), -1]:
        if run and pos != run[-1] + SECTOR:
            volume.write(run[0], b"".join(sectors[each] for each in run))
            run = []
        run.append(pos)


def replay(volume: Volume, slot: int, heartbeat: Heartbeat) -> int:
    """Finish what the slot's host had made certain. Again and again is the same as once. The number of sectors."""
    sectors = pending(volume, slot, heartbeat)
    if sectors:
        check_places(volume, sectors)
        apply(volume, sectors)
        volume.flush()
        clear(volume, slot)
        volume.flush()
    return len(sectors)


# --- what is left over ------------------------------------------------------------------------------------------------


def left_over(read: Readable, slot: int) -> list[tuple[int, int]]:
    """(inode id, generation) of deleted files that still have blocks."""
    words = struct.unpack("<128I", read.read(journal_pos(slot), SECTOR))
    return [(words[n], words[n + 1]) for n in range(0, 2 * MOST_LEFT_OVER, 2) if words[n]]


def encode_left_over(found: list[tuple[int, int]]) -> bytes:
    if len(found) > MOST_LEFT_OVER:
        raise VmmBug("More deleted files are left over than their sector has room for.")
    return b"".join(struct.pack("<II", *each) for each in found).ljust(SECTOR, b"\0")
