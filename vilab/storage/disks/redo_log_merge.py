"""One redo log melts into its parent: what it holds is written there, a piece at a time.

::

    child     . . A B . . . C          tables say where each sector lies, and which are not there at all
    parent    1 2 3 4 5 6 7 8
                  └┬┘       │
    after     1 2 A B 5 6 7 C          everything above reads as before, whenever it is stopped

``branches`` finds who else stands on the two: those on the child can move to the parent, those on the parent cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vilab.errors import AdminError
from vilab.storage.block import SECTOR_BYTES, BlockError
from vilab.storage.disk_file import Files
from vilab.storage.disks.disk_chain import DiskChain
from vilab.storage.disks.extent import SECTOR_MASK, SLOT_SHIFT
from vilab.storage.disks.vmdk import VirtualDisk, read_descriptor

STEP_SECTORS = 4096
"""2 MB: what is merged between two looks at whether the virtual machine wants something."""


def merge(below: list[VirtualDisk], child: VirtualDisk) -> Iterator[int]:
    """Write what ``child`` holds into the last of ``below``; then sync. Yields sectors, a step at a time."""
    readers = {extent.slot: extent.reader() for extent in child.extents}
    target = DiskChain(below, new_content=False)  # gives the links the slots that they have already
    for first in _steps(child, min(child.sectors, target.sectors)):
        places = np.full(min(STEP_SECTORS, child.sectors - first, target.sectors - first), -1, np.int64)
        child.locate(first, places)
        here = np.flatnonzero(places >= 0)
        if not len(here):
            continue
        found = places[here]
        cuts = np.flatnonzero((np.diff(here) != 1) | (np.diff(found) != 1)) + 1
        for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), len(here)], strict=True):
            place, size = int(found[low]), (high - low) * SECTOR_BYTES
            read = readers.get(place >> SLOT_SHIFT)
            data = bytes(size) if read is None else read(size, (place & SECTOR_MASK) * SECTOR_BYTES)
            if len(data) != size:
                raise BlockError(
                    "medium", f"{child.path} is damaged: a table names sectors behind the end of its file."
                )
            target.write((first + int(here[low])) * SECTOR_BYTES, data)
        yield len(here)
    target.flush()


def _steps(child: VirtualDisk, end: int) -> Iterator[int]:
    """Where to look for what ``child`` holds; tables that it does not have are skipped."""
    first = child.next_known(0)
    while first < end:
        yield first
        first = child.next_known(first + STEP_SECTORS) if first + STEP_SECTORS < end else end


def branches(chain: DiskChain, parent: Path, child: Path, files: Files) -> list[Path]:
    """Other disks that stand on ``child``. Refused where others stand on ``parent``: it is about to change."""
    resolve = files.resolve
    inside = {resolve(link.path) for link in chain.links}
    found: list[Path] = []
    for name in files.names(parent.parent):
        other = parent.parent / name
        if not name.endswith(".vmdk") or resolve(other) in inside:
            continue
        try:
            described = read_descriptor(other, files)
        except AdminError:
            continue  # an extent, or no disk at all
        at = None if described.parent_hint is None else resolve(other.parent / described.parent_hint)
        moved = at == resolve(parent) and described.pending_parent_cid is not None  # by a merge that was cut short
        if at == resolve(child) or moved:
            found.append(other)
        elif at == resolve(parent):
            raise AdminError(
                f"{child.name} was not merged into {parent.name}: {name} is another branch that needs it as it "
                "is. Delete that branch first, or convert it to a disk of its own."
            )
    return found
