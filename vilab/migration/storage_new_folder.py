"""The folder at the destination: made, filled with what is small, its disks empty, locked as at a power-on.

::

    web.vmx.moving     the configuration, which gets its name at the end
    web.vmdk           of the same kind and size, and empty; one disk, whatever chain it was at the source
    web.vmsd           the list of snapshots (none are in it, but the numbers that it has given)
    web.nvram, ...     every other file of the folder, in steps like the disks

It is opened as any machine's disks are (``VmDisks``), so that no other host gets at it while it is being filled.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import msgspec

from vilab.errors import AdminError
from vilab.host.hosted_disk import HostedDisk
from vilab.host.mounted import Mounted
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_move import FROM, NUMBER, ArrivingHome, MoveRecord
from vilab.host.vmx_disks import set_file
from vilab.migration.storage_copy import Copier, Pair
from vilab.migration.storage_files import check_free, copy_file, make_disk_like, make_folders
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks import vmsd
from vilab.storage.disks.disk_chain import DiskChain


class NewFolder:
    """Parameters
    ----------
    source : the machine's disks as they are.
    mounted : the datastore to move to.

    Raises
    ------
    AdminError : there is something there already, there is no room, or it cannot be written. Nothing is left there that
        the record in the old folder does not know.
    """

    def __init__(self, source: VmDisks, mounted: Mounted, redo_logs: bool) -> None:
        self.source = source
        own = source.home
        assert own.mounted is not None
        folder = own.mounted.path_of(own.folder)
        folder = own.name if folder == "." else folder
        self.home = ArrivingHome(own.storage, f"[{mounted.name}] {folder}/{own.config.name}")
        self.record = MoveRecord(secrets.token_hex(8), self.home.where, redo_logs=redo_logs)
        self.mounted, self.folder = mounted, folder
        self._open: list[DiskFile] = []
        self._names = self._new_names()
        self._others = self._other_files()
        self._must_be_free()

    # --- what there will be -------------------------------------------------------------------------------------------

    def _chains(self) -> dict[str, DiskChain]:
        found: dict[str, DiskChain] = {}
        for node, disk in self.source.devices().items():
            if not isinstance(disk, HostedDisk) or not isinstance(disk.device, DiskChain):
                raise AdminError(f"{self.source.name} was not moved: what is at {node} is no virtual disk.")
            found[node] = disk.device
        return found

    def _new_names(self) -> dict[str, str]:
        """Node -> the disk's file: called as its base, or as it is, if that name is another disk's."""
        names: dict[str, str] = {}
        for node, chain in self._chains().items():
            name = chain.links[0].path.name
            names[node] = chain.top.path.name if name in names.values() else name
        return names

    def _other_files(self) -> list[str]:
        home = self.source.home
        ours = {home.config.name, home.lock_path.name, f"{home.name}.vmsd", f"{home.name}.vmsd.lock"}
        for chain in self._chains().values():
            ours |= {path.name for link in chain.links for path in link.files_of()}
        mounted = home.mounted
        assert mounted is not None
        return [
            name
            for name in home.files.names(home.folder)
            if name not in ours
            and not name.startswith((".lck-", ".vilab-"))
            and not name.endswith(".vswp")
            and not mounted.datastore.is_folder(mounted.path_of(home.folder / name))
        ]

    def _must_be_free(self) -> None:
        """Nothing is there. What an attempt of this very machine has left has gone before (``storage_checks``)."""
        check_free(self.mounted, self.folder, self.home.pending.name, self._refused)

    def _refused(self, why: str) -> AdminError:
        return AdminError(f"{self.source.name} was not moved to {self.mounted.name}: {why}")

    # --- making it ----------------------------------------------------------------------------------------------------

    def make(self) -> VmDisks:
        """All of it, but for the content. The record in the old folder has come first."""
        make_folders(self.mounted, self.folder)
        self.write_config()
        for node, chain in self._chains().items():
            make_disk_like(chain, self.home.folder / self._names[node], self.home.files)
        self._make_list()
        disks = VmDisks(self.home, self.source.clock, self.source.log)
        disks.name = self.source.name
        return disks

    def write_config(self) -> None:
        """The configuration as it is at the source now, with the new names of the disks."""
        config = self.source.home.read()
        config.set(FROM, self.source.home.where)
        config.set(NUMBER, self.record.number)
        for node, name in self._names.items():
            set_file(config, node, name)
        self.home.write(config)

    def _make_list(self) -> None:
        snapshots = self.source.snapshots
        assert snapshots is not None
        if self.source.home.files.exists(snapshots.path):
            listed = msgspec.structs.replace(
                snapshots.list, changes=(), merged=(), doomed=(), needs_consolidation=False
            )
            self.home.files.replace(self.home.folder / snapshots.path.name, vmsd.write(listed))

    def pairs(self, disks: VmDisks) -> list[Pair]:
        """Each disk with the one that it becomes."""
        found: list[Pair] = []
        for node, source in self.source.devices().items():
            target = disks.devices()[node]
            assert isinstance(source, HostedDisk)
            assert isinstance(target, HostedDisk)
            found.append(Pair(node, source, target))
        return found

    # --- other files --------------------------------------------------------------------------------------------------

    def copy_others(self, copier: Copier) -> Iterator[int]:
        """The other files of the folder. ``AdminError`` where somebody writes to one of them."""
        for name in self._others:
            file = self.source.home.files.open(self.source.home.folder / name)
            self._open.append(file)
            file.lock()
            new = self.home.files.create(self.home.folder / name)
            try:
                yield from copy_file(copier, name, file, new)
            finally:
                new.close()

    def close(self) -> None:
        """The other files of the old folder are free."""
        for file in self._open:
            file.close()
        self._open.clear()
