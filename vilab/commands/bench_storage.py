"""How fast disks are: what ``vilab bench storage`` measures.

===================  ======================================================  ===========================================
entry                value                                                   baseline
===================  ======================================================  ===========================================
convert_to_sparse    MB of disk a second, ``vilab vmdk convert`` from raw    ``qemu-img convert`` of the same disk
                     to monolithicSparse
convert_to_raw       and back from monolithicSparse to raw                   ``qemu-img convert`` of the same disk
read_depth_1         random reads of 4 KB a second through a disk of one     ``pread`` of as many bytes at the same
read_depth_8         redo log above its base; of 8; of 32                    places of a flat file
read_depth_32
iscsi_*              the iSCSI target                                        see ``vilab.storage.iscsi.bench``
===================  ======================================================  ===========================================

Conversions are whole programs, from their start to their end, in wall time; half of the disk's 1 GB is data, in pieces
of 1 MB. Neither program waits for the disk. ``processor`` has the same in processor time: value, baseline, ratio;
``synced`` is the ratio in wall time where both wait until everything is on the disk.
The reads have ``qemu``: what ``qemu-img
bench`` reads a second from the same chain, one request after the other. All files are in the page cache.

MODEL: reads are measured after every region of the disk was read once, as in a machine that has run for a while;
``cold`` is the rate of the first round.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vilab.errors import AdminError, VmmBug
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.disk_chain import DiskChain, open_chain
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.disks.vmdk_create import create
from vilab.vmm.bench_measure import paired

Entry = dict[str, Any]

DISK_BYTES = 1 << 30
PIECE_BYTES = 1 << 20
READ_BYTES = 4096
READS = 100_000
WRITES_A_SNAPSHOT = 2000
QEMU_READS = 2000
"""QEMU's cache of tables is small for redo logs; a random read takes it up to a millisecond."""
TICK_S = 0.01
"""The system counts the time of programs no finer."""
QEMU_STEP_BYTES = 10_000 * READ_BYTES
DEPTHS = (1, 8, 32)
ISCSI = "vilab.storage.iscsi.bench"


class Amount(msgspec.Struct, frozen=True):
    """How much is measured."""

    pairs: int
    disk_bytes: int
    reads: int
    quick: bool


FULL, QUICK = Amount(5, DISK_BYTES, READS, False), Amount(1, 1 << 24, 1000, True)


class Measured(msgspec.Struct, frozen=True):
    """The figures, and sentences about what could not be measured."""

    figures: dict[str, Entry]
    notes: list[str]


def _qemu_img() -> str:
    found = shutil.which("qemu-img")
    if found is None:
        raise AdminError("qemu-img is not there to compare with; it comes with the Debian package qemu-utils.")
    return found


class Spent(msgspec.Struct, frozen=True):
    """What a program took."""

    processor_s: float
    wall_s: float


