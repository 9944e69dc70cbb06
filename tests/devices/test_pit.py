"""8254: counts, outputs and interrupt times against formulas and against a counter that is clocked tick by tick."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.helpers import Line, run_to
from vilab.clock import NEVER_NS, VirtualClock
from vilab.devices.pit import Pit, ns_of_tick, tick_at
from vilab.devices.port61 import Port61

HZ = 1_193_182


def make() -> tuple[Pit, VirtualClock, Line]:
    clock, line = VirtualClock(), Line()
    return Pit(clock, line), clock, line


def program(pit: Pit, counter: int, mode: int, count: int, bcd: int = 0) -> None:
    pit.write_port(0x43, 1, counter << 6 | 0x30 | mode << 1 | bcd)
    pit.write_port(0x40 + counter, 1, count & 0xFF)
    pit.write_port(0x40 + counter, 1, count >> 8)


def latched(pit: Pit, counter: int) -> int:
    pit.write_port(0x43, 1, counter << 6)
    low = pit.read_port(0x40 + counter)
    return low | pit.read_port(0x40 + counter) << 8


@settings(deadline=None)
@given(st.integers(0, 10**15))
def test_ticks_are_exact_rationals_rounded_once(tick: int) -> None:
    at_ns = ns_of_tick(tick)
    assert at_ns == ceil(Fraction(tick * 10**9, HZ))
    assert tick_at(at_ns) == tick
    assert at_ns == 0 or tick_at(at_ns - 1) == tick - 1
    assert tick_at(tick) == floor(Fraction(tick * HZ, 10**9))


@pytest.mark.parametrize("mode", [2, 3, 6, 7])
@pytest.mark.parametrize("count", [2, 3, 11932, 0])
def test_periodic_interrupts_never_drift(mode: int, count: int) -> None:
    pit, clock, line = make()
    run_to(clock, 123_456)
    program(pit, 0, mode, count)
    first = tick_at(123_456) + 1
    line.edges.clear()
    times: list[int] = []
    for _ in range(500):
        run_to(clock, clock.next_ns())
        if line.edges:
            times.append(clock.now_ns)
            assert line.edges == [False, True]
            line.edges.clear()
    period = count or 0x10000
    assert times == [ceil(Fraction((first + k * period) * 10**9, HZ)) for k in range(1, len(times) + 1)]
    assert len(times) == 500


def test_a_late_engine_gets_one_interrupt_and_the_next_one_on_the_grid() -> None:
    pit, clock, line = make()
    program(pit, 0, 2, 1000)
    line.edges.clear()
    clock.now_ns = ns_of_tick(5500)
    clock.run_due()
    assert line.edges == [False, True]
    assert clock.next_ns() == ns_of_tick(6001)


@pytest.mark.parametrize(("mode", "extra_ticks"), [(0, 1), (4, 2)])
def test_one_shot_interrupts_once(mode: int, extra_ticks: int) -> None:
    pit, clock, line = make()
    program(pit, 0, mode, 1000)
    assert clock.next_ns() == ns_of_tick(1000 + extra_ticks)
    line.edges.clear()
    run_to(clock, clock.next_ns())
    assert line.edges[-1:] == [True]
    assert line.level
    assert clock.next_ns() == NEVER_NS


def test_mode_0_takes_the_line_down_at_the_control_word() -> None:
    pit, clock, line = make()
    program(pit, 0, 2, 1000)
    assert line.level
    pit.write_port(0x43, 1, 0x30)
    assert not line.level
    assert clock.next_ns() == NEVER_NS


# -- the counting element, one tick at a time, as the datasheet tells it


class Stepped:
    """Modes 0-5 with a binary count. ``tick`` is one pulse of CLK, ``gate`` the level of GATE."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.out = mode != 0
        self.gate = True
        self.count: int | None = None
        self.register = 0
        self.load = self.pending = self.started = False
        self.phase_high = True

    def write(self, count: int) -> None:
        self.register = count or 0x10000
        if self.mode in (0, 4) or (self.mode in (2, 3) and not self.started):
            self.load = True
            if self.mode == 0:
                self.out = False
        else:
            self.pending = True

    def set_gate(self, gate: bool) -> None:
        rising = gate and not self.gate
        self.gate = gate
        if self.mode in (1, 5) and rising and self.register:
            self.load = True
        if self.mode in (2, 3) and self.started:
            if not gate:
                self.out = True
            elif rising:
                self.load = True

    def _reload(self) -> None:
        self.count = self.register
        self.load = self.pending = False
        self.started = True
        self.phase_high = True
        self.fresh = True
        if self.mode == 1:
            self.out = False
        if self.mode in (2, 3, 4, 5):
            self.out = True

    def tick(self) -> None:
        if self.load:
            self._reload()
            self.left_high = (self.count + 1) // 2 if self.count else 0
            self.position = 0
            return
        if self.count is None or (not self.gate and self.mode in (0, 2, 3, 4)):
            return
        if self.mode == 2:
            self.count -= 1
            if self.count == 0:
                self.count = self.register
            self.out = self.count != 1
        elif self.mode == 3:
            self.position += 1
            n = self.count
            if self.position == n:
                self.position = 0
                self.count = n = self.register
            self.out = self.position < (n + 1) // 2
        else:
            self.count = (self.count - 1) & 0xFFFF if self.count else 0xFFFF
            if self.mode in (0, 1):
                self.out = self.out or self.count == 0
            else:
                self.out = not (self.count == 0 and self.fresh)
                if self.count == 0:
                    self.fresh = False

    def value(self) -> int:
        assert self.count is not None
        if self.mode == 3:
            high = (self.count + 1) // 2
            at = self.position if self.position < high else self.position - high
            return ((self.count & ~1) - 2 * at) & 0xFFFF
        return self.count & 0xFFFF


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 60)),
        st.tuples(st.just("gate"), st.booleans()),
        st.tuples(st.just("write"), st.integers(2, 40)),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 5), st.integers(2, 40), STEPS)
