"""Exercises of lesson 13: the lookup through a chain of redo logs, and which snapshot to delete. The judges: chains of
real files, read and merged by the storage itself.

::

    13a   base, redo logs, sector ──> 512 bytes          DiskChain.read of the same files
    13b   redo logs, bytes wanted ──> which to delete    every deletion tried on a copy: what is freed, what is copied
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import msgspec

from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.events import EventLog
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_create import create
from vilab.storage.storage_events import SnapshotCommitted

SECTORS = 9000
"""Of the disks of 13a: three grain tables, the last one not full."""

Lookup = Callable[[bytes, Sequence[bytes], int], object]

# 13a -------------------------------------------------------------------------------------------------------------


class Chain(msgspec.Struct, frozen=True):
    """Files as they lie on disk, and what the storage reads. ``deltas``: COWD files, the oldest first."""

    what: str
    base: bytes
    deltas: tuple[bytes, ...]
    sectors: tuple[int, ...]
    content: tuple[bytes, ...]


@cache
def chain(snapshots: int, seed: int, spread: int = SECTORS) -> Chain:
    """A disk with so many redo logs, written to at random below ``spread``; twenty of its sectors to ask for."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="vilab-") as folder:
        path = Path(folder) / "vm.vmdk"
        create(path, SECTORS, "vmfs")
        written: list[int] = []
        with SnapshotDisk(path) as disk:
            for version in range(snapshots + 1):
                if version:
                    disk.snapshot()
                for _ in range(12):
                    first, count = rng.randrange(spread - 8), rng.randrange(1, 8)
                    data = b"".join(f"{version}:{first + at}".encode().ljust(SECTOR_BYTES, b" ") for at in range(count))
                    disk.chain.write(first * SECTOR_BYTES, data)
                    written += range(first, first + count)
            disk.chain.flush()
            sectors = (*rng.sample(written, 16), *(rng.randrange(SECTORS) for _ in range(4)))
            content = tuple(disk.chain.read(sector * SECTOR_BYTES, SECTOR_BYTES) for sector in sectors)
            files = [link.files_of() for link in disk.chain.links]
        base, *deltas = (next(each for each in found if each.name.endswith(("-flat.vmdk", "-delta.vmdk"))).read_bytes()
                         for found in files)  # fmt: skip
        return Chain(f"{snapshots} redo logs", base, tuple(deltas), sectors, content)


def check_lookup(lookup: Lookup, chains: Sequence[tuple[int, int]] = ((0, 1), (1, 2), (3, 3))) -> Feedback:
    """``lookup(base, deltas, sector)``: the 512 bytes that the guest reads. ``chains``: (redo logs, seed)."""
    asked = sum(map(partial(_looked_up, lookup), (chain(*each) for each in chains)))
    return right(f"{asked} sectors, each as the storage reads it.")


def _looked_up(lookup: Lookup, given: Chain) -> int:
    for sector, due in zip(given.sectors, given.content, strict=True):
        sentence = f"lookup(base, deltas, {sector}) with {given.what}"
        found = call(lookup, given.base, given.deltas, sector, said=sentence)
        if not isinstance(found, bytes | bytearray | memoryview):
            raise WrongAnswer(f"{sentence} gave {found!r:.60}; 512 bytes are wanted.")
        if bytes(found) != due:
            raise WrongAnswer(f"{sentence} gave {_short(bytes(found))}; the guest reads {_short(due)}.")
    return len(given.sectors)


def _short(data: bytes) -> str:
    words = "zeros" if not any(data) else repr(data.rstrip(b" \0")[:16])
    return words if len(data) == SECTOR_BYTES else f"{words} ({len(data)} bytes)"


# 13b -------------------------------------------------------------------------------------------------------------

GRAINS = 64
"""Of the small disks of 13b: one sector each."""


class RedoLog(msgspec.Struct, frozen=True):
    """``sectors``: which it holds. ``own_bytes``: header and tables."""

    sectors: frozenset[int]
    own_bytes: int


