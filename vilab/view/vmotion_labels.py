"""Words that do not stand on each other: a place is tried after another, and taken if nothing is there yet.

How wide words are is not known here. They are taken to be as wide as in the widest font that a system may have
(DejaVu Sans), so what fits here fits everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_NARROW, _WIDE = frozenset("iljtfrI.,:;' ()|!"), frozenset("mwMWB%")


def width(words: str, size: float = 14.0, bold: bool = False) -> float:
    """Units of the stage, in the widest font."""
    ems = sum(0.42 if each in _NARROW else 0.98 if each in _WIDE else 0.65 for each in words)
    return ems * size * (1.1 if bold else 1.0)


class Box(msgspec.Struct, frozen=True):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


class Place(msgspec.Struct, frozen=True):
    """Where words may stand: ``anchor`` is ``start``, ``mid`` or ``end``; ``y``: their base line."""

    x: float
    y: float
    anchor: str = "start"

    @property
    def css(self) -> str:
        return "" if self.anchor == "start" else self.anchor


class Space:
    """What is taken of a part of the stage."""

    def __init__(self, left: float, top: float, right: float, bottom: float) -> None:
        self.edge = Box(left, top, right, bottom)
        self.taken: list[Box] = []

    def take(self, left: float, top: float, right: float, bottom: float) -> None:
        self.taken.append(Box(left, top, right, bottom))

    def line(self, points: Iterable[tuple[float, float]], half: float = 4.0) -> None:
        """A line through points is taken, a little box after another."""
        before: tuple[float, float] | None = None
        for x, y in points:
            if before is not None:
                parts = max(1, int(max(abs(x - before[0]), abs(y - before[1])) // 8))
                for at in range(parts + 1):
                    px = before[0] + (x - before[0]) * at / parts
                    py = before[1] + (y - before[1]) * at / parts
                    self.take(px - half, py - half, px + half, py + half)
            else:
                self.take(x - half, y - half, x + half, y + half)
            before = (x, y)

    def put(self, wide: float, size: float, places: Iterable[Place], lines: int = 1) -> Place | None:
        """The first of the places that is free: it is taken. ``y`` is the base line of the first of the lines."""
        for place in places:
            box = box_of(place, wide, size, lines)
            if self._inside(box) and not any(box.meets(other) for other in self.taken):
                self.taken.append(box)
                return place
        return None

    def _inside(self, box: Box) -> bool:
        edge = self.edge
        return box.left >= edge.left and box.right <= edge.right and box.top >= edge.top and box.bottom <= edge.bottom


LEADING = 18.0


def box_of(place: Place, wide: float, size: float, lines: int = 1) -> Box:
    left = place.x - {"start": 0.0, "mid": wide / 2, "end": wide}[place.anchor]
    return Box(left, place.y - size * 0.85, left + wide, place.y + size * 0.3 + LEADING * (lines - 1))
