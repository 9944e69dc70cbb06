"""From one kind of disk to another: what is zero is not copied, and a parent is melted in.

::

    source --> a buffer of 512 KB --> which grains are not zero? --> runs of those --> target

What the source does not have is not even read. The buffer stays in the processor's cache: what was read is looked
through and written from there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vilab.errors import AdminError
from vilab.protocols import BlockDevice
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disk_file import REAL_FILES, UNSYNCED_FILES, DiskFile, Files
from vilab.storage.disks import descriptor as text
from vilab.storage.disks.disk_chain import DiskChain, open_chain
from vilab.storage.disks.extent import FlatExtent
from vilab.storage.disks.sparse_extent import SparseExtent
from vilab.storage.disks.stream_writer import GRAIN_BYTES, StreamWriter
from vilab.storage.disks.vmdk import VirtualDisk, is_vmdk
from vilab.storage.disks.vmdk_create import CREATE_TYPES, Space, create, describe, extent_lines
from vilab.storage.raw_disk import RawDisk

TARGETS = (*CREATE_TYPES, "raw")
CHUNK_BYTES = 1 << 19
FLUSH_AFTER_BYTES = 1 << 30
"""A new disk need not be whole before its end; only the memory for its tables must stay small."""


def open_disk(path: Path, writable: bool = False, files: Files = REAL_FILES) -> DiskChain | RawDisk:
    """A virtual disk with its parents, or any other file as a raw one."""
    return open_chain(path, writable, files) if is_vmdk(path) else RawDisk(path, writable)


def convert(
    source: Path, target: Path, to: str, space: Space = "thin", files: Files = REAL_FILES, sync: bool = False
) -> int:
    """Copy a disk; the bytes of its content. Refused where ``target`` exists and is not empty.

    An empty file in its place is out of the way only while the copy is made: it is back if that fails.

    ``sync``: wait until the copy would survive a power cut; without it, as with ``cp``, the system writes it in its own
    time.
    """
    if files is REAL_FILES and not sync:
        files = UNSYNCED_FILES
    if to not in TARGETS:
        raise AdminError(f"There is no kind of disk {to!r}; there are {', '.join(TARGETS)}.")
    if target.exists() and (not target.is_file() or target.stat().st_size):
        raise AdminError(f"{target} exists already and is not overwritten. Remove it, or give another name.")
    disk = open_disk(source, files=files)
    try:
        sectors = disk.size_bytes // SECTOR_BYTES
        names = [line.file for line in extent_lines(target, sectors, to)] if to != "raw" else []
        made = [target, *(target.parent / name for name in names if name is not None and name != target.name)]
        if existing := [path for path in made[1:] if path.exists()]:
            raise AdminError(f"{existing[0]} exists already and is not overwritten. Remove it, or give another name.")
        with _out_of_the_way(target):
            try:
                _copy_into(disk, target, to, space, files)
            except BaseException:
                for path in made:
                    with contextlib.suppress(OSError):
                        path.unlink()
                raise
        return disk.size_bytes
    finally:
        disk.close()


@contextlib.contextmanager
def _out_of_the_way(empty: Path) -> Iterator[None]:
    """The empty file of that name, if there is one, is gone afterwards, or back as it was if this fails."""
    if not empty.exists():
        yield
        return
    aside = empty.with_name(f".{empty.name[:40]}.{os.getpid()}")
    empty.rename(aside)
    try:
        yield
    except BaseException:
        aside.rename(empty)
        raise
    aside.unlink()


def _copy_into(disk: DiskChain | RawDisk, target: Path, to: str, space: Space, files: Files) -> None:
    sectors = disk.size_bytes // SECTOR_BYTES
    if to == "streamOptimized":
        file = files.create(target)
        file.write_behind = files is REAL_FILES
        try:
            _write_stream(disk, file)
            file.sync()
        finally:
            file.close()
        return
    if to == "raw":
        file = files.create(target)
        file.write_behind = files is REAL_FILES
        try:
            file.resize(disk.size_bytes)
            _copy(disk, RawDisk.of(file), 4096)
            file.sync()
        finally:
            file.close()
        return
    create(target, sectors, to, space, files=files, geometry=disk.geometry)
    link = VirtualDisk(target, True, files)
    whole = DiskChain([link], new_content=False)
    for extent in link.extents:
        if isinstance(extent, SparseExtent):
            extent.flush_after_bytes = FLUSH_AFTER_BYTES
        if isinstance(extent, SparseExtent | FlatExtent):
            extent.file.write_behind = files is REAL_FILES
    try:
        grain = max(extent.grain_sectors for extent in link.extents) * SECTOR_BYTES
        if any(isinstance(extent, FlatExtent) for extent in link.extents):
            grain = 4096
        _copy(disk, whole, grain)
        whole.flush()
    finally:
        whole.close()


def _chunks(disk: DiskChain | RawDisk, unit_bytes: int) -> Iterator[tuple[int, memoryview, npt.NDArray[np.bool_]]]:
    """(offset, data, which units of it are not zero), without the chunks that are nowhere. The data is there until the
    next one is asked for."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for offset, size in disk.allocated(CHUNK_BYTES):
        disk.read_into(offset, buffer[:size])
        end = -(-size // unit_bytes) * unit_bytes
        buffer[size:end] = bytes(end - size)
        used = _not_zero(np.frombuffer(buffer[:end], np.uint64).reshape(-1, unit_bytes // 8))
        if used.any():
            yield offset, buffer[:size], used


def _not_zero(units: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which rows are not all zero. A few words tell of most; the rest is looked through."""
    used = np.asarray(units[:, ::64].any(axis=1))
    if not used.all():
        rest = np.flatnonzero(~used)
        used[rest] = units[rest].any(axis=1)
    return used


def _copy(disk: DiskChain | RawDisk, target: BlockDevice, unit_bytes: int) -> None:
    for offset, data, used in _chunks(disk, unit_bytes):
        if used.all():
            target.write(offset, data)
            continue
        edges = np.flatnonzero(np.diff(np.concatenate(([False], used, [False])).astype(np.int8))).tolist()
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            target.write(offset + low * unit_bytes, data[low * unit_bytes : high * unit_bytes])


def _write_stream(disk: DiskChain | RawDisk, file: DiskFile) -> None:
    sectors = disk.size_bytes // SECTOR_BYTES
    lines = extent_lines(file.path, sectors, "streamOptimized")
    described = text.write(describe(sectors, "streamOptimized", lines, geometry=disk.geometry))
    at = 0

    def write(data: bytes) -> None:
        nonlocal at
        file.write(at, data)
        at += len(data)

    writer = StreamWriter(write, sectors, described)
    for offset, data, used in _chunks(disk, GRAIN_BYTES):
        for number in np.flatnonzero(used).tolist():
            grain = data[number * GRAIN_BYTES : (number + 1) * GRAIN_BYTES].tobytes()
            writer.grain(offset // GRAIN_BYTES + number, grain)
    writer.finish()


def default_target(target: Path) -> str:
    """What ``--to`` is where it is not given: by the name."""
    return "raw" if os.fspath(target).endswith((".raw", ".img")) else "monolithicSparse"
