"""The host of a Storage VMotion dies at any moment: one of the two folders is good, and a power-on finds it.

What was flushed is there, of what was written since any of it may be; nothing is left of the other folder, and nothing
of the move in the good one. The second power cut, while the first one is cleared up after, is tried as well.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.migration.recorded_site import (
    Disks,
    RecordedMachine,
    cuts,
    files_of,
    power_on,
    storage_of,
)
from tests.storage.power_cut import Step
from vilab.host.storage import HostStorage
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName, StorageVmotion

OLD, NEW = "[ds1] web/web.vmx", "[ds2] web/web.vmx"
NVRAM = b"settings of the BIOS" * 99


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power of this computer is not cut: what was synced is known by the record alone."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


class Recorded(RecordedMachine):
    """A move with every write to the two datastores: ``steps``, from ``start``."""

    def __init__(self, folder: Path, method: MethodName, kind: str, power_off_after: int | None = None) -> None:
        super().__init__(folder, kind, nvram=NVRAM)
        host, vm = self.host, self.vm
        (self.folder / "ds1" / "web" / vm.client.swap.path.name).unlink()  # of no importance, and large
        for _ in range(20):
            self.model.write()
        self.flush()
        self.record()
        self.disks.marked = 0
        move = StorageVmotion(host, vm, "ds2", method, CopyOptions(step_bytes=64 << 10, little_bytes=16 << 10))
        taken = 0
        while vm.merge is not None and taken != power_off_after:
            self.model.write()
            if taken % 3 == 2:
                self.flush()
            vm.merge_step()
            taken += 1
        for _ in range(2):
            self.model.write()
            self.flush()
        host.power_off(vm)
        self.state, self.rounds = move.state, move.copier.number
        host.close()


def check_left(storage: HostStorage, where: str) -> None:
    """Nothing is left of the other folder, and nothing of the move."""
    good = where[1:4]
    names = [name for name in files_of(storage) if not name.startswith(f"{good}/.vilab-")]  # not renamed yet
    wanted = {"web.vmx", "web.vmx.lck", "web.vmdk", "web.nvram", "web.vmsd.lock"}
    assert {name for name in names if not name.endswith(("-flat.vmdk", ".vmsd"))} == {f"{good}/{n}" for n in wanted}
    assert b"vilab.move" not in storage.read_file(where)
    assert storage.read_file(f"[{good}] web/web.nvram") == NVRAM


@pytest.mark.parametrize(
    ("method", "kind"), [("changed blocks", "vmfs"), ("changed blocks", "monolithicSparse"), ("snapshot", "vmfs")]
)
def test_one_good_disk_after_a_power_cut_at_any_step(tmp_path: Path, method: MethodName, kind: str) -> None:
    recorded = Recorded(tmp_path, method, kind)
    assert recorded.state == "moved"
    assert recorded.rounds >= 3
    lot, seen = random.Random(7), {OLD: 0, NEW: 0}
    for files in cuts(recorded, lot):
        at = recorded.disks.lay_out(files, tmp_path / "cut")
        storage = storage_of(at)
        where, content = power_on(storage, *lot.sample([OLD, NEW], 2))
        assert recorded.model.fits(content, recorded.disks.marked), where
        check_left(storage, where)
        seen[where] += 1
    assert min(seen.values()) > 10


@pytest.mark.parametrize("method", ["changed blocks", "snapshot"])
def test_one_good_disk_after_a_power_cut_while_a_move_is_given_up(tmp_path: Path, method: MethodName) -> None:
    recorded = Recorded(tmp_path, method, "vmfs", power_off_after=6)
    assert recorded.state == "failed"
    lot = random.Random(8)
    for files in cuts(recorded, lot, 50):
        storage = storage_of(recorded.disks.lay_out(files, tmp_path / "cut"))
        where, content = power_on(storage, OLD, NEW)
        assert where == OLD
        assert recorded.model.fits(content, recorded.disks.marked)
        check_left(storage, OLD)


@pytest.mark.parametrize("method", ["changed blocks", "snapshot"])
def test_a_second_power_cut_while_the_first_one_is_cleared_up_after(tmp_path: Path, method: MethodName) -> None:
    recorded = Recorded(tmp_path, method, "vmfs")
    lot = random.Random(9)
    states = list(cuts(recorded, lot))
    marks = recorded.disks.marked
    assert marks > 3
    last: dict[str, int] = {}
    for files in [*lot.sample(states[: len(states) // 2], 2), *lot.sample(states[len(states) // 2 :], 5)]:
        at = recorded.disks.lay_out(files, tmp_path / "first")
        again: list[Step] = []
        platter = Disks(at)
        where, content = power_on(storage_of(at, again), OLD, NEW)
        chosen = lot.sample(range(len(again)), min(20, len(again)))
        for number, step in enumerate(again):
            platter.apply(step)
            if number not in chosen:
                continue
            second = platter.lay_out(next(platter.outcomes(lot, 0)), tmp_path / "second")
            storage = storage_of(second)
            assert power_on(storage, OLD, NEW) == (where, content)
            check_left(storage, where)
        last[where] = last.get(where, 0) + len(again)
    assert set(last) == {OLD, NEW}