class Deletion(msgspec.Struct, frozen=True):
    """What one deletion does: bytes that the files have less, sectors that are copied."""

    index: int
    freed_bytes: int
    copied: int


class Full(msgspec.Struct, frozen=True):
    """A datastore that is nearly full: the redo logs above a flat base, the oldest first, and what is wanted."""

    logs: tuple[RedoLog, ...]
    wanted_bytes: int
    deletions: tuple[Deletion, ...]

    @property
    def best(self) -> int | None:
        """The deletion that frees enough and copies least; the older one of two. ``None``: there is none."""
        enough = [each for each in self.deletions if each.freed_bytes >= self.wanted_bytes]
        return min(enough, key=lambda each: (each.copied, each.index)).index if enough else None


@cache
def full_datastore(seed: int, snapshots: int = 4) -> Full:
    """A small disk with redo logs; every deletion is done on a copy of its files."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="vilab-") as folder:
        path = Path(folder) / "vm" / "vm.vmdk"
        path.parent.mkdir()
        create(path, GRAINS, "vmfs")
        held: list[set[int]] = []
        with SnapshotDisk(path) as disk:
            for _ in range(snapshots):
                disk.snapshot()
                first, count = rng.randrange(GRAINS - 24), rng.randrange(4, 24)
                disk.chain.write(first * SECTOR_BYTES, rng.randbytes(count * SECTOR_BYTES))
                held.append(set(range(first, first + count)))
            top = disk.top.name
            sizes = [link.files_of()[0].stat().st_size for link in disk.chain.links[1:]]
        deletions = tuple(_delete(path.parent, top, index) for index in range(snapshots))
    logs = tuple(
        RedoLog(frozenset(sectors), size - len(sectors) * SECTOR_BYTES)
        for sectors, size in zip(held, sizes, strict=True)
    )
    most = max(each.freed_bytes for each in deletions)
    wanted = rng.choice([each.freed_bytes for each in deletions] + [most + SECTOR_BYTES])
    return Full(logs, wanted, deletions)


def _delete(folder: Path, top: str, index: int) -> Deletion:
    copy = folder.with_name(f"copy{index}")
    shutil.copytree(folder, copy)
    log = EventLog(keep=True)
    with SnapshotDisk(copy / top, log=log) as disk:
        before = _size(copy)
        disk.commit(index + 1)
    copied = sum(event.sectors for event in log.of(SnapshotCommitted))
    return Deletion(index, before - _size(copy), copied)


def _size(folder: Path) -> int:
    """Of what has the data; the descriptors are small, and left out."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.name.endswith(("-flat.vmdk", "-delta.vmdk")))


def check_choose(choose: Callable[[Sequence[RedoLog], int], object], seeds: Sequence[int] = (1, 2, 3, 4)) -> Feedback:
    """``choose(logs, wanted_bytes)``: the index of the snapshot to delete, or ``None``."""
    for seed in seeds:
        given = full_datastore(seed)
        words = f"choose(logs, {given.wanted_bytes:,})"
        found = call(choose, given.logs, given.wanted_bytes, said=words)
        if found != given.best or isinstance(found, bool):
            due = "none is enough" if given.best is None else f"redo log {given.best} is to be deleted"
            raise WrongAnswer(f"{words} gave {found!r}; {due}, as every deletion on a copy has shown.", _table(given))
    return right(f"{len(seeds)} datastores, each deletion tried on a copy.")


def _table(given: Full) -> tuple[str, ...]:
    rows = [("redo log", "holds", "frees", "copies")]
    for log, done in zip(given.logs, given.deletions, strict=True):
        held = f"sectors {min(log.sectors)} to {max(log.sectors)}"
        rows.append((str(done.index), held, f"{done.freed_bytes:,} bytes", f"{done.copied} sectors"))
    return columns(rows)
