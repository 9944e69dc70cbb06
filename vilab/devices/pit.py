"""8254 programmable interval timer: three counters that divide 1.193182 MHz.

::

    1.193182 MHz --+--> counter 0 --OUT--> IRQ 0
                   +--> counter 1 --OUT--> memory refresh (once)
                   +--> counter 2 --OUT--> speaker, bit 5 of port 0x61
                             ^ GATE: bit 0 of port 0x61; the other two gates are tied high

    0x0040     RW COUNTER0      write: count; read: count, latched count or latched status
    0x0041     RW COUNTER1      the same for counter 1
    0x0042     RW COUNTER2      the same for counter 2
    0x0043     W  CONTROL       counter 7-6 (3 = read-back), access 5-4 (0 = latch), mode 3-1, BCD 0

    read-back:  1 1 /COUNT /STATUS CNT2 CNT1 CNT0 0      status:  OUT NULL RW1 RW0 M2 M1 M0 BCD

The arithmetic of a counter is in ``pit_counter.py``; here are the ports, the latches and the interrupt.
"""

from __future__ import annotations

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.devices import pit_counter
from vilab.devices.pit_counter import ACCESS_BOTH, ACCESS_HIGH, CounterState
from vilab.devices.registers import Register, copied
from vilab.protocols import InterruptLine

_8254 = "Intel 8254 datasheet (231164)"

REGISTERS = (
    Register(0x40, "RW", "COUNTER0", "write: count; read: count, latched count or latched status", _8254),
    Register(0x41, "RW", "COUNTER1", "the same for counter 1", _8254),
    Register(0x42, "RW", "COUNTER2", "the same for counter 2", _8254),
    Register(0x43, "W", "CONTROL", "counter 7-6 (3 = read-back), access 5-4 (0 = latch), mode 3-1, BCD 0", _8254),
)

PIT_HZ = 1_193_182
NS_PER_SECOND = 1_000_000_000

CONTROL_READ_BACK = 3
READ_BACK_NO_COUNT = 0b0010_0000
READ_BACK_NO_STATUS = 0b0001_0000
STATUS_OUT = 0b1000_0000
STATUS_NULL = 0b0100_0000


def tick_at(now_ns: int) -> int:
    """Ticks of the 1.193182 MHz input since power-on."""
    return now_ns * PIT_HZ // NS_PER_SECOND


def ns_of_tick(tick: int) -> int:
    """The first nanosecond at which ``tick_at`` gives ``tick``: no rounding is ever carried over, so nothing drifts."""
    return -(-tick * NS_PER_SECOND // PIT_HZ)


class PitState(msgspec.Struct):
    """``rise_tick``: when OUT of counter 0 rises next, ``None`` if it does not."""

    counters: list[CounterState]
    rise_tick: int | None = None


def reset_state() -> PitState:
    """Counter 0 at 18.2 Hz, 1 at the refresh rate, 2 stopped: as the firmware of a PC leaves them."""
    return PitState([
        CounterState(mode=3, count=0x10000, load_tick=0),
        CounterState(mode=2, count=18, load_tick=0),
        CounterState(mode=3, count=0x10000, load_tick=0, gate=False, stop_tick=0),
    ])  # fmt: skip


class Pit:
    """The chip. ``irq`` is the line that OUT of counter 0 drives.

    MODEL: in modes 2 and 3 the line falls and rises in the instant of the reload, not half a period (or one tick)
    earlier: the PIC sees the same edges, the engine stops once a period instead of twice, and a guest that
    acknowledges late does not lose its tick.
    """

    ports = tuple(r.port for r in REGISTERS)

    def __init__(self, clock: VirtualClock, irq: InterruptLine) -> None:
        self._clock = clock
        self._irq = irq
        self._timer: Timer | None = None
        self._state = reset_state()
        irq.set_level(True)
        self._arm()

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        if port == 0x43:
            return 0xFF
        c = self._state.counters[port & 3]
        if c.latched_status is not None:
            status, c.latched_status = c.latched_status, None
            return status
        value = c.latched
        if value is None:
            value = pit_counter.value(c, tick_at(self._clock.now_ns))
        if c.access == ACCESS_BOTH:
            high = c.read_high
            c.read_high = not high
            if high:
                c.latched = None
        else:
            high = c.access == ACCESS_HIGH
            c.latched = None
        return value >> 8 if high else value & 0xFF

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        if port == 0x43:
            self._control(value)
            return
        c = self._state.counters[port & 3]
        tick = tick_at(self._clock.now_ns)
        if c.access == ACCESS_BOTH:
            if c.low_byte is None:
                c.low_byte = value
                if c.mode == 0:  # the first byte stops the count and takes OUT low
                    c.load_tick = c.stop_tick = None
                    self._counter_changed(c)
                return
            value = value << 8 | c.low_byte
            c.low_byte = None
        elif c.access == ACCESS_HIGH:
            value <<= 8
        pit_counter.load(c, value, tick)
        self._counter_changed(c)

    def set_gate2(self, high: bool) -> None:
        pit_counter.set_gate(self._state.counters[2], high, tick_at(self._clock.now_ns))

    def output(self, counter: int) -> bool:
        """The OUT pin of a counter now."""
        return pit_counter.output(self._state.counters[counter], tick_at(self._clock.now_ns))

    def _control(self, value: int) -> None:
        select, access = value >> 6, value >> 4 & 3
        if select == CONTROL_READ_BACK:
            for i, c in enumerate(self._state.counters):
                if value & (2 << i):
                    if not value & READ_BACK_NO_COUNT:
                        self._latch(c)
                    if not value & READ_BACK_NO_STATUS and c.latched_status is None:
                        c.latched_status = self._status(c)
        elif access == 0:
            self._latch(self._state.counters[select])
        else:
            c = self._state.counters[select]
            pit_counter.set_mode(c, access, value >> 1 & 7, bool(value & 1))
            self._counter_changed(c)

    def _latch(self, c: CounterState) -> None:
        if c.latched is None:
            c.latched = pit_counter.value(c, tick_at(self._clock.now_ns))

    def _status(self, c: CounterState) -> int:
        tick = tick_at(self._clock.now_ns)
        out = STATUS_OUT if pit_counter.output(c, tick) else 0
        null = STATUS_NULL if pit_counter.is_null(c, tick) else 0
        return out | null | c.access << 4 | c.mode << 1 | c.bcd

    def _counter_changed(self, c: CounterState) -> None:
        if c is self._state.counters[0]:
            if c.mode == 0 or c.load_tick is None:
                self._irq.set_level(pit_counter.output(c, tick_at(self._clock.now_ns)))
            self._arm()

    def _arm(self) -> None:
        self._state.rise_tick = pit_counter.next_rise(self._state.counters[0], tick_at(self._clock.now_ns))
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        tick = self._state.rise_tick
        self._timer = None if tick is None else self._clock.at(ns_of_tick(tick), self._rise)

    def _rise(self) -> None:
        self._timer = None
        self._irq.set_level(False)
        self._irq.set_level(True)
        self._arm()

    def save_state(self) -> PitState:
        return copied(self._state)

    def load_state(self, state: PitState) -> None:
        """The level of the IRQ line is part of the PIC's state and is not driven again here."""
        self._state = copied(state)
        self._schedule()
