"""The working-set estimator."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.memory.sampling import (
    PERIOD_NS,
    RandomPages,
    Sampler,
    active_fraction,
    active_pages,
    close_period,
    estimates,
    new_sampler,
    note_touch,
    open_period,
    ran,
)

PAGES = 65_536


def live_through(sampler: Sampler, working_set: int) -> None:
    """One period of a guest that uses its first ``working_set`` pages, many times each."""
    for ppn in list(sampler.untouched) * 2:
        if ppn < working_set:
            note_touch(sampler, ppn)
    assert ran(sampler, PERIOD_NS) is not None


def settled(working_set: int, seed: int = 1, periods: int = 1) -> Sampler:
    sampler = new_sampler(PAGES, seed)
    open_period(sampler)
    for _ in range(periods):
        live_through(sampler, working_set)
    return sampler


def test_splitmix64_gives_the_published_numbers() -> None:
    # First outputs for the seed 1234567, as test vectors of several implementations have them.
    random = RandomPages(1234567)
    assert [random.next_u64() for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(st.integers(0, (1 << 64) - 1), st.integers(1, 5000), st.data())
def test_a_sample_is_of_different_pages_that_exist(seed: int, pages: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, min(pages, 200)))
    sample = RandomPages(seed).distinct(count, pages)
    assert len(set(sample)) == len(sample) == count
    assert all(0 <= ppn < pages for ppn in sample)


def test_each_page_is_drawn_about_equally_often() -> None:
    random, counts = RandomPages(7), [0] * 20
    for _ in range(4000):
        for page in random.distinct(5, 20):
            counts[page] += 1
    chi_squared = sum((n - 1000) ** 2 / 1000 for n in counts)
    assert chi_squared < 43.8  # 99.9 % point with 19 degrees of freedom


def test_a_period_is_30_s_of_execution_and_a_sample_100_pages() -> None:
    sampler = new_sampler(PAGES, 1)
    assert len(open_period(sampler)) == 100
    assert ran(sampler, 29_999_999_999) is None
    again = ran(sampler, 1)
    assert again is not None
    assert len(again) == 100
    assert sampler.periods == 1


def test_a_small_vm_has_all_its_pages_sampled() -> None:
    sampler = new_sampler(40, 1)
    assert sorted(open_period(sampler)) == list(range(40))
    for ppn in range(10):
        note_touch(sampler, ppn)
    close_period(sampler)
    assert active_fraction(sampler) == 0.25
    assert active_pages(sampler) == 10


def test_only_the_first_touch_of_a_sampled_page_counts() -> None:
    sampler = new_sampler(PAGES, 1)
    sample = open_period(sampler)
    other = next(ppn for ppn in range(PAGES) if ppn not in set(sample))
    assert [note_touch(sampler, p) for p in (sample[0], sample[0], other, sample[1])] == [True, False, False, True]
    assert sampler.touched == 2


def test_before_the_first_period_is_over_everything_counts_as_in_use() -> None:
    sampler = new_sampler(PAGES, 1)
    open_period(sampler)
    assert active_fraction(sampler) == 1.0
    live_through(sampler, 0)
    assert active_fraction(sampler) == 0.0


@pytest.mark.parametrize("percent", [5, 30, 50, 90])
def test_95_of_100_samples_are_within_10_points(percent: int) -> None:
    within = 0
    for seed in range(100):
        sampler = settled(PAGES * percent // 100, seed)
        within += abs(active_fraction(sampler) - percent / 100) <= 0.10
    assert within >= 95


def test_a_rise_is_seen_within_its_first_period() -> None:
    sampler = settled(0, periods=10)
    assert active_fraction(sampler) == 0.0
    for ppn in list(sampler.untouched)[:60]:
        note_touch(sampler, ppn)
    slow, fast, fast_now = estimates(sampler)
    assert (slow, fast) == (0.0, 0.0)
    assert active_fraction(sampler) == fast_now == pytest.approx(0.45)


def test_a_rise_is_done_in_two_periods_and_a_fall_takes_many() -> None:
    sampler = settled(0, periods=10)
    live_through(sampler, PAGES)
    live_through(sampler, PAGES)
    assert active_fraction(sampler) > 0.9
    for _ in range(20):
        live_through(sampler, PAGES)
    fall = []
    for _ in range(20):
        live_through(sampler, 0)
        fall.append(active_fraction(sampler))
    assert fall == sorted(fall, reverse=True)
    assert fall[1] > 0.7
    assert fall[-1] < 0.1


@given(st.lists(st.integers(0, PAGES), min_size=1, max_size=12), st.integers(0, 1 << 64))
def test_the_estimate_is_a_fraction_and_no_less_than_any_of_the_three(history: list[int], seed: int) -> None:
    sampler = new_sampler(PAGES, seed)
    open_period(sampler)
    for working_set in history:
        live_through(sampler, working_set)
        assert all(0 <= e <= active_fraction(sampler) <= 1 for e in estimates(sampler))


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_been() -> None:
    sampler = settled(PAGES // 3, periods=3)
    note_touch(sampler, next(iter(sampler.untouched)))
    twin = msgspec.msgpack.decode(msgspec.msgpack.encode(sampler), type=Sampler)
    assert twin == sampler
    for working_set in (100, PAGES, 5000):
        live_through(sampler, working_set)
        live_through(twin, working_set)
        assert (list(twin.untouched), estimates(twin)) == (list(sampler.untouched), estimates(sampler))
