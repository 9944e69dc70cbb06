"""The host of a cold migration dies at any moment, or a datastore fails: one of the two folders is good and whole."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.migration.recorded_site import (
    SIZE,
    Disks,
    RecordedMachine,
    cuts,
    files_of,
    power_on,
    storage_of,
)
from tests.migration.storage_moves import SMALL, WEB, Site, Writer, content, idle, names
from tests.migration.test_storage_vmotion_failures import Failing
from tests.storage.power_cut import Step
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.mounted import MountedLocal, MountedNfs
from vilab.host.registered import power_on_file
from vilab.host.storage import HostStorage
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.migration.cold_migration import ColdMigration, cold_migrate_now
from vilab.migration.storage_copy import CopyOptions

OLD, NEW = "[ds1] web/web.vmx", "[ds2] web/web.vmx"
NVRAM, VMSS = b"settings of the BIOS" * 99, b"memory" * 9999


@pytest.fixture
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power of this computer is not cut: what was synced is known by the record alone."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


class Recorded(RecordedMachine):
    """A move of a machine with a snapshot, and every write to the two datastores."""

    def __init__(self, folder: Path, cancel_after: int | None = None) -> None:
        super().__init__(folder, nvram=NVRAM, vmss=VMSS)
        host, vm = self.host, self.vm
        for number in range(30):
            self.model.write()
            if number == 15:
                self.before = b"".join(self.model.now)
                host.snapshots(vm).take("once", memory=False)
        self.model.flush()
        host.power_off(vm)
        self.content = b"".join(self.model.now)
        self.whole = {name: host.storage.read_file(f"[ds1] web/{name}") for name in names(host, "[ds1] web")}
        self.record()
        move = ColdMigration(host, OLD, "ds2", CopyOptions(step_bytes=32 << 10))
        for number, _ in enumerate(move.steps()):
            if number == cancel_after:
                move.cancel()
                break
        self.state = move.state
        host.close()


def opened(storage: HostStorage, first: str, second: str) -> tuple[str, bytes, bytes]:
    """Which of the two can be powered on, its disk and its snapshot. The other one is refused, whichever is tried
    first."""
    found: list[tuple[str, bytes, bytes]] = []
    for where in (first, second):
        try:
            disks = VmDisks(VmHome(storage, where), storage.clock, storage.log)
        except AdminError:
            continue
        snapshots = disks.snapshots
        assert snapshots is not None
        now = disks.devices()["scsi0:0"].read(0, SIZE)
        (snapshot,) = snapshots.list.snapshots
        snapshots.revert(snapshot.uid)
        then = snapshots.chain("scsi0:0").read(0, SIZE)
        found.append((where, now, then))
        assert disks.close() == []
    assert len(found) == 1, (found, files_of(storage))
    return found[0]


def check_left(storage: HostStorage, where: str, recorded: Recorded) -> None:
    """Every file is as it was, nothing is left of the other folder, and nothing of the move."""
    good = where[1:4]
    left = [name for name in files_of(storage) if not name.startswith(f"{good}/.vilab-")]  # not renamed yet
    assert set(left) == {f"{good}/{name}" for name in recorded.whole}
    for name, data in recorded.whole.items():
        assert storage.read_file(f"[{good}] web/{name}") == data, name


@pytest.mark.usefixtures("_nobody_waits")
@pytest.mark.parametrize("cancel_after", [None, 5])
def test_one_whole_folder_after_a_power_cut_at_any_step(tmp_path: Path, cancel_after: int | None) -> None:
    recorded = Recorded(tmp_path, cancel_after)
    assert recorded.state == ("moved" if cancel_after is None else "failed")
    lot, seen = random.Random(7), {OLD: 0, NEW: 0}
    for number, files in enumerate(cuts(recorded, lot, 40)):
        storage = storage_of(recorded.disks.lay_out(files, tmp_path / "cut"))
        where, content = power_on(storage, *lot.sample([OLD, NEW], 2))
        assert content == recorded.content
        check_left(storage, where, recorded)
        if number % 5 == 0:
            assert opened(storage, *lot.sample([OLD, NEW], 2)) == (where, recorded.content, recorded.before)
        seen[where] += 1
    assert seen[OLD] > 10
    assert (seen[NEW] > 10) == (cancel_after is None)


@pytest.mark.usefixtures("_nobody_waits")
def test_a_second_power_cut_while_the_first_one_is_cleared_up_after(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    lot = random.Random(9)
    states = list(cuts(recorded, lot, 60))
    seen: set[str] = set()
    for files in [*lot.sample(states[: len(states) // 2], 3), *lot.sample(states[len(states) // 2 :], 5)]:
        at = recorded.disks.lay_out(files, tmp_path / "first")
        again: list[Step] = []
        platter = Disks(at)
        first = storage_of(at, again)
        for where in (OLD, NEW):
            try:
                assert VmDisks(VmHome(first, where), first.clock, first.log).close() == []
            except AdminError:
                continue
            good = where
        seen.add(good)
        chosen = lot.sample(range(len(again)), min(12, len(again)))
        for number, step in enumerate(again):
            platter.apply(step)
            if number in chosen:
                storage = storage_of(platter.lay_out(next(platter.outcomes(lot, 0)), tmp_path / "second"))
                assert VmDisks(VmHome(storage, good), storage.clock, storage.log).close() == []
                check_left(storage, good, recorded)
                assert opened(storage, OLD, NEW) == (good, recorded.content, recorded.before)
    assert seen == {OLD, NEW}


# --- datastores that fail ---------------------------------------------------------------------------------------------


@pytest.fixture
def failing(site: Site, host: Host) -> Failing:
    (site.folder / "bad").mkdir()
    datastore = Failing(site.folder / "bad", "bad")
    host.storage._mounted["bad"] = MountedLocal(datastore, host.storage.luns)
    return datastore


def prepared(host: Host) -> tuple[bytes, list[str]]:
    vm = idle(host, WEB)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(60)
    host.power_off(vm)
    return bytes(writer.model), names(host, "[local] web")


@pytest.mark.parametrize("room", [100, 700, 20_000, 1_000_000])
def test_a_full_destination_leaves_it_where_it_is(site: Site, host: Host, failing: Failing, room: int) -> None:
    model, before = prepared(host)
    failing.room = room
    with pytest.raises(AdminError, match=r"web was not moved to bad: .*bad is full"):
        cold_migrate_now(host, WEB, "bad", SMALL)
    assert (names(host, "[bad] web"), names(host, "[local] web")) == ([], before)
    assert content(host, "[local] web/web.vmdk") == model
    failing.room = 1 << 40
    assert cold_migrate_now(host, WEB, "bad", SMALL).left == ""
    assert content(host, "[bad] web/web.vmdk") == model


def test_a_destination_that_does_not_answer_is_cleared_up_when_it_does(
    site: Site, host: Host, failing: Failing
) -> None:
    model, _ = prepared(host)
    move = ColdMigration(host, WEB, "bad", SMALL)
    steps = move.steps()
    for _ in range(5):
        next(steps)
    failing.dead = True
    with pytest.raises(AdminError, match="web was not moved to bad: bad does not answer"):
        next(steps)
    with pytest.raises(AdminError, match=r"what an earlier attempt has left at \[bad\] web/web.vmx could not be remov"):
        ColdMigration(host, WEB, "ds2")
    failing.dead = False
    assert "web.vmx.moving" in names(host, "[bad] web")
    assert cold_migrate_now(host, WEB, "ds2", SMALL).state == "moved"
    assert (names(host, "[bad] web"), names(host, "[local] web")) == ([], [])
    assert content(host, "[ds2] web/web.vmdk") == model


def test_a_renaming_whose_answer_was_lost_is_looked_at_again(site: Site, host: Host, failing: Failing) -> None:
    model, _ = prepared(host)
    failing.name_refused, failing.done_all_the_same = "web.vmx", True
    assert cold_migrate_now(host, WEB, "bad", SMALL).state == "moved"
    assert names(host, "[local] web") == []
    assert content(host, "[bad] web/web.vmdk") == model


@pytest.mark.parametrize("arrived", [False, True])
def test_a_machine_of_which_it_is_not_known_where_it_is_is_found(
    site: Site, host: Host, failing: Failing, arrived: bool
) -> None:
    model, _ = prepared(host)
    move = ColdMigration(host, WEB, "bad", SMALL)
    failing.name_refused = "web.vmx"
    with pytest.raises(AdminError, match="Whether web has moved is not known: bad does not say so"):
        list(move.steps())
    assert move.state == "undecided"
    with pytest.raises(AdminError, match=r"being moved to \[bad\] web/web.vmx, and which of the two counts is written"):
        power_on_file(host, WEB)
    failing.dead, failing.name_refused = False, ""
    folder = site.folder / "bad" / "web"
    if arrived:  # as if the server had done it, and its answer was lost
        (folder / "web.vmx.moving").rename(folder / "web.vmx")
        with pytest.raises(AdminError, match=r"has been moved to \[bad\] web/web.vmx: power it on there"):
            power_on_file(host, WEB)
    vm = power_on_file(host, "[bad] web/web.vmx" if arrived else WEB)
    assert Writer(vm.disks.devices()["scsi0:0"]).model == model
    assert names(host, "[local] web" if arrived else "[bad] web") == []


@pytest.mark.parametrize("source", ["san1", "nfs1"])
def test_a_host_that_is_taken_for_dead_does_not_switch(tmp_path: Path, source: str) -> None:
    """esx1 stands still for a while, and goes on with the move when esx2 has the machine."""
    site = Site(tmp_path, san=True, nfs=True)
    one, two = site.host(), site.host()
    where, to = f"[{source}] web/web.vmx", "nfs1" if source == "san1" else "san1"
    vm = idle(one, where)
    writer = Writer(vm.disks.devices()["scsi0:0"])
    writer.some(50)
    one.power_off(vm)
    move = ColdMigration(one, where, to, SMALL)
    steps = move.steps()
    for _ in range(9):
        next(steps)
    mounted = one.storage.mounted(source)
    mounted._held[0].abandon() if isinstance(mounted, MountedNfs) else mounted._stop()  # type: ignore[attr-defined]
    again = _patiently(two, where)
    with pytest.raises(AdminError, match="web was not moved to"):
        list(steps)
    assert move.state == "failed"
    assert again.disks.devices()["scsi0:0"].read(0, len(writer.model)) == bytes(writer.model)
    two.power_off(again)
    two.run_for(40_000_000_000)
    two.power_off(_patiently(two, where))
    assert names(two, f"[{to}] web") == []
    site.close()


def _patiently(host: Host, where: str):  # type: ignore[no-untyped-def]
    for _ in range(20):
        try:
            return power_on_file(host, where)
        except AdminError as error:
            last = error
            host.wait(10_000_000_000)
    raise last
