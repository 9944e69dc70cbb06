"""A datastore: a place for the files of virtual machines, whatever it is made of.

::

    LocalDatastore   a folder of this computer                      the embedded datastore, the default
    VmfsDatastore    a host's view of a VMFS volume                 ``vmfs.datastore``
    (NFS)            a folder of a server

    "vm/vm.vmdk"     a path in a datastore: names with slashes between them, down from its root, never out of it

``files_of`` makes of any of them the ``Files`` that virtual disks are opened through: there a path is absolute, below a
root that stands for the datastore.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Protocol

from vilab.errors import AdminError
from vilab.storage.block import BlockError
from vilab.storage.disk_file import REAL_FILES, DiskFile, Files
from vilab.storage.still_held import StillHeld

LONGEST_NAME_BYTES = 255


class Datastore(Protocol):
    """Files by paths. All raise ``AdminError``: no such file, no room, in use, a path that leaves the root."""

    @property
    def name(self) -> str: ...

    def open(self, path: str, writable: bool = False) -> DiskFile:
        """A file that is there; its ``lock`` keeps others out; of other hosts, on VMFS, ``open`` does already."""
        ...

    def create(self, path: str) -> DiskFile:
        """A new, empty one, open for writing."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """What is in a folder, in order."""
        ...

    def exists(self, path: str) -> bool: ...

    def is_folder(self, path: str) -> bool: ...

    def size_bytes(self, path: str) -> int: ...

    def make_folder(self, path: str) -> None: ...

    def rename(self, path: str, to: str) -> None:
        """Take the place of what is there, if that is a file, in one step that a crash cannot split."""
        ...

    def remove(self, path: str) -> None:
        """A file, or an empty folder."""
        ...

    def sync(self, folder: str = "") -> None:
        """Names that were made or changed there are not lost."""
        ...

    def space(self) -> tuple[int, int]:
        """(bytes in all, bytes free)."""
        ...


def inside(path: str) -> list[str]:
    """The names that a path in a datastore consists of. ``AdminError`` if it would leave the datastore."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    for name in names:
        if name == ".." or "\\" in name or "\0" in name or len(name.encode("utf-8", "replace")) > LONGEST_NAME_BYTES:
            raise AdminError(f"{path!r} is refused: a path in a datastore leads down from its root, by plain names.")
    return names


class LocalDatastore:
    """A folder of this computer. Links in it that lead out of it are refused."""

    def __init__(self, root: Path, name: str = "local") -> None:
        self.name = name
        try:
            self.root = root.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise AdminError(f"The datastore {name!r} cannot be opened: {root}: {_reason(error)}.") from None
        if not self.root.is_dir():
            raise AdminError(f"The datastore {name!r} cannot be opened: {root} is not a folder.")

    def place(self, path: str) -> Path:
        """Where the file is on this computer."""
        wanted = self.root.joinpath(*inside(path))
        try:
            # What a link leads to counts, and of a file that is not there yet the folder.
            real = wanted.resolve()
        except (OSError, RuntimeError) as error:
            raise AdminError(f"{path!r} cannot be followed: {_reason(error)}.") from None
        if not real.is_relative_to(self.root):
            raise AdminError(f"{path!r} is refused: a link leads out of the datastore {self.name!r}.")
        return real

    def open(self, path: str, writable: bool = False) -> DiskFile:
        return REAL_FILES.open(self.place(path), writable)

    def create(self, path: str) -> DiskFile:
        return REAL_FILES.create(self.place(path))

    def names(self, folder: str = "") -> list[str]:
        try:
            return REAL_FILES.names(self.place(folder))
        except OSError as error:
            raise AdminError(f"{folder or '/'} of {self.name!r} cannot be listed: {_reason(error)}.") from None

    def exists(self, path: str) -> bool:
        return self.place(path).exists()

    def is_folder(self, path: str) -> bool:
        return self.place(path).is_dir()

    def size_bytes(self, path: str) -> int:
        try:
            return self.place(path).stat().st_size
        except OSError as error:
            raise AdminError(f"{path} of {self.name!r} cannot be looked at: {_reason(error)}.") from None

    def make_folder(self, path: str) -> None:
        try:
            self.place(path).mkdir()
        except OSError as error:
            raise AdminError(f"The folder {path} of {self.name!r} cannot be made: {_reason(error)}.") from None

    def rename(self, path: str, to: str) -> None:
        try:
            REAL_FILES.rename(self.place(path), self.place(to))
        except OSError as error:
            raise AdminError(f"{path} of {self.name!r} cannot become {to}: {_reason(error)}.") from None

    def remove(self, path: str) -> None:
        place = self.place(path)
        if place == self.root:
            raise AdminError(f"The root of {self.name!r} stays where it is.")
        try:
            place.rmdir() if place.is_dir() else place.unlink()
        except OSError as error:
            raise AdminError(f"{path} of {self.name!r} cannot be removed: {_reason(error)}.") from None
        REAL_FILES.sync_folder(place.parent)

    def sync(self, folder: str = "") -> None:
        REAL_FILES.sync_folder(self.place(folder))

    def space(self) -> tuple[int, int]:
        import shutil

        found = shutil.disk_usage(self.root)
        return found.total, found.free


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class DatastoreFiles(Files):
    """A datastore as the file system of virtual disks: ``ROOT / "vm" / "vm.vmdk"`` is ``vm/vm.vmdk`` in it."""

    ROOT = Path("/vmfs")

    def __init__(self, datastore: Datastore) -> None:
        self.datastore = datastore
        self.root = self.ROOT / datastore.name

    def at(self, path: str) -> Path:
        """The ``Path`` that stands for a path in the datastore."""
        return self.root.joinpath(*inside(path))

    def _inside(self, path: Path) -> str:
        found = Path(os.path.normpath(path))
        if not found.is_relative_to(self.root):
            raise AdminError(f"{path} is refused: it lies outside of the datastore {self.datastore.name!r}.")
        return PurePosixPath(found.relative_to(self.root)).as_posix().removeprefix(".")

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        return self.datastore.open(self._inside(path), writable)

    def create(self, path: Path) -> DiskFile:
        return self.datastore.create(self._inside(path))

    def exists(self, path: Path) -> bool:
        return self.datastore.exists(self._inside(path))

    def names(self, folder: Path) -> list[str]:
        return self.datastore.names(self._inside(folder))

    def resolve(self, path: Path) -> Path:
        return Path(os.path.normpath(path))

    def replace(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".vilab-{os.urandom(6).hex()}")
        try:
            file = self.create(temporary)
            try:
                file.write(0, content)
                file.sync()
            finally:
                file.close()
            self.rename(temporary, path)
        except AdminError as error:
            if self.exists(temporary):
                self.datastore.remove(self._inside(temporary))
            if isinstance(error, StillHeld):
                raise
            kind = error.kind if isinstance(error, BlockError) else "medium"
            raise BlockError(kind, f"{path} cannot be written: {error}") from None

    def rename(self, path: Path, to: Path) -> None:
        self.datastore.rename(self._inside(path), self._inside(to))

    def remove(self, path: Path) -> None:
        if self.exists(path):
            self.datastore.remove(self._inside(path))

    def sync_folder(self, folder: Path) -> None:
        self.datastore.sync(self._inside(folder))
