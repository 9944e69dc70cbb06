"""What managing memory costs: what ``vilab bench memory`` measures.

=================  ============================================================  ====================================
entry              value                                                         baseline
=================  ============================================================  ====================================
scan_pages         random pages of 1 GB a second: chosen, hashed, looked up,     XXH3 alone, a call for each of as
                   each leaving a hint                                           many random pages
scan_pages_again   the same after everything was scanned, so that each finds     the same
                   its own hint
memory_overhead    percent of 4 GB that managing it under 4 GB of guests takes   1, the limit
cow_break          microseconds for a store to a shared page to get its copy     copying 4096 bytes
page_in            microseconds to fault a page in from a swap file              reading 4096 bytes from a file
balloon_linux      seconds until a stock Linux has given 100 MB                  5, the limit
=================  ============================================================  ====================================

Only when they are named, since they take minutes:

=================  =================================================================================================
figure_2           a ballooned guest against one configured smaller: percent slower, by size
figure_4           clones of a booted Debian: percent of touched memory shared and reclaimed, by their number
figure_7           an idle and a busy guest before and after the idle memory tax: MB each
overcommit         ten guests on half of the memory they were promised, for an hour of virtual time
=================  =================================================================================================

``scan_pages`` also has ``in_order``, pages a second that XXH3 hashes from the beginning of memory on, and ``ksm``, what
Linux's KSM scans a second unless told otherwise. ``memory_overhead`` has the bytes of its parts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vilab.course import figure_2, tax_runs
from vilab.errors import AdminError
from vilab.host import figure_4
from vilab.host.overcommit import overcommit
from vilab.memory import bench_memory as memory
from vilab.memory.scanner import KSM, SECOND_NS
from vilab.vmm import bench_balloon
from vilab.vmm.bench import FULL, QUICK, Amount
from vilab.vmm.bench_measure import Figure, clock, paired

Entry = dict[str, Any]

SCANNED_BYTES = 1 << 30
SCANNED_PAGES = 1 << 17
COPIED_PAGES = PAGED_PAGES = 20_000
BALLOON_LIMIT_S = 5.0
FIGURE_7_STEPS = 40
OVERHEAD_LIMIT_PERCENT = 1.0


def _scan(again: bool) -> Callable[[Amount], Entry]:
    def measure(amount: Amount) -> Entry:
        work = memory.ScanWork(max(1 << 24, int(SCANNED_BYTES * amount.work)), clock)
        pages = amount.rounds(SCANNED_PAGES)
        figure = paired(lambda: work.scan_rate(pages, again), lambda: work.raw_rate(pages), "pages/s", amount.pairs)
        entry: Entry = msgspec.to_builtins(figure)
        assert KSM.system is not None
        ksm = KSM.system.pages * SECOND_NS // KSM.system.in_ns
        return entry | {"in_order": float(f"{work.raw_rate_in_order(pages):.5g}"), "ksm": ksm}

    return measure


def _overhead(_amount: Amount) -> Entry:
    parts = memory.overhead_bytes()
    percent = 100 * sum(parts.values()) / memory.MANAGED_BYTES
    figure = Figure(percent, "percent", OVERHEAD_LIMIT_PERCENT, percent / OVERHEAD_LIMIT_PERCENT, 1)
    entry: Entry = msgspec.to_builtins(figure)
    return entry | {"bytes": sum(parts.values()), "parts": parts}


def _cow_break(amount: Amount) -> Entry:
    pages = amount.rounds(COPIED_PAGES)
    figure = paired(
        lambda: memory.cow_break_us(pages, clock), lambda: memory.copy_us(pages, clock), "us/page", amount.pairs
    )
    entry: Entry = msgspec.to_builtins(figure)
    return entry


def _page_in(amount: Amount) -> Entry:
    pages = max(512, amount.rounds(PAGED_PAGES) & ~255)
    with tempfile.TemporaryDirectory(prefix="vilab-") as name:
        folder = Path(name)
        figure = paired(
            lambda: memory.page_in_us(pages, folder, clock), lambda: memory.read_file_us(pages, folder, clock),
            "us/page", amount.pairs,
        )  # fmt: skip
    entry: Entry = msgspec.to_builtins(figure)
    return entry


def _balloon_linux(amount: Amount) -> Entry:
    megabytes = 100 if amount.work >= 1 else 4
    entry = bench_balloon.measure(megabytes)
    return entry | {"baseline": BALLOON_LIMIT_S, "ratio": entry["value"] / BALLOON_LIMIT_S, "median_of": 1}


def _figure_2(amount: Amount) -> Entry:
    sizes = figure_2.SIZES_MB if amount.work >= 1 else figure_2.SIZES_MB[-1:]
    return {
        "unit": "percent",
        "slower": {str(size): round(figure_2.overhead_percent(size), 2) for size in sizes},
        "paper": {str(size): figure_2.PAPER_PERCENT[size] for size in sizes},
    }


def _figure_4(amount: Amount) -> Entry:
    return {"unit": "percent", "clones": msgspec.to_builtins(figure_4.figure_4(range(1, amount.rounds(10) + 1)))}


def _figure_7(amount: Amount) -> Entry:
    track = tax_runs.idle_and_busy()
    steps = amount.rounds(FIGURE_7_STEPS)
    frames = [track.step() for _ in range(steps)]
    host = track.host
    rows = [
        {vm.name: [round(vm.charged / 256, 1), round(vm.target / 256, 1)] for vm in frame.vms} for frame in track.frames
    ]
    host.close()
    return {"unit": "MB charged, MB target", "tax_at_step": tax_runs.TAX_AT, "steps": len(frames), "rows": rows}


def _overcommit(amount: Amount) -> Entry:
    entry: Entry = msgspec.to_builtins(overcommit(60 * amount.work))
    return entry


ENTRIES: dict[str, Callable[[Amount], Entry]] = {
    "scan_pages": _scan(again=False),
    "scan_pages_again": _scan(again=True),
    "memory_overhead": _overhead,
    "cow_break": _cow_break,
    "page_in": _page_in,
    "balloon_linux": _balloon_linux,
}
"""In the order of the output."""

EXPERIMENTS: dict[str, Callable[[Amount], Entry]] = {
    "figure_2": _figure_2,
    "figure_4": _figure_4,
    "figure_7": _figure_7,
    "overcommit": _overcommit,
}
"""Only when named."""


def bench_memory(quick: bool = False, only: Sequence[str] = ()) -> dict[str, Entry]:
    """Measure everything, or what ``only`` names.

    Parameters
    ----------
    quick : as little work as shows that it works; the figures mean nothing, but for the overhead.

    Returns entry -> value, unit, baseline, ratio, median_of, and what else an entry has.
    """
    every = ENTRIES | EXPERIMENTS
    unknown = [name for name in only if name not in every]
    if unknown:
        raise AdminError(f"There is no entry {unknown[0]!r} in memory; there are {', '.join(every)}.")
    amount = QUICK if quick else FULL
    return {name: measure(amount) for name, measure in every.items() if name in (only or ENTRIES)}
