"""What a clone is made from: disks that stand still while they are copied.

::

    off, suspended    web <- 000001              locked as at a power-on: nobody writes
    running           web <- 000001 <- 000002    frozen: what there was stays as it is, a redo log takes the writes
                      web <- 000001              at the end it is merged again, while the machine runs

Of a running machine the clone's disks are all of one moment: what a power cut would have left then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.hosted_disk import HostedDisk
from vilab.host.hosted_vm import HostedVm
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import forget_copy, read_record
from vilab.host.vmx_disks import adapters_of
from vilab.migration.storage_files import because
from vilab.storage.disks.disk_chain import DiskChain, open_chain


class CloneSource:
    """Parameters
    ----------
    source : a machine that is on, or the configuration file of one that is off.
    to : the clone's configuration file, for the sentences.

    Raises
    ------
    AdminError : it cannot be cloned now. Nothing has changed, and nothing stays open.
    """

    def __init__(self, host: Host, source: HostedVm | str, to: str) -> None:
        self.host, self.to = host, to
        self.hosted = source if isinstance(source, HostedVm) else running_from(host, source)
        self._frozen: list[DiskChain] = []
        self._has_redo_logs = False
        if self.hosted is not None:
            self.name = self.hosted.name
            self.disks = self._of_running(self.hosted)
        else:
            assert isinstance(source, str)
            self.disks = self._of_off(source)
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def refused(self, why: str) -> AdminError:
        return AdminError(f"{self.name} was not cloned to {self.to}: {why}")

    def _of_running(self, hosted: HostedVm) -> VmDisks:
        disks = hosted.disks
        if self.host.vms.get(hosted.name) is not hosted or not hosted.runs:
            raise self.refused("it has stopped; say from which configuration file.")
        if disks is None or disks.snapshots is None:
            raise self.refused("it was not powered on from a file. Without disks Host.clone makes more of it.")
        if hosted.merge is not None:
            raise self.refused(
                "its snapshots are being merged, or it is being moved or cloned already; wait until that has been done."
            )
        if disks.snapshots.held:
            raise self.refused(disks.snapshots.held)
        return disks

    def _of_off(self, where: str) -> VmDisks:
        home, storage = VmHome(self.host.storage, where), self.host.storage
        self.name = home.name
        try:
            disks = VmDisks(home, storage.clock, self.host.log)
        except (AdminError, OSError) as error:
            raise because(error, str(self.refused(str(error)))) from None
        self.name = disks.name = home.read().get("displayName") or home.name
        return disks

    # --- what is refused ----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        home = self.disks.home
        if home.mounted is None:
            raise self.refused(
                f"its folder, {home.folder}, is in no datastore of {self.host.name}; add that folder as one."
            )
        config = home.read()
        record = read_record(home)
        if record is not None and not (record.phase == "staying" and forget_copy(home, record)):
            raise self.refused(
                f"what an earlier attempt has left at {record.to} could not be removed yet; see that this host reaches "
                "it."
            )
        for disk in (disk for each in adapters_of(config) for disk in each.disks):
            where = f"{disk.node} ({disk.file_name})"
            if self._chain(disk.node) is None:
                raise self.refused(
                    f"{where} is a raw device mapping in physical compatibility mode, whose LUN nobody copies."
                )
            if self.hosted is not None and disk.node in self.disks.independent:
                raise self.refused(
                    f"{where} takes no redo log while the machine runs (it is independent, or in another folder); "
                    "power the machine off first."
                )

    def _chain(self, node: str) -> DiskChain | None:
        disk = self.disks.devices()[node]
        return disk.device if isinstance(disk, HostedDisk) and isinstance(disk.device, DiskChain) else None

    # --- what is copied -----------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """Of all disks, as a guest sees them."""
        return sum(disk.size_bytes for disk in self.disks.devices().values())

    @property
    def nvram(self) -> str:
        """The file with the BIOS settings; empty if there is none."""
        home = self.disks.home
        name = home.read().get("nvram") or f"{home.name}.nvram"
        plain = "/" not in name and home.files.exists(home.folder / name)
        return name if plain else ""

    def chains(self) -> dict[str, DiskChain]:
        """Node -> disk, as it is now, for sizes and kinds."""
        found = {node: self._chain(node) for node in self.disks.devices()}
        return {node: chain for node, chain in found.items() if chain is not None}

    def freeze(self) -> dict[str, DiskChain]:
        """Node -> disk, which nobody writes to until ``thaw``."""
        snapshots = self.disks.snapshots
        if self.hosted is None or snapshots is None:
            return self.chains()
        self._has_redo_logs = True
        found: dict[str, DiskChain] = {}
        for node, path in snapshots.freeze().items():
            found[node] = open_chain(path, files=snapshots.files)
            self._frozen.append(found[node])
        return found

    def thaw(self) -> None:
        """The frozen disks are read no more."""
        for chain in self._frozen:
            chain.close()
        self._frozen.clear()

    def merge_steps(self) -> Iterator[int]:
        """The redo logs melt into the disks again. Nothing is held any more."""
        self.thaw()
        if self._has_redo_logs and self.disks.snapshots is not None:
            yield from self.disks.snapshots.merge_frozen()

    def close(self) -> None:
        """A machine that is off is nobody's again."""
        self.thaw()
        if self.hosted is None:
            with contextlib.suppress(AdminError, OSError):
                self.disks.close()


def running_from(host: Host, where: str) -> HostedVm | None:
    """The machine that is on, on this host, from that configuration file."""
    place = VmHome(host.storage, where).where
    for hosted in host.vms.values():
        if hosted.disks is not None and hosted.disks.home.where == place:
            return hosted
    return None
