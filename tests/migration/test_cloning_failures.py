"""Clones that cannot be made, or are given up: a sentence, the original as it was, and nothing left of the clone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.migration.storage_moves import (
    FILES,
    MB,
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
from tests.migration.test_storage_vmotion_failures import Failing
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.mounted import MountedLocal, MountedNfs
from vilab.host.registered import power_on_file
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration.cloning import Clone, clone_now
from vilab.migration.cloning_events import CloneEnded
from vilab.storage.block import BlockError
from vilab.storage.luns.fc_names import numbered
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.state import Identity

COPY = "[ds2] copy/copy.vmx"


@pytest.fixture
def failing(site: Site, host: Host) -> Failing:
    (site.folder / "bad").mkdir()
    datastore = Failing(site.folder / "bad", "bad")
    host.storage._mounted["bad"] = MountedLocal(datastore, host.storage.luns)
    return datastore


def written(host: Host, where: str = WEB, *disks: DiskSettings) -> tuple[HostedVm, Writer]:
    vm = idle(host, where, *disks)
    assert vm.disks is not None
    writer = Writer(vm.disks.devices()["scsi0:0"])
    for _ in range(3):
        writer.some(60)
    return vm, writer


# --- refused ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_cloned_is_refused_in_a_sentence(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True)
    host = site.host()
    vm, writer = written(host)
    host.storage.create_disk("[ds2] db/db.vmdk", MB)

    def refused(sentence: str, name: str = "copy", to: str = "ds2", source: HostedVm | str = vm, **more: str) -> None:
        before = names(host, "[local] web"), names(host, "[ds2] copy")
        with pytest.raises(AdminError, match=sentence):
            Clone(host, source, name, to, **more)  # type: ignore[arg-type]
        assert (names(host, "[local] web"), names(host, "[ds2] copy")) == before
        assert vm.merge is None

    refused("esx1 has no datastore 'san9'", to="san9")
    refused("there is a virtual machine web on esx1 already", name="web")
    refused("'  ' cannot be a machine's name", name="  ")
    refused("cannot be a machine's name: it has 1 to 80 characters", name="x" * 81)
    refused("cannot be a machine's name: its files' names would have 240 bytes", name="€" * 80)
    refused("a machine has a folder of its own", folder="/")
    refused("leads down from its root", folder="../up")
    refused("db was not cloned to .*cannot be opened", source="[local] db/db.vmx")
    host.storage.write_file("[ds2] copy/other.txt", b"mine")
    refused(r"web was not cloned to \[ds2\] copy/copy.vmx: its folder is there already, with other.txt in it")
    host.storage.write_file("[ds2] copy/copy.vmx", b"")
    refused(r"there is a machine already, \[ds2\] copy/copy.vmx")
    host.storage.write_file("[ds2] file", b"")
    refused("there is a file with the name of its folder", name="file")
    host.storage.write_file("[ds2] moving/moving.vmx.moving", b"")
    refused("the unfinished copy of a machine that is being moved", name="moving")
    assert names(host, "[ds2] moving") == ["moving.vmx.moving"]
    host.power_off(vm)
    refused("web was not cloned to .*: it has stopped; say from which configuration file")
    config = parse(host.storage.read_file(WEB), WEB)
    add_disk(config, DiskSettings("scsi0:1", "[ds2] db/db.vmdk"))
    host.storage.write_file(WEB, write(config))
    vm = power_on_file(host, WEB)
    refused(r"scsi0:1 \(\[ds2\] db/db.vmdk\) takes no redo log while the machine runs", source=vm)
    host.power_off(vm)
    clone_now(host, WEB, "beside", "ds2", folder="prod/eu", options=SMALL)
    assert {"beside.vmx", "beside.vmdk", "beside_1.vmdk"} <= set(names(host, "[ds2] prod/eu"))
    assert content(host, "[ds2] prod/eu/beside.vmdk") == bytes(writer.model)
    site.close()


def test_the_content_of_a_lun_behind_a_mapping_becomes_a_file(tmp_path: Path) -> None:
    site = Site(tmp_path, san=True)
    site.array.create_lun(1, PagedDisk(2 * MB), Identity("array-lun-1"))
    site.array.present(numbered(16), 1, 1)
    host = site.host()
    (lun,) = (name for name, each in host.storage.luns.items() if each.size_bytes == 2 * MB)
    host.storage.create_rdm("[san1] web/raw.vmdk", lun)
    vm, writer = written(host, "[san1] web/web.vmx", DiskSettings("scsi0:0", "raw.vmdk"))
    host.power_off(vm)
    clone_now(host, "[san1] web/web.vmx", "copy", "ds2", options=SMALL)
    assert content(host, "[ds2] copy/copy.vmdk") == bytes(writer.model)
    (tmp_path / "judge").mkdir()
    qemu_finds(host, "[ds2] copy", "copy.vmdk", bytes(writer.model), tmp_path / "judge" / "files")
    host.storage.create_rdm("[san1] raw/raw.vmdk", lun, physical=True)
    vm = idle(host, "[san1] raw/raw.vmx", DiskSettings("scsi0:0", "raw.vmdk"))
    for source in (vm, "[san1] raw/raw.vmx"):
        with pytest.raises(
            AdminError, match="is a raw device mapping in physical compatibility mode, whose LUN nobody"
        ):
            Clone(host, source, "copy2", "ds2")
        if source is vm:
            host.power_off(vm)
    assert names(host, "[ds2] copy2") == []
    site.close()


# --- given up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("room", [0, 100, 700, 20_000, 1_000_000])
def test_a_full_datastore_leaves_nothing_of_the_clone(
    site: Site, host: Host, failing: Failing, room: int, running: bool
) -> None:
    vm, writer = written(host)
    if not running:
        host.power_off(vm)
    before, failing.room = names(host, "[local] web"), room
    with pytest.raises(AdminError, match=r"^web was not cloned to \[bad\] copy/copy.vmx: .*bad is full.?$"):
        for _ in Clone(host, WEB, "copy", "bad", options=SMALL).steps():
            writer.some() if running else None
    assert set(names(host, "[local] web")) - {"web.vmsd"} == set(before)
    assert failing.names() == []
    assert [event.ok for event in site.log.of(CloneEnded)] == [False]
    failing.room = 1 << 40
    held = bytes(writer.model)
    assert clone_now(host, WEB, "copy", "bad", options=SMALL).state == "cloned"
    assert content(host, "[bad] copy/copy.vmdk") == held
    assert running is vm.runs
    assert not running or writer.agrees()


def test_an_original_without_room_for_redo_logs_goes_on_without_them(site: Site, host: Host, failing: Failing) -> None:
    vm, writer = written(host, "[bad] web/web.vmx")
    tries = 0
    for tries in range(40):
        failing.room = 800 * tries
        try:
            clone = Clone(host, vm, "copy", "ds2", options=SMALL)
            break
        except AdminError as error:
            assert "bad is full" in str(error)  # noqa: PT017
        finally:
            failing.room = 1 << 40
        assert host.storage.mounted("ds2").datastore.names() == []
        assert vm.merge is None
        writer.some()
        assert writer.agrees()
        host.power_off(vm)
        vm = power_on_file(host, "[bad] web/web.vmx")
        assert vm.disks is not None
        assert on(host, "[bad] web") - {"web.vmsd"} == FILES
        writer.device = vm.disks.devices()["scsi0:0"]
        assert writer.agrees()
    assert tries > 3
    held = bytes(writer.model)
    drive(vm, writer.some)
    assert clone.state == "cloned"
    assert content(host, "[ds2] copy/copy.vmdk") == held
    assert writer.agrees()


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("steps", [0, 5])
def test_it_is_cancelled_and_nothing_is_left(site: Site, host: Host, running: bool, steps: int) -> None:
    vm, writer = written(host)
    if not running:
        host.power_off(vm)
    clone = Clone(host, WEB, "copy", "ds2", options=SMALL)
    pieces = clone.steps()
    for _ in range(steps):
        next(pieces)
    clone.cancel()
    clone.cancel()
    assert (clone.state, clone.running) == ("failed", False)
    assert clone.why == "web was not cloned to [ds2] copy/copy.vmx: somebody has cancelled that."
    with pytest.raises(AdminError, match="cancelled"):
        list(clone.steps())
    assert host.storage.mounted("ds2").datastore.names() == []
    if running:
        assert vm.merge is None
        writer.some(5)
        assert writer.agrees()
        host.power_off(vm)
    assert on(host, "[local] web") - {"web.vmsd"} == FILES
    assert content(host, "[local] web/web.vmdk") == bytes(writer.model)


def test_an_original_that_goes_off_meanwhile_is_clean(site: Site, host: Host) -> None:
    """While it is copied, and while the redo logs are merged again."""
    vm, writer = written(host)
    clone = Clone(host, vm, "copy", "ds2", options=SMALL)
    for _ in range(5):
        vm.merge_step()
        writer.some()
    host.power_off(vm)
    assert clone.why == "web was not cloned to [ds2] copy/copy.vmx: the machine went off."
    assert names(host, "[ds2] copy") == []
    assert on(host, "[local] web") - {"web.vmsd"} == FILES
    assert content(host, "[local] web/web.vmdk") == bytes(writer.model)
    vm = power_on_file(host, WEB)
    assert vm.disks is not None
    writer.device = vm.disks.devices()["scsi0:0"]
    held = bytes(writer.model)
    clone = Clone(host, vm, "copy", "ds2", options=SMALL)
    while clone.state == "copying":
        writer.some(20)
        vm.merge_step()
    assert clone.running
    host.power_off(vm)
    assert (clone.state, clone.left, clone.running) == ("cloned", "", False)
    assert on(host, "[local] web") - {"web.vmsd"} == FILES
    assert content(host, "[local] web/web.vmdk") == bytes(writer.model)
    assert content(host, "[ds2] copy/copy.vmdk") == held


@pytest.mark.parametrize("running", [False, True])
def test_a_datastore_that_does_not_answer_is_cleared_up_when_it_does(
    site: Site, host: Host, failing: Failing, running: bool
) -> None:
    vm, writer = written(host)
    if not running:
        host.power_off(vm)
    clone = Clone(host, WEB, "copy", "bad", options=SMALL)
    pieces = clone.steps()
    for _ in range(4):
        next(pieces)
    failing.dead = True
    with pytest.raises(AdminError, match="bad does not answer"):
        list(pieces)
    with pytest.raises(AdminError, match=r"what an earlier attempt has left at \[bad\] copy/copy.vmx could not be rem"):
        Clone(host, WEB, "copy", "ds2")
    failing.dead = False
    assert "copy.vmx.moving" in names(host, "[bad] copy")
    if running:
        assert writer.agrees()
        host.power_off(vm)
    vm = power_on_file(host, WEB)  # who powers the original on clears up
    assert failing.names() == []
    assert on(host, "[local] web") - {"web.vmsd"} == FILES
    host.power_off(vm)
    assert content(host, "[local] web/web.vmdk") == bytes(writer.model)


@pytest.mark.parametrize("done", [False, True])
def test_a_renaming_without_an_answer_is_looked_at_again(site: Site, host: Host, failing: Failing, done: bool) -> None:
    vm, writer = written(host)
    held = bytes(writer.model)
    clone = Clone(host, vm, "copy", "bad", options=SMALL)
    failing.name_refused, failing.done_all_the_same = "copy.vmx", done
    drive(vm, writer.some)
    assert writer.agrees()
    assert clone.state == ("cloned" if done else "failed")
    assert names(host, "[local] web") == sorted(
        {*FILES, "web.vmsd", *(name for name in names(host, "[local] web") if name.endswith(".vswp"))}
    )
    if done:
        failing.name_refused = ""
        assert content(host, "[bad] copy/copy.vmdk") == held
        assert power_on_file(host, clone.where).runs
        assert b"vilab.clone" not in host.storage.read_file(clone.where)
    else:
        assert failing.names() == []


def test_a_mark_that_could_not_be_taken_off_is_at_power_on(
    site: Site, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, writer = written(host)
    with monkeypatch.context() as patched:

        def tired(_home: VmHome) -> None:
            raise AdminError("The disk is tired.")

        patched.setattr("vilab.migration.clone_folder.unmark_clone", tired)
        clone = clone_now(host, WEB, "copy", "ds2")
    assert clone.state == "cloned"
    assert b"vilab.clone.of" in host.storage.read_file(COPY)
    copy = power_on_file(host, COPY)
    assert b"vilab" not in host.storage.read_file(COPY).replace(b"vilab.image", b"").replace(b"vilab.append", b"")
    assert copy.disks is not None
    assert Writer(copy.disks.devices()["scsi0:0"]).model == writer.model


# --- half a clone, and who is at it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["ds2", "san1", "nfs1"])
def test_half_a_clone_of_a_dead_host_is_removed_by_who_makes_another(tmp_path: Path, to: str) -> None:
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    vm, _ = written(one)
    other, writer = written(two, "[nfs1] db/db.vmx")
    clone = Clone(one, vm, "copy", to, options=SMALL)
    pieces = clone.steps()
    for _ in range(4):
        next(pieces)
    with pytest.raises(AdminError, match=r"db was not cloned to .*: .*(esx1|in use|locked)"):
        Clone(two, other, "copy", to)
    assert clone.state == "copying"
    one.cut_power()
    site.hosts.remove(one)
    assert "copy.vmx.moving" in names(two, f"[{to}] copy")
    held = bytes(writer.model)
    again = _patiently(two, lambda: Clone(two, other, "copy", to, options=SMALL))
    list(again.steps())
    assert again.state == "cloned"
    assert content(two, again.where.replace(".vmx", ".vmdk")) == held
    assert not {name for name in on(two, f"[{to}] copy") if "moving" in name or "withdrawn" in name}
    vm = _patiently(two, lambda: power_on_file(two, WEB))  # the first one's original: it leaves the other clone alone
    assert content(two, again.where.replace(".vmx", ".vmdk")) == held
    assert on(two, "[local] web") - {"web.vmsd"} == FILES
    site.close()


@pytest.mark.parametrize("source", ["san1", "nfs1"])
@pytest.mark.parametrize("running", [False, True])
def test_a_host_that_is_taken_for_dead_finishes_no_clone(tmp_path: Path, source: str, running: bool) -> None:
    """esx1 stands still for a while, and goes on with the clone when esx2 has the original."""
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    where, to = f"[{source}] web/web.vmx", "nfs1" if source == "san1" else "san1"
    vm, writer = written(one, where)
    writer.device.flush()
    if not running:
        one.power_off(vm)
    clone = Clone(one, where, "copy", to, options=SMALL)
    pieces = clone.steps()
    for _ in range(4):
        next(pieces)
    mounted = one.storage.mounted(source)
    mounted._held[0].abandon() if isinstance(mounted, MountedNfs) else mounted._stop()  # type: ignore[attr-defined]
    disks = _patiently(two, lambda: VmDisks(VmHome(two.storage, where), two.storage.clock, two.log))
    with pytest.raises(AdminError, match=r"web was not cloned to .*copy/copy.vmx"):
        list(pieces)
    if running:
        with pytest.raises(BlockError):
            writer.write(0, bytes(512))
        one.run_for(1_000_000_000)
        assert not vm.runs
    assert disks.devices()["scsi0:0"].read(0, len(writer.model)) == bytes(writer.model)
    assert disks.close() == []
    two.run_for(40_000_000_000)
    _patiently(two, lambda: VmDisks(VmHome(two.storage, where), two.storage.clock, two.log)).close()
    assert names(two, f"[{to}] copy") == []
    assert on(two, f"[{source}] web") - {"web.vmsd"} == FILES | ({"web.vmsd.lock"} if not running else set())
    site.close()


def _patiently(host: Host, do: Callable[[], object]):  # type: ignore[no-untyped-def]
    for _ in range(20):
        try:
            return do()
        except AdminError as error:
            last = error
            host.wait(10_000_000_000)
    raise last
