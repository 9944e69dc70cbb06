"""Dates as the bytes of the MC146818, and back.

::

    seconds since 1970 --encode--> {0: seconds, 2: minutes, 4: hours, 6: weekday, 7: day, 8: month, 9: year,
                       <--decode--  0x32: century},  each BCD or binary, hours 0-23 or 1-12 with bit 7 = PM

Whatever a guest writes is taken: a field out of range is brought to the nearest date that exists.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from datetime import date

from vilab.devices.pit_counter import from_bcd, to_bcd

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM, WEEKDAY, DAY, MONTH, YEAR = range(10)
CENTURY = 0x32
TIME_INDICES = frozenset({SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY})

PM = 0b1000_0000
ALARM_ANY = 0xC0
DAY_SECONDS = 86_400
_1970 = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal()


def encode(seconds: int, weekday_shift: int, binary: bool, hours_24: bool) -> dict[int, int]:
    """Register index -> byte. ``weekday_shift`` : by how many days the guest has set its weekday off the calendar's."""
    days, of_day = divmod(seconds, DAY_SECONDS)
    day = date.fromordinal(min(max(_1970 + days, 1), _LAST_DAY))
    hour = of_day // 3600
    put = _binary if binary else to_bcd
    return {
        SECONDS: put(of_day % 60),
        MINUTES: put(of_day // 60 % 60),
        HOURS: put(hour) if hours_24 else put((hour + 11) % 12 + 1) | (PM if hour >= 12 else 0),
        WEEKDAY: put((day.isoweekday() + weekday_shift) % 7 + 1),
        DAY: put(day.day),
        MONTH: put(day.month),
        YEAR: put(day.year % 100),
        CENTURY: put(day.year // 100),
    }


def decode(ram: Sequence[int], binary: bool, hours_24: bool) -> tuple[int, int]:
    """Seconds since 1970, and the shift of the weekday."""
    get = _binary if binary else from_bcd
    year = min(max(get(ram[CENTURY]) * 100 + get(ram[YEAR]) % 100, 1), date.max.year)
    month = min(max(get(ram[MONTH]), 1), 12)
    day = date(year, month, min(max(get(ram[DAY]), 1), calendar.monthrange(year, month)[1]))
    of_day = _hour(ram[HOURS], binary, hours_24) * 3600 + min(get(ram[MINUTES]), 59) * 60 + min(get(ram[SECONDS]), 59)
    weekday_shift = (get(ram[WEEKDAY]) - 1 - day.isoweekday()) % 7
    return (day.toordinal() - _1970) * DAY_SECONDS + of_day, weekday_shift


def next_alarm(after: int, ram: Sequence[int], binary: bool, hours_24: bool) -> int | None:
    """The first second after ``after`` that the alarm registers match; ``None`` if none ever does."""
    get = _binary if binary else from_bcd
    want_hour = None if ram[HOURS_ALARM] >= ALARM_ANY else _hour(ram[HOURS_ALARM], binary, hours_24, clamp=False)
    want_minute = None if ram[MINUTES_ALARM] >= ALARM_ANY else get(ram[MINUTES_ALARM])
    want_second = None if ram[SECONDS_ALARM] >= ALARM_ANY else get(ram[SECONDS_ALARM])
    at, last = after + 1, after + DAY_SECONDS
    while at <= last:
        if want_hour is not None and at // 3600 % 24 != want_hour:
            at = (at // 3600 + 1) * 3600
        elif want_minute is not None and at // 60 % 60 != want_minute:
            at = (at // 60 + 1) * 60
        elif want_second is not None and at % 60 != want_second:
            at += 1
        else:
            return at
    return None


def _hour(raw: int, binary: bool, hours_24: bool, clamp: bool = True) -> int:
    get = _binary if binary else from_bcd
    if hours_24:
        hour = get(raw)
    else:
        hour = get(raw & ~PM) % 12 + (12 if raw & PM else 0)
    return min(hour, 23) if clamp else hour


def _binary(number: int) -> int:
    return number
