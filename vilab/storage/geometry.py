"""Cylinders, heads, sectors: what a BIOS and old guests want to hear about a disk that has none.

::

    adapter     disk smaller than    heads x sectors    source
    lsilogic    1 GB                  64 x 32           the geometry rules of BusLogic's and LSI's BIOS: 64/32,
    buslogic    2 GB                 128 x 32           then 128/32, then 255/63, so that the 1,024 cylinders of
                otherwise            255 x 63           INT 13h reach
    ide         any                   16 x 63           ATA; at most 16,383 cylinders
"""

from __future__ import annotations

import msgspec

MOST_IDE_CYLINDERS = 16_383
GIGABYTE_SECTORS = 1 << 21


class Geometry(msgspec.Struct, frozen=True):
    cylinders: int
    heads: int
    sectors: int


def geometry_of(sectors: int, adapter: str = "lsilogic") -> Geometry:
    """The geometry of a disk of so many 512-byte sectors behind an adapter (``lsilogic``, ``buslogic``, ``ide``)."""
    if adapter == "ide":
        return Geometry(min(MOST_IDE_CYLINDERS, max(1, sectors // (16 * 63))), 16, 63)
    heads, per_track = 255, 63
    if sectors < GIGABYTE_SECTORS:
        heads, per_track = 64, 32
    elif sectors < 2 * GIGABYTE_SECTORS:
        heads, per_track = 128, 32
    return Geometry(max(1, sectors // (heads * per_track)), heads, per_track)
