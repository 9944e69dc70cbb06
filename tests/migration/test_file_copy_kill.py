"""The power goes at any write to either host's disk: of both hosts at once, or of the one that writes.

What was synced is there, of what was not, nothing or all or some sectors. In the end one of the two hosts has the
machine, with every byte of it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.migration.file_copies import Pair, Site, files, make, one_of_both
from tests.migration.recorded_site import RecordedDatastore
from tests.storage.power_cut import Platter, Step
from vilab.host.host import Host
from vilab.host.mounted import MountedLocal
from vilab.protocols import ReadableBytes
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import DiskFile

DISK_BYTES = 192 << 10
RANDOM_POINTS = 8


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


def mount(host: Host, datastore: LocalDatastore) -> None:
    host.storage._mounted["local"] = MountedLocal(datastore, host.storage.luns)


class Disks(Platter):
    """Of both hosts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certain = {path: bytearray(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}

    def lay_out(self, files: dict[Path, bytearray], at: Path) -> Path:
        shutil.rmtree(at, ignore_errors=True)
        for path, content in files.items():
            place = at / path.relative_to(self.folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return at


def test_the_power_of_both_goes_at_any_step(tmp_path: Path) -> None:
    site, steps = Site(tmp_path / "site"), list[Step]()
    before = make(site["esx1"], disk_bytes=DISK_BYTES)
    for name in ("esx1", "esx2"):
        mount(site[name], RecordedDatastore(tmp_path / "site" / name / "local", "local", steps))
    disks = Disks(tmp_path / "site")
    assert Pair(site["esx1"], site["esx2"]).run().phase == "moved"
    site.close()
    leaving = next(n for n, step in enumerate(steps) if step.to is not None and step.to.name == "web.vmx.leaving")
    lot, found = random.Random(3), {"esx1": 0, "esx2": 0}
    chosen = set(lot.sample(range(leaving - 6), RANDOM_POINTS)) | set(range(leaving - 6, len(steps)))
    for number, step in enumerate(steps):
        disks.apply(step)
        if number not in chosen:
            continue
        for content in disks.outcomes(lot, 1):
            again = Site(disks.lay_out(content, tmp_path / "cut"))
            where = one_of_both(again["esx1"], again["esx2"], before, lot.random() < 0.5)
            found[where] += 1
            if number < leaving:
                assert where == "esx1"
            left = {name for name in files(again[where]) if not name.startswith(".vilab-")} - set(before)
            assert left == set(), (number, step)
            again.close()
    assert min(found.values()) > 5


class DeadError(BaseException):
    """The host has no power any more."""


class Life:
    """So many writes, and then none."""

    def __init__(self, left: int) -> None:
        self.left = left

    def tick(self) -> None:
        if self.left <= 0:
            raise DeadError
        self.left -= 1


class DyingFile(DiskFile):
    def __init__(self, path: Path, writable: bool, create: bool, life: Life) -> None:
        super().__init__(path, writable, create)
        self.life = life

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self.life.tick()
        super().write(offset_bytes, data)

    def resize(self, size_bytes: int) -> None:
        self.life.tick()
        super().resize(size_bytes)

    def sync(self) -> None:
        self.life.tick()
        super().sync()


class DyingDatastore(LocalDatastore):
    def __init__(self, root: Path, life: Life) -> None:
        super().__init__(root, "local")
        self.life = life
        self.opened: list[DiskFile] = []

    def _opened(self, file: DiskFile) -> DiskFile:
        self.opened.append(file)
        return file

    def open(self, path: str, writable: bool = False) -> DiskFile:
        return self._opened(DyingFile(self.place(path), writable, False, self.life))

    def create(self, path: str) -> DiskFile:
        self.life.tick()
        return self._opened(DyingFile(self.place(path), True, True, self.life))

    def make_folder(self, path: str) -> None:
        self.life.tick()
        super().make_folder(path)

    def rename(self, path: str, to: str) -> None:
        self.life.tick()
        super().rename(path, to)

    def remove(self, path: str) -> None:
        self.life.tick()
        super().remove(path)


@pytest.mark.parametrize("mortal", ["esx1", "esx2"])
def test_one_host_dies_at_any_of_its_writes(tmp_path: Path, mortal: str) -> None:
    found = {"esx1": 0, "esx2": 0}
    for number in range(1_000):
        site = Site(tmp_path / f"{number}")
        before = make(site["esx1"], disk_bytes=DISK_BYTES)
        life = Life(number)
        datastore = DyingDatastore(site.folder / mortal / "local", life)
        mount(site[mortal], datastore)
        pair = Pair(site["esx1"], site["esx2"])
        dies_in(pair, mortal, pair.run)
        if pair.dead:
            dies_in(pair, mortal, pair.go_on)
        for file in datastore.opened:
            file.close()
        if pair.dead:
            site[mortal].cut_power()
            site.host(mortal)
        life.left = 1 << 30
        found[one_of_both(site["esx1"], site["esx2"], before, finish=number % 2 == 0)] += 1
        site.close()
        shutil.rmtree(site.folder)
        if not pair.dead:
            assert pair.source.phase == "moved"
            break
    assert min(found.values()) > 3
    assert sum(found.values()) > 15


def dies_in(pair: Pair, mortal: str, run: Callable[[], object]) -> None:
    """The other one hears that the connection has ended."""
    try:
        run()
    except DeadError:
        pair.dead = mortal
        pair.link.cut()
