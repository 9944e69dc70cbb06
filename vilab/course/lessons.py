"""What the notebooks call: each function gives a view to play with or a few lines to print.

=========================================  =====================================================================
``rings(run, question)``                   a run as control flow by ring
``translation(run, question)``             a run as guest code beside translated code, with the cache
``page_tables(run, question, gva)``        a run as the guest's page tables beside the VMM's
``typed(text, engine, question)``          a field for x86, and the player below it
``typed_tables(text, way, question)``      the same, with page tables and the choice of how they are kept
``critical(rows, question)``               the table of the critical instructions
``trace_policies(outcomes, question)``     three trace policies on three workloads, as bars
``walk(view)``                             the whole run in words
=========================================  =====================================================================

The notebooks hold no code of their own beyond such calls. Needs Jupyter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.course.critical_table import Asked, critical_questions, results
from vilab.course.paging_runs import NAMES, WAYS, of_text
from vilab.course.predictions_paging import policy_questions
from vilab.course.runs import Run, run_typed
from vilab.view.critical import CriticalTrack
from vilab.view.playback import Ask
from vilab.view.policies import PolicyTrack
from vilab.view.predict import Prediction
from vilab.view.run_track import RingsTrack, RunTrack, TranslationTrack, before_steps
from vilab.view.tables_track import TablesTrack
from vilab.view.widget import Player
from vilab.vmm.comparison_policies import Outcome
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


def page_tables(
    run: Run, question: str, gva: int | None = None, ask: Question | None = None, show: Sequence[str] = ("walk", "log"),
    brief: bool = False,
) -> Player:  # fmt: skip
    """The guest's tables beside shadow or nested tables. ``gva``: the page that is followed at first. ``brief``: only
    the steps in which something happens to page tables."""
    return _player(TablesTrack(run, question, show, gva, brief), ask)


def typed_tables(text: str, way: str, question: str, ask: Question | None = None) -> Player:
    """A field for x86 above page tables. ``way``: one of ``paging_runs.WAYS``, which can be chosen."""
    return Player.of_typed(
        of_text, text, way, tuple(WAYS), question, picture="tables", show=("walk", "log"), ask=ask, names=NAMES
    )


def trace_policies(outcomes: Sequence[Outcome], question: str, ask: bool = True) -> Player:
    """A workload a step: what each policy costs there."""
    track = PolicyTrack(outcomes, question)
    return Player(track, policy_questions(outcomes) if ask else None)


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
    assert isinstance(track, RunTrack | CriticalTrack | PolicyTrack)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
