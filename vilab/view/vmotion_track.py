"""``vmotion_run`` for a player: a round a step, and a log that may still grow while it is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable

from vilab.events import Event
from vilab.migration.migration_events import MigrationBegan
from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.playback import Ask, Playback
from vilab.view.step_track import StepTrack
from vilab.view.vmotion_draw import END_MIDDLE, Layout, draw, layout, stage_of_nothing
from vilab.view.vmotion_run import (
    FAILED,
    MOVED,
    OPEN,
    STOPPED,
    WRITERS,
    MigrationRun,
    Step,
    migrations,
)
from vilab.view.vmotion_scale import LEFT, RIGHT
from vilab.view.vmotion_seen import PAGE_BYTES, Migration
from vilab.view.vmotion_slider import slider
from vilab.view.vmotion_text import NONE, nothing_sent, say
from vilab.view.vmotion_units import amount, memory, rate, size, time, unit_of
from vilab.view.words import grouped, plain

ROOM_ROUNDS, MORE_ROUNDS = 9, 6
"""While a migration goes on: room for so many rounds, and for so many more when they are used up."""
_VALUES = {OPEN: "under way", STOPPED: "VM stopped", MOVED: "moved", FAILED: "failed", WRITERS: "processes stopped"}


class VMotionTrack(StepTrack):
    """``Track`` of one migration.

    Parameters
    ----------
    events : the log so far; it may hold other events, and several migrations. More may come: ``take``, ``add``.
    question : the heading, in the student's words.
    vm : whose migration; of anybody if it is empty. which : the last one of them, or another in their order.
    """

    def __init__(self, events: Iterable[Event], question: str, vm: str = "", which: int = -1) -> None:
        self.question, self.vm, self.which = question, vm, which
        self.run: MigrationRun | None = None
        self._layout: Layout | None = None
        self.take(events)

    @classmethod
    def all_of(cls, events: Iterable[Event], question: str, vm: str = "") -> list[VMotionTrack]:
        """A track for each migration of a log, in the order in which they began."""
        events = list(events)
        return [cls(events, question, vm, at) for at in range(len(migrations(events, vm)))]

    # Events ---------------------------------------------------------------------------------------------------------

    def take(self, events: Iterable[Event]) -> bool:
        """The whole log as far as it goes now, in place of the one before. Says whether there is anything to show."""
        self.run = MigrationRun.of(events, self.vm, self.which)
        self._layout = None
        return self.run is not None

    def add(self, event: Event) -> bool:
        """One more event of the same log; says whether the picture is another one now. A new migration of the machine
        takes the place of the last."""
        if isinstance(event, MigrationBegan) and event.vm == (self.vm or event.vm) and self.which == -1:
            self.run = MigrationRun(event)
        elif self.run is None or not self.run.add(event):
            return False
        self._layout = None
        return True

    # Steps ----------------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        return len(self.run.steps) if self.run is not None else 0

    def step(self, position: int) -> Step:
        assert self.run is not None
        return self.run.steps[position - 1]

    def kind_of(self, position: int) -> str:
        return self.step(position).kind

    def seen(self, position: int) -> Migration | None:
        """What was known there; ``None`` if nothing has begun."""
        return self.run.at(position) if self.run is not None else None

    def sentence(self, position: int) -> str:
        if self.run is None:
            return NONE
        return say(self.step(position)) if position else nothing_sent(self.run.begin)

    # The picture ----------------------------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            assert self.run is not None
            whole, room = self.run.seen, 0
            if not whole.finished:
                more = max(0, len(whole.rounds) - ROOM_ROUNDS)
                room = ROOM_ROUNDS + MORE_ROUNDS * math.ceil(more / MORE_ROUNDS)
            self._layout = layout(whole, room)
        return self._layout

    def stops(self) -> list[float]:
        """Where each position stands on x."""
        assert self.run is not None
        middles, blocks = self.layout.stops, self.layout.scale.blocks
        made = [LEFT]
        for step in self.run.steps:
            rounds = len(step.seen.rounds)
            if step.kind in (MOVED, FAILED):
                made.append(END_MIDDLE)
            elif step.kind == WRITERS:
                at = next((at for at, each in enumerate(step.seen.rounds) if each.sent is None), rounds)
                edge = blocks[at].x if at < len(blocks) else RIGHT
                made.append(edge - 4 if edge - 4 > made[-1] + 4 else (made[-1] + edge + 8) / 2)
            else:
                made.append(middles[rounds - 1] if rounds else made[-1])
        return made

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        seen = self.seen(position)
        if self.run is None or seen is None:
            line = slider((), 0, (LEFT, RIGHT))
            return Picture(0, 0, "", words, plain(words), stage_of_nothing(self.question), line)
        when = time(seen.duration_ns)
        kinds = [step.kind for step in self.run.steps]
        kind = kinds[position - 1] if position else ""
        value = ", ".join(
            part for part in (
                f"step {position} of {self.total}",
                f"round {seen.rounds[-1].number}" if position and seen.rounds else "nothing is sent yet",
                _VALUES.get(kind, ""), when,
            ) if part
        )  # fmt: skip
        return Picture(
            position, self.total, when, words, plain(value), draw(self.layout, seen, self.question),
            slider(kinds, position, self.stops()), (_state(seen), self._log(position)), kind == FAILED,
        )  # fmt: skip

    def _log(self, position: int) -> Panel:
        assert self.run is not None
        head = (Cell("round", "r"), Cell("sent", "r"), Cell("took", "r"), Cell("rate", "r"), Cell("limit", "r"),
                Cell("written meanwhile", "r"), Cell("write faults", "r"))  # fmt: skip
        rows = [
            row for at, step in enumerate(self.run.steps[:position], 1) if (row := _row(step, at, at == position))
        ]  # fmt: skip
        return Panel("Rounds sent", head, tuple(rows), "log", "No round has been sent yet.")


def _row(step: Step, at: int, now: bool) -> Row | None:
    mark, unit = ("now" if now else ""), unit_of(step.seen)
    if step.kind in (MOVED, FAILED):
        return None
    last = step.seen.rounds[-1] if step.seen.rounds else None
    blank = Cell("")
    if step.kind == WRITERS:
        number = step.seen.writers[-1].number
        those = [each for each in step.seen.writers if each.number == number]
        words = "1 process" if len(those) == 1 else f"{len(those)} processes"
        faults = grouped(sum(each.faults for each in those))
        cells = (Cell(str(number), "r"), Cell(f"{words} stopped", "c-vmm"), blank, blank, blank, blank,
                 Cell(faults, "r"))  # fmt: skip
        return Row(cells, mark, at)
    if last is None:
        return None
    limit = rate(last.limit_bytes_per_s) if last.limit_bytes_per_s else "none"
    number_cell = Cell(str(last.number), "r")
    if last.sent is None:
        return Row((number_cell, Cell(f"{amount(last.bytes, unit)} so far", "r"), blank, blank, Cell(limit, "r"),
                    Cell(amount(last.dirty_pages * PAGE_BYTES, unit), "r"), blank), mark, at)  # fmt: skip
    sent = last.sent
    cells = (
        number_cell, Cell(amount(sent.sent_bytes, unit), "r"), Cell(time(sent.duration_ns), "r"),
        Cell(rate(sent.sent_bytes_per_s), "r"), Cell(limit, "r"),
        Cell("VM stopped", "r c-vmm") if last.stopped else Cell(amount(sent.dirtied_pages * PAGE_BYTES, unit), "r"),
        Cell(grouped(sent.traces), "r"),
    )  # fmt: skip
    return Row(cells, mark, at)


def _state(seen: Migration) -> Panel:
    began = seen.began
    total = seen.ended.sent_bytes if seen.ended is not None else seen.sent_bytes
    times = f", {total / seen.memory_bytes:.2f} times its memory" if total and seen.memory_bytes else ""
    skipped = sum(each.sent.skipped_pages for each in seen.rounds if each.sent is not None)
    zero = sum(each.sent.zero_pages for each in seen.rounds if each.sent is not None)
    rows = [
        ("way", f"{began.source} → {began.destination}"), ("memory", memory(seen.memory_bytes)),
        ("rule", began.rule), ("found by", began.tracking.replace("_", " ")),
        ("sent", amount(total, unit_of(seen)) + times),
    ]  # fmt: skip
    if zero:
        rows.append(("zeros", f"{grouped(zero)} pages without content"))
    if skipped:
        rows.append(("skipped", f"{grouped(skipped)} pages, left to the next round"))
    if seen.state_bytes is not None:
        rows.append(("state", f"{size(seen.state_bytes)} of vCPU and devices"))
    if not seen.finished:
        rows.append(("left", amount(seen.left_pages * PAGE_BYTES, unit_of(seen))))
    if seen.downtime_ns is not None:
        rows.append(("stopped", time(seen.downtime_ns)))
    made = tuple(Row((Cell(name, "soft"), Cell(words, "r"))) for name, words in rows)
    return Panel(began.vm, (Cell(""), Cell("")), made)


class VMotionPlayback(Playback):
    """A playback that goes on with its log: who stands at its end stays there, who has gone back is left in peace."""

    track: VMotionTrack

    def __init__(self, track: VMotionTrack, ask: Ask | None = None, position: int = 0) -> None:
        super().__init__(track, ask, position)

    def take(self, events: Iterable[Event]) -> None:
        """The log as far as it goes now."""
        at_end = self.position >= self.track.total
        self.track.take(events)
        self.follow(at_end)

    def add(self, event: Event) -> bool:
        """One more event; says whether there is anything new to be seen."""
        at_end = self.position >= self.track.total
        changed = self.track.add(event)
        if changed:
            self.follow(at_end)
        return changed

    def follow(self, at_end: bool) -> None:
        if self.asked is None and at_end:
            self.position = self.track.total
        self.position = min(self.position, self.track.total)
        self._picture = None
