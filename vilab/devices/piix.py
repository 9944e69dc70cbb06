"""PIIX3 ISA bridge, 00:01.0, with the power management function of PIIX4, 00:01.3.

::

    0x0cfc[00] R  ID            8086:7000 and 8086:7113
    0x0cfc[60] RW PIRQRC        for each of PCI interrupts A to D: IRQ of the PIC 3-0, off 7; four bytes
    0x0cfc[40] RW PMBASE        power management: I/O base 15-6, bit 0 is 1
    0x0cfc[58] R  DEVACTB       power management: a write to port 0xb2 is an SMI 25; reads 1
    0x0cfc[80] RW PMREGMISC     power management: I/O block enabled 0

    0x0600     RW PM1_STS       16 bits: timer's top bit has changed 0, power button 8 (never set here)
    0x0602     RW PM1_EN        16 bits: reads 0; no system control interrupt ever comes
    0x0604     RW PM1_CNT       16 bits: sleep type 12-10, sleep enable 13 (power.py)
    0x0608     R  PM_TMR        24 bits, counts 3,579,545 times a second

    PCI device d, pin p (A = 0)  ──>  interrupt (d - 1 + p) mod 4  ──PIRQRC──>  PIC
                                                                   ──────────>  I/O APIC pin 16 + interrupt

The I/O block is at PMBASE; 0x600 is where it stands at power-on, as if firmware had been there.
MODEL: no general purpose events, no SMI, no SMBus. DEVACTB says that SMIs are in use already: firmware that finds them
unused (SeaBIOS) would start using them, and wait for the first one for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

from vilab.clock import VirtualClock
from vilab.devices.ioapic import FIRST_PCI_PIN, Ioapic
from vilab.devices.pci_function import COMMAND, MULTIFUNCTION, STATUS, PciFunction
from vilab.devices.pic import CASCADE_IRQ, Pic
from vilab.devices.power import Power
from vilab.devices.registers import Register

_PIIX = "Intel 82371AB PIIX4 datasheet"

REGISTERS = (
    Register(0xCFC, "R", "ID", "8086:7000 and 8086:7113", _PIIX + ", 4.1.1", 0x00),
    Register(
        0xCFC, "RW", "PIRQRC", "for each of PCI interrupts A to D: IRQ of the PIC 3-0, off 7; four bytes",
        _PIIX + ", 4.1.10", 0x60,
    ),
    Register(0xCFC, "RW", "PMBASE", "power management: I/O base 15-6, bit 0 is 1", _PIIX + ", 7.1.9", 0x40),
    Register(
        0xCFC, "R", "DEVACTB", "power management: a write to port 0xb2 is an SMI 25; reads 1", _PIIX + ", 7.1.13", 0x58
    ),
    Register(0xCFC, "RW", "PMREGMISC", "power management: I/O block enabled 0", _PIIX + ", 7.1.19", 0x80),
    Register(
        0x600, "RW", "PM1_STS", "16 bits: timer's top bit has changed 0, power button 8 (never set here)",
        _PIIX + ", 7.2.1",
    ),
    Register(0x602, "RW", "PM1_EN", "16 bits: reads 0; no system control interrupt ever comes", _PIIX + ", 7.2.2"),
    Register(0x604, "RW", "PM1_CNT", "16 bits: sleep type 12-10, sleep enable 13 (power.py)", _PIIX + ", 7.2.3"),
    Register(0x608, "R", "PM_TMR", "24 bits, counts 3,579,545 times a second", _PIIX + ", 7.2.4"),
)  # fmt: skip

DEVICE = 1
ISA, POWER_MANAGEMENT = 0, 3
PIRQRC, PMBASE, PMREGMISC = 0x60, 0x40, 0x80
DEVACTB, APMC_EN = 0x58, 1 << 25
PIRQ_OFF = 0x80
PIRQS = 4
PM_BYTES = 64
PM_PORTS = 0x600
PM1_CNT, PM_TMR = 4, 8
PM_TIMER_HZ = 3_579_545
ROUTABLE = 0b1101_1110_1111_1000
"""IRQs that PIRQRC may name: 3-7, 9-12, 14, 15."""


class IsaBridge(PciFunction):
    """Takes the four PCI interrupts to the PIC and to the I/O APIC."""

    def __init__(self, pic: Pic, ioapic: Ioapic) -> None:
        super().__init__(0x8086, 0x7000, 0x060100, header_type=MULTIFUNCTION)
        self._pic, self._ioapic = pic, ioapic
        self.asserted: list[int] = [0] * PIRQS
        """For each interrupt, one bit a device that holds it."""
        self._held = 0
        self.put(COMMAND, 0x0007, 2)
        self.put(STATUS, 0x0200, 2)
        self.allow(COMMAND, 0x0008, 2)
        self.put(PIRQRC, int.from_bytes(bytes((PIRQ_OFF,) * PIRQS), "little"), PIRQS)
        self.allow(PIRQRC, 0x8F8F_8F8F, PIRQS)
        self.put(0x4C, 0x4D, 1)
        self.put(0x4E, 0x03, 1)
        self.allow(0x4C, 0xFF_FFFF, 3)
        self.put(0x69, 0x02, 1)
        self.allow(0x69, 0xFF, 1)

    def set_interrupt(self, device: int, pin: int, high: bool) -> None:
        """INTA (0) to INTD (3) of the device in a slot."""
        index, bit = device - 1 + pin & 3, 1 << device  # each pin of a device is on another interrupt
        before = self.asserted[index]
        self.asserted[index] = before | bit if high else before & ~bit
        if bool(before) != bool(self.asserted[index]):
            self._ioapic.set_line(FIRST_PCI_PIN + index, high)
            self._route()

    def config_written(self, offset: int, size_bytes: int) -> None:
        if offset < PIRQRC + PIRQS and offset + size_bytes > PIRQRC:
            self._route()

    def load_asserted(self, asserted: list[int]) -> None:
        """A state record is loaded; the lines of PIC and I/O APIC have their own."""
        self.asserted = [*asserted, *(0,) * PIRQS][:PIRQS]

    def load_config(self, config: bytes) -> None:
        self.config[:] = config
        self._held = self._wanted()

    def _wanted(self) -> int:
        held = 0
        for index in range(PIRQS):
            routing = self.config[PIRQRC + index]
            if self.asserted[index] and not routing & PIRQ_OFF:
                held |= 1 << (routing & 0xF) & ROUTABLE
        return held

    def _route(self) -> None:
        held = self._wanted()
        changed, self._held = held ^ self._held, held
        for irq in range(16):
            if changed >> irq & 1 and irq != CASCADE_IRQ:
                self._pic.set_line(irq, bool(held >> irq & 1))


class PciLine:
    """Interrupt pin ``pin`` (0 = INTA) of the device in slot ``device``."""

    def __init__(self, bridge: IsaBridge, device: int, pin: int = 0) -> None:
        self._bridge, self._device, self._pin = bridge, device, pin

    def set_level(self, high: bool) -> None:
        self._bridge.set_interrupt(self._device, self._pin, high)


class PowerManagement(PciFunction):
    """The I/O block: a timer, the way to switch off, and registers that stay quiet."""

    def __init__(self, clock: VirtualClock, power: Power) -> None:
        super().__init__(0x8086, 0x7113, 0x068000, revision=3, interrupt_pin=1)
        self._clock, self._power = clock, power
        self.put(STATUS, 0x0280, 2)
        self.allow(COMMAND, 0x0001, 2)
        self.put(COMMAND, 0x0001, 2)
        self.put(PMBASE, PM_PORTS | 1, 4)
        self.allow(PMBASE, 0xFFC0, 4)
        self.put(DEVACTB, APMC_EN, 4)
        self.put(PMREGMISC, 1, 1)
        self.allow(PMREGMISC, 0x01, 1)

    def config_written(self, offset: int, size_bytes: int) -> None:
        self.windows_changed()

    def windows(self) -> Iterator[tuple[int, int, int, bool]]:
        base = self.get(PMBASE, 4) & 0xFFC0
        if self.config[PMREGMISC] & 1 and base:
            yield 0, base, PM_BYTES, False

    def timer(self) -> int:
        return self._clock.now_ns * PM_TIMER_HZ // 1_000_000_000 & 0xFF_FFFF

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        registers = bytearray(PM_BYTES)
        registers[PM1_CNT : PM1_CNT + 2] = self._power.read_port(0x604, 2).to_bytes(2, "little")
        registers[PM_TMR : PM_TMR + 4] = self.timer().to_bytes(4, "little")
        return int.from_bytes(registers[offset : offset + size_bytes], "little")

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        if offset in (PM1_CNT, PM1_CNT + 1):
            self._power.write_port(0x604 + offset - PM1_CNT, size_bytes, value)
