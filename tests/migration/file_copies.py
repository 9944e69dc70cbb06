"""Machines for copies between hosts that share nothing: each has folders of its own, and a link joins their agents.

::

    esx1  [local] web/web.vmx ──> FileCopySource ──> MemoryLink ──> FileCopyDestination ──> esx2  [local] web/web.vmx
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.host_network import FIRST_SWITCH
from vilab.host.storage import StorageOptions
from vilab.host.vm_departure import read_departure
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration.agent_link import LinkSettings, MemoryLink
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import AgentSession, Received
from vilab.migration.file_copy_decision import FileCopyInquiry
from vilab.migration.file_copy_destination import FileCopyDestination
from vilab.migration.file_copy_messages import FileCopyMessage
from vilab.migration.file_copy_source import FileCopyOptions, FileCopySource
from vilab.storage.disks.redo_log import SnapshotDisk

KB, MB = 1 << 10, 1 << 20
WEB = "[local] web/web.vmx"
SECRET = b"what both of them know, 32 bytes"
NUMBER = "0123456789abcdef"
LINES = """.encoding = "UTF-8"
displayName = "web"
memsize = "8"
vilab.image = "kernel-disk"
uuid.bios = "56 4d 32 11 22 33 44 55-65 f4 71 00 00 00 00 01"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vlance"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0c:29:01:02:03"
"""
PATIENCE_NS = 200_000_000
SMALL = FileCopyOptions(step_bytes=128 * KB, turn_bytes=256 * KB, patience_ns=PATIENCE_NS)
FAST = LinkSettings(100_000_000, 100_000)
STEP_NS = 2_000_000


class Site:
    """``esx1``, ``esx2``, and more: each with ``local`` and ``ds2``, which nobody else sees."""

    def __init__(self, folder: Path, hosts: int = 2) -> None:
        self.folder, self.clock = folder, VirtualClock()
        self.hosts: dict[str, Host] = {}
        for number in range(1, hosts + 1):
            self.host(f"esx{number}")

    def host(self, name: str) -> Host:
        """A host, or another one in its place: its folders are as they were."""
        for each in ("swap", "local", "ds2"):
            (self.folder / name / each).mkdir(parents=True, exist_ok=True)
        at = self.folder / name
        options = StorageOptions(directory=at / "local")
        host = Host(16, name, swap_directory=at / "swap", clock=self.clock, log=EventLog(keep=True), storage=options)
        host.storage.add_local("ds2", at / "ds2")
        self.hosts[name] = host
        return host

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()


def make(host: Host, where: str = WEB, snapshots: int = 1, disk_bytes: int = MB, seed: int = 1) -> dict[str, bytes]:
    """A machine that is off: a disk with redo logs above it, other files, a large hole. Its files."""
    lot, storage = random.Random(seed), host.storage
    folder, name = where.rpartition("/")[0], where.rpartition("/")[2].removesuffix(".vmx")
    storage.create_disk(f"{folder}/{name}.vmdk", disk_bytes)
    mounted, _, base = storage.place(f"{folder}/{name}.vmdk")
    with SnapshotDisk(base, mounted.files) as disk:
        for number in range(snapshots + 1):
            if number:
                disk.make_child(base.with_name(f"{name}-{number:06}.vmdk"))
            for _ in range(5):
                disk.chain.write(512 * lot.randrange(disk_bytes // 512 - 8), lot.randbytes(8 * 512))
            disk.chain.flush()
    top = f"{name}-{snapshots:06}.vmdk" if snapshots else f"{name}.vmdk"
    config = parse(LINES.replace('"web"', f'"{name}"').encode(), where)
    add_disk(config, DiskSettings("scsi0:0", top))
    storage.write_file(where, write(config))
    storage.write_file(f"{folder}/{name}.nvram", lot.randbytes(8664))
    storage.write_file(f"{folder}/{name}.vmss", bytes(200 * KB) + lot.randbytes(100 * KB) + bytes(70 * KB))
    storage.write_file(f"{folder}/empty", b"")
    return files(host, folder)


def files(host: Host, folder: str = "[local] web") -> dict[str, bytes]:
    """What is there, without locks, swap files and what was not renamed yet; nothing where there is no such folder."""
    name, _, inside = folder[1:].partition("] ")
    datastore = host.storage.mounted(name).datastore
    if not datastore.exists(inside):
        return {}
    found = {}
    for each in datastore.names(inside):
        if not each.endswith((".lck", ".lock", ".vswp")) and not each.startswith(".vilab-"):
            file = datastore.open(f"{inside}/{each}")
            found[each] = file.read_some(0, file.size_bytes)
            file.close()
    return found


def home(host: Host, where: str = WEB) -> VmHome:
    return VmHome(host.storage, where)


def can_power_on(host: Host, where: str = WEB) -> str:
    """Why not; empty: it can be. Its files are free again then."""
    try:
        disks = VmDisks(home(host, where), host.clock, host.log)
    except AdminError as error:
        return str(error)
    assert disks.close() == []
    return ""


class Pair:
    """A copy under way over a link in virtual time."""

    def __init__(
        self, source: Host, destination: Host, *, where: str = WEB, to: str = WEB, clone_name: str = "",
        options: FileCopyOptions = SMALL, number: str = NUMBER, settings: LinkSettings = FAST,
    ) -> None:  # fmt: skip
        self.clock = source.clock
        self.link = MemoryLink(self.clock, settings, (source.name, destination.name))
        self.heard: list[tuple[str, msgspec.Struct]] = []
        """Who has heard which message."""
        self.before: Callable[[str, msgspec.Struct], None] = lambda _who, _message: None
        """Called before a message is heard."""
        self.destination = FileCopyDestination(
            destination, source.name, lambda message, body: self.there.send(message, body), patience_ns=PATIENCE_NS,
            now=lambda: self.clock.now_ns,
        )  # fmt: skip
        self.source = FileCopySource(
            source, VmHome(source.storage, where), destination.name, to,
            lambda message, body: self.here.send(message, body), number, clone_name=clone_name, options=options,
            address="127.0.0.1:902", now=lambda: self.clock.now_ns,
        )  # fmt: skip
        self.dead = ""
        """A host that does nothing more."""
        self.there = AgentPort(
            AgentSession(destination.name, SECRET, FileCopyMessage, initiator=False), self.link.b, self._hear_there,
            lambda why: self.dead == destination.name or self.destination.lost(why),
        )  # fmt: skip
        self.here = AgentPort(
            AgentSession(source.name, SECRET, FileCopyMessage, initiator=True), self.link.a, self._hear_here,
            lambda why: self.dead == source.name or self.source.lost(why),
        )  # fmt: skip

    def _hear_there(self, got: Received) -> None:
        if self.dead != self.destination.host.name:
            self.before("destination", got.message)
            self.heard.append(("destination", got.message))
            self.destination.received(got.message, got.body)

    def _hear_here(self, got: Received) -> None:
        if self.dead != self.source.host.name:
            self.before("source", got.message)
            self.heard.append(("source", got.message))
            self.source.received(got.message, got.body)

    def step(self) -> None:
        self.clock.run_to(self.clock.now_ns + STEP_NS)
        if self.dead != self.source.host.name:
            self.source.pump(512 * KB - self.here.waiting_bytes)
        if self.dead != self.destination.host.name:
            self.destination.pump()

    def run(self, most: int = 20_000) -> FileCopySource:
        self.source.start()
        return self.go_on(most)

    def go_on(self, most: int = 20_000) -> FileCopySource:
        """Until both are at the end, as far as they live."""
        for _ in range(most):
            here = self.source.over or self.dead == self.source.host.name
            there = self.destination.over or self.dead == self.destination.host.name
            if here and there:
                return self.source
            if here:
                self.here.close()
            self.step()
        raise AssertionError((self.source.phase, self.destination.phase))


def ask(source: Host, destination: Host, where: str = WEB, finish: bool = True) -> FileCopyInquiry:
    """The source asks on a new connection, and does what it is told."""
    clock = source.clock
    link = MemoryLink(clock, FAST, (source.name, destination.name))
    answering = FileCopyDestination(destination, source.name, lambda message, body: there.send(message, body))
    inquiry = FileCopyInquiry(
        VmHome(source.storage, where), lambda message, body: here.send(message, body), finish, now=lambda: clock.now_ns
    )
    there = AgentPort(
        AgentSession(destination.name, SECRET, FileCopyMessage, initiator=False), link.b,
        lambda got: answering.received(got.message, got.body), answering.lost,
    )  # fmt: skip
    here = AgentPort(
        AgentSession(source.name, SECRET, FileCopyMessage, initiator=True), link.a,
        lambda got: inquiry.received(got.message), inquiry.lost,
    )  # fmt: skip
    inquiry.start(destination.name)
    for _ in itertools.repeat(None, 100):
        clock.run_to(clock.now_ns + STEP_NS)
    assert inquiry.over
    here.close()
    clock.run_to(clock.now_ns + STEP_NS)
    return inquiry


def one_of_both(source: Host, destination: Host, before: dict[str, bytes], finish: bool) -> str:
    """Where the machine is in the end. Never at both, all of it where it is, and nothing of it anywhere else.

    Before the source has asked it may be at neither: then the source says so.
    """
    here, there = can_power_on(source), can_power_on(destination)
    assert here or there, "two machines"
    if here and there:
        assert "stays off on esx1" in here, here
        assert "[local] web/web.vmx on esx2" in here
    if files(source) and read_departure(home(source)) is not None:
        inquiry = ask(source, destination, finish=finish)
        assert inquiry.phase in ("moved", "here"), inquiry.why
    here, there = can_power_on(source), can_power_on(destination)
    assert bool(here) != bool(there), (here, there)
    found, other = (source, destination) if there else (destination, source)
    now = files(found)
    assert b"vilab.move" not in now["web.vmx"] or found is destination
    del now["web.vmx"]
    assert now == {name: content for name, content in before.items() if name != "web.vmx"}
    assert not any(name == "web.vmx" for name in files(other))
    return found.name


def no_network(host: Host) -> None:
    host.network.switches.switch(FIRST_SWITCH).remove_port_group("VM Network")
