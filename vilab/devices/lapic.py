"""Local APIC: the interrupt controller beside each processor, in memory at FEE00000.

::

    0xfee00020 RW ID            this APIC's number 31-24
    0xfee00030 R  VERSION       0x14, highest LVT entry 23-16 (5)
    0xfee00080 RW TPR           task priority: class 7-4, sub-class 3-0
    0xfee00090 R  APR           arbitration priority: 0, there is no bus to arbitrate for
    0xfee000a0 R  PPR           processor priority: what an interrupt must exceed
    0xfee000b0 W  EOI           end of the interrupt of highest priority in service
    0xfee000d0 RW LDR           logical number 31-24
    0xfee000e0 RW DFR           model of logical numbers 31-28: 15 flat, 0 cluster
    0xfee000f0 RW SVR           spurious vector 7-0, enable 8, focus 9
    0xfee00100 R  ISR           in service, 256 bits in eight registers 16 bytes apart, to 0x170
    0xfee00180 R  TMR           level triggered, likewise, to 0x1f0
    0xfee00200 R  IRR           requested, likewise, to 0x270
    0xfee00280 RW ESR           errors since the last write: illegal vector sent 5, received 6, illegal register 7
    0xfee00300 RW ICR_LOW       vector 7-0, mode 10-8, logical 11, assert 14, level 15, shorthand 19-18; writing sends
    0xfee00310 RW ICR_HIGH      destination 31-24
    0xfee00320 RW LVT_TIMER     vector 7-0, mask 16, periodic 17
    0xfee00330 RW LVT_THERMAL   vector 7-0, mode 10-8, mask 16; never happens here
    0xfee00340 RW LVT_COUNTER   vector 7-0, mode 10-8, mask 16; there are no performance counters
    0xfee00350 RW LVT_LINT0     vector 7-0, mode 10-8 (7 = ExtINT: the PIC gives the vector), polarity 13, mask 16
    0xfee00360 RW LVT_LINT1     the same; nothing is wired to it
    0xfee00370 RW LVT_ERROR     vector 7-0, mask 16
    0xfee00380 RW INITIAL       timer's initial count; writing starts it, 0 stops it
    0xfee00390 R  CURRENT       timer's current count
    0xfee003e0 RW DIVIDE        timer's divider, bits 3, 1, 0: 000 = 2, 001 = 4 ... 110 = 128, 111 = 1

    IRR ──highest──> its class > PPR's? ──yes──> INTR ──INTA──> ISR ──EOI──> gone (level: the IOAPIC is told)
    PPR = TPR, or the class of the highest vector in ISR, whichever is higher

Registers are 32 bits wide, one every 16 bytes, and are accessed as a whole.
MODEL: power-on state is the one that firmware leaves behind: enabled, as a virtual wire (LINT0 passes the PIC through).
MODEL: NMI, SMI and INIT are accepted and do nothing.
MODEL: an interval shorter than ``SHORTEST_NS`` comes only every so many intervals; what would have come between is one
request in IRR anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.devices.registers import Register, copied

_SDM = "Intel SDM volume 3, chapter 10"
BASE = 0xFEE0_0000

REGISTERS = tuple(
    Register(BASE + offset, access, name, meaning, _SDM)
    for offset, access, name, meaning in (
        (0x020, "RW", "ID", "this APIC's number 31-24"),
        (0x030, "R", "VERSION", "0x14, highest LVT entry 23-16 (5)"),
        (0x080, "RW", "TPR", "task priority: class 7-4, sub-class 3-0"),
        (0x090, "R", "APR", "arbitration priority: 0, there is no bus to arbitrate for"),
        (0x0A0, "R", "PPR", "processor priority: what an interrupt must exceed"),
        (0x0B0, "W", "EOI", "end of the interrupt of highest priority in service"),
        (0x0D0, "RW", "LDR", "logical number 31-24"),
        (0x0E0, "RW", "DFR", "model of logical numbers 31-28: 15 flat, 0 cluster"),
        (0x0F0, "RW", "SVR", "spurious vector 7-0, enable 8, focus 9"),
        (0x100, "R", "ISR", "in service, 256 bits in eight registers 16 bytes apart, to 0x170"),
        (0x180, "R", "TMR", "level triggered, likewise, to 0x1f0"),
        (0x200, "R", "IRR", "requested, likewise, to 0x270"),
        (0x280, "RW", "ESR",
         "errors since the last write: illegal vector sent 5, received 6, illegal register 7"),
        (0x300, "RW", "ICR_LOW",
         "vector 7-0, mode 10-8, logical 11, assert 14, level 15, shorthand 19-18; writing sends"),
        (0x310, "RW", "ICR_HIGH", "destination 31-24"),
        (0x320, "RW", "LVT_TIMER", "vector 7-0, mask 16, periodic 17"),
        (0x330, "RW", "LVT_THERMAL", "vector 7-0, mode 10-8, mask 16; never happens here"),
        (0x340, "RW", "LVT_COUNTER", "vector 7-0, mode 10-8, mask 16; there are no performance counters"),
        (0x350, "RW", "LVT_LINT0",
         "vector 7-0, mode 10-8 (7 = ExtINT: the PIC gives the vector), polarity 13, mask 16"),
        (0x360, "RW", "LVT_LINT1", "the same; nothing is wired to it"),
        (0x370, "RW", "LVT_ERROR", "vector 7-0, mask 16"),
        (0x380, "RW", "INITIAL", "timer's initial count; writing starts it, 0 stops it"),
        (0x390, "R", "CURRENT", "timer's current count"),
        (0x3E0, "RW", "DIVIDE", "timer's divider, bits 3, 1, 0: 000 = 2, 001 = 4 ... 110 = 128, 111 = 1"),
    )
)  # fmt: skip

BUS_HZ = 100_000_000
"""What the timer counts before its divider."""
TICK_NS = 1_000_000_000 // BUS_HZ
SHORTEST_NS = 10_000

ID, VERSION, TPR, APR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_COUNTER, LVT_LINT0, LVT_LINT1, LVT_ERROR = range(0x320, 0x380, 0x10)
INITIAL, CURRENT, DIVIDE = 0x380, 0x390, 0x3E0

VERSION_VALUE = 0x0005_0014
SVR_ENABLE = 1 << 8
SVR_WRITABLE = 0x3FF
MASKED = 1 << 16
PERIODIC = 1 << 17
LEVEL = 1 << 15
ASSERT = 1 << 14
LOGICAL = 1 << 11
MODE_SHIFT = 8
FIXED, LOWEST, SMI, NMI, INIT, START_UP, EXTINT = 0, 1, 2, 4, 5, 6, 7
ERROR_SENT, ERROR_RECEIVED, ERROR_REGISTER = 1 << 5, 1 << 6, 1 << 7
FIRST_VECTOR = 16
LVT_WRITABLE = {
    LVT_TIMER: 0x300FF, LVT_THERMAL: 0x107FF, LVT_COUNTER: 0x107FF, LVT_LINT0: 0x1A7FF, LVT_LINT1: 0x1A7FF,
    LVT_ERROR: 0x100FF,
}  # fmt: skip

BASE_ENABLE, BASE_BSP = 1 << 11, 1 << 8
"""Bits of MSR 1Bh beside the address."""
BASE_ADDRESS = 0xFFFF_F000


def _lvt_at_power_on() -> list[int]:
    return [MASKED, MASKED, MASKED, EXTINT << MODE_SHIFT, NMI << MODE_SHIFT, MASKED]


class LapicState(msgspec.Struct):
    """One local APIC. ``isr``, ``tmr`` and ``irr`` as 32 bytes, vector 0 in bit 0 of the first.

    The timer stood at ``left`` when it was ``started_ns``. ``errors``: not yet in ESR.
    """

    number: int = 0
    apic_base: int = BASE | BASE_ENABLE | BASE_BSP
    tpr: int = 0
    ldr: int = 0
    dfr: int = 0xFFFF_FFFF
    svr: int = SVR_ENABLE | 0xFF
    isr: bytes = bytes(32)
    tmr: bytes = bytes(32)
    irr: bytes = bytes(32)
    esr: int = 0
    errors: int = 0
    icr_low: int = 0
    icr_high: int = 0
    lvt: list[int] = msgspec.field(default_factory=_lvt_at_power_on)
    initial: int = 0
    divide: int = 0
    left: int = 0
    started_ns: int = 0
    timer_at_ns: int | None = None
    wire: bool = False


class Lapic:
    """One processor's.

    Parameters
    ----------
    number : its APIC ID.
    on_change : called when something has happened that may change whether an interrupt is pending.
    end_of_level : told the vector of a level-triggered interrupt that has ended.
    """

    def __init__(
        self,
        clock: VirtualClock,
        number: int,
        on_change: Callable[[], None],
        end_of_level: Callable[[int], None],
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._end_of_level = end_of_level
        self._timer: Timer | None = None
        self._isr = self._tmr = self._irr = 0
        self._state = LapicState(number=number)

    # What the processor asks -------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Not switched off by MSR 1Bh: then there is no APIC at all, and the PIC has the processor's pin."""
        return bool(self._state.apic_base & BASE_ENABLE)

    @property
    def base(self) -> int:
        """Where its registers are."""
        return self._state.apic_base & BASE_ADDRESS

    @property
    def number(self) -> int:
        return self._state.number

    def read_apic_base(self) -> int:
        return self._state.apic_base

    def write_apic_base(self, value: int) -> bool:
        """False: a bit that must not be set (the processor raises #GP)."""
        s = self._state
        if value & ~(BASE_ADDRESS | BASE_ENABLE | BASE_BSP):
            return False
        was_on = self.enabled
        s.apic_base = value & (BASE_ADDRESS | BASE_ENABLE) | s.apic_base & BASE_BSP
        if was_on and not self.enabled:
            # Switched on again it is as after a reset: with nothing set up.
            base, number = s.apic_base, s.number
            lvt = [MASKED] * 6
            self._state = LapicState(number=number, apic_base=base, svr=0xFF, lvt=lvt, wire=s.wire)
            self._isr = self._tmr = self._irr = 0
            self._schedule()
        self._on_change()
        return True

    def takes_extint(self) -> bool:
        """Does LINT0 pass the PIC's INTR through to the processor?"""
        s = self._state
        return not s.lvt[3] & MASKED and s.lvt[3] >> MODE_SHIFT & 7 == EXTINT

    def deliverable(self) -> int:
        """The vector that would interrupt now, or -1."""
        irr = self._irr
        if not irr or not self._state.svr & SVR_ENABLE:
            return -1
        vector = irr.bit_length() - 1
        return vector if vector >> 4 > self.ppr() >> 4 else -1

    def can_interrupt(self) -> bool:
        """Could something of its own come without the processor's help: a request, or the timer?"""
        return bool(self._irr) or self._timer is not None

    def acknowledge(self) -> int:
        """INTA: the vector, now in service; the spurious one if the request is not there any more."""
        vector = self.deliverable()
        if vector < 0:
            return self._state.svr & 0xFF
        self._irr &= ~(1 << vector)
        self._isr |= 1 << vector
        return vector

    def ppr(self) -> int:
        tpr, in_service = self._state.tpr, self._isr.bit_length() - 1
        if in_service < 0 or tpr >> 4 >= in_service >> 4:
            return tpr
        return in_service & 0xF0

    # What comes in -----------------------------------------------------------------------------------------------

    def accept(self, vector: int, level: bool) -> None:
        """A fixed interrupt for this processor."""
        if not self.enabled or not self._state.svr & SVR_ENABLE:
            return
        if vector < FIRST_VECTOR:
            self._error(ERROR_RECEIVED)
            return
        bit = 1 << vector
        self._irr |= bit
        self._tmr = self._tmr | bit if level else self._tmr & ~bit
        self._on_change()

    def matches(self, destination: int, logical: bool) -> bool:
        """Is this the APIC, or one of those, that a message is for?"""
        s = self._state
        if not logical:
            return destination in (s.number, 0xFF)
        if s.dfr >> 28 == 0xF:
            return bool(destination & s.ldr >> 24)
        own = s.ldr >> 24
        return destination == 0xFF or (destination >> 4 == own >> 4 and bool(destination & own & 0xF))

    def set_wire(self, high: bool) -> None:
        """LINT0, which the PIC's INTR is wired to."""
        s = self._state
        rises = high and not s.wire
        s.wire = high
        if rises and not s.lvt[3] & MASKED and s.lvt[3] >> MODE_SHIFT & 7 == FIXED:
            self.accept(s.lvt[3] & 0xFF, False)

    def _error(self, which: int) -> None:
        s = self._state
        s.errors |= which
        vector, masked = s.lvt[5] & 0xFF, s.lvt[5] & MASKED
        if not masked and vector >= FIRST_VECTOR:
            self.accept(vector, False)

    # Registers ---------------------------------------------------------------------------------------------------

    def read_mmio(self, offset: int, size_bytes: int) -> int:
        value = self._read(offset & 0xFF0) if not offset & 0xC else 0
        return value >> 8 * (offset & 3) & (1 << 8 * size_bytes) - 1

    def write_mmio(self, offset: int, size_bytes: int, value: int) -> None:
        if size_bytes == 4 and not offset & 0xF:
            self._write(offset & 0xFF0, value)

    def _read(self, offset: int) -> int:
        s = self._state
        if offset == ID:
            return s.number << 24
        if offset == CURRENT:
            return self.current_count()
        if ISR <= offset < ESR:
            bits = (self._isr, self._tmr, self._irr)[offset - ISR >> 7]
            return bits >> 2 * (offset & 0x70) & 0xFFFF_FFFF
        if LVT_TIMER <= offset <= LVT_ERROR:
            return s.lvt[offset - LVT_TIMER >> 4]
        plain = {
            VERSION: VERSION_VALUE, TPR: s.tpr, APR: 0, PPR: self.ppr(), EOI: 0, LDR: s.ldr, DFR: s.dfr, SVR: s.svr,
            ESR: s.esr, ICR_LOW: s.icr_low, ICR_HIGH: s.icr_high, INITIAL: s.initial, DIVIDE: s.divide,
        }  # fmt: skip
        if offset not in plain:
            self._error(ERROR_REGISTER)
        return plain.get(offset, 0)

    def _write(self, offset: int, value: int) -> None:
        s = self._state
        if offset == EOI:
            self._end_of_interrupt()
        elif offset == TPR:
            s.tpr = value & 0xFF
        elif offset == ICR_LOW:
            s.icr_low = value & 0xCDFFF
            self._send()
        elif offset == ICR_HIGH:
            s.icr_high = value & 0xFF00_0000
        elif offset == INITIAL:
            s.initial = s.left = value
            s.started_ns = self._clock.now_ns
            self._schedule()
        elif offset == DIVIDE:
            s.left, s.started_ns = self.current_count(), self._clock.now_ns
            s.divide = value & 0b1011
            self._schedule()
        elif LVT_TIMER <= offset <= LVT_ERROR:
            self._write_lvt(offset, value)
        elif offset == SVR:
            s.svr = value & SVR_WRITABLE
            if not value & SVR_ENABLE:
                s.lvt = [entry | MASKED for entry in s.lvt]
                self._schedule()
        elif offset == ESR:
            s.esr, s.errors = s.errors, 0
        elif offset == ID:
            s.number = value >> 24
        elif offset == LDR:
            s.ldr = value & 0xFF00_0000
        elif offset == DFR:
            s.dfr = value | 0x0FFF_FFFF
        else:
            self._error(ERROR_REGISTER)
        self._on_change()

    def _write_lvt(self, offset: int, value: int) -> None:
        s = self._state
        value &= LVT_WRITABLE[offset]
        if not s.svr & SVR_ENABLE:
            value |= MASKED
        if offset == LVT_TIMER:
            s.left, s.started_ns = self.current_count(), self._clock.now_ns
        s.lvt[offset - LVT_TIMER >> 4] = value
        if offset == LVT_TIMER:
            self._schedule()

    def _end_of_interrupt(self) -> None:
        vector = self._isr.bit_length() - 1
        if vector < 0:
            return
        self._isr &= ~(1 << vector)
        if self._tmr >> vector & 1:
            self._end_of_level(vector)

    def _send(self) -> None:
        """MODEL: delivered at once; the status bit never shows a message under way."""
        s = self._state
        mode, vector, shorthand = s.icr_low >> MODE_SHIFT & 7, s.icr_low & 0xFF, s.icr_low >> 18 & 3
        if mode not in (FIXED, LOWEST):
            return
        if vector < FIRST_VECTOR:
            self._error(ERROR_SENT)
            return
        mine = shorthand in (1, 2) or (shorthand == 0 and self.matches(s.icr_high >> 24, bool(s.icr_low & LOGICAL)))
        if mine:
            self.accept(vector, False)

    # Timer -------------------------------------------------------------------------------------------------------

    def _count_ns(self) -> int:
        divide = self._state.divide
        shift = ((divide & 8) >> 1 | divide & 3) + 1 & 7
        return TICK_NS << shift

    def current_count(self) -> int:
        s = self._state
        gone = (self._clock.now_ns - s.started_ns) // self._count_ns()
        if gone < s.left:
            return s.left - gone
        if not s.lvt[0] & PERIODIC or not s.initial or not s.left:
            return 0
        return s.initial - (gone - s.left) % s.initial

    def _schedule(self) -> None:
        """Ask for a call when the count comes to its end, if that will interrupt."""
        s = self._state
        s.timer_at_ns = None
        if s.left and not s.lvt[0] & MASKED:
            count_ns, now_ns = self._count_ns(), self._clock.now_ns
            at_ns = s.started_ns + s.left * count_ns
            if at_ns <= now_ns and s.lvt[0] & PERIODIC and s.initial:
                at_ns += s.initial * count_ns * ((now_ns - at_ns) // (s.initial * count_ns) + 1)
            if at_ns > now_ns:
                s.timer_at_ns = at_ns
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
            interval_ns = s.initial * self._count_ns()
            s.timer_at_ns = at_ns + interval_ns * -(-SHORTEST_NS // interval_ns)
            self._ask()
        elif not s.lvt[0] & PERIODIC:
            s.left = 0
        self.accept(s.lvt[0] & 0xFF, False)

    # State -------------------------------------------------------------------------------------------------------

    def save_state(self) -> LapicState:
        state = copied(self._state)
        state.isr, state.tmr, state.irr = (
            bits.to_bytes(32, "little") for bits in (self._isr, self._tmr, self._irr)
        )  # fmt: skip
        return state

    def load_state(self, state: LapicState) -> None:
        self._state = copied(state)
        self._isr, self._tmr, self._irr = (
            int.from_bytes(bits, "little") for bits in (state.isr, state.tmr, state.irr)
        )  # fmt: skip
        self._ask()
