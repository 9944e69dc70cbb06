"""Pre-copy as a child would do it: one write and one page after the other, with versions of pages on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from vilab.migration.dirty_traces import Trace
from vilab.migration.migration_events import RoundSent
from vilab.migration.precopy_model import Setting
from vilab.migration.termination import PreCopyPolicy, Stop


@dataclass
class Reference:
    rounds: list[RoundSent] = field(default_factory=list)
    stunned: list[tuple[int, int, int]] = field(default_factory=list)
    """When, in which round, who."""
    downtime_ns: int = 0
    total_ns: int = 0
    source: Counter[int] = field(default_factory=Counter)
    destination: Counter[int] = field(default_factory=Counter)
    """How often a page had been written when it was copied last."""
    last_write_ns: dict[int, int] = field(default_factory=dict)
    last_sent_ns: dict[int, int] = field(default_factory=dict)


def repeated(trace: Trace, begin_ns: int) -> Iterator[tuple[int, int, int]]:
    once = list(
        zip(trace.writes.times_ns.tolist(), trace.writes.ppns.tolist(), trace.writes.writers.tolist(), strict=True)
    )
    turn = 0
    while True:
        for at, ppn, writer in once:
            if (at_ns := at + turn * trace.duration_ns) >= begin_ns:
                yield at_ns, ppn, writer
        turn += 1
        if not once:
            yield (1 << 62), 0, 0


def migrate_page_by_page(policy: PreCopyPolicy, trace: Trace, setting: Setting) -> Reference:
    result = Reference()
    order = list(range(trace.pages))
    if setting.pseudo_random:
        order = np.random.Generator(np.random.PCG64(setting.seed)).permutation(trace.pages).tolist()
    writes = repeated(trace, setting.begin_ns)
    pending = next(writes)
    now_ns, left, number = setting.begin_ns, set(range(trace.pages)), 0
    stunned: set[int] = set()
    answer = policy.first(trace.pages)
    while True:
        number += 1
        stopped = isinstance(answer, Stop)
        rate = min(answer.limit_bytes_per_s or setting.link_bytes_per_s, setting.link_bytes_per_s)
        began_ns, dirty, sent, skipped = now_ns, set(), 0, 0
        faults: Counter[int] = Counter()

        def write_until(time_ns: int) -> None:
            nonlocal pending
            while pending[0] < time_ns:
                at_ns, ppn, writer = pending
                pending = next(writes)
                if writer in stunned:
                    continue
                result.source[ppn] += 1
                result.last_write_ns[ppn] = at_ns
                if ppn in dirty:  # noqa: B023
                    continue
                dirty.add(ppn)  # noqa: B023
                faults[writer] += 1  # noqa: B023
                if writer and faults[writer] == setting.stun_faults and number >= setting.stun_from_round:  # noqa: B023
                    stunned.add(writer)
                    result.stunned.append((at_ns, number, writer))  # noqa: B023

        for ppn in order:
            if ppn not in left:
                continue
            now_ns = began_ns + sent * 4096 * 10**9 // rate
            if not stopped:
                write_until(now_ns)
                if setting.peek and ppn in dirty:
                    skipped += 1
                    continue
            result.destination[ppn] = result.source[ppn]
            result.last_sent_ns[ppn] = now_ns
            sent += 1
        now_ns = began_ns + sent * 4096 * 10**9 // rate
        if not stopped:
            write_until(now_ns)
        result.rounds.append(
            RoundSent(
                now_ns, setting.vm, number, sent, 0, skipped, sent * 4096, now_ns - began_ns, len(dirty), len(dirty),
                stopped,
            )
        )  # fmt: skip
        if stopped:
            result.downtime_ns = now_ns - began_ns + setting.resume_ns
            result.total_ns = now_ns + setting.resume_ns - setting.begin_ns
            return result
        left = dirty
        answer = policy.next(result.rounds)
