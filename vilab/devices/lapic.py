"""Local APIC: the interrupt controller beside each processor.

::

    guest ── registers in memory, MSR 1Bh ──> Lapic ──> LapicTimer   counts down, and then it is a request
    PIC's INTR ── LINT0 ────────────────────>   │
    I/O APIC ── messages ───────────────────>   └─────> Requests ── deliverable ──> processor ── INTA ──> in service

MODEL: power-on state is the one that firmware leaves behind: enabled, as a virtual wire (LINT0 passes the PIC through).
MODEL: NMI, SMI and INIT are accepted and do nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.clock import VirtualClock
from vilab.devices import lapic_registers as lr
from vilab.devices.lapic_priority import Requests, is_addressed
from vilab.devices.lapic_state import LapicState
from vilab.devices.lapic_timer import LapicTimer
from vilab.devices.registers import copied


class Lapic:
    """One processor's.

    Parameters
    ----------
    number : its APIC lr.ID.
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
        self._on_change = on_change
        self._end_of_level = end_of_level
        self._requests = Requests()
        self._state = LapicState(number=number)
        self._timer = LapicTimer(clock, self._state, self._timer_expired)

    # What the processor asks -------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Not switched off by MSR 1Bh: then there is no APIC at all, and the PIC has the processor's pin."""
        return bool(self._state.apic_base & lr.BASE_ENABLE)

    @property
    def base(self) -> int:
        """Where its registers are."""
        return self._state.apic_base & lr.BASE_ADDRESS

    @property
    def number(self) -> int:
        return self._state.number

    def read_apic_base(self) -> int:
        return self._state.apic_base

    def write_apic_base(self, value: int) -> bool:
        """False: a bit that must not be set (the processor raises #GP)."""
        s = self._state
        if value & ~(lr.BASE_ADDRESS | lr.BASE_ENABLE | lr.BASE_BSP):
            return False
        was_on = self.enabled
        s.apic_base = value & (lr.BASE_ADDRESS | lr.BASE_ENABLE) | s.apic_base & lr.BASE_BSP
        if was_on and not self.enabled:
            # Switched on again it is as after a reset: with nothing set up.
            base, number = s.apic_base, s.number
            lvt = [lr.MASKED] * 6
            self._state = LapicState(number=number, apic_base=base, svr=0xFF, lvt=lvt, wire=s.wire)
            self._requests = Requests()
            self._timer.load(self._state)
        self._on_change()
        return True

    def takes_extint(self) -> bool:
        """Does LINT0 pass the PIC's INTR through to the processor?"""
        s = self._state
        return not s.lvt[3] & lr.MASKED and s.lvt[3] >> lr.MODE_SHIFT & 7 == lr.EXTINT

    def deliverable(self) -> int:
        """The vector that would interrupt now, or -1."""
        requests = self._requests
        if not requests.irr or not self._state.svr & lr.SVR_ENABLE:
            return -1
        return requests.deliverable(self._state.tpr)

    def can_interrupt(self) -> bool:
        """Could something of its own come without the processor's help: a request, or the timer?"""
        return bool(self._requests.irr) or self._timer.running

    def acknowledge(self) -> int:
        """INTA: the vector, now in service; the spurious one if the request is not there any more."""
        vector = self.deliverable()
        if vector < 0:
            return self._state.svr & 0xFF
        self._requests.take(vector)
        return vector

    # What comes in -----------------------------------------------------------------------------------------------

    def accept(self, vector: int, level: bool) -> None:
        """A fixed interrupt for this processor."""
        if not self.enabled or not self._state.svr & lr.SVR_ENABLE:
            return
        if vector < lr.FIRST_VECTOR:
            self._error(lr.ERROR_RECEIVED)
            return
        self._requests.request(vector, level)
        self._on_change()

    def matches(self, destination: int, logical: bool) -> bool:
        """Is this the APIC, or one of those, that a message is for?"""
        s = self._state
        return is_addressed(destination, logical, s.number, s.ldr, s.dfr)

    def set_wire(self, high: bool) -> None:
        """LINT0, which the PIC's INTR is wired to."""
        s = self._state
        rises = high and not s.wire
        s.wire = high
        if rises and not s.lvt[3] & lr.MASKED and s.lvt[3] >> lr.MODE_SHIFT & 7 == lr.FIXED:
            self.accept(s.lvt[3] & 0xFF, False)

    def _timer_expired(self) -> None:
        self.accept(self._state.lvt[0] & 0xFF, False)

    def _error(self, which: int) -> None:
        s = self._state
        s.errors |= which
        vector, masked = s.lvt[5] & 0xFF, s.lvt[5] & lr.MASKED
        if not masked and vector >= lr.FIRST_VECTOR:
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
        if offset == lr.ID:
            return s.number << 24
        if offset == lr.CURRENT:
            return self._timer.count
        if lr.ISR <= offset < lr.ESR:
            requests = self._requests
            bits = (requests.isr, requests.tmr, requests.irr)[offset - lr.ISR >> 7]
            return bits >> 2 * (offset & 0x70) & 0xFFFF_FFFF
        if lr.LVT_TIMER <= offset <= lr.LVT_ERROR:
            return s.lvt[offset - lr.LVT_TIMER >> 4]
        plain = {
            lr.VERSION: lr.VERSION_VALUE, lr.TPR: s.tpr, lr.APR: 0,
            lr.PPR: self._requests.processor_priority(s.tpr), lr.EOI: 0,
            lr.LDR: s.ldr, lr.DFR: s.dfr, lr.SVR: s.svr, lr.ESR: s.esr, lr.ICR_LOW: s.icr_low, lr.ICR_HIGH: s.icr_high,
            lr.INITIAL: s.initial, lr.DIVIDE: s.divide,
        }  # fmt: skip
        if offset not in plain:
            self._error(lr.ERROR_REGISTER)
        return plain.get(offset, 0)

    def _write(self, offset: int, value: int) -> None:
        s = self._state
        if offset == lr.EOI:
            self._end_of_interrupt()
        elif offset == lr.TPR:
            s.tpr = value & 0xFF
        elif offset == lr.ICR_LOW:
            s.icr_low = value & 0xCDFFF
            self._send()
        elif offset == lr.ICR_HIGH:
            s.icr_high = value & 0xFF00_0000
        elif offset == lr.INITIAL:
            self._timer.start(value)
        elif offset == lr.DIVIDE:
            self._timer.hold()
            s.divide = value & 0b1011
            self._timer.schedule()
        elif lr.LVT_TIMER <= offset <= lr.LVT_ERROR:
            self._write_lvt(offset, value)
        elif offset == lr.SVR:
            s.svr = value & lr.SVR_WRITABLE
            if not value & lr.SVR_ENABLE:
                s.lvt = [entry | lr.MASKED for entry in s.lvt]
                self._timer.schedule()
        elif offset == lr.ESR:
            s.esr, s.errors = s.errors, 0
        elif offset == lr.ID:
            s.number = value >> 24
        elif offset == lr.LDR:
            s.ldr = value & 0xFF00_0000
        elif offset == lr.DFR:
            s.dfr = value | 0x0FFF_FFFF
        else:
            self._error(lr.ERROR_REGISTER)
        self._on_change()

    def _write_lvt(self, offset: int, value: int) -> None:
        s = self._state
        value &= lr.LVT_WRITABLE[offset]
        if not s.svr & lr.SVR_ENABLE:
            value |= lr.MASKED
        if offset == lr.LVT_TIMER:
            self._timer.hold()
        s.lvt[offset - lr.LVT_TIMER >> 4] = value
        if offset == lr.LVT_TIMER:
            self._timer.schedule()

    def _end_of_interrupt(self) -> None:
        level_vector = self._requests.end()
        if level_vector >= 0:
            self._end_of_level(level_vector)

    def _send(self) -> None:
        """MODEL: delivered at once; the status bit never shows a message under way."""
        s = self._state
        mode, vector, shorthand = s.icr_low >> lr.MODE_SHIFT & 7, s.icr_low & 0xFF, s.icr_low >> 18 & 3
        if mode not in (lr.FIXED, lr.LOWEST):
            return
        if vector < lr.FIRST_VECTOR:
            self._error(lr.ERROR_SENT)
            return
        mine = shorthand in (1, 2) or (shorthand == 0 and self.matches(s.icr_high >> 24, bool(s.icr_low & lr.LOGICAL)))
        if mine:
            self.accept(vector, False)

    # State -------------------------------------------------------------------------------------------------------

    def save_state(self) -> LapicState:
        state, requests = copied(self._state), self._requests
        state.isr, state.tmr, state.irr = (
            bits.to_bytes(32, "little") for bits in (requests.isr, requests.tmr, requests.irr)
        )  # fmt: skip
        return state

    def load_state(self, state: LapicState) -> None:
        self._state, requests = copied(state), self._requests
        requests.isr, requests.tmr, requests.irr = (
            int.from_bytes(bits, "little") for bits in (state.isr, state.tmr, state.irr)
        )  # fmt: skip
        self._timer.load(self._state)
