"""MC146818 real-time clock with the CMOS memory that shares its ports.

::

    0x0070     W  INDEX         register for the next access: 6-0; bit 7 masks NMI
    0x0071     RW DATA          the register that INDEX has selected
    0x0071[00] RW SECONDS       BCD, or binary if B.DM
    0x0071[01] RW SECONDS_ALARM 0xc0 and above: any
    0x0071[02] RW MINUTES       BCD, or binary if B.DM
    0x0071[03] RW MINUTES_ALARM 0xc0 and above: any
    0x0071[04] RW HOURS         0-23, or 1-12 with bit 7 = PM
    0x0071[05] RW HOURS_ALARM   0xc0 and above: any
    0x0071[06] RW WEEKDAY       1 = Sunday
    0x0071[07] RW DAY           1-31
    0x0071[08] RW MONTH         1-12
    0x0071[09] RW YEAR          0-99
    0x0071[0a] RW A             UIP 7 (read only), divider 6-4 (010 = runs), periodic rate 3-0
    0x0071[0b] RW B             SET 7, PIE 6, AIE 5, UIE 4, SQWE 3, DM 2 (binary), 24/12 1, DSE 0
    0x0071[0c] R  C             IRQF 7, PF 6, AF 5, UF 4; reading clears all and takes IRQ 8 down
    0x0071[0d] R  D             bit 7: battery good
    0x0071[32] RW CENTURY       19, 20, ... in the format of the other fields
    other indices, 0x0e-0x7f: memory; what the firmware leaves there is in ``cmos.py``

    one second:  |<----------- time may be read ----------->|<- UIP = 1, 2228 us ->|  time changes, UF, AF

The time is a formula over virtual time; a timer runs only while an interrupt is enabled and not yet raised.
"""

from __future__ import annotations

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.devices import rtc_time
from vilab.devices.registers import Register, copied
from vilab.protocols import InterruptLine

_MC = "Motorola MC146818A datasheet, registers"

REGISTERS = (
    Register(0x70, "W", "INDEX", "register for the next access: 6-0; bit 7 masks NMI", "Intel 82371AB PIIX4, 4.2.6"),
    Register(0x71, "RW", "DATA", "the register that INDEX has selected", _MC),
    Register(0x71, "RW", "SECONDS", "BCD, or binary if B.DM", _MC, 0x00),
    Register(0x71, "RW", "SECONDS_ALARM", "0xc0 and above: any", _MC, 0x01),
    Register(0x71, "RW", "MINUTES", "BCD, or binary if B.DM", _MC, 0x02),
    Register(0x71, "RW", "MINUTES_ALARM", "0xc0 and above: any", _MC, 0x03),
    Register(0x71, "RW", "HOURS", "0-23, or 1-12 with bit 7 = PM", _MC, 0x04),
    Register(0x71, "RW", "HOURS_ALARM", "0xc0 and above: any", _MC, 0x05),
    Register(0x71, "RW", "WEEKDAY", "1 = Sunday", _MC, 0x06),
    Register(0x71, "RW", "DAY", "1-31", _MC, 0x07),
    Register(0x71, "RW", "MONTH", "1-12", _MC, 0x08),
    Register(0x71, "RW", "YEAR", "0-99", _MC, 0x09),
    Register(0x71, "RW", "A", "UIP 7 (read only), divider 6-4 (010 = runs), periodic rate 3-0", _MC, 0x0A),
    Register(0x71, "RW", "B", "SET 7, PIE 6, AIE 5, UIE 4, SQWE 3, DM 2 (binary), 24/12 1, DSE 0", _MC, 0x0B),
    Register(0x71, "R", "C", "IRQF 7, PF 6, AF 5, UF 4; reading clears all and takes IRQ 8 down", _MC, 0x0C),
    Register(0x71, "R", "D", "bit 7: battery good", _MC, 0x0D),
    Register(
        0x71,
        "RW",
        "CENTURY",
        "19, 20, ... in the format of the other fields",
        "IBM PS/2 technical reference, CMOS RAM",
        0x32,
    ),
)

