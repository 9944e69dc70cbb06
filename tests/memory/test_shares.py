"""Shares, the price of idle memory, and min-funding revocation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.memory.shares import (
    Claim,
    adjusted_shares_per_page,
    charge,
    idle_page_price,
    next_to_give,
    rho,
    shares_of,
)


def test_levels_are_5_10_and_20_shares_a_megabyte() -> None:
    assert [shares_of(level, 256) for level in ("low", "normal", "high")] == [1280, 2560, 5120]
    assert shares_of(777, 256) == 777


@pytest.mark.parametrize("level", ["huge", "", -1, 100_001])
def test_other_shares_are_refused_with_what_was_said(level: str | int) -> None:
    with pytest.raises(AdminError, match=repr(level) if isinstance(level, str) else str(level)):
        shares_of(level, 256)


def test_tax_of_75_percent_makes_an_idle_page_cost_four() -> None:
    assert idle_page_price(0) == 1
    assert idle_page_price(0.75) == 4


@pytest.mark.parametrize("tax", [-0.1, 1.0, 75, math.nan])
def test_a_tax_outside_its_range_is_refused(tax: float) -> None:
    with pytest.raises(AdminError, match="idle memory tax"):
        idle_page_price(tax)


def test_rho_of_an_idle_client_is_a_quarter_of_a_busy_ones() -> None:
    assert adjusted_shares_per_page(1000, 500, 1.0) == 2
    assert adjusted_shares_per_page(1000, 500, 0.0) == 0.5
    assert adjusted_shares_per_page(1000, 500, 0.5) == 1000 / (500 * 2.5)
    assert adjusted_shares_per_page(1000, 500, 0.0, tax=0) == 2
    assert adjusted_shares_per_page(1000, 0, 0.0) == math.inf


@given(st.integers(1, 1 << 24), st.integers(0, 1 << 24), st.integers(0, 10**5), st.floats(0, 0.99))
def test_rho_by_working_set_is_the_formula_by_fraction(pages: int, active: int, shares: int, tax: float) -> None:
    claim = Claim("a", shares, 0, pages, active)
    expected = adjusted_shares_per_page(shares, pages, min(1.0, active / pages), tax)
    assert rho(claim, pages, idle_page_price(tax)) == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 1 << 22), st.integers(0, 1 << 22), st.floats(0, 0.99))
def test_one_page_more_always_costs_more(pages: int, active: int, tax: float) -> None:
    k = idle_page_price(tax)
    assert charge(pages + 1, active, k) > charge(pages, active, k)


def test_the_idle_client_gives_first() -> None:
    busy, idle = Claim("busy", 1000, 0, 400, 400), Claim("idle", 1000, 0, 400, 10)
    assert next_to_give([busy, idle], [300, 100]) == 1  # 300 against 10 + 4 x 90 = 370
    assert next_to_give([busy, idle], [300, 80]) == 0  # 300 against 10 + 4 x 70 = 290
    assert next_to_give([busy, idle], [300, 100], tax=0) == 0


def test_nobody_gives_below_its_minimum() -> None:
    poor, rich = Claim("poor", 1, 50, 100, 0), Claim("rich", 10**5, 20, 100, 100)
    assert next_to_give([poor, rich], [51, 100]) == 0
    assert next_to_give([poor, rich], [50, 100]) == 1
    assert next_to_give([poor, rich], [50, 20]) is None


def test_a_client_without_shares_gives_first_and_of_equals_the_first() -> None:
    none, some = Claim("none", 0, 0, 100, 100), Claim("some", 1, 0, 100, 0)
    assert next_to_give([some, none], [100, 1]) == 1
    assert next_to_give([some, some], [70, 70]) == 0
