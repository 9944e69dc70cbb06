"""Tasks of an agent: a row of steps, its progress, its end; who has asked may have gone."""

from __future__ import annotations

import errno
from collections.abc import Generator

import pytest

from vilab.errors import AdminError
from vilab.migration import agent_requests as ask
from vilab.migration import host_tasks
from vilab.migration.host_tasks import Progress, Stepwise, Task


def steps(count: int, left: list[str], fails: Exception | None = None) -> Generator[Progress, None, str]:
    try:
        for number in range(count):
            yield Progress(100 * number / count, number << 20, "the disk")
        if fails is not None:
            raise fails
        left.remove("half a copy")
    finally:
        left.append("closed")
    return "web has moved."


def run(task: Task) -> int:
    turns = 0
    while not task.over:
        task.pump()
        turns += 1
    task.end()
    return turns


def test_steps_are_taken_progress_is_told_and_the_end_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_tasks, "TELL_NS", 0)
    said: list[ask.Request] = []
    left = ["half a copy"]
    run(Stepwise("web", 7, steps(4, left), said.append))
    assert said == [
        *(ask.Copying(7, "the disk", 25.0 * number, number << 20) for number in range(4)),
        ask.Done(7, "web has moved."),
    ]
    assert left == ["closed"]


def test_little_is_told_of_many_steps() -> None:
    said: list[ask.Request] = []
    run(Stepwise("web", 7, steps(1000, ["half a copy"]), said.append))
    assert [type(each) for each in (said[0], said[-1])] == [ask.Copying, ask.Done]
    assert len(said) < 500


def test_a_turn_ends_though_there_are_more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1 << 60, host_tasks.TURN_NS // 3))
    monkeypatch.setattr("vilab.migration.host_tasks.time.monotonic_ns", lambda: next(now))
    task = Stepwise("web", 7, steps(5, ["half a copy"]), lambda _message: None)
    assert task.pump()
    assert not task.over
    assert run(task) > 1


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AdminError("ds2 is full."), "ds2 is full."),
        (OSError(errno.EIO, "Input/output error"), "web: Input/output error."),
    ],
)
def test_steps_that_fail_are_refused_with_their_sentence(error: Exception, sentence: str) -> None:
    said: list[ask.Request] = []
    left = ["half a copy"]
    run(Stepwise("web", 7, steps(0, left, error), said.append))
    assert said == [ask.Refused(7, sentence)]
    assert left == ["half a copy", "closed"]


def test_a_host_that_is_shut_down_lets_the_steps_clear_up() -> None:
    said: list[ask.Request] = []
    left = ["half a copy"]

    def slow() -> Generator[Progress, None, str]:
        yield from steps(1 << 40, left)
        return "it was done after all"

    task = Stepwise("web", 7, slow(), said.append)
    assert task.pump()
    task.give_up("esx1 is being shut down.")
    assert task.over
    task.end()
    assert said[-1] == ask.Refused(7, "web: esx1 is being shut down.")
    assert left == ["half a copy", "closed"]


def test_a_task_that_has_not_begun_can_be_given_up() -> None:
    said: list[ask.Request] = []
    task = Stepwise("web", 7, steps(3, []), said.append, "is being cloned as copy")
    task.give_up("esx1 is being shut down.")
    task.end()
    assert said == [ask.Refused(7, "web is being cloned as copy, which was given up. esx1 is being shut down.")]
