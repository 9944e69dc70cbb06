"""Every committed lesson and exercise keeps the rules of ``rules.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebooks import rules


def names(paths: list[Path]) -> list[str]:
    return [rules.name(path) for path in paths]


def test_there_are_lessons_numbered_from_one_without_a_gap():
    numbers = [int(path.name.split("-")[0]) for path in rules.LESSONS]
    assert numbers
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("path", rules.LESSONS, ids=names(rules.LESSONS))
def test_lesson(path):
    notebook = rules.load(path)
    assert [f"{rule.__name__}: {what}" for rule in rules.LESSON for what in rule(notebook)] == []
    assert path.stat().st_size < rules.FILE_BYTES


def test_every_lesson_has_exercises_of_its_own():
    numbers = {path.parent.name.split("-")[0] for path in rules.EXERCISES}
    assert {path.name.split("-")[0] for path in rules.LESSONS} <= numbers


@pytest.mark.parametrize("path", rules.EXERCISES, ids=names(rules.EXERCISES))
def test_exercise(path):
    notebook = rules.load(path)
    assert [f"{rule.__name__}: {what}" for rule in rules.EXERCISE for what in rule(notebook)] == []
