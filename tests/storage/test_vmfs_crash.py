"""The host dies, or the LUN loses power, between any two writes: whoever comes then finds all that was acknowledged."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.vmfs_disks import RecordingDisk, SparseDisk, Step, Volume, some_sectors
from tests.storage.vmfs_judges import Model, dissect_walk, is_clean
from tests.storage.vmfs_workload import Workload, walk
from vilab.storage.vmfs import transaction as vmfs_transaction
from vilab.storage.vmfs.check import check
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.namespace import ReadOnlyVolume

SAMPLES = 2
"""Of what the power may leave, for each write."""


def fits(found: Model, before: Model, after: Model) -> bool:
    """All of one state, but for a file whose content was being changed: of that each byte is old or new."""
    if found.keys() != before.keys() and found.keys() != after.keys():
        return False
    return all(_content_fits(content, before.get(path), after.get(path)) for path, content in found.items())


def _content_fits(found: bytes | None, before: bytes | None, after: bytes | None) -> bool:
    if found in (before, after):
        return True
    if found is None or (before is None and after is None):
        return False
    old, new = before or b"", after or b""
    if not min(len(old), len(new)) <= len(found) <= max(len(old), len(new)):
        return False
    size = len(found)
    old, new = old[:size].ljust(size, b"\0"), new[:size].ljust(size, b"\0")
    return all(byte in (old[at], new[at]) for at, byte in enumerate(found))


def recovered(disk: SparseDisk) -> Model:
    """Another host mounts what is there, breaks the dead ones' heartbeats, and looks around."""
    read_only = walk(ReadOnlyVolume(disk))
    host = Volume(disk).host("C")
    host.recover()
    found = walk(host)
    assert found == read_only, "whoever only reads has to see what a replay would bring"
    for path, content in found.items():  # nothing is locked any more
        if content is not None:
            host.open_to_write(path).close()
    host.create("/after").close()
    host.remove("/after")
    host.leave()
    return found


def cut_everywhere(
    disk: RecordingDisk, marks: list[tuple[int, Model]], judge: Callable[[SparseDisk], None], every: int
) -> int:
    """After each write, in order and with some of the unflushed ones lost; ``judge`` looks at one state in ``every``.

    ``marks``: (steps, model) after each thing that was done. The number of states.
    """
    lot, certain, ordered, pending = random.Random(1), disk.base.copy(), disk.base.copy(), list[Step]()
    states = done = 0
    for number in range(len(disk.steps) + 1):
        if number:
            step = disk.steps[number - 1]
            if step.data is None:
                certain, pending = ordered.copy(), []
                continue
            ordered.write(step.offset, step.data)
            pending.append(step)
        while done + 1 < len(marks) and number >= marks[done + 1][0]:
            done += 1
        before, after = marks[done][1], marks[min(done + 1, len(marks) - 1)][1]
        outcomes = [ordered.copy(), *(some_sectors(certain, pending, lot) for _ in range(SAMPLES if pending else 0))]
        for lost, outcome in enumerate(outcomes):
            found = recovered(outcome)
            assert fits(found, before, after), (number, lost, sorted(found), sorted(before), sorted(after))
            report = check(outcome)
            assert report.errors == [], (number, lost, report)
            states += 1
            if states % every == 0:
                judge(outcome)
    return states


def recorded(seed: int, prepare: Callable[[Workload, Host], object]) -> tuple[RecordingDisk, Host, Workload]:
    """A volume with something on it, and a host on it; what it does from here on is recorded."""
    volume, work = Volume(), Workload(seed)
    host = volume.host("P")
    prepare(work, host)
    host.leave()
    disk = RecordingDisk(volume.disk)
    return disk, Volume(disk).host("A"), work


def do(disk: RecordingDisk, work: Workload, things: list[Callable[[], object]]) -> list[tuple[int, Model]]:
    marks = [(0, dict(work.model))]
    for thing in things:
        thing()
        marks.append((len(disk.steps), dict(work.model)))
    return marks


