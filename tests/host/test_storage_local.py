"""Machines with disks on the embedded datastore: locks, modes, snapshots with memory, suspension."""

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
from tests.vmm.disk_guest import filling
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.registered import power_on_file
from vilab.host.storage import StorageOptions
from vilab.host.vmx_disks import DiskSettings
from vilab.storage.disks.vmdk_create import create

WEB = "[local] web/web.vmx"


def new_host(folder: Path, name: str = "esx1", memory_mb: int = 40) -> Host:
    (folder / "local").mkdir(exist_ok=True)
    (folder / name).mkdir()
    return Host(
        memory_mb, name, swap_directory=folder / name, quantum_ns=QUANTUM,
        storage=StorageOptions(directory=folder / "local"),
    )  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = new_host(tmp_path)
    yield made
    made.memory.check()
    made.close()
    for name in ("web", "db"):
        if (lock := tmp_path / "local" / name / f"{name}.vmx.lck").exists():
            assert lock.read_bytes() == b""


@pytest.mark.parametrize("controller", ["lsilogic"])
def test_what_a_guest_has_put_on_its_disk_is_there_after_power_off(host: Host, controller: str) -> None:
    web = start(host, register(host, WEB, controller=controller), "mkfs", "put hello world", "fill big 40000 3", "sync")
    host.power_off(web)
    assert disk_files(host, "[local] web/web.vmdk") == {"hello": b"world\n", "big": filling(40_000, 3)}
    again = start(host, WEB)
    assert type_line(host, again, "cat hello") == "world\n"


def test_the_configuration_file_keeps_every_line(host: Host) -> None:
    register(host, WEB)
    before = host.storage.read_file(WEB).decode().splitlines()
    host.power_off(start(host, WEB))
    after = host.storage.read_file(WEB).decode().splitlines()
    assert after[: len(before)] == before
    assert after[len(before) :] == [f'sched.swap.derivedName = "{after[-1].split(chr(34))[1]}"']


def test_a_second_host_is_told_who_has_the_machine_and_gets_it_afterwards(host: Host, tmp_path: Path) -> None:
    other = new_host(tmp_path, "esx2")
    web = start(host, register(host, WEB), "mkfs", "put a b")
    free = other.memory.free_pages
    with pytest.raises(AdminError, match=r"\[local\] web/web.vmx is powered on already, on host esx1"):
        power_on_file(other, WEB)
    with pytest.raises(AdminError, match="on host esx1"):
        power_on_file(host, tmp_path / "local" / "web" / "web.vmx")
    assert (other.memory.free_pages, other.vms) == (free, {})
    type_line(host, web, "put c d")
    host.power_off(web)
    assert type_line(other, start(other, WEB), "cat c") == "d\n"
    other.close()


def test_a_machine_that_switches_itself_off_gives_its_files_back(host: Host, tmp_path: Path) -> None:
    web = start(host, register(host, WEB), "mkfs", "put a b")
    web.console.type("poweroff")
    run_until(host, lambda: not web.runs)
    assert not host.vms
    assert host.storage.mounted("local").users == []
    other = new_host(tmp_path, "esx2")
    assert type_line(other, start(other, WEB), "cat a") == "b\n"
    other.close()


