"""Side by side: two ways of doing the same, measured in turn, so that a busy computer slows both alike.

::

    pair 1    baseline  subject
    pair 2    subject   baseline         ratio of each pair ──> the pair with the median ratio is the figure
    pair 3    baseline  subject

Seconds are the process's own (time on the processor, not time spent waiting for it), where the system counts them
finely enough.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import msgspec

Sample = Callable[[], float]
"""Measures once: a rate, or seconds."""


class Figure(msgspec.Struct, frozen=True):
    """One entry. ``ratio`` = ``value`` / ``baseline``; ``median_of``: how many pairs (or runs) were measured."""

    value: float
    unit: str
    baseline: float | None
    ratio: float | None
    median_of: int


def _fine_clock() -> Callable[[], float]:
    return time.process_time if time.get_clock_info("process_time").resolution <= 1e-6 else time.perf_counter


clock = _fine_clock()


def paired(subject: Sample, baseline: Sample, unit: str, pairs: int) -> Figure:
    """Measure both ``pairs`` times (made odd), who is first changing, and report the pair with the median ratio."""
    found: list[tuple[float, float, float]] = []
    for number in range(pairs | 1):
        gc.collect()
        if number & 1:
            value = subject()
            base = baseline()
        else:
            base = baseline()
            value = subject()
        found.append((value / base, value, base))
    found.sort()
    _, value, base = found[len(found) // 2]
    return Figure(_digits(value), unit, _digits(base), _digits(value) / _digits(base), len(found))


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
