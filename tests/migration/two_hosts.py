"""Two hosts that see one volume over a Fibre Channel switch, and share a clock."""

from __future__ import annotations

from pathlib import Path

from tests.host.storage_helpers import register
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.vm_home import VmHome
from vilab.storage.luns.fc_array import StorageArray
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.storage.luns.fc_names import numbered
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity
from vilab.vmm.vm import QuietConsole

MB = 1 << 20


class TwoHosts:
    """``esx1``, ``esx2``; more are ``add``ed. Each has events of its own."""

    def __init__(self, folder: Path, memory_mb: int = 160, lun_mb: int = 320) -> None:
        self.folder, self.clock = folder, VirtualClock()
        self.memory_mb, self.made = memory_mb, 0
        self.fabric = Fabric("switch1", 1, self.clock, EventLog())
        self.array = StorageArray("array1", None, "active/active", self.clock, EventLog())
        self.array.connect(self.fabric, numbered(900), "A")
        self.array.create_lun(0, PagedDisk(lun_mb * MB), Identity("shared"))
        self.hosts: list[Host] = []
        self.esx1 = self.add()
        self.esx1.storage.create_vmfs(next(iter(self.esx1.storage.luns)), "san1")
        self.esx2 = self.add()

    def add(self) -> Host:
        self.made += 1
        number = self.made
        swap = self.folder / f"esx{number}"
        swap.mkdir()
        host = Host(self.memory_mb, f"esx{number}", swap_directory=swap, clock=self.clock, log=EventLog(keep=True))
        self.array.present(numbered(number), 0, 0)
        host.storage.add_adapter(HostBusAdapter("vmhba1", self.fabric, numbered(number), numbered(number, 0x20)))
        host.storage.rescan()
        self.hosts.append(host)
        return host

    def power_on(
        self, name: str = "web", engine: str = "svm", image: str = "kernel-disk", memory_mb: int = 8
    ) -> HostedVm:
        """On ``esx1``, from a file on the volume, with a disk."""
        where = register(self.esx1, f"[san1] {name}/{name}.vmx")
        self.change(where, **{"vilab.image": image, "vilab.engine": engine, "memsize": str(memory_mb)})
        return power_on_file(self.esx1, where, console=QuietConsole())

    def change(self, where: str, **lines: str) -> None:
        """Lines of a configuration file."""
        home = VmHome(self.esx1.storage, where)
        config = home.read()
        for key, value in lines.items():
            config.set(key, value)
        home.write(config)

    def close(self) -> None:
        for host in self.hosts:
            host.close()
