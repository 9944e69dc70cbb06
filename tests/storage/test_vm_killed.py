"""A machine's disks and snapshots after SIGKILL and after the power went: an operation has happened, or it has not."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.storage.kill_vm import run
from tests.storage.power_cut import Platter, RecordedFiles
from tests.storage.vm_model import NODES, Machine, quick_folder
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.vm_snapshots import VmSnapshots
from vilab.storage.disks.vmdk_check import check

SMALL = 64
SIZE = SMALL * 512


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="vilab-", dir=quick_folder()))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("base", ["vmfs", "monolithicSparse"])
def test_a_killed_process_has_lost_nothing_that_was_flushed_and_left_nothing_half_done(base: str, folder: Path):
    counts = run(folder, 10, seed=5, base=base)
    assert counts["done"] > 10
    assert sum(counts.values()) == counts["done"] + 10


Held = dict[int, tuple[bytes, ...]]


def disks_of(vm: VmSnapshots) -> tuple[bytes, ...]:
    return tuple(vm.chain(node).read(0, SIZE) for node in NODES)


def snapshots_of(vm: VmSnapshots) -> Held:
    """What every snapshot holds, by its own files."""
    held: Held = {}
    for snapshot in vm.snapshots:
        parts = []
        for disk in snapshot.disks:
            with open_chain(vm.folder / disk.file, files=vm.files) as chain:
                parts.append(chain.read(0, SIZE))
        held[snapshot.uid] = tuple(parts)
    return held


def build(vm: VmSnapshots) -> None:
    """1 ── 2 ── you are here;   1 ── 3."""
    lot = random.Random(3)

    def write() -> None:
        for node in NODES:
            vm.chain(node).write(lot.randrange(40) * 512, lot.randbytes(20 * 512))

    write()
    vm.take("1", state={"vm": b"one"})
    write()
    vm.take("3")
    write()
    vm.revert(1)
    write()
    vm.take("2", state={"vm": b"two"})
    write()


OPERATIONS: dict[str, Callable[[VmSnapshots], object]] = {
    "take": lambda vm: vm.take("new", state={"vm": b"new"}),
    "revert": lambda vm: vm.revert(1),
    "revert to the other branch": lambda vm: vm.revert(2),
    "delete the root": lambda vm: vm.delete(1),
    "delete the inner one": lambda vm: vm.delete(3),
    "delete all": lambda vm: vm.delete_all(),
}


@pytest.mark.parametrize(
    ("base", "what"),
    [*(("vmfs", what) for what in OPERATIONS), ("monolithicSparse", "take"), ("monolithicSparse", "delete all")],
)
def test_the_power_goes_between_any_two_writes(base: str, what: str, folder: Path):
    home = folder / "vm"
    home.mkdir()
    machine = Machine(home)
    machine.make(base, SMALL)
    with machine.open() as vm:
        build(vm)
    with machine.open() as vm:
        before = disks_of(vm), snapshots_of(vm)
    files, platter = RecordedFiles(), Platter(home)
    with Machine(home, files).open() as vm:
        OPERATIONS[what](vm)
    with machine.open() as vm:
        after = disks_of(vm), snapshots_of(vm)
    assert after != before
    lot, seen = random.Random(1), []
    for step in files.steps:
        platter.apply(step)
        for outcome in platter.outcomes(lot, 1):
            cut = Machine(platter.lay_out(outcome, folder / "cut"))
            with cut.open() as vm:
                found = disks_of(vm), snapshots_of(vm)
                tops = [disk.top for disk in vm.disks.values()]
            assert found in (before, after), step
            assert all(check(top).errors == [] for top in tops)
            seen.append(found == after)
            if len(seen) % 4 == 0:
                and_it_can_be_gone_on_with(cut, found[0])
    assert not seen[0]
    assert seen[-1]
    assert len(seen) > 15


def and_it_can_be_gone_on_with(cut: Machine, now: tuple[bytes, ...]) -> None:
    with cut.open() as vm:
        vm.delete_all()
        assert disks_of(vm) == now
    assert not [name for name in cut.names() if "-0000" in name or name.endswith(".vmsn")]
