"""What a machine that is off takes along to another datastore: its files as they are, and where they go.

::

    web.vmx                    at the destination web.vmx.moving, which gets its name at the end
    web.vmdk, web-flat.vmdk    byte for byte; what was a hole stays one
    web-000001.vmdk ...        redo logs stay redo logs: nothing is merged
    web.vmsd, *.vmsn           the snapshots, which go on naming those disks
    web.nvram, web.vmss, ...   whatever else there is
    web.vmx.lck, *.vswp        not those: they belong to a host that has the machine on

The files are copied and no disk is flattened, because a snapshot is nothing but files that stand on each other, and the
memory of a suspended machine fits only disks with the same content identifiers. So all of them have to be in the one
folder. Source: VMware, vSphere Basic System Administration (4.0), "Migrating Virtual Machines with Snapshots": from ESX
3.5 on, if all files are in a single directory and go to a single one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from vilab.errors import AdminError
from vilab.host.hosted_disk import HostedDisk
from vilab.host.mounted import Mounted
from vilab.host.off_folder import belongs_to_host
from vilab.host.vm_disks import REDO, VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import FROM, NUMBER, ArrivingHome, MoveRecord
from vilab.host.vmx_disks import DiskSettings, adapters_of, set_file
from vilab.migration.storage_checks import check_place
from vilab.migration.storage_copy import Copier
from vilab.migration.storage_files import check_free, copy_file, is_thick, make_folders
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.descriptor import extent_path
from vilab.storage.disks.disk_chain import DiskChain
from vilab.storage.disks.snapshot_graph import DiskGraph
from vilab.storage.disks.snapshot_journal import disks_named
from vilab.storage.disks.vmdk import read_descriptor


class ColdFolder:
    """Parameters
    ----------
    source : the machine's disks, locked.
    mounted : the datastore to move to.

    Raises
    ------
    AdminError : something does not go along, or there is something at the destination. Nothing has been written.
    """

    def __init__(self, source: VmDisks, mounted: Mounted) -> None:
        self.source, self.mounted = source, mounted
        own = source.home
        assert own.mounted is not None
        self.folder = own.mounted.path_of(own.folder)
        self.home = ArrivingHome(own.storage, f"[{mounted.name}] {self.folder}/{own.config.name}")
        self.record = MoveRecord(secrets.token_hex(8), self.home.where)
        self._thick: set[str] = set()
        self._open: dict[str, DiskFile] = {}
        self._settings = [disk for each in adapters_of(own.read()) for disk in each.disks]
        for disk in self._settings:
            check_place(source, disk, mounted.name)
        self._check_disks()
        self.names = self._names()
        check_free(mounted, self.folder, self.home.pending.name, self._refused)
        self.sizes = {name: own.mounted.datastore.size_bytes(f"{self.folder}/{name}") for name in self.names}

    def _refused(self, why: str) -> AdminError:
        return AdminError(f"{self.source.name} was not moved to {self.mounted.name}: {why}")

    # --- what goes along ----------------------------------------------------------------------------------------------

    def _check_disks(self) -> None:
        """The disks, and all that they and the snapshots stand on, are in the folder."""
        home, snapshots = self.source.home, self.source.snapshots
        assert snapshots is not None
        named = [home.find(disk.file_name)[2].name for disk in self._settings]
        graph = DiskGraph(home.folder, home.files, [*named, *disks_named(snapshots.list)])
        for name, parent in graph.parents.items():
            described = read_descriptor(home.folder / name, home.files)
            if described.has_parent and parent is None:
                raise self._refused(f"{name} is based on {described.parent_hint}, which is not in its folder.")
            for line in described.extents:
                if line.file is None:
                    continue
                extent = extent_path(home.folder, line.file, home.files.resolve)
                if extent.parent != home.files.resolve(home.folder):
                    raise self._refused(f"{line.file}, an extent of {name}, is in a folder below its own.")
                if is_thick(described):
                    self._thick.add(extent.name)

    def _names(self) -> list[str]:
        home = self.source.home
        datastore = self.source.home.mounted.datastore if self.source.home.mounted else None
        assert datastore is not None
        there = home.files.names(home.folder)
        found = [name for name in there if not belongs_to_host(name, home) and not self._thrown(name)]
        for name in found:
            if datastore.is_folder(f"{self.folder}/{name}"):
                raise self._refused(
                    f"there is a folder {name} in its folder, which does not go along; move that first."
                )
        return found

    def _thrown(self, name: str) -> bool:
        """The redo log of an independent-nonpersistent disk, which goes when the disk is closed."""
        stems = [_stem(self.source.home, disk) for disk in self._settings if disk.node in self.source.thrown_away]
        return any(name.startswith(stem + REDO) for stem in stems)

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes.values())

    # --- making it ----------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """The folder, and in it what says that it is half a copy. The record in the old folder has come first."""
        make_folders(self.mounted, self.folder)
        config = self.source.home.read()
        config.set(FROM, self.source.home.where)
        config.set(NUMBER, self.record.number)
        for disk in self._settings:  # "[old] web/web.vmdk" would still be the old one
            set_file(config, disk.node, self.source.home.find(disk.file_name)[2].name)
        self.home.write(config)

    def copy(self, copier: Copier) -> Iterator[tuple[str, int]]:
        """Every file: its name, and how many bytes it has gone on by. ``AdminError`` where somebody writes to one."""
        home = self.source.home
        ours = self._locked()
        for name in self.names:
            file = self._open[name] = home.files.open(home.folder / name)
            if name not in ours:
                file.lock()
            new = self.home.files.create(self.home.folder / name)
            try:
                for size in copy_file(copier, name, file, new, name in self._thick):
                    yield name, size
            finally:
                new.close()
        self.home.files.sync_folder(self.home.folder)

    def _locked(self) -> set[str]:
        """What the disks have open, locked by this host already."""
        found: set[str] = set()
        for device in self.source.devices().values():
            if isinstance(device, HostedDisk) and isinstance(device.device, DiskChain):
                found |= {path.name for link in device.device.links for path in link.files_of()}
        return found

    def close(self) -> None:
        """The files of the old folder are free."""
        for file in self._open.values():
            file.close()
        self._open.clear()


def _stem(home: VmHome, disk: DiskSettings) -> str:
    return home.find(disk.file_name)[2].name.removesuffix(".vmdk")
