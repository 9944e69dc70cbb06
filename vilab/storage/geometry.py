"""Cylinders, heads, sectors: what a BIOS and old guests want to hear about a disk that has none.

::

    adapter     disk smaller than    heads x sectors    source
    lsilogic    1 GB                  64 x 32           the geometry rules of BusLogic's and LSI's BIOS: 64/32,
    buslogic    2 GB                 128 x 32           then 128/32, then 255/63, so that the 1,024 cylinders of
                otherwise            255 x 63           INT 13h reach
    ide         any                   16 x 63           ATA; at most 16,383 cylinders

Whoever needs it asks the disk (``BlockDevice.geometry``). A virtual disk answers with what its descriptor says
(``ddb.geometry.*``, of the nearest link that says it); a disk before another one with what that one says
(``ShapedLike``); all others are ``ShapedBySize``. It goes to the guest in the mode pages 03h and 04h, and into the
descriptor of a copy or a redo log. The adapters themselves say nothing of a disk: a BT-958 has one bit for all, which
names the rule above.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vilab.protocols import BlockDevice, Geometry

MOST_IDE_CYLINDERS = 16_383
GIGABYTE_SECTORS = 1 << 21
MOST_CYLINDERS, MOST_HEADS, MOST_SECTORS = 0xFF_FFFF, 255, 63
"""Page 04h has three bytes for cylinders and one for heads, INT 13h six bits for sectors."""


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


def geometry_in(database: Callable[[str], str | None]) -> Geometry | None:
    """What a descriptor's entries say; ``None`` where one is missing or no geometry."""
    numbers = [database(f"ddb.geometry.{name}") or "" for name in ("cylinders", "heads", "sectors")]
    if not all(number.isascii() and number.isdecimal() and len(number) <= 8 for number in numbers):
        return None
    cylinders, heads, sectors = map(int, numbers)
    if not (0 < cylinders <= MOST_CYLINDERS and 0 < heads <= MOST_HEADS and 0 < sectors <= MOST_SECTORS):
        return None
    return Geometry(cylinders, heads, sectors)


class _Sized(Protocol):
    @property
    def size_bytes(self) -> int: ...


class ShapedBySize:
    """The geometry of a disk that knows its size only."""

    @property
    def geometry(self: _Sized) -> Geometry:
        return geometry_of(self.size_bytes // 512)


class ShapedLike:
    """Size, sectors, geometry, and whether it may be written: whatever the disk ``_behind`` it says at the moment."""

    _behind: BlockDevice

    @property
    def size_bytes(self) -> int:
        return self._behind.size_bytes

    @property
    def sector_bytes(self) -> int:
        return self._behind.sector_bytes

    @property
    def geometry(self) -> Geometry:
        return self._behind.geometry

    @property
    def read_only(self) -> bool:
        return self._behind.read_only
