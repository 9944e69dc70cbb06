"""MC146818: dates against Python's calendar, interrupts against formulas, and the memory that firmware fills."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.helpers import Line, run_to
from vilab.clock import NEVER_NS, VirtualClock
from vilab.devices.cmos import cmos_memory
from vilab.devices.rtc import Rtc

SECOND = 10**9
moments = st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)).map(
    lambda t: t.replace(microsecond=0)
)


class Bench:
    def __init__(self, at: datetime = datetime(2006, 10, 21, 20, 0, 0, tzinfo=UTC)) -> None:
        self.clock = VirtualClock()
        self.line = Line()
        self.rtc = Rtc(self.clock, self.line, int(at.timestamp()), cmos_memory(64 << 20))

    def get(self, index: int) -> int:
        self.rtc.write_port(0x70, 1, index)
        return self.rtc.read_port(0x71)

    def put(self, index: int, value: int) -> None:
        self.rtc.write_port(0x70, 1, index)
        self.rtc.write_port(0x71, 1, value)

    def date(self) -> datetime:
        """As a driver reads it, by the format that register B announces."""
        b = self.get(0x0B)
        read = self.get if b & 4 else lambda index: int(f"{self.get(index):x}")
        hour = self.get(4)
        if not b & 2:
            pm, hour = hour & 0x80, hour & 0x7F
            hour = (hour if b & 4 else int(f"{hour:x}")) % 12 + (12 if pm else 0)
        elif not b & 4:
            hour = int(f"{hour:x}")
        year = read(0x32) * 100 + read(9)
        return datetime(year, read(8), read(7), hour, read(2), read(0), tzinfo=UTC)


@settings(deadline=None)
@given(moments, st.integers(0, 10**9), st.sampled_from((0, 2, 4, 6)))
def test_reads_the_calendar_date_in_every_format(start: datetime, later: int, format_bits: int) -> None:
    bench = Bench(start)
    bench.put(0x0B, format_bits)
    bench.clock.now_ns = later * SECOND
    then = start + timedelta(seconds=later)
    assert bench.date() == then
    assert bench.get(6) == then.isoweekday() % 7 + 1


@settings(deadline=None)
@given(moments, st.sampled_from((0, 2, 4, 6)), st.integers(0, 3 * SECOND))
def test_date_that_is_set_goes_on_from_there(to: datetime, format_bits: int, at_ns: int) -> None:
    bench = Bench()
    bench.clock.now_ns = at_ns
    put = int if format_bits & 4 else (lambda number: int(str(number), 16))
    bench.put(0x0B, 0x80 | format_bits)
    hour = put(to.hour) if format_bits & 2 else put((to.hour + 11) % 12 + 1) | (0x80 if to.hour >= 12 else 0)
    for index, value in (
        (0, put(to.second)), (2, put(to.minute)), (4, hour), (7, put(to.day)), (8, put(to.month)),
        (9, put(to.year % 100)), (0x32, put(to.year // 100)),
    ):  # fmt: skip
        bench.put(index, value)
    bench.clock.now_ns += 100 * SECOND  # time stands still while SET is on
    assert bench.date() == to
    bench.put(0x0B, format_bits)
    assert bench.date() == to
    bench.clock.now_ns += 5 * SECOND
    assert bench.date() == to + timedelta(seconds=5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from((0, 2, 4, 6, 7, 8, 9, 0x32, 0x0A, 0x0B)), st.integers(0, 255)), max_size=30))
def test_whatever_is_written_into_the_time_some_date_can_be_read(writes: list[tuple[int, int]]) -> None:
    bench = Bench()
    for index, value in writes:
        bench.put(index, value)
        bench.clock.now_ns += SECOND // 3
    bench.put(0x0A, 0x26)
    bench.put(0x0B, 0x02)
    bench.clock.now_ns += SECOND
    assert bench.date().year >= 1


def test_uip_announces_the_update_long_enough_to_read_the_time() -> None:
    bench = Bench()
    bench.clock.now_ns = SECOND - 2_228_001
    assert not bench.get(0x0A) & 0x80
    bench.clock.now_ns += 1
    assert bench.get(0x0A) & 0x80
    bench.clock.now_ns = SECOND - 1
    assert bench.get(0) == 0
    bench.clock.now_ns = SECOND
    assert not bench.get(0x0A) & 0x80
    assert bench.get(0) == 1


def test_first_update_comes_half_a_second_after_the_divider_is_let_go() -> None:
    bench = Bench()
    bench.clock.now_ns = 300_000_000
    bench.put(0x0A, 0x76)
    bench.clock.now_ns = 7 * SECOND
    bench.put(0x0A, 0x26)
    before = bench.date()
    bench.clock.now_ns += SECOND // 2 - 1
    assert bench.date() == before
    bench.clock.now_ns += 1
    assert bench.date() == before + timedelta(seconds=1)


@pytest.mark.parametrize(("rate", "hz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (13, 8), (15, 2)])
def test_periodic_interrupt_keeps_its_rate_without_drift(rate: int, hz: int) -> None:
    bench = Bench()
    bench.put(0x0A, 0x20 | rate)
    bench.put(0x0B, 0x42)
    for k in range(1, 200):
        run_to(bench.clock, bench.clock.next_ns())
        assert bench.clock.now_ns == ceil(Fraction(k * SECOND, hz))
        assert bench.line.level
        assert bench.clock.next_ns() == NEVER_NS  # nothing to wait for before the handler has read C
        assert bench.get(0x0C) & 0xC0 == 0xC0
        assert not bench.line.level


def test_update_interrupt_comes_once_a_second_and_reading_c_clears_it() -> None:
    bench = Bench()
    bench.put(0x0B, 0x12)
    for k in range(1, 5):
        run_to(bench.clock, bench.clock.next_ns())
        assert bench.clock.now_ns == k * SECOND
        assert bench.get(0x0C) & 0x90 == 0x90
        assert bench.get(0x0C) & 0x90 == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 86_399), st.integers(0, 7))
def test_alarm_comes_at_the_next_matching_second(target: int, dont_care: int) -> None:
    bench = Bench(datetime(2024, 2, 28, 22, 30, 15, tzinfo=UTC))
    wanted = (target // 3600, target // 60 % 60, target % 60)
    for i, index in enumerate((5, 3, 1)):
        bench.put(index, 0xFF if dont_care >> i & 1 else int(str(wanted[i]), 16))
    bench.put(0x0B, 0x22)
    at = datetime(2024, 2, 28, 22, 30, 15, tzinfo=UTC) + timedelta(seconds=1)
    while any(
        not dont_care >> i & 1 and now != wanted[i] for i, now in enumerate((at.hour, at.minute, at.second))
    ):  # brute force: second by second
        at += timedelta(seconds=1)
    run_to(bench.clock, bench.clock.next_ns())
    assert bench.date() == at
    assert bench.line.level
    assert bench.get(0x0C) & 0xA0 == 0xA0


def test_alarm_that_no_second_matches_never_comes() -> None:
    bench = Bench()
    bench.put(1, 0x61)
    bench.put(0x0B, 0x22)
    assert bench.clock.next_ns() == NEVER_NS


def test_flags_show_what_happened_even_with_interrupts_off() -> None:
    bench = Bench()
    bench.get(0x0C)
    bench.clock.now_ns = 3 * SECOND
    assert bench.get(0x0C) == 0x50
    assert not bench.line.edges


@pytest.mark.parametrize(
    ("memory_bytes", "extended_kb", "above_16m"),
    [(512 << 10, 0, 0), (8 << 20, 7 << 10, 0), (64 << 20, 63 << 10, 768), (1 << 30, 0xFFFF, 16128)],
)
def test_cmos_tells_the_size_of_memory(memory_bytes: int, extended_kb: int, above_16m: int) -> None:
    ram = cmos_memory(memory_bytes)

    def word(index: int) -> int:
        return int.from_bytes(ram[index : index + 2], "little")

    assert word(0x15) == min(640, memory_bytes >> 10)
    assert word(0x17) == word(0x30) == extended_kb
    assert word(0x34) == above_16m
    assert int.from_bytes(ram[0x2E:0x30], "big") == sum(ram[0x10:0x2E])


def test_memory_bytes_read_back_and_bit_7_of_the_index_masks_nmi() -> None:
    bench = Bench()
    bench.put(0x80 | 0x40, 0x5A)
    assert bench.get(0x40) == 0x5A
    assert not bench.rtc.save_state().nmi_masked
    bench.rtc.write_port(0x70, 1, 0x80)
    assert bench.rtc.save_state().nmi_masked
    assert bench.get(0x0D) == 0x80
