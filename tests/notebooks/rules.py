"""What a lesson and an exercise look like on disk; each rule gives the sentences of what is wrong, none if all is well.

A lesson, in order (style: one lecture, one notebook)::

    # Title                          first cell: front matter
    **45 minutes**
    **Needs** ...                    what a reader has done before
    **Objectives** - ... - ...       what a reader can do afterwards
    ## Question ... ## Predict ... ## Run ... ## Explain ... ## Break it ... ## Exercise ...
    ## Lessons learned ... ## Next
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXERCISES = sorted((ROOT / "exercises").glob("source/**/*.ipynb"))

SECTIONS = ("Question", "Predict", "Run", "Explain", "Break it", "Exercise", "Lessons learned", "Next")
CELL_LINES = 12
MARKERS_AT_MOST = 2
FILE_BYTES = 2_000_000

MARKER = re.compile(r"#\s*(NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)")
MARKER_TAGS = re.compile(r"nbval-(skip|ignore-output|raises-exception)|raises-exception")
ELSEWHERE = re.compile(r"(?<![\w/])/(home|root|work|Users|tmp)/[\w.-]+|[A-Z]:\\Users")


def load(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def was_executed(notebook: NotebookNode) -> Iterator[str]:
    """Every code cell has run, in order from 1, without an error; nbval would pass an unexecuted one unseen."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if not counts:
        yield "there is no code"
    if counts != list(range(1, len(counts) + 1)):
        yield f"the cells were not run from top to bottom: counts {counts}"
    for number, cell in enumerate(code_cells(notebook), 1):
        if not cell.source.strip():
            yield f"code cell {number} is empty"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {number} has a stored {output.ename}"
            if output.output_type == "stream" and output.name == "stderr":
                yield f"code cell {number} has stored output on standard error"


def is_compared(notebook: NotebookNode) -> Iterator[str]:
    """Few cells are kept out of the comparison, and enough of them have something to compare."""
    marked = [
        cell
        for cell in code_cells(notebook)
        if MARKER.search(cell.source) or any(MARKER_TAGS.fullmatch(tag) for tag in cell.metadata.get("tags", []))
    ]
    if len(marked) > MARKERS_AT_MOST:
        yield f"{len(marked)} cells are marked to be skipped or ignored; at most {MARKERS_AT_MOST} may be"
    cells = code_cells(notebook)
    if sum(bool(cell.outputs) for cell in cells) * 2 < len(cells):
        yield "most code cells print nothing, so there is little to compare"


def is_clean(notebook: NotebookNode) -> Iterator[str]:
    """No widget state, no name of the author's computer, the kernel that every installation has."""
    if "widgets" in notebook.metadata:
        yield "widget state is stored (nbstripout --keep-output --keep-count --extra-keys metadata.widgets)"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not python3"
    for number, cell in enumerate(notebook.cells, 1):
        found = ELSEWHERE.search(cell.source + str(cell.get("outputs", "")))
        if found:
            yield f"cell {number} names a folder of one computer: {found.group()}"


def cells_are_short(notebook: NotebookNode) -> Iterator[str]:
    """Helper code belongs into the package."""
    for number, cell in enumerate(code_cells(notebook), 1):
        lines = len(cell.source.strip().splitlines())
        if lines > CELL_LINES:
            yield f"code cell {number} has {lines} lines; {CELL_LINES} at most"


def has_front_matter(notebook: NotebookNode) -> Iterator[str]:
    first = notebook.cells[0]
    text = first.source
    if first.cell_type != "markdown" or not re.match(r"# \S", text):
        yield "it does not begin with a title"
    if not re.search(r"\*\*\d+ minutes\*\*", text):
        yield "the front matter does not say **N minutes**"
    for word in ("Needs", "Objectives"):
        if f"**{word}" not in text:
            yield f"the front matter has no **{word}**"
    if len(re.findall(r"^[-*] \S", text.partition("**Objectives")[2], re.MULTILINE)) < 2:
        yield "there are fewer than two objectives, each a line that begins with a dash"


def has_the_skeleton(notebook: NotebookNode) -> Iterator[str]:
    """The sections stand in order; each may come again (a second question), others may stand between."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## +(.+)$", text, re.MULTILINE)
    firsts = []
    for section in SECTIONS:
        at = [i for i, heading in enumerate(headings) if heading.lower().startswith(section.lower())]
        if not at:
            yield f"there is no section {section!r}"
        else:
            firsts.append(at[0])
    if firsts != sorted(firsts):
        yield f"the sections are not in order: {headings}"


def views_have_words(notebook: NotebookNode) -> Iterator[str]:
    """A stored view shows its text twin and not a Python object where there is no kernel."""
    for number, cell in enumerate(code_cells(notebook), 1):
        for output in cell.outputs:
            data = output.get("data", {})
            if "application/vnd.jupyter.widget-view+json" not in data:
                continue
            words = data.get("text/plain", "")
            if len(words) < 20 or re.match(r"<?[A-Z]\w+(\(|\.)", words):
                yield f"code cell {number} stores a view without words: {words[:40]!r}"


EVERY = (was_executed, is_compared, is_clean, cells_are_short)
LESSON = (*EVERY, has_front_matter, has_the_skeleton, views_have_words)
EXERCISE = (was_executed, is_clean)