def test_a_host_without_power_leaves_what_was_flushed(tmp_path: Path) -> None:
    host = new_host(tmp_path)
    start(host, register(host, WEB), "mkfs", "put a b", "write late words")
    host.cut_power()
    other = new_host(tmp_path, "esx2")
    assert disk_files(other, "[local] web/web.vmdk") == {"a": b"b\n"}
    assert type_line(other, start(other, WEB), "ls").startswith("a: 2 bytes")
    other.close()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('scsi0.virtualDev = "ide"', r"web.vmx, line \d+: scsi0.virtualDev is 'ide'; it has to be lsilogic or busl"),
        ('scsi0:1.present = "TRUE"', r"line \d+: scsi0:1 is present, but scsi0:1.fileName does not say which"),
        ('scsi0:7.present = "TRUE"', "there is no place scsi0:7"),
        ('scsi0:0.mode = "append"', r"scsi0:0.mode is 'append'"),
        ('scsi0:0.deviceType = "cdrom-image"', "there are no other SCSI devices"),
        ('scsi0.sharedBus = "virtual"', "disks are not shared"),
        ('scsi0:0.fileName = "none.vmdk"', r"none.vmdk cannot be opened"),
        ('scsi0:0.fileName = "../x/web.vmdk"', "is refused"),
        ('scsi0:0.fileName = "[san] web/web.vmdk"', r"esx1 has no datastore 'san'; it has local"),
    ],
)  # fmt: skip
def test_a_disk_that_cannot_be_is_refused_in_a_sentence_and_nothing_stays(host: Host, line: str, sentence: str) -> None:
    register(host, WEB)
    kept = [each for each in host.storage.read_file(WEB).decode().splitlines() if each.split()[0] != line.split()[0]]
    host.storage.write_file(WEB, "\n".join([*kept, line, ""]).encode())
    before, free = host.storage.read_file(WEB), host.memory.free_pages
    with pytest.raises(AdminError, match=sentence):
        power_on_file(host, WEB)
    assert host.storage.read_file(WEB) == before
    assert (host.memory.free_pages, host.vms, host.storage.mounted("local").users) == (free, {}, [])
    with pytest.raises(AdminError, match=sentence):  # and not: in use
        power_on_file(host, WEB)


def test_a_machine_for_which_memory_is_short_gives_its_files_back(host: Host) -> None:
    register(host, WEB)
    host.storage.write_file(WEB, host.storage.read_file(WEB).replace(b'"8"', b'"400"') + b'sched.mem.minsize = "400"\n')
    for _ in range(2):
        with pytest.raises(AdminError, match="400 MB"):
            power_on_file(host, WEB)


def test_what_is_written_to_a_nonpersistent_disk_is_gone_and_to_an_independent_one_stays(host: Host) -> None:
    for name in ("web", "log", "tmp"):
        host.storage.create_disk(f"[local] web/{name}.vmdk", DISK_BYTES)
    register(
        host, WEB, DiskSettings("scsi0:0", "tmp.vmdk", "independent-nonpersistent"),
        DiskSettings("scsi0:1", "log.vmdk", "independent-persistent"), DiskSettings("scsi0:2", "web.vmdk"),
    )  # fmt: skip
    before = {name: host.storage.place(f"[local] web/{name}.vmdk") for name in ("tmp", "log")}
    web = start(host, WEB, "mkfs", "put a b")  # the kernel's file system is on the first one
    names = host.storage.mounted("local").datastore.names("web")
    assert sum("-REDO_" in name for name in names) == 2
    with pytest.raises(AdminError, match="scsi0:0 and scsi0:1 would not be in it"):
        host.snapshots(web).take("no")
    with pytest.raises(AdminError, match=r"scsi0:0 \(independent-nonpersistent\) is thrown away"):
        host.suspend(web)
    host.power_off(web)
    names = host.storage.mounted("local").datastore.names("web")
    assert not [name for name in names if "-REDO_" in name]
    assert before
    with pytest.raises(AdminError, match="no tinyfs"):
        disk_files(host, "[local] web/tmp.vmdk")


