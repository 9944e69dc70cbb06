"""Machines on a file server: locks that others see, a host that dies, a server that goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.storage_helpers import (
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
from tests.storage.nfs_server import MOUNT_PORT, NFS_PORT, ganesha
from tests.vmm.disk_guest import filling
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.host import Host, run_together
from vilab.host.registered import power_on_file
from vilab.storage.nfs.events import NfsDatastoreActive, NfsDatastoreInactive, NfsLockBroken
from vilab.storage.nfs.locks import LockedError
from vilab.storage.nfs.memory_server import MemoryServer
from vilab.storage.nfs.mount import DialPort

WEB = "[nfs1] web/web.vmx"
URL = "nfs://filer/export?nfsport=2049&mountport=635"


class Site:
    """A file server and hosts with its export mounted."""

    def __init__(self, folder: Path, dial: DialPort, url: str = URL) -> None:
        self.folder, self.dial, self.url = folder, dial, url
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        self.hosts: list[Host] = []

    def host(self) -> Host:
        name = f"esx{len(self.hosts) + 1}"
        (self.folder / name).mkdir()
        host = Host(40, name, swap_directory=self.folder / name, quantum_ns=QUANTUM, clock=self.clock, log=self.log)
        info = host.storage.add_nfs("nfs1", self.url, self.dial, timeout_s=2.0)
        assert (info.kind, info.state) == ("nfs", "active")
        self.hosts.append(host)
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.close()


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
def site(server: MemoryServer, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, server.dial)
    yield made
    made.close()


def lock_files(host: Host) -> list[str]:
    return [name for name in host.storage.mounted("nfs1").datastore.names("web") if name.startswith(".lck-")]


def test_power_on_takes_locks_and_power_off_gives_them_back(site: Site) -> None:
    one, two = site.host(), site.host()
    web = start(one, register(one, WEB), "mkfs", "put a b")
    assert len(lock_files(one)) == 3  # web.vmx.lck, web.vmdk, web-flat.vmdk
    with pytest.raises(LockedError, match=r"is locked by host esx1 \(\.lck-"):
        power_on_file(two, WEB)
    run_together([one, two], 40 * SECOND)
    with pytest.raises(LockedError, match="0 of 3 renewals missed"):
        power_on_file(two, WEB)
    one.power_off(web)
    assert lock_files(one) == []
    assert type_line(two, start(two, WEB), "cat a") == "b\n"


def test_a_dead_hosts_machine_is_taken_over_after_missed_renewals(site: Site) -> None:
    one, two = site.host(), site.host()
    web = start(one, register(one, WEB), "mkfs", "put a b", "write late words")
    one.snapshots(web).take("s1")
    type_line(one, web, "put c d")
    one.cut_power()
    site.hosts.remove(one)
    with pytest.raises(LockedError, match="esx1"):
        power_on_file(two, WEB, patience_ns=20 * SECOND)
    assert not site.log.of(NfsLockBroken)
    again = power_on_file(two, WEB, patience_ns=60 * SECOND)
    to_prompt(two, again)
    assert {event.holder for event in site.log.of(NfsLockBroken)} == {"esx1"}
    assert type_line(two, again, "cat c") == "d\n"
    two.snapshots(again).delete_all()
    two.power_off(again)
    assert disk_files(two, "[nfs1] web/web.vmdk") == {"a": b"b\n", "late": b"words\n", "c": b"d\n"}


def test_a_host_that_has_lost_its_locks_stops_the_machine_and_writes_nothing_more(site: Site) -> None:
    """esx1 stands still for a while, and goes on when esx2 has taken over."""
    one, two = site.host(), site.host()
    web1 = start(one, register(one, WEB), "mkfs", "put a b")
    one.storage.mounted("nfs1")._held[0].abandon()  # type: ignore[attr-defined]
    web2 = power_on_file(two, WEB, patience_ns=60 * SECOND)
    to_prompt(two, web2)
    type_line(two, web2, "put c d")
    disk = web2.disks.devices()["scsi0:0"]
    before = disk.read(0, disk.size_bytes)
    web1.console.type("fill zombie 60000 1")
    web1.console.type("sync")
    run_until(one, lambda: not web1.runs, others=(two,))
    assert "web was stopped: another host has taken over the lock of web/web" in web1.stopped
    assert disk.read(0, disk.size_bytes) == before
    assert type_line(two, web2, "ls").count("inode") == 2


def test_a_server_that_goes_away_is_waited_for_and_nothing_is_lost(site: Site, server: MemoryServer) -> None:
    one = site.host()
    web = start(one, register(one, WEB, append="hz=10"), "mkfs", "put a b")
    other = start(one, register(one, "[local] db/db.vmx"), "mkfs")
    type_line(one, web, "fill big 100000 1")
    server.stop()
    web.console.type("sync")
    one.run_for(40 * SECOND)
    said = web.console.said
    assert [event.datastore for event in site.log.of(NfsDatastoreInactive)] == ["nfs1"]
    assert one.storage.datastores()[1].state == "inactive"
    assert type_line(one, other, "put x y").endswith("on the disk\n")
    assert web.runs
    assert not web.console.said.endswith("shell> ")
    server.restart()  # what it had in memory is gone
    to_prompt(one, web, len(said))
    assert one.storage.datastores()[1].state == "active"
    assert len(site.log.of(NfsDatastoreActive)) == 1
    assert files_on(web.disks.devices()["scsi0:0"]) == {"a": b"b\n", "big": filling(100_000, 1)}
    one.power_off(web)
    assert disk_files(one, "[nfs1] web/web.vmdk") == {"a": b"b\n", "big": filling(100_000, 1)}
    assert lock_files(one) == []


def test_a_server_that_forgets_in_the_middle_of_writes_is_told_them_again(site: Site, server: MemoryServer) -> None:
    one = site.host()
    web = start(one, register(one, WEB), "mkfs")
    web.console.type("fill big 100000 1")
    web.console.type("sync")
    one.run_for(QUANTUM)
    for _ in range(6):
        server.restart()
        one.run_for(QUANTUM)
    to_prompt(one, web)
    type_line(one, web, "put a b")
    server.restart()
    assert disk_files_open(web) == {"a": b"b\n", "big": filling(100_000, 1)}


def disk_files_open(vm) -> dict[str, bytes]:  # type: ignore[no-untyped-def]
    return files_on(vm.disks.devices()["scsi0:0"])


def test_power_off_while_the_server_is_away_leaves_locks_that_run_out(site: Site, server: MemoryServer) -> None:
    one, two = site.host(), site.host()
    web = start(one, register(one, WEB), "mkfs", "put a b", "write c unsynced")
    server.stop()
    one.power_off(web)
    assert "web was powered off" in web.stopped
    server.restart()
    again = power_on_file(two, WEB, patience_ns=90 * SECOND)
    to_prompt(two, again)
    assert type_line(two, again, "cat a") == "b\n"


def test_a_server_that_is_not_there_is_named_when_it_is_to_be_mounted(site: Site, server: MemoryServer) -> None:
    one = site.host()
    server.stop()
    with pytest.raises(AdminError, match="filer"):
        one.storage.add_nfs("nfs2", URL, server.dial)
    with pytest.raises(AdminError, match="has a datastore 'nfs1' already"):
        one.storage.add_nfs("nfs1", URL, server.dial)
    assert [info.name for info in one.storage.datastores()] == ["local", "nfs1"]
    server.restart()


@pytest.mark.interop
def test_machines_on_nfs_ganesha(tmp_path: Path) -> None:
    """Locks as ``nfs-ls`` sees them; the server is killed in the middle and started again."""
    with ganesha(tmp_path) as real:
        site = Site(tmp_path, real.dial, f"nfs://127.0.0.1/export?nfsport={NFS_PORT}&mountport={MOUNT_PORT}")
        one, two = site.host(), site.host()
        web = start(one, register(one, WEB, append="hz=10"), "mkfs", "put a b")
        flat = (real.folder / "web" / "web-flat.vmdk").stat().st_ino
        lock = ".lck-" + flat.to_bytes(8, "little").hex()
        assert lock in real.names("web")
        assert real.nfs("nfs-cat", real.url(f"web/{lock}"))[20:24] == b"esx1"
        with pytest.raises(LockedError, match="esx1"):
            power_on_file(two, WEB)
        type_line(one, web, "fill big 100000 1")
        web.console.type("sync")
        real.kill()
        one.run_for(40 * SECOND)
        assert one.storage.datastores()[1].state == "inactive"
        assert not web.console.said.endswith("shell> ")
        real.start()
        to_prompt(one, web, len(web.console.said))
        taken = one.snapshots(web).take("s1")
        type_line(one, web, "put c d")
        one.snapshots(web).revert(taken.uid)
        type_line(one, web, "put e f")
        one.cut_power()
        again = power_on_file(two, WEB, patience_ns=90 * SECOND)
        to_prompt(two, again)
        assert real.nfs("nfs-cat", real.url(f"web/{lock}"))[20:24] == b"esx2"
        two.snapshots(again).delete_all()
        two.power_off(again)
        assert disk_files(two, "[nfs1] web/web.vmdk") == {"a": b"b\n", "big": filling(100_000, 1), "e": b"f\n"}
        assert not {name for name in real.names("web") if name.startswith(".lck")}
        two.close()
