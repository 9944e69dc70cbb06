"""What Storage VMotion refuses, before anything is touched. Each in one sentence.

The rules about snapshots and modes are those of VI 3.5 (VMware, Basic System Administration, "Storage VMotion
Requirements and Limitations"): no snapshots, disks in persistent mode. MODEL: it also moved mappings of LUNs, and
disks that were in other folders; here the machine's folder moves, and all of its disks have to be in it.
"""

from __future__ import annotations

from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.mounted import Mounted
from vilab.host.storage import HostStorage
from vilab.host.vm_departure import read_departure
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_move import FROM, forget_copy, read_record
from vilab.host.vmx_disks import DiskSettings, adapters_of
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disks.descriptor import PHYSICAL_MAPPING, VIRTUAL_MAPPING
from vilab.storage.disks.disk_chain import DiskChain
from vilab.storage.disks.vmdk import read_descriptor


def disks_of(host: Host, hosted: HostedVm, to: str) -> VmDisks:
    """The disks that are to move. ``AdminError`` where they cannot now."""
    disks = hosted.disks
    if host.vms.get(hosted.name) is not hosted or disks is None or disks.snapshots is None or not hosted.runs:
        raise AdminError(
            f"{hosted.name} was not moved to {to}: it is off, or was not powered on from a file; copy its folder while "
            "it is off."
        )
    if disks.snapshots.held:
        raise AdminError(f"{hosted.name} was not moved to {to}: {disks.snapshots.held}")
    if hosted.merge is not None:
        raise AdminError(
            f"{hosted.name} was not moved to {to}: its snapshots are being merged, or it is being moved already; wait "
            "until that has been done."
        )
    return disks


def check_machine(disks: VmDisks, to: str, with_redo_logs: bool) -> None:
    """Everything about the machine and its folder."""
    snapshots = disks.snapshots
    assert snapshots is not None
    check_folder(disks, to, "power it off and on again")
    if snapshots.list.snapshots:
        raise _refused(disks, to, "it has snapshots, which Storage VMotion does not move; delete them first.")
    for disk in (disk for each in adapters_of(disks.home.read()) for disk in each.disks):
        where = f"{disk.node} ({disk.file_name})"
        if disk.mode == "independent-nonpersistent":
            why = "is independent-nonpersistent, and what was written to it belongs to nothing."
            raise _refused(disks, to, f"{where} {why}")
        if with_redo_logs and disk.independent:
            raise _refused(disks, to, f"{where} is independent, and takes no redo log; move it by changed blocks.")
        check_place(disks, disk, to)


def _refused(disks: VmDisks, to: str, why: str) -> AdminError:
    return AdminError(f"{disks.name} was not moved to {to}: {why}")


def check_folder(disks: VmDisks, to: str, again: str) -> None:
    """The machine has a folder of its own, and no other move has left anything. ``again``: what clears up after one."""
    home = disks.home
    if home.mounted is None:
        why = f"its folder, {home.folder}, is in no datastore of {home.storage.host}; add that folder as one."
        raise _refused(disks, to, why)
    if home.folder == home.mounted.root:
        raise _refused(disks, to, f"it lies in the root of {home.mounted.name}, and not in a folder of its own.")
    if (left := home.read().get(FROM)) is not None:
        raise _refused(disks, to, f"what is left of it in {left} has to be removed first; {again}.")
    if (departure := read_departure(home)) is not None:
        why = f"{departure.to} on {departure.host} has still to be withdrawn"
        raise _refused(disks, to, f"{why}; let {home.storage.host} ask that host first.")
    _check_record(disks, to)
    others = [each for each in home.files.names(home.folder) if each.endswith(".vmx") and each != home.config.name]
    if others:
        raise _refused(disks, to, f"{others[0]} in its folder is another machine's.")


def check_place(disks: VmDisks, disk: DiskSettings, to: str) -> None:
    """A disk is in the machine's folder, and is no LUN."""
    home, where = disks.home, f"{disk.node} ({disk.file_name})"
    mounted, files, path = home.find(disk.file_name)
    if mounted is not home.mounted or path.parent != home.folder:
        raise _refused(disks, to, f"{where} is not in the machine's folder; put it there while the machine is off.")
    base = getattr(disks.devices()[disk.node], "device", None)
    kind = base.links[0].descriptor.create_type if isinstance(base, DiskChain) else ""
    if PHYSICAL_MAPPING in (kind, read_descriptor(path, files).create_type):
        why = "is a raw device mapping in physical compatibility mode, whose LUN nobody copies."
        raise _refused(disks, to, f"{where} {why}")
    if kind == VIRTUAL_MAPPING:
        why = "is a raw device mapping; map the LUN at the destination while the machine is off."
        raise _refused(disks, to, f"{where} {why}")


def _check_record(disks: VmDisks, to: str) -> None:
    """An earlier move that was given up has left nothing, or what it has left goes now."""
    record = read_record(disks.home)
    if record is not None and not (record.phase == "staying" and forget_copy(disks.home, record)):
        why = (
            f"what an earlier attempt has left at {record.to} could not be removed yet; see that this host reaches it."
        )
        raise _refused(disks, to, why)


def destination_of(storage: HostStorage, disks: VmDisks, name: str) -> Mounted:
    """The datastore that is meant. ``AdminError``: there is none, it does not answer, or the machine is there."""
    try:
        mounted = storage.mounted(name)
    except AdminError as error:
        raise AdminError(f"{disks.name} was not moved: {error}") from None
    if mounted.state != "active":
        raise AdminError(f"{disks.name} was not moved to {name}: that datastore is {mounted.state} now.")
    if mounted is disks.home.mounted or _same_folder(mounted, disks.home.mounted):
        raise AdminError(f"{disks.name} was not moved to {name}: it is there already.")
    return mounted


def _same_folder(one: Mounted, other: Mounted | None) -> bool:
    if (
        other is None
        or not isinstance(one.datastore, LocalDatastore)
        or not isinstance(other.datastore, LocalDatastore)
    ):
        return False
    return one.datastore.root == other.datastore.root
