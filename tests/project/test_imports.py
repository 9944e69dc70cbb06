"""``import vilab`` is quick, and nothing below the views needs Jupyter."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import vilab

ROOMS_WITHOUT_JUPYTER = ("machine", "x86", "guests", "memory", "storage", "network", "devices", "vmm")
JUPYTER = ("IPython", "anywidget", "bqplot", "ipykernel", "ipywidgets", "jupyterlab", "traitlets")

BLOCKER = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {JUPYTER!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def import_seconds() -> float:
    """Cumulative time of ``import vilab`` as ``-X importtime`` reports it."""
    report = python("-X", "importtime", "-c", "import vilab").stderr
    rows = [line.split("|") for line in report.splitlines()]
    return next(int(row[1]) / 1e6 for row in rows if row[-1].strip() == "vilab")


def test_import_vilab_takes_less_than_three_tenths_of_a_second():
    assert min(import_seconds() for _ in range(3)) < 0.3


def test_the_command_line_is_read_without_importing_the_rooms():
    loaded = python("-c", "import vilab.cli, sys; vilab.cli.parser(); print(*sys.modules)").stdout.split()
    assert "vilab.cli" in loaded
    assert not {"numpy", "unicorn", "jupyterlab", "ipywidgets"} & set(loaded)


@pytest.mark.parametrize("room", ROOMS_WITHOUT_JUPYTER)
def test_every_file_of_a_room_imports_where_jupyter_is_not_installed(room):
    package = __import__(f"vilab.{room}", fromlist=["_"])
    names = [package.__name__]
    names += [
        m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".") if "__main__" not in m.name
    ]
    done = python("-c", BLOCKER + "\n".join(f"import {name}" for name in names))
    assert done.returncode == 0, done.stderr


def test_the_blocker_of_the_test_above_does_block():
    assert python("-c", BLOCKER + "import ipywidgets").returncode != 0


def test_the_packages_own_list_of_rooms_names_them_all():
    rooms = {m.name for m in pkgutil.iter_modules(vilab.__path__) if m.ispkg} - {"commands"}
    assert vilab.__doc__ is not None
    assert all(f"``{room}``" in vilab.__doc__ for room in rooms), rooms
