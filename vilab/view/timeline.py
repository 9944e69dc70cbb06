"""The slider over time: one axis, a tick a step, and above it the glyphs of what has happened so far.

::

         v        v     x                     glyphs: only up to the playhead
    |====|===|====|=====O----|-----|-----|    lived through: 3 px, the rest 1 px

Above 60 steps ticks would be a grey bar: they are left out, and events that stand too close for glyphs of their own
give way to a line of density in the same colour (a wrong answer stays a glyph).
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import Timeline
from vilab.view.svg import glyph, number

MOST_TICKS = 60
AXIS_Y, GLYPH_Y, HEIGHT = 24.0, 8.0, 36
LEFT, RIGHT = 12.0, 900.0
_GLYPH_GAP = 11.0
_BIN = 4.0
_DENSITY_HEIGHT = 12.0


def timeline(marks: Sequence[tuple[int, str]], position: int, total: int, left: float = LEFT, right: float = RIGHT,
             window: tuple[int, int] | None = None) -> Timeline:  # fmt: skip
    """Draw it. ``marks`` are (position, kind of event), in order; those after ``position`` are not drawn.

    ``window``: which positions the picture above shows, where that is not all of them.
    """
    unit = (right - left) / max(total, 1)
    lived = [(at, kind) for at, kind in marks if at <= position]
    parts = [f'<line x1="{number(left)}" y1="{AXIS_Y}" x2="{number(right)}" y2="{AXIS_Y}" class="axis"/>']
    if window is not None:
        first, last = (left + unit * at for at in window)
        width = max(last - first, 2.0)
        parts.append(f'<rect x="{number(first)}" y="{AXIS_Y - 6}" width="{number(width)}" height="12" class="window"/>')
    places = [(left + unit * at, kind) for at, kind in lived]
    if total <= MOST_TICKS:
        ticks = "".join(f"M{number(left + unit * at)} {AXIS_Y - 4}v8" for at in range(total + 1))
        parts.append(f'<path d="{ticks}" class="tick"/>')
        parts.extend(glyph(kind, x, GLYPH_Y, 5) for x, kind in places)
    else:
        alone, crowd = _apart(places)
        parts.append(_density(crowd))
        parts.extend(glyph(kind, x, GLYPH_Y, 5) for x, kind in alone)
    return Timeline(left, right, "".join(parts))


def _apart(marks: list[tuple[float, str]]) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
    """Those that have room for a glyph, and the crowd. A wrong answer is always a glyph, once per place."""
    alone: list[tuple[float, str]] = []
    crowd: list[tuple[float, str]] = []
    for index, (x, kind) in enumerate(marks):
        before = x - marks[index - 1][0] if index else _GLYPH_GAP
        after = marks[index + 1][0] - x if index + 1 < len(marks) else _GLYPH_GAP
        if kind == "error":
            room = not (alone and alone[-1][1] == "error" and x - alone[-1][0] < _GLYPH_GAP)
        else:
            room = min(before, after) >= _GLYPH_GAP
        (alone if room else crowd).append((x, kind))
    return alone, crowd


def _density(marks: list[tuple[float, str]]) -> str:
    """How many events there were, in bins of 4 units, as heights over the axis; in the colour of their glyph."""
    counts: dict[str, dict[int, int]] = {}
    for x, kind in marks:
        bins = counts.setdefault("guest" if kind == "true_fault" else "error" if kind == "error" else "vmm", {})
        bins[int(x // _BIN)] = bins.get(int(x // _BIN), 0) + 1
    most = max((count for bins in counts.values() for count in bins.values()), default=1)
    drawn = []
    for who, bins in counts.items():
        strokes = "".join(
            f"M{number((at + 0.5) * _BIN)} {GLYPH_Y + 5}v{number(-max(2.0, _DENSITY_HEIGHT * count / most))}"
            for at, count in sorted(bins.items())
        )
        drawn.append(f'<path d="{strokes}" class="density {who}"/>')
    return "".join(drawn)
