"""From a header to an extent: judged before anything is believed.

Whatever a header says, no more memory is taken than the directory of a disk of ``MOST_SECTORS`` needs, and no more
than the file itself is long.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from vilab.storage.block import SECTOR_BYTES, BlockError
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.descriptor import MOST_SECTORS
from vilab.storage.disks.extent import Extent
from vilab.storage.disks.sparse_extent import SparseExtent
from vilab.storage.disks.sparse_tables import Entries, SparseShape
from vilab.storage.disks.stream_extent import StreamExtent
from vilab.storage.disks.vmdk_layout import (
    COMPRESSION_DEFLATE,
    COWD_HEADER_SECTORS,
    COWD_MAGIC,
    COWD_TABLE_ENTRIES,
    COWD_VERSION,
    DIRECTORY_AT_END,
    FLAG_COMPRESSED,
    FLAG_NEWLINES,
    FLAG_REDUNDANT,
    FLAG_ZERO_GRAINS,
    KDMV_MAGIC,
    KDMV_TABLE_ENTRIES,
    KDMV_VERSION_STREAM,
    NEWLINES,
    CowdHeader,
    KdmvHeader,
)

MOST_GRAIN_SECTORS = 4096
MOST_TABLES = 1 << 21
"""Twice what the largest disk of the usual shape has."""


def read_kdmv(file: DiskFile) -> KdmvHeader:
    """The header in force: that of the footer, where the directory is at the end."""
    data = file.read_some(0, SECTOR_BYTES)
    if len(data) < SECTOR_BYTES or data[:4] != KDMV_MAGIC:
        damaged(file, "it does not begin with the header of a sparse extent (KDMV)")
    header = KdmvHeader.unpack(data)
    if header.flags & FLAG_NEWLINES and header.newlines != NEWLINES:
        damaged(file, "its newline bytes have changed, it was transferred as text; transfer it in binary mode")
    if header.gd_offset == DIRECTORY_AT_END:
        data = file.read_some(max(0, file.size_bytes - 2 * SECTOR_BYTES), SECTOR_BYTES)
        if len(data) < SECTOR_BYTES or data[:4] != KDMV_MAGIC:
            damaged(file, "its footer is missing, it was copied incompletely")
        header = KdmvHeader.unpack(data)
    return header


def open_kdmv(file: DiskFile, header: KdmvHeader | None = None) -> Extent:
    header = read_kdmv(file) if header is None else header
    if not 1 <= header.version <= KDMV_VERSION_STREAM:
        damaged(file, f"version {header.version} is not known; 1 to 3 are")
    compressed = bool(header.flags & FLAG_COMPRESSED)
    if compressed and header.compression != COMPRESSION_DEFLATE:
        damaged(file, f"compression {header.compression} is not known")
    if not 1 <= header.table_entries <= KDMV_TABLE_ENTRIES:
        damaged(file, f"{header.table_entries} entries in a table are not possible")
    shape = SparseShape(
        kind="KDMV",
        sectors=header.capacity,
        grain_sectors=header.grain_sectors,
        table_entries=header.table_entries,
        gd_offset=header.gd_offset,
        redundant_gd_offset=header.redundant_gd_offset if header.flags & FLAG_REDUNDANT else 0,
        first_data=min(header.overhead, 1 << 32) if not compressed else 1,
        zero_grains=bool(header.flags & FLAG_ZERO_GRAINS),
    )
    _judge(file, shape)
    if compressed:
        stream = StreamExtent(file, shape)
        judge_directory(file, stream.tables.directory)
        return stream
    return _sparse(file, shape, 0, bool(header.unclean))


def read_cowd(file: DiskFile) -> CowdHeader:
    data = file.read_some(0, COWD_HEADER_SECTORS * SECTOR_BYTES)
    if len(data) < COWD_HEADER_SECTORS * SECTOR_BYTES or data[:4] != COWD_MAGIC:
        damaged(file, "it does not begin with the header of a redo log (COWD)")
    return CowdHeader.unpack(data)


def open_cowd(file: DiskFile) -> SparseExtent:
    header = read_cowd(file)
    if header.version != COWD_VERSION:
        damaged(file, f"version {header.version} is not known; 1 is")
    shape = SparseShape(
        kind="COWD",
        sectors=header.capacity,
        grain_sectors=header.grain_sectors,
        table_entries=COWD_TABLE_ENTRIES,
        gd_offset=header.gd_offset,
        redundant_gd_offset=0,
        first_data=COWD_HEADER_SECTORS,
        zero_grains=False,
    )
    _judge(file, shape)
    return _sparse(file, shape, header.free_sector, bool(header.unclean))


def _sparse(file: DiskFile, shape: SparseShape, free_sector: int, unclean: bool) -> SparseExtent:
    extent = SparseExtent(file, shape, free_sector, unclean)
    judge_directory(file, extent.tables.directory)
    if extent.tables.redundant is not None:
        judge_directory(file, extent.tables.redundant)
    return extent


def _judge(file: DiskFile, shape: SparseShape) -> None:
    grain = shape.grain_sectors
    if not 1 <= grain <= MOST_GRAIN_SECTORS or grain & (grain - 1):
        damaged(file, f"grains of {grain} sectors are not possible")
    if not 0 < shape.sectors <= MOST_SECTORS:
        damaged(file, f"{shape.sectors} sectors are no size for a disk")
    if shape.tables > MOST_TABLES:
        damaged(file, f"{shape.tables} grain tables are too many, {MOST_TABLES} the most")
    for name, sector in (("grain directory", shape.gd_offset), ("redundant directory", shape.redundant_gd_offset)):
        if sector and sector * SECTOR_BYTES + shape.tables * 4 > file.size_bytes:
            damaged(file, f"its {name} of {shape.tables} entries at sector {sector} is not in the file")
    if not shape.gd_offset:
        damaged(file, "it has no grain directory")


def judge_directory(file: DiskFile, directory: Entries) -> None:
    """No two parts of a disk share a table: what is written to one would appear in the other."""
    named = directory[directory > 0]
    if len(np.unique(named)) != len(named):
        damaged(file, "its grain directory names one table twice")


def damaged(file: DiskFile, why: str) -> NoReturn:
    raise BlockError("medium", f"{file.path} is damaged or no virtual disk: {why}.")
