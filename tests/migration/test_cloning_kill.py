"""The host that makes a clone dies at any moment: the original is good, and the clone is whole, or none."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.migration.recorded_site import SIZE, Disks, RecordedMachine, cuts, storage_of
from tests.storage.power_cut import Step
from vilab.host.storage import HostStorage
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.migration.cloning import Clone
from vilab.migration.storage_copy import CopyOptions

WEB, COPY = "[ds1] web/web.vmx", "[ds2] copy/copy.vmx"
NVRAM = b"settings of the BIOS" * 99


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power of this computer is not cut: what was synced is known by the record alone."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


class Recorded(RecordedMachine):
    """A clone that is made, and every write to the two datastores: ``steps``, from ``start``."""

    def __init__(self, folder: Path, running: bool, kind: str = "vmfs", end_after: int | None = None) -> None:
        super().__init__(folder, kind, nvram=NVRAM)
        host, vm = self.host, self.vm
        (self.folder / "ds1" / "web" / vm.client.swap.path.name).unlink()  # of no importance, and large
        for _ in range(20):
            self.model.write()
        self.flush()
        self.held = b"".join(self.model.now)
        if not running:
            host.power_off(vm)
        self.record()
        self.disks.marked = 0
        clone = Clone(host, vm if running else WEB, "copy", "ds2", options=CopyOptions(step_bytes=32 << 10))
        for number, _ in enumerate(clone.steps()):
            if number == end_after:
                host.power_off(vm) if running else clone.cancel()
                break
            if running:
                self.model.write()
                if number % 3 == 2:
                    self.flush()
        self.state = clone.state
        if running and end_after is None:
            self.model.write()
            self.flush()
            host.power_off(vm)
        host.close()


def disk_of(storage: HostStorage, where: str) -> bytes:
    """Of a machine, opened as at a power-on."""
    disks = VmDisks(VmHome(storage, where), storage.clock, storage.log)
    content = disks.devices()["scsi0:0"].read(0, SIZE)
    assert disks.close() == []
    return content


def files(storage: HostStorage, datastore: str, folder: str) -> set[str]:
    found = storage.mounted(datastore).datastore
    names = found.names(folder) if found.exists(folder) else []
    return {name for name in names if not name.startswith(".vilab-")}


def check(storage: HostStorage, recorded: Recorded, lot: random.Random) -> bool:
    """Whether the clone is there, and that it is whole, in either order of being powered on; the original is good."""
    there = "copy.vmx" in files(storage, "ds2", "copy")
    for original in lot.sample([True, False], 2):
        if original:
            assert recorded.model.fits(disk_of(storage, WEB), recorded.disks.marked)
        elif there:
            assert disk_of(storage, COPY) == recorded.held
    original_files = {"web.vmx", "web.vmx.lck", "web.vmdk", "web.nvram", "web.vmsd.lock"}
    assert files(storage, "ds1", "web") - {"web-flat.vmdk", "web.vmsd"} == original_files
    assert files(storage, "ds2", "copy") - {"copy-flat.vmdk"} == (
        {"copy.vmx", "copy.vmx.lck", "copy.vmdk", "copy.nvram", "copy.vmsd.lock"} if there else set()
    )
    assert storage.mounted("ds2").datastore.exists("copy") == there
    for where in (WEB, COPY)[: 1 + there]:
        assert b"vilab.move" not in storage.read_file(where)
        assert b"vilab.clone" not in storage.read_file(where)
    if there:
        assert storage.read_file("[ds2] copy/copy.nvram") == NVRAM
    return there


@pytest.mark.parametrize(("running", "kind"), [(False, "vmfs"), (True, "vmfs"), (True, "monolithicSparse")])
def test_a_whole_clone_or_none_after_a_power_cut_at_any_step(tmp_path: Path, running: bool, kind: str) -> None:
    recorded = Recorded(tmp_path, running, kind)
    assert recorded.state == "cloned"
    lot, seen = random.Random(7), {True: 0, False: 0}
    for state in cuts(recorded, lot, 40, "copy.vmx", 12):
        seen[check(storage_of(recorded.disks.lay_out(state, tmp_path / "cut")), recorded, lot)] += 1
    assert min(seen.values()) > 10


@pytest.mark.parametrize("running", [False, True])
def test_the_original_is_good_after_a_power_cut_while_a_clone_is_given_up(tmp_path: Path, running: bool) -> None:
    recorded = Recorded(tmp_path, running, end_after=5)
    assert recorded.state == "failed"
    lot = random.Random(8)
    for state in cuts(recorded, lot, 30, "web.vmx.staying", 12):
        assert not check(storage_of(recorded.disks.lay_out(state, tmp_path / "cut")), recorded, lot)


@pytest.mark.parametrize("running", [False, True])
def test_a_second_power_cut_while_the_first_one_is_cleared_up_after(tmp_path: Path, running: bool) -> None:
    recorded = Recorded(tmp_path, running)
    lot = random.Random(9)
    states = [(state, recorded.disks.marked) for state in cuts(recorded, lot, 30, "copy.vmx", 12)]
    seen: set[bool] = set()
    there = [each for each in states if recorded.folder / "ds2" / "copy" / "copy.vmx" in each[0]]
    none = [each for each in states if each not in there]
    for state, marked in [*lot.sample(none, 3), *lot.sample(there, 3)]:
        recorded.disks.marked = marked
        at = recorded.disks.lay_out(state, tmp_path / "first")
        again: list[Step] = []
        platter, first = Disks(at), storage_of(at, again)
        content = disk_of(first, WEB)
        chosen = lot.sample(range(len(again)), min(8, len(again)))
        for number, step in enumerate(again):
            platter.apply(step)
            if number in chosen:
                storage = storage_of(platter.lay_out(next(platter.outcomes(lot, 0)), tmp_path / "second"))
                seen.add(check(storage, recorded, lot))
                assert disk_of(storage, WEB) == content
    assert seen == {True, False}
