"""A host's memory over time as something to be played: a stacked curve for each machine, free memory under them.

::

    vm1       ██████████▒▒▒▒▒oooo|                    the playhead is one line through picture and slider;
    vm2       ██████████████oooo |                    what lies to the right of it is not drawn
    Free   6 %───────╲───────────|
           4 %━━━━━━━━╲━━━━━━╱━━━● 4.6 %: soft
           ─────────────────────O────────────

Enter on a machine shows it alone, taller. ``PressureTrack`` adds the slider of ``memory_pressure``.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view import memory_chart_draw, memory_chart_says, memory_free_draw, memory_says
from vilab.view.frame import Panel, Picture, Stage
from vilab.view.memory_chart_draw import LEFT, RIGHT
from vilab.view.memory_frame import MemoryFrame
from vilab.view.memory_knobs import Knob
from vilab.view.memory_track import MemoryTrack
from vilab.view.timeline import timeline
from vilab.view.words import plain

TOP = 4.0
ROWS_HEIGHT = 290.0
_MOST_PITCH, _LEAST_PITCH = 132.0, 44.0
_BETWEEN = 12.0


class ChartTrack:
    """``Turnable``, without knobs.

    Parameters
    ----------
    memory : what is played; other views of it may move it, too.
    question : the heading, in the student's words.
    steps : how far the slider reaches. The run may be longer already.
    rows : for how many machines there is room; so many as the run has had by now, if that is more.
    show : panels, ``table`` and ``log``.
    """

    def __init__(
        self, memory: MemoryTrack, question: str, steps: int, rows: int = 0, show: Sequence[str] = ("table", "log")
    ) -> None:
        self.memory, self.question, self.steps, self.show = memory, question, steps, tuple(show)
        self.rows = max(rows, len(self.names(len(memory.frames) - 1)))
        self.only = ""
        """The machine that is shown alone."""

    @property
    def total(self) -> int:
        return max(self.steps, len(self.memory.frames) - 1)

    @property
    def now(self) -> int:
        return self.memory.position

    def names(self, position: int) -> list[str]:
        """Machines that have been on up to a step, in the order of their first."""
        return list(dict.fromkeys(vm.name for frame in self.memory.frames[: position + 1] for vm in frame.vms))

    # Moving --------------------------------------------------------------------------------------------------------

    def go(self, position: int) -> None:
        newest = self.memory.newest.number
        if position > newest:
            self.memory.run(position - newest)
        elif position != self.memory.position:
            self.memory.seek(position)

    def next_like(self, position: int, direction: int) -> int | None:
        """The next recorded step on which the state of free memory changed."""
        frames = self.memory.frames
        at = position + direction
        while 0 < at < len(frames):
            if frames[at].state is not frames[at - 1].state:
                return at
            at += direction
        return None

    def open(self, row: int) -> None:
        """Enter on a machine: it alone; again: all."""
        shown = self._shown(self.memory.position)
        if 0 <= row < len(shown):
            self.only = "" if self.only else shown[row]

    def knobs(self) -> Sequence[Knob]:
        return ()

    def turn(self, name: str, to: float) -> None:
        """There is none."""

    # The picture -----------------------------------------------------------------------------------------------------

    def before(self, position: int) -> MemoryFrame | None:
        return self.memory.frames[position - 1] if position else None

    def say(self, position: int) -> str:
        return memory_chart_says.say(self.memory.frames[position], self.before(position))

    def describe(self, position: int) -> str:
        """The text twin of one recorded step."""
        return plain(self.say(position))

    def _shown(self, position: int) -> list[str]:
        names = self.names(position)
        return [self.only] if self.only in names else names

    @property
    def pitch(self) -> float:
        return max(_LEAST_PITCH, min(_MOST_PITCH, ROWS_HEIGHT / max(self.rows, 1)))

    @property
    def height(self) -> float:
        """The same at every moment."""
        return TOP + self.pitch * max(self.rows, 1) + _BETWEEN + memory_free_draw.HEIGHT + 8

    def picture(self, position: int) -> Picture:
        frames = self.memory.frames[: position + 1]
        frame, say = frames[-1], self.say(position)
        if self.memory.notice:
            say = f"**{self.memory.notice}** {say}"
        when = memory_says.seconds(frame.at_ns)
        marks = [(each.number, glyph) for each in self.memory.frames if (glyph := memory_says.glyph_of(each))]
        return Picture(
            position, self.total, when, say, f"step {position} of {self.total}, {plain(when)}. {plain(say)}",
            self._stage(frames, say), timeline(marks, position, self.total, LEFT, RIGHT), self._panels(frame, position),
        )  # fmt: skip

    def _panels(self, frame: MemoryFrame, position: int) -> tuple[Panel, ...]:
        made = {"table": lambda: memory_chart_says.table(frame, self.before(position)),
                "log": lambda: memory_says.log(self.memory.frames, position)}  # fmt: skip
        return tuple(made[name]() for name in self.show)

    def _stage(self, frames: Sequence[MemoryFrame], say: str) -> Stage:
        unit = (RIGHT - LEFT) / max(self.total, 1)
        xs = [LEFT + unit * at for at in range(len(frames))]
        names = self._shown(len(frames) - 1)
        free_top = self.height - memory_free_draw.HEIGHT - 8
        pitch = (free_top - _BETWEEN - TOP) if self.only in names else self.pitch
        return Stage(
            label=f"{self.question} {plain(say)}", height=self.height,
            under=memory_free_draw.ground(free_top)
            + memory_chart_draw.draw(frames, names, xs, TOP, pitch, self.only)
            + memory_free_draw.draw(frames, xs, free_top),
            playhead=xs[-1], playhead_height=self.height - 4, rows=len(names),
        )  # fmt: skip
