"""Where a disk's time goes: how long it works, how long its requests wait, and how long each of them takes.

::

    the disk          ███████████████████████████░░           works, or has nothing to do
                      works 15.3 ms          idle 0.1 ms
    its requests      ███████████████████████████▨▨▨▨▨▨▨▨▨    are served, or wait for others
                      served 15.3 ms      waiting 5.0 ms
                                                               one block a request
    they took                ■                                 deepest queue
                             ■    ■                            2
                             ■    ■    ■
                    ──┬────┬────┬────┬────┬────┬──
                     0.5  1.0  2.0  4.1  8.2  16.4 ms          each column: twice the time of the one before

Both bars share one scale, and what is dark has the same length in both: a request is served while the disk works. One
step is one request that has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from vilab.storage.disk_statistics import BINS, OPERATIONS, DiskStatistics
from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.step_track import StepTrack
from vilab.view.svg import line, number, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import duration, grouped, plain

LEFT, RIGHT, HEIGHT = 128.0, 744.0, 340.0
DISK_Y, REQUESTS_Y, BAR = 12.0, 78.0, 22.0
TOP, BOTTOM = 152.0, 288.0
"""Of the histogram."""
FIRST_BIN, LAST_BIN = 7, 16
"""128 us to 131 ms; further where a request has taken another time."""
NOBODY_NS = 1000
"""Less than a microsecond is not said: it would be written as nothing."""
_BLOCK = 24.0
_LETTER = 9.0
"""Room for a letter at 14 px in the widest font, bold."""
_PLURALS = {"read": "reads", "write": "writes", "flush": "flushes", "unmap": "unmaps"}


class Moment(msgspec.Struct, frozen=True):
    """A request has ended. ``at_ns``: since the first one was given; ``statistics``: of the disk, as they are now."""

    name: str
    at_ns: int
    statistics: DiskStatistics


class Source(Protocol):
    """What happened at one disk. ``lanes``: how many requests it can serve at a time."""

    @property
    def lanes(self) -> int: ...

    def moments(self) -> Sequence[Moment]: ...


class DiskStatisticsTrack(StepTrack):
    """``Track`` for a player: a request a step."""

    def __init__(self, source: Source, question: str) -> None:
        self.source, self.question = source, question
        self.made = tuple(source.moments())

    @property
    def total(self) -> int:
        return len(self.made)

    def kind_of(self, position: int) -> tuple[int | None]:
        """Requests that took about as long are alike."""
        return (self._column(position),)

    def figures(self, position: int) -> DiskStatistics:
        """As they are after so many requests."""
        return self.made[position - 1].statistics if position else DiskStatistics()

    def idle_ns(self, position: int) -> int:
        """How long lanes had nothing to do until then."""
        elapsed_ns = self.made[position - 1].at_ns if position else 0
        return max(0, self.source.lanes * elapsed_ns - self.figures(position).busy_ns)

    def _column(self, position: int) -> int | None:
        """Where the histogram has become higher with this request; ``None`` for one that was not completed."""
        before, now = self.figures(position - 1).latency_histogram, self.figures(position).latency_histogram
        return next((at for at in range(BINS) if now[at] > before[at]), None)

    # Words ---------------------------------------------------------------------------------------------------------

    def sentence(self, position: int) -> str:
        if not position:
            return "The disk has been asked for nothing yet. Step goes on to where the first request has ended."
        moment, before, now = self.made[position - 1], self.figures(position - 1), self.figures(position)
        served, waited_ns = duration(now.busy_ns - before.busy_ns), now.waited_ns - before.waited_ns
        waited = f"waited for {duration(waited_ns)} and was served for {served}"
        this = waited if waited_ns >= NOBODY_NS else f"was served at once, for {served}"
        return f"{moment.name} {this}. So far the disk works {self._sum(position)}"

    def _sum(self, position: int) -> str:
        now = self.figures(position)
        works = 100 * now.busy_ns / max(1, now.busy_ns + self.idle_ns(position))
        words = f"**{works:.0f} %** of the time"
        if now.waited_ns < NOBODY_NS:
            return f"{words}, and nobody waits."
        waits = 100 * now.waited_ns / (now.waited_ns + now.busy_ns)
        return f"{words}, and its requests wait **{waits:.0f} %** of theirs."

    def describe(self, position: int) -> str:
        return plain(self.sentence(position))

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        when = duration(self.made[position - 1].at_ns) if position else ""
        marks = [(at, "io") for at in range(1, position + 1)]
        return Picture(
            position, self.total, when, words, f"step {position}. {plain(words)}", self._draw(position),
            timeline(marks, position, self.total, LEFT, RIGHT), (self._counts(position), self._log(position)),
        )  # fmt: skip

    def _counts(self, position: int) -> Panel:
        """A row for each kind of request, with what is not drawn: bytes, mean, longest, and what did not succeed."""
        head = tuple(Cell(words, css) for words, css in (
            ("", ""), ("done", "r"), ("bytes", "r"), ("mean", "r"), ("longest", "r"), ("failed", "r"),
        ))  # fmt: skip
        rows, now, before = [], self.figures(position), self.figures(max(0, position - 1))
        for operation in OPERATIONS:
            counts = now.of(operation)
            mean = duration(counts.latency_ns // counts.requests) if counts.requests else "–"
            longest = duration(counts.longest_ns) if counts.requests else "–"
            failed = counts.failed + counts.cancelled
            cells = (str(counts.requests), grouped(counts.bytes), mean, longest, str(failed))
            changed = counts != before.of(operation)
            rows.append(Row((Cell(operation), *(Cell(each, "r") for each in cells)), "now" if changed else ""))
        return Panel("The requests", head, tuple(rows))

    def _log(self, position: int) -> Panel:
        head = (Cell("", "r"), Cell("request"), Cell("waited", "r"), Cell("served", "r"))
        rows = []
        for at in range(1, position + 1):
            before, now = self.figures(at - 1), self.figures(at)
            waited_ns, served = now.waited_ns - before.waited_ns, duration(now.busy_ns - before.busy_ns)
            waited = duration(waited_ns) if waited_ns >= NOBODY_NS else "–"
            cells = (Cell(str(at), "r soft"), Cell(self.made[at - 1].name), Cell(waited, "r"), Cell(served, "r"))
            rows.append(Row(cells, "now" if at == position else "", at))
        return Panel("In their order", head, tuple(rows), "log", "No request has ended yet.")

    # Drawing -------------------------------------------------------------------------------------------------------

    def _draw(self, position: int) -> Stage:
        now, idle_ns = self.figures(position), self.idle_ns(position)
        most_ns = max(1, now.busy_ns + max(idle_ns, now.waited_ns))
        unit = (RIGHT - LEFT) / most_ns
        over = [
            text(0, DISK_Y + 16, "the disk", "b"), text(0, REQUESTS_Y + 16, "its requests", "b"),
            _bar(DISK_Y, unit, ("works", now.busy_ns), ("idle", idle_ns), False),
            _bar(REQUESTS_Y, unit, ("served", now.busy_ns), ("waiting", now.waited_ns), True),
            text(0, TOP + 14, "they took", "b"), text(0, TOP + 34, "one block", "s soft"),
            text(0, TOP + 50, "a request", "s soft"),
            self._histogram(position),
            text(RIGHT + 32, TOP + 14, "deepest queue", "b"),
            text(RIGHT + 32, TOP + 42, str(now.deepest_queue) if position else "–", "xl b tab"),
        ]  # fmt: skip
        for at, operation in enumerate(OPERATIONS[:3]):
            count = now.of(operation).requests
            words = f"{grouped(count)} {operation if count == 1 else _PLURALS[operation]}"
            over.append(text(RIGHT + 32, TOP + 76 + 20 * at, words, "soft"))
        if not position:
            over.append(text((LEFT + RIGHT) / 2, DISK_Y + 50, "Step until the first request has ended.", "mid l b"))
        label = f"{self.question} {self.describe(position)}"
        return Stage(label=label, height=HEIGHT, over="".join(over))

    def _histogram(self, position: int) -> str:
        counts = self.figures(position).latency_histogram
        used = [at for at in range(BINS) if counts[at]]
        first, last = min([FIRST_BIN, *used]), max([LAST_BIN, *used])
        width = (RIGHT - LEFT) / (last - first + 1)
        block = min(_BLOCK, (BOTTOM - TOP - 20) / max(counts)) if used else _BLOCK
        now = self._column(position) if position else None
        parts = [line(f"M{number(LEFT)} {number(BOTTOM)}H{number(RIGHT)}", "axis")]
        for at in range(first, last + 2):
            x = LEFT + width * (at - first)
            parts.append(line(f"M{number(x)} {number(BOTTOM)}v5", "tick"))
            if (at - first) % 2 == 0:
                parts.append(text(x, BOTTOM + 20, duration(1000 << at), "s mid soft tab"))
        words = "each column stands for twice the time of the one before"
        parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 40, words, "s mid soft"))
        for at in used:
            left, side = LEFT + width * (at - first) + width * 0.2, width * 0.6
            high = block * counts[at]
            parts.append(rect(left, BOTTOM - high, side, high, "var(--vl-host-fill)"))
            if block >= 4 and counts[at] > 1:
                cuts = "".join(
                    f"M{number(left)} {number(BOTTOM - block * each)}h{number(side)}" for each in range(1, counts[at])
                )
                parts.append(f'<path d="{cuts}" style="stroke:var(--vl-surface);stroke-width:1.5"/>')
            if at == now:
                edge = 'stroke="var(--vl-text-strong)" stroke-width="2.5"'
                parts.append(rect(left, BOTTOM - high, side, min(block, high), "none", edge))
            css = "mid b tab" if at == now else "mid tab"
            parts.append(text(left + side / 2, BOTTOM - high - 7, grouped(counts[at]), css))
        return "".join(parts)


def _bar(y: float, unit: float, dark: tuple[str, int], light: tuple[str, int], loud: bool) -> str:
    """What the disk works on, and behind it the rest: hollow where nothing happens, orange where somebody waits."""
    parts, middle = [], LEFT + dark[1] * unit
    if dark[1]:
        parts.append(rect(LEFT, y, dark[1] * unit, BAR, "var(--vl-host-fill)"))
    width = light[1] * unit
    if light[1] >= NOBODY_NS:
        ground = "var(--vl-vmm-fill)" if loud else "none"
        edge = "" if loud else 'stroke="var(--vl-line-strong)" stroke-width="1.5" stroke-dasharray="4 3"'
        parts.append(rect(middle, y, width, BAR, ground, edge))
    parts.append(line(f"M{number(LEFT)} {number(y - 6)}v{number(BAR + 12)}", "axis"))
    if not dark[1]:
        return "".join(parts)
    words = f"{dark[0]} {duration(dark[1])}"
    after = LEFT + 8 + _LETTER * (len(words) + 1)
    parts.append(text(LEFT + 8, y + BAR + 18, words, "host b"))
    if light[1] < NOBODY_NS:
        parts.append(text(after, y + BAR + 18, "nobody has waited" if loud else "never idle", "soft"))
        return "".join(parts)
    other, x = f"{light[0]} {duration(light[1])}", max(middle + 8, after)
    end = x + _LETTER * len(other) > WIDTH
    parts.append(text(WIDTH if end else x, y + BAR + 18, other, ("vmm b" if loud else "soft") + " end" * end))
    return "".join(parts)
