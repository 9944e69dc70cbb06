"""How an interrupt reaches the processor: the PIC, the local APIC and the I/O APIC as one source.

::

    ISA IRQ n ──┬──> PIC ──INTR──┬── LINT0 of the local APIC, or I/O APIC pin 0, in mode ExtINT ──┐
                │                └── (local APIC switched off) ──────────────────────────────────┤
                └──> I/O APIC ──message──> local APIC: IRR ──priority──────────────────────────── ┴──> processor
                pin n (IRQ 0: pin 2)       timer ──┘  ^── interrupt commands, errors

PIC mode, virtual wire and symmetric mode of the MultiProcessor Specification 1.4 (section 3.6) are nothing but settings
of these parts. After power-on it is a virtual wire, as firmware leaves it, and a guest that knows no APIC sees a PIC.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.clock import VirtualClock
from vilab.devices.ioapic import PIN_PIC, PIN_TIMER, Ioapic
from vilab.devices.lapic import Lapic
from vilab.devices.pic import Pic


class IsaLine:
    """ISA interrupt request ``irq``: wired to the PIC and to the I/O APIC."""

    __slots__ = ("_ioapic", "_irq", "_pic", "_pin")

    def __init__(self, pic: Pic, ioapic: Ioapic, irq: int) -> None:
        self._pic, self._ioapic, self._irq = pic, ioapic, irq
        self._pin = PIN_TIMER if irq == 0 else irq

    def set_level(self, high: bool) -> None:
        self._pic.set_line(self._irq, high)
        self._ioapic.set_line(self._pin, high)


class Interrupts:
    """The three together.

    Parameters
    ----------
    processors : how many local APICs; the first one's processor is the one that ``pending`` and the others speak of.
    on_interrupt : called with the new level when ``pending`` has changed.
    """

    def __init__(
        self, clock: VirtualClock, on_interrupt: Callable[[bool], None] | None = None, processors: int = 1
    ) -> None:
        self._on_interrupt = on_interrupt
        self._level = False
        self.pic = Pic(self._pic_changed)
        self.ioapic = Ioapic(processors, self._deliver, self._update)
        self.lapics = [Lapic(clock, number, self._update, self._end_of_level) for number in range(processors)]
        self.lapic = self.lapics[0]

    def line(self, irq: int) -> IsaLine:
        self.pic.line(irq)  # refuses a number that there is not
        return IsaLine(self.pic, self.ioapic, irq)

    def _passes_pic(self) -> bool:
        """Does the PIC's INTR reach the processor?"""
        return not self.lapic.enabled or self.lapic.takes_extint() or self.ioapic.takes_extint()

    def pending(self) -> bool:
        """Does an interrupt wait that the processor would take if its IF is set?"""
        if self.pic.intr and self._passes_pic():
            return True
        return self.lapic.enabled and self.lapic.deliverable() >= 0

    def acknowledge(self) -> int:
        """INTA: the vector. The local APIC's own interrupts come before the PIC's."""
        lapic = self.lapic
        if lapic.enabled and (lapic.deliverable() >= 0 or not self._passes_pic()):
            vector = lapic.acknowledge()
            self._update()
            return vector
        return self.pic.acknowledge()

    def all_masked(self) -> bool:
        """Nothing can interrupt, whatever it does: a processor that halts now never wakes."""
        if self.lapic.enabled and (self.lapic.can_interrupt() or self.ioapic.unmasked()):
            return False
        return self.pic.all_masked() or not self._passes_pic()

    def _pic_changed(self, high: bool) -> None:
        self.lapic.set_wire(high)
        self.ioapic.set_line(PIN_PIC, high)
        self._update()

    def _deliver(self, vector: int, level: bool, destination: int, logical: bool, lowest: bool) -> None:
        for lapic in self.lapics:
            if lapic.matches(destination, logical):
                lapic.accept(vector, level)
                if lowest:
                    return

    def _end_of_level(self, vector: int) -> None:
        self.ioapic.end_of_interrupt(vector)

    def _update(self) -> None:
        level = self.pending()
        if level != self._level:
            self._level = level
            if self._on_interrupt is not None:
                self._on_interrupt(level)

    def settle(self) -> None:
        """A state record was loaded: the output is what it says."""
        self._update()
