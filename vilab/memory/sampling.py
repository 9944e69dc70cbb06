"""How much memory a guest uses, learnt without asking it: statistical sampling of its pages.

::

    period    |<-- 30 s of the VM's execution -->|<-- ...
              draw n = 100 pages, drop their     f = t / n goes into the averages
              mappings; each that is touched
              faults once and is counted: t

    estimate  = max( slow average,               changes of activity that last
                     fast average,               the last period or two
                     fast average with the       a rise within the period, before it is over
                       unfinished period )

The maximum rises fast and falls slowly: memory is given at once to a guest that wakes, and taken from one that rests
only after it has rested for a while.

Who calls: ``open_period`` says which pages to drop; each first touch of a dropped page goes to ``note_touch``; time
that the VM has run goes to ``ran``, which opens the next period when one is over. The state is a plain record, random
numbers included, so that a run can be stopped, saved and repeated.

The standard deviation of one sample is ``sqrt(f (1 - f) / n)``: at most 5 points with n = 100.

Source: Waldspurger 2002, section 5.3 (n, period, estimates, maximum).
MODEL: the paper gives no gains. These let the fast average take 94 % of a step in two periods, the slow one half of
it in about five.
MODEL: until a first period is over nothing is known, and everything counts as in use: a guest that boots is not taxed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

SAMPLE_PAGES = 100
"""n."""

PERIOD_NS = 30_000_000_000
"""Mem.SamplePeriod: 30 s of VM execution."""

FAST_GAIN = 3 / 4
SLOW_GAIN = 1 / 8

_MASK = (1 << 64) - 1


class RandomPages(msgspec.Struct):
    """A generator of random page numbers; its whole state is one 64-bit number (SplitMix64, Steele et al. 2014)."""

    state: int

    def next_u64(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        return z ^ z >> 31

    def below(self, bound: int) -> int:
        """Each of 0 .. bound - 1 equally often: draws from the incomplete last stretch are thrown away."""
        end = (1 << 64) // bound * bound
        while (draw := self.next_u64()) >= end:
            pass
        return draw % bound

    def distinct(self, count: int, bound: int) -> list[int]:
        """``count`` different numbers below ``bound``, each set of them equally likely (Floyd's method)."""
        chosen: dict[int, None] = {}
        for last in range(bound - count, bound):
            draw = self.below(last + 1)
            chosen[last if draw in chosen else draw] = None
        return list(chosen)


class Sampler(msgspec.Struct):
    """The state of one VM's estimator. ``pages``: how many it is sampled from, ppn 0 upwards."""

    pages: int
    random: RandomPages
    sample_pages: int = SAMPLE_PAGES
    period_ns: int = PERIOD_NS
    ran_ns: int = 0
    """How much of the period is over."""
    periods: int = 0
    """How many are over."""
    drawn: int = 0
    """n of this period: fewer than asked for where the VM has fewer pages."""
    untouched: dict[int, bool] = {}
    """Pages of the sample whose mappings are dropped; an ordered set."""
    touched: int = 0
    """t, so far."""
    slow: float = 0.0
    fast: float = 0.0


def new_sampler(pages: int, seed: int, sample_pages: int = SAMPLE_PAGES, period_ns: int = PERIOD_NS) -> Sampler:
    return Sampler(pages, RandomPages(seed & _MASK), sample_pages, period_ns)


def open_period(sampler: Sampler) -> Sequence[int]:
    """Draw a new sample. Answers with the ppns whose mappings the caller has to drop."""
    sampler.drawn = min(sampler.sample_pages, sampler.pages)
    sample = sampler.random.distinct(sampler.drawn, sampler.pages)
    sampler.untouched = dict.fromkeys(sample, True)
    sampler.touched = 0
    sampler.ran_ns = 0
    return sample


def note_touch(sampler: Sampler, ppn: int) -> bool:
    """The guest has touched a page. True where it is the first touch of a page of the sample."""
    if not sampler.untouched.pop(ppn, False):
        return False
    sampler.touched += 1
    return True


def ran(sampler: Sampler, by_ns: int) -> Sequence[int] | None:
    """The VM has executed for so long. Where that ends a period: the pages to drop for the next, otherwise ``None``.

    Time that exceeds a period is not carried over: the next sample starts when its pages are dropped, not before.
    """
    sampler.ran_ns += by_ns
    if sampler.ran_ns < sampler.period_ns:
        return None
    close_period(sampler)
    return open_period(sampler)


def close_period(sampler: Sampler) -> None:
    """``f = t / n`` goes into both averages: ``average += gain (f - average)``. The first sample is both of them."""
    if not sampler.drawn:
        return
    f = sampler.touched / sampler.drawn
    if sampler.periods:
        sampler.slow += SLOW_GAIN * (f - sampler.slow)
        sampler.fast += FAST_GAIN * (f - sampler.fast)
    else:
        sampler.slow = sampler.fast = f
    sampler.periods += 1
    sampler.drawn = 0
    sampler.untouched = {}


def estimates(sampler: Sampler) -> tuple[float, float, float]:
    """Slow, fast, and fast with the unfinished period counted as if it ended now."""
    f = sampler.touched / sampler.drawn if sampler.drawn else sampler.fast
    return sampler.slow, sampler.fast, sampler.fast + FAST_GAIN * (f - sampler.fast)


def active_fraction(sampler: Sampler) -> float:
    """The estimate in use: the largest of the three; everything, as long as nothing is known."""
    return max(estimates(sampler)) if sampler.periods else 1.0


def active_pages(sampler: Sampler) -> int:
    """The working set in pages, for ``shares.Claim``."""
    return round(active_fraction(sampler) * sampler.pages)
