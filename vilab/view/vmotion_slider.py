"""A slider whose steps stand under what they show: under the squares of their round, however far apart those are.

::

         ▶▶           ▶▶     ▶▶ ▼  ▶▶   ...  ▶▶      ▶▶      glyphs: only up to the playhead
    ├────┿━━━━━━━━━━━━┿━━━━━━┿━━┿━━O────┼─────┼───────┤
    44  145          290    362        434   794     869     stops

The page reckons a position as ``left + (right - left) * n / total``. So that its knob stands at ``stops[n]``, ``right``
is chosen anew for every position; ``data-stops`` says where all of them are, for a page that wants to know.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import Timeline
from vilab.view.svg import glyph, number
from vilab.view.timeline import AXIS_Y, GLYPH_Y, MOST_TICKS
from vilab.view.vmotion_run import FAILED, WRITERS

_HALF, _ROOM = 5.0, 11.0


def slider(kinds: Sequence[str], position: int, stops: Sequence[float]) -> Timeline:
    """``stops``: where each position stands, from 0 on. ``kinds``: of the steps, from 1 on; later ones stay hidden."""
    left, total = stops[0], max(len(stops) - 1, 1)
    right = left + (stops[position] - left) * total / position if position else stops[-1]
    where = " ".join(number(x) for x in stops)
    axis = f"M{number(left)} {AXIS_Y}H{number(max(stops[-1], left + 1))}"
    parts = [f'<path d="{axis}" class="axis" data-stops="{where}"/>']
    if total <= MOST_TICKS:
        ticks = "".join(f"M{number(x)} {AXIS_Y - 4}v8" for x in stops)
        parts.append(f'<path d="{ticks}" class="tick"/>')
    last = -_ROOM
    for x, kind in zip(stops[1:], kinds[:position], strict=False):
        if x - last >= _ROOM or kind in (WRITERS, FAILED):
            parts.append(_mark(kind, x))
            last = x
    return Timeline(left, right, "".join(parts))


def _mark(kind: str, x: float) -> str:
    if kind == WRITERS:
        return glyph("trap", x, GLYPH_Y, _HALF)
    if kind == FAILED:
        return glyph("error", x, GLYPH_Y, _HALF)
    arrows = "".join(f"M{number(x + at)} {GLYPH_Y - 4}v8l5 -4Z" for at in (-5, 0))
    return f'<path d="{arrows}" data-kind="{kind}" style="fill:var(--vl-ev-migrate)"/>'
