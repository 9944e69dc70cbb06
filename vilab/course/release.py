"""An exercise as the student gets it: the teacher's notebook without solutions, hidden tests and outputs.

::

    ### BEGIN SOLUTION            # YOUR CODE HERE
    return flags & ~0x200   --->  raise NotImplementedError()
    ### END SOLUTION

    ### BEGIN HIDDEN TESTS
    assert popf(0x202) ...  --->  (nothing)
    ### END HIDDEN TESTS

The marks and what replaces them are nbgrader's, so that a class that uses nbgrader and a student alone see the same
text. Nothing here needs nbgrader; a test compares with it.
"""

from __future__ import annotations

import json
import re
from typing import Any

CODE_STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")
TEXT_STUB = ("YOUR ANSWER HERE",)

_BEGIN, _END = "### BEGIN {}", "### END {}"


def student_version(notebook: bytes) -> bytes:
    """A notebook file for students from the teacher's; one without marks only loses its outputs."""
    made: dict[str, Any] = json.loads(notebook)
    for cell in made["cells"]:
        lines = "".join(cell["source"]).split("\n")
        role = cell["metadata"].get("nbgrader", {})
        if role.get("solution"):
            stub = CODE_STUB if cell["cell_type"] == "code" else TEXT_STUB
            left = _replace(lines, "SOLUTION", stub)
            lines = list(stub) if left is None and not role.get("task") else (left or lines)
        if role.get("grade"):
            left = _replace(lines, "HIDDEN TESTS", ())
            lines = lines if left is None else left
        cell["source"] = _as_lines("\n".join(lines))
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(made, indent=1, ensure_ascii=False).encode() + b"\n"


def _replace(lines: list[str], what: str, stub: tuple[str, ...]) -> list[str] | None:
    """Each marked region, marks included, gives way to ``stub`` at its own indent; ``None`` if there is no region."""
    begin, end = _BEGIN.format(what), _END.format(what)
    kept: list[str] = []
    inside = found = False
    for line in lines:
        if begin in line:
            inside = found = True
            indent = re.match(r"\s*", line)
            assert indent is not None
            kept += [indent.group() + text for text in stub]
        elif end in line:
            inside = False
        elif not inside:
            kept.append(line)
    return kept if found else None


def _as_lines(text: str) -> list[str]:
    """As notebook files have it: every line but the last with its newline."""
    return text.splitlines(keepends=True)
