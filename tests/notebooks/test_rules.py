"""Each rule sees what it is for: a notebook that keeps all rules, damaged in one place at a time."""

from __future__ import annotations

from collections.abc import Callable

import nbformat
import pytest
from nbformat import NotebookNode

from tests.notebooks import rules

FRONT = """# Rings

**45 minutes**

**Needs** nothing

**Objectives**
- say what a ring is
- say what a trap is
"""
VIEW = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "The kernel has said cli, and it trapped."}


def good() -> NotebookNode:
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    stream = nbformat.v4.new_output("stream", text="ring 1\n")
    view = nbformat.v4.new_output("execute_result", data=VIEW, execution_count=2)
    cells = [markdown(FRONT)]
    cells += [markdown(f"## {section}") for section in rules.SECTIONS[:3]]
    cells += [
        code("print('ring 1')", outputs=[stream], execution_count=1),
        code("view", outputs=[view], execution_count=2),
    ]
    cells += [markdown(f"## {section}") for section in rules.SECTIONS[3:]]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def complaints(notebook: NotebookNode) -> list[str]:
    return [f"{rule.__name__}: {what}" for rule in rules.LESSON for what in rule(notebook)]


def code(notebook: NotebookNode, index: int = 0) -> NotebookNode:
    return rules.code_cells(notebook)[index]


DAMAGE: dict[str, Callable[[NotebookNode], object]] = {
    "was_executed: the cells were not run": lambda n: code(n).update(execution_count=None),
    "was_executed: code cell 1 has a stored KeyError": lambda n: code(n).outputs.append(
        nbformat.v4.new_output("error", ename="KeyError", evalue="", traceback=[])
    ),
    "was_executed: code cell 1 has stored output on standard error": lambda n: code(n).outputs[0].update(name="stderr"),
    "is_compared: 3 cells are marked": lambda n: n.cells.extend(
        nbformat.v4.new_code_cell("# NBVAL_SKIP\n1", execution_count=i, outputs=code(n).outputs) for i in (3, 4, 5)
    ),
    "is_compared: most code cells print nothing": lambda n: [cell.update(outputs=[]) for cell in rules.code_cells(n)],
    "is_clean: widget state": lambda n: n.metadata.update(widgets={}),
    "is_clean: its kernel": lambda n: n.metadata.kernelspec.update(name="venv"),
    "is_clean: cell 5 names a folder": lambda n: code(n).outputs[0].update(text="in /home/me/lessons"),
    "cells_are_short: code cell 1 has 13 lines": lambda n: code(n).update(source="\n".join("x = 1" for _ in range(13))),
    "has_front_matter: it does not begin": lambda n: n.cells[0].update(source=FRONT.replace("# Rings", "Rings")),
    "has_front_matter: the front matter does not say": lambda n: n.cells[0].update(source=FRONT.replace("45 ", "")),
    "has_front_matter: the front matter has no **Needs**": lambda n: n.cells[0].update(
        source=FRONT.replace("Needs", "")
    ),
    "has_front_matter: there are fewer": lambda n: n.cells[0].update(source=FRONT.replace("- say what a trap is", "")),
    "has_the_skeleton: there is no section 'Break it'": lambda n: n.cells.pop(7),
    "has_the_skeleton: the sections are not in order": lambda n: n.cells.append(n.cells.pop(1)),
    "views_have_words: code cell 2": lambda n: (
        code(n, 1).outputs[0].data.update({"text/plain": "Player(lecture=False)"})
    ),
}


def test_a_good_lesson_is_not_complained_about():
    assert complaints(good()) == []


@pytest.mark.parametrize("expected", DAMAGE)
def test_each_damage_is_seen_and_nothing_else(expected):
    notebook = good()
    DAMAGE[expected](notebook)
    found = complaints(notebook)
    assert len(found) == 1, found
    assert found[0].startswith(expected)
