"""The host of a Storage VMotion dies at any moment: one of the two folders is good, and a power-on finds it.

What was flushed is there, of what was written since any of it may be; nothing is left of the other folder, and nothing
of the move in the good one. The second power cut, while the first one is cleared up after, is tried as well.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration.storage_moves import idle
from tests.storage.power_cut import Platter, RecordedFile, Step
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.host import Host
from vilab.host.mounted import MountedLocal
from vilab.host.storage import HostStorage
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vmx_disks import DiskSettings
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName, StorageVmotion
from vilab.protocols import BlockDevice
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import DiskFile

SECTORS = 640
SIZE = SECTORS * 512
OLD, NEW = "[ds1] web/web.vmx", "[ds2] web/web.vmx"
NVRAM = b"settings of the BIOS" * 99
RANDOM_POINTS = 100


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The power of this computer is not cut: what was synced is known by the record alone."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


class RecordedDatastore(LocalDatastore):
    """A folder of this computer, of which every change is written down."""

    def __init__(self, root: Path, name: str, steps: list[Step]) -> None:
        super().__init__(root, name)
        self.steps = steps

    def open(self, path: str, writable: bool = False) -> DiskFile:
        return RecordedFile(self.place(path), writable, False, self.steps)

    def create(self, path: str) -> DiskFile:
        return RecordedFile(self.place(path), True, True, self.steps)

    def rename(self, path: str, to: str) -> None:
        place, new = self.place(path), self.place(to)
        super().rename(path, to)
        self.steps.append(Step("rename", place, to=new))

    def remove(self, path: str) -> None:
        place = self.place(path)
        is_file = place.is_file()
        super().remove(path)
        if is_file:
            self.steps.append(Step("remove", place))


class Disks(Platter):
    """Of both datastores."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certain = {path: bytearray(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}

    def lay_out(self, files: dict[Path, bytearray], at: Path) -> Path:
        shutil.rmtree(at, ignore_errors=True)
        for name in ("ds1", "ds2"):
            (at / name).mkdir(parents=True)
        for path, content in files.items():
            place = at / path.relative_to(self.folder)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
        return at


