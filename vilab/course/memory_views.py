"""The pictures of lessons 8 and 9. Needs Jupyter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vilab.course import predictions_memory as predictions
from vilab.course.memory_runs import MILLISECOND_NS
from vilab.course.predictions_memory import Question
from vilab.course.sharing_figures import PAPER_RECLAIMED, PAPER_SHARED, Clones
from vilab.host.host import Host
from vilab.view.memory_grid_track import GridTrack
from vilab.view.memory_track import MemoryTrack
from vilab.view.memory_widget import MemoryGrid
from vilab.view.playback import Playback
from vilab.view.sharing_curve import CurveTrack
from vilab.view.widget import Player


def machine(
    track: MemoryTrack, question: str, steps: int, ask: Mapping[int, Question] | None = None,
    show: Sequence[str] = ("table", "log"),
) -> MemoryGrid:  # fmt: skip
    """A host's memory, page for page. ``ask``: one of ``predictions_memory``."""
    asked = None if ask is None else predictions.asked(track, ask)
    return MemoryGrid(track, question, steps, asked, show=show)


def of_host(host: Host, question: str, steps: int = 4, step_ns: int = MILLISECOND_NS) -> MemoryGrid:
    """A host as it stands now."""
    return MemoryGrid(MemoryTrack(host, step_ns), question, steps)


def beside(view: MemoryGrid, question: str) -> MemoryGrid:
    """A second view of the same run: both move together, but each opens its own squares."""
    return MemoryGrid(view.memory, question, view.grid.steps)


def clones(question: str, most: int = 10, ask: bool = True) -> Player:
    """Figure 4: a clone a step, measured, beside the paper's curve."""
    track = CurveTrack(Clones(most), question, (PAPER_SHARED, PAPER_RECLAIMED))
    return Player(Playback(track, track.ask if ask else None))


def walk(view: MemoryGrid | Player, first: int = 1, last: int | None = None) -> str:
    """The text twins of recorded steps, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, GridTrack | CurveTrack)
    newest = len(track.memory.frames) - 1 if isinstance(track, GridTrack) else track.measured
    last = newest if last is None else min(last, newest)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
