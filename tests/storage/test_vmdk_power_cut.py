"""The power goes between any two writes: the disk opens and holds every flushed write; a sector is old or new."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import msgspec
import pytest

from tests.storage.power_cut import Platter, RecordedFiles
from vilab.storage.disks.descriptor import write
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk import VirtualDisk, read_descriptor
from vilab.storage.disks.vmdk_check import check
from vilab.storage.disks.vmdk_create import create

SECTORS = 640
SIZE = SECTORS * 512
SAMPLES = 3


class Model:
    """What each sector may read as: what was flushed last, or anything that was written since."""

    def __init__(self) -> None:
        self.now = [bytes(512)] * SECTORS
        self.flushed: list[list[bytes]] = []
        self.written: list[dict[int, set[bytes]]] = []
        """By flush: what was written to a sector before it, since the one before."""
        self.since: dict[int, set[bytes]] = {}

    def write(self, first: int, data: bytes) -> None:
        for n in range(len(data) // 512):
            self.now[first + n] = data[n * 512 : n * 512 + 512]
            self.since.setdefault(first + n, set()).add(self.now[first + n])

    def flush(self) -> int:
        """The number of this flush."""
        self.flushed.append(list(self.now))
        self.written.append(self.since)
        self.since = {}
        return len(self.flushed) - 1

    def fits(self, content: bytes, flush: int) -> bool:
        """``flush``: the last one that had returned."""
        later = self.written[flush + 1] if flush + 1 < len(self.written) else self.since
        held = self.flushed[flush]
        for n in range(SECTORS):
            found = content[n * 512 : n * 512 + 512]
            if found != held[n] and found not in later.get(n, ()):
                return False
        return True


def cut_everywhere(files: RecordedFiles, platter: Platter, model: Model, top: Path, work: Path, seed: int) -> int:
    lot = random.Random(seed)
    states = 0
    for step in [None, *files.steps]:
        if step is not None:
            platter.apply(step)
        for outcome in platter.outcomes(lot, SAMPLES):
            folder = platter.lay_out(outcome, work)
            disk = folder / top.name
            report = check(disk)
            assert report.errors == [], (step, report)
            with open_chain(disk) as chain:
                content = chain.read(0, SIZE)
            assert model.fits(content, platter.marked), step
            states += 1
    return states


@pytest.mark.parametrize("base", ["vmfs", "monolithicSparse", "twoGbMaxExtentSparse"])
@pytest.mark.parametrize("snapshots", [0, 2])
def test_writes_and_flushes(base: str, snapshots: int, tmp_path: Path):
    vm, model, lot = tmp_path / "vm", Model(), random.Random(snapshots)
    vm.mkdir()
    create(vm / "vm.vmdk", SECTORS, base)
    with SnapshotDisk(vm / "vm.vmdk") as disk:
        for _ in range(snapshots):
            disk.chain.write(512 * 100, data := lot.randbytes(512 * 200))
            model.write(100, data)
            disk.snapshot()
        top = disk.top
    model.flush()
    files, platter = RecordedFiles(), Platter(vm)
    disk = SnapshotDisk(top, files)
    for _ in range(5):
        for _ in range(3):
            first, sectors = lot.randrange(SECTORS - 150), lot.choice((1, 8, 140))
            data = lot.randbytes(sectors * 512)
            disk.chain.write(first * 512, data)
            model.write(first, data)
        if lot.random() < 0.5:
            disk.chain.unmap(256 * 512, 128 * 512)
            model.write(256, bytes(128 * 512))
        disk.chain.flush()
        files.mark(model.flush())
    disk.close()
    states = cut_everywhere(files, platter, model, top, tmp_path / "cut", seed=1)
    assert states > 60


def test_another_descriptor_inside_of_the_extent(tmp_path: Path):
    """The old one or the new one, never a mixture; in the end it is where other programs look."""
    vm = tmp_path / "vm"
    vm.mkdir()
    disk = vm / "vm.vmdk"
    create(disk, SECTORS, "monolithicSparse")
    before = read_descriptor(disk)
    settings = [*before.other, *((f"setting{number}", "x" * 40) for number in range(30))]  # over three sectors
    changed = msgspec.structs.replace(before, cid=before.cid ^ 1, other=tuple(settings))
    files, platter = RecordedFiles(), Platter(vm)
    with contextlib.closing(VirtualDisk(disk, True, files)) as opened:
        opened.replace_descriptor(changed)
    lot, found = random.Random(3), set()
    for step in files.steps:
        platter.apply(step)
        for outcome in platter.outcomes(lot, SAMPLES):
            folder = platter.lay_out(outcome, tmp_path / "cut")
            now = read_descriptor(folder / "vm.vmdk")
            assert now in (before, changed), step
            assert check(folder / "vm.vmdk").errors == [], step
            found.add(now.cid)
    assert found == {before.cid, changed.cid}
    assert write(changed) == disk.read_bytes()[512 : 21 * 512].split(b"\0", 1)[0]


@pytest.mark.parametrize("base", ["vmfs", "monolithicSparse"])
def test_commit_and_consolidate(base: str, tmp_path: Path):
    """Whoever opens the top that was there before, or the base once nothing is left of it, finds everything."""
    vm, lot, model = tmp_path / "vm", random.Random(7), Model()
    vm.mkdir()
    create(vm / "vm.vmdk", SECTORS, base)
    with SnapshotDisk(vm / "vm.vmdk") as disk:
        for at in (0, 90, 300):
            data = lot.randbytes(512 * 130)
            disk.chain.write(at * 512, data)
            model.write(at, data)
            disk.snapshot()
        top = disk.top
    model.flush()
    files, platter = RecordedFiles(), Platter(vm)
    with SnapshotDisk(top, files) as disk:
        disk.commit(2)
        disk.commit(1)
        disk.commit(1, lambda _new: files.mark(1))
        assert disk.top == vm / "vm.vmdk"
    states, named = 0, top
    for step in files.steps:
        platter.apply(step)
        if platter.marked == 1:
            platter.marked, named = 0, vm / "vm.vmdk"  # the configuration names the new top from now on
        for outcome in platter.outcomes(lot, SAMPLES):
            folder = platter.lay_out(outcome, tmp_path / "cut")
            with open_chain(folder / named.name) as chain:
                assert model.fits(chain.read(0, SIZE), 0), step
            states += 1
    assert named == vm / "vm.vmdk"
    assert states > 30


@pytest.mark.parametrize("base", ["vmfs", "monolithicSparse"])
def test_snapshot_and_revert(base: str, tmp_path: Path):
    vm, lot, model = tmp_path / "vm", random.Random(7), Model()
    vm.mkdir()
    create(vm / "vm.vmdk", SECTORS, base)
    before = lot.randbytes(SIZE)
    with SnapshotDisk(vm / "vm.vmdk") as disk:
        disk.chain.write(0, before)
        top = disk.snapshot()
        disk.chain.write(5 * 512, lot.randbytes(100 * 512))
        after = disk.chain.read(0, SIZE)
    model.write(0, after)
    files, platter = RecordedFiles(), Platter(vm)
    with SnapshotDisk(top, files) as disk:
        disk.revert()
        newest = disk.snapshot()
        files.mark(1)  # nobody knows of the new file before
    found = set()
    for step in files.steps:
        platter.apply(step)
        for outcome in platter.outcomes(lot, SAMPLES):
            folder = platter.lay_out(outcome, tmp_path / "cut")
            for path in [top, *([newest] if platter.marked else [])]:
                with open_chain(folder / path.name) as chain:
                    found.add(chain.read(0, SIZE))
    assert found == {before, after}, "one or the other, never something between"
