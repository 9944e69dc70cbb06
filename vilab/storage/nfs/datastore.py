"""A datastore on a file server.

::

    virtual disk ── disk chain ── NfsFiles ── NfsClient ── TCP ──> server
                                     │
                     VmLocks ────────┤ may this host write to the file?      (nfs_locks)
                     Health ─────────┘ does the server answer?               (nfs_health)

Disks are thin unless they are asked to be filled with zeros: the server gives space as it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.storage.block import SECTOR_BYTES, BlockError
from vilab.storage.datastore import inside
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.descriptor import Descriptor
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_create import Space, create
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.events import NfsWritesRepeated
from vilab.storage.nfs.file import FileHooks, asking
from vilab.storage.nfs.files import NfsFiles
from vilab.storage.nfs.health import Health, HeartbeatSettings, State
from vilab.storage.nfs.layout import Attributes


class WriteGuard(Protocol):
    """Who says whether this host may write to a file now."""

    def check(self, path: Path) -> None:
        """``BlockError`` if the file has been taken over by another host."""
        ...


class _Hooks(FileHooks):
    def __init__(self, datastore: NfsDatastore) -> None:
        self.datastore = datastore

    def before(self) -> None:
        self.datastore.health.check()

    def heard(self) -> None:
        self.datastore.health.heard()

    def before_write(self, path: Path) -> None:
        for guard in self.datastore.guards:
            guard.check(path)

    def repeated(self, path: Path, writes: int, size_bytes: int) -> None:
        datastore = self.datastore
        if datastore.log is not None and datastore.log.active:
            datastore.log.emit(NfsWritesRepeated(datastore.clock.now_ns, path.as_posix(), writes, size_bytes))


class NfsDatastore:
    """One export under a name: a ``datastore.Datastore`` that can do more.

    Parameters
    ----------
    clock : of the host. Heartbeats begin with ``health.start()``.

    Raises
    ------
    BlockError : ``away`` while the server does not answer, else what the server has to say.
    """

    def __init__(
        self,
        name: str,
        client: NfsClient,
        clock: VirtualClock,
        log: EventLog | None = None,
        settings: HeartbeatSettings | None = None,
    ) -> None:
        self.name, self.client, self.clock, self.log = name, client, clock, log
        self.health = Health(name, client, clock, settings or HeartbeatSettings(), log)
        self.guards: list[WriteGuard] = []
        self.hooks = _Hooks(self)
        self.files = NfsFiles(client, self.hooks)

    @property
    def state(self) -> State:
        return self.health.state

    # --- files: what every datastore can (``datastore.Datastore``) ----------------------------------------------------

    def open(self, path: str, writable: bool = False) -> DiskFile:
        """Who may write is settled by ``locks``, for all of a virtual machine's files."""
        return self.files.open(place(path), writable)

    def create(self, path: str) -> DiskFile:
        return self.files.create(place(path))

    def names(self, folder: str = "") -> list[str]:
        return self.files.names(place(folder))

    def exists(self, path: str) -> bool:
        return self.files.exists(place(path))

    def about(self, path: str) -> Attributes:
        """What the server says of a file or folder."""
        with asking(self.hooks):
            return self.client.lookup("/".join(inside(path)))[1]

    def is_folder(self, path: str) -> bool:
        try:
            with asking(self.hooks):
                return self.client.lookup("/".join(inside(path)))[1].is_folder
        except BlockError as error:
            if error.kind == "away":
                raise
            return False

    def size_bytes(self, path: str) -> int:
        return self.about(path).size_bytes

    def make_folder(self, path: str) -> None:
        with asking(self.hooks):
            self.client.mkdir("/".join(inside(path)))

    def rename(self, path: str, to: str) -> None:
        self.files.rename(place(path), place(to))

    def remove(self, path: str) -> None:
        """A file, or an empty folder."""
        if self.about(path).is_folder:
            with asking(self.hooks):
                self.client.rmdir("/".join(inside(path)))
        else:
            self.files.remove(place(path))

    def sync(self, folder: str = "") -> None:
        """Nothing: the server answers a change of names when it is on its disk."""

    def space(self) -> tuple[int, int]:
        """(bytes in all, bytes free) of the file system behind the export."""
        with asking(self.hooks):
            volume = self.client.volume()
        return volume.total_bytes, volume.available_bytes

    # --- disks --------------------------------------------------------------------------------------------------------

    def create_disk(self, path: str, size_bytes: int, create_type: str = "vmfs", space: Space = "thin") -> Descriptor:
        return create(place(path), size_bytes // SECTOR_BYTES, create_type, space, files=self.files)

    def open_disk(self, path: str) -> SnapshotDisk:
        """The disk with its snapshots, to read and write."""
        return SnapshotDisk(place(path), self.files, self.log)

    def close(self) -> None:
        self.health.stop()
        self.client.close()


def place(path: str) -> Path:
    """The ``Path`` that stands for it in ``NfsDatastore.files``."""
    return Path("/".join(inside(path)))
