"""How much is shared, and how much is saved, over the number of equal guests: measured points beside the paper's.

::

    % of touched pages
     80 ┤
     60 ┤      ●────●────●────●  shared 64 %        - - -  the paper's, as far as the playhead
     40 ┤      ○────○────○       reclaimed 52 %
      0 ┤ ●
        └──1────2────3────4────── guests

Every step adds a guest and measures. The lines end at the playhead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.predict import Prediction, measured
from vilab.view.svg import line, number, text
from vilab.view.timeline import timeline
from vilab.view.words import NBSP, grouped, plain

LEFT, RIGHT, TOP, BOTTOM = 64.0, WIDTH - 208.0, 32.0, 316.0
HEIGHT, MOST = 360.0, 80
_GAP = 21.0


class Measured(Protocol):
    """One number of guests."""

    @property
    def guests(self) -> int: ...
    @property
    def touched(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def zero(self) -> int: ...
    @property
    def wrong(self) -> int: ...
    @property
    def shared_percent(self) -> float: ...
    @property
    def saved_percent(self) -> float: ...


class Source(Protocol):
    """Measures when it is asked for the first time."""

    most: int

    def point(self, guests: int) -> Measured: ...


class CurveTrack:
    """``Track`` for a player: position n is n guests.

    Parameters
    ----------
    source : what measures. paper : shared and reclaimed in percent, from one guest on.
    """

    def __init__(
        self, source: Source, question: str, paper: tuple[Sequence[float], Sequence[float]] = ((), ())
    ) -> None:
        self.source, self.question, self.paper = source, question, paper
        self.measured = 0

    @property
    def total(self) -> int:
        return self.source.most

    def go(self, position: int) -> None:
        if position:
            self.source.point(position)
        self.measured = max(self.measured, position)

    def open(self, row: int) -> None:
        """There is nothing more to see of a point."""

    def next_like(self, position: int, direction: int) -> int | None:
        at = position + direction
        return at if 1 <= at <= self.total else None

    def _points(self, position: int) -> list[Measured]:
        return [self.source.point(guests) for guests in range(1, position + 1)]

    def describe(self, position: int) -> str:
        return plain(self._say(position))

    def _say(self, position: int) -> str:
        if not position:
            return "No guest is on yet. Every step adds one more copy of the same guest, and measures."
        now = self.source.point(position)
        who = "1 guest has" if position == 1 else f"{position} guests have"
        words = (
            f"{who} touched {grouped(now.touched)} pages: **{now.shared_percent:.0f} % are shared**, and "
            f"**{now.saved_percent:.0f} % reclaimed**; {grouped(now.frames)} frames are enough."
        )
        if position == 1:
            return f"{words} What a guest shares with itself is its page of zeros."
        if position > 1:
            more = now.frames - self.source.point(position - 1).frames
            words += f" The last guest cost {grouped(more)}."
        return words if not now.wrong else f"{words} **{now.wrong} guests found wrong bytes.**"

    def picture(self, position: int) -> Picture:
        when = f"{position}{NBSP}guest{'' if position == 1 else 's'}"
        say = self._say(position)
        value = f"{plain(when)}. {plain(say)}"
        line_of_time = timeline((), position, self.total, LEFT, RIGHT)
        return Picture(
            position, self.total, when, say, value, self._draw(position), line_of_time, (self._panel(position),)
        )

    def _panel(self, position: int) -> Panel:
        head = (
            Cell("guests"), Cell("touched", "r"), Cell("frames", "r"), Cell("of zeros", "r"), Cell("shared", "r"),
            Cell("paper", "r"), Cell("reclaimed", "r"), Cell("paper", "r"),
        )  # fmt: skip
        rows = []
        for at, each in enumerate(self._points(position)):
            papers = [f"{column[at]:g} %" if at < len(column) else "" for column in self.paper]
            rows.append(
                Row(
                    (
                        Cell(str(each.guests)), Cell(grouped(each.touched), "r"), Cell(grouped(each.frames), "r"),
                        Cell(str(each.zero), "r"), Cell(f"{each.shared_percent:.1f} %", "r c-shared"),
                        Cell(papers[0], "r soft"), Cell(f"{each.saved_percent:.1f} %", "r c-guest"),
                        Cell(papers[1], "r soft"),
                    ),
                    "now" if at + 1 == position else "", at + 1,
                )
            )  # fmt: skip
        return Panel("Measured, beside the paper's", head, tuple(rows), "log", "Nothing has been measured yet.")

    # Drawing -------------------------------------------------------------------------------------------------------

    def _x(self, guests: float) -> float:
        return LEFT + (RIGHT - LEFT) * guests / self.total

    def _y(self, percent: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * percent / MOST

    def _draw(self, position: int) -> Stage:
        under = [text(0, TOP - 12, "% of touched pages", "s soft")]
        for percent in range(0, MOST + 1, 20):
            y = self._y(percent)
            hair = "" if not percent else 'style="stroke:var(--vl-line)"'
            under.append(line(f"M{number(LEFT)} {number(y)}H{number(RIGHT)}", "axis" if not percent else "tick", hair))
            under.append(text(LEFT - 10, y + 4, str(percent), "s soft end"))
        under += [text(self._x(n), BOTTOM + 18, str(n), "s soft mid") for n in range(1, self.total + 1)]
        under.append(text(RIGHT, BOTTOM + 38, "equal guests", "s soft end"))
        over, labels = [], []
        points = self._points(position)
        curves = (
            ("shared", "shared", [p.shared_percent for p in points], self.paper[0]),
            ("reclaimed", "guest", [p.saved_percent for p in points], self.paper[1]),
        )
        for name, hue, ours, paper in curves:
            theirs = list(paper[:position])
            if theirs:
                over.append(self._line(theirs, hue, "stroke-dasharray:6 5;stroke-width:1.5"))
            over.append(self._line(ours, hue, "stroke-width:2.5"))
            over += [self._mark(at, value, name, hue) for at, value in enumerate(ours, 1)]
            if ours:
                beside = f" (paper {theirs[-1]:g})" if len(theirs) == position else ""
                labels.append((self._y(ours[-1]), f"{name} {ours[-1]:.0f} %{beside}", hue))
        over += self._labels(labels, self._x(position))
        return Stage(
            label=f"{self.question} {self.describe(position)}", height=HEIGHT, under="".join(under), over="".join(over),
            playhead=self._x(position), playhead_height=BOTTOM,
        )  # fmt: skip

    def _line(self, values: Sequence[float], hue: str, style: str) -> str:
        path = "L".join(f"{number(self._x(at))} {number(self._y(value))}" for at, value in enumerate(values, 1))
        return f'<path d="M{path}" style="fill:none;stroke:var(--vl-{hue}-ink);{style}"/>' if values else ""

    def _mark(self, at: int, value: float, name: str, hue: str) -> str:
        x, y = self._x(at), self._y(value)
        if name == "shared":
            return f'<circle cx="{number(x)}" cy="{number(y)}" r="5" style="fill:var(--vl-{hue}-ink)"/>'
        box = f'x="{number(x - 4.5)}" y="{number(y - 4.5)}" width="9" height="9"'
        return f'<rect {box} style="fill:var(--vl-surface);stroke:var(--vl-{hue}-ink);stroke-width:2"/>'

    def _labels(self, ends: list[tuple[float, str, str]], x: float) -> list[str]:
        """Beside the ends of the lines, none upon another."""
        drawn: list[str] = []
        last = BOTTOM + _GAP
        for y, words, hue in sorted(ends, reverse=True):
            last = min(y + 5, last - _GAP)
            drawn.append(text(x + 14, last, words, f"b {hue}"))
        return drawn

    # Questions -----------------------------------------------------------------------------------------------------

    def ask(self, position: int) -> Prediction | None:
        """Before the second guest, and before the end."""
        if position == 1:
            return self._how_much(
                2, "A second guest, cloned from the first, with a program of its own. How much of what both have "
                "touched will be shared?", "The jump at two: all that they have in common is there twice.",
            )  # fmt: skip
        if position == 3 and self.total > 3:
            return self._reclaimed_at_the_end()
        return None

    def _how_much(self, guests: int, question: str, why: str) -> Prediction:
        return measured(
            question, ("less than a quarter", "about a third", "about two thirds", "nearly all"),
            (25, 45, 75), lambda: self.source.point(guests).shared_percent,
            lambda percent: f"{percent:.0f} %. {why}",
        )  # fmt: skip

    def _reclaimed_at_the_end(self) -> Prediction:
        def right() -> int:
            last, third = self.source.point(self.total), self.source.point(3)
            more = last.saved_percent - third.saved_percent
            return 0 if more < 2 else 1 if last.saved_percent < last.shared_percent else 2

        return Prediction(
            f"Shared stays where it is. And reclaimed, up to {self.total} guests?",
            ("It stays, too.", "It rises, and comes closer to shared.", "It passes shared."), right,
            "Of N copies of a page N are shared and N - 1 reclaimed: one copy has to stay.",
        )  # fmt: skip
