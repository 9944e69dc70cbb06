"""Looking for damage: what ``vilab vmdk check`` says of a disk and each of its parents. Nothing is changed.

======================  ============================================================================================
error                   a header or descriptor is damaged, a file is missing or too short, a parent does not fit
error                   a table entry names sectors behind the end of the file, or before its first grain
error                   two entries name the same grain: a write to one place of the disk would appear at another
error                   a compressed grain cannot be expanded
note                    a writer did not come to its end (the header says "unclean"); it is repaired at the next write
note                    the redundant tables are not what the others are
note                    grains that no entry names: space that is lost until the disk is converted
======================  ============================================================================================
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.errors import AdminError
from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.disk_chain import DiskChain, open_chain
from vilab.storage.disks.extent import SECTOR_MASK
from vilab.storage.disks.sparse_extent import SparseExtent
from vilab.storage.disks.stream_extent import StreamExtent
from vilab.storage.disks.vmdk import VirtualDisk

NAMED_AT_MOST = 10
"""So many findings of one kind in one file are named; the rest are counted."""


class Report(msgspec.Struct):
    """What was found. ``errors``: content is lost or in danger; ``notes``: it is not."""

    links: int = 0
    allocated_grains: int = 0
    lost_sectors: int = 0
    errors: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


def check(path: Path) -> Report:
    """Look at a disk with all its parents."""
    report = Report()
    try:
        chain = open_chain(path)
    except AdminError as error:
        report.errors.append(str(error))
        return report
    with chain:
        _check_links(chain, report)
    return report


def _check_links(chain: DiskChain, report: Report) -> None:
    for link in chain.links:
        report.links += 1
        for extent in link.extents:
            try:
                if isinstance(extent, SparseExtent):
                    _check_sparse(extent, link, report)
                elif isinstance(extent, StreamExtent):
                    _check_stream(extent, report)
            except AdminError as error:
                report.errors.append(str(error))


def _check_sparse(extent: SparseExtent, link: VirtualDisk, report: Report) -> None:
    shape, file = extent.shape, extent.file
    grain, end = shape.grain_sectors, min(1 << 32, -(-file.size_bytes // SECTOR_BYTES))
    if extent.unclean:
        report.notes.append(f"{file.path}: whoever wrote to it last did not close it.")
    used = np.zeros(end, np.bool_)  # one byte a sector of the file, not of the disk
    _mark_metadata(extent, used)
    wrong: dict[str, list[int]] = {"outside": [], "twice": [], "redundant": []}
    counts = dict.fromkeys(wrong, 0)

    def note(kind: str, sectors: npt.NDArray[np.int64]) -> None:
        counts[kind] += len(sectors)
        wrong[kind] += sectors[: max(0, NAMED_AT_MOST - len(wrong[kind]))].tolist()

    zero = 1 if shape.zero_grains else 0
    for number in range(shape.tables):
        stored = extent.tables.stored(number)
        if shape.redundant_gd_offset:
            other = extent.tables.stored(number, redundant=True)
            if (stored is None) != (other is None) or not (stored is None or other is None or (stored == other).all()):
                note("redundant", np.array([number]))
        if stored is None or not stored.any():
            continue
        first = number * shape.table_entries
        entries = stored[: max(0, shape.grains - first)].astype(np.int64)
        here = np.flatnonzero(entries > zero)
        at = entries[here]
        # The last grain of a file may end where the disk ends.
        inside = (at >= shape.first_data) & (at + np.minimum(grain, shape.sectors - (first + here) * grain) <= end)
        note("outside", (first + here[~inside]) * grain)
        here, at = here[inside], at[inside]
        report.allocated_grains += len(at)
        order, repeated = np.unique(at, return_counts=True)
        taken = used[order] | (repeated > 1)
        note("twice", (first + here[np.isin(at, order[taken])]) * grain)
        for piece in range(grain):
            used[np.minimum(order + piece, end - 1)] = True
    said = {
        "outside": "sectors {0} of the disk are said to be where the file has ended, or among its tables",
        "twice": "sectors {0} of the disk share their place with others, or with the tables",
        "redundant": "the redundant grain tables {0} are not what the others are",
    }
    for kind, found in wrong.items():
        if found:
            more = f" and {counts[kind] - len(found)} more" if counts[kind] > len(found) else ""
            sentence = f"{file.path}: {said[kind].format(', '.join(map(str, found)) + more)}."
            (report.notes if kind == "redundant" else report.errors).append(sentence)
    rest = used[shape.first_data :]  # counting touches no memory that was never marked
    lost = (len(rest) - int(np.count_nonzero(rest))) // grain * grain
    if lost:
        report.lost_sectors += lost
        report.notes.append(
            f"{file.path}: {lost} sectors are in no table; vilab vmdk convert makes a copy without them."
        )


def _mark_metadata(extent: SparseExtent, used: npt.NDArray[np.bool_]) -> None:
    shape = extent.shape
    used[: shape.first_data] = True
    at = [(shape.gd_offset, shape.directory_sectors), (shape.redundant_gd_offset, shape.directory_sectors)]
    for directory in (extent.tables.directory, extent.tables.redundant):
        if directory is not None:
            at += [(int(sector), shape.table_sectors) for sector in directory[directory > 0]]
    for sector, sectors in at:
        if sector:
            used[sector : sector + sectors] = True


def _check_stream(extent: StreamExtent, report: Report) -> None:
    shape = extent.shape
    grain, reader = shape.grain_sectors, extent.reader()
    for first in range(0, extent.sectors, 4096):
        places = np.zeros(min(4096, extent.sectors - first), np.int64)
        extent.slot = 1
        extent.locate(first, places)
        for at in np.flatnonzero(places[::grain] > SECTOR_MASK).tolist():
            assert reader is not None
            try:
                reader(SECTOR_BYTES, (first + at * grain) * SECTOR_BYTES)
                report.allocated_grains += 1
            except AdminError as error:
                if len(report.errors) < NAMED_AT_MOST:
                    report.errors.append(str(error))
