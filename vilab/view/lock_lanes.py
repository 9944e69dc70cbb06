"""Two hosts and a LUN between them, over seconds: heartbeats, reservations, locks, a death, and what follows from it.

::

    s          0        10        20        30        40
    esx1       ──on──+2─────+2──────────✕                          a host's life; a line down: it reserves the LUN
    reserved   |  |   |     |     |     |          ||
    slot 0     ' ' ' ' ' ' ' ' ' ' ' '  ..16.0 s silent.. ✕        stamps as they were written
    db.vmx        [ esx1              ][ esx1, dashed    ][esx2    who the lock on disk names
    slot 1       ' ' ' ' ' ' ' ' ' ' ' ' ' ' ' ' ' ' ' ' ' '
    esx2         ──web───────+2──?✕─────────?─────────────on──
    this step  RESERVE | read ... | write lock of db.vmx | RELEASE

Time is on x, in seconds; the steps are the events of interest, several of which may fall into one hundredth of a
second. So the slider counts steps, and the line in the picture is the time that they have come to.
"""

from __future__ import annotations

from vilab.view import lock_lanes_draw as drawing
from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.lock_frame import LockStep, LockStory
from vilab.view.lock_says import say
from vilab.view.step_track import StepTrack
from vilab.view.timeline import timeline
from vilab.view.vmfs_frame import FREE, HELD
from vilab.view.words import plain

GLYPHS = {
    "mounts": "io", "on": "io", "grows": "io", "off": "io", "meets": "error", "refused": "error", "dies": "error",
    "stuck": "error", "freezes": "error", "fenced": "error", "asks": "hidden_fault", "replayed": "translate",
    "broken": "trap", "stolen": "trap",
}  # fmt: skip


class LockLanesTrack(StepTrack):
    """``Track`` for a player: an event of interest a step."""

    first = 0

    def __init__(self, story: LockStory, question: str) -> None:
        self.story, self.question = story, question

    @property
    def total(self) -> int:
        return len(self.story.steps) - 1

    def kind_of(self, position: int) -> str:
        return self.story.steps[position].kind

    def sentence(self, position: int) -> str:
        return say(self.story, position)

    def picture(self, position: int) -> Picture:
        step = self.story.steps[position]
        words = say(self.story, position)
        marks = [(at, GLYPHS.get(self.story.steps[at].kind, "")) for at in range(1, position + 1)]
        return Picture(
            position, self.total, f"{step.seconds:.2f}\u00a0s", words,
            f"step {position}, {step.seconds:.2f} s. {plain(words)}",
            drawing.draw(self.story, position, f"{self.question} {plain(words)}"),
            timeline([mark for mark in marks if mark[1]], position, self.total),
            (self._on_the_lun(position), self._log(position)), step.kind == "dies",
        )  # fmt: skip

    def _on_the_lun(self, position: int) -> Panel:
        """Slots and locks as their sectors say it."""
        now = _sectors(self.story, self.story.steps[position])
        before = _sectors(self.story, self.story.steps[position - 1]) if position else now
        head = (Cell("sector"), Cell("names"), Cell("slot", "r"), Cell("seq", "r"), Cell("which is"))
        rows = []
        for (what, *cells), (_, *old) in zip(now, before, strict=True):
            styles = ("", "r", "r", "soft" if cells[-1] in ("free", "live", "held") else "c-fault")
            rows.append(
                Row(
                    (Cell(what, "mono"), *(Cell(cell, css) for cell, css in zip(cells, styles, strict=True))),
                    "now" if cells != old else "",
                )
            )
        return Panel("The LUN", head, tuple(rows))

    def _log(self, position: int) -> Panel:
        rows = []
        for at in range(1, position + 1):
            step = self.story.steps[at]
            cells = (
                Cell(f"{step.seconds:.2f}", "r soft"), Cell(step.host),
                Cell(drawing.brief(step), "", GLYPHS.get(step.kind, "")),
            )  # fmt: skip
            rows.append(Row(cells, "now" if at == position else "", at))
        return Panel("The hosts", (Cell("s", "r"), Cell("host"), Cell("what")), tuple(rows), "log", "Nothing yet.")


def _sectors(story: LockStory, step: LockStep) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for slot in step.volume.slots[: len(story.hosts)]:
        rows.append((f"slot {slot.slot}", slot.host, "", str(slot.seq), "live" if slot.live else "free"))
    for path in story.paths:
        file = step.volume.file(path)
        if file is not None:
            taken = file.lock != FREE
            dead = file.owner in story.deaths and step.at_ns >= story.deaths[file.owner]
            word = "held" if file.lock == HELD else file.lock
            rows.append(
                (
                    file.name, file.owner, str(file.slot) if taken else "", str(file.seq) if taken else "",
                    "held, by the dead" if dead and file.lock == HELD else word,
                )
            )  # fmt: skip
    return rows
