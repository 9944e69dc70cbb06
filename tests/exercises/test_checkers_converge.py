"""The checkers of lesson 19: right answers written another way pass, typical mistakes are shown with what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vilab.course import checkers_converge as limits
from vilab.course import checkers_converge_rogue as rogue
from vilab.course.checkers_converge import GRID, STEP_MBIT, Attempt
from vilab.course.checkers_converge_rogue import Write
from vilab.course.converge_paper import LINK_MBIT
from vilab.course.feedback import Feedback, WrongAnswer
from vilab.migration.dirty_traces import Trace, Writes
from vilab.migration.precopy_model import Setting, migrate
from vilab.migration.termination import FixedRounds


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


# 19a -----------------------------------------------------------------------------------------------------------------

Moves = Callable[[int, int], Attempt]


def choose(attempt: Moves, total_s: float, downtime_ms: float) -> tuple[int, int] | None:
    """Coarse first, then fine: another search than the instructor's."""

    def keeps(least: int, most: int) -> bool:
        found = attempt(least, most)
        return found.total_s <= total_s and found.downtime_ms <= downtime_ms

    def search(true: Callable[[int], bool], start: int) -> int | None:
        coarse = next((n for n in range(max(start, 200), 1001, 200) if true(n)), None)
        if coarse is None:
            return None
        return next((n for n in range(max(start, coarse - 150), coarse, 50) if true(n)), coarse)

    least = search(lambda n: keeps(n, 1000), 50)
    if least is None:
        return None
    most = search(lambda n: keeps(least, n), least)
    return None if most is None else (least, most)


@pytest.mark.parametrize("cases", [limits.FIRST_CASES, limits.OTHER_CASES])
def test_another_search_passes(cases: Any) -> None:
    assert limits.check_choose(choose, cases).right


def test_promises_can_be_searched_for() -> None:
    """Above the smallest limit that keeps them all others do: halving what is left finds it. And both kinds of case are
    there among the visible ones: promises that can be kept, and one that no limits can keep."""
    for case in (*limits.FIRST_CASES, *limits.OTHER_CASES):
        least = limits.least_possible(case)
        good = [n for n in GRID if case.kept(limits.attempt(case.machine, case.seed, n, LINK_MBIT))]
        assert good == ([] if least is None else list(range(least, LINK_MBIT + 1, STEP_MBIT)))
        for each in [] if least is None else (least, least + STEP_MBIT):
            most = limits.most_possible(case, each)
            good = [n for n in GRID if n >= each and case.kept(limits.attempt(case.machine, case.seed, each, n))]
            assert most is not None
            assert good == list(range(most, LINK_MBIT + 1, STEP_MBIT))
    possible = [limits.least_possible(case) is not None for case in limits.FIRST_CASES]
    assert True in possible
    assert False in possible


def too_fast(attempt: Moves, total_s: float, downtime_ms: float) -> Any:
    answer = choose(attempt, total_s, downtime_ms)
    return answer and (1000, 1000)


def too_high(attempt: Moves, total_s: float, downtime_ms: float) -> Any:
    answer = choose(attempt, total_s, downtime_ms)
    return answer and (answer[0], 1000)


def every_pair(attempt: Moves, total_s: float, downtime_ms: float) -> Any:
    for least in GRID:
        for most in GRID:
            if least <= most:
                found = attempt(least, most)
                if found.total_s <= total_s and found.downtime_ms <= downtime_ms:
                    return least, most
    return None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (too_fast, "with a smaller least limit"),
        (too_high, "a smaller most limit is enough"),
        (every_pair, "24 have to do"),
        (lambda attempt, *_: None, "gave None, but it can be done"),
        (lambda attempt, *_: (50, 50), "stops the machine for"),
        (lambda attempt, *_: choose(attempt, 60, 400) or (1000, 1000), "that takes"),
    ],
)
def test_a_mistake_is_shown_by_a_move(answer: Any, words: str) -> None:
    feedback = wrong(limits.check_choose, answer)
    assert words in feedback.sentence
    assert feedback.trace[0].split() == ["least", "most", "in", "all", "stopped", "rounds"]


@pytest.mark.parametrize(
    "answer", [(100,), 100, (100, 110), (300, 200), (50.0, 100), (True, 100), (0, 100), (100, 1050), "ab", (1 << 99, 1)]
)
def test_what_are_no_limits_is_said(answer: Any) -> None:
    assert "choose(attempt, " in wrong(limits.check_choose, lambda *_: answer).sentence
    if isinstance(answer, tuple) and len(answer) == 2:
        assert "attempt(" in wrong(limits.check_choose, lambda attempt, *_: attempt(*answer)).sentence


