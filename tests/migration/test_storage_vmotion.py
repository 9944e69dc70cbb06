"""Storage VMotion: a running machine's folder moves between local, VMFS and NFS datastores while its guest writes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.storage_helpers import PROMPT, SECOND, disk_files, files_on, register, run_until, start, type_line
from tests.migration.storage_moves import MB, Site, Writer, content, drive, idle, names, qemu_finds
from tests.storage.nfs_server import MOUNT_PORT, NFS_PORT, ganesha
from tests.vmm.disk_guest import filling
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.mounted import MountedLocal
from vilab.host.registered import power_on_file
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx_disks import DiskSettings
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName, StorageVmotion, move_now
from vilab.migration.storage_vmotion_events import (
    StorageMoveBegan,
    StorageMoveEnded,
    StorageRoundBegan,
    StorageRoundCopied,
    StorageSwitched,
)
from vilab.storage.block import BlockError
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.vmdk import read_descriptor

WEB = "[local] web/web.vmx"
METHODS: tuple[MethodName, ...] = ("changed blocks", "snapshot")
SMALL = CopyOptions(step_bytes=128 << 10, little_bytes=64 << 10)
FILES = {"web-flat.vmdk", "web.vmdk", "web.vmsd.lock", "web.vmx", "web.vmx.lck"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for host in made.hosts:
        host.memory.check()
    made.close()


@pytest.fixture
def host(site: Site) -> Host:
    return site.host()


def on(host: Host, folder: str) -> set[str]:
    return {name for name in names(host, folder) if not name.startswith(".lck-") and not name.endswith(".vswp")}


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
    move_now(host, vm, "ds2")
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


# --- refused ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_moved_is_refused_in_a_sentence(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    host = site.host()
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])

    def refused(sentence: str, to: str = "ds2", method: MethodName = "changed blocks") -> None:
        before = names(host, "[local] web")
        with pytest.raises(AdminError, match=sentence):
            StorageVmotion(host, vm, to, method)
        assert names(host, "[local] web") == before
        assert vm.merge is None
        assert vm.runs
        writer.some()
        assert writer.agrees()

    refused("web was not moved: esx1 has no datastore 'san9'", "san9")
    refused("web was not moved to local: it is there already", "local")
    host.storage.add_local("same", tmp_path / "local")
    refused("web was not moved to same: it is there already", "same")
    refused("'vmotion' is no method", method="vmotion")  # type: ignore[arg-type]
    host.storage.write_file("[ds2] web/other.txt", b"mine")
    refused("web was not moved to ds2: its folder is there already, with other.txt in it")
    assert names(host, "[ds2] web") == ["other.txt"]
    (tmp_path / "ds2" / "web" / "other.txt").unlink()
    host.storage.write_file("[local] web/db.vmx", b"")
    refused("db.vmx in its folder is another machine's")
    (tmp_path / "local" / "web" / "db.vmx").unlink()
    taken = host.snapshots(vm).take("one", memory=False)
    refused("web was not moved to ds2: it has snapshots, which Storage VMotion does not move; delete them first")
    writer.some(50)
    host.snapshots(vm).begin_delete(taken.uid)
    assert vm.merge is not None
    with pytest.raises(AdminError, match="its snapshots are being merged"):
        StorageVmotion(host, vm, "ds2")
    drive(vm, lambda: None)
    assert site.server is not None
    site.server.stop()
    host.run_for(40_000_000_000)
    refused("web was not moved to nfs1: that datastore is inactive now", "nfs1")
    move = StorageVmotion(host, vm, "san1")
    for again in (lambda: StorageVmotion(host, vm, "ds2"), lambda: host.snapshots(vm).begin_delete(None)):
        with pytest.raises(AdminError, match="being merged"):
            again()
    for change in (lambda: host.snapshots(vm).take("no", memory=False), lambda: host.snapshots(vm).delete_all()):
        with pytest.raises(AdminError, match="web is being moved to san1; wait until that has been done"):
            change()
    with pytest.raises(AdminError, match="san1 was not removed: it has open files of web"):
        host.storage.remove("san1")
    drive(vm, lambda: None)
    assert move.state == "moved"
    host.power_off(vm)
    with pytest.raises(AdminError, match="it is off, or was not powered on from a file"):
        StorageVmotion(host, vm, "ds2")
    site.server.restart()
    site.close()


def test_a_machine_in_the_root_of_a_datastore_does_not_take_everything_along(site: Site, host: Host) -> None:
    host.storage.write_file("[local] other.iso", b"of somebody else")
    vm = idle(host, "[local] web.vmx")
    with pytest.raises(AdminError, match="it lies in the root of local, and not in a folder of its own"):
        StorageVmotion(host, vm, "ds2")


def test_what_the_configuration_says_at_the_end_goes_along(site: Site, host: Host) -> None:
    vm = idle(host, WEB)
    StorageVmotion(host, vm, "ds2", options=SMALL)
    vm.merge_step()
    config = host.storage.read_file(WEB)
    host.storage.write_file(WEB, config + b'annotation = "meanwhile"\n')
    drive(vm, lambda: None)
    assert host.storage.read_file("[ds2] web/web.vmx") == config + b'annotation = "meanwhile"\n'


def test_disks_that_do_not_move_are_named(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True)
    host = site.host()
    storage = host.storage
    storage.create_disk("[ds2] data/data.vmdk", MB)
    storage.create_disk("[local] web/tmp.vmdk", MB)
    storage.create_disk("[local] web/log.vmdk", MB)
    host.storage.attach_image(_image(tmp_path / "lun.img"))
    host.storage.rescan()
    lun = next(name for name, each in host.storage.luns.items() if each.size_bytes == 2 * MB)
    for name, physical in (("virtual", False), ("physical", True)):
        storage.create_rdm(f"[local] web/{name}.vmdk", lun, physical)
    cases = {
        "tmp.vmdk": ("independent-nonpersistent", r"scsi0:0 \(tmp.vmdk\) is independent-nonpersistent"),
        "[ds2] data/data.vmdk": ("persistent", "data.vmdk. is not in the machine's folder"),
        "physical.vmdk": ("persistent", "raw device mapping in physical compatibility mode"),
        "virtual.vmdk": ("persistent", "is a raw device mapping; map the LUN at the destination"),
    }
    for file_name, (mode, sentence) in cases.items():
        vm = idle(host, WEB, DiskSettings("scsi0:0", file_name, mode))  # type: ignore[arg-type]
        with pytest.raises(AdminError, match=sentence):
            StorageVmotion(host, vm, "san1")
        assert names(host, "[san1] web") == []
        host.power_off(vm)
    vm = idle(host, WEB, DiskSettings("scsi0:0", "log.vmdk", "independent-persistent"))
    with pytest.raises(AdminError, match="is independent, and takes no redo log; move it by changed blocks"):
        StorageVmotion(host, vm, "san1", "snapshot")
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(20)
    StorageVmotion(host, vm, "san1", options=SMALL)
    drive(vm, writer.some)
    assert vm.disks.home.where == "[san1] web/web.vmx"
    assert writer.agrees()
    assert {"tmp.vmdk", "physical.vmdk"} < on(host, "[san1] web")  # files of the folder, though nobody's disks
    site.close()


def _image(path: Path) -> Path:
    path.write_bytes(bytes(2 * MB))
    return path


# --- failures ---------------------------------------------------------------------------------------------------------


class Failing(LocalDatastore):
    """Refuses after so many bytes, or a renaming to a certain name: before it is done, or though it was."""

    room = 1 << 40
    name_refused = ""
    done_all_the_same = False
    dead = False

    def open(self, path: str, writable: bool = False) -> DiskFile:
        self._alive()
        return self._watched(super().open(path, writable))

    def create(self, path: str) -> DiskFile:
        self._alive()
        return self._watched(super().create(path))

    def exists(self, path: str) -> bool:
        self._alive()
        return super().exists(path)

    def _alive(self) -> None:
        if self.dead:
            raise BlockError("away", f"{self.name} does not answer.")

    def _watched(self, file: DiskFile) -> DiskFile:
        write = file.write

        def limited(offset: int, data: bytes) -> None:
            self._alive()
            self.room -= len(data)
            if self.room < 0:
                raise BlockError("no_space", f"{self.name} is full.")
            write(offset, data)

        file.write = limited  # type: ignore[method-assign,assignment]
        return file

    def rename(self, path: str, to: str) -> None:
        self._alive()
        if to.endswith(self.name_refused) and self.name_refused:
            if self.done_all_the_same:
                super().rename(path, to)
            self.dead = self.name_refused == "web.vmx" and not self.done_all_the_same
            raise BlockError("medium", f"{to} has no answer.")
        super().rename(path, to)


@pytest.fixture
def failing(site: Site, host: Host) -> Failing:
    (site.folder / "bad").mkdir()
    datastore = Failing(site.folder / "bad", "bad")
    host.storage._mounted["bad"] = MountedLocal(datastore, host.storage.luns)
    return datastore


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("room", [100, 20_000, 300_000, 1_500_000])
def test_a_destination_that_is_full_leaves_the_machine_where_it_is(
    site: Site, host: Host, failing: Failing, method: MethodName, room: int
) -> None:
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    for _ in range(3):
        writer.some(100)
    before, failing.room = names(host, "[local] web"), room
    try:
        StorageVmotion(host, vm, "bad", method, SMALL)
        drive(vm, writer.some)
        why = vm.merge_problem
    except AdminError as error:
        why = str(error)
    assert why.startswith("web was not moved to bad and runs on where it is: ")
    assert "bad is full" in why
    assert vm.runs
    assert set(names(host, "[local] web")) - {"web.vmsd"} == set(before)
    assert names(host, "[bad] web") == []
    assert [event.ok for event in site.log.of(StorageMoveEnded)] == [False]
    assert writer.agrees()
    failing.room = 1 << 40
    StorageVmotion(host, vm, "bad", method, SMALL)
    drive(vm, writer.some)
    assert vm.disks.home.where == "[bad] web/web.vmx"
    assert writer.agrees()


def test_a_source_without_room_for_redo_logs_goes_on_without_them(site: Site, host: Host, failing: Failing) -> None:
    where = "[bad] web/web.vmx"
    host.storage.create_disk("[bad] web/data.vmdk", MB)
    host.storage.create_disk("[bad] web/web.vmdk", MB)
    vm = idle(host, where, DiskSettings("scsi0:0", "web.vmdk"), DiskSettings("scsi0:1", "data.vmdk"))
    writers = [Writer(disk, seed) for seed, disk in enumerate(vm.disks.devices().values())]
    for tries in range(40):
        failing.room = 800 * tries
        try:
            StorageVmotion(host, vm, "ds2", "snapshot", SMALL)
            break
        except AdminError as error:
            assert "bad is full" in str(error)  # noqa: PT017
        finally:
            failing.room = 1 << 40
        assert names(host, "[ds2] web") == []
        assert vm.merge is None
        for writer in writers:
            writer.some()
            assert writer.agrees()
        host.power_off(vm)
        vm = power_on_file(host, where)
        assert on(host, "[bad] web") - {"web.vmsd"} == FILES | {"data.vmdk", "data-flat.vmdk"}
        for writer in writers:
            writer.device = vm.disks.devices()[f"scsi0:{writers.index(writer)}"]
            assert writer.agrees()
    assert tries > 6
    drive(vm, lambda: [writer.some() for writer in writers] and None)
    assert vm.disks.home.where == "[ds2] web/web.vmx"
    assert all(writer.agrees() for writer in writers)


@pytest.mark.parametrize("method", METHODS)
def test_a_destination_that_does_not_answer_is_cleared_up_when_it_does(
    site: Site, host: Host, failing: Failing, method: MethodName
) -> None:
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(50)
    StorageVmotion(host, vm, "bad", method, SMALL)
    vm.merge_step()
    failing.dead = True
    drive(vm, writer.some)
    assert "bad does not answer" in vm.merge_problem
    assert writer.agrees()
    with pytest.raises(AdminError, match=r"what an earlier attempt has left at \[bad\] web/web.vmx could not be remov"):
        StorageVmotion(host, vm, "ds2", method)
    failing.dead = False
    assert "web.vmx.moving" in names(host, "[bad] web")
    host.power_off(vm)
    again = power_on_file(host, WEB)
    assert names(host, "[bad] web") == []
    assert on(host, "[local] web") - {"web.vmsd"} == FILES
    move_now(host, again, "ds2", method)
    host.power_off(again)
    assert content(host, "[ds2] web/web.vmdk") == bytes(writer.model)


def test_a_renaming_whose_answer_was_lost_is_looked_at_again(site: Site, host: Host, failing: Failing) -> None:
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(20)
    failing.name_refused, failing.done_all_the_same = "web.vmx", True
    move = StorageVmotion(host, vm, "bad", options=SMALL)
    drive(vm, writer.some)
    assert (move.state, vm.runs) == ("moved", True)
    assert writer.agrees()
    assert names(host, "[local] web") == []


@pytest.mark.parametrize("arrived", [False, True])
def test_a_machine_of_which_it_is_not_known_where_it_is_stops_and_is_found(
    site: Site, host: Host, failing: Failing, arrived: bool
) -> None:
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(20)
    writer.device.flush()
    move = StorageVmotion(host, vm, "bad", options=SMALL)
    failing.name_refused = "web.vmx"
    while vm.merge is not None:
        vm.merge_step()
    assert (move.state, vm.runs) == ("undecided", False)
    assert "web was stopped: bad does not say whether it has moved there" in vm.stopped
    host.power_off(vm)
    with pytest.raises(AdminError, match=r"being moved to \[bad\] web/web.vmx, and which of the two counts is written"):
        power_on_file(host, WEB)
    failing.dead, failing.name_refused = False, ""
    folder = site.folder / "bad" / "web"
    if arrived:  # as if the server had done it, and its answer was lost
        (folder / "web.vmx.moving").rename(folder / "web.vmx")
        with pytest.raises(AdminError, match=r"has been moved to \[bad\] web/web.vmx: power it on there"):
            power_on_file(host, WEB)
    where = "[bad] web/web.vmx" if arrived else WEB
    again = power_on_file(host, where)
    assert Writer(again.disks.devices()["scsi0:0"]).model == writer.model
    assert names(host, "[local] web" if arrived else "[bad] web") == []
    assert on(host, where.rpartition("/")[0]) == FILES


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [0, 5, 12])
def test_a_machine_that_goes_off_meanwhile_stays_where_it_is(
    site: Site, host: Host, method: MethodName, steps: int
) -> None:
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(50)
    StorageVmotion(host, vm, "ds2", method, SMALL)
    for _ in range(steps):
        vm.merge_step()
        writer.some()
    host.power_off(vm)
    (ended,) = site.log.of(StorageMoveEnded)
    assert (ended.ok, ended.why) == (False, "web was not moved to ds2: the machine went off.")
    assert names(host, "[ds2] web") == []
    assert on(host, "[local] web") - {"web.vmsd"} == FILES
    assert content(host, "[local] web/web.vmdk") == bytes(writer.model)


def test_what_cannot_be_removed_from_the_source_is_when_it_is_powered_on_again(
    site: Site, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = idle(host, WEB)
    with monkeypatch.context() as patched:
        remove = LocalDatastore.remove

        def refuses(self: LocalDatastore, path: str) -> None:
            if self.name == "local" and path.endswith("web-flat.vmdk"):
                raise AdminError("The disk is tired.")
            remove(self, path)

        patched.setattr(LocalDatastore, "remove", refuses)
        move = move_now(host, vm, "ds2")
    assert "not all of [local] web/web.vmx could be removed (The disk is tired.)" in move.left
    assert {"web-flat.vmdk", "web.vmx.switching"} <= set(names(host, "[local] web"))
    with pytest.raises(AdminError, match=r"what is left of it in \[local\] web/web.vmx has to be removed first"):
        StorageVmotion(host, vm, "local")
    host.power_off(vm)
    power_on_file(host, "[ds2] web/web.vmx")
    assert names(host, "[local] web") == []
    assert b"vilab.move" not in host.storage.read_file("[ds2] web/web.vmx")


# --- two hosts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("to", ["san1", "nfs1"])
def test_a_host_without_power_in_the_middle_is_followed_by_another_one(
    tmp_path: Path, method: MethodName, to: str
) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    source = "nfs1" if to == "san1" else "san1"
    where = f"[{source}] web/web.vmx"
    vm = idle(one, where)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(50)
    writer.device.flush()
    held = bytes(writer.model)
    StorageVmotion(one, vm, to, method, SMALL)
    for _ in range(6):
        vm.merge_step()
    assert "web.vmx.moving" in names(two, f"[{to}] web")
    one.cut_power()
    site.hosts.remove(one)
    disks = _open_patiently(two, where)
    assert disks.devices()["scsi0:0"].read(0, len(held)) == held
    two.run_for(30_000_000_000)
    assert names(two, f"[{to}] web") == []
    assert on(two, f"[{source}] web") - {"web.vmsd"} == FILES
    assert disks.close() == []
    site.close()


class PowerCut(BaseException):
    """Nobody catches it: the host does nothing more."""


class Counted:
    """What is done to the names and files of two datastores; the power goes before one of it."""

    def __init__(self, host: Host, *datastores: str) -> None:
        self.done, self.cut_before = 0, -1
        for name in datastores:
            files = host.storage.mounted(name).files.files
            for what in ("open", "create", "rename", "remove"):
                setattr(files, what, self._counted(getattr(files, what)))

    def _counted(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            if self.done == self.cut_before:
                raise PowerCut
            self.done += 1
            return do(*arguments)

        return counted


def _move_counted(
    folder: Path, source: str, to: str, method: MethodName, cut_before: int
) -> tuple[Site, Writer, int, int]:
    """The move until the power goes; how much was done when it began, and at the end."""
    folder.mkdir()
    site = Site(folder, san=True, nfs=True)
    host = site.host()
    site.host()
    vm = idle(host, f"[{source}] web/web.vmx")
    writer = Writer(vm.disks.devices()["scsi0:0"], 4)
    writer.some(30)
    counted = Counted(host, source, to)
    began, counted.cut_before = counted.done, cut_before
    try:
        StorageVmotion(host, vm, to, method, SMALL)
        while vm.merge is not None:
            writer.some()
            writer.device.flush()
            vm.merge_step()
    except PowerCut:
        pass
    else:
        assert (cut_before, vm.disks.home.where) == (-1, f"[{to}] web/web.vmx")
    host.cut_power()
    site.hosts.remove(host)
    return site, writer, began, counted.done


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("source", "to"), [("san1", "nfs1"), ("nfs1", "san1")])
def test_power_cuts_between_vmfs_and_nfs_leave_one_machine(
    tmp_path: Path, source: str, to: str, method: MethodName
) -> None:
    _, _, began, end = _move_counted(tmp_path / "all", source, to, method, -1)
    lot, found = random.Random(3), dict.fromkeys((source, to), 0)
    for number in (*lot.sample(range(began, end - 20), 3), *lot.sample(range(end - 20, end), 4)):
        site, writer, _, done = _move_counted(tmp_path / str(number), source, to, method, number)
        (other,) = site.hosts
        assert done == number
        where = source if "web.vmx" in names(other, f"[{source}] web") else to
        try:
            disks = _open_patiently(other, f"[{where}] web/web.vmx")
        except AdminError as error:
            assert "has been moved to" in str(error), number  # noqa: PT017
            where = to
            disks = _open_patiently(other, f"[{to}] web/web.vmx")
        assert disks.devices()["scsi0:0"].read(0, len(writer.model)) == bytes(writer.model), number
        assert disks.close() == []
        other.run_for(60_000_000_000)
        _open_patiently(other, f"[{where}] web/web.vmx").close()  # what a dead host has locked is free by now
        assert names(other, f"[{to if where == source else source}] web") == [], number
        found[where] += 1
        site.close()
    assert min(found.values()) > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_host_whose_machine_was_taken_over_in_the_middle_does_not_switch(tmp_path: Path, method: MethodName) -> None:
    """esx1 stands still for a while, and goes on with the move when esx2 has the machine."""
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    vm = idle(one, "[nfs1] web/web.vmx")
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(50)
    writer.device.flush()
    held = bytes(writer.model)
    move = StorageVmotion(one, vm, "san1", method, SMALL)
    for _ in range(4):
        vm.merge_step()
    one.storage.mounted("nfs1")._held[0].abandon()  # type: ignore[attr-defined]
    disks = _open_patiently(two, "[nfs1] web/web.vmx")
    while vm.merge is not None:
        vm.merge_step()
    one.run_for(SECOND)
    assert move.state == "failed"
    assert not vm.runs
    assert disks.devices()["scsi0:0"].read(0, len(held)) == held
    assert disks.close() == []
    two.run_for(40 * SECOND)
    _open_patiently(two, "[nfs1] web/web.vmx").close()
    assert names(two, "[san1] web") == []
    assert on(two, "[nfs1] web") - {"web.vmsd"} == FILES
    site.close()


def _open_patiently(host: Host, where: str) -> VmDisks:
    for _ in range(20):
        try:
            return VmDisks(VmHome(host.storage, where), host.storage.clock, host.log)
        except AdminError as error:
            last = error
            if "has been moved" in str(error):
                break
            host.wait(10_000_000_000)
    raise last