def test_a_throw_away_redo_log_of_a_host_that_died_is_thrown_away_by_the_next(tmp_path: Path) -> None:
    host = new_host(tmp_path)
    host.storage.create_disk("[local] web/web.vmdk", DISK_BYTES)
    register(host, WEB, DiskSettings("scsi0:0", "web.vmdk", "independent-nonpersistent"))
    start(host, WEB, "mkfs")
    host.cut_power()
    other = new_host(tmp_path, "esx2")
    left = {name for name in other.storage.mounted("local").datastore.names("web") if "-REDO_" in name}
    start(other, WEB)
    now = {name for name in other.storage.mounted("local").datastore.names("web") if "-REDO_" in name}
    assert len(left) == len(now) == 2
    assert not left & now
    other.close()


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_with_memory_is_gone_back_to_in_the_middle_of_a_command(host: Host) -> None:
    web = start(host, register(host, WEB), "mkfs", "put a first", "write unsynced words")
    snapshots = host.snapshots(web)
    before = web.console.said
    taken = snapshots.take("installed", "with a file that is not on the disk yet")
    for line in ("sync", "put b second", "rm a", "sync"):
        type_line(host, web, line)
    assert set(files_on(web.disks.devices()["scsi0:0"])) == {"unsynced", "b"}
    snapshots.revert(taken.uid)
    assert web.runs
    after = len(web.console.said)
    assert type_line(host, web, "ls").count(" bytes, inode") == 2, before  # a, and what only memory has
    assert type_line(host, web, "cat unsynced") == "words\n"
    type_line(host, web, "sync")
    assert files_on(web.disks.devices()["scsi0:0"]) == {"a": b"first\n", "unsynced": b"words\n"}
    assert after < len(web.console.said)
    assert 'scsi0:0.fileName = "web-000002.vmdk"' in host.storage.read_file(WEB).decode()
    assert 'snapshot0.displayName = "installed"' in host.storage.read_file("[local] web/web.vmsd").decode()
    host.power_off(web)
    again = start(host, WEB)
    assert type_line(host, again, "cat a") == "first\n"
    host.snapshots(again).revert(taken.uid)  # of another power-on
    assert type_line(host, again, "cat unsynced") == "words\n"


def test_snapshots_are_merged_while_the_guest_writes(host: Host) -> None:
    web = start(host, register(host, WEB), "mkfs", "fill a 50000 1", "sync")
    snapshots = host.snapshots(web)
    for number in range(3):
        snapshots.take(f"s{number}", memory=number == 1)
        type_line(host, web, f"fill b{number} 60000 {number}")
        type_line(host, web, "sync")
    assert snapshots.list.describe().splitlines()[-1].strip() == "*  you are here"
    web.console.type("fill during 100000 9")
    snapshots.begin_delete(None)
    with pytest.raises(AdminError, match="being merged"):
        snapshots.take("s3")
    run_until(host, lambda: not snapshots.merging)
    assert web.merge_problem == ""
    to_prompt(host, web)
    type_line(host, web, "sync")
    names = host.storage.mounted("local").datastore.names("web")
    assert [name for name in names if name.endswith((".vmdk", ".vmsn"))] == ["web-flat.vmdk", "web.vmdk"]
    host.power_off(web)
    wanted = {"a": filling(50_000, 1), "during": filling(100_000, 9)} | {f"b{n}": filling(60_000, n) for n in range(3)}
    assert disk_files(host, "[local] web/web.vmdk") == wanted


def test_a_snapshot_of_disks_alone_leaves_the_machine_off(host: Host) -> None:
    web = start(host, register(host, WEB), "mkfs", "put a b")
    taken = host.snapshots(web).take("disks", memory=False)
    type_line(host, web, "put c d")
    host.snapshots(web).revert(taken.uid)
    assert "reverted to 'disks', which has no memory" in web.stopped
    with pytest.raises(AdminError, match="is off"):
        host.snapshots(web).take("late")
    assert not host.vms
    assert type_line(host, start(host, WEB), "ls").count("inode") == 1


def test_a_state_that_does_not_fit_changes_nothing(host: Host, tmp_path: Path) -> None:
    web = start(host, register(host, WEB), "mkfs", "put a b")
    taken = host.snapshots(web).take("one")
    type_line(host, web, "put c d")
    state = tmp_path / "local" / "web" / taken.state_file
    damaged = bytearray(state.read_bytes())
    damaged[-1] ^= 1
    state.write_bytes(damaged)
    with pytest.raises(AdminError, match="has changed"):
        host.snapshots(web).revert(taken.uid)
    assert type_line(host, web, "cat c") == "d\n"


