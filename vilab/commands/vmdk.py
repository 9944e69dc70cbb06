"""``vilab vmdk``: look at virtual disks, check them, convert them, take snapshots.

::

    vilab vmdk info DISK                       what it consists of, with its parents
    vilab vmdk check DISK                      is it damaged? 0: no; 2: yes
    vilab vmdk convert [--to KIND] IN OUT      copy into another kind
    vilab vmdk snapshot DISK                   the name of the new top disk
"""

from __future__ import annotations

import sys
from pathlib import Path

from vilab.errors import AdminError
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.descriptor import Descriptor
from vilab.storage.disks.disk_chain import MOST_SNAPSHOTS
from vilab.storage.disks.redo_log_child import snapshot_file
from vilab.storage.disks.vmdk import is_vmdk, read_descriptor
from vilab.storage.disks.vmdk_check import check
from vilab.storage.disks.vmdk_convert import convert, default_target

DAMAGED = 2


def show(disk: Path) -> int:
    """A few lines a disk, the top first."""
    if not is_vmdk(disk):
        print(f"{disk}: raw, {disk.stat().st_size} bytes")
        return 0
    at: Path | None = disk
    expected: tuple[int, int | None] | None = None
    for _ in range(MOST_SNAPSHOTS + 2):
        if at is None:
            return 0
        described = read_descriptor(at)
        print("\n".join(_lines(at, described)))
        if expected is not None and described.cid not in expected:
            print(f"  DOES NOT FIT: the child above expects CID {expected[0]:08x}; the disk cannot be opened.")
        expected = described.parent_cid, described.pending_parent_cid
        at = at.parent / described.parent_hint if described.has_parent and described.parent_hint else None
    raise AdminError(f"{disk} has more than {MOST_SNAPSHOTS} snapshots, or is its own ancestor.")


def _lines(path: Path, described: Descriptor) -> list[str]:
    size = described.sectors * SECTOR_BYTES
    lines = [
        f"{path}: {described.create_type}, {size} bytes ({size >> 20} MB)",
        f"  CID {described.cid:08x}",
    ]
    if described.has_parent:
        lines.append(f"  parent {described.parent_hint or '(not named)'}, CID {described.parent_cid:08x}")
    lines += [
        f"  {line.access} {line.sectors} sectors {line.kind} {line.file or ''}".rstrip() for line in described.extents
    ]
    adapter = described.database("ddb.adapterType")
    if adapter:
        shape = "/".join(
            described.database(f"ddb.geometry.{name}") or "?" for name in ("cylinders", "heads", "sectors")
        )
        lines.append(f"  {adapter}, cylinders/heads/sectors {shape}")
    return lines


def examine(disk: Path) -> int:
    """Errors to standard error, then one line of summary."""
    if not is_vmdk(disk):
        raise AdminError(f"{disk} is raw, or no disk: there is nothing in it that could be checked.")
    report = check(disk)
    for note in report.notes:
        print(f"note: {note}")
    for error in report.errors:
        print(f"error: {error}", file=sys.stderr)
    if report.errors:
        print(f"{disk} is damaged: {len(report.errors)} error(s).")
        return DAMAGED
    print(f"{disk} is in order: {report.links} disk(s) in the chain, {report.allocated_grains} grains allocated.")
    return 0


def convert_disk(source: Path, target: Path, to: str | None, sync: bool = False) -> int:
    kind = to or default_target(target)
    size = convert(source, target, kind, sync=sync)
    print(f"{target}: {kind}, {size} bytes")
    return 0


def take_snapshot(disk: Path) -> int:
    """Prints the name of the disk that takes the writes from now on."""
    print(snapshot_file(disk))
    return 0
