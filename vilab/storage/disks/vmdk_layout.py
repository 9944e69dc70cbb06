"""The on-disk layouts of virtual disks: a datasheet. Little endian, packed, counted in 512-byte sectors.

A sparse extent is a two-level table, like a page table with grains for pages::

    sector in the extent = | directory index | table index | sector in the grain |
                                   │               │
    grain directory (GD) ──────────┘               │           one u32 a table: the sector where it begins
      grain table (GT) ────────────────────────────┘           one u32 a grain: the sector where it begins
        grain                                                  the data

                         KDMV (hosted)                     COWD (an ESX redo log)
    grain                128 sectors = 64 KB               1 sector
    entries in a table   512                               4096
    a table covers       32 MB                             2 MB
    entry 0              not allocated: ask the parent, or zeros
    entry 1              zeros, if flag 4 is set           must not occur

A KDMV file, as usually written (sector numbers in front)::

    0 | header    1 | descriptor (20)    21 | redundant GD, GTs    .. | GD, GTs    128.. | grains

A stream-optimized KDMV file is written from front to back; its tables follow what they describe, the last header wins::

    header | descriptor | grain marker, grain | ... | marker GT, table | ... | marker GD, directory | marker footer,
    header again, with the directory's place | marker end of stream

A COWD file::

    0 | header (4)    4 | GD    .. | tables | grains

Sources: VMware, Virtual Disk Format 1.1 (2007); the COWD header as open readers and writers agree on it.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

SECTOR_BYTES: Final = 512

# --- KDMV -------------------------------------------------------------------------------------------------------------

KDMV_MAGIC: Final = b"KDMV"
KDMV_VERSION: Final = 1
KDMV_VERSION_ZERO_GRAINS: Final = 2
KDMV_VERSION_STREAM: Final = 3

FLAG_NEWLINES: Final = 0x1
"""The four newline bytes can be trusted."""
FLAG_REDUNDANT: Final = 0x2
"""There is a second directory with its own tables."""
FLAG_ZERO_GRAINS: Final = 0x4
"""Entry 1 means zeros."""
FLAG_COMPRESSED: Final = 0x1_0000
FLAG_MARKERS: Final = 0x2_0000

DIRECTORY_AT_END: Final = (1 << 64) - 1
"""``gd_offset``: look into the footer."""
COMPRESSION_NONE: Final = 0
COMPRESSION_DEFLATE: Final = 1
NEWLINES: Final = b"\n \r\n"
"""A transfer in text mode changes one of them."""

KDMV_GRAIN_SECTORS: Final = 128
KDMV_TABLE_ENTRIES: Final = 512
DESCRIPTOR_HOME: Final = 1
DESCRIPTOR_SECTORS: Final = 20

_KDMV = struct.Struct("<4s I I Q Q Q Q I Q Q Q B 4s H 433x")
assert _KDMV.size == SECTOR_BYTES
KDMV_DESCRIPTOR_PLACE_AT: Final = 28
"""Bytes 28 to 43: where the descriptor is and how long, u64 each."""
KDMV_UNCLEAN_AT: Final = 72


class KdmvHeader(msgspec.Struct, frozen=True):
    """Bytes 0 to 511 of a hosted sparse extent, offsets in the comments."""

    version: int  # 4   u32
    flags: int  # 8   u32
    capacity: int  # 12  u64, sectors
    grain_sectors: int  # 20  u64, a power of two
    descriptor_offset: int  # 28  u64, 0: the descriptor is a file of its own
    descriptor_sectors: int  # 36  u64
    table_entries: int  # 44  u32, always 512
    redundant_gd_offset: int  # 48  u64
    gd_offset: int  # 56  u64
    overhead: int  # 64  u64, the first sector that may hold a grain
    unclean: int = 0  # 72  u8, someone writes, or was killed while writing
    newlines: bytes = NEWLINES  # 73
    compression: int = COMPRESSION_NONE  # 77  u16

    def pack(self) -> bytes:
        return _KDMV.pack(
            KDMV_MAGIC, self.version, self.flags, self.capacity, self.grain_sectors, self.descriptor_offset,
            self.descriptor_sectors, self.table_entries, self.redundant_gd_offset, self.gd_offset, self.overhead,
            self.unclean, self.newlines, self.compression,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> KdmvHeader:
        """Of 512 bytes, whatever they say; ``sparse_open`` judges."""
        return cls(*_KDMV.unpack(data)[1:])


# --- markers of a stream ----------------------------------------------------------------------------------------------

MARKER_END: Final = 0
MARKER_TABLE: Final = 1
MARKER_DIRECTORY: Final = 2
MARKER_FOOTER: Final = 3

_MARKER = struct.Struct("<Q I I 496x")
GRAIN_MARKER: Final = struct.Struct("<Q I")
"""In front of a compressed grain: its first sector in the disk, the bytes of zlib data that follow at once."""


def marker(kind: int, sectors: int) -> bytes:
    """A metadata marker: what follows in so many sectors is not a grain (the size, 0, tells)."""
    return _MARKER.pack(sectors, 0, kind)


# --- COWD -------------------------------------------------------------------------------------------------------------

COWD_MAGIC: Final = b"COWD"
COWD_VERSION: Final = 1
COWD_FLAGS: Final = 3
COWD_HEADER_SECTORS: Final = 4
COWD_GRAIN_SECTORS: Final = 1
COWD_TABLE_ENTRIES: Final = 4096
COWD_FREE_AT: Final = 28
COWD_UNCLEAN_AT: Final = 1648

_COWD = struct.Struct("<4s I I I I I I I 1028x I 60s 512s I 8x I 396x")
assert _COWD.size == COWD_HEADER_SECTORS * SECTOR_BYTES


class CowdHeader(msgspec.Struct, frozen=True):
    """Bytes 0 to 2047 of an ESX sparse extent. Bytes 32 to 1059, geometry or the parent's name, are left zero: the
    descriptor names the parent, and the other readers take nothing from there."""

    version: int  # 4     u32
    flags: int  # 8     u32
    capacity: int  # 12    u32, sectors: at most 2 TB
    grain_sectors: int  # 16    u32
    gd_offset: int  # 20    u32
    gd_entries: int  # 24    u32
    free_sector: int  # 28    u32, where the next grain goes; not every writer keeps it up
    generation: int = 0  # 1060  u32
    name: bytes = b""  # 1064
    description: bytes = b""  # 1124
    saved_generation: int = 0  # 1636  u32
    unclean: int = 0  # 1648  u32

    def pack(self) -> bytes:
        return _COWD.pack(
            COWD_MAGIC, self.version, self.flags, self.capacity, self.grain_sectors, self.gd_offset, self.gd_entries,
            self.free_sector, self.generation, self.name, self.description, self.saved_generation, self.unclean,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> CowdHeader:
        return cls(*_COWD.unpack(data)[1:])
