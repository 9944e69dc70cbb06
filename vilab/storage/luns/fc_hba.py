"""A Fibre Channel host bus adapter: an initiator port, and the paths to disks that a rescan finds.

::

    vmhba1 : 0 : 3          adapter, target, LUN: ESX's name of a path
             │   └────────  what REPORT LUNS has listed
             └────────────  target ports in the order in which this adapter has first seen them

A rescan asks the name server for target ports, logs in to each, and asks each for its LUNs. Paths of before stay the
same objects, so that whoever uses them goes on where a cable is plugged in again.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_names import Wwn
from vilab.storage.scsi.lun_identity import REPORT_LUNS, Answer, ask, luns_of
from vilab.storage.scsi.sense import Status


class FcPath:
    """One way to one LUN; the Protocol ``vilab.storage.luns.paths.Path``."""

    def __init__(self, hba: HostBusAdapter, target: Wwn, number: int, lun: int) -> None:
        self.hba, self.target, self.lun = hba, target, lun
        self.name = f"{hba.name}:{number}:{lun}"

    @property
    def connected(self) -> bool:
        """There is a session: the array knows this nexus."""
        return (self.hba.wwpn, self.target) in self.hba.fabric.state.sessions

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        """``BlockError`` (away) where the command could not be sent."""
        if not self.connected:
            self.hba.fabric.login(self.hba.wwpn, self.target)
        response = self.hba.fabric.send(self.hba.wwpn, self.target, self.lun, cdb, data_out)
        return int(response.status), response.data_in, response.sense_bytes

    def reset_unit(self) -> None:
        self.hba.fabric.reset_unit(self.hba.wwpn, self.target, self.lun)

    def __repr__(self) -> str:
        return f"<FcPath {self.name} to {self.target}>"


class HostBusAdapter:
    """``on_change``: called when a target port has come or gone, for instance to look at the paths again."""

    def __init__(self, name: str, fabric: Fabric, wwpn: Wwn, wwnn: Wwn) -> None:
        self.name, self.fabric, self.wwpn, self.wwnn = name, fabric, wwpn, wwnn
        self.targets: list[Wwn] = []
        self.paths: dict[tuple[Wwn, int], FcPath] = {}
        self.on_change: Callable[[], None] = lambda: None
        fabric.attach(wwpn, wwnn, self, "initiator")

    def rescan(self) -> list[FcPath]:
        """The paths that there are now, by target and LUN."""
        found: list[FcPath] = []
        for port in self.fabric.targets_of(self.wwpn):
            if port.wwpn not in self.targets:
                self.targets.append(port.wwpn)
            number = self.targets.index(port.wwpn)
            try:
                self.fabric.login(self.wwpn, port.wwpn)
                first = FcPath(self, port.wwpn, number, 0)
                status, data, _ = ask(first.submit, REPORT_LUNS)
            except BlockError:
                continue  # gone since the name server answered
            for lun in luns_of(data) if status == Status.GOOD else ():
                found.append(self.paths.setdefault((port.wwpn, lun), FcPath(self, port.wwpn, number, lun)))
        return sorted(found, key=lambda path: (self.targets.index(path.target), path.lun))

    def state_change(self, own: Wwn, about: Wwn, reachable: bool) -> None:
        self.on_change()
