"""A machine that is off, or suspended, and its folder: locked as at a power-on, its files open to be read.

::

    web.vmx          the configuration: ``config``
    web.vmdk ...     every other file that is the machine's: ``files``, by name
    web.vmx.lck      taken: nobody runs it meanwhile
    web-1f2e.vswp    not the machine's: what a host needs while the machine is on

Nobody who asks for a lock can write to one of the files as long as it is open here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from vilab.errors import AdminError
from vilab.host.datastore_path import is_datastore_path
from vilab.host.vm_departure import check_departure, read_departure
from vilab.host.vm_home import PowerLock, VmHome
from vilab.host.vm_move import FROM, read_record, settle
from vilab.host.vmx_disks import adapters_of, set_file
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.descriptor import PHYSICAL_MAPPING, VIRTUAL_MAPPING
from vilab.storage.disks.disk_chain import open_chain


class FolderLock:
    """Nobody else powers on, moves or removes what is in the folder. ``lost``: a sentence, once that is not so any
    more.

    Raises
    ------
    AdminError : somebody else has it; nothing is held then.
    """

    def __init__(self, home: VmHome, name: str, files: tuple[str, ...] = ()) -> None:
        self.home, self.name, self.lost = home, name, ""
        self._power = PowerLock(home, home.storage.host)
        self._give_back: Callable[[], None] = lambda: None
        self._held = False
        mounted = home.mounted
        if mounted is None:
            raise AdminError(
                f"{name} is in no datastore of {home.storage.host}, but in {home.folder}; add that folder as one."
            )
        self._mounted = mounted
        self._power.prepare()
        paths = [home.lock_path, *(home.folder / each for each in files)]
        self._give_back = mounted.lock([mounted.path_of(path) for path in paths], lambda path: self._lock_lost(path))
        try:
            self._power.take()
        except BaseException:
            with contextlib.suppress(AdminError, OSError):
                self._power.give_back()
            self._give_back()
            raise
        self._held = True
        mounted.users.append(self)

    def _lock_lost(self, path: str) -> None:
        self.lose(f"another host has taken over the lock of {path}, which was not renewed.")

    def lose(self, sentence: str) -> None:
        """What is there is somebody else's by now."""
        self.lost = self.lost or sentence

    def close(self) -> None:
        """Give it back. Again: nothing happens. ``AdminError``, ``OSError``: it could not be."""
        if not self._held:
            return
        self._held = False
        self._mounted.users.remove(self)
        try:
            if not self.lost:
                self._power.give_back()
        finally:
            self._give_back()

    def abandon(self) -> None:
        """The host has no power any more."""
        if self._held:
            self._held = False
            self._mounted.users.remove(self)


class OffFolder:
    """Parameters
    ----------
    home : of the machine.
    purpose : for the sentences, ``web was not moved to esx2``.

    Raises
    ------
    AdminError : it is on, or somebody has one of its files open to write; it was moved away; it has a disk that is not
        in the folder. Nothing stays open.
    """

    def __init__(self, home: VmHome, purpose: str) -> None:
        self.home, self._purpose = home, purpose
        self.files: dict[str, DiskFile] = {}
        if home.mounted is not None and home.folder == home.mounted.root:
            raise self._refused(f"it lies in the root of {home.mounted.name}, and not in a folder of its own.")
        home.read()
        disks = tuple(each for each in home.files.names(home.folder) if each.endswith(".vmdk"))
        self.lock = FolderLock(home, home.name, disks)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _refused(self, why: str) -> AdminError:
        return AdminError(f"{self._purpose}: {why}")

    def _open(self) -> None:
        home = self.home
        check_departure(home)
        kept = read_departure(home)
        if kept is not None:
            raise self._refused(
                f"what was on its way to {kept.to} on {kept.host} has to be withdrawn there first; let "
                f"{home.storage.host} ask {kept.host}."
            )
        if settle(home) is not None or read_record(home) is not None:
            raise self._refused("an earlier move of it was cut short; power it on and off once, which ends that.")
        self.config = home.read()
        if self.config.get(FROM) is not None:
            raise self._refused(f"what is left of it in {self.config.get(FROM)} has to go; power it on and off once.")
        self._check_disks()
        for name in self.names():
            file = home.files.open(home.folder / name)
            self.files[name] = file
            file.lock()

    def _check_disks(self) -> None:
        """In the folder, all of them, and called by their names alone."""
        home = self.home
        for disk in (disk for each in adapters_of(self.config) for disk in each.disks):
            mounted, files, path = home.find(disk.file_name)
            where = f"{disk.node} ({disk.file_name})"
            if mounted is not home.mounted or path.parent != home.folder:
                raise self._refused(f"{where} is not in the machine's folder; put it there first.")
            with contextlib.ExitStack() as stack:
                chain = stack.enter_context(open_chain(path, files=files))
                kinds = {link.descriptor.create_type for link in chain.links}
                outside = [link.path for link in chain.links if link.path.parent != home.folder]
            if kinds & {PHYSICAL_MAPPING, VIRTUAL_MAPPING}:
                raise self._refused(f"{where} is a raw device mapping, whose LUN stays where it is; take it out first.")
            if outside:
                raise self._refused(f"{outside[0]}, which {where} is based on, is not in the machine's folder.")
            if is_datastore_path(disk.file_name):
                set_file(self.config, disk.node, path.name)

    def names(self) -> list[str]:
        """The machine's files there now, without its configuration."""
        home, mounted = self.home, self.home.mounted
        assert mounted is not None
        found = []
        for name in home.files.names(home.folder):
            if mounted.datastore.is_folder(mounted.path_of(home.folder / name)):
                continue
            if name.endswith(".vmx") and name != home.config.name:
                raise self._refused(f"{name} in its folder is another machine's.")
            if not belongs_to_host(name, home):
                if not _is_text(name):
                    raise self._refused(f"the name of its file {name!r} is no text, which cannot be sent; rename it.")
                found.append(name)
        return found

    def close(self) -> None:
        """Everything is given back."""
        for file in self.files.values():
            file.close()
        self.files.clear()
        if hasattr(self, "lock"):
            self.lock.close()


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def belongs_to_host(name: str, home: VmHome) -> bool:
    """The configuration, its locks and notes, and what only a host needs that has the machine on."""
    return (
        name in (home.config.name, home.handover_path.name)
        or name.startswith((f"{home.config.name}.", f"{home.config.name}~", ".lck-", ".vilab-"))
        or name.endswith((".vswp", ".vmsd.lock"))
    )
