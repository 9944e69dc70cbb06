"""Machines on VMFS volumes: two hosts on one LUN, a host that dies, one that was fenced, paths that fail, mappings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.storage_helpers import (
    DISK_BYTES,
    MB,
    QUANTUM,
    SECOND,
    disk_files,
    files_on,
    register,
    run_until,
    start,
    to_prompt,
    type_line,
)
from tests.storage.san import PORTS
from tests.storage.vmfs_judges import is_clean
from tests.vmm.disk_guest import filling
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.host import Host, run_together
from vilab.host.registered import power_on_file
from vilab.host.vmx_disks import DiskSettings
from vilab.protocols import BlockDevice
from vilab.storage.block import MemoryDisk
from vilab.storage.luns.fc_array import StorageArray
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.storage.luns.fc_names import numbered
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity
from vilab.storage.storage_events import PathSwitched
from vilab.storage.vmfs.events import VmfsHeartbeatBroken

WEB = "[san1] web/web.vmx"
LUN_BYTES = 320 * MB


class Rack:
    """Two switches, an array, and hosts with two adapters each. LUN 0 is for a volume, 1 for mappings."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.log = folder, VirtualClock(), EventLog(keep=True)
        self.fabrics = [Fabric(f"switch{n}", n, self.clock, self.log) for n in (1, 2)]
        self.array = StorageArray("array1", None, "active/active", self.clock, self.log)
        for name, wwpn in PORTS.items():
            self.array.connect(self.fabrics[int(name[1])], wwpn, name[0])
        self.raw = MemoryDisk(DISK_BYTES)
        disks: list[BlockDevice] = [PagedDisk(LUN_BYTES), self.raw]
        for number, disk in enumerate(disks):
            self.array.create_lun(number, disk, Identity(f"array-lun-{number}"))
        self.hosts: list[Host] = []
        self.made = 0

    def host(self, memory_mb: int = 40) -> Host:
        self.made += 1
        number = self.made
        swap = self.folder / f"esx{number}"
        swap.mkdir()
        host = Host(memory_mb, f"esx{number}", swap_directory=swap, quantum_ns=QUANTUM, clock=self.clock, log=self.log)
        for n, fabric in enumerate(self.fabrics, 1):
            wwpn = numbered(16 * number + n)
            for lun in (0, 1):
                self.array.present(wwpn, lun, lun)
            host.storage.add_adapter(HostBusAdapter(f"vmhba{n}", fabric, wwpn, numbered(number, 0x20)))
        found = host.storage.rescan()
        assert (len(found.luns), found.problems) == (2, ())
        self.hosts.append(host)
        return host

    def pull(self, *ports: str, up: bool = False) -> None:
        for port in ports:
            self.fabrics[int(port[1])].link(PORTS[port], up)

    @property
    def volume_lun(self) -> str:
        return next(name for name, lun in self.hosts[0].storage.luns.items() if lun.size_bytes == LUN_BYTES)

    @property
    def raw_lun(self) -> str:
        return next(name for name, lun in self.hosts[0].storage.luns.items() if lun.size_bytes == DISK_BYTES)


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path)
    first = made.host()
    first.storage.create_vmfs(made.volume_lun, "san1")
    yield made
    for host in made.hosts:
        host.close()


def test_a_rescan_mounts_volumes_that_others_have_made(rack: Rack) -> None:
    one, two = rack.hosts[0], rack.host()
    (_, info) = two.storage.datastores()
    assert (info.name, info.kind, info.state, info.device) == ("san1", "vmfs", "active", rack.volume_lun)
    assert info.capacity_bytes == 256 * MB
    one.storage.write_file("[san1] shared/words.txt", b"from esx1")
    assert two.storage.read_file("[san1] shared/words.txt") == b"from esx1"
    assert two.storage.read_file("/vmfs/volumes/san1/shared/words.txt") == b"from esx1"
    assert two.storage.rescan().luns == two.storage.rescan().datastores == ()
    with pytest.raises(AdminError, match="the datastore san1 is on it"):
        two.storage.create_vmfs(rack.volume_lun, "san2")
    two.storage.remove("san1")
    assert two.storage.rescan().datastores == ("san1",)


