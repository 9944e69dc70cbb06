"""The graded exercises as nbgrader sees them: releases are fresh, and marks are what they should be."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

EXERCISES = Path(__file__).parents[2] / "exercises"
SOURCE, RELEASE = EXERCISES / "source", EXERCISES / "release"
ASSIGNMENTS = sorted(path.name for path in SOURCE.iterdir() if path.is_dir())
NOTEBOOKS = sorted(path.relative_to(SOURCE) for path in SOURCE.glob("*/*.ipynb"))

pytestmark = pytest.mark.filterwarnings("ignore::Warning:nbgrader")
api = pytest.importorskip("nbgrader.apps.api", reason="nbgrader comes with vilab[test]")


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api.NbGraderAPI]:
    """A copy of the course with a gradebook of its own and every assignment generated."""
    from traitlets.config import Config

    root = tmp_path_factory.mktemp("course")
    shutil.copytree(SOURCE, root / "source")
    config = Config()
    exec((EXERCISES / "nbgrader_config.py").read_text(), {"get_config": lambda: config})
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.db_url = f"sqlite:///{root / 'gradebook.db'}"
    config.CourseDirectory.db_assignments = []
    config.Exchange.root = str(root / "exchange")
    with pytest.MonkeyPatch.context() as patch:
        # nbgrader calls alembic by its bare name.
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        patch.chdir(root)
        course = api.NbGraderAPI(config=config)
        course.log.setLevel(logging.ERROR)
        for name in ASSIGNMENTS:
            done = course.generate_assignment(name)
            assert done["success"], done["log"] or done["error"]
        yield course


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def lasting(notebook: NotebookNode) -> list[tuple[object, ...]]:
    """What must not change: everything but the metadata of the notebook, which names versions."""
    return [(c.cell_type, c.id, c.source, c.metadata, c.get("outputs")) for c in notebook.cells]


def test_every_lesson_has_two_graded_exercises() -> None:
    assert len(ASSIGNMENTS) >= 4
    for name in ASSIGNMENTS:
        assert sum(path.parts[0] == name for path in NOTEBOOKS) >= 2, name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
def test_the_released_notebook_is_what_nbgrader_generates_now(course: api.NbGraderAPI, notebook: Path) -> None:
    fresh = Path(course.coursedir.root) / "release" / notebook
    assert lasting(read(RELEASE / notebook)) == lasting(read(fresh)), (
        f"run: cd exercises && nbgrader generate_assignment {notebook.parts[0]} --force"
    )


def test_no_released_notebook_without_a_source() -> None:
    assert sorted(path.relative_to(RELEASE) for path in RELEASE.glob("*/*.ipynb")) == NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
def test_the_released_notebook_holds_no_solution_and_no_hidden_test(notebook: Path) -> None:
    text = (RELEASE / notebook).read_text(encoding="utf-8")
    assert "BEGIN" not in text
    solutions = [c.source for c in read(SOURCE / notebook).cells if "BEGIN SOLUTION" in c.source]
    hidden = [c.source for c in read(SOURCE / notebook).cells if "BEGIN HIDDEN TESTS" in c.source]
    assert solutions
    assert hidden
    for source in solutions + hidden:
        secret = source.split("### BEGIN", 1)[1].splitlines()[1:-1]
        lines = [line.strip() for line in secret if len(line.strip()) > 20 and "###" not in line]
        assert lines
        for line in lines:
            assert line.replace('"', '\\"') not in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
def test_the_source_is_stored_as_it_was_executed(notebook: Path) -> None:
    cells = [c for c in read(SOURCE / notebook).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for c in cells for output in c.outputs)
    assert all(len(c.source.replace("### BEGIN SOLUTION", "").splitlines()) <= 24 for c in cells)


Change = Callable[[NotebookNode], None]


def grade(course: api.NbGraderAPI, assignment: str, student: str, start: Path, change: Change | None = None) -> float:
    """Submit the notebooks of ``start`` after a change, autograde, and give the score."""
    submitted = Path(course.coursedir.root) / "submitted" / student / assignment
    shutil.copytree(start / assignment, submitted)
    for path in submitted.glob("*.ipynb"):
        notebook = read(path)
        if change is not None:
            change(notebook)
        nbformat.write(notebook, path)
    done = course.autograde(assignment, student)
    assert done["success"], done["log"] or done["error"]
    with course.gradebook as book:
        return book.find_submission(assignment, student).score


def full_score(course: api.NbGraderAPI, assignment: str) -> float:
    with course.gradebook as book:
        return book.find_assignment(assignment).max_score


def solve(source: NotebookNode) -> Change:
    """Put the instructor's solutions into a released notebook."""
    solutions = {c.id: c.source for c in source.cells if "BEGIN SOLUTION" in c.source}

    def change(notebook: NotebookNode) -> None:
        for cell in notebook.cells:
            if cell.id in solutions:
                cell.source = solutions[cell.id].replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", "")

    return change


