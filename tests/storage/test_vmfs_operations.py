"""After any sequence of operations the judges find what the model says, and nothing to complain about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.vmfs_disks import Volume
from tests.storage.vmfs_judges import debugvmfs_agrees, dissect_pieces, dissect_walk, is_clean
from tests.storage.vmfs_workload import Workload, walk
from vilab.errors import AdminError
from vilab.storage.vmfs.errors import FileInUse, NoSuchFile
from vilab.storage.vmfs.file import VmfsDisk
from vilab.storage.vmfs.layout import MIB
from vilab.storage.vmfs.namespace import ReadOnlyVolume


def judged(volume: Volume, work: Workload, image: Path) -> None:
    volume.disk.save(image)
    is_clean(image)
    debugvmfs_agrees(image, work.model)
    assert dissect_walk(image) == work.model
    assert walk(ReadOnlyVolume(volume.disk)) == work.model


@pytest.mark.interop
@pytest.mark.parametrize("seed", range(6))
def test_random_work_by_one_host(seed: int, tmp_path: Path):
    volume, work = Volume(), Workload(seed)
    host = volume.host()
    for number in range(90):
        done = work.step(host)
        if number % 30 == 29:
            volume.disk.save(tmp_path / "v.img")
            is_clean(tmp_path / "v.img")
            assert walk(host) == work.model, done
    host.leave()
    judged(volume, work, tmp_path / "v.img")


@pytest.mark.interop
@pytest.mark.parametrize("block_mib", [2, 8])
def test_other_block_sizes(block_mib: int, tmp_path: Path):
    volume, work = Volume(block_bytes=block_mib * MIB), Workload(block_mib)
    host = volume.host()
    for _ in range(40):
        work.step(host)
    host.leave()
    judged(volume, work, tmp_path / "v.img")


@pytest.mark.interop
def test_three_hosts_take_turns(tmp_path: Path):
    volume, work = Volume(), Workload(99)
    hosts = [volume.host(name) for name in "ABC"]
    for _ in range(120):
        work.step(work.lot.choice(hosts))
    for host in hosts:
        assert walk(host) == work.model
        host.leave()
    judged(volume, work, tmp_path / "v.img")


@pytest.mark.interop
def test_pointer_blocks_and_holes(tmp_path: Path):
    """A thin file of 2 GB takes the blocks that were written, and its pointer blocks."""
    volume = Volume()
    host = volume.host()
    file = host.create("/thin-flat.vmdk")
    file.truncate(2_000_000_000)
    assert host.stat("/thin-flat.vmdk").allocated_bytes == 0
    for at in (0, 5 * MIB + 3, 300 * MIB - 2, 1_999_999_990):
        file.write(at, b"0123456789"[: 2_000_000_000 - at])
    assert host.stat("/thin-flat.vmdk").allocated_bytes == 5 * MIB
    assert file.read(300 * MIB - 3, 12) == b"\x000123456789\0"
    assert file.next_data(6 * MIB) == 299 * MIB
    file.close()
    host.leave()
    image = volume.disk.save(tmp_path / "v.img")
    is_clean(image)
    places = [(0, 12), (5 * MIB, 16), (6 * MIB, 64), (300 * MIB - 4, 16), (1_999_999_980, 100)]
    found = dissect_pieces(image, "/thin-flat.vmdk", places)
    assert found == [b"0123456789\0\0", b"\0\0\x000123456789\0\0\0", bytes(64), b"\0\x000123456789\0\0\0\0",
                     bytes(10) + b"0123456789"]  # fmt: skip
    host = volume.host()
    host.remove("/thin-flat.vmdk")
    total, free = host.space()
    assert total - free == 27 * MIB
    host.leave()
    is_clean(volume.disk.save(image))


@pytest.mark.interop
def test_a_directory_grows_past_a_sub_block(tmp_path: Path):
    volume, work = Volume(), Workload(0)
    host = volume.host()
    work.mkdir(host, "/d")
    for number in range(480):
        work.create(host, f"/d/{number:03}-{'n' * 100}", b"")
    for number in range(0, 480, 3):
        work.remove(host, f"/d/{number:03}-{'n' * 100}")
    work.rename(host, "/d", "/e")
    host.leave()
    judged(volume, work, tmp_path / "v.img")


def test_a_full_volume_loses_nothing(tmp_path: Path):
    volume, work = Volume(), Workload(0)
    host = volume.host()
    work.create(host, "/keep", b"k" * 100_000)
    file = host.create("/fill")
    written = 0
    with pytest.raises(AdminError, match="full"):
        while True:
            file.write(written, b"f" * (8 * MIB))
            written += 8 * MIB
    file.close()
    work.model["/fill"] = b"f" * file.size_bytes
    assert file.size_bytes >= written
    with pytest.raises(AdminError, match="full"):
        work.create(host, "/more", b"m" * 100_000_000)
    host.remove("/more")
    work.remove(host, "/fill")
    work.create(host, "/after", b"a" * 70_000)
    host.leave()
    volume.disk.save(tmp_path / "v.img")
    assert walk(ReadOnlyVolume(volume.disk)) == work.model


def test_what_stays_refused():
    volume, work = Volume(), Workload(0)
    host = volume.host()
    work.mkdir(host, "/d")
    work.create(host, "/d/f", b"x")
    work.create(host, "/g", b"y")
    before = dict(volume.disk.pages)
    for action, error in (
        (lambda: host.create("/g"), "exists already"),
        (lambda: host.mkdir("/d"), "exists already"),
        (lambda: host.rmdir("/d"), "not empty"),
        (lambda: host.rmdir("/g"), "not a directory"),
        (lambda: host.remove("/d"), "is a directory"),
        (lambda: host.remove("/.fbb.sf"), "system file"),
        (lambda: host.rename("/.fbb.sf", "/x"), "system file"),
        (lambda: host.rename("/g", "/.vh.sf"), "cannot be replaced"),
        (lambda: host.rename("/d", "/d/e"), "into itself"),
        (lambda: host.rename("/g", "/d"), "cannot be replaced"),
        (lambda: host.open_to_write("/.fdc.sf"), "not a file"),
        (lambda: host.open_to_read("/d"), "not a file"),
        (lambda: host.create("/d/../../etc"), "without"),
        (lambda: host.create("/" + "n" * 128), "cannot be a name"),
        (lambda: host.create("/nowhere/f"), "There is no"),
        (lambda: host.create("/g/f"), "not a directory"),
        (lambda: host.remove("/nothing"), "There is no"),
        (lambda: host.rmdir("/"), "root"),
    ):
        with pytest.raises(AdminError, match=error):
            action()
    assert volume.disk.pages == before


def test_a_file_has_one_writer_and_any_readers():
    volume = Volume()
    a, b = volume.host("A"), volume.host("B")
    file = a.create("/vm.vmx")
    file.write(0, b"one")
    with pytest.raises(FileInUse, match="open on this host"):
        a.open_to_write("/vm.vmx")
    with pytest.raises(FileInUse, match="open on this host"):
        a.remove("/vm.vmx")
    reader = b.open_to_read("/vm.vmx")
    assert reader.read(0, 10) == b"one"
    file.write(3, b" two")
    assert reader.read(0, 10) == b"one two"
    file.close()
    a.remove("/vm.vmx")
    with pytest.raises((NoSuchFile, AdminError)):
        reader.read(0, 10)


def test_a_file_as_a_block_device():
    volume = Volume()
    file = volume.host().create("/vm-flat.vmdk")
    file.truncate(4 * MIB)
    disk = VmfsDisk(file)
    disk.write(512, b"d" * 1024)
    disk.write(3 * MIB, b"e" * 512)
    disk.unmap(1024, 512)
    disk.flush()
    assert (disk.size_bytes, disk.read_only) == (4 * MIB, False)
    assert disk.read(0, 2048) == bytes(512) + b"d" * 512 + bytes(1024)
    assert disk.read(4 * MIB - 512, 512) == bytes(512)
