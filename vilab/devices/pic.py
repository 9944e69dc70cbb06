"""8259A interrupt controllers: a master, a slave on its input 2, fifteen interrupt request lines.

::

    IRQ 0 timer  ---> IR0 +--------+            IRQ  8 RTC --> IR0 +-------+
    IRQ 1 keys   ---> IR1 | master |            IRQ  9     --> IR1 | slave |
              +-----> IR2 | IRR    |---> INTR   ...                | IRR   |--+
    IRQ 4 COM1 | ---> IR4 | ISR    |     to the IRQ 15     --> IR7 | ISR   |  |
    ...        | ---> IR7 | IMR    |     CPU                       | IMR   |  |
               |          +--------+                               +-------+  |
               +--------------------------------------------------------------+

    IRR  a line asks         IMR  1 = the line is masked        ISR  its handler runs, until EOI
    A request goes through if it is not masked and of higher priority than everything in ISR.

    0x0020     RW IRR/ISR       read: IRR or ISR as OCW3 chose, or the poll byte; write: ICW1, OCW2, OCW3
    0x0021     RW IMR           read: IMR; write: ICW2-ICW4 during initialization, then OCW1 (the mask)
    0x00a0     RW IRR/ISR       the same for the slave
    0x00a1     RW IMR           the same for the slave
    0x04d0     RW ELCR1         bit n = 1: IRQ n is level triggered (0, 1, 2 are always edge)
    0x04d1     RW ELCR2         bit n = 1: IRQ 8 + n is level triggered (8 and 13 are always edge)

    write to the even port, by bits 4 and 3:
      xxx1 xxxx  ICW1   LTIM 3, SNGL 1, IC4 0: starts initialization; ICW2 (vector base), ICW3, ICW4 follow
      xxx0 0xxx  OCW2   R 7, SL 6, EOI 5, level 2-0
      0xx0 1xxx  OCW3   ESMM 6, SMM 5, P 2, RR 1, RIS 0
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.devices.registers import Register, copied

_8259A = "Intel 8259A datasheet (231468), programming"
_PIIX = "Intel 82371AB PIIX4 datasheet, 4.2"

REGISTERS = (
    Register(
        0x20, "RW", "IRR/ISR", "read: IRR or ISR as OCW3 chose, or the poll byte; write: ICW1, OCW2, OCW3", _8259A
    ),
    Register(0x21, "RW", "IMR", "read: IMR; write: ICW2-ICW4 during initialization, then OCW1 (the mask)", _8259A),
    Register(0xA0, "RW", "IRR/ISR", "the same for the slave", _8259A),
    Register(0xA1, "RW", "IMR", "the same for the slave", _8259A),
    Register(0x4D0, "RW", "ELCR1", "bit n = 1: IRQ n is level triggered (0, 1, 2 are always edge)", _PIIX),
    Register(0x4D1, "RW", "ELCR2", "bit n = 1: IRQ 8 + n is level triggered (8 and 13 are always edge)", _PIIX),
)

ICW1_SELECT = 0b0001_0000
ICW1_IC4 = 0b0000_0001
ICW1_SNGL = 0b0000_0010
ICW4_AEOI = 0b0000_0010
ICW4_SFNM = 0b0001_0000
OCW2_ROTATE = 0b1000_0000
OCW2_SPECIFIC = 0b0100_0000
OCW2_EOI = 0b0010_0000
OCW3_SELECT = 0b0000_1000
OCW3_ESMM = 0b0100_0000
OCW3_SMM = 0b0010_0000
OCW3_POLL = 0b0000_0100
OCW3_RR = 0b0000_0010
OCW3_RIS = 0b0000_0001
POLL_REQUEST = 0b1000_0000

CASCADE_IRQ = 2
CASCADE_BIT = 1 << CASCADE_IRQ
SPURIOUS_IRQ = 7
ELCR_WRITABLE = (0b1111_1000, 0b1101_1110)


class ChipState(msgspec.Struct):
    """One 8259A. ``step`` is the ICW that the next write to the odd port is (2-4), 0 once initialized."""

    vector_base: int
    lines: int = 0
    irr: int = 0
    isr: int = 0
    imr: int = 0xFF  # MODEL: no firmware has run, so nothing is let through before the guest says so.
    elcr: int = 0
    lowest: int = 7
    step: int = 0
    icw1: int = 0
    icw3: int = 0
    auto_eoi: bool = False
    rotate_auto: bool = False
    special_mask: bool = False
    fully_nested: bool = False
    read_isr: bool = False
    poll: bool = False


class PicState(msgspec.Struct):
    master: ChipState
    slave: ChipState


def reset_state() -> PicState:
    """Vector bases 0x08 and 0x70, where the firmware of every PC has put them since 1984."""
    return PicState(ChipState(0x08, icw3=CASCADE_BIT), ChipState(0x70, icw3=CASCADE_IRQ))


def _first(bits: int, lowest: int) -> int:
    """Rank (0 = highest priority) of the first of ``bits`` when input ``lowest`` ranks last; 8 if there is none."""
    top = (lowest + 1) & 7
    turned = ((bits >> top) | (bits << (8 - top))) & 0xFF
    return (turned & -turned).bit_length() - 1 if turned else 8


def request(chip: ChipState, is_master: bool) -> int:
    """The input that ``chip`` would let through now, or -1."""
    wanted = chip.irr & ~chip.imr
    if not wanted or chip.step:
        return -1
    in_service = chip.isr
    if chip.special_mask:
        in_service &= ~chip.imr
    lowest = chip.lowest
    rank = _first(wanted, lowest)
    if in_service:
        if is_master and chip.fully_nested and in_service & wanted & CASCADE_BIT:
            # Special fully nested: the slave may interrupt its own handler with a request of higher priority.
            in_service &= ~CASCADE_BIT
        if rank >= _first(in_service, lowest):
            return -1
    return (lowest + 1 + rank) & 7


class PicLine:
    """Input ``irq`` (0-15) of the pair."""

    __slots__ = ("_irq", "_pic")

    def __init__(self, pic: Pic, irq: int) -> None:
        self._pic = pic
        self._irq = irq

    def set_level(self, high: bool) -> None:
        self._pic.set_line(self._irq, high)


class Pic:
    """The pair.

    Parameters
    ----------
    on_change : called with the new level whenever the INTR output changes.

    ``intr`` is that output: reading the attribute is the cheapest way to ask.
    """

    ports = tuple(r.port for r in REGISTERS)

    def __init__(self, on_change: Callable[[bool], None] | None = None) -> None:
        self._state = reset_state()
        self._on_change = on_change
        self.intr = False

    def line(self, irq: int) -> PicLine:
        if not 0 <= irq <= 15 or irq == CASCADE_IRQ:
            raise ValueError(f"the pair of 8259A has no input for IRQ {irq}: 0-15 without 2, which is the slave's")
        return PicLine(self, irq)

    def set_line(self, irq: int, high: bool) -> None:
        """A request must stay high until it is acknowledged: a line that falls takes its IRR bit with it."""
        chip = self._state.slave if irq & 8 else self._state.master
        bit = 1 << (irq & 7)
        if high:
            if not chip.lines & bit:
                chip.lines |= bit
                chip.irr |= bit
                self._update()
        elif chip.lines & bit:
            chip.lines &= ~bit
            chip.irr &= ~bit
            self._update()

    def pending(self) -> bool:
        return self.intr

    def acknowledge(self) -> int:
        """INTA. A request that has gone away meanwhile gives vector base + 7 and no ISR bit: a spurious interrupt."""
        master, slave = self._state.master, self._state.slave
        irq = request(master, True)
        if irq < 0:
            return master.vector_base | SPURIOUS_IRQ
        self._take(master, irq)
        vector = master.vector_base | irq
        if irq == CASCADE_IRQ:
            irq = request(slave, False)
            if irq >= 0:
                self._take(slave, irq)
            vector = slave.vector_base | (irq if irq >= 0 else SPURIOUS_IRQ)
        self._update()
        return vector

    def all_masked(self) -> bool:
        """No line can interrupt, whatever it does: a processor that halts now never wakes."""
        master, slave = self._state.master, self._state.slave
        return (master.imr | (CASCADE_BIT if slave.imr == 0xFF else 0)) == 0xFF

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        if port >= 0x4D0:
            return (self._state.slave if port & 1 else self._state.master).elcr
        is_master = port < 0xA0
        chip = self._state.master if is_master else self._state.slave
        if chip.poll:
            chip.poll = False
            irq = request(chip, is_master)
            if irq < 0:
                return 0
            self._take(chip, irq)
            self._update()
            return POLL_REQUEST | irq
        if port & 1:
            return chip.imr
        return chip.isr if chip.read_isr else chip.irr

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        if port >= 0x4D0:
            slave = port & 1
            chip = self._state.slave if slave else self._state.master
            chip.elcr = value & ELCR_WRITABLE[slave]
            chip.irr = (chip.irr & ~chip.elcr) | (chip.lines & chip.elcr)
        else:
            chip = self._state.master if port < 0xA0 else self._state.slave
            if port & 1:
                self._write_odd(chip, value)
            elif value & ICW1_SELECT:
                self._initialize(chip, value)
            elif value & OCW3_SELECT:
                self._write_ocw3(chip, value)
            else:
                self._write_ocw2(chip, value)
        self._update()

    def _update(self) -> None:
        master, slave = self._state.master, self._state.slave
        # The slave's INT output is the master's input 2, edge triggered as any other.
        if slave.irr and request(slave, False) >= 0:
            if not master.lines & CASCADE_BIT:
                master.lines |= CASCADE_BIT
                master.irr |= CASCADE_BIT
        else:
            master.lines &= ~CASCADE_BIT
            master.irr &= ~CASCADE_BIT
        intr = request(master, True) >= 0
        if intr != self.intr:
            self.intr = intr
            if self._on_change is not None:
                self._on_change(intr)

    def _take(self, chip: ChipState, irq: int) -> None:
        """The end of INTA or of a poll. The chip's INT output falls; it rises again if more is waiting."""
        bit = 1 << irq
        if chip is self._state.slave:
            self._state.master.lines &= ~CASCADE_BIT
        if not chip.elcr & bit:
            chip.irr &= ~bit
        if not chip.auto_eoi:
            chip.isr |= bit
        elif chip.rotate_auto:
            chip.lowest = irq

    @staticmethod
    def _initialize(chip: ChipState, value: int) -> None:
        """ICW1 forgets edges, masks and modes. MODEL: LTIM is ignored, as in PC chipsets, where ELCR decides."""
        chip.icw1 = value
        chip.step = 2
        chip.irr = chip.lines & chip.elcr
        chip.imr = chip.isr = 0
        chip.lowest = 7
        chip.special_mask = chip.read_isr = chip.poll = chip.rotate_auto = False
        chip.auto_eoi = chip.fully_nested = False

    @staticmethod
    def _write_odd(chip: ChipState, value: int) -> None:
        step = chip.step
        if step == 0:
            chip.imr = value
        elif step == 2:
            chip.vector_base = value & 0xF8
            chip.step = (4 if chip.icw1 & ICW1_IC4 else 0) if chip.icw1 & ICW1_SNGL else 3
        elif step == 3:
            chip.icw3 = value
            chip.step = 4 if chip.icw1 & ICW1_IC4 else 0
        else:
            chip.auto_eoi = bool(value & ICW4_AEOI)
            chip.fully_nested = bool(value & ICW4_SFNM)
            chip.step = 0

    @staticmethod
    def _write_ocw2(chip: ChipState, value: int) -> None:
        level = value & 7
        if value & OCW2_EOI:
            if not value & OCW2_SPECIFIC:
                in_service = chip.isr & ~chip.imr if chip.special_mask else chip.isr
                rank = _first(in_service, chip.lowest)
                if rank == 8:
                    return
                level = (chip.lowest + 1 + rank) & 7
            chip.isr &= ~(1 << level)
            if value & OCW2_ROTATE:
                chip.lowest = level
        elif value & OCW2_SPECIFIC:
            if value & OCW2_ROTATE:
                chip.lowest = level
        else:
            chip.rotate_auto = bool(value & OCW2_ROTATE)

    @staticmethod
    def _write_ocw3(chip: ChipState, value: int) -> None:
        if value & OCW3_ESMM:
            chip.special_mask = bool(value & OCW3_SMM)
        if value & OCW3_POLL:
            chip.poll = True
        elif value & OCW3_RR:
            chip.read_isr = bool(value & OCW3_RIS)

    def save_state(self) -> PicState:
        return copied(self._state)

    def load_state(self, state: PicState) -> None:
        self._state = copied(state)
        self._update()
