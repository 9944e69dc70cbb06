"""Dynamic rate limiting: worked by hand, and what Clark's figures say."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.migration.migration_events import RoundSent
from vilab.migration.rate_control import MBIT, RateLimits, after_round, dirtying_bytes_per_s, wanted_bytes_per_s

SECOND_NS = 1_000_000_000
LIMITS = RateLimits(100 * MBIT, 500 * MBIT)


def sent(dirtied_pages: int, duration_ns: int, number: int = 1) -> RoundSent:
    return RoundSent(0, "vm", number, 1000, 0, 0, 1000 * 4096, duration_ns, dirtied_pages, 0)


def paper_round(dirtied_mb: float, sent_mb: float, mbit_per_s: float) -> RoundSent:
    """MB are 10**6 bytes: 676.8 MB in 54.1 s are the paper's 100 Mbit/s only so."""
    return sent(round(dirtied_mb * 1e6 / 4096), round(sent_mb * 8 / mbit_per_s * SECOND_NS))


def test_a_megabit_is_a_million_bits() -> None:
    assert MBIT * 8 == 1_000_000


def test_the_next_limit_by_hand() -> None:
    # 5000 pages of 4096 bytes in 2 s: 10,240,000 bytes/s = 81.92 Mbit/s; and 50 more.
    decision = after_round(LIMITS, sent(5000, 2 * SECOND_NS))
    assert decision.stop == ""
    assert decision.limit_bytes_per_s == 10_240_000 + 6_250_000


def test_a_minimum_is_a_minimum() -> None:
    # 1000 pages in 10 s: 3.3 Mbit/s, and 50 are 53.3.
    assert after_round(LIMITS, sent(1000, 10 * SECOND_NS)).limit_bytes_per_s == 100 * MBIT


@pytest.mark.parametrize(("pages", "stops"), [(0, True), (63, True), (64, False), (65, False)])
def test_less_than_256_kb_end_it_and_just_256_kb_do_not(pages: int, stops: bool) -> None:
    decision = after_round(LIMITS, sent(pages, SECOND_NS))
    assert bool(decision.stop) is stops
    if stops:
        assert decision.limit_bytes_per_s == 500 * MBIT
        assert decision.stop == f"{pages * 4} KB are left, less than 256 KB"


def test_above_the_maximum_ends_it_and_just_at_the_maximum_does_not() -> None:
    # (500 - 50) Mbit/s are 56,250,000 bytes/s: 28,125 pages in 2.048 s exactly.
    at_maximum = sent(28_125, 2_048_000_000)
    assert wanted_bytes_per_s(LIMITS, at_maximum) == 500 * MBIT
    assert after_round(LIMITS, at_maximum).stop == ""
    above = after_round(LIMITS, sent(28_126, 2_048_000_000))
    assert above.limit_bytes_per_s == 500 * MBIT
    assert above.stop == "the next round would need 500.02 Mbit/s, more than the maximum of 500 Mbit/s"
    assert "921.19 Mbit/s" in after_round(LIMITS, sent(65_536, 2_465_000_000)).stop


def test_what_is_left_is_looked_at_before_the_rate() -> None:
    """Few pages in no time at all: a high rate, but nothing that is worth a round."""
    assert "KB are left" in after_round(LIMITS, sent(60, 1000)).stop


def test_a_round_that_took_no_time_has_no_rate() -> None:
    assert dirtying_bytes_per_s(sent(100, 0)) == 0
    assert after_round(LIMITS, sent(100, 0)).limit_bytes_per_s == 100 * MBIT


def test_specweb_first_round() -> None:
    """676.8 MB at 100 Mbit/s take 54.1 s. What it left was 126.7 MB: 18.7 Mbit/s and 50, below the minimum."""
    first = paper_round(126.7, 676.8, 100)
    assert first.duration_ns / SECOND_NS == pytest.approx(54.1, abs=0.1)
    assert dirtying_bytes_per_s(first) / MBIT == pytest.approx(18.7, abs=0.1)
    assert after_round(LIMITS, first).limit_bytes_per_s == 100 * MBIT


SPECWEB_MB = (676.8, 126.7, 39.0, 28.4, 24.2, 16.7, 14.2, 15.3, 18.2)
QUAKE_MB = (56.3, 20.4, 4.6, 1.6, 1.2, 0.9, 1.2, 1.1, 0.8, 0.2, 0.1)


def replay(sent_mb: tuple[float, ...], limits: RateLimits) -> tuple[list[float], float, int]:
    """Rates in Mbit/s, seconds until the stop, and the round after which it stops (0: none), if round n + 1 has just
    what round n has dirtied. The paper's bytes are those sent: pages skipped were dirty, too, so rates are at least
    these."""
    rate, rates, seconds, stop = limits.minimum_bytes_per_s / MBIT, [], 0.0, 0
    for number, (mb, next_mb) in enumerate(pairwise(sent_mb), 1):
        last = paper_round(next_mb, mb, rate)
        rates.append(rate)
        seconds += last.duration_ns / SECOND_NS
        decision = after_round(limits, last)
        if decision.stop:
            stop = number
            break
        rate = decision.limit_bytes_per_s / MBIT
    return rates, seconds, stop


def test_specweb_takes_the_paper_s_71_seconds_and_always_rises() -> None:
    rates, seconds, stop = replay(SPECWEB_MB, RateLimits(100 * MBIT, 700 * MBIT))
    assert rates[:3] == [100, 100, 100]
    assert rates[3:] == sorted(rates[3:])
    assert rates[3:] == pytest.approx([122.8, 154.6, 156.6, 183.3, 247.4], abs=0.5)
    assert stop == 0
    assert seconds + 0.201 == pytest.approx(71, rel=0.03)
    assert sum(SPECWEB_MB) / 800 == pytest.approx(1.20, abs=0.005)


def test_quake_takes_the_paper_s_7_seconds_and_stops_at_256_kb() -> None:
    _, seconds, stop = replay(QUAKE_MB, LIMITS)
    assert seconds == pytest.approx(7, rel=0.05)
    assert stop == len(QUAKE_MB) - 2  # 0.2 MB are 195 KB: the rule, with the figure's rounded numbers, one round early
    assert sum(QUAKE_MB) / 64 == pytest.approx(1.37, abs=0.02)


@given(st.integers(64, 1 << 24), st.integers(1, 10**13))
def test_the_next_round_is_faster_than_the_guest_by_50_mbit(pages: int, duration_ns: int) -> None:
    """Against exact fractions."""
    exact = Fraction(pages * 4096 * SECOND_NS, duration_ns) + 50 * MBIT
    decision = after_round(LIMITS, sent(pages, duration_ns))
    if decision.stop:
        assert exact > 500 * MBIT
        assert decision.limit_bytes_per_s == 500 * MBIT
    else:
        assert decision.limit_bytes_per_s == max(int(exact), 100 * MBIT)
        assert int(exact) <= 500 * MBIT


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 5, "least rate"),
        (-1, 5, "least rate"),
        (200 * MBIT, 100 * MBIT, "100 Mbit/s, is below the least, 200 Mbit/s"),
    ],
)
def test_limits_that_contradict_are_refused(low: int, high: int, words: str) -> None:
    with pytest.raises(AdminError, match=words):
        RateLimits(low, high)


def test_an_increment_has_to_be_one() -> None:
    with pytest.raises(AdminError, match="increment"):
        RateLimits(1, 2, increment_bytes_per_s=0)
