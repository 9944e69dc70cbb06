"""Stock Linux with disks: finds them, partitions, makes ext4, works hard on it; snapshots and suspension in the middle.

The guest's own ``e2fsck -f`` and this machine's judge the file system; sums that the guest has taken while it worked
are compared with what ``debugfs`` finds in the image.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests import tools
from tests.vmm.disk_session import DiskSession
from vilab.errors import AdminError
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_convert import convert
from vilab.storage.disks.vmdk_create import create
from vilab.storage.scsi.state import Identity
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter, attach, serial_of

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

SECTORS = 96 * 2048
FIRST_SECTOR = 32
PARTITION = "printf 'n\\np\\n1\\n\\n\\nw\\n' | fdisk /dev/sda >/dev/null 2>&1"
WORK = (
    "cd /mnt; mkdir $D; cd $D; i=0; while [ $i -lt $N ]; do i=$((i+1)); mkdir d$i; "
    "dd if=/dev/urandom of=d$i/a bs=1000 count=$((i*7)) 2>/dev/null; cp d$i/a d$i/b; mv d$i/b c$i; "
    "[ $((i%3)) = 0 ] && rm d$i/a && rmdir d$i; seq $i 900 > s$i; sync; done; "
    "find . -type f | sort | xargs md5sum > /tmp/$D; cp /tmp/$D sums; sync; cd /"
)
"""Files of growing size, copies, renames, removed files and folders; the sums of what stays."""


def work(folder: str, count: int) -> str:
    return f"D={folder}; N={count}; {WORK}"


CHECK = "(cd /mnt/{0} && md5sum -c -s /tmp/{0})"


def snapshot_adapter(disk: SnapshotDisk, controller: str) -> ScsiAdapter:
    """A disk whose snapshots are taken while the guest runs."""
    return ScsiAdapter(controller, (AttachedDisk(0, disk.chain, Identity(serial_of(disk.chain, disk.top))),))


def until_a_command_is_under_way(session: DiskSession) -> None:
    for _ in range(4000):
        if session.vm.pc.scsi_busy():
            return
        session.slice(300_000)
    raise AssertionError("the guest does not touch its disk")


def prepare(session: DiskSession) -> None:
    """A partition with ext4, mounted."""
    session.succeed(PARTITION)
    session.succeed("mkfs.ext4 -q /dev/sda1")
    session.succeed("mount -t ext4 /dev/sda1 /mnt")


def judge(raw: Path, folders: list[str], folder: Path) -> None:
    """e2fsck and debugfs of this machine, on the partition of a raw image."""
    partition = folder / f"{raw.name}.part"
    with raw.open("rb") as file:
        file.seek(FIRST_SECTOR * SECTOR_BYTES)
        partition.write_bytes(file.read())
    fsck = tools.require_tool("e2fsck", "the Debian package e2fsprogs")
    done = subprocess.run([fsck, "-f", "-n", str(partition)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in folders:
        sums = debugfs(partition, f"/{name}/sums").decode().splitlines()
        assert len(sums) > 10
        for line in sums:
            digest, path = line.split(maxsplit=1)
            if path != "./sums":
                content = debugfs(partition, f"/{name}/{path.removeprefix('./')}")
                assert hashlib.md5(content).hexdigest() == digest, (name, path)


def debugfs(partition: Path, path: str) -> bytes:
    program = tools.require_tool("debugfs", "the Debian package e2fsprogs")
    done = subprocess.run([program, "-R", f"cat {path}", str(partition)], capture_output=True, timeout=60)
    return done.stdout


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="vilab-disks-"))


@pytest.fixture(scope="module", autouse=True)
def cleaned():
    yield
    if folder.cache_info().currsize:
        shutil.rmtree(folder(), ignore_errors=True)


SAID = {
    "lsilogic": (("lsmod", "mptspi"), ("dmesg | grep 'scsi host0'", "LSI53C1030"),
                 ("dmesg | grep target0:0:0", "320.0 MB/s")),
    "buslogic": (("lsmod", "BusLogic"), ("dmesg | grep 'scsi host0'", "BusLogic BT-958")),
}  # fmt: skip
"""What the guest has to say of its adapter: command, words."""


@pytest.mark.parametrize("controller", ["lsilogic", "buslogic"])
def test_snapshot_revert_and_consolidate_while_linux_writes_under_bt(controller: str):
    tools.debian()
    path = folder() / f"{controller}.vmdk"
    create(path, SECTORS, "monolithicSparse")
    disk = SnapshotDisk(path)
    session = DiskSession.boot("bt", [snapshot_adapter(disk, controller)])
    for command, words in SAID[controller]:
        assert words in session.run(command)
    prepare(session)
    session.succeed(work("one", 5))

    # A snapshot of the machine: its memory with commands under way, and its disk, in the middle of the work.
    session.type(work("two", 5))
    session.slice(200_000_000)
    until_a_command_is_under_way(session)
    memory = session.saved()
    disk.snapshot()
    assert session.answer(work("two", 5)) == ""
    session.succeed(CHECK.format("two"))
    session.succeed("rm -r /mnt/one; sync")
    session.vm.close()

    # Back to that moment: the disk forgets, the machine goes on with the same commands.
    disk.revert()
    session = DiskSession.resumed(memory, [snapshot_adapter(disk, controller)])
    assert session.vm.pc.scsi_busy()
    assert session.rest() == ""
    for name in ("one", "two"):
        session.succeed(CHECK.format(name))

    # All redo logs are merged, a piece at a time, while the guest writes.
    disk.snapshot()
    line = work("three", 6)
    session.type(line)
    session.slice(300_000_000)
    steps = 0
    for _ in disk.consolidate_steps():
        session.slice(40_000_000)
        steps += 1
    assert steps > 1
    assert disk.top == path
    session.answer(line)
    session.succeed("umount /mnt && e2fsck -f -n /dev/sda1")
    session.succeed("mount -t ext4 /dev/sda1 /mnt")
    for name in ("one", "two", "three"):
        session.succeed(CHECK.format(name))
    session.succeed("umount /mnt")
    (folder() / f"{controller}.vm").write_bytes(session.saved())
    session.vm.close()
    disk.close()
    raw = folder() / f"{controller}.img"
    convert(path, raw, "raw")
    judge(raw, ["one", "two", "three"], folder())


def test_linux_works_through_buslogic_under_svm_and_goes_on_in_another_process():
    tools.debian()
    path = folder() / "raw.img"
    with path.open("wb") as file:
        file.truncate(SECTORS * SECTOR_BYTES)
    (adapter,) = attach([path], "buslogic")
    session = DiskSession.boot("svm", [adapter])
    assert "BusLogic BT-958" in session.run("dmesg | grep 'scsi host0'")
    prepare(session)
    session.succeed(work("one", 5))
    line = work("two", 5)
    session.type(line)
    session.slice(200_000_000)
    until_a_command_is_under_way(session)
    saved = folder() / "under-way.vm"
    saved.write_bytes(session.saved())
    session.close()

    rest = folder() / "rest.vm"
    command = [sys.executable, "-m", "vilab.cli", "resume", str(saved), "--suspend-to", str(rest), "--suspend-at"]
    at_ms = session.vm.engine.now_ns() // 1_000_000 + 12_000
    done = subprocess.run([*command, str(at_ms)], input=b"", capture_output=True, timeout=250)
    assert done.returncode == 0, done.stderr
    session = DiskSession.resumed(rest.read_bytes())
    for name in ("one", "two"):
        session.succeed(CHECK.format(name))
    session.succeed("umount /mnt && e2fsck -f -n /dev/sda1")
    (folder() / "buslogic-idle.vm").write_bytes(session.saved())
    session.halt()
    session.close()
    judge(path, ["one", "two"], folder())


@pytest.mark.parametrize(("name", "engine"), [("lsilogic.vm", "svm"), ("buslogic-idle.vm", "bt")])
def test_the_other_engine_takes_over_and_the_disk_goes_on(name: str, engine: str):
    saved = folder() / name
    if not saved.exists():
        tools.missing(f"{name}, a guest that another test of this file has booted,", "that test, if it passes")
    session = DiskSession.resumed(saved.read_bytes(), engine=engine)
    session.succeed("mount -t ext4 /dev/sda1 /mnt")
    session.succeed(work("four", 4))
    session.succeed("umount /mnt && e2fsck -f -n /dev/sda1")
    path = Path(session.vm.adapters[0].disks[0].place)
    session.halt()
    session.close()
    raw = path
    if path.suffix == ".vmdk":
        raw = folder() / "after.img"
        convert(path, raw, "raw")
    judge(raw, ["one", "two", "four"], folder())


def test_disks_that_cannot_be_attached_are_refused_in_a_sentence(tmp_path: Path):
    disk = tmp_path / "d.img"
    disk.write_bytes(bytes(1024))
    with pytest.raises(AdminError, match="16 disks are more than the 15"):
        attach([disk] * 16)
    with pytest.raises(AdminError, match="no controller 'ide'"):
        attach([disk], "ide")
    with pytest.raises(AdminError, match="cannot be"):
        attach([disk, tmp_path / "absent.img"])
    (adapter,) = attach([disk])  # what was open is closed again, and can be locked
    adapter.close()


def test_a_disk_keeps_its_serial_number_and_its_place_when_snapshots_come_and_go(tmp_path: Path):
    path = tmp_path / "d.vmdk"
    create(path, 2048, "monolithicSparse")
    with SnapshotDisk(path) as disk:
        (attached,) = snapshot_adapter(disk, "lsilogic").disks
        before = attached.place
        above = disk.snapshot()
        assert (before, attached.place) == (str(path), str(above))
        serial = attached.identity.serial
    (adapter,) = attach([above])
    assert adapter.disks[0].identity.serial == serial
    assert adapter.records()[0].path == str(above)
    adapter.close()