def judge_in(folder: Path) -> Callable[[SparseDisk], None]:
    def judge(disk: SparseDisk) -> None:
        image = disk.save(folder / "cut.img")
        is_clean(image)
        assert dissect_walk(image) == walk(ReadOnlyVolume(disk))

    return judge


def small_files(work: Workload, host: Host) -> None:
    work.mkdir(host, "/d")
    work.create(host, "/d/f", b"f" * 1000)
    work.create(host, "/g", b"g" * 70_000)
    work.create(host, "/h", b"h" * 65_536)


@pytest.mark.interop
def test_every_kind_of_change(tmp_path: Path):
    disk, host, work = recorded(0, small_files)
    marks = do(
        disk,
        work,
        [
            lambda: work.create(host, "/new", b""),
            lambda: work.write(host, "/new", 0, b"n" * 700),
            lambda: work.write(host, "/new", 700, b"N" * 100_000),
            lambda: work.write(host, "/h", 65_530, b"H" * 20),
            lambda: work.write(host, "/h", 100, b"i" * 2000),
            lambda: work.mkdir(host, "/d/e"),
            lambda: work.rename(host, "/new", "/d/e/moved"),
            lambda: work.rename(host, "/d/e", "/E"),
            lambda: work.rename(host, "/h", "/d/f"),
            lambda: work.truncate(host, "/E/moved", 50),
            lambda: work.truncate(host, "/E/moved", 5000),
            lambda: work.remove(host, "/g"),
            lambda: work.remove(host, "/E/moved"),
            lambda: work.rmdir(host, "/E"),
        ],
    )
    assert cut_everywhere(disk, marks, judge_in(tmp_path), every=60) > 300


@pytest.mark.interop
@pytest.mark.parametrize("seed", [5])
def test_random_work(seed: int, tmp_path: Path):
    disk, host, work = recorded(seed, small_files)
    marks = do(disk, work, [lambda: work.step(host)] * 12)
    assert cut_everywhere(disk, marks, judge_in(tmp_path), every=60) > 150


@pytest.mark.interop
def test_a_deletion_in_several_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file that is too large for one change is gone at once; its blocks are free in the end, whoever lives then."""
    disk, host, work = recorded(0, lambda work, host: work.create(host, "/large", b"L" * (6 << 20)))
    monkeypatch.setattr(vmfs_transaction, "NEARLY_FULL", 1)
    marks = do(disk, work, [lambda: work.remove(host, "/large")])
    assert sum(step.data is None for step in disk.steps) > 8, "it was one change only"
    assert cut_everywhere(disk, marks, judge_in(tmp_path), every=20) > 50


def test_a_host_that_comes_back_finishes_what_it_had_begun():
    """The same UUID: its own journal, without waiting for sixteen seconds of silence."""
    disk, host, work = recorded(0, small_files)
    marks = do(disk, work, [lambda: work.rename(host, "/h", "/d/f")])
    state = disk.base.copy()
    for number, step in enumerate(disk.steps, 1):
        if step.data is not None:
            state.write(step.offset, step.data)
        volume = Volume(state.copy())
        again = volume.host("A")
        assert volume.clock.now_ns == 0
        assert fits(walk(again), marks[0][1], marks[1][1]), number
        again.leave()
        assert check(volume.disk).errors == []


def test_whoever_breaks_a_heartbeat_may_die_too():
    """The second breaker does again what the first one did not come to the end of."""
    disk, host, work = recorded(0, small_files)
    marks = do(disk, work, [lambda: work.rename(host, "/h", "/d/f")])
    flushes = [n for n, step in enumerate(disk.steps) if step.data is None]
    state = disk.base.copy()
    for step in disk.steps[: flushes[1] + 2]:  # the journal is there, and one of the sectors in its place
        if step.data is not None:
            state.write(step.offset, step.data)
    second = RecordingDisk(state)
    breaker = Volume(second).host("B")
    assert breaker.recover() == 1
    assert cut_everywhere(second, [(0, marks[1][1])], lambda _disk: None, every=1000) > 5
