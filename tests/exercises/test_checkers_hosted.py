"""The checkers of lesson 17: right answers written another way pass, typical mistakes are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vilab.course import checkers_hosted as hosted
from vilab.course.feedback import Feedback, WrongAnswer
from vilab.devices import pcnet_registers as r
from vilab.errors import AdminError
from vilab.host.hosted_lance import Access
from vilab.host.hosted_product import Waiting

EVERY_RUN = (*hosted.FIRST_RUNS, *hosted.OTHER_RUNS)
EVERY_LOAD = (*hosted.FIRST_LOADS, *hosted.OTHER_LOADS)


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


def may_stay(access: Access) -> bool:
    match access.register, access.write:
        case "RESET", _:
            return False
        case "CSR0", True:
            return not access.value & r.INIT and not (access.value & r.TDMD and access.on)
        case (("CSR12" | "CSR13" | "CSR14" | "CSR15"), True):
            return False
    return True


def test_the_rule_by_the_data_sheet() -> None:
    assert hosted.check_may_stay(may_stay, EVERY_RUN).right


def test_the_judge_has_seen_each_kind_of_access() -> None:
    """Or else a rule would be right that knows none of them."""
    needed = {(j.access.register, j.access.sends) for run in EVERY_RUN for j in hosted.recorded(run) if j.reached}
    assert {("RESET", False), ("CSR0", True), ("CSR0", False), ("CSR12", False), ("CSR15", False)} <= needed
    off = [j for run in EVERY_RUN for j in hosted.recorded(run) if j.access.value & r.TDMD and not j.access.on]
    assert any(j.access.register == "CSR0" and j.access.write and not hosted.needs_host(j) for j in off)
    frames = sum(j.reached == hosted.FRAME for j in hosted.recorded("netsend"))
    assert 25 <= frames <= 34


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a: True, "the host would never hear of it: listen for 00:50:56:00:00:05"),
        (lambda a: False, "a world switch for nothing"),
        (lambda a: not a.sends, "the host would never hear of it"),
        (lambda a: may_stay(a) and a.register == "RAP", "a world switch for nothing"),
    ],
)
def test_a_rule_that_is_too_lazy_or_too_careful_is_shown(answer: Callable[[Access], bool], words: str) -> None:
    feedback = wrong(hosted.check_may_stay, answer)
    assert words in feedback.sentence
    assert "register" in feedback.trace[0]


@pytest.mark.parametrize("forgotten", ["CSR12", "CSR15", "off"])
def test_what_other_drivers_do_is_in_the_hidden_runs(forgotten: str) -> None:
    def answer(access: Access) -> bool:
        if forgotten == "off" and access.register == "CSR0" and access.write:
            return not access.value & (r.INIT | r.TDMD)
        return may_stay(access) or access.register == forgotten

    assert hosted.check_may_stay(answer, hosted.FIRST_RUNS).right
    assert "another driver" in wrong(hosted.check_may_stay, answer, hosted.OTHER_RUNS).sentence


@pytest.mark.parametrize("answer", [lambda a: None, lambda a: 1 / 0, 7])
def test_no_answer_is_a_sentence(answer: Any) -> None:
    wrong(hosted.check_may_stay, answer)


def test_waiting_only_as_long_as_there_is_something_to_do() -> None:
    assert hosted.check_switch_now(lambda w: w.frames > 3 or w.halted, EVERY_LOAD).right


@pytest.mark.parametrize(
    ("rule", "load"),
    [
        (lambda w: True, "stream"),
        (lambda w: w.frames > 3, "pings"),
        (lambda w: False, "pings"),
        (lambda w: w.halted, "small frames"),
        (lambda w: w.halted or w.frames > 1, "stream"),
    ],
)
def test_a_simple_rule_is_bad_at_something(rule: Callable[[Waiting], bool], load: str) -> None:
    feedback = wrong(hosted.check_switch_now, rule, EVERY_LOAD)
    assert feedback.sentence.startswith(f"{load}: yours costs")
    assert any(row.startswith("yours") for row in feedback.trace)


def test_the_simple_rules_are_what_they_say() -> None:
    for load in EVERY_LOAD:
        both = hosted.simple(load)
        assert both["always"].forced == pytest.approx(1, abs=0.05)
        assert both["always"].waited_us < 10 < both["only when many"].waited_us
    assert not any(hosted.only_when_many(Waiting(n, 0, True)) for n in range(4))


def test_a_rule_that_answers_nonsense_or_fails_is_a_sentence() -> None:
    assert "True or False" in wrong(hosted.check_switch_now, lambda w: 1).sentence
    assert "ZeroDivisionError" in wrong(hosted.check_switch_now, lambda w: 1 / 0 > 1).sentence


def test_unknown_runs_and_loads_are_refused() -> None:
    with pytest.raises(AdminError, match="no run 'nothing'"):
        hosted.recorded("nothing")
    with pytest.raises(AdminError, match="no load 'nothing'"):
        hosted.spent("nothing", hosted.always)
