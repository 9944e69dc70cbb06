"""The run of lesson 12: one line of text, from a guest's program down to the sectors of a LUN.

::

    put hello ...        program, tinyfs, driver      the teaching kernel, kernel-disk.elf
    LSI Logic            request, DMA, interrupt      vilab/devices
    SCSI disk 0          CDB                          vilab/storage/scsi
    vm-000001.vmdk       grains of a redo log         vilab/storage/disks/disk_chain
    VMFS, host esx1      file blocks                  vilab/storage/vmfs
    LUN 0                CDBs of the host, sectors    vilab/storage/scsi

All of it is one event log on one clock.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vilab.clock import VirtualClock
from vilab.course.disk_time import ListenedTo
from vilab.devices.scsi_events import CommandCompleted, RequestFetched
from vilab.errors import VmmBug
from vilab.events import Event, EventLog
from vilab.guests.load import load
from vilab.storage.datastore import DatastoreFiles
from vilab.storage.disks.extent import SECTOR_MASK
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_create import create
from vilab.storage.raw_disk import RawDisk
from vilab.storage.scsi.lun_disk import LunDisk, nexus_to
from vilab.storage.scsi.parallel import ParallelBus
from vilab.storage.scsi.request import ScsiCommand
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target
from vilab.storage.timed import Latency
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs import mkfs as vmfs_mkfs
from vilab.storage.vmfs.datastore import VmfsDatastore
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.time import VIRTUAL_EPOCH_S, VirtualTime
from vilab.view.write_path import SECTOR, Stop, sectors, spoken, stops
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter
from vilab.vmm.vm import QuietConsole, VirtualMachine

GUEST_MB, DISK_MB, LUN_MB = 8, 8, 512
SLICE_NS = 1_000_000
PROMPT = b"shell> "
UUID = bytes.fromhex("44f5b1c0 5d3c21aa 7e10 00188b3a0c5e".replace(" ", ""))


class Stack:
    """A booted teaching kernel with an empty file system on its disk, which is a redo log on a datastore on a LUN.

    ``log`` has everything from here on; ``events`` is what has happened since ``take`` was called last.
    """

    def __init__(self, latency: Latency | None = None) -> None:
        self.clock, self.log = VirtualClock(), EventLog()
        self._events: list[Event] = []
        self._folder = tempfile.TemporaryDirectory(prefix="vilab-lun-")
        lun_file = Path(self._folder.name) / "lun0.img"
        with lun_file.open("wb") as file:
            file.truncate(LUN_MB << 20)
        self.lun = RawDisk(lun_file, writable=True)
        vmfs_mkfs.make(self.lun, VIRTUAL_EPOCH_S, "datastore1", uuid=_uuids(), erase=False)
        target = Target(self.clock, self.log)
        target.add(0, self.lun, Identity("LUN0", product="Disk array"))
        nexus = Nexus("esx1")
        target.connect(nexus)
        self.host = Host(LunDisk(nexus_to(target, nexus, 0)), UUID, VirtualTime(self.clock), log=self.log)
        self.files = DatastoreFiles(VmfsDatastore(self.host))
        self.files.datastore.make_folder("vm")
        base = self.files.at("vm/vm.vmdk")
        create(base, DISK_MB << 11, "vmfs", files=self.files)
        self.disk = SnapshotDisk(base, self.files, self.log, self.clock)
        self.disk.snapshot()
        adapter = ScsiAdapter("lsilogic", (AttachedDisk(0, self.disk.chain, Identity("DISK0")),), latency or Latency())
        self.console = QuietConsole()
        self.vm = VirtualMachine(
            load("kernel-disk", memory_bytes=GUEST_MB << 20), "bt", GUEST_MB << 20, console=self.console,
            adapters=[adapter], log=self.log, clock=self.clock,
        )  # fmt: skip
        self.run_until(PROMPT)
        self.type("mkfs")
        self.log.listen(self._events.append)

    def type(self, line: str) -> str:
        """Type a line, run until the guest asks for the next one. What it has printed."""
        before = len(self.console.output)
        self.console.type(line)
        self.run_until(PROMPT, before)
        return bytes(self.console.output[before:]).decode("ascii", "replace").removesuffix(PROMPT.decode())

    def run_until(self, text: bytes, after: int = 0) -> None:
        """Let the guest run until its console ends with this, and has more than before."""
        for _ in range(60_000):
            if len(self.console.output) > after and self.console.output.endswith(text):
                return
            ended = self.vm.engine.run(self.vm.engine.now_ns() + SLICE_NS)
            if ended is not None:
                raise VmmBug(f"The guest of this lesson has ended: {ended.sentence}")
        raise VmmBug("The guest of this lesson does not come back to its prompt.")

    def bus(self) -> ParallelBus:
        """The guest's SCSI bus; its disk has the number 0."""
        bus = self.vm.buses[0]
        assert isinstance(bus, ParallelBus)
        return bus

    def take(self) -> list[Event]:
        found = self._events[:]
        self._events.clear()
        return found


