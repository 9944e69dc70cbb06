"""Every committed lesson and exercise keeps the rules of ``rules.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.notebooks import rules
from vilab.course.release import student_version

EXERCISES_A_LESSON = 2


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


@pytest.mark.parametrize("path", rules.LESSONS, ids=names(rules.LESSONS))
def test_lesson_has_graded_exercises_of_its_own(path):
    number = path.name.split("-")[0]
    own = [rules.load(exercise) for exercise in rules.EXERCISES if number_of(exercise) == number]
    graded = sum(any(cell.metadata.get("nbgrader", {}).get("grade") for cell in notebook.cells) for notebook in own)
    tests = sum(cell.metadata.get("nbgrader", {}).get("grade", False) for notebook in own for cell in notebook.cells)
    assert graded >= 1
    assert tests >= EXERCISES_A_LESSON


def number_of(exercise: Path) -> str:
    """The lesson's number, at the beginning of the exercise's name or of its folder's."""
    for part in (exercise.name, exercise.parent.name):
        if found := re.match(r"(\d+)", part):
            return found.group(1)
    return ""


@pytest.mark.parametrize("path", rules.EXERCISES, ids=names(rules.EXERCISES))
def test_exercise(path):
    notebook = rules.load(path)
    assert [f"{rule.__name__}: {what}" for rule in rules.EXERCISE for what in rule(notebook)] == []


@pytest.mark.parametrize("path", rules.EXERCISES, ids=names(rules.EXERCISES))
def test_exercise_hides_something_and_every_test_has_points(path):
    roles = [(cell, cell.metadata.get("nbgrader", {})) for cell in rules.load(path).cells]
    assert any("### BEGIN SOLUTION" in cell.source for cell, role in roles if role.get("solution"))
    assert any("### BEGIN HIDDEN TESTS" in cell.source for cell, role in roles if role.get("grade"))
    assert all(role.get("points", 0) > 0 for _, role in roles if role.get("grade"))
    students = json.loads(student_version(path.read_bytes()))
    text = "".join("".join(cell["source"]) for cell in students["cells"])
    assert "SOLUTION" not in text
    assert "HIDDEN TESTS" not in text
