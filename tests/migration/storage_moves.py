"""Machines for Storage VMotion: a small host with several datastores, and a guest whose writes a model remembers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.host.storage_helpers import QUANTUM, register
from tests.storage.vmdk_judges import qemu_agrees
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.storage import StorageOptions
from vilab.host.vmx_disks import DiskSettings
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName
from vilab.protocols import BlockDevice
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.luns.fc_array import StorageArray
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.storage.luns.fc_names import numbered
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity
from vilab.vmm.vm import QuietConsole

MB = 1 << 20
WEB = "[local] web/web.vmx"
METHODS: tuple[MethodName, ...] = ("changed blocks", "snapshot")
SMALL = CopyOptions(step_bytes=128 << 10, little_bytes=64 << 10)
FILES = {"web-flat.vmdk", "web.vmdk", "web.vmsd.lock", "web.vmx", "web.vmx.lck"}
"""What there is of a machine that is on."""
LUN_BYTES = 320 * MB
URL = "nfs://filer/export?nfsport=2049&mountport=635"


class Site:
    """Hosts with a folder ``local`` and ``ds2`` of their computer, a VMFS volume ``san1`` and an export ``nfs1``."""

    def __init__(self, folder: Path, san: bool = False, nfs: bool = False) -> None:
        self.folder, self.clock, self.log = folder, VirtualClock(), EventLog(keep=True)
        self.hosts: list[Host] = []
        self.made = 0
        self.fabric = Fabric("switch1", 1, self.clock, self.log)
        self.array = StorageArray("array1", None, "active/active", self.clock, self.log)
        self.array.connect(self.fabric, numbered(900), "A")
        if san:
            self.array.create_lun(0, PagedDisk(LUN_BYTES), Identity("array-lun-0"))
        self.server = MemoryServer() if nfs else None
        self.san = san
        for name in ("local", "ds2"):
            (folder / name).mkdir(exist_ok=True)

    def host(self) -> Host:
        self.made += 1
        swap = self.folder / f"esx{self.made}"
        swap.mkdir()
        host = Host(
            40, f"esx{self.made}", swap_directory=swap, quantum_ns=QUANTUM, clock=self.clock, log=self.log,
            storage=StorageOptions(directory=self.folder / "local"),
        )  # fmt: skip
        host.storage.add_local("ds2", self.folder / "ds2")
        if self.san:
            wwpn = numbered(16 * self.made)
            self.array.present(wwpn, 0, 0)
            host.storage.add_adapter(HostBusAdapter("vmhba1", self.fabric, wwpn, numbered(self.made, 0x20)))
            host.storage.rescan()
            if self.made == 1:
                host.storage.create_vmfs(next(iter(host.storage.luns)), "san1")
        if self.server is not None:
            host.storage.add_nfs("nfs1", URL, self.server.dial, timeout_s=2.0)
        self.hosts.append(host)
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.close()


def idle(host: Host, where: str, *disks: DiskSettings) -> HostedVm:
    """A machine whose own program leaves its disks alone: the test writes to them."""
    return power_on_file(host, register(host, where, *disks), console=QuietConsole())


class Writer:
    """What a guest does to one of its disks, and what has to be there afterwards."""

    def __init__(self, device: BlockDevice, seed: int = 1) -> None:
        self.device, self.lot = device, random.Random(seed)
        self.model = bytearray(device.read(0, device.size_bytes))

    def write(self, offset: int, data: bytes) -> None:
        self.device.write(offset, data)
        self.model[offset : offset + len(data)] = data

    def unmap(self, offset: int, size: int) -> None:
        self.device.unmap(offset, size)
        self.model[offset : offset + size] = bytes(size)

    def some(self, times: int = 1, most_sectors: int = 40, sectors: int | None = None) -> None:
        """Writes anywhere (in the first ``sectors``): noise, zeros, unmappings."""
        end = self.device.size_bytes // 512 if sectors is None else sectors
        for _ in range(times):
            first = self.lot.randrange(end)
            size = 512 * min(self.lot.randint(1, most_sectors), end - first)
            kind = self.lot.random()
            if kind < 0.1:
                self.unmap(first * 512, size)
            else:
                self.write(first * 512, bytes(size) if kind < 0.2 else self.lot.randbytes(size))

    def agrees(self) -> bool:
        return self.device.read(0, self.device.size_bytes) == bytes(self.model)


def drive(vm: HostedVm, between: Callable[[], None], most: int = 10_000) -> int:
    """Steps of a move with writes between them, while the guest's own time stands still. How many."""
    for number in range(most):
        if vm.merge is None:
            return number
        vm.merge_step()
        between()
    raise AssertionError("it has not come to an end")


def content(host: Host, text: str) -> bytes:
    """What a disk that nobody has open holds."""
    mounted, _, place = host.storage.place(text)
    with open_chain(place, files=mounted.files) as chain:
        return chain.read(0, chain.size_bytes)


def qemu_finds(host: Host, folder: str, name: str, wanted: bytes, work: Path) -> None:
    """The files of a disk, brought to this computer, for an outside judge."""
    datastore = folder.partition("]")[0][1:]
    mounted = host.storage.mounted(datastore)
    work.mkdir()
    inside = folder.partition("] ")[2]
    for each in mounted.datastore.names(inside):
        if each.endswith(".vmdk"):
            file = mounted.datastore.open(f"{inside}/{each}")
            (work / each).write_bytes(file.read_some(0, file.size_bytes))
            file.close()
    qemu_agrees(work / name, wanted)


def names(host: Host, folder: str) -> list[str]:
    """What is in ``[datastore] folder``; nothing if there is no such folder."""
    datastore, _, inside = folder[1:].partition("] ")
    found = host.storage.mounted(datastore).datastore
    return found.names(inside) if found.exists(inside) else []


def on(host: Host, folder: str) -> set[str]:
    """The same, without locks on a file server and swap files."""
    return {name for name in names(host, folder) if not name.startswith(".lck-") and not name.endswith(".vswp")}
