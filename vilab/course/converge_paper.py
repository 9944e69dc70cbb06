"""Clark's rule on traces of writes, at the paper's sizes, and the paper's own figures beside it.

::

    trace (a sixteenth)  ──> precopy_model ──> rounds ──> x 16 ──> events, as a migration reports them
            rule  ──────────────┘

A trace of a machine 16 times smaller goes over a link 16 times slower, and takes the paper's time. What is shown is
multiplied by 16 again: MODEL: a page of the trace stands for 16 of the machine.

Source: Clark et al. 2005, figures 8, 9, 11, 12 and section 6. ``MOST_MBIT`` and ``RESUME_MS`` are the paper's where it
gives them (the last rounds' rate in figures 8 and 9; 9 ms and 40 ms to resume).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from vilab.course.feedback import columns
from vilab.events import Event
from vilab.migration import migration_events as say
from vilab.migration.dirty_traces import Trace, workload
from vilab.migration.migration_events import RoundSent
from vilab.migration.precopy_model import Outcome, Setting, migrate
from vilab.migration.rate_control import MBIT, RateLimits
from vilab.migration.termination import ClarkPolicy, FixedRounds, NextRound, PreCopyPolicy, Stop, work_pages

MS, SECOND = 1_000_000, 1_000_000_000
LEAST_MBIT, USUAL_MOST_MBIT, LINK_MBIT = 100, 500, 1000
MOST_MBIT = {"static-web": 700, "specweb": 725}
RESUME_MS = {"quake": 40, "static-web": 9, "specweb": 9}


class Paper(msgspec.Struct, frozen=True):
    """Of the paper's run. ``sent_mb``: in units of 10**6 bytes; ``None``: not given."""

    memory_mb: int
    sent_mb: float | None
    total_s: float
    downtime_ms: int


PAPER = {
    "quake": Paper(64, 88, 7, 60),
    "static-web": Paper(800, None, 72, 165),
    "specweb": Paper(800, 960, 71, 210),
    "constant-writer": Paper(512, 638, 24, 3500),
}
"""The writer's total is read off an axis: 22 to 25 s. The static server: 62 s for round 1, 9.8 s for the others."""


def enlarged(sent: RoundSent, divisor: int) -> RoundSent:
    return msgspec.structs.replace(
        sent, sent_pages=sent.sent_pages * divisor, skipped_pages=sent.skipped_pages * divisor,
        dirtied_pages=sent.dirtied_pages * divisor, sent_bytes=sent.sent_bytes * divisor, traces=sent.traces * divisor,
    )  # fmt: skip


class AtPaperSize(msgspec.Struct, frozen=True):
    """A rule that sees the paper's sizes while the model goes on with those of the trace."""

    rule: PreCopyPolicy
    divisor: int

    @property
    def name(self) -> str:
        return self.rule.name

    def first(self, pages: int) -> NextRound | Stop:
        return self._reduced(self.rule.first(pages * self.divisor))

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        return self._reduced(self.rule.next([enlarged(each, self.divisor) for each in rounds]))

    def _reduced(self, answer: NextRound | Stop) -> NextRound | Stop:
        limit = answer.limit_bytes_per_s
        return msgspec.structs.replace(answer, limit_bytes_per_s=max(1, limit // self.divisor) if limit else 0)


@cache
def by_clark(name: str, least_mbit: int = LEAST_MBIT, most_mbit: int = 0) -> tuple[Outcome, tuple[Event, ...]]:
    """Clark's rule on a workload. ``most_mbit``: 0 is the paper's. ``AdminError`` for limits that make no sense."""
    trace = workload(name)
    most = most_mbit or MOST_MBIT.get(name, USUAL_MOST_MBIT)
    rule = ClarkPolicy(RateLimits(least_mbit * MBIT, most * MBIT))
    setting = Setting(trace.scaled(LINK_MBIT * MBIT), resume_ns=RESUME_MS.get(name, 0) * MS, vm=name)
    outcome = migrate(AtPaperSize(rule, trace.divisor), trace, setting)
    return outcome, as_events(outcome, trace, rule)


def as_events(outcome: Outcome, trace: Trace, rule: PreCopyPolicy) -> tuple[Event, ...]:
    """What a migration at the paper's size would have reported."""
    vm, many = trace.name, trace.divisor
    rounds = [enlarged(each, many) for each in outcome.rounds]
    pages = trace.pages * many
    began_ns = rounds[0].at_ns - rounds[0].duration_ns
    events: list[Event] = [say.MigrationBegan(began_ns, vm, "host A", "host B", pages, "traces", rule.name)]
    answer = rule.first(pages)
    for at, each in enumerate(rounds):
        begins_ns = each.at_ns - each.duration_ns
        if each.stopped:
            events.append(say.MachineStunned(begins_ns, vm, each.sent_pages, answer.why))
        limit = answer.limit_bytes_per_s
        events += [say.RoundBegan(begins_ns, vm, each.number, work_pages(each), limit), each]
        if not each.stopped:
            answer = rule.next(rounds[: at + 1])
    over_ns = outcome.stunned_at_ns + outcome.downtime_ns
    sent_bytes = outcome.sent_bytes * many
    events += [
        say.MachineResumed(over_ns, vm, "host B", outcome.downtime_ns, True),
        say.MigrationEnded(over_ns, vm, True, "", sent_bytes, outcome.total_ns, outcome.downtime_ns),
    ]
    return tuple(events)


def paper_table() -> str:
    """The paper's run, and the rule on a trace that was fitted to it, a line each."""
    rows = [("", "machine", "MB sent", "paper", "seconds", "paper", "ms stopped", "paper")]
    for name, paper in PAPER.items():
        outcome, _ = by_clark(name)
        sent_mb = outcome.sent_bytes * workload(name).divisor / 1e6
        rows.append((
            name, f"{paper.memory_mb} MB", f"{sent_mb:.0f}", f"{paper.sent_mb:.0f}" if paper.sent_mb else "-",
            f"{outcome.total_ns / SECOND:.0f}", f"{paper.total_s:.0f}", f"{outcome.downtime_ns / MS:.0f}",
            str(paper.downtime_ms),
        ))  # fmt: skip
    return "\n".join(columns(rows))


FIGURE_7 = (5396, 3094, 3929, 3065, 3297, 3471, 3166, 4190, 2941, 1743, 4343), (421, 225, 73, 87)
"""Pages a round of a kernel build, rounds 2 to 12 and, its writers stunned, 13 to 16. Read off the figure."""
STUN_PAGES = 40


def stunned_build() -> str:
    """Pages a round of a kernel build before and after its writers are stunned: the paper's figure, and the trace."""
    trace, first = workload("kernel-compile"), len(FIGURE_7[0]) + 2
    faults = -(-STUN_PAGES // trace.divisor)  # a page of the trace stands for so many
    setting = Setting(trace.scaled(USUAL_MOST_MBIT * MBIT), stun_faults=faults, stun_from_round=first - 1)
    outcome = migrate(FixedRounds(first + 3), trace, setting)
    sent = [(each.sent_pages + each.skipped_pages) * trace.divisor for each in outcome.rounds]
    before, after = sent[1 : first - 1], sent[first - 1 : first + 3]
    rows = [("pages a round", "before, on average", "after the writers are stunned")]
    for name, usual, rest in (("Clark et al., figure 7", *FIGURE_7), ("the trace of a build", before, after)):
        rows.append((name, f"{sum(usual) / len(usual):,.0f}", ", ".join(map(str, rest))))
    return "\n".join(columns(rows))
