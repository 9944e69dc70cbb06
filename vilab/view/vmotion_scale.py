"""How large a square is, and where each round's squares stand: the numbers behind the picture, no SVG.

::

    ┌ across ┐ gap                      one square is always the same number of bytes: equal areas are equal sizes
    ██ ██ ██     ▪                      a round that is higher than HIGH rows goes on in a column beside it
    ██ ██ ██▄  ▄██   ██
    └ round 1 ┘ └2┘  └3┘   the end      stops: the middles, where the slider stands, too
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

LEFT, RIGHT, END = 44.0, 792.0, 912.0
"""Where rounds stand, and the edge of the place for how it ended."""
SIDE, HIGH = 6.4, 26
BETWEEN = 2.0
_KB = 1024
_UNITS = tuple(_KB << power for power in range(31))
_WIDEST = {5: 22.0, 4: 16.0, 3: 10.0, 2: 6.0, 1: 1.5}
"""Squares side by side, and the least gap between two rounds."""
_MOST_COLUMNS, _MOST_PITCH = 7, 120.0


class Block(msgspec.Struct, frozen=True):
    """One round's squares: ``columns`` of them from ``x`` on."""

    x: float
    width: float
    columns: int

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


class Squares(msgspec.Struct, frozen=True):
    """``unit_bytes``: one square; ``across``: side by side in a column; ``side``: units of the stage."""

    unit_bytes: int
    across: int
    side: float
    blocks: tuple[Block, ...]
    gap: float

    @property
    def column_squares(self) -> int:
        return self.across * HIGH

    def height(self, size_bytes: int) -> float:
        """Of the squares of a round."""
        squares = size_bytes / self.unit_bytes
        return self.side * (HIGH if squares >= self.column_squares else math.ceil(squares / self.across - 1e-9))

    def level(self, size_bytes: int) -> float | None:
        """How high a size is as a line; ``None`` where rounds of it take more than one column."""
        rows = size_bytes / self.unit_bytes / self.across
        return rows * self.side if rows <= HIGH else None


def squares(sizes_bytes: Sequence[int], rounds: int = 0) -> Squares:
    """The finest squares with which all rounds have room. ``rounds``: for how many there has to be room at least."""
    count = max(len(sizes_bytes), rounds, 1)
    sizes = [*sizes_bytes, *([0] * (count - len(sizes_bytes)))]
    most = max(*sizes, 1)
    for least in (260, 100, 0):
        for across, gap in _WIDEST.items():
            for unit in _UNITS:
                if most / unit < least:
                    break
                if unit < 4 * _KB and most >= 100 * 4 * _KB:
                    continue  # a page is as small as it has to be
                made = _fit(sizes, unit, across, gap)
                if made is not None:
                    return made
    side = 0.8 * (RIGHT - LEFT) / count  # more rounds than there is room for columns of squares of the usual size
    unit = next((unit for unit in _UNITS if most / unit <= HIGH), _UNITS[-1])
    pitch = (RIGHT - LEFT) / count
    blocks = tuple(Block(LEFT + pitch * at, side, 1) for at in range(count))
    return Squares(unit, 1, side, blocks, pitch - side)


def _fit(sizes: Sequence[int], unit: int, across: int, least_gap: float) -> Squares | None:
    columns = [max(1, math.ceil(size / unit / (across * HIGH) - 1e-9)) for size in sizes]
    if max(columns) > _MOST_COLUMNS:
        return None
    widths = [count * across * SIDE + (count - 1) * BETWEEN for count in columns]
    gap = (RIGHT - LEFT - sum(widths)) / len(sizes)
    if gap < least_gap:
        return None
    gap = min(gap, _MOST_PITCH - across * SIDE)
    blocks, x = [], LEFT
    for count, width in zip(columns, widths, strict=True):
        blocks.append(Block(x, width, count))
        x += width + gap
    return Squares(unit, across, SIDE, tuple(blocks), gap)


def ticks(most: float) -> tuple[float, ...]:
    """Round numbers from 0 on, three or four steps, of which the last is not below ``most``."""
    most = max(most, 1e-9)
    power = 10.0 ** math.floor(math.log10(most / 3))
    for step in (1, 2, 2.5, 5, 10, 20, 25, 50):
        count = math.ceil(most / (step * power) - 1e-9)
        if count <= 4:
            return tuple(step * power * at for at in range(max(count, 2) + 1))
    raise AssertionError("one of the steps is large enough")
