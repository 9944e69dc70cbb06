"""A host with two datastores, and a machine that writes while its disk moves from one to the other.

::

           VMFS volume "san1"            NFS export "nfs1"
             │ [san1] web/                  │ [nfs1] web/
    ┌ esx1 ──┴──────────────────────────────┴─┐   web: the teaching kernel; it writes a file of 100,000 bytes, syncs,
    │ web ── disk of 2 MB                     │        and writes the next one, all the time
    └─────────────────────────────────────────┘
      esx2 sees both datastores as well, and looks after what is left when esx1 dies (``storage_move_death``)

Everything happens in virtual time, so that the same move is the same again, write by write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.host.host import Host, run_together
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName, StorageVmotion
from vilab.storage.luns.fc_array import StorageArray
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.storage.luns.fc_names import numbered
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity
from vilab.view.storage_move_run import MOVE_EVENTS, FolderChanged, GuestWrote
from vilab.vmm.vm import QuietConsole

MB, SECOND = 1 << 20, 1_000_000_000
QUANTUM_NS, LUN_BYTES, DISK_BYTES = 20_000_000, 320 * MB, 2 * MB
SOURCE, DESTINATION = "san1", "nfs1"
URL = "nfs://filer/export?nfsport=2049&mountport=635"
PROMPT = "shell> "
OLD_FILES, OLD_BYTES, NEW_BYTES, FILES_WRITTEN = 8, 100_000, 60_000, 18
OPTIONS = CopyOptions(step_bytes=128 << 10, little_bytes=128 << 10, redo_step_bytes=2 * MB)
"""So small that a round of 2 MB takes sixteen steps, between which the guest runs. A redo log goes at one go."""
LINES = """.encoding = "UTF-8"
displayName = "web"
memsize = "8"
vilab.image = "kernel-disk"
vilab.append = ""
"""


class StorageSite:
    """Two hosts that see a VMFS volume ``san1`` and an NFS export ``nfs1``; they share a clock."""

    def __init__(self) -> None:
        self.clock, self.log = VirtualClock(), EventLog()
        fabric = Fabric("switch1", 1, self.clock, EventLog())
        array = StorageArray("array1", None, "active/active", self.clock, EventLog())
        array.connect(fabric, numbered(900), "A")
        array.create_lun(0, PagedDisk(LUN_BYTES), Identity("array-lun-0"))
        server = MemoryServer()
        self.hosts: list[Host] = []
        for number in (1, 2):
            host = Host(40, f"esx{number}", quantum_ns=QUANTUM_NS, clock=self.clock, log=self.log)
            wwpn = numbered(16 * number)
            array.present(wwpn, 0, 0)
            host.storage.add_adapter(HostBusAdapter("vmhba1", fabric, wwpn, numbered(number, 0x20)))
            host.storage.rescan()
            if number == 1:
                host.storage.create_vmfs(next(iter(host.storage.luns)), SOURCE)
            host.storage.add_nfs(DESTINATION, URL, server.dial, timeout_s=2.0)
            self.hosts.append(host)

    @property
    def esx1(self) -> Host:
        return self.hosts[0]

    @property
    def esx2(self) -> Host:
        return self.hosts[-1]

    def register(self, datastore: str = SOURCE) -> str:
        where = f"[{datastore}] web/web.vmx"
        storage = self.esx1.storage
        storage.create_disk(where.replace(".vmx", ".vmdk"), DISK_BYTES)
        config = parse(LINES.encode(), where)
        add_disk(config, DiskSettings("scsi0:0", "web.vmdk"), "lsilogic")
        storage.write_file(where, write(config))
        return where

    def until(self, true: Callable[[], bool], what: str, most_s: int = 60) -> None:
        for _ in range(most_s * SECOND // QUANTUM_NS):
            if true():
                return
            run_together(self.hosts, QUANTUM_NS)
        raise AdminError(f"It has not come to pass within {most_s} s that {what}.")

    def close(self) -> None:
        for host in self.hosts:
            host.close()


def names_in(host: Host, datastore: str, folder: str = "web") -> tuple[str, ...]:
    """The files of the machine there that a person would look at: no locks, no swap file."""
    found = host.storage.mounted(datastore).datastore
    names = found.names(folder) if found.exists(folder) else []
    hidden = (".lck", ".vswp", ".vmsd", ".vmsd.lock", "-flat.vmdk", "-delta.vmdk")
    return tuple(sorted(name for name in names if not name.startswith(".") and not name.endswith(hidden)))


class PowerCut(BaseException):
    """The host does nothing more. Nothing catches it."""


class StorageMove:
    """One move with everything that happens to it, from an event to the next.

    Parameters
    ----------
    method : ``changed blocks`` or ``snapshot``.
    writes : how many files of 60,000 bytes the guest writes, one after the other, from the beginning of the move on.
    options : how much a step copies, and what is little.
    cut_after : the power of the host goes after so many of the move's events; -1: never.
    """

    def __init__(
        self, method: MethodName = "changed blocks", writes: int = FILES_WRITTEN, options: CopyOptions = OPTIONS,
        cut_after: int = -1,
    ) -> None:  # fmt: skip
        self.method, self.writes, self.options, self.cut_after = method, writes, options, cut_after
        self.site, self.console = StorageSite(), QuietConsole()
        self.events: list[Event] = []
        self.dead = False
        self.vm = self._power_on()
        self._listen()
        self._go()

    def _power_on(self) -> HostedVm:
        where = self.site.register()
        vm, console = power_on_file(self.site.esx1, where, console=self.console), self.console
        self.site.until(lambda: console.said.endswith(PROMPT), "web has booted")
        for line in ("mkfs", *(f"fill old{number} {OLD_BYTES} {number}" for number in range(OLD_FILES)), "sync"):
            after = len(console.said)
            console.type(line)
            self.site.until(lambda after=after: console.said[after:].endswith(PROMPT), line)  # type: ignore[misc]
        return vm

    # --- what is written down -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self.site.log.listen(self._heard)
        self.disk.watchers.append(self._guest_wrote)
        for name in (SOURCE, DESTINATION):
            datastore = self.site.esx1.storage.mounted(name).datastore
            for what in ("create", "rename", "remove"):
                setattr(datastore, what, self._watched(getattr(datastore, what)))
        self._names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._look()

    @property
    def disk(self) -> Any:
        assert self.vm.disks is not None
        return self.vm.disks.devices()["scsi0:0"]

    def _heard(self, event: Event) -> None:
        if not isinstance(event, MOVE_EVENTS) or self.dead:
            return
        self.events.append(event)
        if len(self.events) == self.cut_after:
            self.dead = True
            raise PowerCut

    def _guest_wrote(self, offset_bytes: int, size_bytes: int) -> None:
        self.site.log.emit(GuestWrote(self.site.esx1.now_ns, self.vm.name, offset_bytes, size_bytes))

    def _watched(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            if self.dead:
                raise PowerCut
            answer = do(*arguments)
            self._look()
            return answer

        return watched

    def _look(self) -> None:
        host = self.site.esx1
        names = names_in(host, SOURCE), names_in(host, DESTINATION)
        if names != self._names:
            self._names = names
            self.site.log.emit(FolderChanged(host.now_ns, self.vm.name, *names))

    # --- the move -----------------------------------------------------------------------------------------------------

    def _go(self) -> None:
        for number in range(self.writes):
            self.console.type(f"fill new{number} {NEW_BYTES} {number}")
            self.console.type("sync")
        host = self.site.esx1
        try:
            self.move = StorageVmotion(host, self.vm, DESTINATION, self.method, self.options)
            while self.move.running:
                host.run_for(QUANTUM_NS)
        except PowerCut:
            host.cut_power()
            self.site.hosts.remove(host)

    def close(self) -> None:
        self.site.close()
