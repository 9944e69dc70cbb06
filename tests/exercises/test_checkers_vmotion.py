"""The checkers of lesson 18: right answers written another way pass, typical mistakes are shown with what happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from vilab.course.checkers_vmotion import (
    FIRST_CASES,
    GUEST,
    OTHER_CASES,
    OTHER_LINKS,
    check_predict,
    check_rule,
    costs_text,
    curve_of,
    judged,
)
from vilab.course.feedback import WrongAnswer
from vilab.migration.migration_events import RoundSent
from vilab.migration.termination import (
    DowntimeGoal,
    FixedRounds,
    NelsonPolicy,
    NextRound,
    PreCopyPolicy,
    Stop,
    StopAndCopy,
)

Written = Callable[[float], int]
PAGE = 4096 * 10**9

# 18a -----------------------------------------------------------------------------------------------------------------


def recursive(pages: int, written: Written, bytes_per_s: int, done: int = 1) -> tuple[int, float]:
    left = written(pages * PAGE / bytes_per_s)
    if left <= 256 or 4 * left > 3 * pages:
        return done, left * PAGE / bytes_per_s
    return recursive(left, written, bytes_per_s, done + 1)


def test_right_predictions_pass() -> None:
    assert check_predict(recursive).right
    assert check_predict(recursive, [case for case in OTHER_CASES if case.name != GUEST]).right


def test_a_real_guest_is_predicted_from_a_curve_that_was_measured_over_another_link() -> None:
    (guest,) = (case for case in OTHER_CASES if case.name == GUEST)
    assert check_predict(recursive, [guest]).right
    assert len(judged(guest).rounds) >= 4
    with pytest.raises(WrongAnswer, match="guest over 100 Mbit/s"):
        check_predict(always_the_first_curve, [guest])


def always_the_first_curve(pages: int, written: Written, bytes_per_s: int) -> tuple[int, float]:
    """As if every round left what the first one leaves."""
    left = written(pages * PAGE / bytes_per_s)
    return 2, left * PAGE / bytes_per_s


def a_rate_is_enough(pages: int, written: Written, bytes_per_s: int) -> tuple[int, float]:
    """As if pages got dirty at one rate."""
    rate = written(10**9)
    rounds, work = 0, float(pages)
    while True:
        rounds, left = rounds + 1, work * PAGE / bytes_per_s * rate / 10**9
        if left <= 256 or left > 0.75 * work or rounds > 100:
            return rounds, left * PAGE / bytes_per_s
        work = left


def last_copy_counts(pages: int, written: Written, bytes_per_s: int) -> tuple[int, float]:
    rounds, downtime_ns = recursive(pages, written, bytes_per_s)
    return rounds + 1, downtime_ns


def bits(pages: int, written: Written, bytes_per_s: int) -> tuple[int, float]:
    return recursive(pages, written, bytes_per_s // 8)


def never_too_little(pages: int, written: Written, bytes_per_s: int) -> tuple[int, float]:
    rounds, left = 0, pages
    while left > 256 and rounds < 50:
        rounds, left = rounds + 1, written(left * PAGE / bytes_per_s)
    return rounds, left * PAGE / bytes_per_s


@pytest.mark.parametrize(
    "mistake", [always_the_first_curve, a_rate_is_enough, last_copy_counts, bits, never_too_little]
)
def test_a_wrong_prediction_is_shown_beside_the_rounds(mistake: Callable[..., tuple[int, float]]) -> None:
    with pytest.raises(WrongAnswer, match="Mbit/s: yours are") as caught:
        check_predict(mistake)
    assert caught.value.feedback.trace[0].split() == ["round", "sent", "took", "written", "meanwhile"]
    assert "stands still" in caught.value.feedback.trace[-1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "a pair is wanted"), ((1,), "a pair is wanted"), ((1, "2"), "number of ns"), ((1.5, 2), "whole number")],
)
def test_an_answer_of_another_kind_is_told(answer: object, words: str) -> None:
    with pytest.raises(WrongAnswer, match=words):
        check_predict(lambda *_: answer)


def test_no_case_is_decided_by_a_hair() -> None:
    """A curve that is off by a twentieth leads to the same number of rounds."""
    for case in (*FIRST_CASES, *OTHER_CASES):
        if case.name != GUEST:
            truth = judged(case)
            for factor in (0.95, 1.05):
                rounds, _ = recursive(
                    truth.pages, lambda ns, f=factor, c=truth.curve: f * c(ns), truth.bytes_per_s  # type: ignore[misc]
                )  # fmt: skip
                assert rounds == len(truth.rounds) - 1, case


def test_a_curve_is_steep_first_and_flat_later() -> None:
    curve = curve_of("specweb")
    assert 0 < curve(100_000_000) < curve(1_000_000_000) < 10 * curve(100_000_000)
    assert len(curve.describe().splitlines()) == 7


# 18b -----------------------------------------------------------------------------------------------------------------


class WorthIt:
    """Goes on while a round wins more than it costs."""

    def first(self, pages: int) -> NextRound | Stop:
        return NextRound()

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        last = rounds[-1]
        work, left = last.sent_pages + last.skipped_pages, last.dirtied_pages
        return NextRound() if left and left <= 0.8 * work else Stop("no longer worth it")


def test_rules_that_are_better_pass() -> None:
    assert check_rule(WorthIt()).right
    assert check_rule(WorthIt(), OTHER_LINKS).right
    assert check_rule(NelsonPolicy(small_pages=16)).right, "the default's small is too large for these machines"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (NelsonPolicy(), "1.00 times what the default does"), (StopAndCopy(), "times what it does with the default"),
        *((FixedRounds(count), "costs .* times") for count in (1, 2, 3, 5, 10)), (DowntimeGoal(60_000_000), "costs"),
    ],
)  # fmt: skip
def test_simple_rules_are_not_enough(rule: PreCopyPolicy, words: str) -> None:
    with pytest.raises(WrongAnswer, match=words) as caught:
        check_rule(rule)
    assert len(caught.value.feedback.trace) == 7


class ForEver(WorthIt):
    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        return NextRound()


class Crash(WorthIt):
    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        raise KeyError("left")


class Words(WorthIt):
    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        return "stop"  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rule", "words"),
    [(ForEver(), "has not stopped the machine after 1000 rounds"), (Crash(), "raised KeyError"),
     (Words(), r"NextRound\(\) or Stop\(why\) is wanted"), (object(), "yours has no first")],
)  # fmt: skip
def test_a_rule_that_is_none_gets_a_sentence(rule: object, words: str) -> None:
    with pytest.raises(WrongAnswer, match=words):
        check_rule(rule)


def test_what_is_to_be_beaten_is_shown() -> None:
    assert len(costs_text().splitlines()) == 7
