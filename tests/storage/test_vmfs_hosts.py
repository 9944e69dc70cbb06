"""Several hosts on one LUN: heartbeats, locks, reservations, what happens when one of them dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from tests.storage.vmfs_disks import SparseDisk, Volume
from tests.storage.vmfs_workload import Workload, walk
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.block import BlockError, ReservationLost
from vilab.storage.scsi.lun_disk import LunDisk, nexus_to
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target, TaskFunction
from vilab.storage.vmfs import journal
from vilab.storage.vmfs.errors import FileInUse, HostFenced
from vilab.storage.vmfs.events import (
    VmfsBlocksAllocated,
    VmfsHeartbeat,
    VmfsHeartbeatBroken,
    VmfsJournalReplayed,
    VmfsJournalWritten,
    VmfsLockTaken,
    VmfsReservation,
)
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import LOCK_EXCLUSIVE, Header
from vilab.storage.vmfs.lun import Lun
from vilab.storage.vmfs.time import SECOND_NS, VirtualTime

SECOND = SECOND_NS


def uuid(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def beats(volume: Volume, host: Host) -> None:
    """The host is alive: whenever somebody waits, it renews its heartbeat in time."""

    def beat() -> None:
        host.beat()
        volume.clock.at(volume.clock.now_ns + 3 * SECOND, beat)

    volume.clock.at(volume.clock.now_ns + 3 * SECOND, beat)


def test_a_live_owner_is_left_alone():
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    a.create("/vm.vmx")
    beats(volume, a)
    for action in (lambda: b.open_to_write("/vm.vmx"), lambda: b.remove("/vm.vmx"), lambda: b.rename("/x", "/vm.vmx")):
        volume.clock.run_due()
        if not b.exists("/x"):
            b.create("/x").close()
        with pytest.raises(FileInUse, match=r"alive \(heartbeat slot 0\)"):
            action()
    assert volume.clock.now_ns < 16 * SECOND, "an owner that shows it is alive is believed at once"


def test_a_silent_owner_loses_its_lock():
    volume = Volume()
    log = EventLog(keep=True)
    a = volume.host("A")
    file = a.create("/vm.vmx")
    file.write(0, b"kept")
    b = Host(volume.shared.port("B"), uuid("B"), volume.time, log=log)
    taken = b.open_to_write("/vm.vmx")
    assert 16 * SECOND <= volume.clock.now_ns < 20 * SECOND
    assert taken.read(0, 9) == b"kept"
    assert [event.slot for event in log.of(VmfsHeartbeatBroken)] == [0]
    assert [event.broken for event in log.of(VmfsLockTaken)] == [True]
    # It was not dead, only slow: it finds out before it does harm.
    with pytest.raises(HostFenced, match="broken its locks"):
        file.write(0, b"late")
    with pytest.raises(HostFenced):
        a.create("/late")
    assert taken.read(0, 9) == b"kept"
    a.leave()  # harmless


def test_others_do_not_wait_for_ever_for_a_change_that_the_disk_refused(monkeypatch: pytest.MonkeyPatch):
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")

    def refuse(*_: object) -> None:
        raise BlockError("medium", "a bad sector")

    with monkeypatch.context() as broken:
        broken.setattr(journal, "apply", refuse)
        with pytest.raises(BlockError, match="a bad sector"):
            a.mkdir("/a")
    beats(volume, a)

    def give_up() -> None:
        raise TimeoutError

    volume.clock.at(volume.clock.now_ns + 60 * SECOND, give_up)
    b.mkdir("/b")
    assert [entry.name for entry in b.list("/") if not entry.name.startswith(".")] == ["a", "b"]
    assert volume.clock.now_ns < 16 * SECOND


def test_a_live_host_that_never_ends_its_change_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    whole = journal.apply

    def refuse(on: object, sectors: dict[int, bytes]) -> None:
        if on is a.volume:
            raise BlockError("medium", "a bad sector")
        whole(on, sectors)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "apply", refuse)
    with pytest.raises(BlockError, match="a bad sector"):
        a.mkdir("/a")

    def beat() -> None:
        with contextlib.suppress(BlockError):
            a.beat()
        volume.clock.at(volume.clock.now_ns + 3 * SECOND, beat)

    volume.clock.at(volume.clock.now_ns + 3 * SECOND, beat)
    with pytest.raises(FileInUse, match=r"in the middle of another host.s change for 3\d s, and that host is alive"):
        b.list("/")


def test_a_lock_is_on_the_disk_and_names_its_owner():
    volume = Volume()
    a = volume.host("A")
    file = a.create("/vm.vmx")
    header = Header.decode(a.volume.read(file.pos, 512))
    assert (header.lock, header.owner, header.hb_pos) == (LOCK_EXCLUSIVE, uuid("A"), 0x300000)
    assert a.heartbeats()[0].host == uuid("A")
    before = header.obj_seq
    file.close()
    header = Header.decode(a.volume.read(file.pos, 512))
    assert (header.lock, header.owner, header.hb_pos) == (0, bytes(16), 0x300000)
    assert Header.decode(a.volume.read(a.open_to_write("/vm.vmx").pos, 512)).obj_seq > before


def test_a_reservation_that_does_not_end_is_one_sentence():
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    a.member.lun.lun.reserve()
    with pytest.raises(AdminError, match="reserved by another host for 30 s"):
        b.create("/f")
    volume.kill(a)
    b.create("/f").close()


def test_a_short_reservation_is_waited_for():
    volume = Volume()
    log = EventLog(keep=True)
    a = volume.host("A")
    b = Host(volume.shared.port("B"), uuid("B"), volume.time, log=log)
    a.member.lun.lun.reserve()
    volume.clock.at(volume.clock.now_ns + SECOND, a.member.lun.lun.release)
    b.create("/f").close()
    actions = [event.action for event in log.of(VmfsReservation)]
    assert "conflict" in actions
    assert actions[-1] == "released"
    assert volume.clock.now_ns >= SECOND


def test_the_events_of_one_change():
    volume, log = Volume(), EventLog(keep=True)
    a = Host(volume.shared.port("A"), uuid("A"), volume.time, log=log)
    log.events.clear()
    a.create("/f").write(0, b"x" * 70_000)
    kinds = [type(event).__name__ for event in log.events]
    assert kinds[0] == "VmfsReservation"
    assert kinds.index("VmfsLockTaken") < kinds.index("VmfsJournalWritten") < kinds.index("VmfsBlocksAllocated")
    assert [(e.kind, len(e.numbers)) for e in log.of(VmfsBlocksAllocated)] == [("inode", 1), ("file block", 1)]
    assert [event.sectors for event in log.of(VmfsJournalWritten)] != []
    volume.clock.advance(4 * SECOND)
    a.beat()
    assert [event.action for event in log.of(VmfsHeartbeat)] == ["renewed"]


def test_thirty_two_hosts_and_no_more():
    volume = Volume()
    hosts = [volume.host(f"H{number}") for number in range(32)]
    assert len(hosts[0].heartbeats()) == 32
    for host in hosts:
        beats(volume, host)
    with pytest.raises(AdminError, match="32 hosts use this volume, all of them alive"):
        volume.host("one more")
    assert len(hosts[0].heartbeats()) == 32


def test_a_slot_that_is_given_back_is_the_next_one_s():
    volume = Volume()
    hosts = [volume.host(f"H{number}") for number in range(32)]
    hosts[7].leave()
    assert volume.host("one more").member.slot == 7
    assert volume.clock.now_ns == 0


def test_slots_of_the_dead_are_freed_for_whoever_comes():
    volume = Volume()
    for number in range(32):
        volume.host(f"H{number}").create(f"/f{number}")
    late = volume.host("late")
    assert volume.clock.now_ns >= 16 * SECOND
    assert len(late.heartbeats()) == 1
    for number in range(32):
        late.open_to_write(f"/f{number}").close()


# --- over SCSI --------------------------------------------------------------------------------------------------------


class Bus:
    """A target with one LUN and a nexus for each host."""

    def __init__(self) -> None:
        self.disk = Volume().disk
        self.clock = VirtualClock()
        self.target = Target(self.clock)
        self.target.add(0, self.disk, Identity("vmfs-lun-0"))
        self.broken_after: int | None = None

    def nexus(self, name: str) -> Nexus:
        return Nexus(f"iqn.2006-06.org.example:{name}")

    def lun(self, name: str) -> Lun:
        nexus = self.nexus(name)
        self.target.connect(nexus)
        return LunDisk(nexus_to(self.target, nexus, 0))

    def host(self, name: str) -> Host:
        return Host(self.lun(name), uuid(name), VirtualTime(self.clock))


def test_random_work_over_a_scsi_target():
    bus, work = Bus(), Workload(3)
    hosts = [bus.host(name) for name in "AB"]
    for _ in range(40):
        work.step(work.lot.choice(hosts))
    assert walk(hosts[0]) == walk(hosts[1]) == work.model


def test_a_nexus_that_is_lost_gives_the_reservation_back():
    bus = Bus()
    a, b = bus.host("A"), bus.host("B")
    a.member.lun.lun.reserve()
    bus.target.disconnect(bus.nexus("A"))
    b.create("/f").close()


class ResetOnWrite(LunDisk):
    """The LUN is reset by somebody else when this host has written so many times."""

    def __init__(self, bus: Bus, name: str) -> None:
        bus.target.connect(bus.nexus(name))
        super().__init__(nexus_to(bus.target, bus.nexus(name), 0))
        self.bus, self.left = bus, -1

    def write(self, offset_bytes: int, data) -> None:  # type: ignore[no-untyped-def]
        if self.left == 0:
            self.bus.target.manage(self.bus.nexus("B"), TaskFunction.LOGICAL_UNIT_RESET, 0)
        self.left -= 1
        super().write(offset_bytes, data)


@pytest.mark.parametrize("writes", range(9))
def test_a_reset_in_the_middle_of_a_change(writes: int):
    """The host stops at once; what it had begun is finished or forgotten as a whole, and it goes on."""
    bus = Bus()
    lun = ResetOnWrite(bus, "A")
    a, b = Host(lun, uuid("A"), VirtualTime(bus.clock)), bus.host("B")
    a.create("/f").close()
    lun.left = writes
    outcomes: list[Callable[[], object]] = [lambda: a.rename("/f", "/g"), lambda: None]
    try:
        outcomes[0]()
    except ReservationLost:
        pass
    else:
        assert lun.left < 0 or writes > 5
    lun.left = -1
    a.create("/again").close()
    names = {entry.name for entry in b.list("/") if not entry.name.startswith(".")}
    assert names in ({"f", "again"}, {"g", "again"})
    b.create("/b").close()
    for name in names:
        b.remove(f"/{name}")


def test_a_journal_is_replayed_by_whoever_comes():
    """The owner dies between its journal and the sectors' places."""

    class Dead(Exception):
        pass

    class DiesAfterFlush(SparseDisk):
        armed = False

        def flush(self) -> None:
            if self.armed:
                raise Dead

    disk = DiesAfterFlush(pages=Volume().disk.pages)
    volume = Volume(disk)
    a = volume.host("A")
    disk.armed = True
    with pytest.raises(Dead):
        a.create("/begun")
    disk.armed = False
    volume.kill(a)
    log = EventLog(keep=True)
    b = Host(volume.shared.port("B"), uuid("B"), volume.time, log=log)
    assert b.exists("/begun")
    assert [event.slot for event in log.of(VmfsJournalReplayed)] == [0]
    b.open_to_write("/begun").close()