# --- suspension, clones -----------------------------------------------------------------------------------------------


def test_a_suspended_machine_gives_its_files_back_and_goes_on_where_nobody_has_written(
    host: Host, tmp_path: Path
) -> None:
    web = start(host, register(host, WEB), "mkfs", "put a b", "write unsynced words")
    state = host.suspend(web)
    assert host.storage.mounted("local").users == []
    other = new_host(tmp_path, "esx2")
    moved = other.resume(state)
    with pytest.raises(AdminError, match="on host esx2"):
        host.resume(state)
    assert type_line(other, moved, "cat unsynced") == "words\n"
    type_line(other, moved, "sync")
    other.power_off(moved)
    with pytest.raises(AdminError, match="web was not resumed: its disks were written to since"):
        host.resume(state)
    assert disk_files(host, "[local] web/web.vmdk") == {"a": b"b\n", "unsynced": b"words\n"}
    other.close()


def test_a_machine_with_disks_is_not_cloned(host: Host) -> None:
    web = start(host, register(host, WEB))
    with pytest.raises(AdminError, match="web was not cloned: it has disks"):
        host.clone(web, "web2")
    assert list(host.vms) == ["web"]


def test_a_disk_that_guest_memory_does_not_fit_beside_is_read_into_paged_memory(tmp_path: Path) -> None:
    """Two machines on a host with memory for little more than one: DMA goes to pages that were paged out."""
    host = new_host(tmp_path, memory_mb=22)
    vms = [start(host, register(host, f"[local] {name}/{name}.vmx"), "mkfs") for name in ("web", "db")]
    for number, vm in enumerate(vms):
        for file in range(3):
            type_line(host, vm, f"fill f{file} 100000 {10 * number + file}")
        type_line(host, vm, "sync")
    host.memory.check()
    for number, name in enumerate(("web", "db")):
        host.power_off(vms[number])
        found = disk_files(host, f"[local] {name}/{name}.vmdk")
        assert found == {f"f{file}": filling(100_000, 10 * number + file) for file in range(3)}
    host.close()


def test_a_machine_may_be_anywhere_on_this_computer(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    create(folder / "web.vmdk", DISK_BYTES // 512, "monolithicSparse")
    host.storage.create_disk("[local] data/data.vmdk", 3 * MB)
    register(host, WEB, DiskSettings("scsi0:0", "web.vmdk"), DiskSettings("scsi0:3", "[local] data/data.vmdk"))
    (folder / "web.vmx").write_bytes(host.storage.read_file(WEB))
    web = start(host, folder / "web.vmx", "mkfs", "put a b")
    assert f"scsi 3: VMware Virtual disk, {3 * MB // 512} sectors" in web.console.said
    assert [user.name for user in host.storage.mounted("local").users] == ["web"]
    with pytest.raises(AdminError, match="local was not removed: it has open files of web"):
        host.storage.remove("local")
    host.run_for(SECOND)


def test_a_machine_without_disks_is_locked_all_the_same_and_can_be_cloned(host: Host) -> None:
    register(host, WEB)
    config = host.storage.read_file(WEB).replace(b'scsi0.present = "TRUE"', b'scsi0.present = "FALSE"')
    host.storage.write_file(WEB, config)
    web = start(host, WEB)
    with pytest.raises(AdminError, match="on host esx1"):
        power_on_file(host, WEB)
    (clone,) = host.clone(web, "web2")
    assert clone.disks is None
    host.run_for(SECOND)
    assert web.runs
    assert clone.runs
    with pytest.raises(AdminError, match="was not powered on from a file"):
        host.snapshots(clone).take("no")
    state = host.suspend(web)
    again = host.resume(state)
    with pytest.raises(AdminError, match="on host esx1"):
        power_on_file(host, WEB)
    assert again.runs
