"""Traces of writes: what they are, and how fast they make pages dirty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.events import Event
from vilab.migration.dirty_traces import (
    PAGES_A_MB,
    SECOND_NS,
    WORKLOADS,
    WRITER_SWEEP_S,
    Part,
    Trace,
    Writes,
    synthetic,
    workload,
)
from vilab.migration.migration_events import DirtySampled, RoundBegan, RoundSent
from vilab.migration.working_set import Growth, expected_downtimes, growth, growth_of_rounds, windows

MBIT = 125_000


def writes_of(*writes: tuple[int, int]) -> Writes:
    times, ppns = zip(*writes, strict=True)
    return Writes(np.array(times, np.int64), np.array(ppns, np.int32), np.zeros(len(writes), np.int16))


# --- every workload --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_a_trace_that_says_what_it_was_fitted_to(name: str) -> None:
    trace = workload(name)
    assert trace.name == name
    assert 16 * PAGES_A_MB <= trace.pages <= 64 * PAGES_A_MB
    assert trace.fitted_to
    assert len(trace.writes)
    assert trace.pages * trace.divisor in {mb * PAGES_A_MB for mb in (64, 512, 800)}


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_same_seed_gives_the_same_trace_and_another_another(name: str) -> None:
    first, second, other = (WORKLOADS[name](seed).writes for seed in (1, 1, 2))
    assert np.array_equal(first.times_ns, second.times_ns)
    assert np.array_equal(first.ppns, second.ppns)
    if name == "constant-writer":
        assert np.array_equal(first.times_ns, other.times_ns), "a sweep has nothing random but its place"
    else:
        assert not np.array_equal(first.times_ns, other.times_ns)


def test_a_workload_is_made_once_and_nobody_can_change_it() -> None:
    assert workload("idle") is workload("idle")
    with pytest.raises(ValueError, match="read-only"):
        workload("idle").writes.ppns[0] = 3


def test_a_workload_that_is_not_there_gets_a_sentence() -> None:
    with pytest.raises(AdminError, match="no workload 'doom'; there are: idle, quake"):
        workload("doom")


# --- synthetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hz", [0.05, 1.0, 20.0])
def test_pages_written_at_random_are_dirty_as_the_formula_says(hz: float) -> None:
    """Of n pages at rate r, n * (1 - exp(-r t)) are dirty after t; five standard deviations."""
    n, t = 4000, 2.0
    trace = synthetic("poisson", 8000, [Part(n, hz)], 10 * SECOND_NS, seed=7)
    expected = n * (1 - math.exp(-hz * t))
    found = growth(trace, int(t * SECOND_NS)).pages[-1]
    assert abs(found - expected) <= 5 * math.sqrt(max(expected * (1 - expected / n), 1))


def test_parts_share_no_page_and_lie_in_runs() -> None:
    parts = [Part(64, 50.0, writer=1, run_pages=8), Part(64, 50.0, writer=2, run_pages=8)]
    writes = synthetic("two", 256, parts, SECOND_NS, seed=3).writes
    pages = [set(writes.ppns[writes.writers == writer].tolist()) for writer in (1, 2)]
    assert [len(each) for each in pages] == [64, 64]
    assert not pages[0] & pages[1]
    assert {len({ppn for ppn in each if ppn // 8 == run}) for each in pages for run in range(32)} == {0, 8}


def test_parts_have_all_their_pages_even_if_little_is_free() -> None:
    parts = [Part(50, 100.0, writer=1, run_pages=7), Part(50, 100.0, writer=2, run_pages=3)]
    writes = synthetic("full", 100, parts, SECOND_NS, seed=3).writes
    assert len(np.unique(writes.ppns)) == 100


def test_parts_larger_than_the_machine_are_refused() -> None:
    with pytest.raises(AdminError, match="have 101 pages, its machine only 100"):
        synthetic("large", 100, [Part(60, 1.0), Part(41, 1.0)], SECOND_NS, seed=1)


def test_no_parts_are_an_empty_trace() -> None:
    trace = synthetic("nothing", 100, [], SECOND_NS, seed=1)
    assert len(trace.between(0, 10 * SECOND_NS)) == 0
    assert windows(trace, SECOND_NS) == (0,)


def test_a_sweep_writes_every_page_once_a_turn_and_in_order() -> None:
    trace = workload("constant-writer")
    turn = trace.between(0, int(WRITER_SWEEP_S * SECOND_NS))
    assert len(turn) == len(np.unique(turn.ppns)) == 16 * PAGES_A_MB
    assert (np.diff(turn.ppns) == 1).all()


# --- a trace ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 4)), max_size=20), st.integers(0, 70), st.integers(0, 70))
def test_a_trace_repeats_when_it_is_over(writes: list[tuple[int, int]], start: int, length: int) -> None:
    writes.sort(key=lambda each: each[0])
    trace = Trace("made", 5, 20, writes_of(*writes) if writes else synthetic("", 5, [], 20, 1).writes)
    found = trace.between(start, start + length)
    every = [(at + 20 * turn, ppn) for turn in range(8) for at, ppn in writes]
    assert list(zip(found.times_ns.tolist(), found.ppns.tolist(), strict=True)) == [
        each for each in every if start <= each[0] < start + length
    ]


@pytest.mark.parametrize(
    ("writes", "pages", "duration_ns", "words"),
    [
        (writes_of((0, 5)), 5, 10, "outside of the 5 pages"),
        (writes_of((0, -1)), 5, 10, "outside of the 5 pages"),
        (writes_of((3, 0), (2, 0)), 5, 10, "not in order"),
        (writes_of((10, 0)), 5, 10, "not within its duration"),
        (writes_of((-1, 0)), 5, 10, "not within its duration"),
        (writes_of((0, 0)), 0, 10, "0 pages"),
        (writes_of((0, 0)), 1, 0, "0 ns"),
        (Writes(np.zeros(2, np.int64), np.zeros(1, np.int32), np.zeros(1, np.int16)), 5, 10, "where and by whom"),
    ],
)
def test_what_is_no_trace_gets_a_sentence(writes: Writes, pages: int, duration_ns: int, words: str) -> None:
    with pytest.raises(AdminError, match=words):
        Trace("bad", pages, duration_ns, writes)


def test_a_rate_scales_with_the_machine() -> None:
    trace = workload("specweb")
    assert trace.scaled(100 * MBIT) == 100 * MBIT // 16
    assert trace.scaled(1) == 1, "never a link without a rate"


# --- working set -----------------------------------------------------------------------------------------------------

SMALL = Trace("small", 10, 100, writes_of((0, 1), (5, 1), (10, 2), (10, 3), (49, 1), (50, 4), (99, 4)))


def test_windows_count_different_pages() -> None:
    assert windows(SMALL, 50) == (3, 1)
    assert windows(SMALL, 30) == (3, 2, 0, 1)
    assert windows(SMALL, 1000) == (4,)


def test_growth_counts_different_pages_since_the_beginning() -> None:
    """A sample at 10 does not have the write at 10: it is of what was written before."""
    assert growth(SMALL, 60, sample_ns=10) == Growth(0, (0, 10, 20, 30, 40, 50, 60), (0, 1, 3, 3, 3, 3, 4))
    assert growth(SMALL, 20, begin_ns=95, sample_ns=5).pages == (0, 1, 2, 2, 4)


def test_growth_of_a_migration_is_read_from_its_events() -> None:
    events: list[Event] = [
        DirtySampled(5, "vm", 1, 9, 9),
        RoundBegan(100, "vm", 1, 10, 0),
        DirtySampled(150, "vm", 1, 3, 5),
        DirtySampled(150, "other", 1, 9, 5),
        RoundSent(200, "vm", 1, 9, 0, 1, 9 * 4096, 100, 4, 4),
        RoundBegan(200, "vm", 2, 4, 0),
        RoundSent(210, "vm", 2, 4, 0, 0, 4 * 4096, 10, 0, 0, stopped=True),
    ]
    assert growth_of_rounds(events, "vm") == {1: Growth(100, (0, 50, 100), (0, 3, 4)), 2: Growth(200, (0,), (0,))}
    again = [*events, RoundBegan(300, "vm", 1, 10, 0), DirtySampled(301, "vm", 1, 1, 1)]
    assert growth_of_rounds(again, "vm") == {1: Growth(300, (0, 1), (0, 1))}
    assert growth_of_rounds(events, "nobody") == {}


def test_expected_downtimes_by_hand() -> None:
    """10 pages at a page every 10 ns: 100 ns; in them 4 pages are written: 40 ns; in [100, 140) 3, in [140, 170) 2."""
    assert expected_downtimes(SMALL, 4096 * SECOND_NS // 10, 3, [0]) == (100, 40, 30, 20)
    # from 50: 4 pages in a whole turn; then [150, 190): page 4 only; then [190, 200): page 4.
    assert expected_downtimes(SMALL, 4096 * SECOND_NS // 10, 3, [50]) == (100, 40, 10, 10)
    assert expected_downtimes(SMALL, 4096 * SECOND_NS // 10, 3, [0, 50]) == (100, 40, 20, 15)


def test_expected_downtimes_of_512_mb_and_diminishing_returns() -> None:
    """32, 16 and 8 s without pre-copy (Clark, section 4), much less with a round, and less and less to win after."""
    trace = workload("kernel-compile")
    for mbit, seconds in ((128, 32), (256, 16), (512, 8)):
        after = expected_downtimes(trace, (mbit << 20) // 8 // trace.divisor)
        assert after[0] == seconds * SECOND_NS
        assert after[1] * 4 < after[0]
        assert after[0] - after[1] > 4 * (after[1] - after[2]) > 0
        assert after[4] > 0


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(AdminError, match="0 bytes/s"):
        expected_downtimes(SMALL, 0)
    with pytest.raises(AdminError, match="A window of 0 ns"):
        windows(SMALL, 0)
    with pytest.raises(AdminError, match="two samples of -1 ns"):
        growth(SMALL, 10, sample_ns=-1)
