"""The local APIC's timer: a bus clock, divided, counts down and interrupts at 0.

::

    count   INITIAL ╲        ╲        ╲             one tick: 10 ns << DIVIDE
                     ╲        ╲        ╲
                  0 ──╲────────╲────────╲──> time   at 0: LVT_TIMER's vector; periodic: from INITIAL again
                      ^ interrupt

The count is never kept, but worked out from where it stood (``left``) at a known time (``started_ns``).
MODEL: an interval shorter than ``SHORTEST_NS`` comes only every so many intervals; what would have come between is one
request in IRR anyway.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.clock import Timer, VirtualClock
from vilab.devices.lapic_registers import MASKED, PERIODIC
from vilab.devices.lapic_state import LapicState

BUS_HZ = 100_000_000
"""What the timer counts before its divider."""
TICK_NS = 1_000_000_000 // BUS_HZ
SHORTEST_NS = 10_000


def count_ns(divide: int) -> int:
    """How long one count takes; ``divide``: the register, with its bits 3, 1 and 0."""
    shift = ((divide & 8) >> 1 | divide & 3) + 1 & 7
    return TICK_NS << shift


def current_count(s: LapicState, now_ns: int) -> int:
    gone = (now_ns - s.started_ns) // count_ns(s.divide)
    if gone < s.left:
        return s.left - gone
    if not s.lvt[0] & PERIODIC or not s.initial or not s.left:
        return 0
    return s.initial - (gone - s.left) % s.initial


def next_interrupt_ns(s: LapicState, now_ns: int) -> int | None:
    """When the count comes to its end, if that will interrupt."""
    if not s.left or s.lvt[0] & MASKED:
        return None
    tick_ns = count_ns(s.divide)
    at_ns = s.started_ns + s.left * tick_ns
    if at_ns <= now_ns and s.lvt[0] & PERIODIC and s.initial:
        at_ns += s.initial * tick_ns * ((now_ns - at_ns) // (s.initial * tick_ns) + 1)
    return at_ns if at_ns > now_ns else None


class LapicTimer:
    """Keeps a record's ``left``, ``started_ns`` and ``timer_at_ns``, and asks the clock to be called.

    Parameters
    ----------
    expired : called when the count has come to its end and that interrupts.
    """

    def __init__(self, clock: VirtualClock, state: LapicState, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._timer: Timer | None = None
        self._state = state

    @property
    def running(self) -> bool:
        """Will it interrupt?"""
        return self._timer is not None

    @property
    def count(self) -> int:
        return current_count(self._state, self._clock.now_ns)

    def load(self, state: LapicState) -> None:
        """Go on from another record."""
        self._state = state
        self._ask()

    def start(self, initial: int) -> None:
        s = self._state
        s.initial = s.left = initial
        s.started_ns = self._clock.now_ns
        self.schedule()

    def hold(self) -> None:
        """Take the count down before something changes that it depends on; ``schedule`` comes behind."""
        s = self._state
        s.left, s.started_ns = self.count, self._clock.now_ns

    def schedule(self) -> None:
        self._state.timer_at_ns = next_interrupt_ns(self._state, self._clock.now_ns)
        self._ask()

    def _ask(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at_ns = self._state.timer_at_ns
        self._timer = None if at_ns is None else self._clock.at(at_ns, self._timed_out)

    def _timed_out(self) -> None:
        s = self._state
        at_ns, self._timer, s.timer_at_ns = s.timer_at_ns, None, None
        if at_ns is not None and s.lvt[0] & PERIODIC and s.initial:
            interval_ns = s.initial * count_ns(s.divide)
            s.timer_at_ns = at_ns + interval_ns * -(-SHORTEST_NS // interval_ns)
            self._ask()
        elif not s.lvt[0] & PERIODIC:
            s.left = 0
        self._expired()
