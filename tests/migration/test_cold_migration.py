"""Cold migration: the folder of a machine that is off, or suspended, moves between local, VMFS and NFS datastores."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.host.storage_helpers import register, start, type_line
from tests.migration.storage_moves import FILES, MB, SMALL, WEB, Site, Writer, content, idle, names, on, qemu_finds
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.registered import power_on_file
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, set_file
from vilab.migration.cold_migration import ColdMigration, cold_migrate_now
from vilab.migration.storage_vmotion import StorageVmotion
from vilab.migration.storage_vmotion_events import StorageMoveBegan, StorageMoveEnded, StorageSwitched
from vilab.storage.disks.redo_log import SnapshotDisk

OFF = FILES | {"web.vmsd.lock"}
NEW = "[ds2] web/web.vmx"


def written(host: Host, where: str = WEB, *disks: DiskSettings) -> bytes:
    """What a machine, which is off then, has left on its first disk."""
    vm = idle(host, where, *disks)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(60)
    host.power_off(vm)
    return bytes(writer.model)


# --- the way there and back -------------------------------------------------------------------------------------------


def test_a_machine_goes_round_by_vmfs_and_nfs(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    host = site.host()
    model, at = written(host), "local"
    config = host.storage.read_file(WEB)
    for number, to in enumerate(("san1", "ds2", "nfs1", "san1", "nfs1", "local")):
        move = cold_migrate_now(host, f"[{at}] web/web.vmx", to, SMALL)
        assert (move.state, move.why, move.left, move.where) == ("moved", "", "", f"[{to}] web/web.vmx")
        assert (names(host, f"[{at}] web"), on(host, f"[{to}] web")) == ([], OFF)
        assert host.storage.read_file(f"[{to}] web/web.vmx") == config
        assert content(host, f"[{to}] web/web.vmdk") == model
        if number in (0, 2, 5):
            qemu_finds(host, f"[{to}] web", "web.vmdk", model, tmp_path / f"judge{number}")
        at = to
    assert not any(host.storage.mounted(name).users for name in ("local", "ds2", "san1", "nfs1"))
    vm = power_on_file(host, WEB)
    assert Writer(vm.disks.devices()["scsi0:0"]).model == model
    site.close()


def test_progress_is_told_step_by_step(site: Site, host: Host) -> None:
    model = written(host)
    host.storage.write_file("[local] web/web.nvram", b"settings" * 99)
    move = ColdMigration(host, WEB, "ds2", SMALL)
    told = list(move.steps())
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
    assert {each.what for each in told} == {"web.vmdk", "web-flat.vmdk", "web.nvram"}
    assert told[0].percent < 10
    assert [each.percent for each in told[-2:]] == [100, 100]
    assert told[-1].done_bytes == told[-1].total_bytes > len(model)
    assert len(told) >= len(model) // SMALL.step_bytes
    assert not move.running
    (began,), (switched,), (ended,) = (
        site.log.of(each) for each in (StorageMoveBegan, StorageSwitched, StorageMoveEnded)
    )
    assert (began.source, began.destination, began.method) == (WEB, NEW, "cold")
    assert (switched.source, switched.destination) == (WEB, NEW)
    assert (ended.ok, ended.why, ended.left, ended.other_files_bytes) == (True, "", "", told[-1].copied_bytes)


# --- what goes along --------------------------------------------------------------------------------------------------


def test_snapshots_go_along_with_their_tree_and_their_memory(site: Site, host: Host) -> None:
    vm = start(host, register(host, WEB), "mkfs", "put a first")
    first = host.snapshots(vm).take("first")
    type_line(host, vm, "put b second")
    second = host.snapshots(vm).take("second", memory=False)
    type_line(host, vm, "put c third")
    host.snapshots(vm).revert(first.uid)
    type_line(host, vm, "put d other")
    host.snapshots(vm).take("other", memory=False)
    tree = host.snapshots(vm).list.describe()
    host.power_off(vm)
    before = {name: host.storage.read_file(f"[local] web/{name}") for name in names(host, "[local] web")}
    move = cold_migrate_now(host, WEB, "ds2")
    assert move.left == ""
    assert {name: host.storage.read_file(f"[ds2] web/{name}") for name in names(host, "[ds2] web")} == before
    assert len([name for name in before if "delta" in name]) == 3
    again = start(host, NEW)
    assert host.snapshots(again).list.describe() == tree
    assert type_line(host, again, "cat d") == "other\n"
    host.snapshots(again).revert(first.uid)
    assert type_line(host, again, "ls").count("inode") == 1
    host.snapshots(again).revert(second.uid)
    again = start(host, NEW)
    assert type_line(host, again, "cat b") == "second\n"
    host.snapshots(again).delete_all()
    assert type_line(host, again, "ls").count("inode") == 2


def test_a_suspended_machine_goes_on_where_it_has_moved_to(site: Site, host: Host) -> None:
    vm = start(host, register(host, WEB), "mkfs")
    vm.console.type("put a words")
    host.run_for(1_000_000)
    state = host.suspend(vm)
    host.storage.write_file("[local] web/web.vmss", b"memory" * 99_999)
    cold_migrate_now(host, WEB, "ds2")
    assert host.storage.read_file("[ds2] web/web.vmss") == b"memory" * 99_999
    again = host.resume(msgspec.structs.replace(state, home=NEW))
    host.run_for(3_000_000_000)
    assert type_line(host, again, "cat a") == "words\n"


def test_disks_stay_what_they_are_and_holes_stay_holes(site: Site, host: Host) -> None:
    kinds = {"thin": "vmfs", "thick": "vmfs", "sparse": "monolithicSparse", "pieces": "twoGbMaxExtentFlat"}
    for name, kind in kinds.items():
        host.storage.create_disk(f"[local] web/{name}.vmdk", 8 * MB, kind, "thick" if name == "thick" else "thin")
    settings = [
        DiskSettings(f"scsi0:{number}", f"{'[local] web/' if name == 'thick' else ''}{name}.vmdk", mode)
        for number, (name, mode) in enumerate(
            zip(kinds, ("persistent", "independent-persistent", "independent-nonpersistent", "persistent"), strict=True)
        )
    ]
    vm = idle(host, WEB, *settings)
    for number, disk in enumerate(vm.disks.devices().values()):
        disk.write(number << 20, b"x" * 5120)
    host.power_off(vm)
    before = {name: host.storage.read_file(f"[local] web/{name}") for name in names(host, "[local] web")}
    move = ColdMigration(host, WEB, "ds2")
    assert any("-REDO_" in name for name in names(host, "[local] web"))
    last = list(move.steps())[-1]
    assert last.copied_bytes < last.done_bytes
    config = before.pop("web.vmx").replace(b'"[local] web/thick.vmdk"', b'"thick.vmdk"')
    assert host.storage.read_file(NEW) == config
    assert set(names(host, "[ds2] web")) == before.keys() | {"web.vmx"}
    assert all(host.storage.read_file(f"[ds2] web/{name}") == data for name, data in before.items())
    blocks = {name: (site.folder / "ds2" / "web" / f"{name}-flat.vmdk").stat().st_blocks for name in ("thin", "thick")}
    assert blocks["thin"] * 512 <= 2 * MB
    assert blocks["thick"] * 512 >= 8 * MB


# --- nobody gets at it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["ds2", "san1", "nfs1"])
@pytest.mark.parametrize("source", ["local", "san1", "nfs1"])
def test_nobody_powers_it_on_meanwhile(tmp_path: Path, source: str, to: str) -> None:
    if source == to:
        to = "local"
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    where = f"[{source}] web/web.vmx"
    model = written(one, where)
    moves = ColdMigration(one, where, to, SMALL).steps()
    for step in range(1000):
        if next(moves, None) is None:
            break
        if step % 7 == 0:
            for host in (one, two):
                for path in (where, f"[{to}] web/web.vmx"):
                    with pytest.raises(AdminError):
                        power_on_file(host, path)
            with pytest.raises(AdminError, match="web was not moved to"):
                ColdMigration(two, where, to)
    assert step > 10
    with pytest.raises(AdminError):
        power_on_file(two, where)
    vm = power_on_file(two, f"[{to}] web/web.vmx")
    assert Writer(vm.disks.devices()["scsi0:0"]).model == model
    site.close()


# --- refused ----------------------------------------------------------------------------------------------------------


def test_what_does_not_move_is_refused_in_a_sentence(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True)
    host = site.host()
    written(host)

    def refused(sentence: str, to: str = "ds2", where: str = WEB) -> None:
        before = names(host, "[local] web")
        with pytest.raises(AdminError, match=sentence):
            ColdMigration(host, where, to)
        assert names(host, "[local] web") == before
        assert len(host.storage.mounted("local").users) == len(host.vms)

    def with_disk(file_name: str) -> None:
        config = parse(original, WEB)
        set_file(config, "scsi0:0", file_name)
        host.storage.write_file(WEB, write(config))

    original = host.storage.read_file(WEB)
    refused("web was not moved: esx1 has no datastore 'san9'", "san9")
    refused("web was not moved to local: it is there already", "local")
    refused("db was not moved to ds2: .*No such file", where="[local] db/db.vmx")
    refused("is no path in a datastore|cannot be read", where="web/web.vmx")
    refused("web was not moved to ds2: its folder, .*, is in no datastore", where=str(tmp_path / "local/web/web.vmx"))
    host.storage.write_file("[ds2] web/other.txt", b"mine")
    refused("web was not moved to ds2: its folder is there already, with other.txt in it")
    assert names(host, "[ds2] web") == ["other.txt"]
    (tmp_path / "ds2" / "web" / "other.txt").unlink()
    host.storage.write_file("[local] web/db.vmx", b"")
    refused("db.vmx in its folder is another machine's")
    (tmp_path / "local" / "web" / "db.vmx").unlink()
    host.storage.write_file("[local] web/logs/today", b"")
    refused("there is a folder logs in its folder, which does not go along")
    (tmp_path / "local" / "web" / "logs" / "today").unlink()
    (tmp_path / "local" / "web" / "logs").rmdir()
    host.storage.create_disk("[local] base/base.vmdk", MB)
    with_disk("[local] base/base.vmdk")
    refused(r"scsi0:0 \(\[local\] base/base.vmdk\) is not in the machine's folder")
    mounted, _, place = host.storage.place("[local] base/base.vmdk")
    with SnapshotDisk(place, mounted.files) as disk:
        disk.make_child(place.parent.parent / "web" / "child.vmdk")
    child = tmp_path / "local" / "web" / "child.vmdk"
    child.write_bytes(child.read_bytes().replace(b'Hint="base.vmdk"', b'Hint="../base/base.vmdk"'))
    with_disk("child.vmdk")
    refused("web was not moved to ds2: child.vmdk is based on .*base.vmdk, which is not in its folder")
    host.storage.write_file(WEB, original)
    (tmp_path / "local" / "web" / "web-flat.vmdk").rename(tmp_path / "flat")
    refused("web was not moved to ds2: ")
    (tmp_path / "flat").rename(tmp_path / "local" / "web" / "web-flat.vmdk")
    vm = power_on_file(host, WEB)
    refused("web was not moved to ds2: it is on, on esx1. Power it off, or move it while it runs")
    host.power_off(vm)
    assert cold_migrate_now(host, WEB, "ds2").left == ""
    site.close()


@pytest.mark.parametrize("number", [0, 5])
def test_it_is_cancelled_and_stays(site: Site, host: Host, number: int) -> None:
    model = written(host)
    move = ColdMigration(host, WEB, "ds2", SMALL)
    steps = move.steps()
    for _ in range(number):
        next(steps)
    move.cancel()
    move.cancel()
    assert (move.state, move.why) == ("failed", "web was not moved to ds2: somebody has cancelled that.")
    for more in (steps, move.steps()):
        with pytest.raises(AdminError, match="somebody has cancelled that"):
            next(more)
    assert (names(host, "[ds2] web"), on(host, "[local] web")) == ([], OFF)
    assert not host.storage.mounted("local").users
    assert content(host, "[local] web/web.vmdk") == model
    vm = power_on_file(host, WEB)
    StorageVmotion(host, vm, "ds2")