def test_what_an_attempt_executes_is_not_of_the_student_s_budget() -> None:
    """24 moves are far more than 100,000 lines; a loop of the student's is still ended."""

    def loops(attempt: Moves, *_: float) -> None:
        attempt(100, 300)
        while True:
            pass

    assert "did not come to an end" in wrong(limits.check_choose, loops).sentence


# 19b -----------------------------------------------------------------------------------------------------------------


def stun(rounds: Any, most: int, forget: str = "") -> Any:
    """``forget``: leave one rule out."""
    when: dict[int, int] = {}
    left, faults = [], Counter[int]()
    for number, stores in enumerate(rounds, 1):
        if forget != "anew":
            faults = Counter()
        dirty: set[int] = set()
        for cr3, ring, page in stores:
            who = cr3 if ring == 3 or forget == "kernel" else None
            silent = who in when and forget != "silence" and (when[cr3] == number or forget != "for good")
            if silent:
                continue
            if page not in dirty or forget == "first":
                faults[who if who is not None else -1] += 1
                if who is not None and faults[cr3] > most - (forget == "more than"):
                    when.setdefault(cr3, number)
                    if forget == "still happens":
                        continue
            dirty.add(page)
        left.append(len(dirty))
    return when, left


@pytest.mark.parametrize("seeds", [rogue.FIRST_SEEDS, rogue.OTHER_SEEDS])
def test_the_rule_written_another_way_passes(seeds: Any) -> None:
    assert rogue.check_stun(stun, seeds).right


@pytest.mark.parametrize(
    "rule", ["anew", "kernel", "silence", "for good", "first", "more than", "still happens"]
)  # fmt: skip
def test_a_rule_that_is_left_out_is_seen_in_the_visible_cases(rule: str) -> None:
    feedback = wrong(rogue.check_stun, lambda rounds, most: stun(rounds, most, rule))
    assert feedback.trace[0].split()[:3] == ["CR3", "round", "1"]


@pytest.mark.parametrize("answer", [None, ({},), ({}, None), ([], []), ({1: 2}, [3]), ({"a": 1}, []), {}])
def test_what_is_no_answer_is_said(answer: Any) -> None:
    assert wrong(rogue.check_stun, lambda *_: answer).sentence.startswith("stun(rounds, ")


def test_machines_are_of_all_kinds() -> None:
    stunned, late, kernels = Counter[int](), 0, 0
    for seed in (*rogue.FIRST_SEEDS, *rogue.OTHER_SEEDS):
        rounds, most = rogue.case(seed)
        found, free = rogue.judge(rounds, most), rogue.judge(rounds, 100_000)
        stunned[len(found.stunned)] += 1
        late += any(number > 1 for number in found.stunned.values())
        kernels += any(write.ring == 0 for write in rounds[0])
        assert not free.stunned
        assert found.left[-1] < free.left[-1]
    assert set(stunned) == {1, 2}
    assert late > 5
    assert kernels == len(rogue.FIRST_SEEDS) + len(rogue.OTHER_SEEDS)


def test_the_judge_agrees_with_the_model_of_pre_copy() -> None:
    """Two pieces that share no code: the watch of a machine that moves, and the model over a trace. One round."""
    for seed in rogue.FIRST_SEEDS:
        rounds, most = rogue.case(seed)
        stores = [write for write in rounds[1] if write.ring == 3]
        spaces = sorted({write.cr3 for write in stores})
        times = np.arange(len(stores), dtype=np.int64)
        ppns = np.array([write.page for write in stores], np.int32)
        writers = np.array([1 + spaces.index(write.cr3) for write in stores], np.int16)
        trace = Trace("case", 4096, len(stores), Writes(times, ppns, writers))
        # So fast that the round is over just behind the trace, and everything is sent before the first store.
        rate = 4096 * 4096 * 1_000_000_000 // (len(stores) - 1)
        found = migrate(FixedRounds(1), trace, Setting(rate, peek=False, stun_faults=most + 1))
        due = rogue.judge([[Write(*each) for each in stores]], most)
        assert {spaces[event.address_space - 1] for event in found.stunned_writers} == set(due.stunned)
        assert found.rounds[0].dirtied_pages == pytest.approx(due.left[0], abs=1)
