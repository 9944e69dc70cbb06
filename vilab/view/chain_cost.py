"""What a disk costs with ever more snapshots: reads of files for one pass over it, and bytes on disk, as bars.

::

    one pass over 8 MB          4   127   245   356 ...      4        reads of files
                                ▁    ▂     ▃     ▄           ▁        111 ms ... 4.6 s on a disk of 2006
    all files together         8.4  8.7   9.1   9.4 ...     8.4 MB
                                █    █     █     █           █
    snapshots                   0    1     2     3           0 again
"""

from __future__ import annotations

from typing import Protocol

from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.predict import Prediction, measured
from vilab.view.svg import line, number, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import duration, grouped, plain

LEFT, RIGHT = 148.0, WIDTH - 12.0
READS, SIZE = (34.0, 214.0), (262.0, 342.0)
"""Top and bottom of the two rows of bars."""
HEIGHT = 392.0


class Cost(Protocol):
    """What is measured at a step; see ``course.snapshot_runs.Cost``."""

    @property
    def snapshots(self) -> int: ...
    @property
    def reads(self) -> int: ...
    @property
    def pass_ns(self) -> int: ...
    @property
    def cold_reads(self) -> int: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def wrong(self) -> int: ...


class Source(Protocol):
    """Measures when it is asked for the first time."""

    most: int

    @property
    def total(self) -> int: ...

    def point(self, step: int) -> Cost: ...


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MB"