def _spent(command: Sequence[str]) -> Spent:
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    after, wall_s = os.times(), time.perf_counter() - started
    if done.returncode:
        raise VmmBug(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return Spent(used, wall_s)


def _make_raw(path: Path, size_bytes: int) -> None:
    lot = random.Random(2006)
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for number in lot.sample(range(size_bytes // PIECE_BYTES), size_bytes // PIECE_BYTES // 2):
            file.seek(number * PIECE_BYTES)
            file.write(lot.randbytes(PIECE_BYTES))


def _convert(folder: Path, amount: Amount, to_sparse: bool) -> Entry:
    """Both programs read the same source; what they have made is compared by QEMU at the end."""
    raw, sparse = folder / "source.raw", folder / "source.vmdk"
    qemu = _qemu_img()
    _make_raw(raw, amount.disk_bytes)
    _spent([qemu, "convert", "-f", "raw", "-O", "vmdk", str(raw), str(sparse)])
    source, kinds, to = (raw, ("raw", "vmdk"), "monolithicSparse") if to_sparse else (sparse, ("vmdk", "raw"), "raw")
    ours, theirs = folder / f"ours.{kinds[1]}", folder / f"theirs.{kinds[1]}"
    vilab = [sys.executable, "-m", "vilab.cli", "vmdk", "convert", "--to", to, str(source), str(ours)]
    convert = [qemu, "convert", "-f", kinds[0], "-O", kinds[1], str(source), str(theirs)]
    waiting = [*convert[:2], "-t", "writeback", *convert[2:]]

    used: dict[Path, list[float]] = {ours: [], theirs: []}
    megabytes = amount.disk_bytes / 1e6

    def rate(command: Sequence[str], made: Path) -> Callable[[], float]:
        def measure() -> float:
            made.unlink(missing_ok=True)
            spent = _spent(command)
            used[made].append(megabytes / max(spent.processor_s, TICK_S))
            return megabytes / spent.wall_s

        return measure

    entry: Entry = msgspec.to_builtins(paired(rate(vilab, ours), rate(convert, theirs), "MB/s", amount.pairs))
    value, base = (float(f"{statistics.median(used[path]):.5g}") for path in (ours, theirs))
    _spent([qemu, "compare", "-f", kinds[1], "-F", "raw", str(ours), str(raw)])
    synced = paired(rate([*vilab, "--sync"], ours), rate(waiting, theirs), "MB/s", min(3, amount.pairs))
    return entry | {"processor": {"value": value, "baseline": base, "ratio": value / base}, "synced": synced.ratio}


def _make_chain(folder: Path, depth: int, amount: Amount) -> Path:
    """A full base, and redo logs with some writes in each of them."""
    lot = random.Random(depth)
    base, size = folder / "vm.vmdk", amount.disk_bytes
    create(base, size // SECTOR_BYTES, "vmfs")
    with SnapshotDisk(base) as disk:
        data = lot.randbytes(PIECE_BYTES)
        for at in range(0, size, PIECE_BYTES):
            disk.chain.write(at, data)
        for _ in range(depth):
            disk.snapshot()
            for _ in range(max(8, WRITES_A_SNAPSHOT * size // DISK_BYTES)):
                disk.chain.write(lot.randrange(size // READ_BYTES) * READ_BYTES, data[:READ_BYTES])
        return disk.top


def _reads(depth: int) -> Callable[[Path, Amount], Entry]:
    def measure(folder: Path, amount: Amount) -> Entry:
        top = _make_chain(folder, depth, amount)
        lot = random.Random(1)
        places = [lot.randrange(amount.disk_bytes // READ_BYTES) * READ_BYTES for _ in range(amount.reads)]
        flat = DiskFile(folder / "vm-flat.vmdk")
        try:
            with open_chain(top) as chain:
                cold = _chain_rate(chain, places)
                figure = paired(
                    lambda: _chain_rate(chain, places), lambda: _flat_rate(flat, places), "reads/s", amount.pairs
                )
        finally:
            flat.close()
        entry: Entry = msgspec.to_builtins(figure)
        return entry | {"cold": float(f"{cold:.5g}"), "qemu": _qemu_rate(top, min(QEMU_READS, amount.reads))}

    return measure


def _chain_rate(chain: DiskChain, places: Sequence[int]) -> float:
    read = chain.read
    started = time.perf_counter()
    for offset in places:
        read(offset, READ_BYTES)
    return len(places) / (time.perf_counter() - started)


def _flat_rate(file: DiskFile, places: Sequence[int]) -> float:
    read = file.pread
    started = time.perf_counter()
    for offset in places:
        read(READ_BYTES, offset)
    return len(places) / (time.perf_counter() - started)


def _qemu_rate(top: Path, reads: int) -> float:
    qemu, step = _qemu_img(), str(QEMU_STEP_BYTES)
    options = ["-f", "vmdk", "-c", str(reads), "-d", "1", "-s", str(READ_BYTES), "-S", step, str(top)]
    return float(f"{reads / _spent([qemu, 'bench', *options]).wall_s:.5g}")


ENTRIES: dict[str, Callable[[Path, Amount], Entry]] = {
    "convert_to_sparse": lambda folder, amount: _convert(folder, amount, True),
    "convert_to_raw": lambda folder, amount: _convert(folder, amount, False),
    **{f"read_depth_{depth}": _reads(depth) for depth in DEPTHS},
}
"""In the order of the output; the target's own come behind them."""


def bench_storage(quick: bool = False, only: Sequence[str] = ()) -> Measured:
    """Measure everything, or what ``only`` names (some minutes for all; about 3 GB in the folder for temporary files).

    Parameters
    ----------
    quick : as little work as shows that it works; the figures mean nothing.
    only : names of entries; ``iscsi`` stands for all of the target's.

    Raises
    ------
    AdminError : ``only`` names an entry that does not exist, or a program to compare with is missing.
    """
    for name in only:
        if name not in ENTRIES and not name.startswith("iscsi"):
            raise AdminError(f"There is no entry {name!r} in storage; there are {', '.join((*ENTRIES, 'iscsi'))}.")
    amount = QUICK if quick else FULL
    measured = Measured({}, [])
    for name, measure in ENTRIES.items():
        if not only or name in only:
            with tempfile.TemporaryDirectory(prefix="vilab-") as folder:
                measured.figures[name] = measure(Path(folder), amount)
    if not only or any(name.startswith("iscsi") for name in only):
        _add_iscsi(measured, quick, only)
    return measured


def _add_iscsi(measured: Measured, quick: bool, only: Sequence[str]) -> None:
    if importlib.util.find_spec(ISCSI) is None:
        measured.notes.append("The iSCSI target was not measured: this version has none.")
        return
    try:
        found: dict[str, Entry] = importlib.import_module(ISCSI).measure_iscsi(quick)
    except AdminError as error:
        measured.notes.append(f"The iSCSI target was not measured: {error}")
        return
    chosen = [name for name in only if name.startswith("iscsi") and name != "iscsi"]
    measured.figures.update({name: entry for name, entry in found.items() if not chosen or name in chosen})
