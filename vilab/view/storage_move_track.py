"""``storage_move_run`` for a player: a step is a piece that is copied, a file that comes or goes, or the switch."""

from __future__ import annotations

from collections.abc import Iterable

from vilab.events import Event
from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.step_track import StepTrack
from vilab.view.storage_move_draw import LEFT, RIGHT, Places, draw
from vilab.view.storage_move_run import Seen, StorageMoveRun
from vilab.view.storage_move_says import datastore, kilobytes, say, say_begin
from vilab.view.timeline import timeline
from vilab.view.words import grouped, plain

_GLYPHS = {"folder": "memory", "switched": "trap", "moved": "right", "failed": "error"}


class StorageMoveTrack(StepTrack):
    """``Track`` of one move.

    Parameters
    ----------
    events : a log in which a move begins; other events are left aside.
    question : the heading, in the student's words.
    """

    def __init__(self, events: Iterable[Event], question: str) -> None:
        self.run, self.question = StorageMoveRun(events), question
        last = self.run.at(self.total)
        self.places = Places(len(last.redo_logs), max(1, len(last.rounds)))

    @property
    def total(self) -> int:
        return len(self.run.steps)

    def kind_of(self, position: int) -> str:
        """Copying is a kind of its own in each round."""
        step = self.run.steps[position - 1]
        return f"{step.kind} {step.seen.rounds[-1].number}" if step.kind == "copied" else step.kind

    def sentence(self, position: int) -> str:
        if not position:
            return say_begin(self.run.begin)
        return say(self.run.steps[position - 1], self.run.at(position - 1))

    def picture(self, position: int) -> Picture:
        words, seen = self.sentence(position), self.run.at(position)
        kinds = [(at, _GLYPHS.get(step.kind, "")) for at, step in enumerate(self.run.steps[:position], 1)]
        marks = [(at, glyph) for at, glyph in kinds if glyph]
        return Picture(
            position, self.total, _when(self.run.begin, seen), words, f"step {position}. {plain(words)}",
            draw(seen, self.run.at(max(0, position - 1)), self.places, self.question, plain(words)),
            timeline(marks, position, self.total, LEFT, RIGHT), (_folders(seen), _rounds(seen)),
            bool(position) and self.run.steps[position - 1].kind == "failed",
        )  # fmt: skip


def _when(begin: Seen, seen: Seen) -> str:
    return f"{grouped((seen.at_ns - begin.at_ns) // 1_000_000)} ms"


def _folders(seen: Seen) -> Panel:
    names = (datastore(seen.began.source), datastore(seen.began.destination))
    head = tuple(Cell(f"[{name}] web") for name in names)
    count = max(len(seen.source), len(seen.destination))
    rows = [
        Row(tuple(Cell(files[at] if at < len(files) else "", "mono") for files in (seen.source, seen.destination)))
        for at in range(count)
    ]
    return Panel("Both folders", head, tuple(rows), empty="Both are empty.")


def _rounds(seen: Seen) -> Panel:
    head = (Cell("round", "r"), Cell("to do", "r"), Cell("copied", "r"), Cell("left", "r"), Cell("the guest"))
    rows = [
        Row(
            (
                Cell(str(each.number), "r"), Cell(kilobytes(each.todo_bytes), "r"),
                Cell(kilobytes(each.copied_bytes), "r"),
                Cell("" if each.left_bytes is None else kilobytes(each.left_bytes), "r"),
                Cell("stands still" if each.stopped else "runs", "c-vmm" if each.stopped else ""),
            ),
            "now" if each is seen.rounds[-1] and each.left_bytes is None else "",
        )
        for each in seen.rounds
    ]  # fmt: skip
    return Panel("Bytes copied", head, tuple(rows), "log", "Nothing has been copied yet.")
