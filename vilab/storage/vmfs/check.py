"""Looking for damage: what ``vilab vmfs check`` says of a volume. Nothing is changed.

======================  ============================================================================================
error                   a resource file's entry, an inode, a directory or a heartbeat slot contradicts itself
error                   a block is named twice, or is named and marked free, or marked used and named by nobody
error                   an inode is used and has no name, or a name means an inode that is not used
note                    hosts that are mounted; changes that a dead host had made certain (seen as if replayed)
note                    deleted files that a host has not cleared up yet; locks whose owner is gone
======================  ============================================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from vilab.errors import AdminError
from vilab.protocols import BlockDevice
from vilab.storage.vmfs import block_id as ids
from vilab.storage.vmfs import journal
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, KIND_NAMES, POINTER_BLOCK, SUB_BLOCK
from vilab.storage.vmfs.catalog import Node, record_name
from vilab.storage.vmfs.errors import VmfsDamage
from vilab.storage.vmfs.layout import SECTOR, BitmapEntry, DirectoryRecord, Header, Heartbeat
from vilab.storage.vmfs.namespace import ReadOnlyVolume
from vilab.storage.vmfs.resource import Resource

NAMED_AT_MOST = 20
"""So many findings of one kind are named; the rest are counted."""


class Report(msgspec.Struct):
    """What was found. ``errors``: to be repaired; ``notes``: they are not, or go away by themselves."""

    files: int = 0
    directories: int = 0
    errors: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


def check(device: BlockDevice) -> Report:
    report = Report()
    try:
        checker = _Checker(ReadOnlyVolume(device), report)
        checker.run()
    except AdminError as error:
        report.errors.append(str(error))
    return report


class _Checker:
    def __init__(self, volume: ReadOnlyVolume, report: Report) -> None:
        self.volume, self.catalog, self.report = volume.volume, volume.catalog, report
        self.pending = volume.pending()
        self.used: dict[int, bytearray] = {}
        self.named = {kind: bytearray(resource.header.items) for kind, resource in self.catalog.resources.items()}
        self.counts: dict[str, int] = {}
        self.live: dict[int, Heartbeat] = {}

    def say(self, kind: str, sentence: str) -> None:
        count = self.counts[kind] = self.counts.get(kind, 0) + 1
        if count <= NAMED_AT_MOST:
            self.report.errors.append(sentence)

    def run(self) -> None:
        self._heartbeats()
        for kind, resource in self.catalog.resources.items():
            self.used[kind] = self._bitmap(resource)
        self._left_over()
        self._tree()
        self._compare()
        for what, count in self.counts.items():
            if count > NAMED_AT_MOST:
                self.report.errors.append(f"... and {count - NAMED_AT_MOST} more: {what}.")

    # --- heartbeats and journals --------------------------------------------------------------------------------------

    def _heartbeats(self) -> None:
        size = on_disk.HEARTBEAT_SLOTS * SECTOR
        data = self.volume.read(on_disk.HEARTBEATS_AT, size)
        for slot in range(on_disk.HEARTBEAT_SLOTS):
            magic, pos = struct.unpack_from("<IQ", data, slot * SECTOR)
            if magic not in (on_disk.HEARTBEAT_FREE, on_disk.HEARTBEAT_LIVE) or pos != journal.slot_pos(slot):
                self.say("heartbeat slots", f"Heartbeat slot {slot} is damaged: no magic number, or another position.")
            elif magic == on_disk.HEARTBEAT_LIVE:
                found = self.live[slot] = Heartbeat.decode(data[slot * SECTOR : (slot + 1) * SECTOR])
                self.report.notes.append(f"Host {on_disk.uuid_text(found.host)} is mounted (heartbeat slot {slot}).")
        if self.pending:
            self.report.notes.append(
                f"{len(self.pending)} sectors are in a journal and not in their places: a host is in the middle of a "
                "change, or has died in it. The next host that needs them replays it."
            )

    def _left_over(self) -> None:
        for slot in range(journal.JOURNAL_SLOTS):
            for inode_id, generation in journal.left_over(self.volume, slot):
                try:
                    node = self.catalog.node(self.volume, inode_id)
                except VmfsDamage:
                    continue
                if node.inode.generation == generation and not node.inode.links:
                    self.report.notes.append(f"A deleted file (inode {inode_id:#010x}) is not cleared up yet.")
                    self._mark(inode_id, "a deleted file")
                    self._blocks(node, "a deleted file")

    # --- bitmaps ------------------------------------------------------------------------------------------------------

    def _bitmap(self, resource: Resource) -> bytearray:
        """One byte an item: 1, it is marked used."""
        used, per_entry = bytearray(resource.header.items), resource.header.per_entry
        for entry in range(resource.entries):
            pos = resource.entry_pos(entry)
            data = self.volume.read(pos, on_disk.ENTRY_BYTES)
            header, body = Header.decode(data), BitmapEntry.decode(data)
            total = min(per_entry, resource.header.items - entry * per_entry)
            bits = int.from_bytes(body.bitmap, "little")
            what = f"Entry {entry} of {resource.name}"
            if header.magic != resource.magic or header.pos != pos or body.id != entry or body.total != total:
                self.say("entries", f"{what} is damaged: its header, number or total is not what it should be.")
            elif body.free != bits.bit_count() or bits >> total:
                self.say("entries", f"{what} counts {body.free} free items, its bitmap has {bits.bit_count()}.")
            self._lock(header, what)
            first = entry * per_entry
            for item in range(total):
                used[first + item] = 1 - (bits >> item & 1)
        return used

    def _lock(self, header: Header, what: str) -> None:
        if header.lock == on_disk.LOCK_FREE:
            return
        owner = self.live.get(journal.slot_of(header.hb_pos))
        if owner is None or owner.seq != header.hb_seq or owner.host != header.owner:
            self.report.notes.append(f"{what} has the lock of host {on_disk.uuid_text(header.owner)}, which is gone.")

    def _mark(self, block: int, what: str) -> bool:
        """A block that ``what`` names. ``False``: it cannot be, or was named before."""
        try:
            number = self.catalog.number(block)
        except VmfsDamage as error:
            self.say("block ids", f"{what}: {error}")
            return False
        kind = ids.kind_of(block)
        if self.named[kind][number]:
            self.say("blocks named twice", f"{KIND_NAMES[kind].capitalize()} {number} of {what} is named twice.")
            return False
        self.named[kind][number] = 1
        return True

    def _compare(self) -> None:
        for kind, used in self.used.items():
            named, name = self.named[kind], KIND_NAMES[kind].capitalize()
            if used == named:
                continue
            for number in range(len(used)):
                if named[number] and not used[number]:
                    self.say("blocks marked free", f"{name} {number} is in use and marked free.")
                elif used[number] and not named[number]:
                    self.say(f"lost: {name}", f"{name} {number} is marked used, and nothing names it.")

    # --- the tree -----------------------------------------------------------------------------------------------------

    def _tree(self) -> None:
        root = self.catalog.node(self.volume, ids.ROOT)
        self._mark(ids.ROOT, "the root")
        waiting = [("/", root, root)]
        while waiting:
            path, node, parent = waiting.pop()
            for name, child in self._directory(path, node, parent):
                if child.is_directory:
                    waiting.append((f"{path}{name}/", child, node))

    def _directory(self, path: str, node: Node, parent: Node) -> Iterator[tuple[str, Node]]:
        """Check one; the names in it that are what they should be."""
        self.report.directories += 1
        self._inode(path, node)
        try:
            records = self.catalog.records(self.volume, node)
        except AdminError as error:
            self.say("directories", f"{path}: {error}")
            return
        seen: set[bytes] = set()
        for record in records:
            raw = record_name(record)
            name = raw.decode("utf-8", "replace")
            if raw in seen or not raw or b"/" in raw:
                self.say("names", f"{path}: the name {name!r} is there twice, or is none.")
                continue
            seen.add(raw)
            if raw in (b".", b".."):
                target = node if raw == b"." else parent
                if (record.inode, record.generation) != (target.inode.id, target.inode.generation):
                    self.say("directories", f"{path}: {name!r} means inode {record.inode:#010x}, which is another one.")
                continue
            child = self._child(path + name, record)
            if child is not None:
                yield name, child
        if not {b".", b".."} <= seen:
            self.say("directories", f"{path} has no '.' or no '..'.")

    def _child(self, path: str, record: DirectoryRecord) -> Node | None:
        try:
            node = self.catalog.node_of(self.volume, record)
        except AdminError as error:
            self.say("inodes", f"{path}: {error}")
            return None
        if not self._mark(record.inode, path):
            return None
        if not node.is_directory:
            self.report.files += 1
            self._inode(path, node)
        return node

    def _inode(self, path: str, node: Node) -> None:
        if node.header.pos != node.pos:
            self.say("inodes", f"{path}: its inode says that it lies at {node.header.pos:#x}, it is at {node.pos:#x}.")
        self._lock(node.header, path)
        if node.inode.type not in (on_disk.RDM, on_disk.SYMLINK):
            self._blocks(node, path)

    def _blocks(self, node: Node, what: str) -> None:
        inode, count = node.inode, 0
        expected = SUB_BLOCK if inode.kind == SUB_BLOCK else FILE_BLOCK
        for block in inode.blocks:
            if not block:
                continue
            pointed = [block]
            if inode.kind == POINTER_BLOCK:
                if ids.kind_of(block) != POINTER_BLOCK or not self._mark(block, what):
                    self.say("block ids", f"{what}: {block:#010x} is no pointer block of its own.")
                    continue
                pointed = [each for each in self.catalog.pointers(self.volume, block) if each]
            for each in pointed:
                if ids.kind_of(each) != expected:
                    self.say("block ids", f"{what}: {each:#010x} is no {KIND_NAMES[expected]}.")
                else:
                    count += self._mark(each, what)
        if -(-inode.size // self.catalog.unit_bytes(inode)) < count:
            self.say("sizes", f"{what} has {count} blocks, more than its {inode.size} bytes need.")
