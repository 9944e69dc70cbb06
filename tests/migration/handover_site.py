"""Three hosts on one datastore with a machine on it, made quickly and again and again; each may lose its power or stand
still at any of its commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from tests.host.storage_helpers import register
from tests.storage.san import PORTS
from tests.storage.vmfs_disks import SparseDisk
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.protocols import ReadableBytes
from vilab.storage.luns.fc_array import StorageArray
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_hba import FcPath, HostBusAdapter
from vilab.storage.luns.fc_names import numbered
from vilab.storage.nfs.link import Dial, Link
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.scsi.lun_identity import Answer as ScsiAnswer
from vilab.storage.scsi.state import Identity

Kind = Literal["local", "vmfs", "nfs"]
WEB, SESSION = "[san1] web/web.vmx", "5e5510"
URL = "nfs://filer/export?nfsport=2049&mountport=635"
NODE = "scsi0:0"
EARLIER, LATER = b"before it moved".ljust(512, b"."), b"after it has moved".ljust(512, b".")


class Died(BaseException):
    """A host has no power any more, in the middle of something."""


ENOUGH = 1 << 60


class Fuse:
    """What a host has left to say to its storage before it dies; or before it stands still, where ``nap`` is set."""

    def __init__(self) -> None:
        self.left = ENOUGH
        self.nap: Callable[[], None] | None = None

    def burn(self) -> None:
        self.left -= 1
        if self.left >= 0:
            return
        if self.nap is None:
            raise Died
        nap, self.nap, self.left = self.nap, None, ENOUGH
        nap()


class FusedAdapter(HostBusAdapter):
    """Each command may be the last one."""

    def __init__(self, fuse: Fuse, fabric: Fabric, number: int) -> None:
        super().__init__("vmhba1", fabric, numbered(number), numbered(number, 0x20))
        self.fuse = fuse

    def rescan(self) -> list[FcPath]:
        found = super().rescan()
        for path in found:
            path.submit = partial(self._submit, path.submit)  # type: ignore[method-assign]
        return found

    def _submit(
        self, submit: Callable[[bytes, ReadableBytes], ScsiAnswer], cdb: bytes, data: ReadableBytes = b""
    ) -> ScsiAnswer:
        self.fuse.burn()
        return submit(cdb, data)


class FusedLink:
    """Each call may be the last one, and each answer may come too late."""

    def __init__(self, fuse: Fuse, link: Link) -> None:
        self.fuse, self.link = fuse, link

    def send(self, data: bytes) -> None:
        self.fuse.burn()
        self.link.send(data)

    def receive(self, timeout_s: float) -> bytes:
        answer = self.link.receive(timeout_s)
        self.fuse.burn()
        return answer

    def close(self) -> None:
        self.link.close()


class San:
    """One array with one LUN, and one switch."""

    def __init__(self, disk: SparseDisk, clock: VirtualClock, log: EventLog) -> None:
        self.fabric = Fabric("switch1", 1, clock, log)
        self.array = StorageArray("array1", None, "active/active", clock, log)
        self.array.connect(self.fabric, PORTS["A0"], "A")
        self.array.create_lun(0, disk, Identity("shared"))

    def connect(self, host: Host, number: int, fuse: Fuse) -> None:
        self.array.present(numbered(number), 0, 0)
        host.storage.add_adapter(FusedAdapter(fuse, self.fabric, number))
        host.storage.rescan()


class Site:
    """Where worlds are made: a datastore with a machine on it, which each of them has for its own."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder, self.made = kind, folder, 0
        self.volume = SparseDisk()
        if kind == "vmfs":
            (host,) = self._hosts([Fuse()], self.volume)
            host.storage.create_vmfs(next(iter(host.storage.luns)), "san1")
            register(host, WEB)
            host.close()

    def hosts(self) -> tuple[list[Host], list[Fuse]]:
        fuses = [Fuse(), Fuse(), Fuse()]
        hosts = self._hosts(fuses, self.volume.copy())
        if self.kind != "vmfs":
            register(hosts[0], WEB)
        return hosts, fuses

    def _hosts(self, fuses: list[Fuse], volume: SparseDisk) -> list[Host]:
        clock, log = VirtualClock(), EventLog(keep=True)
        names = [f"esx{number}" for number, _ in enumerate(fuses, 1)]
        hosts = [Host(4, name, swap_directory=self.folder, clock=clock, log=log) for name in names]
        if self.kind == "vmfs":
            san = San(volume, clock, log)
            for number, (host, fuse) in enumerate(zip(hosts, fuses, strict=True), 1):
                san.connect(host, number, fuse)
        elif self.kind == "nfs":
            server = MemoryServer()
            for host, fuse in zip(hosts, fuses, strict=True):
                host.storage.add_nfs("san1", URL, partial(_dial, server, fuse))
        else:
            self.made += 1
            shared = self.folder / str(self.made)
            shared.mkdir()
            for host in hosts:
                host.storage.add_local("san1", shared)
        return hosts


def _dial(server: MemoryServer, fuse: Fuse, port: int) -> Dial:
    dial = server.dial(port)
    return lambda timeout_s: FusedLink(fuse, dial(timeout_s))


def open_disks(host: Host, handed_over: bool = False) -> VmDisks:
    """As a power-on does."""
    return VmDisks(VmHome(host.storage, WEB), host.clock, host.log, handed_over=handed_over)
