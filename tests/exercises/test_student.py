"""Calling what a student wrote: whatever it does, one sentence comes back, and nothing stays changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from vilab.course.exercise_student import call
from vilab.course.feedback import WrongAnswer, columns


def endless() -> None:
    while True:
        pass


def endless_in_one_line() -> None:
    while True:
        pass


def endless_through_another_function() -> int:
    return sum(1 for _ in iter(lambda: 1, 2))


def catches_exceptions() -> None:
    while True:
        try:  # noqa: SIM105
            endless()
        except Exception:
            pass


def catches_everything() -> None:
    while True:
        try:  # noqa: SIM105
            endless()
        except:  # noqa: E722
            pass


def catches_everything_itself() -> None:
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722
            pass


def for_ever_deeper(n: int = 0) -> int:
    return for_ever_deeper(n + 1)


@pytest.mark.parametrize(
    "function",
    [
        endless,
        endless_in_one_line,
        endless_through_another_function,
        catches_exceptions,
        catches_everything,
        catches_everything_itself,
    ],
)
def test_a_loop_without_end_is_a_sentence(function: Callable[[], Any]) -> None:
    with pytest.raises(WrongAnswer, match=r"did not come to an end within 5,000 lines"):
        call(function, steps=5000)
    assert call(lambda: sum(range(1000))) == 499500


def test_recursion_without_end_is_a_sentence() -> None:
    with pytest.raises(WrongAnswer, match=r"did not come to an end|calls itself without end"):
        call(for_ever_deeper)


def test_a_crash_names_error_and_line() -> None:
    def crashes(table: dict[str, int]) -> int:
        return table["eip"]

    with pytest.raises(WrongAnswer, match=r"crashes\(\{\}\) raised KeyError: 'eip', in line \d+ of crashes"):
        call(crashes, {})


def test_what_is_not_written_yet_is_a_sentence() -> None:
    def later() -> None:
        raise NotImplementedError

    with pytest.raises(WrongAnswer, match="later is not written yet"):
        call(later)


@pytest.mark.parametrize("thing", [None, 5, "text"])
def test_no_function_is_a_sentence(thing: Any) -> None:
    with pytest.raises(WrongAnswer, match="not a function"):
        call(thing)


def test_a_debugger_that_was_there_before_is_there_afterwards() -> None:
    def tracer(*_: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        assert call(lambda: 3) == 3
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_a_notebook_shows_the_feedback_without_a_traceback() -> None:
    shown = WrongAnswer("IF differs.", ("step  eip", "1     00100000"))._render_traceback_()
    assert shown == ["WRONG: IF differs.", "step  eip", "1     00100000"]


def test_columns_line_up() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b")]) == ("a    bb  c", "aaa  b")
