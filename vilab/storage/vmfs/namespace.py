"""Looking at a volume: lists, sizes, content. Common to a host and to whoever only reads.

Other hosts go on meanwhile. Whatever is read is looked at twice: the metadata headers on the way have to be the same
afterwards (their ``obj_seq`` counts changes), and nobody may have had a change under way. Otherwise: once more.

::

    headers ─ directories, inodes, data ─ no journal active ─ the same headers    -> what was read is one state
                                             └───── else ─────┘ -> again
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from vilab.errors import AdminError
from vilab.protocols import BlockDevice
from vilab.storage.vmfs import journal
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK
from vilab.storage.vmfs.catalog import Catalog, Node, record_name
from vilab.storage.vmfs.errors import NoSuchFile, VmfsDamage
from vilab.storage.vmfs.layout import SECTOR, BitmapEntry, Heartbeat
from vilab.storage.vmfs.volume import Volume

T = TypeVar("T")
MOST_TRIES = 1000
_LIVE = on_disk.HEARTBEAT_LIVE.to_bytes(4, "little")


class Entry(msgspec.Struct, frozen=True):
    """One name, as ``ls -l`` shows it. ``type`` as in the inode: 2 directory, 3 file, 4 link, 5 system, 6 RDM."""

    name: str
    type: int
    size_bytes: int
    allocated_bytes: int
    mode: int
    links: int
    changed_s: int
    inode: int
    owner: bytes

    @property
    def is_directory(self) -> bool:
        return self.type == on_disk.DIRECTORY


class Namespace:
    """Names and content of an open volume."""

    volume: Volume
    catalog: Catalog

    def _look(self, node: Node) -> None:
        """Raise ``Held`` where a dead host's change would have to be finished first."""

    def _begin(self) -> None:
        """Before each look."""

    def _patiently(self, operation: Callable[[], T]) -> T:
        return operation()

    def _settled(self, read: Callable[[Callable[[Node], None]], T]) -> T:
        """``read(look)`` calls ``look`` for every node that it relies on; its result is of one moment."""

        def attempt() -> T:
            for _ in range(MOST_TRIES):
                self._begin()
                seen: list[Node] = []

                def look(node: Node, seen: list[Node] = seen) -> None:
                    self._look(node)
                    seen.append(node)

                try:
                    result = read(look)
                except (VmfsDamage, NoSuchFile):
                    if self._unchanged(seen):
                        raise
                    continue
                if self._unchanged(seen):
                    return result
            raise AdminError("The volume changes faster than it can be read; try again.")

        return self._patiently(attempt)

    def _unchanged(self, seen: list[Node]) -> bool:
        for node in seen:
            self._look(node)
        return all(self.volume.read(node.pos, SECTOR) == node.header.raw for node in seen)

    # --- what there is ------------------------------------------------------------------------------------------------

    def list(self, path: str = "/") -> list[Entry]:
        """What is in a directory, in order of names; system files too, ``.`` and ``..`` not."""

        def read(look: Callable[[Node], None]) -> list[Entry]:
            node = self.catalog.find(self.volume, path, look)
            if not node.is_directory:
                raise AdminError(f"{path} is not a directory.")
            entries = []
            for record in self.catalog.records(self.volume, node):
                name = record_name(record)
                if name not in (b".", b".."):
                    entries.append(
                        self._entry(name.decode("utf-8", "replace"), self.catalog.node_of(self.volume, record))
                    )
            return sorted(entries, key=lambda entry: entry.name)

        return self._settled(read)

    def stat(self, path: str) -> Entry:
        def read(look: Callable[[Node], None]) -> Entry:
            name = path.rstrip("/").rsplit("/", 1)[-1] or "/"
            return self._entry(name, self.catalog.find(self.volume, path, look))

        return self._settled(read)

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except NoSuchFile:
            return False
        return True

    def _entry(self, name: str, node: Node) -> Entry:
        inode = node.inode
        return Entry(
            name,
            inode.type,
            inode.size,
            inode.block_count * self.catalog.unit_bytes(inode),
            inode.mode,
            inode.links,
            inode.changed_s,
            inode.id,
            node.header.owner if node.header.lock else on_disk.UNOWNED,
        )

    def space(self) -> tuple[int, int]:
        """(bytes in all, bytes in free file blocks)."""
        resource = self.catalog.resources[FILE_BLOCK]
        free = 0
        for entry in range(resource.entries):
            free += BitmapEntry.decode(self.volume.read(resource.entry_pos(entry), on_disk.ENTRY_BYTES)).free
        return self.volume.blocks * self.volume.block_bytes, free * self.volume.block_bytes

    def heartbeats(self) -> dict[int, Heartbeat]:
        """By slot: the hosts that use the volume."""
        size = on_disk.HEARTBEAT_SLOTS * SECTOR
        data = self.volume.read(on_disk.HEARTBEATS_AT, size)
        live = [n for n in range(on_disk.HEARTBEAT_SLOTS) if data[n * SECTOR : n * SECTOR + 4] == _LIVE]
        return {n: Heartbeat.decode(data[n * SECTOR : (n + 1) * SECTOR]) for n in live}


class ReadOnlyVolume(Namespace):
    """A volume without being a host on it. Nothing is written; changes that a dead host had made certain are seen as
    if they had been replayed."""

    def __init__(self, device: BlockDevice) -> None:
        self.volume = Volume(device)
        self._begin()
        self.catalog = Catalog(self.volume)

    def _begin(self) -> None:
        self.volume.overlay = {}
        self.volume.overlay = self.pending()

    def pending(self) -> dict[int, bytes]:
        """What the journals of live hosts would change."""
        sectors: dict[int, bytes] = {}
        slots = self.volume.read(on_disk.HEARTBEATS_AT, journal.JOURNAL_SLOTS * SECTOR)
        for slot in range(journal.JOURNAL_SLOTS):
            heartbeat = slots[slot * SECTOR : (slot + 1) * SECTOR]
            if heartbeat.startswith(_LIVE):
                self._add_pending(slot, Heartbeat.decode(heartbeat), sectors)
        return sectors

    def _add_pending(self, slot: int, heartbeat: Heartbeat, sectors: dict[int, bytes]) -> None:
        if journal.has_journal(slot, heartbeat, self.volume.block_bytes):
            found = journal.pending(self.volume, slot, heartbeat)
            journal.check_places(self.volume, found)
            sectors |= found
