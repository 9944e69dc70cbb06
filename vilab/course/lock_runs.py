"""The runs of lesson 14: two hosts on one LUN, each a function that says what it does and when.

::

    def esx1(host):                      def esx2(host):
        host.until(1).mount()                host.until(2).mount()
        host.until(4).power_on("db")         host.until(20).power_on("db")      it waits where a lock has an owner
        host.until(15).cut_power()

    TwoHosts(esx1, esx2).story           everything that has come to pass, as ``view.lock_frame`` has it

Volume, hosts, target and bytes are the real ones: ``vmfs.host.Host`` over CDBs to ``scsi.target.Target``, in virtual
time. MODEL: every command takes half a millisecond, as to an array that has it in its cache; a host that loses power
takes its nexus with it at once (``nexus_s``: so much later), and with the nexus its reservation.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.clock import Timer, VirtualClock
from vilab.course.host_threads import HostThread, run
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.lun_disk import LunDisk, nexus_to
from vilab.storage.scsi.lun_identity import Answer
from vilab.storage.scsi.sense import Status
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.errors import FileInUse, HostFenced
from vilab.storage.vmfs.events import (
    VmfsHeartbeatBroken,
    VmfsJournalReplayed,
    VmfsJournalWritten,
    VmfsLockTaken,
    VmfsReservation,
)
from vilab.storage.vmfs.file import VmfsFile
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import MIB
from vilab.storage.vmfs.lun import SharedDisk
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES, make
from vilab.storage.vmfs.time import VIRTUAL_EPOCH_S, VirtualTime
from vilab.view.lock_frame import SECOND_NS, Command, LockStep, LockStory, Said
from vilab.view.vmfs_frame import FREE, VolumeMoment, capture
from vilab.view.write_path import sectors

COMMAND_NS = 500_000
NAMES = ("esx1", "esx2")
FILES = {"db": ("/db/db.vmx", "/db/db-flat.vmdk"), "web": ("/web/web.vmx", "/web/web-flat.vmdk")}
"""What is locked for as long as a virtual machine is on."""
COMMANDS = {0x28: "READ", 0x2A: "WRITE", 0x35: "FLUSH", 0x93: "ZERO", 0x16: "RESERVE", 0x17: "RELEASE"}

Script = Callable[["EsxHost"], object]


def uuid_of(name: str) -> bytes:
    """A host's UUID: time and random parts, and its network card's address."""
    number = int("".join(filter(str.isdigit, name)) or 0)
    return bytes.fromhex("4c2b0e44e15a0b7c31f0") + bytes((0x00, 0x0C, 0x29, 0x5A, 0x00, number))


def new_volume(paths: tuple[str, ...] = (), label: str = "san1") -> PagedDisk:
    """A LUN of 273 MB with a VMFS-3 volume; the given files on it, empty, in their folders."""
    disk = PagedDisk(OVERHEAD_BYTES + on_disk.EXTENT_BYTES)
    make(disk, VIRTUAL_EPOCH_S, label, uuid=lambda at: at.to_bytes(16, "little"), erase=False)
    if paths:
        maker = Host(SharedDisk(disk).port("setup"), uuid_of("esx0"), VirtualTime(VirtualClock()))
        for path in paths:
            folder = path.rsplit("/", 1)[0]
            if folder and not maker.exists(folder):
                maker.mkdir(folder)
            maker.create(path).close()
        maker.leave()
    return disk


class EsxHost:
    """One host as a script sees it. Every method comes back when it is done, at some later time."""

    def __init__(self, stage: TwoHosts, name: str, script: Script) -> None:
        self.stage, self.name, self.script = stage, name, script
        self.nexus = Nexus(name)
        self._to_lun = nexus_to(stage.target, self.nexus, 0)
        self.thread = HostThread(name, stage.clock, self._follow)
        self.thread.on_death = self._died
        self.log = EventLog()
        self.log.listen(self._heard)
        self.host: Host | None = None
        self.open: dict[str, list[VmfsFile]] = {}
        self._cut_after_journal = False
        self._met_ns = -SECOND_NS
        self._halfway: Timer | None = None

    # --- what a script says -------------------------------------------------------------------------------------------

    def until(self, second: float) -> EsxHost:
        """Do nothing but renew the heartbeat until then."""
        end_ns = int(second * SECOND_NS)
        while self.thread.now_ns < end_ns:
            self.thread.wait(min(SECOND_NS, end_ns - self.thread.now_ns))
            if self.host is not None:
                self._if_fenced(self.host.beat)
        return self

    def mount(self) -> None:
        self.stage.target.connect(self.nexus)
        self.host = Host(LunDisk(self._submit), uuid_of(self.name), self.thread, log=self.log)
        self.stage.step("mounts", self.name)

    def power_on(self, vm: str) -> bool:
        """Take all the machine's locks, waiting for owners that may be dead; all of them or none."""
        volume = self.stage.volume()
        owned = any(each.lock != FREE for path in FILES[vm] if (each := volume.file(path)) is not None)
        if owned:
            self._asks(vm)
        taken: list[VmfsFile] = []
        try:
            for path in FILES[vm]:
                taken.append(self._mounted().open_to_write(path))
                self._waits_no_more()
        except (FileInUse, HostFenced, BlockError) as error:
            self._waits_no_more()
            for file in taken:
                file.close()
            kind = "refused" if isinstance(error, FileInUse) else "fenced" if isinstance(error, HostFenced) else "stuck"
            self.stage.step(kind, self.name, vm, str(error))
            return False
        self.open[vm] = taken
        self.stage.step("on", self.name, vm, agrees=self.stage.agrees(vm, taken[-1]) if owned else None)
        return True

    def grow(self, vm: str, megabytes: int = 1) -> None:
        """The guest writes behind the end of its disk file: blocks are needed."""
        file = self.open[vm][-1]
        data = self.stage.fresh(megabytes)
        try:
            offset = file.size_bytes
            file.write(offset, data)
        except (HostFenced, BlockError) as error:
            self.stage.step("fenced" if isinstance(error, HostFenced) else "stuck", self.name, vm, str(error))
            return
        self.stage.acknowledged.setdefault(vm, []).append((offset, data))
        self.stage.step("grows", self.name, vm, megabytes=megabytes)

    def power_off(self, vm: str) -> None:
        for file in self.open.pop(vm):
            file.close()
        self.stage.step("off", self.name, vm)

    def cut_power(self) -> None:
        """Now."""
        self.thread.die()

    def cut_power_in_next_change(self) -> None:
        """As soon as a change stands in the journal, before the first of its sectors is in its place."""
        self._cut_after_journal = True

    def freeze(self, seconds: float) -> None:
        """Stand still, without a heartbeat, and go on afterwards as if nothing had been."""
        self.stage.step("freezes", self.name)
        self.thread.wait(int(seconds * SECOND_NS))

    def _follow(self, _: HostThread) -> None:
        self.script(self)

    # --- how it is done -----------------------------------------------------------------------------------------------

    def _mounted(self) -> Host:
        if self.host is None:
            raise AdminError(f"Host {self.name} has not mounted the volume: mount() comes first.")
        return self.host

    def _if_fenced(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (HostFenced, BlockError) as error:
            fenced = isinstance(error, HostFenced)
            self.host = None if fenced else self.host
            self.stage.step("fenced" if fenced else "stuck", self.name, words=str(error))

    def _asks(self, vm: str) -> None:
        self.stage.step("asks", self.name, vm)
        asked_ns = self.thread.now_ns

        def halfway() -> None:
            if not self.thread.dead:
                self.stage.step("silent", self.name, vm)

        self._halfway = self.stage.clock.at(asked_ns + 8 * SECOND_NS, halfway)

    def _waits_no_more(self) -> None:
        if self._halfway is not None:
            self._halfway.cancel()
            self._halfway = None

    def _submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        self.thread.command(COMMAND_NS)
        answer = self._to_lun(cdb, data_out)
        self.stage.record(self.name, cdb, answer[0] == Status.RESERVATION_CONFLICT)
        return answer

    def _died(self) -> None:
        stage = self.stage
        stage.story.deaths[self.name] = stage.clock.now_ns
        stage.clock.at(stage.clock.now_ns + stage.nexus_ns, lambda: stage.target.disconnect(self.nexus))
        stage.step("dies", self.name, next(iter(self.open), ""))

    def _heard(self, event: Event) -> None:
        stage = self.stage
        stage.story.said.append(Said(self.name, event))
        if isinstance(event, VmfsJournalWritten) and self._cut_after_journal:
            self.thread.fuse = 1  # the flush behind the journal is the last command
        elif isinstance(event, VmfsJournalReplayed):
            stage.step("replayed", self.name)
        elif isinstance(event, VmfsHeartbeatBroken):
            stage.step("broken", self.name)
        elif isinstance(event, VmfsLockTaken) and event.held and event.broken:
            stage.step("stolen", self.name, event.what)
        elif isinstance(event, VmfsReservation) and event.action == "conflict":
            if event.at_ns - self._met_ns > SECOND_NS:
                stage.step("meets", self.name)
            self._met_ns = event.at_ns


class TwoHosts:
    """Everything happens when it is made. ``nexus_s``: the LUN learns so much later that a host has died."""

    def __init__(self, esx1: Script, esx2: Script, nexus_s: float = 0.0) -> None:
        self.clock = VirtualClock()
        self.nexus_ns = int(nexus_s * SECOND_NS)
        paths = tuple(path for files in FILES.values() for path in files)
        self.disk = new_volume(paths)
        self.base = OVERHEAD_BYTES
        self.target = Target(self.clock)
        self.target.add(0, self.disk, Identity("san1-lun0"))
        self.acknowledged: dict[str, list[tuple[int, bytes]]] = {}
        self.names = {uuid_of(name): name for name in NAMES}
        self.story = LockStory(NAMES, paths, {on_disk.uuid_text(uuid): name for uuid, name in self.names.items()})
        self._written = 0
        self.hosts = [EsxHost(self, name, script) for name, script in zip(NAMES, (esx1, esx2), strict=True)]
        self.step("begin", NAMES[0])
        run(self.clock, [host.thread for host in self.hosts])

    def volume(self) -> VolumeMoment:
        return capture(self.disk, self.names)

    def fresh(self, megabytes: int) -> bytes:
        """Data that no other write has."""
        self._written += 1
        return self._written.to_bytes(4, "little") * (megabytes * MIB // 4)

    def agrees(self, vm: str, file: VmfsFile) -> bool:
        """Is all there that hosts before have acknowledged?"""
        return all(file.read(offset, len(data)) == data for offset, data in self.acknowledged.get(vm, []))

    def record(self, host: str, cdb: bytes, conflict: bool) -> None:
        name = COMMANDS.get(cdb[0])
        if name is not None:
            lba, count = sectors(cdb) if len(cdb) >= 10 else (0, 0)
            pos = lba * on_disk.SECTOR - self.base if count else -1
            self.story.commands.append(Command(self.clock.now_ns, host, name, pos, count, conflict))

    def step(
        self, kind: str, host: str, subject: str = "", words: str = "", agrees: bool | None = None, megabytes: int = 0
    ) -> None:
        story = self.story
        for uuid, name in story.names.items():
            words = words.replace(uuid, name)
        story.steps.append(
            LockStep(
                self.clock.now_ns, kind, host, subject, words, self.volume(), len(story.commands), len(story.said),
                agrees, megabytes,
            )
        )  # fmt: skip


# --- the story of the lesson ------------------------------------------------------------------------------------------

ENDS = ("change", "power", "freeze", "off")
"""What becomes of esx1: no power in the middle of a change, no power while it is idle, stands still for half a minute,
db is powered off as it should be."""


def story(end: str = "change", asks_s: float = 25.6, nexus_s: float = 0.0) -> TwoHosts:
    """db runs on esx1, web on esx2, and esx1 comes to an ``end``.

    Parameters
    ----------
    asks_s : when esx2 is told to power on db. nexus_s : the LUN learns so much later that esx1 has died.
    """
    if end not in ENDS:
        raise AdminError(f"{end!r} is no end of a host: {', '.join(ENDS)} are.")

    def esx1(host: EsxHost) -> None:
        host.until(1).mount()
        host.until(4).power_on("db")
        host.until(8).grow("db", 2)
        host.until(12).grow("db", 2)
        host.until(22.2)
        if end == "change":
            host.cut_power_in_next_change()
        elif end == "power":
            host.cut_power()
        elif end == "freeze":
            host.freeze(30)
        if end == "off":
            host.power_off("db")
            host.until(asks_s + 20)
        else:
            host.grow("db", 2)

    def esx2(host: EsxHost) -> None:
        host.until(2).mount()
        host.until(6).power_on("web")
        host.until(12.002).grow("web", 2)
        host.until(15.4).power_on("db")
        if host.until(asks_s).power_on("db"):
            host.until(asks_s + 19.4).grow("db", 1)

    return TwoHosts(esx1, esx2, nexus_s)
