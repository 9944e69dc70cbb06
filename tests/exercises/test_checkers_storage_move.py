"""The checkers of lesson 20: right answers written another way pass, typical mistakes are shown beside real moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from vilab.course.checkers_storage_move import Write, check_rounds, copied, workload
from vilab.course.checkers_storage_move_death import cases, check_whose
from vilab.course.feedback import Feedback, WrongAnswer

K64 = 65536
EVERY = (("changed blocks", False, False), ("changed blocks", True, False), ("snapshot", False, False))


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


def squares_of(write: Write) -> range:
    return range(write.sector // 128, math.ceil((write.sector + write.sectors) / 128))


def changed(squares: int, writes: Sequence[Write], forget_ahead: bool = True) -> list[int]:
    """A square is copied again if it was written to when the copy had passed it, in that round."""
    todo, rounds = list(range(squares)), list[int]()
    for number in range(1, 9):
        again = set()
        for write in (each for each in writes if each.round == number):
            passed = set(todo[: write.after])
            again |= {at for at in squares_of(write) if at in passed or at not in todo or not forget_ahead}
        rounds.append(len(todo) * K64)
        todo = sorted(again)
        if len(todo) <= 1 or (number > 1 and len(todo) * K64 >= rounds[-1]):
            break
    return [*rounds, len(todo) * K64]


def logged(squares: int, writes: Sequence[Write], once: bool = True) -> list[int]:
    rounds = [squares * K64]
    for number in range(1, 9):
        spots = [at for each in writes if each.round == number for at in range(each.sector, each.sector + each.sectors)]
        left = 512 * len(set(spots) if once else spots)
        if left <= K64 or left >= rounds[-1] or number == 8:
            return [*rounds, left]
        rounds.append(left)
    raise AssertionError


def whose(source: Mapping[str, str], destination: Mapping[str, str]) -> str:
    match source:
        case {"web.vmx": _, "web.vmx.switching": number}:
            for name, answer in (
                ("web.vmx", "destination"),
                ("web.vmx.moving", "source"),
                ("web.vmx.withdrawn", "source"),
            ):
                if destination.get(name) == number:
                    return answer
            return "nobody"
        case {"web.vmx": _}:
            return "source"
    return "destination"


def test_bytes_of_each_round() -> None:
    assert check_rounds(changed, logged, (1, 2, 3, 4, 5)).right


def test_the_workloads_are_of_three_kinds_and_some_need_several_rounds() -> None:
    assert len({workload(seed).what for seed in (1, 2, 3)}) == 3
    assert max(len(copied(seed, "changed blocks")) for seed in (2, 3, 6)) >= 3
    assert any(copied(seed, "snapshot") != copied(seed, "changed blocks") for seed in (1, 2, 3))


@pytest.mark.parametrize("mistake", [
    (lambda squares, writes: changed(squares, writes, forget_ahead=False), logged),
    (changed, lambda squares, writes: logged(squares, writes, once=False)),
    (logged, logged), (changed, changed), (lambda squares, writes: [squares * K64], logged),
])  # fmt: skip
def test_what_is_forgotten_is_shown_beside_what_a_move_has_copied(mistake: tuple[Any, Any]) -> None:
    feedback = wrong(check_rounds, *mistake, (1, 2, 3))
    assert feedback.trace[0].split() == ["round", "yours", "the", "move"]


@pytest.mark.parametrize("answer", [None, 7, "all of it"])
def test_an_answer_of_another_kind(answer: object) -> None:
    assert "is not what a real move has copied" in wrong(check_rounds, lambda *_: answer, logged, (3,)).sentence


def test_whose_disk_it_is() -> None:
    assert check_whose(whose, EVERY).right


def test_every_verdict_comes_up_and_an_untouched_move_is_never_nobodys() -> None:
    untouched = [case.verdict for move in EVERY[::2] for case in cases(*move)]
    assert set(untouched) == {"source", "destination"}
    damaged = [case.verdict for case in cases("changed blocks", True)]
    assert set(damaged) == {"source", "destination", "nobody"}


@pytest.mark.parametrize("mistake", [
    lambda source, destination: "source" if "web.vmx" in source else "destination",
    lambda source, destination: "destination" if "web.vmdk" in destination else "source",
    lambda source, destination: "destination" if "web.vmx" in destination else "source",
    lambda source, destination: "nobody" if "web.vmx.switching" in source else whose(source, destination),
])  # fmt: skip
def test_a_rule_that_is_too_simple(mistake: Callable[..., str]) -> None:
    feedback = wrong(check_whose, mistake, EVERY)
    assert "another host has found: " in feedback.sentence
    assert "/tmp" not in feedback.sentence