def test_of_two_hosts_one_has_the_machine_and_the_other_is_told_who(rack: Rack) -> None:
    one, two = rack.hosts[0], rack.host()
    web = start(one, register(one, WEB), "mkfs", "put a b")
    one.run_for(20 * SECOND)  # long enough to be taken for dead, if it did not say that it is alive
    with pytest.raises(AdminError, match=r"\[san1\] web/web.vmx is powered on already, on host esx1"):
        power_on_file(two, WEB)
    assert not rack.log.of(VmfsHeartbeatBroken)
    type_line(one, web, "put c d")
    one.power_off(web)
    again = start(two, WEB)
    assert type_line(two, again, "cat c") == "d\n"


def test_a_dead_hosts_machine_is_taken_over_with_all_that_was_flushed(rack: Rack) -> None:
    one, two = rack.hosts[0], rack.host()
    start(one, register(one, WEB), "mkfs", "put a b", "write late words")
    taken = one.snapshots(one.vms["web"]).take("s1", memory=False)
    type_line(one, one.vms["web"], "put c d")
    run_together([one, two], 5 * SECOND)
    one.cut_power()
    before = rack.clock.now_ns
    web = start(two, WEB)
    (broken,) = rack.log.of(VmfsHeartbeatBroken)
    assert broken.silent_ns >= 16 * SECOND
    assert 16 * SECOND <= rack.clock.now_ns - before < 30 * SECOND
    assert type_line(two, web, "cat c") == "d\n"
    assert [s.uid for s in two.snapshots(web).list.snapshots] == [taken.uid]
    two.snapshots(web).delete_all()
    two.power_off(web)
    assert disk_files(two, "[san1] web/web.vmdk") == {"a": b"b\n", "late": b"words\n", "c": b"d\n"}
    rack.hosts.remove(one)


def test_a_host_that_was_fenced_stops_its_machines_and_writes_nothing_more(rack: Rack) -> None:
    """esx1 stands still for a while; esx2 takes over; then esx1 goes on."""
    one, two = rack.hosts[0], rack.host()
    start(one, register(one, WEB), "mkfs", "put a b")
    other = start(one, register(one, "[local] db/db.vmx"), "mkfs")
    web1 = one.vms["web"]
    one.storage.mounted("san1").cut_power()  # no heartbeats: as if it stood still
    web2 = start(two, WEB, "put c d")
    web1.console.type("fill zombie 60000 1")
    web1.console.type("sync")
    disk = web2.disks.devices()["scsi0:0"]
    before = disk.read(0, disk.size_bytes)
    run_until(one, lambda: not web1.runs, others=(two,))
    assert "web was stopped" in web1.stopped
    assert "another host has broken its locks" in web1.stopped
    assert disk.read(0, disk.size_bytes) == before
    assert type_line(two, web2, "ls").count("inode") == 2
    assert type_line(one, other, "put x y").endswith("on the disk\n"), "a machine on another datastore runs on"
    with pytest.raises(AdminError, match="datastore san1 is lost to this host: rescan"):
        power_on_file(one, WEB)
    assert one.storage.rescan().datastores == ()
    with pytest.raises(AdminError, match="on host esx2"):
        power_on_file(one, WEB)


def test_the_heartbeat_tells_a_host_that_it_was_fenced(rack: Rack) -> None:
    one, two = rack.hosts[0], rack.host()
    web = start(one, register(one, WEB), "mkfs")
    mounted = one.storage.mounted("san1")
    mounted.cut_power()
    web2 = start(two, WEB)
    mounted._arm()  # and goes on
    run_together([one, two], 24 * SECOND)  # the clock is ahead of the machines: esx2 has waited
    assert "The datastore san1 is lost to this host" in web.stopped
    assert mounted.state == "fenced"
    assert "web" not in one.vms
    assert web2.runs


# --- paths ------------------------------------------------------------------------------------------------------------


def test_a_path_that_fails_in_the_middle_of_a_guests_writes_is_not_noticed(rack: Rack) -> None:
    one = rack.hosts[0]
    web = start(one, register(one, WEB), "mkfs")
    web.console.type("fill a 100000 1")
    web.console.type("sync")
    one.run_for(QUANTUM)
    rack.pull("A0", "B0")
    run_until(one, lambda: web.console.said.count("shell> ") >= 4)
    assert type_line(one, web, "put b c").count(": good\n") == 6
    lun = one.storage.luns[rack.volume_lun]
    assert lun.active is not None
    assert lun.active.startswith("vmhba2")
    switched = [event for event in rack.log.of(PathSwitched) if event.from_path]
    assert {event.to_path.split(":")[0] for event in switched} == {"vmhba2"}
    assert files_on(web.disks.devices()["scsi0:0"]) == {"a": filling(100_000, 1), "b": b"c\n"}


