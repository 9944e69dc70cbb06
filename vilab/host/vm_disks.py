"""The disks of a powered-on machine: locked, open, attached; and all of it given back.

::

    power-on     web.vmx.lck ── NFS locks ── leftovers removed ── disks opened ── adapters
    power-off    disks closed ── throw-away redo logs removed ── web.vmx.lck ── NFS locks   (where a step failed, too)

    mode                            opened as
    persistent                      ``VmSnapshots``: chains, with the machine's snapshots
    independent-persistent          ``SnapshotDisk``: a chain that no snapshot of the machine touches
    independent-nonpersistent       a redo log ``web-REDO_1f2e3d.vmdk`` above it, which goes when the machine goes off
    physical raw device mapping     the LUN itself, and the mapping's file locked

Source: VMware, Basic System Administration (ESX 3), "Virtual disk modes".
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.held_snapshots import HeldSnapshots
from vilab.host.hosted_disk import HostedDisk, HostedPassthrough
from vilab.host.mounted import Mounted
from vilab.host.vm_departure import check_departure
from vilab.host.vm_home import PowerLock, VmHome
from vilab.host.vm_move import forget_copy, if_possible, read_config, settle
from vilab.host.vmx_disks import DiskSettings, adapters_of, set_file
from vilab.protocols import BlockDevice
from vilab.storage.disk_file import DiskFile, Files
from vilab.storage.disks.descriptor import PHYSICAL_MAPPING
from vilab.storage.disks.disk_chain import DiskChain, open_chain
from vilab.storage.disks.rdm import open_passthrough
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.snapshot_graph import files_of
from vilab.storage.disks.vmdk import read_descriptor
from vilab.storage.scsi.state import Identity
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter, serial_of

REDO = "-REDO_"


class VmDisks:
    """Parameters
    ----------
    home : the machine's folder; its configuration says which disks.
    clock, log : of the host.
    handed_over : by another host, with a record of that. In the ordinary way none of before counts any more.

    Raises
    ------
    AdminError : somebody else has the machine, a disk is missing or damaged, or a line cannot be. Nothing stays open.
    """

    def __init__(self, home: VmHome, clock: VirtualClock, log: EventLog, *, handed_over: bool = False) -> None:
        self.home, self.clock, self.log = home, clock, log
        self._handed_over = handed_over
        self.name = home.name
        self.lost = ""
        self.on_lost: Callable[[str], None] = lambda sentence: None
        self.adapters: tuple[ScsiAdapter, ...] = ()
        self.snapshots: HeldSnapshots | None = None
        self.independent: list[str] = []
        """Nodes of disks that snapshots leave alone."""
        self._hosted: dict[str, HostedDisk | HostedPassthrough] = {}
        self._opened: list[SnapshotDisk | DiskFile] = []
        self.thrown_away: list[str] = []
        """Nodes of disks that forget what is written to them."""
        self._thrown: list[tuple[Path, Files]] = []
        self._locks: list[Callable[[], None]] = []
        self._holder = [self]
        """Whose these locks are, which can change while they are held."""
        self.closing: list[Callable[[], None]] = []
        """Called before everything is given back."""
        self._used: list[Mounted] = []
        self._closed = False
        self._power = PowerLock(home, home.storage.host)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    # --- power-on -----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._use(self.home.mounted)
        settings = adapters_of(read_config(self.home))
        self._lock_files([disk for adapter in settings for disk in adapter.disks])
        self._power.take()
        if not self._handed_over:
            self.home.files.remove(self.home.handover_path)
        check_departure(self.home)
        cut_short = settle(self.home)
        if adapters_of(self.home.read()) != settings:
            raise AdminError(f"{self.home.where} was changed while it was powered on. Try again.")
        places = {disk.node: self.home.find(disk.file_name) for each in settings for disk in each.disks}
        for mounted, _, _ in places.values():
            self._use(mounted)
        together = {
            disk.node: places[disk.node][2].name
            for each in settings for disk in each.disks
            if not disk.independent and self._with_snapshots(places[disk.node])
        }  # fmt: skip
        self.independent = [d.node for each in settings for d in each.disks if d.node not in together]
        self.snapshots = HeldSnapshots(
            self.home.folder, self.name, together, self._configure, self.home.files, self.clock, self.log
        )
        if cut_short is not None:
            with if_possible():  # the datastore is full: the next time
                self.snapshots.consolidate()
                forget_copy(self.home, cut_short)
        self.adapters = tuple(
            ScsiAdapter(each.controller, tuple(self._attach(disk, places[disk.node]) for disk in each.disks))
            for each in settings
        )

    def _use(self, mounted: Mounted | None) -> None:
        if mounted is not None and mounted not in self._used:
            self._used.append(mounted)
            mounted.users.append(self)

    def _with_snapshots(self, place: tuple[Mounted | None, Files, Path]) -> bool:
        """Only what is in the machine's folder, and not a LUN that the guest changes by itself."""
        _, files, path = place
        return path.parent == self.home.folder and read_descriptor(path, files).create_type != PHYSICAL_MAPPING

    def _lock_files(self, disks: list[DiskSettings]) -> None:
        """Where opening keeps nobody out: every file that belongs to the machine while it is on, all or none for each
        server."""
        wanted: dict[str, tuple[Mounted, set[str]]] = {}

        def want(mounted: Mounted | None, files: Files, path: Path) -> None:
            if mounted is not None and mounted.locks_by_name:
                wanted.setdefault(mounted.name, (mounted, set()))[1].add(mounted.path_of(path))

        home = self.home
        self._power.prepare()
        want(home.mounted, home.files, home.lock_path)
        for disk in disks:
            mounted, files, path = home.find(disk.file_name)
            if mounted is None or not mounted.locks_by_name:
                continue
            for each in (path, _base(path, files)):
                want(mounted, files, each)
                want(mounted, files, each.with_name(files_of(each, files)[0]))
        for mounted, paths in wanted.values():
            holder = self._holder
            self._locks.append(mounted.lock(paths, lambda path, holder=holder: holder[0]._lock_lost(path)))  # type: ignore[misc]

    def _lock_lost(self, path: str) -> None:
        self.lose(f"{self.name} was stopped: another host has taken over the lock of {path}, which was not renewed.")

    def _attach(self, disk: DiskSettings, place: tuple[Mounted | None, Files, Path]) -> AttachedDisk:
        mounted, files, path = place
        assert self.snapshots is not None
        if disk.node in self.snapshots.disks:
            return self._attached(disk, self.snapshots.disks[disk.node].chain, path)
        if read_descriptor(path, files).create_type == PHYSICAL_MAPPING:
            return self._attach_lun(disk, path, files)
        if disk.mode == "independent-nonpersistent":
            self.thrown_away.append(disk.node)
            path = self._redo_log(path, files, mounted)
        opened = SnapshotDisk(path, files, self.log, self.clock)
        self._opened.append(opened)
        return self._attached(disk, opened.chain, path)

    def _attach_lun(self, disk: DiskSettings, path: Path, files: Files) -> AttachedDisk:
        if disk.mode == "independent-nonpersistent":
            raise AdminError(
                f"{path} cannot be {disk.mode}: what a guest does to a LUN through a raw device mapping in physical "
                "compatibility mode cannot be thrown away."
            )
        file = files.open(path, writable=True)
        self._opened.append(file)
        file.lock()
        lun = HostedPassthrough(open_passthrough(path, files))
        self._hosted[disk.node] = lun
        return AttachedDisk(disk.target, lun, Identity(serial_of(lun, path)), str(path))

    def _attached(self, disk: DiskSettings, chain: DiskChain, path: Path) -> AttachedDisk:
        hosted = HostedDisk(chain, self._fenced)
        self._hosted[disk.node] = hosted
        return AttachedDisk(disk.target, hosted, Identity(serial_of(chain, path)), str(path))

    def _redo_log(self, path: Path, files: Files, mounted: Mounted | None) -> Path:
        """A child above a disk, for as long as the machine is on; what a host left behind that died goes."""
        stem = path.name.removesuffix(".vmdk") + REDO
        for name in files.names(path.parent):
            if name.startswith(stem):
                files.remove(path.with_name(name))
        child = path.with_name(f"{stem}{secrets.token_hex(3)}.vmdk")
        self._thrown.append((child, files))
        with SnapshotDisk(path, files, self.log, self.clock) as below:
            below.make_child(child)
        if mounted is not None and mounted.kind == "vmfs":
            self._opened.append(files.open(path, writable=True))  # who only reads has no lock there
        return child

    def _configure(self, disks: Mapping[str, str]) -> None:
        """Snapshots have put other files behind some disks."""
        config = self.home.read()
        for node, file_name in disks.items():
            set_file(config, node, file_name)
        self.home.write(config)

    # --- what is there ------------------------------------------------------------------------------------------------

    def devices(self) -> dict[str, BlockDevice]:
        """Node -> disk."""
        return dict(self._hosted)

    def stand_behind(self, known: Mapping[str, BlockDevice]) -> None:
        """The devices that a machine knows, by node, lead to these files from now on. ``AdminError``, and nothing has
        changed: its disks are others."""
        for node, device in self._hosted.items():
            if type(known.get(node)) is not type(device):
                raise AdminError(f"{self.name} cannot go on: its disk {node} is another one than before.")
        for node, device in self._hosted.items():
            before = known[node]
            if isinstance(before, HostedDisk) and isinstance(device, HostedDisk):
                before.device, before.on_fenced, before.lost = device.device, device.on_fenced, ""
                self._hosted[node] = before
            elif isinstance(before, HostedPassthrough) and isinstance(device, HostedPassthrough):
                before.lun, before.lost = device.lun, ""
                self._hosted[node] = before

    def seal(self) -> dict[str, int | None]:
        """Node -> content identifier of the disk there, which the next write to it, by whomever, makes another one.

        LUNs behind physical mappings have none.
        """
        found: dict[str, int | None] = dict.fromkeys(self._hosted)
        for node, disk in self._hosted.items():
            if isinstance(disk, HostedDisk) and isinstance(disk.device, DiskChain):
                disk.device.cid_changed = False
                found[node] = disk.device.top.descriptor.cid
        return found

    def exchange(self, other: VmDisks) -> None:
        """The machine goes on with the files of ``other``, at once; ``other`` has those of this one then, to be closed.

        Both have the same nodes. The guest's adapters and disks stay the same objects.
        """
        for node, disk in self._hosted.items():
            theirs = other._hosted[node]
            if isinstance(disk, HostedDisk) and isinstance(theirs, HostedDisk):
                disk.device, theirs.device = theirs.device, disk.device
        for name in (
            "home", "snapshots", "independent", "thrown_away", "_opened", "_thrown", "_locks", "_holder", "_power",
            "_used",
        ):  # fmt: skip
            mine = getattr(self, name)
            setattr(self, name, getattr(other, name))
            setattr(other, name, mine)
        for new, old in ((self, other), (other, self)):
            new._holder[0] = new
            if new.snapshots is not None:
                new.snapshots.configure = new._configure
            for mounted in new._used:
                mounted.users[mounted.users.index(old)] = new

    # --- the end ------------------------------------------------------------------------------------------------------

    def _fenced(self, sentence: str) -> None:
        self.lose(f"{self.name} was stopped: its datastore is lost to this host. {sentence}")

    def lose(self, sentence: str) -> None:
        """Its files are another host's now: no command reaches them any more, and the machine stops."""
        if not self.lost:
            self.lost = sentence
            for disk in self._hosted.values():
                disk.lost = sentence
            self.on_lost(sentence)

    def close(self) -> list[str]:
        """Give everything back; what could not be, in sentences. Again: nothing happens."""
        if self._closed:
            return []
        self._closed = True
        with self.home.storage.stepwise(False):  # what was taken is given back, even if somebody has to be waited for
            problems = self._give_back()
        return [] if self.lost else problems

    def _give_back(self) -> list[str]:
        problems: list[str] = []

        def attempt(step: Callable[[], object]) -> None:
            try:
                step()
            except (AdminError, OSError) as error:
                problems.append(str(error))

        for each in self.closing:
            attempt(each)
        for opened in reversed(self._opened):
            attempt(opened.close)
        if self.snapshots is not None:
            attempt(self.snapshots.close)
        for path, files in self._thrown:
            if not self.lost:
                attempt(lambda path=path, files=files: _remove(path, files))  # type: ignore[misc]
        attempt(self._power.give_back)
        for give_back in reversed(self._locks):
            attempt(give_back)
        for mounted in self._used:
            mounted.users.remove(self)
        return problems

    def abandon(self) -> None:
        """The host has no power any more: nothing is written, and nothing given back."""
        self._closed = True


def _base(path: Path, files: Files) -> Path:
    with open_chain(path, files=files) as chain:
        return chain.links[0].path


def _remove(path: Path, files: Files) -> None:
    if files.exists(path):
        for name in files_of(path, files):
            files.remove(path.with_name(name))