def test_counter_2_agrees_with_one_that_is_clocked_tick_by_tick(
    mode: int, count: int, steps: list[tuple[str, int | bool]]
) -> None:
    clock = VirtualClock()
    pit = Pit(clock, Line())
    pit.set_gate2(True)
    program(pit, 2, mode, count)
    model = Stepped(mode)
    model.write(count)
    tick = 0
    for what, argument in [("wait", 1), *steps, ("wait", 1)]:
        if what == "gate":
            pit.set_gate2(bool(argument))
            model.set_gate(bool(argument))
        elif what == "write":
            for half in (argument & 0xFF, argument >> 8):
                pit.write_port(0x42, 1, half)
            model.write(int(argument))
        else:
            for _ in range(int(argument)):
                tick += 1
                clock.now_ns = ns_of_tick(tick)
                model.tick()
                assert pit.output(2) == model.out, (tick, mode)
                if model.started:
                    assert latched(pit, 2) == model.value(), (tick, mode)


def test_bcd_count_reads_as_decimal_digits_and_wraps_at_ten_thousand() -> None:
    pit, clock, _ = make()
    program(pit, 0, 0, 0x1234, bcd=1)
    clock.now_ns = ns_of_tick(1 + 34)
    assert latched(pit, 0) == 0x1200
    clock.now_ns = ns_of_tick(1 + 1235)
    assert latched(pit, 0) == 0x9999


def test_latch_holds_the_count_until_both_bytes_are_read() -> None:
    pit, clock, _ = make()
    program(pit, 0, 2, 0x8000)
    clock.now_ns = ns_of_tick(0x101)
    pit.write_port(0x43, 1, 0x00)
    clock.now_ns = ns_of_tick(0x2000)
    pit.write_port(0x43, 1, 0x00)  # a second latch before the read is ignored
    assert pit.read_port(0x40) | pit.read_port(0x40) << 8 == 0x8000 - 0x100
    assert pit.read_port(0x40) | pit.read_port(0x40) << 8 == 0x8000 - 0x1FFF


def test_read_back_gives_status_first_and_then_the_count() -> None:
    pit, clock, _ = make()
    pit.write_port(0x43, 1, 0x34)
    pit.write_port(0x43, 1, 0xE2)
    assert pit.read_port(0x40) == 0xF4  # OUT high, no count yet, two bytes, mode 2
    program(pit, 0, 2, 100)
    clock.now_ns = ns_of_tick(50)
    pit.write_port(0x43, 1, 0xC2)
    assert pit.read_port(0x40) == 0xB4
    assert pit.read_port(0x40) | pit.read_port(0x40) << 8 == 51


@pytest.mark.parametrize(("access", "written", "count"), [(1, 0x55, 0x55), (2, 0x55, 0x5500)])
def test_single_byte_access_sets_the_other_byte_to_zero(access: int, written: int, count: int) -> None:
    pit, clock, _ = make()
    pit.write_port(0x43, 1, access << 4 | 0x04)
    pit.write_port(0x40, 1, written)
    assert clock.next_ns() == ns_of_tick(count + 1)


def test_port_61_gates_counter_2_and_shows_its_output_and_the_refresh_toggle() -> None:
    pit, clock, _ = make()
    port = Port61(clock, pit)
    program(pit, 2, 0, 1193)
    assert not port.read_port(0x61) & 0x20
    clock.now_ns = 2_000_000
    assert not port.read_port(0x61) & 0x20  # the gate is closed: nothing counts
    port.write_port(0x61, 1, 0xF1)
    assert port.read_port(0x61) & 0x0F == 0x01
    clock.now_ns += 999_000
    assert not port.read_port(0x61) & 0x20
    clock.now_ns += 2_000
    assert port.read_port(0x61) & 0x20
    toggles, last = 0, port.read_port(0x61) & 0x10
    for _ in range(1_000):
        clock.now_ns += 1_000
        now = port.read_port(0x61) & 0x10
        toggles += now != last
        last = now
    assert toggles == pytest.approx(66, abs=1)
