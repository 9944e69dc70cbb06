"""Two hosts that see one volume over a Fibre Channel switch, and share a clock."""

from __future__ import annotations

from pathlib import Path

from tests.host.storage_helpers import register
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.host_network import FIRST_SWITCH
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.storage import StorageOptions
from vilab.host.vm_home import VmHome
from vilab.network.physical_port import Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.wire import Wire
from vilab.storage.luns.fc_array import StorageArray
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.storage.luns.fc_names import numbered
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity
from vilab.vmm.vm import QuietConsole

MB = 1 << 20


class TwoHosts:
    """``esx1``, ``esx2``; more are ``add``ed. Each has events of its own. ``joined``: by a physical switch, and a
    network for VMotion. ``storage``: of every host."""

    def __init__(
        self, folder: Path, memory_mb: int = 160, lun_mb: int = 320, joined: bool = True,
        storage: StorageOptions | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.clock, self.storage = folder, VirtualClock(), storage
        self.memory_mb, self.made, self.joined = memory_mb, 0, joined
        self.fabric = Fabric("switch1", 1, self.clock, EventLog())
        self.array = StorageArray("array1", None, "active/active", self.clock, EventLog())
        self.array.connect(self.fabric, numbered(900), "A")
        self.array.create_lun(0, PagedDisk(lun_mb * MB), Identity("shared"))
        self.switch = PhysicalSwitch("switch2", self.clock, {f"port{n}": Trunk() for n in range(1, 201)})
        self.hosts: list[Host] = []
        self.esx1 = self.add()
        self.esx1.storage.create_vmfs(next(iter(self.esx1.storage.luns)), "san1")
        self.esx2 = self.add()

    def add(self) -> Host:
        self.made += 1
        number = self.made
        swap = self.folder / f"esx{number}"
        swap.mkdir(parents=True)
        host = Host(
            self.memory_mb, f"esx{number}", swap_directory=swap, clock=self.clock, log=EventLog(keep=True),
            storage=self.storage,
        )  # fmt: skip
        self.array.present(numbered(number), 0, 0)
        host.storage.add_adapter(HostBusAdapter("vmhba1", self.fabric, numbered(number), numbered(number, 0x20)))
        host.storage.rescan()
        if self.joined:
            self.join(host, number)
        self.hosts.append(host)
        return host

    def join(self, host: Host, number: int) -> None:
        """A card of ``VM Network`` in the physical switch, and a VMkernel port for VMotion."""
        wire = Wire(self.clock)
        self.switch.connect(f"port{number}", wire.b)
        network = host.network
        network.add_nic("vmnic0", wire.a, bytes((0, 0x1B, 0x21, 0, 0, number)), FIRST_SWITCH)
        network.switches.switch(FIRST_SWITCH).add_port_group("VMotion")
        network.add_vmkernel_port("vmk0", "VMotion", bytes((0, 0x50, 0x56, 0x60, 0, number)), bytes((10, 1, 0, number)))
        network.enable_vmotion("vmk0")

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
