"""The four states of free memory: thresholds, hysteresis, measures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.memory.free_states import (
    DOWNWARDS,
    MEASURES,
    FreeState,
    Paging,
    aim_free_pages,
    next_state,
)

HIGH, SOFT, HARD, LOW = DOWNWARDS
TOTAL = 100_000
"""A hundredth of a percent is 10 pages."""


def percent(value: float) -> int:
    return round(value * TOTAL / 100)


@pytest.mark.parametrize(
    ("state", "free_percent", "expected"),
    [
        (HIGH, 5.0, HIGH), (HIGH, 4.0, HIGH), (HIGH, 3.999, SOFT), (HIGH, 1.999, HARD), (HIGH, 0.999, LOW),
        (SOFT, 2.0, SOFT), (SOFT, 1.999, HARD), (SOFT, 6.0, SOFT), (SOFT, 6.5, SOFT), (SOFT, 6.501, HIGH),
        (HARD, 1.0, HARD), (HARD, 0.999, LOW), (HARD, 4.5, HARD), (HARD, 4.501, SOFT), (HARD, 6.501, HIGH),
        (LOW, 0.0, LOW), (LOW, 2.5, LOW), (LOW, 2.501, HARD), (LOW, 4.501, SOFT), (LOW, 6.501, HIGH),
    ],
)  # fmt: skip
def test_down_below_the_lower_threshold_up_clearly_above_the_higher(
    state: FreeState, free_percent: float, expected: FreeState
) -> None:
    assert next_state(state, percent(free_percent), TOTAL) == expected


def test_a_walk_down_and_up_returns_along_higher_thresholds() -> None:
    def walk(frees: list[float], state: FreeState) -> list[FreeState]:
        states = []
        for free in frees:
            state = next_state(state, percent(free), TOTAL)
            states.append(state)
        return states

    assert walk([7, 5, 3, 1.5, 0.5], HIGH) == [HIGH, HIGH, SOFT, HARD, LOW]
    assert walk([1.5, 3, 5, 7], LOW) == [LOW, HARD, SOFT, HIGH]


@given(st.sampled_from(DOWNWARDS), st.integers(0, TOTAL))
def test_the_same_free_memory_again_changes_nothing(state: FreeState, free: int) -> None:
    once = next_state(state, free, TOTAL)
    assert next_state(once, free, TOTAL) == once


@given(st.sampled_from(DOWNWARDS), st.floats(0, 100), st.floats(-1.49, 1.49))
def test_a_ripple_narrower_than_the_hysteresis_settles_after_one_wave(
    state: FreeState, free: float, ripple: float
) -> None:
    states = []
    for value in (free, free + ripple) * 4:
        state = next_state(state, percent(value), TOTAL)
        states.append(state)
    assert len(set(states[1:])) == 1


@given(st.sampled_from(DOWNWARDS), st.integers(1, 1 << 24))
def test_the_free_memory_aimed_at_leads_to_high_and_is_the_least_that_does(state: FreeState, total: int) -> None:
    assert next_state(state, aim_free_pages(total), total) == HIGH
    if state != HIGH:
        assert next_state(state, aim_free_pages(total) - 1, total) != HIGH


def test_measures_grow_from_nothing_to_blocking() -> None:
    assert [(m.balloon, m.paging, m.block_above_target) for m in (MEASURES[s] for s in DOWNWARDS)] == [
        (False, Paging.NEVER, False),
        (True, Paging.WITHOUT_BALLOON, False),
        (False, Paging.ALWAYS, False),
        (False, Paging.ALWAYS, True),
    ]


def test_a_host_without_memory_is_refused() -> None:
    with pytest.raises(AdminError, match="0 pages"):
        next_state(HIGH, 0, 0)
