"""Pre-copy over traces: by hand, and page by page the same as a naive model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.migration.precopy_reference import migrate_page_by_page
from vilab.errors import AdminError
from vilab.migration.dirty_traces import Trace, Writes, workload
from vilab.migration.migration_events import RoundSent
from vilab.migration.precopy_model import Setting, migrate
from vilab.migration.rate_control import MBIT, RateLimits
from vilab.migration.termination import (
    ClarkPolicy,
    DowntimeGoal,
    FixedRounds,
    NelsonPolicy,
    NextRound,
    PreCopyPolicy,
    Stop,
    StopAndCopy,
)

MS = 1_000_000
PAGE_A_MS = 4096 * 1000
"""A link that takes one page a millisecond."""


def trace_of(pages: int, writes: Sequence[tuple[int, int, int]], duration_ns: int) -> Trace:
    """Writes are (time, page, process)."""
    times, ppns, writers = zip(*sorted(writes, key=lambda each: each[0]), strict=True) if writes else ((), (), ())
    arrays = Writes(np.array(times, np.int64), np.array(ppns, np.int32), np.array(writers, np.int16))
    return Trace("made", pages, duration_ns, arrays)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_four_pages_by_hand() -> None:
    """In order: turns at 0, 1, 2 ms; page 1 is written at 0.5 ms, before its turn: skipped, so page 2 has the turn at
    1 ms and page 3 at 2 ms. Page 2 is written at 1 ms, in the very instant of its turn: sent, and dirty."""
    trace = trace_of(4, [(MS // 2, 1, 0), (MS, 2, 0), (3 * MS, 0, 0)], 1000 * MS)
    outcome = migrate(FixedRounds(1), trace, Setting(PAGE_A_MS, pseudo_random=False, resume_ns=5 * MS, vm="vm"))
    assert outcome.rounds == (
        RoundSent(3 * MS, "vm", 1, 3, 0, 1, 3 * 4096, 3 * MS, 2, 2),
        RoundSent(5 * MS, "vm", 2, 2, 0, 0, 2 * 4096, 2 * MS, 0, 0, stopped=True),
    )
    assert outcome.last_sent_ns.tolist() == [0, 3 * MS, 4 * MS, 2 * MS]
    assert (outcome.sent_pages, outcome.sent_bytes) == (5, 5 * 4096)
    assert (outcome.stunned_at_ns, outcome.downtime_ns, outcome.total_ns) == (3 * MS, 7 * MS, 10 * MS)
    assert outcome.why == "1 of 1 rounds are sent"


def test_without_peeking_a_page_is_sent_for_nothing() -> None:
    trace = trace_of(4, [(MS // 2, 1, 0)], 1000 * MS)
    outcome = migrate(FixedRounds(1), trace, Setting(PAGE_A_MS, peek=False, pseudo_random=False))
    assert [(r.sent_pages, r.skipped_pages, r.dirtied_pages) for r in outcome.rounds] == [(4, 0, 1), (1, 0, 0)]


def test_stop_and_copy_is_memory_over_link() -> None:
    """512 MB take 32, 16, 8 s at 128, 256, 512 Mbit/s (MB of 2**20 bytes, Mbit of 2**20 bits, as the paper counts)."""
    trace = trace_of(512 * 256, [], 1000 * MS)
    for mbit, seconds in ((128, 32), (256, 16), (512, 8)):
        outcome = migrate(StopAndCopy(), trace, Setting(mbit * (1 << 20) // 8))
        assert outcome.downtime_ns == outcome.total_ns == seconds * 1000 * MS
        assert len(outcome.rounds) == 1


def test_a_limit_below_the_link_holds_and_one_above_does_not_help() -> None:
    class Limited:
        name = "limited"

        def first(self, pages: int) -> NextRound | Stop:
            return NextRound(PAGE_A_MS // 2)

        def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
            return NextRound(PAGE_A_MS * 3) if len(rounds) < 2 else Stop("enough", PAGE_A_MS // 4)

    every_ms = [(ms * MS, 0, 0) for ms in range(100)]
    outcome = migrate(Limited(), trace_of(1, every_ms, 100 * MS), Setting(PAGE_A_MS))
    assert [r.duration_ns for r in outcome.rounds] == [2 * MS, 1 * MS, 4 * MS]


def test_a_process_is_stunned_at_its_fault_and_not_for_writing_the_same_page_again() -> None:
    calm = [(ms * MS, 0, 1) for ms in range(1, 8)]
    wild = [(ms * MS, ms, 2) for ms in range(1, 8)]
    kernel = [(ms * MS, 10 + ms, 0) for ms in range(1, 8)]
    trace = trace_of(20, [*calm, *wild, *kernel], 1000 * MS)
    outcome = migrate(FixedRounds(1), trace, Setting(PAGE_A_MS, peek=False, pseudo_random=False, stun_faults=3))
    (stunned,) = outcome.stunned_writers
    assert (stunned.at_ns, stunned.number, stunned.address_space, stunned.faults) == (3 * MS, 1, 2, 3)
    assert outcome.rounds[0].dirtied_pages == 1 + 3 + 7


def test_a_fault_at_the_very_end_of_a_round_is_of_the_next() -> None:
    """Page 1 is skipped, so the round ends at 1 ms: when the process writes."""
    trace = trace_of(2, [(MS // 2, 1, 0), (MS, 0, 1)], 1000 * MS)
    setting = Setting(PAGE_A_MS, pseudo_random=False, stun_faults=1)
    assert migrate(FixedRounds(1), trace, setting).stunned_writers == ()
    assert [each.number for each in migrate(FixedRounds(2), trace, setting).stunned_writers] == [2]


# --- the same as the naive model -------------------------------------------------------------------------------------

PAGES = 12
LENGTH_NS = 40
A_WRITE = st.tuples(st.integers(0, LENGTH_NS - 1), st.integers(0, PAGES - 1), st.integers(0, 3))
RULES = st.one_of(
    st.builds(FixedRounds, st.integers(0, 6)),
    st.just(StopAndCopy()),
    st.builds(NelsonPolicy, small_pages=st.integers(0, 4)),
    st.builds(DowntimeGoal, st.integers(0, 40), st.integers(1, 6)),
    st.builds(
        ClarkPolicy,
        st.just(RateLimits(2 * 10**11, 4 * 10**12, 10**11, 4096 * 2)),
        st.integers(1, 6),
    ),
)
SETTINGS = st.builds(
    Setting,
    link_bytes_per_s=st.sampled_from([4096 * 10**9 // ns for ns in (1, 2, 3, 5, 20)]) | st.integers(10**11, 10**13),
    peek=st.booleans(),
    pseudo_random=st.booleans(),
    seed=st.integers(0, 5),
    stun_faults=st.integers(0, 3),
    stun_from_round=st.integers(1, 3),
    resume_ns=st.integers(0, 9),
    begin_ns=st.integers(0, 3 * LENGTH_NS),
)


@settings(max_examples=400)
@given(st.lists(A_WRITE, max_size=60), RULES, SETTINGS)
def test_it_is_the_naive_model(writes: list[tuple[int, int, int]], rule: PreCopyPolicy, setting: Setting) -> None:
    trace = trace_of(PAGES, writes, LENGTH_NS)
    model, naive = migrate(rule, trace, setting), migrate_page_by_page(rule, trace, setting)
    assert list(model.rounds) == naive.rounds
    assert [(s.at_ns, s.number, s.address_space) for s in model.stunned_writers] == naive.stunned
    assert (model.downtime_ns, model.total_ns) == (naive.downtime_ns, naive.total_ns)
    assert model.last_sent_ns.tolist() == [naive.last_sent_ns[ppn] for ppn in range(PAGES)]
    assert naive.source == naive.destination, "the naive model itself would lose a write"


@settings(max_examples=200)
@given(st.lists(A_WRITE, max_size=60), RULES, SETTINGS)
def test_every_page_is_sent_after_its_last_write_and_totals_add_up(
    writes: list[tuple[int, int, int]], rule: PreCopyPolicy, setting: Setting
) -> None:
    trace = trace_of(PAGES, writes, LENGTH_NS)
    outcome = migrate(rule, trace, setting)
    stunned = {each.address_space: each.at_ns for each in outcome.stunned_writers}
    seen = trace.between(setting.begin_ns, outcome.stunned_at_ns)
    for at_ns, ppn, writer in zip(seen.times_ns, seen.ppns, seen.writers, strict=True):
        if at_ns < stunned.get(int(writer), outcome.stunned_at_ns):
            assert outcome.last_sent_ns[ppn] > at_ns
    assert (outcome.last_sent_ns >= setting.begin_ns).all()

    rounds = outcome.rounds
    assert [r.number for r in rounds] == list(range(1, len(rounds) + 1))
    assert [r.stopped for r in rounds] == [False] * (len(rounds) - 1) + [True]
    work = PAGES
    for r in rounds:
        assert r.sent_pages + r.skipped_pages == work
        assert r.skipped_pages <= r.dirtied_pages
        work = r.dirtied_pages
    assert work == 0
    assert outcome.sent_pages == sum(r.sent_pages for r in rounds)
    assert outcome.sent_bytes == sum(r.sent_bytes for r in rounds) == outcome.sent_pages * 4096
    assert outcome.downtime_ns == rounds[-1].duration_ns + setting.resume_ns
    assert outcome.total_ns == sum(r.duration_ns for r in rounds) + setting.resume_ns
    assert outcome.total_ns == outcome.stunned_at_ns + outcome.downtime_ns - setting.begin_ns


@pytest.mark.parametrize("name", ["quake", "kernel-compile"])
def test_a_whole_workload_is_the_naive_model(name: str) -> None:
    trace = workload(name)
    setting = Setting(trace.scaled(500 * MBIT), stun_faults=40, stun_from_round=3)
    model, naive = migrate(FixedRounds(5), trace, setting), migrate_page_by_page(FixedRounds(5), trace, setting)
    assert list(model.rounds) == naive.rounds
    assert model.last_sent_ns.tolist() == [naive.last_sent_ns[ppn] for ppn in range(trace.pages)]
    assert naive.source == naive.destination


# --- what is refused -------------------------------------------------------------------------------------------------


class Answers:
    """A rule that a student got wrong."""

    name = "mine"

    def __init__(self, *answers: object) -> None:
        self.answers = answers

    def first(self, pages: int) -> NextRound | Stop:
        return self.answers[0]  # type: ignore[return-value]

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        return self.answers[min(len(rounds), len(self.answers) - 1)]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((None,), "mine has answered None: it has to be NextRound"),
        ((NextRound(), True), "mine has answered True"),
        ((NextRound(-5),), "asks for -5 bytes/s"),
        ((Stop("", -1),), "asks for -1 bytes/s"),
        ((NextRound(),), "mine has not stopped the machine after 1000 rounds"),
    ],
)
def test_a_rule_that_is_wrong_gets_a_sentence(answers: tuple[object, ...], words: str) -> None:
    with pytest.raises(AdminError, match=words):
        migrate(Answers(*answers), trace_of(4, [(0, 0, 0)], MS), Setting(PAGE_A_MS))


def test_a_link_without_a_rate_is_refused() -> None:
    with pytest.raises(AdminError, match="0 bytes/s moves no machine"):
        migrate(StopAndCopy(), trace_of(4, [], MS), Setting(0))


def test_a_round_longer_than_the_trace_sees_all_of_it() -> None:
    """A page that is written once a turn is dirty; a link of a page an hour does not need all turns in memory."""
    trace = trace_of(3, [(5, 0, 0), (7, 2, 0)], 10)
    outcome = migrate(FixedRounds(2), trace, Setting(4096, pseudo_random=False))
    assert [r.dirtied_pages for r in outcome.rounds] == [2, 2, 0]
