"""What the package imports is what it asks for."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import vilab

PACKAGE = Path(vilab.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]

OPTIONAL = {"dpkt", "packaging", "ziglang"}
"""Imported where present, with a way around."""


def distributions(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", requirement).group().lower().replace("_", "-") for requirement in requirements}  # type: ignore[union-attr]


def imported() -> dict[str, str]:
    """Top-level module -> one file that imports it."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                found.setdefault(name.split(".")[0], path.relative_to(PACKAGE.parent).as_posix())
    return found


def test_every_imported_package_is_a_declared_dependency():
    declared = distributions(PROJECT["dependencies"])
    owners = importlib.metadata.packages_distributions()
    foreign = {
        module: file
        for module, file in imported().items()
        if module not in sys.stdlib_module_names and module not in OPTIONAL and module not in ("vilab", "__future__")
    }
    undeclared = {
        module: file
        for module, file in foreign.items()
        if not {name.lower().replace("_", "-") for name in owners.get(module, [module])} & declared
    }
    assert undeclared == {}
    assert {"unicorn", "numpy", "msgspec"} <= set(foreign)


def test_the_processor_is_pinned_exactly():
    assert "unicorn==2.1.4" in PROJECT["dependencies"]


def test_the_licences_are_there():
    root = PACKAGE.parent
    assert "GNU GENERAL PUBLIC LICENSE" in (root / "LICENSE").read_text()
    assert "Attribution 4.0 International" in (root / "LICENSE-lessons").read_text()
    assert PROJECT["license"] == "GPL-2.0-or-later AND CC-BY-4.0"
