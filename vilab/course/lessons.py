"""What the notebooks call: each function gives a view to play with or a few lines to print.

=========================================  =====================================================================
``rings(run, question)``                   a run as control flow by ring
``translation(run, question)``             a run as guest code beside translated code, with the cache
``typed(text, engine, question)``          a field for x86, and the player below it
``critical(rows, question)``               the table of the critical instructions
``walk(view)``                             the whole run in words
=========================================  =====================================================================

The notebooks hold no code of their own beyond such calls. Needs Jupyter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.course.critical_table import Asked, critical_questions, results
from vilab.course.runs import Run, run_typed
from vilab.view.critical import CriticalTrack
from vilab.view.playback import Ask
from vilab.view.predict import Prediction
from vilab.view.run_track import RingsTrack, RunTrack, TranslationTrack, before_steps
from vilab.view.widget import Player
from vilab.vmm.critical_run import CriticalRow
from vilab.vmm.records import Steppable, StepRecord

Question = Callable[[Steppable, StepRecord], Prediction | None]

ENGINES = ("trap", "deprivileged", "bt", "svm", "bare")


def _player(track: RunTrack, ask: Question | None) -> Player:
    asked: Ask | None = before_steps(track, ask) if ask is not None else None
    return Player(track, asked)


def rings(run: Run, question: str, ask: Question | None = None, show: Sequence[str] = ("truths", "log")) -> Player:
    """Who runs, in which ring, and where control leaves the guest. ``ask``: one of ``predictions``."""
    return _player(RingsTrack(run, question, show), ask)


def translation(run: Run, question: str, ask: Question | None = None, show: Sequence[str] = ()) -> Player:
    """Guest code, translated code, and the cache. Only for runs under ``bt``."""
    return _player(TranslationTrack(run, question, show), ask)


def typed(
    text: str, engine: str, question: str, ask: Question | None = None, picture: str = "rings",
    engines: Sequence[str] = ENGINES,
) -> Player:  # fmt: skip
    """A field for x86 with a choice of engine; ``text`` stands in it at first."""
    return Player.of_typed(run_typed, text, engine, engines, question, picture=picture, ask=ask)


def critical(rows: Sequence[CriticalRow], question: str, ask: bool = True) -> Player:
    """The table, a row a step, with the question before each kind of answer."""
    track = CriticalTrack(results(rows), question)
    asked: Asked | None = critical_questions(rows) if ask else None
    return Player(track, asked)


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, RunTrack | CriticalTrack)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