REG_A, REG_B, REG_C, REG_D = 0x0A, 0x0B, 0x0C, 0x0D
A_UIP = 0b1000_0000
A_DIVIDER = 0b0111_0000
A_DIVIDER_RUNS = 0b0010_0000
A_RATE = 0b0000_1111
B_SET = 0b1000_0000
B_PIE, B_AIE, B_UIE = 0b0100_0000, 0b0010_0000, 0b0001_0000
B_BINARY, B_24H = 0b0000_0100, 0b0000_0010
C_IRQF = 0b1000_0000
C_PF, C_AF, C_UF = B_PIE, B_AIE, B_UIE
D_VALID = 0b1000_0000
ENABLES = B_PIE | B_AIE | B_UIE

SECOND_NS = 1_000_000_000
CRYSTAL_HZ = 32_768
UIP_NS = 244_000 + 1_984_000  # announced 244 us ahead, then the update cycle itself at 32.768 kHz
DIVIDER_RELEASE_NS = 500_000_000  # the first update comes half a second after the divider is let go


class RtcState(msgspec.Struct):
    """``ram`` holds the memory, registers A and B, the alarm, and the time while it stands still.

    divider_ns : virtual time at which the divider chain was at zero. seconds, at_second : time since 1970 when the
    divider had made ``at_second`` whole seconds. checked_ns : until when ``flags`` is up to date.
    """

    ram: bytearray
    seconds: int
    at_second: int = 0
    divider_ns: int = 0
    weekday_shift: int = 0
    index: int = 0
    nmi_masked: bool = False
    flags: int = 0
    checked_ns: int = 0
    due_ns: int | None = None


