"""Where translated code lies, and what that changes: the same guest with packed and with mirrored translations.

::

    packed     the paper's: fragments in a cache of their own; call, ret and jumps become other code
    mirrored   a copy of each page of code at the same offset behind a segment base: calls, returns and jumps stay as
               they are; what cannot stay becomes a call of the monitor of the same length

Counts of whole runs, so they are the same every time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from vilab.course.feedback import columns as aligned
from vilab.course.runs import machine
from vilab.errors import VmmBug
from vilab.vmm.packed_code import PAPER_RETURN_ENTRIES

GUESTS: dict[str, tuple[str, str, str]] = {
    "calls": ("nano", "call-ret 2000", "2,000 calls and returns"),
    "flags": ("nano", "mask 2000", "2,000 times CLI"),
    "forkwait": ("forkwait", "20 16", "20 processes come and go"),
}
"""Name -> (image, command line, what it does)."""

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "bare": ("bare", {}),
    "packed": ("bt", {"return_entries": PAPER_RETURN_ENTRIES}),
    "mirrored": ("bt", {"placement": "mirrored"}),
}
FINDING = ("chain", "miss", "ret_miss", "indirect_miss")


class Placed(msgspec.Struct, frozen=True):
    """One run. ``finding``: the monitor was asked where to go on; ``return_misses`` of these for a ``ret``;
    ``callouts``: it was asked to do something; ``faults``: hidden, trace and true ones."""

    executed_bytes: int
    finding: int
    return_misses: int
    callouts: int
    faults: int


@cache
def placed(guest: str, way: str) -> Placed:
    image, append, _ = GUESTS[guest]
    engine, options = WAYS[way]
    vm = machine(image, engine, append=append, **options)
    try:
        ended = vm.engine.run()
        if ended is None or not ended.good:
            raise VmmBug(f"{image} {append} did not end well with {way} translations")
        exits = {} if engine == "bare" else vm.engine.exits
        finding = sum(exits.get(reason, 0) for reason in FINDING)
        faults = vm.engine.hidden_faults + vm.engine.trace_faults + vm.engine.true_faults
        others = sum(exits.values()) - finding - exits.get("#PF", 0)
        return Placed(vm.cpu.executed_bytes, finding, exits.get("ret_miss", 0), others, faults)
    finally:
        vm.close()


def placements_text() -> str:
    """Every guest, a line for each way."""
    rows: list[tuple[str, ...]] = [
        ("", "", "executed bytes", "of bare", "where to?", "of them ret", "callouts", "page faults")
    ]
    for guest, (_, _, what) in GUESTS.items():
        bare = placed(guest, "bare").executed_bytes
        for way in WAYS:
            p = placed(guest, way)
            counts = (p.finding, p.return_misses, p.callouts, p.faults)
            words = ("-",) * 4 if way == "bare" else tuple(f"{n:,}" for n in counts)
            rows.append((
                what if way == "bare" else "", way, f"{p.executed_bytes:,}",
                f"{100 * p.executed_bytes / bare:.0f} %", *words,
            ))  # fmt: skip
    return "\n".join(aligned(rows))