class Model:
    """What each sector may read as: what was flushed last, or anything that was written since. By flush."""

    def __init__(self, device: BlockDevice, seed: int) -> None:
        self.device, self.lot = device, random.Random(seed)
        self.now = [bytes(512)] * SECTORS
        self.held: list[list[bytes]] = []
        self.since: list[dict[int, set[bytes]]] = [{}]

    def write(self) -> None:
        first = self.lot.randrange(SECTORS)
        data = self.lot.randbytes(512 * self.lot.randint(1, min(24, SECTORS - first)))
        for n in range(len(data) // 512):
            self.now[first + n] = data[512 * n : 512 * n + 512]
            self.since[-1].setdefault(first + n, set()).add(self.now[first + n])
        self.device.write(512 * first, data)

    def flush(self) -> int:
        """The number of this flush, which counts once it has returned."""
        self.device.flush()
        self.held.append(list(self.now))
        self.since.append({})
        return len(self.held) - 1

    def fits(self, content: bytes, flush: int) -> bool:
        held, later = self.held[flush], self.since[flush + 1]
        return len(content) == SIZE and all(
            content[512 * n : 512 * n + 512] == held[n] or content[512 * n : 512 * n + 512] in later.get(n, ())
            for n in range(SECTORS)
        )


class Recorded:
    """A move with every write to the two datastores: ``steps``, from ``start``."""

    def __init__(self, folder: Path, method: MethodName, kind: str, power_off_after: int | None = None) -> None:
        self.folder, self.steps = folder / "site", list[Step]()
        host = Host(40, "esx1", swap_directory=_made(folder / "swap"))
        for name in ("ds1", "ds2"):
            datastore = RecordedDatastore(_made(self.folder / name), name, self.steps)
            host.storage._mounted[name] = MountedLocal(datastore, host.storage.luns)
        host.storage.create_disk("[ds1] web/web.vmdk", SIZE, kind)
        host.storage.write_file("[ds1] web/web.nvram", NVRAM)
        vm = idle(host, OLD, DiskSettings("scsi0:0", "web.vmdk"))
        (self.folder / "ds1" / "web" / vm.client.swap.path.name).unlink()  # of no importance, and large
        self.model = Model(vm.disks.devices()["scsi0:0"], 5)
        for _ in range(20):
            self.model.write()
        self._flush()
        self.disks, self.start = Disks(self.folder), len(self.steps)
        self.disks.marked = 0
        move = StorageVmotion(host, vm, "ds2", method, CopyOptions(step_bytes=64 << 10, little_bytes=16 << 10))
        taken = 0
        while vm.merge is not None and taken != power_off_after:
            self.model.write()
            if taken % 3 == 2:
                self._flush()
            vm.merge_step()
            taken += 1
        for _ in range(2):
            self.model.write()
            self._flush()
        host.power_off(vm)
        self.state, self.rounds = move.state, move.copier.number
        host.close()

    def _flush(self) -> None:
        self.steps.append(Step("mark", Path(), self.model.flush()))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def storage_of(at: Path, steps: list[Step] | None = None) -> HostStorage:
    """Another host, which sees both datastores."""
    storage = HostStorage("esx2", VirtualClock(), EventLog())
    for name in ("ds1", "ds2"):
        if steps is None:
            storage.add_local(name, at / name)
        else:
            storage._mounted[name] = MountedLocal(RecordedDatastore(at / name, name, steps), storage.luns)
    return storage


def power_on(storage: HostStorage, first: str, second: str) -> tuple[str, bytes]:
    """Which of the two can be powered on, and what its disk holds. The other one is refused, whichever is tried
    first."""
    found: list[tuple[str, bytes]] = []
    for where in (first, second):
        try:
            disks = VmDisks(VmHome(storage, where), storage.clock, storage.log)
        except AdminError:
            continue
        disk = disks.devices()["scsi0:0"]
        found.append((where, disk.read(0, disk.size_bytes)))
        assert disks.close() == []
    assert len(found) == 1, (found, sorted(path for path in _files(storage)))
    return found[0]


def _files(storage: HostStorage) -> list[str]:
    return [
        f"{name}/{each}"
        for name in ("ds1", "ds2")
        if storage.mounted(name).datastore.exists("web")
        for each in storage.mounted(name).datastore.names("web")
    ]


def check_left(storage: HostStorage, where: str) -> None:
    """Nothing is left of the other folder, and nothing of the move."""
    good = where[1:4]
    names = [name for name in _files(storage) if not name.startswith(f"{good}/.vilab-")]  # not renamed yet
    wanted = {"web.vmx", "web.vmx.lck", "web.vmdk", "web.nvram", "web.vmsd.lock"}
    assert {name for name in names if not name.endswith(("-flat.vmdk", ".vmsd"))} == {f"{good}/{n}" for n in wanted}
    assert b"vilab.move" not in storage.read_file(where)
    assert storage.read_file(f"[{good}] web/web.nvram") == NVRAM


def cuts(recorded: Recorded, lot: random.Random, points: int = RANDOM_POINTS) -> Iterator[dict[Path, bytearray]]:
    """At 100 random steps, and at every one around the switch and after it: all that was written, or less than that."""
    steps, disks = recorded.steps[recorded.start :], recorded.disks
    switch = [n for n, step in enumerate(steps) if step.to is not None and step.to.name.endswith(".switching")]
    from_here = min(switch, default=len(steps)) - 10
    chosen = set(lot.sample(range(len(steps)), min(points, len(steps))))
    for number, step in enumerate(steps):
        disks.apply(step)
        if number >= from_here or number in chosen:
            yield from list(disks.outcomes(lot, 1))[:: 1 if number >= from_here else lot.randint(1, 2)]


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
