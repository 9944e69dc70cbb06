"""Two hosts between which machines can move: one volume over iSCSI, a physical switch, a client behind it.

::

              iSCSI target, LUN 0: VMFS volume "san1"
                 │ software initiators   │
    ┌ esx1 ──────┴──────┐     ┌──────────┴─ esx2 ─┐     web: the teaching kernel, its files on san1,
    │ web  vmk0 10.1.0.1│     │vmk0 10.1.0.2      │          10.0.0.7, answers datagrams (udpecho)
    └──── vmnic0 ───────┘     └────── vmnic0 ─────┘          and writes into its memory meanwhile
             └── physical switch sw1 ──┘
                         │
                  client 10.0.0.100          asks web all the time, and counts (``vmotion_client``)

Everything happens in virtual time, so that the same lab does the same again, to the nanosecond. The hosts take turns as
``run_together`` has it. MODEL: pages travel over a link of their own between both hosts, of whatever speed; iSCSI costs
no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.clock import VirtualClock
from vilab.course.vmotion_client import EchoClient, Heard
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.host.host import Host, run_together
from vilab.host.host_network import FIRST_SWITCH
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration.agent_link import LinkSettings
from vilab.migration.options import DEFAULT, MigrationOptions
from vilab.migration.source import Progress
from vilab.migration.vmotion import GIGABIT, Migration
from vilab.network.packets import ip_of
from vilab.network.physical_port import Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.wire import Wire
from vilab.storage.iscsi.client import MemoryLink
from vilab.storage.iscsi.session import Portal
from vilab.storage.iscsi.target import IscsiTarget
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity
from vilab.storage.scsi.target import Target
from vilab.vmm.vm import QuietConsole

MB, MS, MEGABIT = 1 << 20, 1_000_000, 1_000_000
HOST_MB, LUN_MB, GUEST_MB, DISK_MB = 96, 320, 16, 1
IQN, PORTAL = "iqn.2006-06.org.example:san1", Portal("10.0.0.9:3260")
DATASTORE, IMAGE, ENGINE, PROMPT = "san1", "kernel-writer", "svm", "shell> "
CLIENT_IP, FIRST_GUEST = "10.0.0.100", 7
MOST_MS = 60_000
LINES = """.encoding = "UTF-8"
displayName = "{name}"
memsize = "{memory_mb}"
vilab.image = "{image}"
vilab.engine = "{engine}"
vilab.append = "ip={ip}"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vlance"
"""


class VMotionLab:
    """Hosts ``esx1``, ``esx2`` (more: ``add_host``), and no machine yet: ``power_on``.

    Attributes
    ----------
    hosts : by name. clock : everybody's. log : what hosts and migrations report, of all hosts, in order.
    target : the iSCSI target; ``add_lun`` gives it another LUN with a volume. switch, client : the network outside.
    mbit : Mbit/s of the hosts' wires.
    """

    def __init__(self, hosts: int = 2, host_mb: int = HOST_MB, lun_mb: int = LUN_MB, mbit: int = 1000) -> None:
        self.clock, self.log, self.host_mb, self.mbit = VirtualClock(), EventLog(keep=True), host_mb, mbit
        self.luns = Target(self.clock)
        self.target = IscsiTarget(IQN, self.luns, [PORTAL])
        self.hosts: dict[str, Host] = {}
        self.addresses: dict[str, str] = {}
        self.switch = PhysicalSwitch("sw1", self.clock, {f"port{number}": Trunk() for number in range(17)})
        wire = Wire(self.clock)
        self.switch.connect("port0", wire.b)
        self.client = EchoClient(wire.a, bytes.fromhex("00505600aa01"), ip_of(CLIENT_IP), self.clock)
        self._lun_numbers = 0
        for _ in range(hosts):
            self.add_host()
        self.add_lun(DATASTORE, lun_mb)

    # --- hosts and what they share ------------------------------------------------------------------------------------

    def add_host(self) -> Host:
        """``esx3`` and so on: on the target, in the physical switch, with a VMkernel port for VMotion."""
        number = len(self.hosts) + 1
        host = Host(self.host_mb, f"esx{number}", clock=self.clock, log=EventLog())
        host.log.listen(self.log.emit)
        host.storage.add_portal(PORTAL.address, IQN, dial=lambda _portal: MemoryLink(self.target, PORTAL))
        if self._lun_numbers:
            host.storage.rescan()
        wire = Wire(self.clock, self.mbit * MEGABIT)
        self.switch.connect(f"port{number}", wire.b)
        host.network.add_nic("vmnic0", wire.a, bytes((0, 0x1B, 0x21, 0, 0, number)), FIRST_SWITCH)
        host.network.switches.switch(FIRST_SWITCH).add_port_group("VMotion")
        vmkernel = bytes((0, 0x50, 0x56, 0x60, 0, number))
        host.network.add_vmkernel_port("vmk0", "VMotion", vmkernel, bytes((10, 1, 0, number)))
        host.network.enable_vmotion("vmk0")
        self.hosts[host.name] = host
        return host

    def add_lun(self, label: str, size_mb: int = LUN_MB) -> None:
        """One more LUN with a VMFS volume, and every host has mounted it."""
        self.luns.add(self._lun_numbers, PagedDisk(size_mb * MB), Identity(label))
        self._lun_numbers += 1
        first, *others = self.hosts.values()
        (found,) = first.storage.rescan().luns
        first.storage.create_vmfs(found, label)
        for host in others:
            host.storage.rescan()

    # --- machines -----------------------------------------------------------------------------------------------------

    def power_on(
        self, name: str = "web", host: str = "esx1", memory_mb: int = GUEST_MB, *, datastore: str = DATASTORE,
        image: str = IMAGE, engine: str = ENGINE,
    ) -> HostedVm:  # fmt: skip
        """A machine with a disk of 1 MB on the volume; it has booted, and its shell waits. Its address: the next one
        from 10.0.0.7 on."""
        at = self.hosts[host]
        where = f"[{datastore}] {name}/{name}.vmx"
        ip = self.addresses.setdefault(name, f"10.0.0.{FIRST_GUEST + len(self.addresses)}")
        at.storage.create_disk(where.replace(".vmx", ".vmdk"), DISK_MB * MB)
        lines = LINES.format(name=name, memory_mb=memory_mb, image=image, engine=engine, ip=ip)
        config = parse(lines.encode(), where)
        add_disk(config, DiskSettings("scsi0:0", f"{name}.vmdk"))
        at.storage.write_file(where, write(config))
        vm = power_on_file(at, where, console=QuietConsole())
        self.until(lambda: vm.console.said.endswith(PROMPT), f"{name} has booted")
        return vm

    def type_line(self, line: str, name: str = "web", wait_for: str = "") -> None:
        """At a machine's console. ``wait_for``: go on until it has said that; empty: do not wait."""
        vm = self.vm(name)
        after = len(vm.console.said)
        vm.console.type(line)
        if wait_for:
            self.until(lambda: wait_for in self.vm(name).console.said[after:], f"{name} has said {wait_for!r}")

    def serve(self, writer: str = "", name: str = "web") -> None:
        """The machine answers datagrams from now on, and runs ``writer`` beside that, such as ``writer 1500 200 4 1``:
        pages, hot ones, writes of them and of others in a tick of 10 ms."""
        if writer:
            self.type_line(f"together udpecho + {writer}", name, "pages filled")
        else:
            self.type_line("udpecho", name, "udpecho: port")

    def vm(self, name: str = "web") -> HostedVm:
        """Where it runs now. ``AdminError`` if it does nowhere."""
        return self.host_of(name).vms[name]

    def host_of(self, name: str = "web") -> Host:
        """The host on which it is. ``AdminError`` if it is on none."""
        for host in self.hosts.values():
            if name in host.vms:
                return host
        raise AdminError(f"No host has a machine {name}: power it on.")

    # --- time ---------------------------------------------------------------------------------------------------------

    def run_for(self, milliseconds: float) -> None:
        """All hosts run for so long."""
        run_together(list(self.hosts.values()), round(milliseconds * MS))

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Run until it is so. ``AdminError`` after a minute of virtual time."""
        for _ in range(MOST_MS // 10):
            if true():
                return
            self.run_for(10)
        raise AdminError(f"It has not come to pass within {MOST_MS // 1000} s that {what}.")

    # --- VMotion ------------------------------------------------------------------------------------------------------

    def migration(
        self, name: str = "web", to: str = "", link: LinkSettings = GIGABIT, options: MigrationOptions = DEFAULT
    ) -> Migration:
        """A task, to be stepped by hand. ``to``: another host than its own; the next one if it is empty."""
        here = self.host_of(name)
        names = list(self.hosts)
        there = self.hosts[to or names[(names.index(here.name) + 1) % len(names)]]
        beside = [host for host in self.hosts.values() if host is not here and host is not there]
        return Migration(here, here.vms[name], there, link, options, beside=beside)

    def move(
        self, name: str = "web", to: str = "", link: LinkSettings = GIGABIT, options: MigrationOptions = DEFAULT,
        watch: Callable[[Progress], None] = lambda _progress: None,
    ) -> Migration:  # fmt: skip
        """To the end. ``AdminError``: it was not moved, and why."""
        migration = self.migration(name, to, link, options)
        migration.run(watch)
        return migration

    def ask(self, name: str = "web") -> None:
        """The client asks this machine from now on."""
        self.client.ask(ip_of(self.addresses[name]))

    def heard(self, settle_ms: float = 100) -> Heard:
        """The client asks no more; what it has heard, when late answers have had time to come."""
        self.client.stop()
        self.run_for(settle_ms)
        return self.client.heard()

    def events(self, kinds: type[Event] | tuple[type[Event], ...] = Event) -> Sequence[Event]:
        """Of all hosts until now."""
        return [event for event in self.log.events if isinstance(event, kinds)]

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
