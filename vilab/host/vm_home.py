"""The folder of a virtual machine: its configuration file, and who has the machine powered on.

::

    web.vmx            the configuration, replaced as a whole
    web.vmx.lck        "esx1" and "web", open and locked by the host that has it powered on; empty otherwise
    web.vmdk ...       its disks

Who comes second is told who has it. What the lock is depends on the datastore: the operating system's on a local one,
the file's lock on disk on VMFS, ``.lck-`` files on NFS.

MODEL: ESX has such a lock on the .vmx file itself; that is replaced here, and the lock with it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from vilab.errors import AdminError
from vilab.host import vmx
from vilab.host.datastore_path import DatastorePath, is_datastore_path, parse_path
from vilab.host.mounted import Mounted
from vilab.host.storage import HostStorage
from vilab.host.vmx import Vmx
from vilab.storage.block import BlockError
from vilab.storage.disk_file import DiskFile, Files
from vilab.storage.still_held import StillHeld

MOST_BYTES = 1 << 20


class VmHome:
    """Where a machine lives. ``where``: ``[datastore1] web/web.vmx``, or a file of this computer.

    ``mounted`` is ``None`` for a folder that is in no datastore; its files are the computer's own then. ``AdminError``
    for what cannot be a file.
    """

    def __init__(self, storage: HostStorage, where: str | Path) -> None:
        self.storage, self.where = storage, str(where)
        self.mounted: Mounted | None = None
        self.files: Files
        if isinstance(where, str) and is_datastore_path(where):
            self.mounted, path, self.config = storage.place(where)
            self.files, self.where = self.mounted.files, str(path)
        else:
            if "\0" in self.where or Path(where).name in ("", ".."):
                raise AdminError(
                    f"{self.where!r} is not the configuration file of a machine, which is one like [datastore1] "
                    "web/web.vmx."
                )
            self.files, self.config = storage.own_files, Path(where).absolute()

    @property
    def folder(self) -> Path:
        return self.config.parent

    @property
    def name(self) -> str:
        return self.config.name.removesuffix(".vmx")

    @property
    def lock_path(self) -> Path:
        return self.config.with_name(self.config.name + ".lck")

    @property
    def handover_path(self) -> Path:
        """What two hosts write down while one hands the machine over to the other."""
        return self.config.with_name(self.name + ".handover")

    def local_path(self) -> Path | None:
        """The configuration file on this computer, if that is where it is."""
        from vilab.storage.datastore import LocalDatastore

        if self.mounted is None:
            return self.config
        datastore = self.mounted.datastore
        return datastore.place(parse_path(self.where).path) if isinstance(datastore, LocalDatastore) else None

    def read(self) -> Vmx:
        """``AdminError``: it cannot be read, or is no configuration file."""
        if self.mounted is None:
            return vmx.load(self.config)
        file = self.files.open(self.config)
        try:
            data = file.read_some(0, MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise AdminError(f"{self.where} has more than {MOST_BYTES} bytes: that is no configuration file.")
            return vmx.parse(data, self.where)
        finally:
            file.close()

    def write(self, config: Vmx) -> None:
        """All of it, in one step."""
        if self.mounted is None:
            vmx.save(config, self.config)
        else:
            self.files.replace(self.config, vmx.write(config))

    def find(self, file_name: str) -> tuple[Mounted | None, Files, Path]:
        """The disk that the configuration calls so."""
        if is_datastore_path(file_name):
            mounted, _, place = self.storage.place(file_name)
            return mounted, mounted.files, place
        if self.mounted is None:
            return None, self.files, self.folder / file_name
        own = parse_path(self.where)
        path = DatastorePath(own.datastore, f"{own.folder}/{file_name}" if own.folder else file_name)
        mounted, _, place = self.storage.place(str(path))
        return mounted, mounted.files, place


class PowerLock:
    """Who has a machine powered on. ``prepare`` and ``take`` before anything of it is opened, ``give_back`` when all is
    closed."""

    def __init__(self, home: VmHome, host: str) -> None:
        self.home, self.host = home, host
        self._file: DiskFile | None = None

    def prepare(self) -> None:
        """There is a file that can be locked."""
        path, files = self.home.lock_path, self.home.files
        if not files.exists(path):
            with contextlib.suppress(AdminError):  # somebody else was quicker
                files.create(path).close()

    def take(self) -> None:
        """``AdminError``, with the name of who has it."""
        path, files = self.home.lock_path, self.home.files
        file: DiskFile | None = None
        try:
            file = files.open(path, writable=True)
            file.lock()
        except AdminError as error:
            if file is not None:
                file.close()
            if isinstance(error, StillHeld):
                raise
            raise self._refused(error) from None
        self._file = file
        words = f"{self.host}\n".encode()
        try:
            file.write(0, words)
            file.resize(len(words))
        except BlockError as error:  # a full datastore: what counts is the lock, the name is for who is refused
            if error.kind != "no_space":
                raise

    def _refused(self, error: AdminError) -> AdminError:
        holder = ""
        with contextlib.suppress(AdminError):
            file = self.home.files.open(self.home.lock_path)
            holder = file.read_some(0, 200).decode("utf-8", "replace").strip()
            file.close()
        if not holder:
            return error
        return AdminError(
            f"{self.home.where} is powered on already, on host {holder}, or is being moved or cloned there. Power it "
            f"off there, or wait. ({error})"
        )

    def give_back(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.resize(0)
            finally:
                file.close()
