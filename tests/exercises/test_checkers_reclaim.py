"""The checkers of lessons 10 and 11: right answers written another way pass, typical mistakes are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.exercises import answers_reclaim as answers
from vilab.course import checkers_reclaim as reclaim
from vilab.course import checkers_shares as shares
from vilab.course.checkers_reclaim import Guest
from vilab.course.feedback import Feedback, WrongAnswer
from vilab.memory.shares import DEFAULT_TAX


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


# 10a -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", reclaim.TRACES)
def test_asking_those_who_do_not_page_beats_the_hosts_policy(trace: str) -> None:
    feedback = reclaim.check_policy(answers.policy, (trace,))
    assert feedback.right
    assert f"the host's policy needs {reclaim.default_cost(trace).cost:,}" in feedback.sentence
    assert reclaim.default_cost(trace).cost > 200


def test_the_hosts_own_policy_does_not_beat_itself() -> None:
    feedback = wrong(reclaim.check_policy, reclaim.own_policy)
    assert "at most half of that" in feedback.sentence
    assert len(feedback.trace) == reclaim.STEPS + 1


def test_a_policy_that_takes_nothing_is_told_that_memory_is_short() -> None:
    assert "and at least 4 have to be" in wrong(reclaim.check_policy, lambda guests, _: {}).sentence


@pytest.mark.parametrize(("answer", "says"), [
    (None, "a dictionary from name to pages is wanted"), ({"vm7": 3}, "names of guests"),
    ({"vm1": "all"}, "whole numbers are wanted"), ({"vm1": True}, "whole numbers are wanted"),
])  # fmt: skip
def test_a_policy_that_answers_nonsense_is_a_sentence(answer: Any, says: str) -> None:
    assert says in wrong(reclaim.check_policy, lambda *_: answer).sentence


def test_a_policy_that_trusts_a_name_fails_on_the_other_trace() -> None:
    def only_vm2(guests: Sequence[Guest], wanted: int) -> Mapping[str, int]:
        return {guest.name: guest.inside + wanted for guest in guests if guest.name == "vm2"}

    assert reclaim.check_policy(only_vm2).right
    wrong(reclaim.check_policy, only_vm2, ("the other works",))


# 10b -------------------------------------------------------------------------------------------------------------


def test_pages_that_were_paged_twice_are_found_in_every_log() -> None:
    assert reclaim.check_double_paged(answers.double_paged, (*reclaim.LOGS, reclaim.MADE_UP)).right
    assert len(reclaim.listened("cramped").due) >= 3
    assert not reclaim.listened("working").due


def test_who_takes_every_write_of_a_page_that_was_once_swapped_finds_too_many() -> None:
    def ever(lines: Sequence[str]) -> list[tuple[str, str]]:
        back, found = set(), []
        for line in lines:
            words = line.split()
            if words[:2] == ["host", "reads"]:
                back.add((words[2], words[3]))
            elif words[1] == "writes" and (words[0], words[2]) in back:
                found.append((words[0], words[2]))
        return found

    assert reclaim.check_double_paged(ever).right
    feedback = wrong(reclaim.check_double_paged, ever, (reclaim.MADE_UP,))
    assert "('vm1', '00aaa')" in feedback.sentence


def test_a_page_that_was_overlooked_is_shown_with_its_lines() -> None:
    feedback = wrong(reclaim.check_double_paged, lambda lines: answers.double_paged(lines)[:-1])
    assert "finds" in feedback.sentence
    assert any(line.startswith("host reads") for line in feedback.trace)


# 11a -------------------------------------------------------------------------------------------------------------


def test_prices_and_targets_of_another_hand_pass() -> None:
    assert shares.check_rho(answers.rho, seed=3).right
    assert shares.check_targets(answers.targets).right
    assert shares.check_targets(answers.targets, shares.cases(2)).right


def test_a_price_without_the_tax_or_with_more_in_use_than_there_is() -> None:
    no_tax = wrong(shares.check_rho, lambda s, pages, used, tax: s / pages)
    assert "rho(2560, 171, 8, 0.75)" in no_tax.sentence
    assert any(line.startswith("k") for line in no_tax.trace)
    wrong(shares.check_rho, lambda s, pages, used, tax: s / (used + (pages - used) / (1 - tax)))


def test_targets_that_forget_the_reservation_pass_figure_7_only() -> None:
    def without(clients: Sequence[shares.Client], available: int, tax: float) -> list[int]:
        return answers.targets([type(c)(c.name, c.shares, 0, c.most, c.used) for c in clients], available, tax)

    assert shares.check_targets(without).right
    feedback = wrong(shares.check_targets, without, shares.cases(2))
    assert feedback.trace[0].split() == ["shares", "least", "most", "used", "yours", "due"]


def test_targets_by_shares_alone_are_figure_7_without_the_tax() -> None:
    feedback = wrong(shares.check_targets, lambda clients, available, tax: answers.targets(clients, available, 0.0))
    assert f"342, {DEFAULT_TAX}" in feedback.sentence


@pytest.mark.parametrize("answer", [None, [1], ["a", "b"], 7])
def test_targets_of_the_wrong_shape_are_a_sentence(answer: Any) -> None:
    assert "wanted" in wrong(shares.check_targets, lambda *_: answer).sentence


# 11b -------------------------------------------------------------------------------------------------------------


def test_the_estimate_is_the_hosts_for_made_up_samples_and_for_a_guest_that_runs() -> None:
    assert shares.check_estimate(answers.estimate, (shares.WAKES, shares.SMALL)).right
    guest = shares.of_a_guest()
    assert len(guest) == shares.PERIODS
    assert all(n == 100 for (_, n), _ in guest)


@pytest.mark.parametrize("spoilt", [
    lambda samples, t, n: 0.0 if not samples else answers.estimate(samples, t, n),
    lambda samples, t, n: min(1.0, answers.estimate(samples, 0, n)),
    lambda samples, t, n: samples[-1][0] / samples[-1][1] if samples else 1.0,
])  # fmt: skip
def test_estimates_that_know_too_early_too_late_or_only_the_last_sample(spoilt: Any) -> None:
    feedback = wrong(shares.check_estimate, spoilt)
    assert feedback.trace[0].split() == ["t", "n"]