def _uuids() -> Callable[[int], bytes]:
    """Of the volume: the same in every run."""
    numbers = iter(range(1, 100))
    return lambda unix_s: struct.pack("<IIQ", unix_s, 0x5D3C21AA, next(numbers))


class OneWrite:
    """``put NAME TEXT`` in the guest, with everything that happens below it.

    Parameters
    ----------
    name, text : what is typed; something that ends on the disk. before : lines typed first.
    latency : what the disk is made of; without it, an arm of 2006.
    """

    def __init__(
        self, name: str = "hello", text: str = "Hello, disk", before: Sequence[str] = (), latency: Latency | None = None
    ) -> None:
        self.name, self.text = name, text
        self.stack = Stack(latency)
        for line in before:
            self.stack.type(line)
        self.stack.take()
        self.requests = ListenedTo(self.stack.bus(), self.stack.log)
        self.said = self.stack.type(f"put {name} {text}")
        self.events = self.stack.take()

    def stops(self) -> list[Stop]:
        top = self.stack.disk.chain.top
        program = f'"{self.name}", {len(self.text) + 1} bytes'
        return stops(
            self.events, "vmhba0", "esx1", program, self._places(), f"/vm/{top.path.stem}-delta.vmdk", self._area
        )

    def at_the_lun(self) -> list[tuple[ScsiCommand, list[ScsiCommand]]]:
        """Each of the guest's commands with those of the host that it has led to."""
        found: list[tuple[ScsiCommand, list[ScsiCommand]]] = []
        below: list[ScsiCommand] = []
        for event in self.events:
            if isinstance(event, ScsiCommand) and event.nexus == "esx1":
                below.append(event)
            elif isinstance(event, ScsiCommand):
                found.append((event, below))
                below = []
        return found

    def _area(self, sector: int) -> str:
        """What this sector of the LUN is for VMFS."""
        host = self.stack.host
        at = sector * SECTOR - host.volume.base
        inodes = host.stat("/.fdc.sf").size_bytes
        ranges = (
            (on_disk.FS_AT, "the journal of esx1"), (on_disk.HEARTBEATS_AT, "the file system's descriptor"),
            (on_disk.HEARTBEATS_AT + on_disk.MIB, "the heartbeats of the hosts"),
            (on_disk.HEARTBEATS_AT + on_disk.MIB + inodes, "the file's inode, with its lock"),
        )  # fmt: skip
        return next((words for end, words in ranges if at < end), "the file's blocks")

    def _places(self) -> dict[int, int]:
        """Where each write of the guest lies in the redo log now."""
        found = {}
        for event in self.events:
            if isinstance(event, ScsiCommand) and event.nexus == "vmhba0" and event.data_out_bytes:
                first, _ = sectors(event.cdb)
                place = np.full(1, -1, np.int64)
                self.stack.disk.chain.top.locate(first, place)
                if place[0] >= 0:
                    found[first] = int(place[0]) & SECTOR_MASK
        return found


def table(run: OneWrite) -> str:
    """What each of the guest's commands has become: commands and bytes at the LUN."""
    lines = [
        f"{'the guest':40} {'bytes':>7}    {'at the LUN: reads':>17} {'writes':>7} {'others':>7} {'bytes written':>14}"
    ]
    total = [0, 0]
    for command, below in run.at_the_lun():
        reads = sum(each.data_in_bytes > 0 for each in below)
        writes = [each.data_out_bytes for each in below if each.data_out_bytes]
        total[0], total[1] = total[0] + command.data_out_bytes, total[1] + sum(writes)
        lines.append(
            f"{spoken(command.cdb):40} {command.data_out_bytes:7,}    {reads:17} {len(writes):7} "
            f"{len(below) - reads - len(writes):7} {sum(writes):14,}"
        )
    lines.append(f"{'':40} {total[0]:7,}    {'':17} {'':7} {'':7} {total[1]:14,}")
    return "\n".join(lines)


def time_of(run: OneWrite) -> str:
    """How long the disk had the guest's commands, and how long it took in all."""
    done = [event for event in run.events if isinstance(event, CommandCompleted)]
    asked = [event.at_ns for event in run.events if isinstance(event, RequestFetched)]
    disk, whole = sum(event.took_ns for event in done), done[-1].at_ns - asked[0]
    return (
        f"{len(done)} commands: the disk had them for {disk / 1e6:.2f} ms; between them the guest's processor ran for "
        f"{(whole - disk) / 1e6:.2f} ms."
    )
