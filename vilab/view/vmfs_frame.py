"""A VMFS volume at one moment, as anybody sees it who reads its bytes: blocks, files, locks, heartbeats, journals.

::

    blocks   0        1        2        3            4        5      6 ...             25 ...
             journals journals volume   heartbeats   .fdc.sf  root   .fbb.sf ...       db-flat.vmdk, free ...

    a file   inode ── lock: (slot, seq, host)        free      nobody's
                                   │                 held      the slot is live, with that seq and that host
                                   └─> slot          stale     anything else: whoever wants it takes it

No host is asked and nothing is remembered. What a journal has made certain and what is not in its place yet is shown
where it is: in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from vilab.protocols import BlockDevice
from vilab.storage.vmfs import block_id as ids
from vilab.storage.vmfs import journal
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, INODE, KIND_NAMES, POINTER_BLOCK, SUB_BLOCK
from vilab.storage.vmfs.catalog import Catalog, Node, record_name
from vilab.storage.vmfs.layout import MIB, SECTOR, BitmapEntry, Header, Heartbeat
from vilab.storage.vmfs.resource import Resource
from vilab.storage.vmfs.volume import Volume

FREE, HELD, STALE = "free", "held", "stale"
SLOTS = journal.JOURNAL_SLOTS
"""Of the 2,048 those that have a journal, and that hosts take."""

JOURNALS, DESCRIPTOR, HEARTBEATS, ROOT, UNUSED = "journals", "volume", "heartbeats", "root", ""


class SlotMoment(msgspec.Struct, frozen=True):
    """A heartbeat slot. ``host``: its name, empty if the slot is free. ``pending``: sectors in its journal."""

    slot: int
    live: bool
    seq: int
    stamp_us: int
    host: str
    pending: int


class FileMoment(msgspec.Struct, frozen=True):
    """A file. ``blocks``, ``sub_blocks``, ``pointer_blocks``: numbers. ``lock``: free, held, stale; the rest of it as
    its header says, whether that still counts or not."""

    path: str
    pos: int
    is_system: bool
    size_bytes: int
    blocks: tuple[int, ...]
    sub_blocks: tuple[int, ...]
    pointer_blocks: tuple[int, ...]
    lock: str
    owner: str
    slot: int
    seq: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class VolumeMoment(msgspec.Struct, frozen=True, dict=True):
    """``used``: a flag a block, from the bitmaps. ``places``: (first byte, behind the last, what is there)."""

    block_bytes: int
    used: tuple[bool, ...]
    files: tuple[FileMoment, ...]
    slots: tuple[SlotMoment, ...]
    places: tuple[tuple[int, int, str], ...]

    def file(self, path: str) -> FileMoment | None:
        return next((file for file in self.files if file.path == path), None)

    def slot_of(self, host: str) -> SlotMoment | None:
        return next((slot for slot in self.slots if slot.host == host), None)

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """What each block belongs to: a file's path, one of the words above, empty if it is free."""
        found = [UNUSED] * len(self.used)
        for file in self.files:
            for block in file.blocks:
                found[block] = file.path
        for pos in range(0, on_disk.FS_AT, self.block_bytes):
            found[pos // self.block_bytes] = JOURNALS
        found[on_disk.FS_AT // self.block_bytes] = DESCRIPTOR
        if self.block_bytes == MIB:
            found[on_disk.HEARTBEATS_AT // MIB] = HEARTBEATS
        return tuple(found)

    @property
    def free_blocks(self) -> int:
        return self.used.count(False)

    def where(self, pos: int, sectors: int = 1) -> str:
        """What lies at a byte of the logical volume. A lock is one sector; more of them are what it stands before."""
        for first, end, what in self.places:
            if first <= pos < end:
                return (
                    what.removeprefix("lock of ")
                    if what.startswith("lock of bitmap") and sectors > 1
                    else (what.replace("lock of", "inode of") if sectors > 1 else what)
                )
        if pos < on_disk.FS_AT:
            return f"journal {pos // journal.JOURNAL_BYTES}"
        if on_disk.HEARTBEATS_AT <= pos < on_disk.FDC_BASE_AT:
            return f"slot {(pos - on_disk.HEARTBEATS_AT) // SECTOR}"
        block = pos // self.block_bytes
        owner = self.owners[block] if block < len(self.owners) else UNUSED
        if owner == DESCRIPTOR:
            return "volume descriptor"
        return "folder /" if owner == "/" else owner.rsplit("/", 1)[-1] or f"block {block}"


class Look:
    """One look at a device. ``names``: of hosts, by UUID; others are called by their UUID."""

    def __init__(self, device: BlockDevice, names: Mapping[bytes, str]) -> None:
        self.volume = Volume(device)
        self.catalog = Catalog(self.volume)
        self.names = names
        self.places: list[tuple[int, int, str]] = []
        self.slots = tuple(self._slot(number) for number in range(SLOTS))

    def name(self, uuid: bytes) -> str:
        return "" if uuid == on_disk.UNOWNED else self.names.get(uuid, on_disk.uuid_text(uuid))

    def _slot(self, number: int) -> SlotMoment:
        found = Heartbeat.decode(self.volume.read(journal.slot_pos(number), SECTOR))
        mine = found.live and journal.has_journal(number, found, self.volume.block_bytes)
        pending = len(journal.pending(self.volume, number, found)) if mine else 0
        return SlotMoment(
            number, found.live, found.seq, found.stamp_us, self.name(found.host) if found.live else "", pending
        )

    def _bitmap(self) -> tuple[bool, ...]:
        resource, used = self.catalog.resources[FILE_BLOCK], list[bool]()
        for entry in range(resource.entries):
            body = BitmapEntry.decode(self.volume.read(resource.entry_pos(entry), on_disk.ENTRY_BYTES))
            bits = int.from_bytes(body.bitmap, "little")
            used += [not bits >> item & 1 for item in range(body.total)]
        return tuple(used)

    def _walk(self, node: Node, path: str) -> list[FileMoment]:
        files = [self._file(node, path)]
        if node.is_directory:
            for record in self.catalog.records(self.volume, node):
                name = record_name(record)
                if name not in (b".", b".."):
                    child = self.catalog.node_of(self.volume, record)
                    files += self._walk(child, f"{path.rstrip('/')}/{name.decode('utf-8', 'replace')}")
        return files

    def _file(self, node: Node, path: str) -> FileMoment:
        inode, header = node.inode, node.header
        name = path.rsplit("/", 1)[-1] or "/"
        self.places.append((node.pos, node.pos + SECTOR, f"lock of {name}"))
        self.places.append((node.pos + SECTOR, node.pos + on_disk.INODE_BYTES, f"inode of {name}"))
        pointers = tuple(block for block in inode.blocks if block) if inode.kind == POINTER_BLOCK else ()
        named = [block for block in inode.blocks if block]
        if pointers:
            named = [each for pointer in pointers for each in self.catalog.pointers(self.volume, pointer) if each]
        numbers = {
            kind: tuple(self.catalog.number(block) for block in named if ids.kind_of(block) == kind)
            for kind in (FILE_BLOCK, SUB_BLOCK)
        }
        self._place_sub_blocks(numbers[SUB_BLOCK], f"folder {name}" if node.is_directory else name)
        lock, slot = self._lock(header)
        return FileMoment(
            path, node.pos, inode.type == on_disk.SYSTEM, inode.size, numbers[FILE_BLOCK], numbers[SUB_BLOCK],
            tuple(self.catalog.number(block) for block in pointers), lock, self.name(header.owner), slot, header.hb_seq,
        )  # fmt: skip

    def _place_sub_blocks(self, numbers: tuple[int, ...], name: str) -> None:
        resource = self.catalog.resources[SUB_BLOCK]
        for number in numbers:
            for pos, size in resource.item_pieces(number, 0, on_disk.SUB_BLOCK_BYTES):
                self.places.append((pos, pos + size, name))

    def _lock(self, header: Header) -> tuple[str, int]:
        if header.lock == on_disk.LOCK_FREE:
            return FREE, -1
        slot = journal.slot_of(header.hb_pos)
        found = Heartbeat.decode(self.volume.read(header.hb_pos, SECTOR)) if slot >= 0 else Heartbeat()
        counts = found.live and found.seq == header.hb_seq and found.host == header.owner
        return HELD if counts else STALE, slot

    def _place_resource(self, resource: Resource) -> None:
        for entry in range(resource.entries):
            pos = resource.entry_pos(entry)
            what = f"bitmap {entry}" if resource.kind == FILE_BLOCK else f"bitmap {entry} of {resource.name}"
            self.places.append((pos, pos + SECTOR, f"lock of {what}"))
            self.places.append((pos + SECTOR, pos + on_disk.ENTRY_BYTES, what))

    def moment(self) -> VolumeMoment:
        files = tuple(self._walk(self.catalog.root, "/"))
        for kind in (FILE_BLOCK, SUB_BLOCK, POINTER_BLOCK, INODE):
            self._place_resource(self.catalog.resources[kind])
        return VolumeMoment(self.volume.block_bytes, self._bitmap(), files, self.slots, tuple(self.places))


def capture(device: BlockDevice, names: Mapping[bytes, str]) -> VolumeMoment:
    """Read a volume from a device that nobody writes to meanwhile."""
    return Look(device, names).moment()


__all__ = ["FREE", "HELD", "KIND_NAMES", "STALE", "FileMoment", "SlotMoment", "VolumeMoment", "capture"]
