"""The benchmark of memory has its shape; of its figures only the overhead is judged, which no busy computer changes."""

from __future__ import annotations

import json

import pytest

from vilab.cli import main
from vilab.commands.bench_memory import ENTRIES, bench_memory
from vilab.errors import AdminError, VmmBug
from vilab.memory.bench_memory import ScanWork, overhead_bytes

KEYS = {"value", "unit", "baseline", "ratio", "median_of"}


def test_json_output_is_one_object_with_every_entry(capsys: pytest.CaptureFixture[str]):
    only = "scan_pages,scan_pages_again,memory_overhead,cow_break"
    assert main(["bench", "memory", "--json", "--quick", "--only", only]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == only.split(",")
    assert set(figures) <= set(ENTRIES)
    for name, entry in figures.items():
        assert entry.keys() >= KEYS, name
        assert min(entry["value"], entry["baseline"]) > 0, name
        assert entry["ratio"] == pytest.approx(entry["value"] / entry["baseline"]), name
    assert figures["scan_pages"]["ksm"] == 5000
    assert figures["scan_pages"]["in_order"] > 0


def test_four_gigabytes_are_managed_with_less_than_one_percent():
    entry = bench_memory(quick=True, only=["memory_overhead"])["memory_overhead"]
    assert entry["parts"] == overhead_bytes()
    assert entry["bytes"] == sum(entry["parts"].values()) < (4 << 30) / 100
    # 24 bytes of table, 7 of frame table, 1 of allocator a frame; 5 of pmap a page.
    assert entry["bytes"] == pytest.approx(37 << 20, rel=0.001)


def test_an_unknown_entry_is_refused():
    with pytest.raises(AdminError, match="no entry 'scan' in memory"):
        bench_memory(only=["scan"])


def test_a_scan_that_shares_what_it_should_not_is_no_measurement():
    work = ScanWork(64 << 12)
    work.memory.bytes[:] = 0
    with pytest.raises(VmmBug, match="shared"):
        work.scan_rate(200)
