"""Preconditions of VMotion for a machine's files: both hosts have to see what is behind its disks.

::

    web.vmx, web.vmdk    [san1], vmfs:44b2c0e8-...    [san1] there, too: the same volume under the same name
    db.vmdk              [local], local:...           another host's folder of that name is another one
    raw.vmdk             LUN naa.6000c29...           seen there, too: zoning and masking are each host's own
"""

from __future__ import annotations

from collections.abc import Iterator

from vilab.migration.descriptions import DatastoreSeen, DiskBacking, HostDescription, VmDescription


def no_shared_files(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    if not vm.home:
        yield (
            f"{vm.name} has no configuration file on {source.name}: without one that {destination.name} sees too, "
            "nothing says whose it is. Register it on a datastore that both have, and power it on from there."
        )
    elif not vm.datastore:
        yield (
            f"{vm.home} is a file of the computer that {source.name} runs on, in no datastore that {destination.name} "
            f"could have: move {vm.name} to a datastore that both have."
        )


def datastores(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    used = dict.fromkeys([vm.datastore, *(disk.datastore for disk in vm.disks)])
    for identity in used:
        if not identity:
            continue
        here = source.datastore(identity) or DatastoreSeen(identity, "unknown", identity)
        what = _files_on(vm, identity)
        there = destination.datastore(identity)
        if there is None:
            yield (
                f"{what} on datastore {here.name} of {source.name}{_device(here)}, which {destination.name} does not "
                "have: connect it there and rescan, or move the files to a datastore that both have."
            )
        elif there.name != here.name:
            yield (
                f"{what} on datastore {here.name} of {source.name}, which is called {there.name} on "
                f"{destination.name}: give it the same name on both."
            )
        else:
            for host, seen in ((source, here), (destination, there)):
                if seen.state != "active":
                    yield (
                        f"{what} on datastore {seen.name}, which {source.name} and {destination.name} share and which "
                        f"is {seen.state} on {host.name}: look at its paths or its server there."
                    )


def disk_backings(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    for disk in vm.disks:
        if disk.mode == "independent-nonpersistent":
            yield (
                f"{disk.node} of {vm.name} ({disk.file_name}) is independent-nonpersistent: what the guest has written "
                f"to it is thrown away on {source.name}, and {destination.name} would not have it. Power {vm.name} off "
                "and make the disk persistent."
            )
        if disk.mapping == "physical":
            yield from _physical(vm, disk, source, destination)
        elif disk.mapping and disk.lun not in destination.luns:
            yield (
                f"{disk.node} of {vm.name} ({disk.file_name}) stands for LUN {disk.lun} of {source.name}, which "
                f"{destination.name} does not see: present it to {destination.name}, and rescan there."
            )
        if vm.datastore and not disk.datastore:
            yield (
                f"{disk.node} of {vm.name} ({disk.file_name}) is a file of the computer that {source.name} runs on, "
                f"which {destination.name} cannot open: move it to a datastore that both have."
            )


def _physical(
    vm: VmDescription, disk: DiskBacking, source: HostDescription, destination: HostDescription
) -> Iterator[str]:
    unseen = "" if disk.lun in destination.luns else f", which {destination.name} does not even see"
    yield (
        f"{disk.node} of {vm.name} ({disk.file_name}) is LUN {disk.lun} of {source.name} in physical compatibility "
        f"mode{unseen}: commands that are under way in it cannot go along to {destination.name}. Power {vm.name} off "
        "to move it."
    )


def _files_on(vm: VmDescription, identity: str) -> str:
    parts = [vm.home] if vm.datastore == identity else []
    parts += [f"{disk.node} ({disk.file_name})" for disk in vm.disks if disk.datastore == identity]
    return f"{' and '.join(parts)} of {vm.name} {'is' if len(parts) == 1 else 'are'}"


def _device(datastore: DatastoreSeen) -> str:
    return f" ({datastore.device})" if datastore.device else ""
