"""``vilab bench storage``: every entry has its shape; figures of a quick run mean nothing and are not looked at."""

from __future__ import annotations

import json

import pytest

from tests.storage.vmdk_judges import PACKAGE
from tests.tools import require_tool
from vilab.cli import main
from vilab.commands.bench_storage import ENTRIES


def test_every_entry_is_measured_beside_its_baseline(capsys: pytest.CaptureFixture[str]):
    require_tool("qemu-img", PACKAGE)
    assert main(["bench", "storage", "--json", "--quick", "--only", ",".join(ENTRIES)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(ENTRIES)
    for entry in found.values():
        assert {"value", "unit", "baseline", "ratio", "median_of"} <= entry.keys()
        assert entry["ratio"] == pytest.approx(entry["value"] / entry["baseline"])
    assert found["read_depth_1"]["unit"] == "reads/s"
    assert {"processor", "synced"} <= found["convert_to_raw"].keys()


def test_an_entry_that_does_not_exist_is_a_sentence(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "storage", "--json", "--only", "read_depth_2"]) == 2
    assert "no entry 'read_depth_2' in storage" in capsys.readouterr().err
