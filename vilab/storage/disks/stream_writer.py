"""Writing a stream-optimized disk: from front to back, never a step back, so that it can go through a pipe.

::

    header (directory at the end) | descriptor | .. 128 | grain | ... | GT | grain | ... | GT | GD | footer | end

A grain of zeros is left out; a table without grains too.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import msgspec
import numpy as np

from vilab.storage.block import SECTOR_BYTES
from vilab.storage.disks.vmdk_layout import (
    COMPRESSION_DEFLATE,
    DESCRIPTOR_SECTORS,
    DIRECTORY_AT_END,
    FLAG_COMPRESSED,
    FLAG_MARKERS,
    FLAG_NEWLINES,
    GRAIN_MARKER,
    KDMV_GRAIN_SECTORS,
    KDMV_TABLE_ENTRIES,
    KDMV_VERSION_STREAM,
    MARKER_DIRECTORY,
    MARKER_END,
    MARKER_FOOTER,
    MARKER_TABLE,
    KdmvHeader,
    marker,
)

GRAIN_BYTES = KDMV_GRAIN_SECTORS * SECTOR_BYTES
FIRST_SECTOR = 128


class StreamWriter:
    """``grain`` for the grains in rising order, then ``finish``. ``write`` gets what comes next in the file."""

    def __init__(self, write: Callable[[bytes], None], sectors: int, descriptor: bytes, level: int = 3) -> None:
        self._write, self._level = write, level
        self._at = 0
        self._table = np.zeros(KDMV_TABLE_ENTRIES, "<u4")
        self._number = 0
        grains = -(-sectors // KDMV_GRAIN_SECTORS)
        self._directory = np.zeros(-(-grains // KDMV_TABLE_ENTRIES), "<u4")
        self._header = KdmvHeader(
            version=KDMV_VERSION_STREAM,
            flags=FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS,
            capacity=sectors,
            grain_sectors=KDMV_GRAIN_SECTORS,
            descriptor_offset=1,
            descriptor_sectors=DESCRIPTOR_SECTORS,
            table_entries=KDMV_TABLE_ENTRIES,
            redundant_gd_offset=0,
            gd_offset=DIRECTORY_AT_END,
            overhead=FIRST_SECTOR,
            compression=COMPRESSION_DEFLATE,
        )
        start = self._header.pack() + descriptor.ljust(DESCRIPTOR_SECTORS * SECTOR_BYTES, b"\0")
        self._put(start.ljust(FIRST_SECTOR * SECTOR_BYTES, b"\0"))

    def _put(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % SECTOR_BYTES)
        self._write(padded)
        self._at += len(padded) // SECTOR_BYTES

    def grain(self, number: int, data: bytes) -> None:
        """Grain ``number``, 64 KB; a shorter last one is filled up."""
        table, entry = divmod(number, KDMV_TABLE_ENTRIES)
        if table != self._number:
            self._end_table()
            self._number = table
        self._table[entry] = self._at
        packed = zlib.compress(data.ljust(GRAIN_BYTES, b"\0"), self._level)
        self._put(GRAIN_MARKER.pack(number * KDMV_GRAIN_SECTORS, len(packed)) + packed)

    def _end_table(self) -> None:
        if self._table.any():
            self._put(marker(MARKER_TABLE, len(self._table) * 4 // SECTOR_BYTES))
            self._directory[self._number] = self._at
            self._put(self._table.tobytes())
            self._table[:] = 0

    def finish(self) -> None:
        self._end_table()
        self._put(marker(MARKER_DIRECTORY, -(-len(self._directory) * 4 // SECTOR_BYTES)))
        directory_at = self._at
        self._put(self._directory.tobytes())
        self._put(marker(MARKER_FOOTER, 1))
        self._put(msgspec.structs.replace(self._header, gd_offset=directory_at).pack())
        self._put(marker(MARKER_END, 0))
