"""A VMFS volume as a datastore, and its files as the files of virtual disks.

::

    virtual disk ── Files ── DatastoreFiles ── VmfsDatastore ── Host ── LUN
       -flat.vmdk  DiskFile                       VmfsDiskFile ── VmfsFile

A file that is opened to be written has its lock on disk for as long as it is open: a second host cannot open it so.
"""

from __future__ import annotations

from pathlib import Path

from vilab.errors import AdminError
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.datastore import inside
from vilab.storage.disk_file import DiskFile
from vilab.storage.vmfs.errors import FileInUse, HostFenced, NoSuchFile
from vilab.storage.vmfs.file import VmfsFile, VmfsReader, open_to_read
from vilab.storage.vmfs.host import Host


class Shared:
    """What the openers of one file on this host have in common: the file, with its lock on disk once one of them
    writes, and who has asked to be alone."""

    def __init__(self) -> None:
        self.written: VmfsFile | None = None
        self.openers: list[VmfsDiskFile] = []
        self.lockers: list[VmfsDiskFile] = []


class VmfsDiskFile(DiskFile):
    """A file on a volume where a file of this computer is expected."""

    def __init__(self, file: VmfsFile | VmfsReader, path: Path, shared: Shared | None = None) -> None:
        self.vmfs, self.path, self.writable = file, path, isinstance(file, VmfsFile)
        self.shared = shared
        self.pread = lambda size_bytes, offset_bytes: file.read(offset_bytes, size_bytes)
        if shared is not None:
            shared.openers.append(self)

    @property
    def size_bytes(self) -> int:
        return self.vmfs.size_bytes

    def _file(self) -> VmfsFile:
        if isinstance(self.vmfs, VmfsReader):
            raise BlockError("read_only", f"{self.path} was opened for reading only.")
        return self.vmfs

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self._file().write(offset_bytes, data)

    def resize(self, size_bytes: int) -> None:
        self._file().truncate(size_bytes)

    def allocate(self, size_bytes: int) -> None:
        self._file().allocate(size_bytes)

    def next_data(self, offset_bytes: int) -> int:
        return self.vmfs.next_data(offset_bytes)

    def sync(self) -> None:
        self._file().flush()

    def lock(self) -> None:
        """One writer or many readers on this host; other hosts' writers are out since a writer has opened it."""
        if self.shared is None or self in self.shared.lockers:
            return
        if self.shared.lockers and (self.writable or any(each.writable for each in self.shared.lockers)):
            raise BlockError(
                "read_only" if self.writable else "medium",
                f"{self.path} is in use: another virtual machine of this host has it open. Power that one off first.",
            )
        self.shared.lockers.append(self)

    def close(self) -> None:
        shared = self.shared
        if shared is None:
            self.vmfs.close()
            return
        for some in (shared.openers, shared.lockers):
            if self in some:
                some.remove(self)
        if shared.written is not None and not any(each.writable for each in shared.openers):
            written, shared.written = shared.written, None
            written.close()


class VmfsDatastore:
    """A mounted volume. Closing it is the host's matter (``Host.leave``)."""

    def __init__(self, host: Host, name: str | None = None) -> None:
        self.host = host
        self.name = name or host.volume.label
        self._shared: dict[tuple[int, int], Shared] = {}

    def _share(self, inode_id: int, generation: int) -> Shared:
        self._shared = {key: each for key, each in self._shared.items() if each.openers}
        return self._shared.setdefault((inode_id, generation), Shared())

    def open(self, path: str, writable: bool = False) -> DiskFile:
        try:
            reader = open_to_read(self.host, _path(path))
            shared = self._share(reader.inode_id, reader.generation)
            if not writable:
                return VmfsDiskFile(reader, Path(path), shared)
            if shared.written is None:
                shared.written = self.host.open_to_write(_path(path))
            return VmfsDiskFile(shared.written, Path(path), shared)
        except (NoSuchFile, FileInUse, HostFenced) as error:
            raise BlockError("medium", f"{path} cannot be opened: {error}") from None

    def create(self, path: str) -> DiskFile:
        file = self.host.create(_path(path))
        shared = self._share(file.inode.id, file.inode.generation)
        shared.written = file
        return VmfsDiskFile(file, Path(path), shared)

    def names(self, folder: str = "") -> list[str]:
        return [entry.name for entry in self.host.list(_path(folder))]

    def exists(self, path: str) -> bool:
        return self.host.exists(_path(path))

    def is_folder(self, path: str) -> bool:
        return self.exists(path) and self.host.stat(_path(path)).is_directory

    def size_bytes(self, path: str) -> int:
        return self.host.stat(_path(path)).size_bytes

    def make_folder(self, path: str) -> None:
        self.host.mkdir(_path(path))

    def rename(self, path: str, to: str) -> None:
        self.host.rename(_path(path), _path(to))

    def remove(self, path: str) -> None:
        if not inside(path):
            raise AdminError(f"The root of {self.name!r} stays where it is.")
        if self.is_folder(path):
            self.host.rmdir(_path(path))
        else:
            self.host.remove(_path(path))

    def sync(self, folder: str = "") -> None:
        """A change of names is on the disk when it returns."""

    def space(self) -> tuple[int, int]:
        return self.host.space()


def _path(path: str) -> str:
    return "/" + "/".join(inside(path))
