"""Notebooks for the projector keep the rules of lessons, but for the skeleton: they have no exercises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebooks import rules

DEMONSTRATIONS = sorted((rules.ROOT / "notebooks" / "demonstrations").glob("*.ipynb"))
LINK = rules.re.compile(r"\]\(([^)]+\.ipynb)\)")


def test_there_is_one() -> None:
    assert DEMONSTRATIONS


@pytest.mark.parametrize("path", DEMONSTRATIONS, ids=[rules.name(path) for path in DEMONSTRATIONS])
def test_demonstration(path: Path) -> None:
    notebook = rules.load(path)
    found = [f"{rule.__name__}: {what}" for rule in (*rules.EVERY, rules.views_have_words) for what in rule(notebook)]
    assert found == []
    assert "CC-BY-4.0" in notebook.cells[-1].source
    for link in LINK.findall("\n".join(cell.source for cell in notebook.cells)):
        assert (path.parent / link).is_file(), link
