"""A Storage VMotion that fails in the middle: full, silent and doubtful datastores, a machine that goes off."""

from __future__ import annotations

import pytest

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
)
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.mounted import MountedLocal
from vilab.host.registered import power_on_file
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx_disks import DiskSettings
from vilab.migration.storage_vmotion import MethodName, StorageVmotion, move_now
from vilab.migration.storage_vmotion_events import (
    StorageMoveEnded,
)
from vilab.storage.block import BlockError
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import DiskFile
from vilab.storage.still_held import StillHeld


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
    before = names(host, "[local] web")
    for power_on in (power_on_file, lambda host, where: VmDisks(VmHome(host.storage, where), host.clock, host.log)):
        with pytest.raises(
            AdminError, match=r"\[local\] web/web.vmx has been moved to \[ds2\] web/web.vmx: power it on"
        ):
            power_on(host, WEB)
    assert names(host, "[local] web") == before
    with monkeypatch.context() as patched:

        def may_be_open(self: LocalDatastore, path: str) -> None:
            raise StillHeld(f"{path} may be open on a host that may be dead.")

        patched.setattr(LocalDatastore, "remove", may_be_open)
        with pytest.raises(StillHeld):
            VmDisks(VmHome(host.storage, "[ds2] web/web.vmx"), host.clock, host.log)
    assert names(host, "[local] web") == before
    power_on_file(host, "[ds2] web/web.vmx")
    assert names(host, "[local] web") == []
    assert b"vilab.move" not in host.storage.read_file("[ds2] web/web.vmx")
