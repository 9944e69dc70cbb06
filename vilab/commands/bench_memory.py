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
=================  ============================================================  ====================================

``scan_pages`` also has ``in_order``, pages a second that XXH3 hashes from the beginning of memory on, and ``ksm``, what
Linux's KSM scans a second unless told otherwise. ``memory_overhead`` has the bytes of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vilab.errors import AdminError
from vilab.memory import bench_memory as memory
from vilab.memory.scanner import KSM, SECOND_NS
from vilab.vmm.bench import FULL, QUICK, Amount
from vilab.vmm.bench_measure import Figure, clock, paired

Entry = dict[str, Any]

SCANNED_BYTES = 1 << 30
SCANNED_PAGES = 1 << 17
COPIED_PAGES = 20_000
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


ENTRIES: dict[str, Callable[[Amount], Entry]] = {
    "scan_pages": _scan(again=False),
    "scan_pages_again": _scan(again=True),
    "memory_overhead": _overhead,
    "cow_break": _cow_break,
}
"""In the order of the output."""


def bench_memory(quick: bool = False, only: Sequence[str] = ()) -> dict[str, Entry]:
    """Measure everything, or what ``only`` names.

    Parameters
    ----------
    quick : as little work as shows that it works; the figures mean nothing, but for the overhead.

    Returns entry -> value, unit, baseline, ratio, median_of, and what else an entry has.
    """
    unknown = [name for name in only if name not in ENTRIES]
    if unknown:
        raise AdminError(f"There is no entry {unknown[0]!r} in memory; there are {', '.join(ENTRIES)}.")
    amount = QUICK if quick else FULL
    return {name: measure(amount) for name, measure in ENTRIES.items() if not only or name in only}
