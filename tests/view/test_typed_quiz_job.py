"""What a student types, questions on their own, and work that takes its time."""

from __future__ import annotations

import json
from collections.abc import Generator
from types import SimpleNamespace

import pytest

from tests.view import sample_runs
from vilab.errors import AdminError
from vilab.view.job import Job, Progress, Work
from vilab.view.playback import Playback
from vilab.view.predict import Prediction
from vilab.view.quiz import QuizRun
from vilab.view.run_track import RingsTrack, TranslationTrack, WaitingTrack, before_steps
from vilab.view.typed import TypedPlayback
from vilab.vmm.records import Steppable, StepRecord


def make(text: str, engine: str) -> Steppable | Work[Steppable]:
    if "pusf" in text:
        raise AdminError("`pusf` is no instruction: line 2.")
    if "slow" in text:
        return slowly()
    return {"svm": sample_runs.svm_pushf, "bt": sample_runs.translated}.get(engine, sample_runs.silent_pushf)()


def slowly() -> Work[Steppable]:
    for done in range(5):
        yield Progress("Recording the run", done, 5, "steps")
    return sample_runs.dropped_popf()


def typed(**options: object) -> TypedPlayback:
    engines = ("trap", "bt", "svm")
    return TypedPlayback(make, "cli\npushf", "trap", engines, "What does your code do?", **options)  # type: ignore[arg-type]


def test_what_stands_in_the_form_is_run_at_once_and_another_engine_starts_afresh() -> None:
    player = typed()
    assert player.track.total == 10
    player.handle({"do": "seek", "to": 7})
    player.handle({"do": "assemble", "text": "cli\npushf", "engine": "svm"})
    assert (player.position, player.track.total) == (0, 7)
    assert player.form()["engine"] == "svm"


def test_what_cannot_be_assembled_is_a_sentence_in_place_and_the_old_run_stays() -> None:
    player = typed()
    player.handle({"do": "seek", "to": 7})
    player.handle({"do": "assemble", "text": "cli\npusf", "engine": "trap"})
    assert player.form()["error"] == "<code>pusf</code> is no instruction: line 2."
    assert player.form()["text"] == "cli\npusf"
    assert (player.position, player.track.total) == (7, 10)
    player.handle({"do": "assemble", "text": "cli", "engine": "trap"})
    assert player.form()["error"] == ""


def test_an_engine_that_is_not_there_is_refused() -> None:
    player = typed()
    player.handle({"do": "assemble", "text": "cli", "engine": "<b>"})
    assert "&lt;b&gt;" in player.form()["error"]


def test_the_translation_picture_is_for_the_translator_only() -> None:
    player = typed(picture="translation")
    assert isinstance(player.track, RingsTrack)
    player.handle({"do": "assemble", "text": "cli", "engine": "bt"})
    assert isinstance(player.track, TranslationTrack)


def test_work_that_takes_its_time_is_shown_when_it_is_done() -> None:
    player = typed()
    player.handle({"do": "assemble", "text": "slow", "engine": "trap"})
    assert player.job is not None
    assert player.track.total == 10
    player.finish()
    assert player.track.total == 2


def test_stop_gives_the_work_up_and_keeps_the_picture() -> None:
    player = Playback(WaitingTrack("?"))
    closed = []

    def endless() -> Generator[Progress, None, None]:
        try:
            while True:
                yield Progress("Booting the guest", 1, 2, "million instructions")
        finally:
            closed.append(True)

    player.load(endless(), lambda _: None)
    player.work_on(0.01)
    player.handle({"do": "stop"})
    assert player.job is None
    assert closed == [True]


def test_an_error_of_the_work_is_a_notice() -> None:
    def failing() -> Generator[Progress, None, None]:
        yield Progress("Booting the guest", 1, 2, "million instructions")
        raise AdminError("The guest was not started. There is no image `x`. See vilab run --help.")

    player = Playback(WaitingTrack("?"))
    player.load(failing(), lambda _: None)
    player.finish()
    assert "The guest was not started" in player.describe()


def test_time_left_comes_from_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("vilab.view.job.time", SimpleNamespace(monotonic=lambda: now_s))

    def steady() -> Generator[Progress, None, None]:
        nonlocal now_s
        for done in range(0, 101, 10):
            now_s += 0.01
            yield Progress("Booting the guest", done, 1000, "steps")

    job = Job(steady())
    job.advance(0.055)
    assert job.seconds_left() == 1, "950 steps at 50 in 60 ms"
    message = job.message()
    assert message is not None
    assert (message["what"], message["total"]) == ("Booting the guest", 1000)


def test_predictions_are_asked_before_a_step_of_the_machine_and_see_the_machine_there() -> None:
    seen: list[tuple[int, str]] = []
    track = RingsTrack(sample_runs.silent_pushf(), "?")

    def ask(run: Steppable, record: StepRecord) -> Prediction | None:
        seen.append((run.position, record.mnemonic))
        return None

    player = Playback(track, before_steps(track, ask))
    for _ in range(10):
        player.handle({"do": "step"})
    assert seen == [(0, "int"), (1, "cli"), (2, "mov"), (3, "pushfd"), (4, "pop"), (5, "test"), (6, "jne")]


def quiz() -> QuizRun:
    return QuizRun([
        Prediction("One?", ("a", "b"), lambda: 1, "Because of `b`."),
        Prediction("Two?", ("c", "d", "e"), lambda: 0, "Because of c."),
    ])  # fmt: skip


def test_a_quiz_keeps_its_answers_to_itself_until_there_is_a_choice() -> None:
    run = quiz()
    assert "Because" not in json.dumps(run.frame())
    run.handle({"do": "next"})
    assert "One?" in run.describe()
    run.handle({"do": "reveal", "choice": 0})
    assert run.describe().endswith("not 1, but 2: Because of b.")
    assert run.frame()["button"] == "Next"
    run.handle({"do": "next"})
    assert run.frame()["where"] == "2 of 2"
    run.handle({"do": "reveal", "choice": 0})
    assert run.describe().endswith("right: Because of c.")
    assert run.frame()["button"] == "Again"
    run.handle({"do": "next"})
    assert run.frame()["where"] == "1 of 2"


def test_a_quiz_without_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one question"):
        QuizRun([])
