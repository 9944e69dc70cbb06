"""What left the guest while it booted, slice by slice: a row for each reason, a column for each piece of the run.

::

    rdtsc        ▂ ▁ ▁ ▂ █ █ ▇ ┃                         31,204      grey: before, orange: in this piece
    iret                 ▁ ▂ ▂ ┃                          2,118
    out          ▃ ▃ ▂ ▂ ▁ ▁ ▁ ┃                            940
                               ┃ what comes is not drawn

All rows share one scale. They stand in the order in which their reasons first came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.svg import glyph, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import counted, duration, grouped, plain

LEFT, RIGHT, TOP = 148.0, WIDTH - 104.0, 28.0
_PITCH, _HEIGHT = 46.0, 36.0
MOST_ROWS, MOST_COLUMNS, CONSOLE_LINES = 6, 60, 8
_LEAST_HEIGHT = 1.5

WHY = {
    "chain": "an exit is linked", "ret_miss": "a return, looked up", "indirect_miss": "a jump, looked up",
    "out": "a port is written", "in": "a port is read", "#PF": "a page fault", "npf": "a nested page fault",
    "rdtsc": "what time is it?", "iret": "back from a trap", "mov to cr": "a control register",
    "mov to seg": "a segment", "pop seg": "a segment", "invlpg": "a TLB entry", "hlt": "nothing to do",
    "interrupt": "a timer tick", "cpuid": "who are you?", "int 80": "a system call",
}  # fmt: skip
"""Reasons in words, where there is room for few."""


class Moment(msgspec.Struct, frozen=True):
    """One slice of a run: when it ended, what left the guest in it, and how many bytes it had written by then."""

    virtual_ns: int
    exits: Mapping[str, int]
    written_bytes: int


class _Column(msgspec.Struct, frozen=True):
    virtual_ns: int
    exits: Counter[str]
    console: str


class ExitsTrack:
    """A run that has been, as something to play.

    Parameters
    ----------
    moments : its slices, in order.
    consoles : what it had written at the end of each.
    most_columns : slices are put together to so many columns; one is a step.
    """

    def __init__(
        self, question: str, moments: Sequence[Moment], consoles: Sequence[str], most_columns: int = MOST_COLUMNS
    ) -> None:
        self.question = question
        each = -(-len(moments) // most_columns)
        self._columns: list[_Column] = []
        for first in range(0, len(moments), each):
            piece = moments[first : first + each]
            total: Counter[str] = Counter()
            for moment in piece:
                total.update(moment.exits)
            self._columns.append(_Column(piece[-1].virtual_ns, total, consoles[first + len(piece) - 1]))
        self._reasons = self._rows()

    def _rows(self) -> list[str]:
        total: Counter[str] = Counter()
        first: dict[str, int] = {}
        for at, column in enumerate(self._columns):
            total.update(column.exits)
            for reason in column.exits:
                first.setdefault(reason, at)
        most = [reason for reason, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:MOST_ROWS]]
        return sorted(most, key=lambda reason: (first[reason], reason))

    @property
    def total(self) -> int:
        return len(self._columns)

    def go(self, position: int) -> None:
        """Nothing moves: the run has been."""

    def open(self, row: int) -> None:
        """There are no rows to open."""

    def next_like(self, position: int, direction: int) -> int | None:
        """The next column with the same reason in front."""
        front = self._front(position)
        at = position + direction
        while 1 <= at <= self.total:
            if self._front(at) == front:
                return at
            at += direction
        return None

    def _front(self, position: int) -> str:
        exits = self._columns[position - 1].exits if position else Counter[str]()
        return min(exits, key=lambda reason: (-exits[reason], reason)) if exits else ""

    def so_far(self, position: int) -> Counter[str]:
        """Exits by reason up to there."""
        total: Counter[str] = Counter()
        for column in self._columns[:position]:
            total.update(column.exits)
        return total

    def describe(self, position: int) -> str:
        return plain(self._say(position))

    def _say(self, position: int) -> str:
        if not position:
            return "The machine is off. Press Step to switch it on."
        column = self._columns[position - 1]
        count = sum(column.exits.values())
        words = f"Up to **{duration(column.virtual_ns)}**: {counted(count, 'exit')} in this piece"
        front = self._front(position)
        if front:
            words += f", {grouped(column.exits[front])} of them `{front}`"
        last = next((line for line in reversed(column.console.splitlines()) if line.strip()), "")
        before = self._columns[position - 2].console if position > 1 else ""
        if column.console != before and last:
            return f"{words}. The guest has just written: `{last[:70].replace('`', ' ')}`"
        return f"{words}. The guest writes nothing."

    def picture(self, position: int) -> Picture:
        say = self._say(position)
        when = duration(self._columns[position - 1].virtual_ns) if position else "off"
        console = self._columns[position - 1].console if position else ""
        lines = [line for line in console.splitlines() if line.strip()][-CONSOLE_LINES:]
        panel = Panel(
            "Serial console", (Cell(""),), tuple(Row((Cell(line[:110], "mono"),)) for line in lines), "state",
            "nothing yet",
        )  # fmt: skip
        value = f"step {position} of {self.total}, {plain(when)}"
        return Picture(
            position, self.total, when, say, value, self._draw(position),
            timeline((), position, self.total, LEFT, RIGHT), (panel,),
        )  # fmt: skip

    def _draw(self, position: int) -> Stage:
        unit = (RIGHT - LEFT) / max(self.total, 1)
        most = max((count for column in self._columns for count in column.exits.values()), default=1)
        height = TOP + _PITCH * MOST_ROWS
        so_far = self.so_far(position)
        parts = [text(WIDTH, 14, "exits so far", "s soft end")]
        if position:
            parts.append(text(0, 14, "busy time only", "s soft"))
        for row, reason in enumerate(self._reasons):
            base = TOP + _PITCH * row + _HEIGHT
            parts.append(rect(LEFT, base, RIGHT - LEFT, 1, "var(--vl-line)"))
            if not so_far[reason]:
                continue
            now = bool(position) and self._columns[position - 1].exits[reason] > 0
            parts.append(text(0, base - 15, reason, "m b vmm" if now else "m b"))
            parts.append(text(0, base, WHY.get(reason, ""), "s soft"))
            for at, column in enumerate(self._columns[:position]):
                count = column.exits[reason]
                if count:
                    tall = max(_HEIGHT * count / most, _LEAST_HEIGHT)
                    fill = "var(--vl-vmm-fill)" if at + 1 == position else "var(--vl-host-fill)"
                    parts.append(rect(LEFT + unit * at + 0.5, base - tall, max(unit - 1, 1), tall, fill))
            words = grouped(so_far[reason])
            parts.append(text(WIDTH, base, words, "b end vmm" if now else "b end"))
        front = self._front(position)
        if front in self._reasons:
            y = TOP + _PITCH * self._reasons.index(front) + _HEIGHT
            parts.append(glyph("trap", WIDTH - 14 - 8.4 * len(grouped(so_far[front])), y - 5, 6))
        if not position:
            parts.append(text((LEFT + RIGHT) / 2, height / 2, "The machine is off. Press Step.", "mid l b"))
        return Stage(
            label=f"{self.question} {self.describe(position)}", height=height, under="".join(parts),
            playhead=LEFT + unit * position, playhead_height=height,
        )  # fmt: skip
