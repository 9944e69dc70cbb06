"""The files of an export as disks need them: the same door as a local folder's (``disk_file.Files``).

::

    create     CREATE, exclusive                          one of many gets the name
    replace    CREATE .vilab-1f.. | WRITE, stable | RENAME    after a crash of anybody: the old content or the new
    remove     REMOVE

When the connection breaks between a change of names and its answer, what is there now says whether it was made.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from pathlib import Path

from vilab.storage.block import BlockError
from vilab.storage.disk_file import DiskFile, Files
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.file import FileHooks, NfsFile, asking
from vilab.storage.nfs.layout import REGULAR


class NfsFiles(Files):
    """Paths are below the export: ``Path("vm1/vm1.vmdk")``; a leading ``/`` means the same."""

    def __init__(self, client: NfsClient, hooks: FileHooks | None = None) -> None:
        self.client = client
        self.hooks = FileHooks() if hooks is None else hooks

    def open(self, path: Path, writable: bool = False) -> DiskFile:
        with asking(self.hooks):
            handle, about = self.client.lookup(path.as_posix())
            if about.kind != REGULAR:
                raise BlockError("medium", f"{path.as_posix()} cannot be opened: it is not a file.")
        return NfsFile(self.client, path, handle, writable, self.hooks)

    def create(self, path: Path) -> DiskFile:
        with asking(self.hooks):
            self.hooks.before_write(path)
            handle = self.client.create(path.as_posix())
        return NfsFile(self.client, path, handle, True, self.hooks)

    def exists(self, path: Path) -> bool:
        with asking(self.hooks):
            return self._fileid(path.as_posix()) is not None

    def names(self, folder: Path) -> list[str]:
        with asking(self.hooks):
            return sorted(self.client.list(folder.as_posix()))

    def resolve(self, path: Path) -> Path:
        return Path(posixpath.normpath("/" + path.as_posix().lstrip("/")))

    def replace(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".vilab-{secrets.token_hex(8)}")
        with asking(self.hooks):
            self.hooks.before_write(path)
            try:
                handle = self.client.create(temporary.as_posix())
                self.client.write(handle, 0, content, stable=True, what=path.as_posix())
                self._rename(temporary.as_posix(), path.as_posix())
            except NfsError:
                with contextlib.suppress(NfsError):
                    self.client.remove(temporary.as_posix())
                raise

    def rename(self, path: Path, to: Path) -> None:
        with asking(self.hooks):
            self.hooks.before_write(path)
            self._rename(path.as_posix(), to.as_posix())

    def remove(self, path: Path) -> None:
        with asking(self.hooks):
            self.hooks.before_write(path)
            for _ in range(3):
                try:
                    self.client.remove(path.as_posix())
                except NfsError as error:
                    if error.kind == "missing":
                        return
                    if error.kind == "uncertain":
                        continue
                    raise
                return
            raise NfsError("away", f"{path.as_posix()} was not removed: the connection broke again and again.")

    def sync_folder(self, folder: Path) -> None:
        """Nothing: an NFS server answers a change of names when it is on its disk."""

    def _rename(self, path: str, to: str) -> None:
        fileid = self._fileid(path)
        for _ in range(3):
            try:
                self.client.rename(path, to)
            except NfsError as error:
                if error.kind == "missing" and self._fileid(to) == fileid is not None:
                    return
                if error.kind == "uncertain":
                    continue
                raise
            return
        raise NfsError("away", f"{path} was not renamed: the connection broke again and again.")

    def _fileid(self, path: str) -> int | None:
        try:
            return self.client.lookup(path)[1].fileid
        except NfsError as error:
            if error.kind == "missing":
                return None
            raise
