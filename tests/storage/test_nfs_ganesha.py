"""The client and the datastore against nfs-ganesha, with libnfs-utils and qemu-img looking on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.nfs_server import Ganesha, ganesha
from tests.storage.nfs_twin import Host, S
from tests.storage.vmdk_judges import patchwork, qemu_agrees
from tests.tools import require_file, require_tool
from vilab.clock import VirtualClock
from vilab.storage.block import BlockError
from vilab.storage.nfs.datastore import NfsDatastore
from vilab.storage.nfs.events import (
    NfsDatastoreActive,
    NfsDatastoreInactive,
    NfsLockBroken,
    NfsLockLost,
    NfsWritesRepeated,
)
from vilab.storage.nfs.health import HeartbeatSettings
from vilab.storage.nfs.lock import NfsLock, Owner
from vilab.storage.nfs.locks import LockedError, VmLocks
from vilab.storage.timed import DiskRequest, TimedDisk

NFS_DRIVER = Path("/usr/lib/x86_64-linux-gnu/qemu/block-nfs.so")

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ganesha]:
    with ganesha(tmp_path_factory.mktemp("nfs")) as running:
        yield running


def test_what_is_written_is_read_by_others_and_the_other_way_round(server: Ganesha, tmp_path: Path) -> None:
    client = server.mount()
    content = bytes(range(256)) * 9000 + b"end"
    handle = client.create("big.bin")
    client.write(handle, 0, content)
    client.commit(handle)
    assert client.read(handle, 0, len(content) + 10) == content
    server.nfs("nfs-cp", server.url("big.bin"), str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == content
    (tmp_path / "up").write_bytes(content[::-1])
    server.nfs("nfs-cp", str(tmp_path / "up"), server.url("up.bin"))
    handle, about = client.lookup("up.bin")
    assert about.size_bytes == len(content)
    assert client.read(handle, 0, about.size_bytes) == content[::-1]
    assert {"big.bin", "up.bin"} <= server.names()
    assert set(client.list("")) == server.names()


def test_a_chain_of_disks_on_the_server_is_what_qemu_reads(server: Ganesha) -> None:
    store = NfsDatastore("nfs1", server.mount(), VirtualClock())
    store.make_folder("vm1")
    size = 6 << 20
    store.create_disk("vm1/vm1.vmdk", size)
    content = bytearray(size)
    lot = random.Random(7)
    with store.open_disk("vm1/vm1.vmdk") as disk:
        for _ in range(3):
            for _ in range(30):
                at, sectors = lot.randrange(size // 512), lot.choice((1, 8, 100))
                data = lot.randbytes(min(sectors * 512, size - at * 512))
                disk.chain.write(at * 512, data)
                content[at * 512 : at * 512 + len(data)] = data
            assert disk.chain.read(0, size) == content
            top = disk.snapshot()
        disk.chain.write(4096, b"top!" * 128)
        content[4096:4608] = b"top!" * 128
        disk.chain.flush()
        top = disk.top
    assert top.name == "vm1-000003.vmdk"
    qemu_agrees(server.folder / top, bytes(content))


def test_a_disk_in_one_file_is_what_qemu_reads_over_nfs(server: Ganesha) -> None:
    # qemu does not find the extents of a disk in several files over nfs://
    store = NfsDatastore("nfs1", server.mount(), VirtualClock())
    content = patchwork(3 << 20)
    store.create_disk("one.vmdk", len(content), "monolithicSparse")
    with store.open_disk("one.vmdk") as disk:
        disk.chain.write(0, content)
    expected = server.work / "expected.raw"
    expected.write_bytes(content)
    qemu_img = require_tool("qemu-img", "the Debian package qemu-utils")
    require_file(NFS_DRIVER, "the Debian package qemu-block-extra")
    words = ("compare", "-f", "vmdk", "-F", "raw", "nfs://127.0.0.1/export/one.vmdk", str(expected))
    compared = server.run(qemu_img, *words)
    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_power_on_takes_a_lock_that_others_see_and_a_second_host_gets_when_the_first_is_dead(
    server: Ganesha,
) -> None:
    one, two = Host("esx1", server.mount()), Host("esx2", server.mount())
    one.store.make_folder("vm2")
    one.store.create_disk("vm2/vm2.vmdk", 1 << 20)
    disk = "vm2/vm2-flat.vmdk"
    lock = ".lck-" + (server.folder / disk).stat().st_ino.to_bytes(8, "little").hex()
    first, second = VmLocks(one.store, one.owner), VmLocks(two.store, two.owner)
    first.take([disk])
    assert lock in server.names("vm2")
    assert server.nfs("nfs-cat", server.url(f"vm2/{lock}"))[20:24] == b"esx1"
    for _ in range(6):
        one.pass_time(10)
        with pytest.raises(LockedError, match="locked by host esx1"):
            second.take([disk])
        two.pass_time(10)
    file = one.store.open(disk, writable=True)
    file.write(0, b"esx1 was here")
    file.sync()
    for missed in (1, 2):  # esx1 does not move any more
        with pytest.raises(LockedError, match=f"{missed} of 3 renewals missed"):
            second.take([disk])
        two.pass_time(10)
    second.take([disk])
    assert server.names("vm2") >= {lock}
    assert len([name for name in server.names("vm2") if name.startswith(".lck")]) == 1
    assert server.nfs("nfs-cat", server.url(f"vm2/{lock}"))[20:24] == b"esx2"
    two.store.open(disk, writable=True).write(0, b"esx2")
    one.clock.advance(100 * S)
    with pytest.raises(BlockError, match=r"lost the lock of vm2/vm2-flat.vmdk to host esx2"):
        file.write(0, b"never")
    two.pass_time(10)
    assert second.held
    assert server.nfs("nfs-cat", server.url(disk))[:13] == b"esx2 was here"
    first.release()
    second.release()
    assert lock not in server.names("vm2")
    assert [event.holder for event in two.log.of(NfsLockBroken)] == ["esx1"]
    assert one.log.of(NfsLockLost)[0].to_host == "esx2"


def test_many_takers_at_once_one_winner(server: Ganesha) -> None:
    hosts = [Host(f"esx{number}", server.mount()) for number in range(6)]
    hosts[0].store.create("race")
    dead = NfsLock(server.mount(), "race", Owner("dead", bytes(16)), VirtualClock())
    assert dead.try_take()
    locks = [NfsLock(host.store.client, "race", host.owner, host.clock) for host in hosts]
    for _ in range(3):
        for host, lock in zip(hosts, locks, strict=True):
            assert not lock.try_take()
            host.clock.advance(10 * S)
    with ThreadPoolExecutor(len(locks)) as pool:
        won = list(pool.map(NfsLock.try_take, locks))
    for _ in range(4):  # takers that stood in each other's way try again
        if any(won):
            break
        for host in hosts:
            host.clock.advance(10 * S)
        won = [lock.try_take() for lock in locks]
    assert sum(won) == 1
    assert not dead.renew()
    assert sum(lock.trusted and lock.renew() for lock in locks) == 1


def test_a_server_that_is_killed_and_started_again_loses_no_write(server: Ganesha) -> None:
    host = Host("esx1", server.mount())
    store = host.store
    store.create_disk("down.vmdk", 4 << 20)
    store.health.start()
    content = bytearray(4 << 20)
    lot = random.Random(2)
    done: list[DiskRequest] = []
    with store.open_disk("down.vmdk") as disk:
        timed = TimedDisk(disk.chain, host.clock, log=host.log)

        def write(sectors: int) -> None:
            for _ in range(sectors):
                at, data = lot.randrange(8192) * 512, lot.randbytes(512)
                content[at : at + 512] = data
                timed.write(at, data, done.append)

        write(50)
        host.pass_time(2)  # written, not flushed
        assert len(done) == 50
        server.kill()
        write(50)
        timed.flush(done.append)
        host.pass_time(40)
        assert len(done) == 50
        assert store.state == "inactive"
        with pytest.raises(BlockError, match="nfs1 is inactive") as away:
            store.names()
        assert away.value.kind == "away"
        server.start()
        host.pass_time(20)
        assert store.state == "active"
        assert [request.status for request in done] == ["done"] * 101
        assert done[-1].operation == "flush"
        server.kill()  # what is flushed is there
        assert (server.folder / "down-flat.vmdk").read_bytes() == content
        server.start()
        assert disk.chain.read(0, len(content)) == content
    assert sum(event.writes for event in host.log.of(NfsWritesRepeated)) >= 50
    assert len(host.log.of(NfsDatastoreInactive)) == len(host.log.of(NfsDatastoreActive)) == 1


def test_a_server_that_hangs_is_waited_for_and_no_longer_than_the_time_given(server: Ganesha) -> None:
    host = Host("esx1", server.mount(timeout_s=0.2), HeartbeatSettings(timeout_s=0.2))
    store = host.store
    store.health.start()
    file = store.create("hang")
    file.write(0, b"old")
    server.freeze()
    try:
        with pytest.raises(BlockError, match="does not answer") as away:
            file.write(0, b"new")
        assert away.value.kind == "away"
        host.pass_time(40)
        assert store.state == "inactive"
    finally:
        server.thaw()
    for _ in range(20):
        host.pass_time(10)
        if store.state == "active":
            break
    assert store.state == "active"
    file.write(1, b"EW")
    file.sync()
    assert (server.folder / "hang").read_bytes()[1:] == b"EW"
    assert file.read(0, 3)[1:] == b"EW"
