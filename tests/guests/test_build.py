"""A rebuild gives the very files that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import require_module
from vilab.errors import AdminError
from vilab.guests import build as guests_build
from vilab.guests.bundled import BUNDLED


def test_rebuild_gives_the_same_bytes(tmp_path: Path) -> None:
    require_module("ziglang", "the PyPI package ziglang (extra: guest)")
    built = guests_build.build(tmp_path)
    shipped = sorted(path.name for path in guests_build.PREBUILT.iterdir())
    assert sorted(path.name for path in built) == shipped
    different = [path.name for path in built if path.read_bytes() != (guests_build.PREBUILT / path.name).read_bytes()]
    assert not different, "run: python -m vilab.guests.build"


def test_every_bundled_name_has_its_file_and_every_file_a_name() -> None:
    named = {file for each in BUNDLED.values() for file in (each.file, each.para) if file}
    assert named == {path.name for path in guests_build.PREBUILT.iterdir()}


def test_no_path_of_the_building_machine_is_in_a_guest() -> None:
    for path in guests_build.PREBUILT.iterdir():
        assert str(Path.home()).encode() not in path.read_bytes()
        assert str(guests_build.HERE.parent).encode() not in path.read_bytes()


def test_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests_build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AdminError, match=r"pip install 'vilab\[guest\]'"):
        guests_build.find_compiler()
