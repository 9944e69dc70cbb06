"""``vilab bench``: prints what ``vilab.vmm.bench``, ``bench_boot``, ``bench_memory``, ``bench_storage``,
``bench_network`` and ``bench_migration`` measure and ``bench_comparison`` counts.

A measurement is one entry a line for people, or one JSON object: name -> {value, unit, baseline, ratio, median_of},
with ratio = value / baseline in the entry's unit (rates: more is better; seconds: less is better).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vilab.errors import AdminError


def run_bench(
    what: str,
    as_json: bool,
    quick: bool = False,
    differential: int = 0,
    only: Sequence[str] = (),
    rounds: int | None = None,
) -> int:
    """Measure and print; always exit status 0 once everything was measured: a figure is never a failure."""
    if rounds is not None and what != "boot":
        raise AdminError(f"--rounds is for bench boot; bench {what} has its own.")
    if what == "boot":
        from vilab.vmm.bench_boot import ROUNDS, bench_boot, profile_text

        booted = bench_boot(1 if quick else rounds if rounds is not None else ROUNDS, only)
        print(json.dumps(booted.figures) if as_json else table(booted.figures))
        # In the JSON the profile is part of its entry; people find it on standard error in either case.
        print("\n".join((profile_text(booted.figures), *booted.notes)), file=sys.stderr)
        return 0
    if what == "comparison":
        from vilab.vmm.bench_comparison import bench_comparison, text

        found = bench_comparison(only=only, quick=quick)
        print(json.dumps(found) if as_json else text(found))
        return 0
    if what == "memory":
        from vilab.commands.bench_memory import bench_memory

        found = bench_memory(quick=quick, only=only)
        print(json.dumps(found) if as_json else table(found))
        return 0
    if what == "storage":
        from vilab.commands.bench_storage import bench_storage

        measured = bench_storage(quick=quick, only=only)
        print(json.dumps(measured.figures) if as_json else table(measured.figures))
        for note in measured.notes:
            print(note, file=sys.stderr)
        return 0
    if what == "network":
        from vilab.commands.bench_network import bench_network

        found = bench_network(quick=quick, only=only)
        print(json.dumps(found) if as_json else table(found))
        return 0
    if what == "migration":
        from vilab.commands.bench_migration import bench_migration

        found = bench_migration(quick=quick, only=only)
        print(json.dumps(found) if as_json else table(found))
        for sentence in sorted({entry["missing"] for entry in found.values() if "missing" in entry}):
            print(sentence, file=sys.stderr)
        return 0
    assert what == "vmm"
    from vilab.vmm.bench import bench_vmm

    figures = bench_vmm(quick=quick, differential=differential, only=only)
    print(json.dumps(figures) if as_json else table(figures))
    return 0


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures in columns."""
    rows: list[tuple[str, ...]] = [("what", "value", "unit", "baseline", "ratio", "median of")]
    for name, entry in figures.items():
        cells = (entry.get(key) for key in ("value", "unit", "baseline", "ratio", "median_of"))
        rows.append((name, *(_cell(cell) for cell in cells)))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return "\n".join(
        row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)
