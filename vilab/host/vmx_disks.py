"""What a configuration file says of SCSI adapters and their disks, typed.

::

    key                    what                                                     where it is missing
    scsi0.present          there is an adapter: TRUE, FALSE                         FALSE
    scsi0.virtualDev       lsilogic, buslogic                                       lsilogic
    scsi0.sharedBus        none: disks for this machine alone                       none
    scsi0:1.present        there is a disk with SCSI id 1 (0 to 15, not 7)          FALSE
    scsi0:1.fileName       "web.vmdk" in the machine's folder, "[ds2] db/db.vmdk",  it has to be there
                           "/vmfs/volumes/ds2/db/db.vmdk"
    scsi0:1.mode           persistent, independent-persistent,                      persistent
                           independent-nonpersistent
    scsi0:1.deviceType     scsi-hardDisk, a raw device mapping too                  scsi-hardDisk

``persistent`` disks are part of snapshots. ``independent-persistent``: none of it. ``independent-nonpersistent``: what
is written is thrown away when the machine goes off.

Sources: files that ESX has written, in public repositories; libvirt's table of keys;
VMware, Basic System Administration (ESX 3), "Virtual disk modes". MODEL: without ``virtualDev`` ESX chooses by guestOS.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from vilab.errors import AdminError
from vilab.host.vmx import Vmx, truth, unfit
from vilab.storage.scsi.parallel import ADAPTER_ID, TARGETS
from vilab.vmm.scsi_disks import CONTROLLERS, MOST_ADAPTERS

Mode = Literal["persistent", "independent-persistent", "independent-nonpersistent"]
MODES: tuple[Mode, ...] = ("persistent", "independent-persistent", "independent-nonpersistent")
DEVICE_TYPES = ("scsi-hardDisk", "disk", "scsi-passthru-rdm", "scsi-nonpassthru-rdm")
"""What a disk may be called. Whether it is a raw device mapping is what its descriptor says."""

_NODE = re.compile(r"scsi(\d+):(\d+)\.\w+", re.IGNORECASE)


class DiskSettings(msgspec.Struct, frozen=True):
    """One disk. ``node``: ``scsi0:1``."""

    node: str
    file_name: str
    mode: Mode = "persistent"
    device_type: str = "scsi-hardDisk"

    @property
    def target(self) -> int:
        return int(self.node.partition(":")[2])

    @property
    def independent(self) -> bool:
        return self.mode != "persistent"


class AdapterSettings(msgspec.Struct, frozen=True):
    """One adapter, ``scsi<number>``, with its disks by SCSI id."""

    number: int
    controller: str
    disks: tuple[DiskSettings, ...]


def adapters_of(vmx: Vmx) -> tuple[AdapterSettings, ...]:
    """The adapters that are present. ``AdminError``, with the line, for what cannot be."""
    _check_nodes(vmx)
    return tuple(_adapter(vmx, number) for number in range(MOST_ADAPTERS) if truth(vmx, f"scsi{number}.present"))


def set_file(vmx: Vmx, node: str, file_name: str) -> None:
    """Another file behind a disk that is there."""
    vmx.set(f"{node}.fileName", file_name)


def add_disk(vmx: Vmx, disk: DiskSettings, controller: str = "lsilogic") -> None:
    """Lines for one more disk, and for its adapter if that is not there."""
    adapter = disk.node.partition(":")[0]
    if not truth(vmx, f"{adapter}.present"):
        vmx.set(f"{adapter}.present", "TRUE")
        vmx.set(f"{adapter}.virtualDev", controller)
    for key, value in (("present", "TRUE"), ("fileName", disk.file_name), ("mode", disk.mode)):
        vmx.set(f"{disk.node}.{key}", value)
    vmx.set(f"{disk.node}.deviceType", disk.device_type)
    adapters_of(vmx)


def _check_nodes(vmx: Vmx) -> None:
    for key in vmx.keys():  # noqa: SIM118
        found = _NODE.fullmatch(key)
        if found is None:
            continue
        adapter, target = int(found[1]), int(found[2])
        if adapter >= MOST_ADAPTERS or target >= TARGETS or target == ADAPTER_ID:
            raise AdminError(
                f"{vmx.where(key)}: there is no place {key.partition('.')[0]}: adapters are scsi0 to "
                f"scsi{MOST_ADAPTERS - 1}, SCSI ids 0 to {TARGETS - 1} without {ADAPTER_ID}, which is the adapter's."
            )


def _adapter(vmx: Vmx, number: int) -> AdapterSettings:
    name = f"scsi{number}"
    controller = (vmx.get(f"{name}.virtualDev") or CONTROLLERS[0]).lower()
    if controller not in CONTROLLERS:
        raise unfit(vmx, f"{name}.virtualDev", " or ".join(CONTROLLERS))
    if (vmx.get(f"{name}.sharedBus") or "none").lower() != "none":
        raise unfit(vmx, f"{name}.sharedBus", "none: disks are not shared between machines here")
    nodes = [f"{name}:{target}" for target in range(TARGETS)]
    return AdapterSettings(
        number, controller, tuple(_disk(vmx, node) for node in nodes if truth(vmx, f"{node}.present"))
    )


def _disk(vmx: Vmx, node: str) -> DiskSettings:
    file_name = vmx.get(f"{node}.fileName")
    if not file_name:
        raise AdminError(f"{vmx.where(f'{node}.present')}: {node} is present, but {node}.fileName does not say which.")
    mode = (vmx.get(f"{node}.mode") or "persistent").lower()
    if mode not in MODES:
        raise unfit(vmx, f"{node}.mode", ", ".join(MODES))
    device_type = vmx.get(f"{node}.deviceType") or DEVICE_TYPES[0]
    if device_type.lower() not in [each.lower() for each in DEVICE_TYPES]:
        raise unfit(vmx, f"{node}.deviceType", "scsi-hardDisk: there are no other SCSI devices here")
    return DiskSettings(node, file_name, mode, device_type)