def with_solutions(assignment: str) -> Change:
    changes = [solve(read(path)) for path in sorted((SOURCE / assignment).glob("*.ipynb"))]

    def change(notebook: NotebookNode) -> None:
        for each in changes:
            each(notebook)

    return change


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_the_instructors_solution_gets_all_points(course: api.NbGraderAPI, assignment: str) -> None:
    full = full_score(course, assignment)
    assert full >= 10
    assert grade(course, assignment, "instructor", RELEASE, with_solutions(assignment)) == full


def test_an_untouched_release_gets_nothing(course: api.NbGraderAPI) -> None:
    assert grade(course, "01-rings", "idle", RELEASE) == 0


VISIBLE_ONLY = {
    "solution-1a": """
def traps(instruction, cpl, iopl):
    return cpl > 0 and instruction.split()[0] in ("cli", "sti", "hlt", "lgdt") or cpl > 0 and " cr3" in instruction
""",
    "solution-1b": """
def emulate(guest, instruction):
    text = instruction.text
    if text == "cli": guest.eflags &= ~0x200
    elif text == "sti": guest.eflags |= 0x200
    elif text == "hlt": guest.halted = True
    elif text == "mov cr3, eax": guest.cr3 = guest.gpr["eax"]
    else: guest.gpr["ecx"] = guest.cr3
    guest.eip += instruction.size
""",
}


def answer(answers: dict[str, str]) -> Change:
    def change(notebook: NotebookNode) -> None:
        for cell in notebook.cells:
            cell.source = answers.get(cell.id, cell.source)

    return change


def test_who_satisfies_the_visible_tests_only_gets_their_points(course: api.NbGraderAPI) -> None:
    assert grade(course, "01-rings", "hasty", RELEASE, answer(VISIBLE_ONLY)) == 4
    assert full_score(course, "01-rings") == 10
    graded = read(Path(course.coursedir.root) / "autograded" / "hasty" / "01-rings" / "1a-who-traps.ipynb")
    shown = next(c for c in graded.cells if c.id == "hidden-1a").outputs[-1].traceback
    assert shown[0].startswith("WRONG: traps(")
    assert any("eip" in line and "instruction" in line for line in shown)
    assert not any("Traceback" in line for line in shown)


def test_a_tampered_test_is_restored_before_it_is_run(course: api.NbGraderAPI) -> None:
    tampered = {f"{kind}-{name}": "True" for kind in ("visible", "hidden") for name in ("1a", "1b")}
    assert grade(course, "01-rings", "sly", RELEASE, answer(tampered)) == 0
    graded = read(Path(course.coursedir.root) / "autograded" / "sly" / "01-rings" / "1a-who-traps.ipynb")
    original = read(SOURCE / "01-rings" / "1a-who-traps.ipynb")
    tests = {c.id: c.source for c in copy.deepcopy(original).cells if c.id.startswith(("visible", "hidden"))}
    assert {c.id: c.source for c in graded.cells if c.id in tests} == tests
