"""One change of the volume's metadata: locks, journal, the sectors themselves.

::

    reserve the LUN
      read what is needed, work out the new sectors in memory         an error up to here: nothing has changed
      write the locks (exclusive, ours) into what will change
      write the data of new blocks, then the journal;  flush          from here on the change is certain
      write the sectors in their places;  flush
      clear the journal, give back the locks
    release the LUN

A host that dies on the way leaves locks in everything it was changing: nobody looks at that before its heartbeat is
broken and its journal replayed (``vmfs_heartbeat``). A file that is open keeps its lock between changes.

MODEL: the LUN stays reserved for the whole change. ESX 3 reserves it to take a lock and works without it then; the
effect on others, a conflict and another try, is the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from vilab.errors import VmmBug
from vilab.protocols import ReadableBytes
from vilab.storage.vmfs import block_id as ids
from vilab.storage.vmfs import journal
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, INODE, KIND_NAMES
from vilab.storage.vmfs.catalog import Node
from vilab.storage.vmfs.errors import Held, VmfsDamage, VmfsFull
from vilab.storage.vmfs.layout import SECTOR, BitmapEntry, Header, Inode
from vilab.storage.vmfs.resource import Resource
from vilab.storage.vmfs.volume import laid_over

if TYPE_CHECKING:
    from vilab.storage.vmfs.member import Member

NEARLY_FULL = 96
"""Sectors; whoever goes on freeing blocks commits here and begins the next change."""


class Transaction:
    """What one change reads and will write. Made by ``Member.change``; it reads its own writes."""

    def __init__(self, member: Member, what: str) -> None:
        self.member, self.volume, self.catalog, self.what = member, member.volume, member.catalog, what
        self.sectors: dict[int, bytes] = {}
        self.taken: dict[int, Header] = {}
        """By position: headers that this change locks, as they are written first."""
        self.broken: set[int] = set()
        self.data: list[tuple[int, bytes]] = []
        self.zeroed: list[tuple[int, int]] = []
        self.allocated: dict[int, list[int]] = {}
        self.freed: dict[int, list[int]] = {}

    # --- bytes --------------------------------------------------------------------------------------------------------

    def read(self, pos: int, size_bytes: int) -> bytes:
        first = pos // SECTOR * SECTOR
        last = -(-(pos + size_bytes) // SECTOR) * SECTOR
        data = laid_over(self.volume.read(first, last - first), first, self.sectors)
        return data[pos - first : pos - first + size_bytes]

    def write(self, pos: int, data: bytes) -> None:
        """Any bytes of metadata; sectors that stay as they are do not count."""
        first = pos // SECTOR * SECTOR
        last = -(-(pos + len(data)) // SECTOR) * SECTOR
        old = self.read(first, last - first)
        new = old[: pos - first] + data + old[pos - first + len(data) :]
        for at in range(0, len(new), SECTOR):
            if new[at : at + SECTOR] != old[at : at + SECTOR]:
                self.sectors[first + at] = new[at : at + SECTOR]

    def write_data(self, pos: int, data: ReadableBytes) -> None:
        """Content of a file, whole sectors: on the disk before the change is certain."""
        self.data.append((pos, bytes(data)))

    def zero_data(self, pos: int, size_bytes: int) -> None:
        self.zeroed.append((pos, size_bytes))

    def read_data(self, pos: int, size_bytes: int) -> bytes:
        """Whole sectors of content, with what ``write_data`` and ``zero_data`` were given."""
        found = bytearray(self.volume.read(pos, size_bytes))
        zeros = [(at, bytes(size)) for at, size in self.zeroed if at < pos + size_bytes and at + size > pos]
        for at, data in zeros + self.data:
            begin, stop = max(at, pos), min(at + len(data), pos + size_bytes)
            if begin < stop:
                found[begin - pos : stop - pos] = data[begin - at : stop - at]
        return bytes(found)

    @property
    def nearly_full(self) -> bool:
        return len(self.sectors) >= NEARLY_FULL

    # --- locks --------------------------------------------------------------------------------------------------------

    def take(self, pos: int, magic: int, what: str) -> Header:
        """Lock what has its header there, for this change, unless this host holds it already."""
        header = Header.decode(self.read(pos, SECTOR))
        if header.magic != magic or header.pos != pos:
            raise VmfsDamage(f"The volume is damaged: there is no {what} at {pos:#x}, where it should be.")
        if pos in self.taken:
            return header
        if self.member.holds(pos):
            if pos not in self.sectors:
                self.write(pos, msgspec.structs.replace(header, obj_seq=header.obj_seq + 1).encode())
            return header
        if self.member.is_stale(header, what):
            self.broken.add(pos)
        header = self.member.locked(header)
        self.taken[pos] = header
        return header

    def take_node(self, node: Node) -> None:
        self.take(node.pos, on_disk.INODE_MAGIC, f"inode {node.inode.id:#010x}")

    def look(self, node: Node) -> Node:
        """Of an inode that is only read here: raises ``Held`` if a dead host was changing it."""
        if node.pos not in self.taken:
            self.member.check_settled(node.header, f"inode {node.inode.id:#010x}")
        return node

    # --- inodes -------------------------------------------------------------------------------------------------------

    def put_inode(self, pos: int, inode: Inode) -> None:
        self.write(pos + on_disk.INODE_BODY_AT, inode.encode()[on_disk.INODE_BODY_AT :])

    def new_inode(self, held: bool, **fields: object) -> Node:
        """A file descriptor that was free, with these fields; ``held``: locked by this host from the beginning."""
        number = self.allocate(INODE, 0)
        pos = self.catalog.resources[INODE].item_pos(number)
        old_header, old = Header.decode(self.read(pos, SECTOR)), Inode.decode(self.read(pos, on_disk.INODE_BYTES))
        generation = max(1, old.generation + 1 & 0xFFFF_FFFF)
        inode_id = ids.block_id(INODE, number)
        now = self.member.clock.unix_s()
        inode = Inode(id=inode_id, generation=generation, changed_s=now, made_s=now, accessed_s=now)
        inode = msgspec.structs.replace(inode, **fields)
        header = Header(magic=on_disk.INODE_MAGIC, pos=pos, obj_seq=old_header.obj_seq + 1)
        if held:
            header = self.member.locked(header)
        self.write(pos, header.encode())
        self.put_inode(pos, inode)
        return Node(pos, header, inode)

    # --- blocks -------------------------------------------------------------------------------------------------------

    def allocate(self, kind: int, inode_id: int) -> int:
        """The number of an item that was free and is taken now. ``VmfsFull`` if there is none."""
        resource = self.catalog.resources[kind]
        held: Held | None = None
        for entry in self.member.hints.entries(resource):
            pos = resource.entry_pos(entry)
            body = BitmapEntry.decode(self.read(pos, on_disk.ENTRY_BYTES))
            if not body.free or not body.total:
                continue
            try:
                item = self._take_free(resource, entry, pos, None)
            except Held as error:
                held = error
                continue
            self.member.hints.allocated(kind, entry)
            number = entry * resource.header.per_entry + item
            self.allocated.setdefault(kind, []).append(number)
            return number
        if held is not None:
            raise held
        raise VmfsFull(f"The volume is full: no {KIND_NAMES[kind]} is free. Delete something, or make a larger volume.")

    def _entry(self, resource: Resource, entry: int, pos: int) -> BitmapEntry:
        self.take(pos, resource.magic, f"entry {entry} of {resource.name}")
        body = BitmapEntry.decode(self.read(pos, on_disk.ENTRY_BYTES))
        bits = int.from_bytes(body.bitmap, "little")
        sound = body.id == entry and body.total <= resource.header.per_entry and body.free == bits.bit_count()
        if not sound or bits >> body.total:
            raise VmfsDamage(f"The volume is damaged: entry {entry} of {resource.name} contradicts itself.")
        return body

    def _take_free(self, resource: Resource, entry: int, pos: int, item: int | None) -> int:
        body = self._entry(resource, entry, pos)
        bits = int.from_bytes(body.bitmap, "little")
        if item is None:
            above = bits >> body.first_free << body.first_free or bits
            item = (above & -above).bit_length() - 1
        bits ^= 1 << item
        self._put_entry(pos, body, bits, item + 1 if item + 1 < body.total else 0)
        return item

    def _put_entry(self, pos: int, body: BitmapEntry, bits: int, hint: int) -> None:
        changed = msgspec.structs.replace(
            body, free=bits.bit_count(), first_free=hint, bitmap=bits.to_bytes(on_disk.BITMAP_BYTES, "little")
        )
        self.write(pos + on_disk.ENTRY_BODY_AT, changed.encode()[on_disk.ENTRY_BODY_AT :])

    def free(self, block: int) -> None:
        """Give an item back, by its block id."""
        kind = ids.kind_of(block)
        resource, number = self.catalog.resources[kind], self.catalog.number(block)
        entry, item = divmod(number, resource.header.per_entry)
        pos = resource.entry_pos(entry)
        body = self._entry(resource, entry, pos)
        bits = int.from_bytes(body.bitmap, "little")
        if bits >> item & 1:
            raise VmfsDamage(f"The volume is damaged: {KIND_NAMES[kind]} {number} is in use and marked as free.")
        self._put_entry(pos, body, bits | 1 << item, min(item, body.first_free) if body.free else item)
        self.freed.setdefault(kind, []).append(number)

    # --- the end ------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """See the picture above. Called by ``Member.change``, with the LUN reserved."""
        if not self.sectors:
            if self.data or self.zeroed:
                self._write_data()
            return
        if len(self.sectors) > journal.JOURNAL_SECTORS:
            raise VmmBug(f"The change ({self.what}) has {len(self.sectors)} sectors, too many for the journal.")
        member = self.member
        for pos, header in self.taken.items():
            self.volume.write(pos, header.encode())
        member.locks_taken(self)
        self._write_data()
        member.write_journal(self)
        self.volume.flush()
        journal.apply(self.volume, self.sectors)
        self.volume.flush()
        journal.clear(self.volume, member.slot)
        for pos, header in self.taken.items():
            if not member.holds(pos):
                self.volume.write(pos, member.unlocked(header).encode())

    def _write_data(self) -> None:
        for pos, size in self.zeroed:
            self.volume.unmap(pos, size)
        for pos, data in self.data:
            self.volume.write(pos, data)


class Hints:
    """Where to look first for something free: where something was found last, at a place of its own for each host so
    that hosts rarely want the same entry."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.last: dict[int, int] = {}

    def entries(self, resource: Resource) -> Iterator[int]:
        """All entries of a resource file, the likely ones first."""
        count = resource.entries
        spread = 0 if resource.kind == FILE_BLOCK and self.slot == 0 else self.slot * 7
        first = self.last.get(resource.kind, spread) % max(count, 1)
        yield from range(first, count)
        yield from range(first)

    def allocated(self, kind: int, entry: int) -> None:
        self.last[kind] = entry


def pack_ids(blocks: list[int]) -> bytes:
    return struct.pack(f"<{len(blocks)}I", *blocks)