class ChainCostTrack:
    """``Track`` for a player: a snapshot a step, and at the end none any more.

    Parameters
    ----------
    pass_words : what one pass is, for the sentence: ``8 MB in one go``.
    """

    def __init__(self, source: Source, question: str, pass_words: str) -> None:
        self.source, self.question, self.pass_words = source, question, pass_words

    @property
    def total(self) -> int:
        return self.source.total

    def go(self, position: int) -> None:
        if position:
            self.source.point(position)

    def open(self, row: int) -> None:
        """There is nothing more to see of a bar."""

    def next_like(self, position: int, direction: int) -> int | None:
        at = position + direction
        return at if 1 <= at <= self.total else None

    def describe(self, position: int) -> str:
        return plain(self._say(position))

    def _say(self, position: int) -> str:
        if not position:
            return "Nothing is measured yet. Step measures the disk as it is; then a snapshot a step."
        now, first = self.source.point(position), self.source.point(1)
        takes = f"{duration(now.pass_ns)} instead of {duration(first.pass_ns)}" if position > 1 else ""
        if position == 1:
            return (
                f"No snapshot: {self.pass_words} is **{now.reads} reads** of one file, {duration(now.pass_ns)} on a "
                f"disk of 2006. The file has {megabytes(now.file_bytes)}."
            )
        wrong = f" **{now.wrong} blocks are wrong.**" if now.wrong else ""
        if not now.snapshots:
            return (
                f"All snapshots are deleted: **{now.reads} reads** and {megabytes(now.file_bytes)} again, and the "
                f"guest has not lost a byte.{wrong}"
            )
        more = now.file_bytes - self.source.point(position - 1).file_bytes
        which = "1 snapshot" if now.snapshots == 1 else f"{now.snapshots} snapshots"
        return (
            f"{which}: **{grouped(now.reads)} reads** of files for {self.pass_words}, {takes}. The last redo log has "
            f"{more / 1024:.0f} KB. Opening the chain and reading one block: {now.cold_reads} reads.{wrong}"
        )

    def picture(self, position: int) -> Picture:
        words = self._say(position)
        return Picture(
            position, self.total, "", words, f"step {position}. {plain(words)}", self._draw(position),
            timeline((), position, self.total, LEFT, RIGHT), (self._panel(position),),
        )  # fmt: skip

    def _panel(self, position: int) -> Panel:
        head = tuple(Cell(words, "r") for words in ("snapshots", "reads", "one pass", "cold, one block", "files"))
        rows = []
        for at in range(1, position + 1):
            each = self.source.point(at)
            cells = (
                str(each.snapshots), grouped(each.reads), duration(each.pass_ns), str(each.cold_reads),
                megabytes(each.file_bytes),
            )  # fmt: skip
            rows.append(Row(tuple(Cell(cell, "r") for cell in cells), "now" if at == position else "", at))
        return Panel("Measured", head, tuple(rows), "log", "Nothing has been measured yet.")

    # Drawing -------------------------------------------------------------------------------------------------------

    def _x(self, at: float) -> float:
        return LEFT + (RIGHT - LEFT) * (at - 0.5) / self.total

    def _draw(self, position: int) -> Stage:
        points = [self.source.point(at) for at in range(1, position + 1)]
        parts = [
            text(0, READS[0] + 14, "one pass", "b"), text(0, READS[0] + 34, "reads of files", "s soft"),
            text(0, SIZE[0] + 14, "all files", "b"), text(0, SIZE[0] + 34, "MB", "s soft"),
            text(0, HEIGHT - 22, "snapshots", "s soft"),
        ]  # fmt: skip
        for _, bottom in (READS, SIZE):
            parts.append(line(f"M{number(LEFT)} {number(bottom)}H{number(RIGHT)}", "axis"))
        most_reads = max([100, *(point.reads for point in points)])
        most_bytes = max([1, *(point.file_bytes for point in points)])
        for at, point in enumerate(points, 1):
            now = at == position
            label = str(point.snapshots) if at < self.total else "0 again"
            parts.append(text(self._x(at), HEIGHT - 22, label, "s mid b" if now else "s mid soft"))
            reads = "vmm-fill" if now and point.snapshots else "vmm-wash"
            parts.append(self._bar(at, point.reads / most_reads, READS, reads, grouped(point.reads), now))
            size = f"{point.file_bytes / (1 << 20):.1f}"
            parts.append(self._bar(at, point.file_bytes / most_bytes, SIZE, "host-wash", size, now))
        return Stage(label=f"{self.question} {self.describe(position)}", height=HEIGHT, over="".join(parts))

    def _bar(self, at: int, part: float, place: tuple[float, float], ground: str, words: str, now: bool) -> str:
        top, bottom = place
        height = max(1.0, (bottom - top - 20) * part)
        width = (RIGHT - LEFT) / self.total * 0.62
        hue = "vmm" if ground.startswith("vmm") else "host"
        edge = f'stroke="var(--vl-{hue}-ink)" stroke-width="1"'
        box = rect(self._x(at) - width / 2, bottom - height, width, height, f"var(--vl-{ground})", edge)
        return box + text(self._x(at), bottom - height - 6, words, f"mid {'b' if now else 's soft'} tab")

    # Questions -----------------------------------------------------------------------------------------------------

    def ask(self, position: int) -> Prediction | None:
        """Before the first snapshot's measurement, and before all are deleted."""
        if position == 1:
            return measured(
                "A snapshot, and then the guest rewrites 64 of its 2,048 blocks. One pass over the disk will take",
                ("as long as before: 97 % are where they were", "a tenth longer", "about twice as long",
                 "more than four times as long"),
                (1.05, 1.5, 4.0), lambda: self._ratio(2),
                lambda ratio: f"{ratio:.1f} times: every block that has moved makes the arm move there and back.",
            )  # fmt: skip
        if position == 3:
            return Prediction(
                f"And with {self.source.most} snapshots?",
                ("The same: only the newest redo log counts.", "It goes on rising, by about the same each time.",
                 "It doubles each time."),
                self._shape,
                lambda: f"{self._ratio(self.total - 1):.0f} times what it was: each redo log scatters more blocks.",
            )  # fmt: skip
        return None

    def _ratio(self, step: int) -> float:
        return self.source.point(step).pass_ns / self.source.point(1).pass_ns

    def _shape(self) -> int:
        steps = [self._ratio(at + 1) - self._ratio(at) for at in range(2, self.total - 1)]
        if max(steps) < 0.1:
            return 0
        return 1 if steps[-1] < 2 * steps[0] else 2
