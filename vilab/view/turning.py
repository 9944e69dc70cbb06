"""Several ways, as lines over what one event costs: where does their order turn?

::

    times native                                        ● hardware 17.6
     20 ┤                                        ____---
        │                             ____-----
      5 ┤ ───────────────────●────────────────────────── software 4.6
        │          ____----- turns at 2,140
      1 ┤ -----
        └──────────────────────────────────────────────  cycles of one exit

The lines end at the playhead: what comes to the right of it is for predicting. Every line is straight, because a way
that takes ``n`` events a round costs ``a + n x``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from vilab.view.frame import WIDTH, Picture, Stage
from vilab.view.svg import line, number, text
from vilab.view.timeline import timeline
from vilab.view.words import NBSP, grouped, plain

LEFT, RIGHT, TOP, BOTTOM = 64.0, WIDTH - 168.0, 32.0, 300.0
HEIGHT = 344.0
_HUES = {"software": "vmm", "hardware": "guest", "hardware*": "guest", "nested": "shared", "para": "host"}
_DASHES = {"hardware": "", "software": "", "nested": "8 4", "para": "2 4"}
_LABEL_GAP = 20.0


class Way(msgspec.Struct, frozen=True):
    """``fixed + events * x``, in the picture's unit."""

    name: str
    fixed: float
    events: float

    def at(self, x: float) -> float:
        return self.fixed + self.events * x


def turning_point(one: Way, other: Way) -> float | None:
    """Where two ways cost the same; ``None`` if nowhere for a positive cost."""
    if one.events == other.events:
        return None
    x = (one.fixed - other.fixed) / (other.events - one.events)
    return x if x > 0 else None


class TurningTrack:
    """One step makes the event dearer by ``step``, up to ``most``.

    Parameters
    ----------
    ways : the lines; the first is the one that the others are compared with.
    unit, event : what the height and what the width mean.
    """

    def __init__(self, question: str, ways: Sequence[Way], unit: str, event: str, step: int, most: int) -> None:
        self.question = question
        self.ways = tuple(ways)
        self.unit, self.event, self.step = unit, event, step
        self.total = most // step

    def go(self, position: int) -> None:
        """Nothing moves: the lines are arithmetic on what was counted."""

    def open(self, row: int) -> None:
        """There are no rows."""

    def next_like(self, position: int, direction: int) -> int | None:
        """The step on which the order turns next."""
        turns = [math.floor(x / self.step) + 1 for x in self._turns().values()]
        found = [at for at in turns if (at - position) * direction > 0 and at <= self.total]
        return min(found, key=lambda at: abs(at - position)) if found else None

    def _turns(self) -> dict[str, float]:
        first = self.ways[0]
        found = {way.name: turning_point(first, way) for way in self.ways[1:]}
        return {name: x for name, x in found.items() if x is not None}

    def describe(self, position: int) -> str:
        return plain(self._say(position))

    def _say(self, position: int) -> str:
        if not position:
            return f"{self.event[0].upper()}{self.event[1:]} is free. Press Step to make it dearer."
        cost = position * self.step
        values = ", ".join(f"{way.name} {way.at(cost):.2f}" for way in self.ways)
        words = f"At **{grouped(cost)} cycles** for {self.event}: {values} {self.unit}."
        first = self.ways[0]
        for name, x in self._turns().items():
            way = next(each for each in self.ways if each.name == name)
            dearer, cheaper = (way, first) if way.at(cost) > first.at(cost) else (first, way)
            if x < cost:
                words += f" The order turned at **{grouped(round(x))}**: now {cheaper.name} is the cheaper one."
            else:
                words += f" {cheaper.name.capitalize()} is still cheaper than {dearer.name}."
        return words

    def picture(self, position: int) -> Picture:
        when = f"{grouped(position * self.step)}{NBSP}cycles"
        say = self._say(position)
        track = timeline((), position, self.total, LEFT, RIGHT)
        return Picture(position, self.total, when, say, f"{plain(when)}, {plain(say)}", self._draw(position), track)

    def _draw(self, position: int) -> Stage:
        most_x = self.total * self.step
        most_y = _nice(max(way.at(most_x) for way in self.ways))
        x_of = (RIGHT - LEFT) / most_x
        y_of = (BOTTOM - TOP) / most_y
        now = position * self.step
        under = [text(0, TOP - 12, self.unit, "s soft")]
        for share in range(5):
            value = most_y * share / 4
            y = BOTTOM - value * y_of
            css = "axis" if not share else "tick"
            extra = "" if not share else 'style="stroke:var(--vl-line)"'
            under.append(line(f"M{number(LEFT)} {number(y)}H{number(RIGHT)}", css, extra))
            under.append(text(LEFT - 10, y + 4, f"{value:g}", "s soft end"))
            x = LEFT + (RIGHT - LEFT) * share / 4
            under.append(text(x, BOTTOM + 18, grouped(round(most_x * share / 4)), "s soft mid"))
        under.append(text(RIGHT, BOTTOM + 38, f"cycles of {self.event}", "s soft end"))
        over, ends = [], []
        for way in self.ways:
            hue, dash = _HUES.get(way.name, "host"), _DASHES.get(way.name, "")
            y0, y1 = BOTTOM - way.at(0) * y_of, BOTTOM - way.at(now) * y_of
            x1 = LEFT + now * x_of
            style = f"fill:none;stroke:var(--vl-{hue}-ink);stroke-width:2.5;stroke-dasharray:{dash or 'none'}"
            over.append(f'<path d="M{number(LEFT)} {number(y0)}L{number(x1)} {number(y1)}" style="{style}"/>')
            over.append(f'<circle cx="{number(x1)}" cy="{number(y1)}" r="4" style="fill:var(--vl-{hue}-ink)"/>')
            ends.append((y1, way, hue))
        over.extend(self._labels(ends, LEFT + now * x_of, now))
        over.extend(self._marks(now, x_of, y_of))
        return Stage(
            label=f"{self.question} {self.describe(position)}", height=HEIGHT, under="".join(under), over="".join(over),
            playhead=LEFT + now * x_of, playhead_height=BOTTOM,
        )  # fmt: skip

    def _labels(self, ends: list[tuple[float, Way, str]], x: float, now: float) -> list[str]:
        """Names at the ends of the lines, none upon another."""
        drawn: list[str] = []
        last = math.inf
        for y, way, hue in sorted(ends, key=lambda end: -end[0]):
            at = min(y + 5, last - _LABEL_GAP, BOTTOM - 2)
            last = at
            drawn.append(text(x + 12, at, f"{way.name} {way.at(now):.1f}", f"b {hue}"))
        return drawn

    def _marks(self, now: float, x_of: float, y_of: float) -> list[str]:
        drawn = []
        for x in self._turns().values():
            if x < now:
                at, y = LEFT + x * x_of, BOTTOM - self.ways[0].at(x) * y_of
                drawn.append(f'<circle cx="{number(at)}" cy="{number(y)}" r="7" class="wrong"/>')
                drawn.append(text(at - 10, y - 12, f"turns at {grouped(round(x))}", "l b fault end"))
        return drawn


def _nice(value: float) -> float:
    """The next round number that four steps reach."""
    unit: float = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next(unit * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if unit * step >= value)
