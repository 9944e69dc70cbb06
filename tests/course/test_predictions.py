"""Questions before a step: who asks when, which option is right, and that the answer is nowhere before the choice."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from vilab.course import predictions, runs
from vilab.course.critical_table import critical_questions, results
from vilab.course.predictions import DIES, RUNS_RIGHT, RUNS_WRONG, TRAPS, how_translated, will_it_exit, will_it_trap
from vilab.course.runs import Run, ring_demo, run_program, run_typed
from vilab.view.playback import Playback
from vilab.view.predict import Prediction
from vilab.view.run_track import RingsTrack, before_steps
from vilab.vmm.critical_run import critical_table
from vilab.vmm.records import Steppable, StepRecord
from vilab.x86.critical import CRITICAL

Question = Callable[[Steppable, StepRecord], Prediction | None]


def asked(run: Run, ask: Question) -> dict[str, int]:
    """Mnemonic -> right option, for every question of a run."""
    return {r.mnemonic: made.right() for r in run.records if (made := ask(run, r)) is not None}


def test_under_trap_and_emulate() -> None:
    assert asked(ring_demo("trap"), will_it_trap) == {"cli": TRAPS, "mov": TRAPS, "pushfd": RUNS_WRONG}


def test_pushf_is_right_by_accident_while_nobody_has_cleared_if() -> None:
    assert asked(run_typed("pushf\npop eax", "trap"), will_it_trap) == {"pushfd": RUNS_RIGHT}


def test_without_a_vmm() -> None:
    assert asked(run_typed("cli\nnop", "deprivileged"), will_it_trap) == {"cli": DIES}


def test_under_binary_translation_every_kind_comes_up() -> None:
    kinds = asked(ring_demo("bt"), how_translated)
    assert kinds == {"cli": 1, "mov": 2, "pushfd": 1, "jne": 3}


def test_under_hardware_assist() -> None:
    text = "cli\nmov eax, 1\ncpuid\nin al, 0x60\nmov eax, cr3"
    assert asked(run_typed(text, "svm"), will_it_exit) == {"cli": 1, "cpuid": 0, "in": 0, "mov": 1}


def test_a_bundled_program_can_be_asked_about_too() -> None:
    assert asked(run_program("isprime", "bt"), how_translated) == {"jge": 3, "je": 3, "jl": 3, "ret": 3}


def test_every_critical_row_is_judged_by_running_it() -> None:
    rows = critical_table(("trap",), CRITICAL)
    ask = critical_questions(rows)
    answers = {at: made.right() for at in range(len(rows)) if (made := ask(at)) is not None}
    assert answers[0] == 2
    assert {rows[at].answers["trap"].right for at, right in answers.items() if right == 0} == {True}
    assert {rows[at].answers["trap"].right for at, right in answers.items() if right == 2} == {False}
    assert results(rows)[0].cells["trap"].why == CRITICAL[0].wrong


@pytest.mark.parametrize(("engine", "ask"), [("trap", will_it_trap), ("bt", how_translated), ("svm", will_it_exit)])
def test_nothing_is_run_and_nothing_is_told_before_the_choice(
    engine: str, ask: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ring_demo(engine)
    track = RingsTrack(run, "?")
    playback = Playback(track, before_steps(track, ask))
    second: list[str] = []
    again = runs.Run.again
    monkeypatch.setattr(runs.Run, "again", lambda self, engine=None: second.append("run") or again(self, engine))
    while playback.asked is None:
        playback.step()
    card = json.dumps(playback.frame()["card"])
    assert second == []
    assert playback.asked.card.right is None
    assert playback.asked.card.why == ""
    playback.reveal(0)
    assert second
    assert playback.asked.card.right is not None
    assert json.dumps(playback.frame()["card"]) != card


def test_each_instruction_is_asked_about_once() -> None:
    run = run_typed("mov ecx, 3\nagain: cli\nsti\ndec ecx\njnz again", "trap")
    questions = [r.mnemonic for r in run.records if will_it_trap(run, r) is not None]
    assert questions == ["cli", "sti"]
    assert predictions.outcome(run, 1).right
