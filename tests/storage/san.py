"""A small storage area network: two switches, an array with two processors, hosts with two adapters.

::

    vmhba1 ── switch1 ── A0, B0 ─┐
    vmhba2 ── switch2 ── A1, B1 ─┴─ array
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.storage.block import BlockError, MemoryDisk
from vilab.storage.luns.fc_array import Kind, StorageArray
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_hba import FcPath, HostBusAdapter
from vilab.storage.luns.fc_names import Wwn, numbered
from vilab.storage.luns.paths import MultipathLun, Path, Policy
from vilab.storage.scsi.lun_identity import LunIdentity, ask_name, identify
from vilab.storage.scsi.state import Identity

DISK_BYTES = 4 << 20
PORTS = {"A0": numbered(1, 0x50), "B0": numbered(2, 0x50), "A1": numbered(3, 0x50), "B1": numbered(4, 0x50)}


class Host:
    def __init__(self, san: San, number: int) -> None:
        node = numbered(number, 0x20)
        self.wwpns = [numbered(16 * number + n) for n in (1, 2)]
        self.adapters = [
            HostBusAdapter(f"vmhba{n}", fabric, wwpn, node)
            for n, (fabric, wwpn) in enumerate(zip(san.fabrics, self.wwpns, strict=True), 1)
        ]

    def paths(self) -> list[FcPath]:
        return [path for adapter in self.adapters for path in adapter.rescan()]


class San:
    def __init__(self, kind: Kind = "active/active", hosts: int = 1, disks: int = 1) -> None:
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        self.fabrics = [Fabric(f"switch{n}", n, self.clock, self.log) for n in (1, 2)]
        self.array = StorageArray("array1", None, kind, self.clock, self.log)
        for name, wwpn in PORTS.items():
            self.array.connect(self.fabrics[int(name[1])], wwpn, name[0])
        self.disks = [MemoryDisk(DISK_BYTES) for _ in range(disks)]
        for number, disk in enumerate(self.disks):
            self.array.create_lun(number, disk, Identity(f"array-lun-{number}"))
        self.hosts = [Host(self, n) for n in range(1, hosts + 1)]
        for host in self.hosts:
            for wwpn in host.wwpns:
                for number in range(disks):
                    self.array.present(wwpn, number, number)

    def lun(self, host: int = 0, policy: Policy = "fixed") -> MultipathLun:
        (found,) = claim(self.hosts[host].paths(), policy, self.clock, self.log)
        return found

    def pull(self, port: str, up: bool = False) -> None:
        """The cable of one of the array's ports."""
        self.fabrics[int(port[1])].link(PORTS[port], up)


def state_of(lun: MultipathLun, path: str) -> str:
    return lun.states[path]


def wwpn_of(host: Host, adapter: int) -> Wwn:
    return host.wwpns[adapter]


def claim(
    paths: Sequence[Path], policy: Policy = "fixed", clock: VirtualClock | None = None, log: EventLog | None = None
) -> list[MultipathLun]:
    """Sort paths by the disk they lead to; one LUN for each, in the order in which they were found.

    Paths that do not answer, or lead to no disk, are left out, and so are disks that do not tell their size because
    another host has reserved them: a later rescan finds them.
    """
    by_name: dict[str, list[Path]] = {}
    for path in paths:
        with contextlib.suppress(BlockError):
            by_name.setdefault(ask_name(path.submit), []).append(path)
    luns = []
    for ways in by_name.values():
        identity = _identity_by_any(ways)
        if identity is not None:
            luns.append(MultipathLun(ways, identity, policy, None, clock, log))
    return luns


def _identity_by_any(ways: Sequence[Path]) -> LunIdentity | None:
    """Passive paths do not tell how large the disk is."""
    for path in ways:
        with contextlib.suppress(BlockError):
            return identify(path.submit)
    return None
