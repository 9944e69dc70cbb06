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
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.descriptor import Descriptor
from vilab.storage.disk_file import DiskFile
from vilab.storage.nfs_client import NfsClient, Volume
from vilab.storage.nfs_errors import NfsError
from vilab.storage.nfs_events import NfsWritesRepeated
from vilab.storage.nfs_file import FileHooks, asking
from vilab.storage.nfs_files import NfsFiles
from vilab.storage.nfs_health import Health, HeartbeatSettings, State
from vilab.storage.nfs_layout import Attributes
from vilab.storage.redo_log import SnapshotDisk
from vilab.storage.vmdk_create import Space, create


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
    """One export under a name.

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

    # --- files --------------------------------------------------------------------------------------------------------

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        return self.files.open(path, writable)

    def create(self, path: Path) -> DiskFile:
        return self.files.create(path)

    def list(self, folder: Path) -> dict[str, Attributes]:
        """The names in a folder, with what the server says of each."""
        with asking(self.hooks):
            found: dict[str, Attributes] = {}
            for name, about in self.client.list(folder.as_posix()).items():
                try:
                    path = (folder / name).as_posix()
                    found[name] = self.client.lookup(path)[1] if about is None else about
                except NfsError as error:
                    if error.kind not in ("missing", "stale"):
                        raise
            return found

    def rename(self, path: Path, to: Path) -> None:
        self.files.rename(path, to)

    def delete(self, path: Path) -> None:
        self.files.remove(path)

    def make_folder(self, path: Path) -> None:
        with asking(self.hooks):
            self.client.mkdir(path.as_posix())

    def delete_folder(self, path: Path) -> None:
        with asking(self.hooks):
            self.client.rmdir(path.as_posix())

    def volume(self) -> Volume:
        """Sizes of the file system behind the export."""
        with asking(self.hooks):
            return self.client.volume()

    # --- disks --------------------------------------------------------------------------------------------------------

    def create_disk(self, path: Path, size_bytes: int, create_type: str = "vmfs", space: Space = "thin") -> Descriptor:
        return create(path, size_bytes // SECTOR_BYTES, create_type, space, files=self.files)

    def open_disk(self, path: Path) -> SnapshotDisk:
        """The disk with its snapshots, to read and write."""
        return SnapshotDisk(path, self.files, self.log)

    def close(self) -> None:
        self.health.stop()
        self.client.close()
