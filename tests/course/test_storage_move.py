"""The move of lesson 20: bytes, questions, and hosts that die in the middle of it."""

from __future__ import annotations

from functools import cache

import pytest

from vilab.course.predictions_storage_move import (
    changed_questions,
    death_questions,
    end_of_first_round,
    snapshot_questions,
    written_squares,
)
from vilab.course.storage_move_death import Found, die_after, filling, synced_files
from vilab.course.storage_move_lab import DISK_BYTES, StorageMove
from vilab.events import Event
from vilab.migration.storage_vmotion import MethodName
from vilab.migration.storage_vmotion_events import StorageMoveEnded, StorageSwitched
from vilab.view.predict import Prediction
from vilab.view.storage_move_run import StorageMoveRun

METHODS: tuple[MethodName, ...] = ("changed blocks", "snapshot")


@cache
def events(method: MethodName) -> tuple[Event, ...]:
    move = StorageMove(method)
    assert move.move.state == "moved"
    move.close()
    return tuple(move.events)


def run_of(method: MethodName) -> StorageMoveRun:
    return StorageMoveRun(events(method))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_move_is_the_same_again(method: MethodName) -> None:
    again = StorageMove(method)
    again.close()
    assert tuple(again.events) == events(method)


@pytest.mark.parametrize("method", METHODS)
def test_the_picture_counts_what_the_move_has_counted(method: MethodName) -> None:
    run = run_of(method)
    end = run.at(len(run.steps))
    ended = next(event for event in events(method) if isinstance(event, StorageMoveEnded))
    switched = next(event for event in events(method) if isinstance(event, StorageSwitched))
    assert (end.copied_bytes, len(end.rounds)) == (ended.copied_bytes, ended.rounds)
    assert end.rounds[-1].copied_bytes == switched.stopped_bytes
    assert end.rounds[0].copied_bytes == DISK_BYTES
    assert end.copied_bytes > DISK_BYTES
    assert end.same
    assert (end.source, end.destination) == ((), ("web.vmdk", "web.vmx"))


@pytest.mark.parametrize("method", METHODS)
def test_the_squares_that_are_old_are_what_has_to_go_again(method: MethodName) -> None:
    run = run_of(method)
    end = end_of_first_round(run)
    old, written = run.at(end).old, written_squares(run, end)
    if method == "snapshot":
        assert old == written
    else:
        again = run.at(len(run.steps)).rounds[1].todo_bytes
        assert len(old) * 65536 == again
        assert set() < set(old) < written


def answers(ask: object, total: int) -> dict[int, str]:
    found = {}
    for position in range(total):
        question = ask(position)  # type: ignore[operator]
        if isinstance(question, Prediction):
            found[position] = question.options[question.right()]
            assert question.why()  # type: ignore[operator]
    return found


def test_what_is_right_is_counted() -> None:
    changed, logs = run_of("changed blocks"), run_of("snapshot")
    said = answers(changed_questions(changed), len(changed.steps))
    assert list(said.values()) == ["A quarter to all of it more.", "Some of the 13."]
    assert list(answers(snapshot_questions(logs, changed), len(logs.steps)).values()) == ["More."]


def moment(run: StorageMoveRun, source: str, destination: str) -> int:
    """The first position with these names in the folders."""
    return next(
        at
        for at, step in enumerate(run.steps, 1)
        if source in step.seen.source and destination in step.seen.destination
    )


@pytest.mark.parametrize("method", METHODS)
def test_before_the_renaming_the_old_disk_counts_and_after_it_the_new_one(method: MethodName) -> None:
    run = run_of(method)
    switching, arrived = moment(run, "web.vmx.switching", "web.vmx.moving"), moment(run, "web.vmx.switching", "web.vmx")
    assert arrived == switching + 1
    before = die_after(method, run.steps[switching - 1].events)
    assert (before.at, before.right, before.refused, before.other) == ("san1", before.synced, (), ())
    assert before.in_copy == before.synced  # it has everything, and does not count
    after = die_after(method, run.steps[arrived - 1].events)
    assert (after.at, after.right, after.other) == ("nfs1", after.synced, ())
    assert after.refused[0].startswith("[san1] web/web.vmx has been moved to [nfs1]")


def test_a_half_copy_lacks_what_the_guest_has_synced() -> None:
    run = run_of("changed blocks")
    end = end_of_first_round(run)
    found = die_after("changed blocks", run.steps[end - 1].events)
    assert (found.at, found.right) == ("san1", found.synced)
    assert found.in_copy < found.synced
    assert "as it lay there, had" in found.describe()


def test_with_the_old_folder_half_removed_the_rest_of_it_goes() -> None:
    run = run_of("snapshot")
    last = max(at for at, step in enumerate(run.steps, 1) if step.kind == "folder" and step.seen.source)
    found = die_after("snapshot", run.steps[last - 1].events)
    assert (found.at, found.right, found.other) == ("nfs1", found.synced, ())


def test_the_question_at_a_death_is_answered_by_what_was_found() -> None:
    run = run_of("changed blocks")
    asked: list[int] = []

    def die(position: int) -> Found:
        asked.append(position)
        return Found("nfs1", ("[san1] web/web.vmx has been moved.",), 3, 3, 0, 0, ())

    ask = death_questions(run, die)
    assert ask(0) is None
    assert ask(len(run.steps)) is None
    question = ask(7)
    assert question is not None
    assert asked == []
    assert question.options[question.right()] == "[nfs1] web."
    assert question.why() == (  # type: ignore[operator]
        "It runs from [nfs1], with 3 of 3 files that the guest had synced. "
        "At san1 esx2 was told: [san1] web/web.vmx has been moved."
    )


def test_what_counts_is_what_was_synced() -> None:
    said = "shell> mkfs\nshell> fill new0 60000 0\nshell> sync\nshell> fill new1 60000 1\nshell> sync\n"
    assert sorted(name for name in synced_files(said) if name.startswith("new")) == ["new0"]
    assert filling(4, 0) == bytes((at * 2654435761 & 0xFFFFFFFF) >> 8 & 0xFF for at in range(4))
