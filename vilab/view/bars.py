"""Bars on one scale: what each way of doing something comes to, and what that is made of.

::

    in                 IN from port 80h                                      cycles
    native             ██████████████████ 3,209
    no VMM             ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ paper 3,209
    software           ███████ 1,254  ✓ least                  dark: the processor's own work
    bt                 ┄ paper 216                             orange: the monitor's
    nested             ██████████████████████████████████████████ 7,432
    svm

One step is the next scene; all bars of a scene share one scale that begins at 0. Bars grow to the right, so that names
can be written out. What somebody else has measured is a dashed outline below the bar that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from vilab.view.frame import WIDTH, Panel, Picture, Stage
from vilab.view.step_track import StepTrack
from vilab.view.svg import glyph, number, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import html, plain

LEFT, VALUE_ROOM, TOP = 168.0, 168.0, 40.0
RIGHT = WIDTH - VALUE_ROOM
_PITCH, _BAR, _OUTLINE = 50.0, 18.0, 8.0
_LEAST_WIDTH = 1.5
"""A bar is never narrower: there is something, even if it is little."""


class Part(msgspec.Struct, frozen=True):
    """A stretch of a bar. ``who``: ``host`` (the processor), ``guest`` or ``vmm``."""

    value: float
    who: str


class Bar(msgspec.Struct, frozen=True):
    """``name`` and ``note`` stand before it. ``other``: what somebody else has measured, called ``other_name``."""

    name: str
    parts: tuple[Part, ...]
    note: str = ""
    other: float | None = None
    other_name: str = "paper"
    best: bool = False

    @property
    def value(self) -> float:
        return sum(part.value for part in self.parts)


class Bars(msgspec.Struct, frozen=True):
    """One scene. ``best``: the word behind the bars that are marked."""

    name: str
    what: str
    unit: str
    bars: tuple[Bar, ...]
    say: str
    best: str = "least"
    panels: tuple[Panel, ...] = ()


def write(value: float) -> str:
    """``3,284``; below ten with a decimal, where there is one."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.1f}"


def draw(scene: Bars | None, names: Sequence[tuple[str, str]], height: float, empty: str = "") -> Stage:
    """``names``: all (name, note) of the picture; without a scene they stand alone, and ``empty`` in their midst."""
    over: list[str] = []
    if scene is None:
        for row, (name, note) in enumerate(names):
            over.append(_label(row, name, note))
        over.append(text((LEFT + RIGHT) / 2, height / 2, empty, "mid l b"))
        return Stage(label=empty, height=height, over="".join(over))
    most = max((max(bar.value, bar.other or 0) for bar in scene.bars), default=0) or 1
    scale = (RIGHT - LEFT) / most
    over.append(text(0, 20, scene.name, "l b"))
    over.append(text(LEFT, 20, scene.what, "soft"))
    over.append(text(WIDTH, 20, scene.unit, "soft end"))
    bottom = TOP + _PITCH * len(names) - 10
    over.append(f'<path d="M{number(LEFT)} {number(TOP - 6)}V{number(bottom)}" class="axis"/>')
    for row, (name, note) in enumerate(names):
        over.append(_label(row, name, note))
        bar = next((each for each in scene.bars if each.name == name), None)
        if bar is not None:
            over.append(_bar(bar, row, scale, scene.best))
    return Stage(label=f"{scene.name}. {plain(scene.say)}", height=height, over="".join(over))


def _label(row: int, name: str, note: str) -> str:
    y = TOP + _PITCH * row
    return text(0, y + 14, name, "b") + text(0, y + 32, note, "s soft")


def _bar(bar: Bar, row: int, scale: float, best: str) -> str:
    y, x = TOP + _PITCH * row, LEFT
    drawn = []
    for part in bar.parts:
        width = max(part.value * scale, _LEAST_WIDTH) if part.value > 0 else 0
        drawn.append(rect(x, y, width, _BAR, f"var(--vl-{part.who}-fill)"))
        x += width
    value = write(bar.value)
    drawn.append(text(x + 8, y + 14, value, "l b shared" if bar.best else "b"))
    if bar.best:
        drawn.append(glyph("right", x + 22 + 9.6 * len(value), y + 9, 6))
        drawn.append(text(x + 36 + 9.6 * len(value), y + 14, best, "shared"))
    if bar.other is not None:
        width = max(bar.other * scale, _LEAST_WIDTH)
        box = "fill:none;stroke:var(--vl-text-soft);stroke-width:1.5;stroke-dasharray:4 3"
        drawn.append(
            f'<rect x="{number(LEFT)}" y="{number(y + _BAR + 5)}" width="{number(width)}" height="{number(_OUTLINE)}" '
            f'style="{box}"/>'
        )
        drawn.append(text(LEFT + width + 8, y + _BAR + 14, f"{bar.other_name} {write(bar.other)}", "s soft"))
    return "".join(drawn)


class BarsTrack(StepTrack):
    """Scenes as something that can be played.

    Parameters
    ----------
    scenes : one for each step, in teaching order; each is made when it is asked for the first time.
    names : every (name, note) that a bar of the picture may have, from top to bottom.
    empty : what stands there before the first step.
    """

    def __init__(
        self, question: str, scenes: Sequence[Callable[[], Bars]], names: Sequence[tuple[str, str]], empty: str
    ) -> None:
        self.question = question
        self.names = tuple(names)
        self.empty = empty
        self._makers = tuple(scenes)
        self._made: dict[int, Bars] = {}

    @property
    def total(self) -> int:
        return len(self._makers)

    def scene(self, position: int) -> Bars:
        """Of step ``position``, from 1."""
        if position not in self._made:
            self._made[position] = self._makers[position - 1]()
        return self._made[position]

    def sentence(self, position: int) -> str:
        return self.scene(position).say if position else self.empty

    def picture(self, position: int) -> Picture:
        height = TOP + _PITCH * len(self.names)
        scene = self.scene(position) if position else None
        when = html(scene.name) if scene else "nothing is shown yet"
        say = scene.say if scene else self.empty
        return Picture(
            position, self.total, when, say, f"step {position} of {self.total}, {when}",
            draw(scene, self.names, height, plain(self.empty)), timeline((), position, self.total),
            scene.panels if scene else (),
        )  # fmt: skip
