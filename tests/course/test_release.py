"""What a student gets is what nbgrader would hand out."""

from __future__ import annotations

import copy
import json

import nbformat
import pytest

from vilab.course.release import student_version

PYTHON = "python3"


def cell(source: str, kind: str = "code", **role) -> dict:
    made = nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)
    if role:
        given = {"solution": False, "grade": False, "locked": False, "task": False, "schema_version": 3, **role}
        if given["grade"]:
            given.setdefault("points", 1)
        made.metadata["nbgrader"] = {"grade_id": f"cell{abs(hash(source))}", "cell_type": kind, **given}
    return made


CELLS = [
    cell("# Title", "markdown"),
    cell("print('plain')"),
    cell(
        "def f(x):\n    ### BEGIN SOLUTION\n    y = x\n\n    return y\n    ### END SOLUTION\n\nprint(f)", solution=True
    ),
    cell(
        "a = 1\n### BEGIN SOLUTION\nb = 2\n### END SOLUTION\nc = 3\n### BEGIN SOLUTION\nd = 4\n### END SOLUTION",
        solution=True,
    ),
    cell("everything = 'is the answer'", solution=True),
    cell("The answer in words.", "markdown", solution=True, grade=True, points=2),
    cell("assert f(1) == 1\n### BEGIN HIDDEN TESTS\nassert f(2) == 2\n### END HIDDEN TESTS", grade=True, locked=True),
    cell("### BEGIN HIDDEN TESTS\nassert f(3) == 3\n### END HIDDEN TESTS\nassert True", grade=True, locked=True),
    cell("given = 'read only'", locked=True),
]


@pytest.fixture
def teachers() -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook(cells=copy.deepcopy(CELLS))
    notebook.metadata["kernelspec"] = {"name": PYTHON, "display_name": "Python 3", "language": "python"}
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="plain\n")]
    notebook.cells[1].execution_count = 1
    return notebook


def by_nbgrader(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The preprocessors of ``nbgrader generate_assignment`` that change what is read, in its order."""
    from nbgrader.preprocessors import ClearHiddenTests, ClearOutput, ClearSolutions, LockCells

    for make in (LockCells, ClearSolutions, ClearOutput, ClearHiddenTests):
        notebook, _ = make().preprocess(notebook, {})
    return notebook


def sources(notebook: nbformat.NotebookNode) -> list[str]:
    return [one.source for one in notebook.cells]


def test_the_text_of_every_cell_is_what_nbgrader_hands_out(teachers):
    ours = nbformat.reads(student_version(nbformat.writes(teachers).encode()).decode(), as_version=4)
    nbformat.validate(ours)
    assert sources(ours) == sources(by_nbgrader(teachers))
    assert "y = x" not in str(ours)
    assert "f(2)" not in str(ours)


def test_nothing_that_was_printed_is_left(teachers):
    ours = json.loads(student_version(nbformat.writes(teachers).encode()))
    code = [one for one in ours["cells"] if one["cell_type"] == "code"]
    assert all(one["outputs"] == [] and one["execution_count"] is None for one in code)
