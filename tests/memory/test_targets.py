"""Allocation targets, judged by taking the pages away one at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.memory.shares import MAX_SHARES, Claim, idle_page_price, next_to_give, rho
from vilab.memory.targets import allocation_targets

MB = 256
"""Pages in a megabyte."""


def page_at_a_time(claims: list[Claim], available_pages: int, tax: float) -> tuple[int, ...]:
    """Min-funding revocation to the letter, from everybody's maximum down."""
    held = [c.max_pages if c.shares else c.min_pages for c in claims]
    while sum(held) > available_pages:
        giver = next_to_give(claims, held, tax)
        assert giver is not None
        held[giver] -= 1
    return tuple(held)


@st.composite
def claims_strategy(draw: st.DrawFn, most: int = 120) -> list[Claim]:
    count = draw(st.integers(1, 6))
    shares = st.one_of(st.sampled_from([0, 1, 10, 10, 20]), st.integers(0, MAX_SHARES))
    claims = []
    for index in range(count):
        maximum = draw(st.integers(0, most))
        minimum = draw(st.one_of(st.just(0), st.integers(0, maximum)))
        claims.append(Claim(f"vm{index}", draw(shares), minimum, maximum, draw(st.integers(0, most))))
    return claims


TAX = st.one_of(st.sampled_from([0.0, 0.5, 0.75, 0.99]), st.floats(0, 0.99))


@given(claims_strategy(), st.integers(0, 800), TAX)
def test_targets_are_what_page_at_a_time_revocation_leaves(claims: list[Claim], extra: int, tax: float) -> None:
    available = sum(c.min_pages for c in claims) + extra
    assert allocation_targets(claims, available, tax) == page_at_a_time(claims, available, tax)


@given(claims_strategy(1 << 22), st.integers(0, 6 << 22), TAX)
def test_targets_fit_within_bounds_and_leave_nothing_unused(claims: list[Claim], available: int, tax: float) -> None:
    targets = allocation_targets(claims, available, tax)
    assert sum(targets) <= available
    if sum(c.min_pages for c in claims) <= available:
        assert all(c.min_pages <= t <= c.max_pages for c, t in zip(claims, targets, strict=True))
        assert all(t == c.min_pages for c, t in zip(claims, targets, strict=True) if not c.shares)
        assert sum(targets) == min(available, sum(c.max_pages if c.shares else c.min_pages for c in claims))
    else:
        assert all(0 <= t <= c.min_pages for c, t in zip(claims, targets, strict=True))


@given(claims_strategy(1 << 22), st.integers(0, 6 << 22), TAX)
def test_no_page_would_go_from_one_client_to_another(claims: list[Claim], available: int, tax: float) -> None:
    targets = allocation_targets(claims, available, tax)
    if sum(c.min_pages for c in claims) > available:
        return
    k = idle_page_price(tax)
    would_give = [rho(c, t, k) for c, t in zip(claims, targets, strict=True) if t > c.min_pages]
    would_take = [rho(c, t + 1, k) for c, t in zip(claims, targets, strict=True) if t < c.max_pages and c.shares]
    if would_give and would_take:
        assert min(would_give) >= max(would_take)


@given(claims_strategy(1 << 20), st.integers(0, 6 << 20), st.integers(0, 1 << 20), TAX)
def test_more_memory_lowers_nobodys_target(claims: list[Claim], available: int, more: int, tax: float) -> None:
    before, after = (allocation_targets(claims, pages, tax) for pages in (available, available + more))
    assert all(a <= b for a, b in zip(before, after, strict=True))


def test_figure_7_the_idle_guest_is_taxed_down_to_101_mb() -> None:
    idle, busy = Claim("Windows", 2560, 0, 256 * MB, 8 * MB), Claim("Linux", 2560, 0, 256 * MB, 195 * MB)
    taxed = [pages / MB for pages in allocation_targets([idle, busy], 342 * MB, tax=0.75)]
    assert taxed == pytest.approx([101, 241], abs=2)
    assert allocation_targets([idle, busy], 342 * MB, tax=0) == (171 * MB, 171 * MB)


def test_figure_7_without_tax_358_mb_are_two_times_179() -> None:
    claims = [Claim("Windows", 2560, 0, 256 * MB, 8 * MB), Claim("Linux", 2560, 0, 256 * MB, 195 * MB)]
    assert allocation_targets(claims, 358 * MB, tax=0) == (179 * MB, 179 * MB)


def test_shares_two_to_one_divide_memory_two_to_one() -> None:
    claims = [Claim("a", 2000, 0, 1000, 1000), Claim("b", 1000, 0, 1000, 1000)]
    assert allocation_targets(claims, 900) == (600, 300)


def test_a_reservation_is_kept_and_a_limit_not_passed() -> None:
    claims = [Claim("kept", 1, 400, 1000, 0), Claim("limited", 5000, 0, 100, 100), Claim("rest", 10, 0, 1000, 1000)]
    assert allocation_targets(claims, 900) == (400, 100, 400)


def test_minimums_that_do_not_fit_are_cut_alike() -> None:
    assert allocation_targets([Claim("a", 9, 300, 300, 0), Claim("b", 1, 100, 300, 0)], 100) == (75, 25)
    assert allocation_targets([Claim("a", 9, 300, 300, 0)], -5) == (0,)


def test_no_clients_no_targets() -> None:
    assert allocation_targets([], 100) == ()


def test_a_minimum_above_the_maximum_is_refused_by_name() -> None:
    with pytest.raises(AdminError, match="web1 has 10 shares, a minimum of 5 and a maximum of 4 pages"):
        allocation_targets([Claim("web1", 10, 5, 4, 0)], 100)
