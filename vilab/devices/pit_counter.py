"""One counter of the 8254: what its count and its output are at any tick, as a formula over a few numbers.

Nothing counts here. A counter remembers the tick at which its count was loaded; everything else follows from the time.

::

    e = ticks since the load, N = count, p = e mod N

    mode                       count                 OUT is high            OUT rises at
    0 terminal count           N - e                 e >= N                 load + N
    1 one-shot (gate starts)   N - e                 e >= N                 load + N
    2 rate generator           N - p                 p < N - 1              load + k N
    3 square wave              (N & ~1) - 2 (p or    p < (N + 1) / 2        load + k N
                               p - (N + 1) / 2)
    4 strobe                   N - e                 e != N                 load + N + 1
    5 strobe (gate starts)     N - e                 e != N                 load + N + 1

Source: Intel 8254 datasheet (231164), mode definitions. Modes 6 and 7 are 2 and 3 written otherwise.
MODEL: an illegal count of 1 in modes 2 and 3 runs as 2. MODEL: a new count in mode 3 takes over at the end of the
period, not of the half period.
"""

from __future__ import annotations

import msgspec

ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH = 1, 2, 3


class CounterState(msgspec.Struct):
    """Ticks are of the 1.193182 MHz input, absolute, from power-on.

    count : N that is counting; ``load_tick`` : when it was loaded, ``None`` before a count (or a trigger) has come.
    stop_tick : when the gate stopped it. next_count : written, waits for ``next_tick`` (``None``: for the gate).
    low_byte : first half of a two-byte write. latched, latched_status : what the next reads give.
    """

    mode: int = 3
    access: int = ACCESS_BOTH
    bcd: bool = False
    gate: bool = True
    count: int = 0x10000
    load_tick: int | None = None
    stop_tick: int | None = None
    next_count: int | None = None
    next_tick: int | None = None
    low_byte: int | None = None
    read_high: bool = False
    latched: int | None = None
    latched_status: int | None = None


def settle(c: CounterState, tick: int) -> None:
    """Let a new count that was waiting for the end of the period take over."""
    if c.next_tick is not None and tick >= c.next_tick:
        assert c.next_count is not None
        c.count, c.load_tick = c.next_count, c.next_tick
        c.next_count = c.next_tick = None


def elapsed(c: CounterState, tick: int) -> int:
    """Ticks since the load; 0 while the load still waits for its edge."""
    if c.load_tick is None:
        return 0
    return max((tick if c.stop_tick is None else c.stop_tick) - c.load_tick, 0)


def value(c: CounterState, tick: int) -> int:
    """The count as the guest reads it: 16 bits, or four BCD digits."""
    settle(c, tick)
    e, n = elapsed(c, tick), c.count
    if c.mode == 2:
        count = n - e % n
    elif c.mode == 3:
        p, high = e % n, (n + 1) // 2
        count = (n & ~1) - 2 * (p if p < high else p - high)
    else:
        count = n - e
    return to_bcd(count % 10_000) if c.bcd else count & 0xFFFF


def output(c: CounterState, tick: int) -> bool:
    """The OUT pin."""
    settle(c, tick)
    mode, n = c.mode, c.count
    if c.load_tick is None or tick < c.load_tick:
        return mode != 0
    if mode in (2, 3) and c.stop_tick is not None:
        return True
    e = elapsed(c, tick)
    if mode in (0, 1):
        return e >= n
    if mode == 2:
        return e % n < n - 1
    if mode == 3:
        return e % n < (n + 1) // 2
    return e != n


def next_rise(c: CounterState, tick: int) -> int | None:
    """The first tick after ``tick`` at which OUT goes from low to high by counting, or ``None``."""
    settle(c, tick)
    if c.load_tick is None or c.stop_tick is not None:
        return None
    if c.mode in (2, 3):
        return c.load_tick + (elapsed(c, tick) // c.count + 1) * c.count
    at = c.load_tick + c.count + (1 if c.mode >= 4 else 0)
    return at if at > tick else None


def is_null(c: CounterState, tick: int) -> bool:
    """A count has been written that does not count yet."""
    settle(c, tick)
    return c.load_tick is None or tick < c.load_tick or c.next_count is not None


def set_mode(c: CounterState, access: int, mode: int, bcd: bool) -> None:
    """A control word: the counter waits for its count, OUT goes to its initial level."""
    c.access, c.mode, c.bcd = access, mode if mode < 6 else mode - 4, bcd
    c.load_tick = c.stop_tick = c.next_count = c.next_tick = None
    c.low_byte = c.latched = c.latched_status = None
    c.read_high = False


def load(c: CounterState, written: int, tick: int) -> None:
    """A complete count has been written; it is loaded on the next tick, or when the mode says so."""
    settle(c, tick)
    n = (from_bcd(written) or 10_000) if c.bcd else (written or 0x10000)
    mode = c.mode
    if mode in (2, 3):
        n = max(n, 2)
        if c.load_tick is not None and tick >= c.load_tick:
            c.next_count = n
            c.next_tick = next_rise(c, tick)
            return
    elif mode in (1, 5):
        if c.load_tick is not None and tick < c.load_tick:
            c.count = n
        else:
            c.next_count = n
        return
    c.count, c.load_tick = n, tick + 1
    c.next_count = c.next_tick = None
    c.stop_tick = None if c.gate else tick + 1


def set_gate(c: CounterState, high: bool, tick: int) -> None:
    """The GATE pin: stops modes 0 and 4, stops and restarts 2 and 3, starts 1 and 5."""
    if high == c.gate:
        return
    settle(c, tick)
    c.gate = high
    if c.mode in (1, 5):
        if high and (c.next_count is not None or c.load_tick is not None):
            c.count = c.next_count or c.count
            c.load_tick, c.next_count = tick + 1, None
    elif c.load_tick is None:
        return
    elif not high:
        c.stop_tick = max(tick, c.load_tick)
        c.next_tick = None
    elif c.mode in (2, 3):
        c.count = c.next_count or c.count
        c.load_tick, c.stop_tick, c.next_count = tick + 1, None, None
    else:
        assert c.stop_tick is not None
        c.load_tick, c.stop_tick = c.load_tick + max(tick - c.stop_tick, 0), None


def to_bcd(number: int) -> int:
    return number % 10 | (number // 10 % 10) << 4 | (number // 100 % 10) << 8 | (number // 1000 % 10) << 12


def from_bcd(digits: int) -> int:
    return (digits & 15) + 10 * (digits >> 4 & 15) + 100 * (digits >> 8 & 15) + 1000 * (digits >> 12 & 15)
