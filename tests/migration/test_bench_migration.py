"""``vilab bench migration``: every entry has its shape; figures of a quick run mean nothing and are not looked at."""

from __future__ import annotations

import json

import pytest

from tests import tools
from vilab.cli import main
from vilab.commands import bench_migration as bench
from vilab.migration import bench_migration as counted
from vilab.migration import bench_qemu

OURS = [name for name in bench.ENTRIES if not name.startswith("qemu_")]
QEMU = ["qemu_downtime", "qemu_total"]


def measure(capsys: pytest.CaptureFixture[str], names: list[str]) -> dict[str, bench.Entry]:
    assert main(["bench", "migration", "--json", "--quick", "--only", ",".join(names)]) == 0
    found: dict[str, bench.Entry] = json.loads(capsys.readouterr().out)
    assert list(found) == names
    return found


def test_every_entry_is_measured_beside_its_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(capsys, OURS)
    for entry in found.values():
        assert {"value", "unit", "baseline", "ratio", "median_of"} <= entry.keys()
        assert entry["ratio"] == pytest.approx(entry["value"] / entry["baseline"])
        assert entry["value"] > 0
    assert found["throughput_64mb"]["unit"] == "MB/s"
    assert found["idle_downtime_512mb"]["baseline"] == 30
    assert found["sent_delta"]["value"] < found["sent_zero"]["value"] <= found["sent_zero"]["baseline"]
    assert found["shared_link_reply"]["ratio"] > 2 > found["shared_link_total"]["ratio"] >= 1
    assert found["shared_link_reply"]["limited"] < found["shared_link_reply"]["value"]


@pytest.mark.interop
@pytest.mark.timeout(300)
def test_qemu_moves_the_same_guest(capsys: pytest.CaptureFixture[str]) -> None:
    tools.require_tool(bench_qemu.PROGRAM, f"the Debian package {bench_qemu.PACKAGE}")
    tools.debian()
    found = measure(capsys, QEMU)
    for entry in found.values():
        assert entry["ratio"] == pytest.approx(entry["value"] / entry["baseline"])
        assert min(entry["sent_mb"]) > 10, "a stock kernel and its initramfs"
    assert found["qemu_total"]["value"] > found["qemu_downtime"]["value"]


def test_without_qemu_its_entries_say_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert main(["bench", "migration", "--json", "--quick", "--only", ",".join(QEMU)]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [entry["missing"] for entry in found.values()] == [bench_qemu.missing()] * 2
    assert "qemu-system-x86" in said.err
    assert all(entry["ratio"] is None for entry in found.values())


def test_an_entry_that_does_not_exist_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "migration", "--json", "--only", "throughput"]) == 2
    assert "no entry 'throughput' in migration" in capsys.readouterr().err


def test_tracing_changes_the_exits_and_not_the_work() -> None:
    without, traced = counted.tracked(None, 2, 256), counted.tracked("traces", 2, 256)
    assert traced.said == without.said
    assert traced.exits.pop("npf") - without.exits.pop("npf") >= traced.dirty_pages > 256
    assert traced.exits == without.exits


def test_dirty_bits_find_the_pages_and_the_guest_leaves_no_more_often() -> None:
    without, traced, found = (counted.tracked(how, 2, 256, "bt") for how in (None, "traces", "dirty_bits"))
    assert found.said == without.said
    assert found.dirty_pages == traced.dirty_pages > 256
    assert found.exits == without.exits
    assert traced.all_exits - found.all_exits >= found.dirty_pages, "a fault for each page in each round"


def test_the_same_bytes_are_sent_in_every_run() -> None:
    assert counted.sent("delta", 256) == counted.sent("delta", 256)
