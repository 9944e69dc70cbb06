"""How fast a machine makes pages dirty: its writable working set, and what downtime it costs.

::

    pages                                        dirty since t = 0 (growth): steep while the hot set fills, then flat:
     ▲            ____________________──────     its slope is the cold part, its shoulder the set that every round
     │      ___───                               leaves
     │   _─
     │  /                                        windows: how many different pages each stretch of the same length
     │ /                                         has written: the working set over time
     └──────────────────────────────────► ns

    downtime after r rounds = D(r) * page_bytes / rate,    D(0) = all pages,
    D(r) = different pages written while round r sent D(r - 1) pages

Source: Clark et al. 2005, section 4: windows of 8 s, dirty bitmaps read every 50 ms, 0 to 4 rounds at 128, 256 and
512 Mbit/s.
MODEL: a round here sends all that it has to; a real one may skip pages that are dirty again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from vilab.errors import AdminError
from vilab.events import Event
from vilab.migration.dirty_traces import SECOND_NS, Trace
from vilab.migration.migration_events import DirtySampled, RoundBegan, RoundSent
from vilab.migration.rate_control import PAGE_BYTES

WINDOW_NS = 8 * SECOND_NS
SAMPLE_NS = SECOND_NS // 20
PAPER_ROUNDS = 4


class Growth(msgspec.Struct, frozen=True):
    """Different pages written since ``began_ns``: ``pages[i]`` of them ``after_ns[i]`` later. Both only grow."""

    began_ns: int
    after_ns: tuple[int, ...]
    pages: tuple[int, ...]


def windows(trace: Trace, window_ns: int = WINDOW_NS) -> tuple[int, ...]:
    """Different pages written in each window of the trace; the last one may be shorter. ``AdminError`` for none."""
    _at_least_one(window_ns, "A window")
    starts = range(0, trace.duration_ns, window_ns)
    return tuple(len(np.unique(trace.between(t, min(t + window_ns, trace.duration_ns)).ppns)) for t in starts)


def growth(trace: Trace, length_ns: int, begin_ns: int = 0, sample_ns: int = SAMPLE_NS) -> Growth:
    """Samples every ``sample_ns``, the first at once, until ``length_ns`` are over."""
    _at_least_one(sample_ns, "The time between two samples")
    writes = trace.between(begin_ns, begin_ns + length_ns)
    _, first = np.unique(writes.ppns, return_index=True)
    since_ns = np.sort(writes.times_ns[first]) - begin_ns
    after_ns = np.arange(0, length_ns + 1, sample_ns)
    return Growth(begin_ns, tuple(after_ns.tolist()), tuple(np.searchsorted(since_ns, after_ns).tolist()))


def growth_of_rounds(events: Iterable[Event], vm: str) -> dict[int, Growth]:
    """What a real migration has seen, a curve a round: from its samples, and from what it reports at the round's end.

    Rounds of which the log has no beginning are left out. A second migration of the machine replaces the first.
    """
    began: dict[int, int] = {}
    points: dict[int, list[tuple[int, int]]] = {}
    for event in events:
        if not isinstance(event, RoundBegan | DirtySampled | RoundSent) or event.vm != vm:
            continue
        if isinstance(event, RoundBegan):
            if event.number == 1:
                began, points = {}, {}
            began[event.number], points[event.number] = event.at_ns, [(0, 0)]
        elif event.number in began:
            pages = event.dirty_pages if isinstance(event, DirtySampled) else event.dirtied_pages
            if not (isinstance(event, RoundSent) and event.stopped):
                points[event.number].append((event.at_ns - began[event.number], pages))
    return {
        number: Growth(began[number], tuple(at for at, _ in curve), tuple(pages for _, pages in curve))
        for number, curve in points.items()
    }


def expected_downtimes(
    trace: Trace, bytes_per_s: int, most_rounds: int = PAPER_ROUNDS, begins_ns: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The mean downtime in ns after 0, 1, ... rounds, over migrations that begin at ``begins_ns``.

    The default: every tenth of the trace. ``AdminError`` for a link without a rate.
    """
    if bytes_per_s <= 0:
        raise AdminError(f"A link of {bytes_per_s} bytes/s moves no machine: give it a rate above 0.")
    if begins_ns is None:
        begins_ns = [trace.duration_ns * tenth // 10 for tenth in range(10)]
    runs = [_downtimes(trace, bytes_per_s, most_rounds, begin_ns) for begin_ns in begins_ns]
    return tuple(sum(each) // len(runs) for each in zip(*runs, strict=True))


def _downtimes(trace: Trace, bytes_per_s: int, most_rounds: int, now_ns: int) -> list[int]:
    left = trace.pages
    result = [_sending_ns(left, bytes_per_s)]
    for _ in range(most_rounds):
        writes = trace.between(now_ns, now_ns + min(result[-1], trace.duration_ns))
        now_ns += result[-1]
        left = len(np.unique(writes.ppns))
        result.append(_sending_ns(left, bytes_per_s))
    return result


def _sending_ns(pages: int, bytes_per_s: int) -> int:
    return pages * PAGE_BYTES * SECOND_NS // bytes_per_s


def _at_least_one(value_ns: int, what: str) -> None:
    if value_ns <= 0:
        raise AdminError(f"{what} of {value_ns} ns sees nothing: give more than 0.")
