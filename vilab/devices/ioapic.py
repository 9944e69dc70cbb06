"""82093AA I/O APIC: 24 interrupt pins, and for each where its interrupt goes. In memory at FEC00000.

::

    0xfec00000 RW IOREGSEL      register for the next access at 0xfec00010
    0xfec00010 RW IOWIN         the register that IOREGSEL has selected
    0xfec00010[00] RW ID        this APIC's number 27-24
    0xfec00010[01] R  VERSION   0x11, highest redirection entry 23-16 (23)
    0xfec00010[02] R  ARB       arbitration number 27-24
    0xfec00010[10] RW REDTBL    low half of entry 0, 0x11 its high half; entry n at 0x10 + 2n

     63-56       16    15    14     13      12     11     10-8   7-0
    +-----------+----+-----+-----+--------+------+-------+------+--------+
    |destination|mask|level|  R  |polarity|status|logical| mode | vector |
    +-----------+----+-----+-----+--------+------+-------+------+--------+
                             R: remote IRR, 1 from the delivery of a level interrupt to its EOI

    pin 0     INTR of the PIC            pins 1, 3-15  the ISA IRQ of that number
    pin 2     IRQ 0, the PIT             pins 16-19    PCI interrupts A to D

A line that its driver holds asserts its pin, whatever the entry's polarity says.
MODEL: NMI, SMI and INIT as a mode are kept and deliver nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.devices.lapic_registers import EXTINT, FIXED, LOWEST
from vilab.devices.registers import Register, copied

_82093 = "Intel 82093AA datasheet (290566), section 3"
BASE = 0xFEC0_0000

REGISTERS = (
    Register(BASE, "RW", "IOREGSEL", "register for the next access at 0xfec00010", _82093),
    Register(BASE + 0x10, "RW", "IOWIN", "the register that IOREGSEL has selected", _82093),
    Register(BASE + 0x10, "RW", "ID", "this APIC's number 27-24", _82093, 0x00),
    Register(BASE + 0x10, "R", "VERSION", "0x11, highest redirection entry 23-16 (23)", _82093, 0x01),
    Register(BASE + 0x10, "R", "ARB", "arbitration number 27-24", _82093, 0x02),
    Register(
        BASE + 0x10, "RW", "REDTBL", "low half of entry 0, 0x11 its high half; entry n at 0x10 + 2n", _82093, 0x10
    ),
)

PINS = 24
IOREGSEL, IOWIN = 0x00, 0x10
VERSION_VALUE = 0x11 | (PINS - 1) << 16
MODE_SHIFT = 8
LOGICAL = 1 << 11
REMOTE_IRR = 1 << 14
LEVEL = 1 << 15
MASKED = 1 << 16
LOW_WRITABLE = 0x1AFFF
DESTINATION_SHIFT = 56

PIN_PIC, PIN_TIMER, FIRST_PCI_PIN = 0, 2, 16

Deliver = Callable[[int, bool, int, bool, bool], None]
"""(vector, level, destination, logical, lowest priority)"""


class IoapicState(msgspec.Struct):
    """``lines``: one bit a pin that is asserted. ``entries`` as in the picture, 64 bits each."""

    number: int = 0
    select: int = 0
    lines: int = 0
    entries: list[int] = msgspec.field(default_factory=lambda: [MASKED] * PINS)


class Ioapic:
    """The chip.

    Parameters
    ----------
    deliver : takes a message to the local APICs.
    on_change : called when an entry was changed: the PIC may come through now, or not any more.
    """

    def __init__(self, number: int, deliver: Deliver, on_change: Callable[[], None]) -> None:
        self._deliver = deliver
        self._on_change = on_change
        self._state = IoapicState(number)

    def takes_extint(self) -> bool:
        """Is the PIC passed through pin 0?"""
        entry = self._state.entries[PIN_PIC]
        return not entry & MASKED and entry >> MODE_SHIFT & 7 == EXTINT

    def unmasked(self) -> bool:
        """Can any pin interrupt?"""
        return any(not entry & MASKED for entry in self._state.entries)

    def set_line(self, pin: int, high: bool) -> None:
        """An edge while its entry is masked is lost (datasheet 3.2.4, bit 16)."""
        s, bit = self._state, 1 << pin
        if high == bool(s.lines & bit):
            return
        s.lines ^= bit
        if high:
            self._send(pin)

    def _send(self, pin: int) -> None:
        entries = self._state.entries
        entry = entries[pin]
        mode = entry >> MODE_SHIFT & 7
        if entry & MASKED or mode not in (FIXED, LOWEST):
            return
        level = bool(entry & LEVEL)
        if level:
            if entry & REMOTE_IRR:
                return
            entries[pin] |= REMOTE_IRR
        self._deliver(entry & 0xFF, level, entry >> DESTINATION_SHIFT, bool(entry & LOGICAL), mode == LOWEST)

    def end_of_interrupt(self, vector: int) -> None:
        """A local APIC has finished a level-triggered interrupt. A line that is still held interrupts again."""
        s = self._state
        for pin, entry in enumerate(s.entries):
            if entry & REMOTE_IRR and entry & 0xFF == vector:
                s.entries[pin] = entry & ~REMOTE_IRR
                if s.lines >> pin & 1:
                    self._send(pin)

    def read_mmio(self, offset: int, size_bytes: int) -> int:
        s = self._state
        register = offset & 0xFC
        value = s.select if register == IOREGSEL else self._read(s.select) if register == IOWIN else 0
        return value >> 8 * (offset & 3) & (1 << 8 * size_bytes) - 1

    def write_mmio(self, offset: int, size_bytes: int, value: int) -> None:
        register = offset & 0xFF
        if register == IOREGSEL:
            self._state.select = value & 0xFF
        elif register == IOWIN and size_bytes == 4:
            self._write(self._state.select, value)

    def _read(self, index: int) -> int:
        s = self._state
        if index in (0, 2):
            return s.number << 24
        if index == 1:
            return VERSION_VALUE
        if 0x10 <= index < 0x10 + 2 * PINS:
            return s.entries[index - 0x10 >> 1] >> 32 * (index & 1) & 0xFFFF_FFFF
        return 0

    def _write(self, index: int, value: int) -> None:
        s = self._state
        if index == 0:
            s.number = value >> 24 & 0xF
        elif 0x10 <= index < 0x10 + 2 * PINS:
            pin = index - 0x10 >> 1
            entry = s.entries[pin]
            if index & 1:
                s.entries[pin] = entry & 0xFFFF_FFFF | (value >> 24) << DESTINATION_SHIFT
            else:
                kept = entry & REMOTE_IRR if value & LEVEL else 0
                s.entries[pin] = entry >> 32 << 32 | value & LOW_WRITABLE | kept
                if s.entries[pin] & LEVEL and s.lines >> pin & 1:
                    self._send(pin)
            self._on_change()

    def save_state(self) -> IoapicState:
        return copied(self._state)

    def load_state(self, state: IoapicState) -> None:
        self._state = copied(state)
