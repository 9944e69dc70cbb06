"""Storage VMotion: a running machine's folder moves between local, VMFS and NFS datastores while its guest writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.storage_helpers import PROMPT, disk_files, files_on, register, run_until, start, type_line
from tests.migration.storage_moves import (
    FILES,
    MB,
    METHODS,
    SMALL,
    WEB,
    Site,
    Writer,
    content,
    drive,
    idle,
    names,
    on,
    qemu_finds,
)
from tests.storage.nfs_server import MOUNT_PORT, NFS_PORT, ganesha
from tests.vmm.disk_guest import filling
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.registered import power_on_file
from vilab.host.vmx_disks import DiskSettings
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName, StorageVmotion, move_now
from vilab.migration.storage_vmotion_events import (
    StorageBytesCopied,
    StorageMoveBegan,
    StorageMoveEnded,
    StorageRoundBegan,
    StorageRoundCopied,
    StorageSwitched,
)
from vilab.storage.disks.vmdk import read_descriptor

# --- the way there and back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_machine_goes_round_by_vmfs_and_nfs_while_its_guest_writes(tmp_path: Path, method: MethodName) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    host = site.host()
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(30)
    at = "local"
    for number, to in enumerate(("san1", "ds2", "nfs1", "san1", "nfs1", "local")):
        move = StorageVmotion(host, vm, to, method, SMALL)
        drive(vm, writer.some)
        assert (move.state, move.why, move.left, vm.merge_problem) == ("moved", "", "", "")
        assert (on(host, f"[{at}] web"), on(host, f"[{to}] web")) == (set(), FILES)
        assert vm.disks.home.where == f"[{to}] web/web.vmx"
        writer.some(5)
        assert writer.agrees()
        if number in (0, 2, 5):
            writer.device.flush()
            qemu_finds(host, f"[{to}] web", "web.vmdk", bytes(writer.model), tmp_path / f"judge{number}")
        at = to
    assert all(not host.storage.mounted(name).users for name in ("ds2", "san1", "nfs1"))
    host.power_off(vm)
    assert "cannot" not in vm.stopped
    assert content(host, "[local] web/web.vmdk") == bytes(writer.model)
    assert power_on_file(host, WEB).runs
    site.close()


@pytest.mark.parametrize("method", METHODS)
def test_the_teaching_kernel_writes_files_while_its_disk_moves(tmp_path: Path, method: MethodName) -> None:
    site = Site(tmp_path, san=True)
    host = site.host()
    vm = start(host, register(host, WEB), "mkfs", "fill before 60000 1", "sync", "write unsynced words")
    for number, to in enumerate(("san1", "local")):
        move = StorageVmotion(host, vm, to, method, SMALL)
        after = len(vm.console.said)
        vm.console.type(f"fill during{number} 100000 {number}")
        vm.console.type("sync")
        run_until(host, lambda move=move: not move.running)  # type: ignore[misc]
        assert move.state == "moved", move.why
        run_until(host, lambda after=after: vm.console.said[after:].count(PROMPT) == 2)  # type: ignore[misc]
    assert type_line(host, vm, "cat unsynced") == "words\n"
    wanted = {"before": filling(60_000, 1), "unsynced": b"words\n"}
    wanted |= {f"during{number}": filling(100_000, number) for number in range(2)}
    assert files_on(vm.disks.devices()["scsi0:0"]) == wanted
    host.power_off(vm)
    assert disk_files(host, "[local] web/web.vmdk") == wanted
    again = start(host, WEB)
    assert type_line(host, again, "ls").count("inode") == 4
    site.close()


def test_nfs_by_somebody_elses_server(tmp_path: Path) -> None:
    with ganesha(tmp_path) as server:
        site = Site(tmp_path)
        host = site.host()
        url = f"nfs://127.0.0.1/export?nfsport={NFS_PORT}&mountport={MOUNT_PORT}"
        host.storage.add_nfs("nfs1", url, server.dial, timeout_s=5.0)
        vm = idle(host, WEB)
        writer = Writer(vm.disks.devices()["scsi0:0"])
        writer.some(30)
        for method, to in zip(METHODS, ("nfs1", "ds2"), strict=True):
            StorageVmotion(host, vm, to, method, SMALL)
            drive(vm, writer.some)
            assert vm.disks.home.where == f"[{to}] web/web.vmx", vm.merge_problem
            assert writer.agrees()
            if to == "nfs1":
                assert {path.name for path in (server.folder / "web").iterdir()} >= FILES
        host.power_off(vm)
        assert list(server.folder.iterdir()) == []
        assert content(host, "[ds2] web/web.vmdk") == bytes(writer.model)
        site.close()


# --- what goes along --------------------------------------------------------------------------------------------------


def test_every_file_of_the_folder_goes_along_and_the_lock(site: Site, host: Host) -> None:
    other = site.host()
    host.storage.write_file("[local] web/web.nvram", b"settings" * 5000)
    host.storage.write_file("[local] web/notes.txt", b"")
    vm = idle(host, WEB)
    before = host.storage.read_file(WEB)
    swap = vm.client.swap.path
    assert swap.parent == site.folder / "local" / "web"
    move = move_now(host, vm, "ds2")
    (ended,) = site.log.of(StorageMoveEnded)
    assert ended.other_files_bytes == move.copier.other_files_bytes == 40_000
    assert ended.copied_bytes == sum(each.copied_bytes for each in site.log.of(StorageRoundCopied))
    assert host.storage.read_file("[ds2] web/web.vmx") == before
    assert host.storage.read_file("[ds2] web/web.nvram") == b"settings" * 5000
    assert not (site.folder / "local" / "web").exists()
    assert (site.folder / "ds2" / "web" / swap.name).exists()
    assert set(names(host, "[ds2] web")) == FILES | {"web.nvram", "notes.txt", swap.name}
    with pytest.raises(AdminError, match=r"\[ds2\] web/web.vmx is powered on already, on host esx1"):
        power_on_file(other, "[ds2] web/web.vmx")
    with pytest.raises(AdminError, match=r"cannot be opened"):
        power_on_file(other, WEB)
    host.power_off(vm)
    assert not (site.folder / "ds2" / "web" / swap.name).exists()
    assert power_on_file(other, "[ds2] web/web.vmx").runs


def test_disks_keep_their_kind_their_size_and_their_identity(site: Site, host: Host) -> None:
    kinds = {"thin": "vmfs", "thick": "vmfs", "sparse": "monolithicSparse", "pieces": "twoGbMaxExtentFlat"}
    for name, kind in kinds.items():
        host.storage.create_disk(f"[local] web/{name}.vmdk", MB, kind, "thick" if name == "thick" else "thin")
    settings = [
        DiskSettings(f"scsi0:{number}", f"{'[local] web/' if name == 'thick' else ''}{name}.vmdk")
        for number, name in enumerate(kinds)
    ]
    vm = idle(host, WEB, *settings)
    writers = [Writer(disk, seed) for seed, disk in enumerate(vm.disks.devices().values())]
    for writer in writers:
        writer.some(20)
    files = host.storage.mounted("local").files
    before = [read_descriptor(host.storage.place(f"[local] web/{name}.vmdk")[2], files) for name in kinds]
    StorageVmotion(host, vm, "ds2", options=SMALL)
    drive(vm, lambda: [writer.some() for writer in writers] and None)
    files = host.storage.mounted("ds2").files
    after = [read_descriptor(host.storage.place(f"[ds2] web/{name}.vmdk")[2], files) for name in kinds]
    for old, new in zip(before, after, strict=True):
        assert (new.create_type, new.sectors, new.ddb, new.extents) == (
            old.create_type,
            old.sectors,
            old.ddb,
            old.extents,
        )
    assert all(writer.agrees() for writer in writers)
    assert b'"[local]' not in host.storage.read_file("[ds2] web/web.vmx")
    thin, thick = (site.folder / "ds2" / "web" / f"{name}-flat.vmdk" for name in ("thin", "thick"))
    assert thick.stat().st_blocks * 512 >= MB
    assert thin.stat().st_blocks <= thick.stat().st_blocks


@pytest.mark.parametrize("method", METHODS)
def test_zeros_take_no_space_and_little_is_copied_while_the_guest_stands_still(
    site: Site, host: Host, method: MethodName
) -> None:
    host.storage.create_disk("[local] web/web.vmdk", 16 * MB)
    vm = idle(host, WEB, DiskSettings("scsi0:0", "web.vmdk"))
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.write(5 * MB, b"x" * 70_144)
    StorageVmotion(host, vm, "ds2", method, SMALL)
    drive(vm, lambda: writer.some(most_sectors=8, sectors=1000))
    assert writer.agrees()
    assert (site.folder / "ds2" / "web" / "web-flat.vmdk").stat().st_blocks * 512 < MB
    (began,), (ended,) = site.log.of(StorageMoveBegan), site.log.of(StorageMoveEnded)
    assert (began.source, began.destination, began.method) == (WEB, "[ds2] web/web.vmx", method)
    assert (began.disks, began.disk_bytes, ended.ok, ended.why, ended.left) == (1, 16 * MB, True, "", "")
    rounds = site.log.of(StorageRoundCopied)
    assert [each.number for each in rounds] == [each.number for each in site.log.of(StorageRoundBegan)]
    assert [each.number for each in rounds] == list(range(1, ended.rounds + 1))
    assert [each.stopped for each in rounds] == [False] * (len(rounds) - 1) + [True]
    assert sum(each.copied_bytes for each in rounds) == ended.copied_bytes
    (switched,) = site.log.of(StorageSwitched)
    assert switched.stopped_bytes == rounds[-1].copied_bytes <= 256 << 10
    assert ended.duration_ns == 0


@pytest.mark.parametrize("step_bytes", [512, 39_936, 128 << 10])
def test_a_step_out_of_a_redo_log_is_no_longer_than_one_of_the_disk(
    site: Site, host: Host, monkeypatch: pytest.MonkeyPatch, step_bytes: int
) -> None:
    host.storage.create_disk("[local] web/web.vmdk", 2 * MB)
    vm = idle(host, WEB, DiskSettings("scsi0:0", "web.vmdk"))
    writer = Writer(vm.disks.devices()["scsi0:0"])
    StorageVmotion(host, vm, "ds2", "snapshot", CopyOptions(step_bytes=step_bytes, little_bytes=4096))
    writer.write(512, writer.lot.randbytes(700_416))
    writer.write(MB, writer.lot.randbytes(1536))
    sizes: list[int] = []
    while vm.merge is not None:
        before = len(site.log.of(StorageBytesCopied))
        vm.merge_step()
        copied = [event for event in site.log.of(StorageBytesCopied)[before:] if event.number == 2]
        sizes += [sum(event.size_bytes for event in copied)] * bool(copied)
    assert sum(sizes) == 701_952
    assert max(sizes) <= step_bytes
    assert len(sizes) == -(-701_952 // step_bytes)
    assert writer.agrees()


@pytest.mark.parametrize("method", METHODS)
def test_a_chain_without_snapshots_becomes_one_disk(site: Site, host: Host, method: MethodName) -> None:
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(20)
    vm.disks.snapshots.freeze()
    writer.some(20)
    assert vm.disks.snapshots.config == {"scsi0:0": "web-000001.vmdk"}
    StorageVmotion(host, vm, "ds2", method, SMALL)
    drive(vm, writer.some)
    assert on(host, "[ds2] web") - {"web.vmsd"} == FILES
    host.power_off(vm)
    assert content(host, "[ds2] web/web.vmdk") == bytes(writer.model)


def test_snapshots_suspension_and_another_move_work_where_it_is_now(site: Site, host: Host) -> None:
    vm = start(host, register(host, WEB), "mkfs", "put a first")
    taken = host.snapshots(vm).take("once")
    host.snapshots(vm).delete(taken.uid)
    move_now(host, vm, "ds2")
    second = host.snapshots(vm).take("here", memory=True)
    assert second.uid == taken.uid + 1  # the list has gone along
    type_line(host, vm, "put b second")
    host.snapshots(vm).revert(second.uid)
    assert type_line(host, vm, "ls").count("inode") == 1
    host.snapshots(vm).delete_all()
    state = host.suspend(vm)
    assert state.home == "[ds2] web/web.vmx"
    again = host.resume(state)
    move_now(host, again, "local", "snapshot")
    assert type_line(host, again, "cat a") == "first\n"
    host.power_off(again)
    assert disk_files(host, "[local] web/web.vmdk") == {"a": b"first\n"}


def test_what_the_configuration_says_at_the_end_goes_along(site: Site, host: Host) -> None:
    vm = idle(host, WEB)
    StorageVmotion(host, vm, "ds2", options=SMALL)
    vm.merge_step()
    config = host.storage.read_file(WEB)
    host.storage.write_file(WEB, config + b'annotation = "meanwhile"\n')
    drive(vm, lambda: None)
    assert host.storage.read_file("[ds2] web/web.vmx") == config + b'annotation = "meanwhile"\n'


@pytest.mark.parametrize("method", METHODS)
def test_a_machine_without_disks_moves_and_folders_above_it_are_made(
    site: Site, host: Host, method: MethodName
) -> None:
    register(host, "[local] prod/eu/web.vmx")
    config = host.storage.read_file("[local] prod/eu/web.vmx")
    host.storage.write_file("[local] prod/eu/web.vmx", config.replace(b'scsi0.present = "TRUE"', b""))
    vm = power_on_file(host, "[local] prod/eu/web.vmx")
    move_now(host, vm, "ds2", method)
    assert on(host, "[ds2] prod/eu") == FILES
    assert names(host, "[local] prod") == []
    host.power_off(vm)