def test_without_a_path_the_guest_waits_and_another_on_another_datastore_does_not(rack: Rack) -> None:
    one = rack.hosts[0]
    web = start(one, register(one, WEB), "mkfs", "put a b")
    other = start(one, register(one, "[local] db/db.vmx"), "mkfs")
    web.console.type("fill big 100000 1")
    web.console.type("sync")
    one.run_for(QUANTUM)
    rack.pull(*PORTS)
    one.run_for(5 * SECOND)  # the guest would give up after 10
    said = web.console.said
    assert web.runs
    assert one.storage.mounted("san1").state == "away"
    (_, info) = one.storage.datastores()
    assert (info.state, info.capacity_bytes) == ("away", None)
    assert type_line(one, other, "put x y").endswith("on the disk\n")
    assert web.console.said == said
    rack.pull(*PORTS, up=True)
    to_prompt(one, web, len(said))
    type_line(one, web, "put c d")
    assert "error" not in web.console.said
    assert files_on(web.disks.devices()["scsi0:0"]) == {"a": b"b\n", "big": filling(100_000, 1), "c": b"d\n"}
    one.run_for(4 * SECOND)
    assert one.storage.mounted("san1").state == "active"


# --- raw device mappings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("physical", [False, True])
def test_a_guest_behind_a_mapping_writes_to_the_lun(rack: Rack, physical: bool) -> None:
    one = rack.hosts[0]
    one.storage.create_rdm("[san1] db/raw.vmdk", rack.raw_lun, physical)
    register(one, "[san1] db/db.vmx", DiskSettings("scsi0:0", "raw.vmdk"))
    db = start(one, "[san1] db/db.vmx", "mkfs", "put a b")
    assert files_on(rack.raw) == {"a": b"b\n"}
    assert (f"scsi 0: VMware Virtual disk, {DISK_BYTES // 512} sectors" in db.console.said) is True
    snapshots = one.snapshots(db)
    if physical:
        with pytest.raises(AdminError, match="scsi0:0 would not be in it"):
            snapshots.take("no")
    else:
        taken = snapshots.take("yes")
        type_line(one, db, "put c d")
        assert files_on(rack.raw) == {"a": b"b\n"}, "a redo log has it"
        snapshots.revert(taken.uid)
        assert type_line(one, db, "ls").count("inode") == 1
        snapshots.delete_all()
    type_line(one, db, "put e f")
    one.power_off(db)
    assert files_on(rack.raw) == {"a": b"b\n", "e": b"f\n"}


def test_a_mapped_lun_is_one_machines_and_no_datastores(rack: Rack) -> None:
    one, two = rack.hosts[0], rack.host()
    with pytest.raises(AdminError, match="was not mapped: the datastore san1 is on it"):
        one.storage.create_rdm("[san1] db/raw.vmdk", rack.volume_lun)
    one.storage.create_rdm("[san1] db/raw.vmdk", rack.raw_lun, physical=True)
    for name in ("db", "web"):
        register(one, f"[san1] {name}/{name}.vmx", DiskSettings("scsi0:0", "[san1] db/raw.vmdk"))
    start(one, "[san1] db/db.vmx")
    for host in (one, two):
        with pytest.raises(AdminError, match="in use"):
            power_on_file(host, WEB)


def test_a_lun_that_is_masked_away_is_missed_in_a_sentence(rack: Rack) -> None:
    one = rack.hosts[0]
    one.storage.create_rdm("[san1] db/raw.vmdk", rack.raw_lun)
    register(one, "[san1] db/db.vmx", DiskSettings("scsi0:0", "raw.vmdk"))
    del one.storage.luns[rack.raw_lun]
    with pytest.raises(AdminError, match="which this host does not see"):
        power_on_file(one, "[san1] db/db.vmx")
    assert one.storage.mounted("san1").users == []


@pytest.mark.interop
def test_an_image_file_is_a_disk_of_the_host(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(LUN_BYTES)
    host = Host(40, swap_directory=tmp_path, quantum_ns=QUANTUM)
    path = host.storage.attach_image(image)
    (name,) = host.storage.rescan().luns
    host.storage.create_vmfs(path, "disk1")
    web = start(host, register(host, "[disk1] web/web.vmx"), "mkfs", "put a b")
    with pytest.raises(AdminError, match="in use"):
        Host(8, swap_directory=tmp_path).storage.attach_image(image)
    host.power_off(web)
    host.close()
    is_clean(image)
    assert name.startswith("naa.6")
