"""Questions about a migration: the run judges them, and a question is no hint at its answer."""

from __future__ import annotations

import pytest

from tests.view import vmotion_samples as samples
from vilab.view.predict import Prediction
from vilab.view.vmotion_ask import vmotion_questions
from vilab.view.vmotion_track import VMotionPlayback, VMotionTrack
from vilab.view.words import plain


def asked(name: str) -> dict[int, Prediction]:
    track = VMotionTrack(samples.ALL[name](), "?")
    ask = vmotion_questions(track)
    return {at: found for at in range(track.total + 1) if (found := ask(at))}


def answer(found: Prediction) -> tuple[str, str]:
    option = found.options[found.right()]
    return option, plain(found.why if isinstance(found.why, str) else found.why())


def test_specwebs_questions() -> None:
    found = {at: answer(question) for at, question in asked("specweb").items()}
    assert found == {
        0: (
            "Up to a quarter.",
            "126.7 MB, 19 % of what round 1 had to send: programs write to few pages, but again and again.",
        ),
        2: (
            "Another round, while the guest runs on.",
            "39.0 MB are left of 126.7 MB: for the rule (clark) that is worth another round.",
        ),
        8: (
            "The VM is stopped, and the rest is sent.",
            "The rate needed, 344 Mbit/s, wins nothing: round 8 leaves more than it had.",
        ),
        9: ("A tenth longer at most.", "220 ms in all: 9.0 ms for state, locks and resume."),
    }


def test_a_guest_that_writes_everything_is_not_said_to_write_to_few_pages() -> None:
    option, why = answer(asked("skipped")[0])
    assert option == "More."
    assert why.endswith("this guest writes to most it has.")


def test_another_round_and_stop_are_asked_in_the_same_words() -> None:
    questions = asked("specweb")
    assert questions[2].options == questions[8].options
    assert plain(questions[8].question) == "Round 8 had 15.3 MB to send and leaves 18.2 MB. What happens next?"


@pytest.mark.parametrize("name", samples.ALL)
def test_every_question_has_an_answer_of_the_run(name: str) -> None:
    for question in asked(name).values():
        option, why = answer(question)
        assert option in question.options
        assert why.endswith(".")


def test_nothing_is_asked_of_what_has_not_come_or_did_not_happen() -> None:
    assert asked("refused") == {}
    assert list(asked("aborted")) == [0]
    assert list(asked("live")) == [0, 2]
    assert list(asked("one")) == [1]


def test_the_answer_is_not_on_the_page_before_the_choice() -> None:
    track = VMotionTrack(samples.specweb(), "?")
    playback = VMotionPlayback(track, vmotion_questions(track), 8)
    playback.step()
    assert "wins nothing" not in str(playback.frame())
    playback.reveal(0)
    assert "wins nothing" in str(playback.frame())
    playback.step()
    assert playback.position == 9