class Rtc:
    """The chip.

    Parameters
    ----------
    irq : IRQ 8. epoch_seconds : what time it is at power-on, in seconds since 1970, UTC. cmos : 128 bytes.
    """

    ports = (0x70, 0x71)

    def __init__(self, clock: VirtualClock, irq: InterruptLine, epoch_seconds: int, cmos: bytes = bytes(128)) -> None:
        self._clock = clock
        self._irq = irq
        self._timer: Timer | None = None
        ram = bytearray(cmos)
        ram[REG_A] = A_DIVIDER_RUNS | 6  # 1024 Hz, the rate that firmware sets
        ram[REG_B] = B_24H
        self._state = RtcState(ram, epoch_seconds, divider_ns=clock.now_ns, checked_ns=clock.now_ns)

    # -- ports

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        if port == 0x70:
            return 0xFF
        s = self._state
        index = s.index
        if index in rtc_time.TIME_INDICES:
            return s.ram[index] if self._stands_still() else self._time_bytes()[index]
        if index == REG_A:
            return s.ram[REG_A] | (A_UIP if self._updating() else 0)
        if index == REG_C:
            return self._read_flags()
        return D_VALID if index == REG_D else s.ram[index]

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        s = self._state
        if port == 0x70:
            s.index = value & 0x7F
            s.nmi_masked = bool(value & 0x80)
            return
        index = s.index
        self._check()
        if index == REG_A:
            self._write_control(value & ~A_UIP, s.ram[REG_B])
        elif index == REG_B:
            self._write_control(s.ram[REG_A], value & ~B_UIE if value & B_SET else value)
        elif index in rtc_time.TIME_INDICES and not self._stands_still():
            self._hold_time()
            s.ram[index] = value
            self._take_time()
        elif index not in (REG_C, REG_D):
            s.ram[index] = value
        self._update()

    def _write_control(self, a: int, b: int) -> None:
        s = self._state
        stood = self._stands_still()
        ran = s.ram[REG_A] & A_DIVIDER == A_DIVIDER_RUNS
        runs = a & A_DIVIDER == A_DIVIDER_RUNS
        if not stood and (b & B_SET or not runs):
            self._hold_time()
        s.ram[REG_A], s.ram[REG_B] = a, b
        if runs and not ran:
            s.divider_ns = self._clock.now_ns - DIVIDER_RELEASE_NS
        if stood and not self._stands_still():
            self._take_time()

    def _read_flags(self) -> int:
        s = self._state
        self._check()
        value = s.flags | (C_IRQF if s.flags & s.ram[REG_B] & ENABLES else 0)
        s.flags = 0
        self._update()
        return value

    # -- time

    def _stands_still(self) -> bool:
        ram = self._state.ram
        return bool(ram[REG_B] & B_SET) or ram[REG_A] & A_DIVIDER != A_DIVIDER_RUNS

    def _second(self, at_ns: int) -> int:
        """Whole seconds that the divider had made at a time."""
        return (at_ns - self._state.divider_ns) // SECOND_NS

    def seconds(self) -> int:
        """The time that the guest would read now, in seconds since 1970."""
        s = self._state
        if self._stands_still():
            return rtc_time.decode(s.ram, bool(s.ram[REG_B] & B_BINARY), bool(s.ram[REG_B] & B_24H))[0]
        return s.seconds + self._second(self._clock.now_ns) - s.at_second

    def _time_bytes(self) -> dict[int, int]:
        s = self._state
        b = s.ram[REG_B]
        return rtc_time.encode(self.seconds(), s.weekday_shift, bool(b & B_BINARY), bool(b & B_24H))

    def _hold_time(self) -> None:
        for index, value in self._time_bytes().items():
            self._state.ram[index] = value

    def _take_time(self) -> None:
        s = self._state
        b = s.ram[REG_B]
        s.seconds, s.weekday_shift = rtc_time.decode(s.ram, bool(b & B_BINARY), bool(b & B_24H))
        s.at_second = self._second(self._clock.now_ns)

    def _updating(self) -> bool:
        if self._stands_still():
            return False
        return (self._clock.now_ns - self._state.divider_ns) % SECOND_NS >= SECOND_NS - UIP_NS

    # -- interrupts

    def _period_ticks(self) -> int:
        """Ticks of 32.768 kHz between periodic interrupts; 0: none."""
        a = self._state.ram[REG_A]
        rate = a & A_RATE
        if rate == 0 or a & A_DIVIDER != A_DIVIDER_RUNS:
            return 0
        return 1 << (rate + 6 if rate <= 2 else rate - 1)

    def _period(self, at_ns: int, period_ticks: int) -> int:
        return (at_ns - self._state.divider_ns) * CRYSTAL_HZ // SECOND_NS // period_ticks

    def _next_alarm(self, after_second: int) -> int | None:
        s = self._state
        b = s.ram[REG_B]
        clock_second = s.seconds + after_second - s.at_second
        alarm = rtc_time.next_alarm(clock_second, s.ram, bool(b & B_BINARY), bool(b & B_24H))
        return None if alarm is None else after_second + alarm - clock_second

    def _check(self) -> None:
        """Set the flags for what has happened since the last look."""
        s = self._state
        now_ns, then_ns = self._clock.now_ns, s.checked_ns
        s.checked_ns = now_ns
        period = self._period_ticks()
        if period and self._period(now_ns, period) > self._period(then_ns, period):
            s.flags |= C_PF
        if not self._stands_still():
            now, then = self._second(now_ns), self._second(then_ns)
            if now > then:
                s.flags |= C_UF
                alarm = self._next_alarm(then)
                if alarm is not None and alarm <= now:
                    s.flags |= C_AF

    def _update(self) -> None:
        """Drive IRQ 8; if it is low and may rise by itself, ask to be woken when it does."""
        s = self._state
        enabled = s.ram[REG_B] & ENABLES
        high = bool(s.flags & enabled)
        self._irq.set_level(high)
        s.due_ns = self._next_interrupt_ns(enabled) if enabled and not high else None
        self._schedule()

    def _next_interrupt_ns(self, enabled: int) -> int | None:
        s = self._state
        now_ns = s.checked_ns
        due: list[int] = []
        period = self._period_ticks()
        if enabled & B_PIE and period:
            tick = (self._period(now_ns, period) + 1) * period
            due.append(s.divider_ns - (-tick * SECOND_NS // CRYSTAL_HZ))
        if not self._stands_still():
            second = self._second(now_ns)
            if enabled & B_UIE:
                due.append(s.divider_ns + (second + 1) * SECOND_NS)
            if enabled & B_AIE:
                alarm = self._next_alarm(second)
                if alarm is not None:
                    due.append(s.divider_ns + alarm * SECOND_NS)
        return min(due, default=None)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due_ns = self._state.due_ns
        self._timer = None if due_ns is None else self._clock.at(due_ns, self._due)

    def _due(self) -> None:
        self._timer = None
        self._check()
        self._update()

    def save_state(self) -> RtcState:
        return copied(self._state)

    def load_state(self, state: RtcState) -> None:
        """The level of the IRQ line is part of the PIC's state and is not driven again here."""
        self._state = copied(state)
        self._schedule()
