"""16550A UART: a serial port with a FIFO of 16 bytes each way.

::

    0x03f8     RW RBR/THR/DLL   DLAB 0: received byte, byte to send; DLAB 1: divisor, low byte
    0x03f9     RW IER/DLM       DLAB 0: interrupt enables; DLAB 1: divisor, high byte
    0x03fa     R  IIR           which interrupt, by priority; bits 7-6 set while the FIFOs are on
    0x03fa     W  FCR           FIFO on 0, clear receive 1, clear transmit 2, receive trigger 7-6
    0x03fb     RW LCR           word length 1-0, stop 2, parity 5-3, break 6, DLAB 7
    0x03fc     RW MCR           DTR 0, RTS 1, OUT1 2, OUT2 3 (lets the interrupt out on a PC), loopback 4
    0x03fd     R  LSR           data ready 0, overrun 1, break 4, THR empty 5, all sent 6
    0x03fe     R  MSR           changes 3-0, CTS 4, DSR 5, RI 6, DCD 7
    0x03ff     RW SCR           scratch

    IIR   0x06 line status       cleared by reading LSR
          0x04 data to the trigger level              by reading RBR
          0x0c data waits for four characters' time   by reading RBR
          0x02 THR empty                              by reading IIR, or by writing THR
          0x00 modem status                           by reading MSR
          0x01 none

Addresses are those of COM1; another base shifts them.
MODEL: a byte that is sent leaves at once, so THR is always empty: a guest that polls LSR would otherwise leave the
processor a hundred times for every byte, and nothing that a lesson shows depends on the baud rate.
MODEL: the far end waits while the receive FIFO is full; nothing is overrun but in loopback, where the guest itself
is the far end.
"""

from __future__ import annotations

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.devices.registers import Register, copied
from vilab.events import ConsoleOutput, EventLog
from vilab.protocols import Console, InterruptLine

_16550 = "National PC16550D datasheet, section 8"

REGISTERS = (
    Register(0x3F8, "RW", "RBR/THR/DLL", "DLAB 0: received byte, byte to send; DLAB 1: divisor, low byte", _16550),
    Register(0x3F9, "RW", "IER/DLM", "DLAB 0: interrupt enables; DLAB 1: divisor, high byte", _16550),
    Register(0x3FA, "R", "IIR", "which interrupt, by priority; bits 7-6 set while the FIFOs are on", _16550),
    Register(0x3FA, "W", "FCR", "FIFO on 0, clear receive 1, clear transmit 2, receive trigger 7-6", _16550),
    Register(0x3FB, "RW", "LCR", "word length 1-0, stop 2, parity 5-3, break 6, DLAB 7", _16550),
    Register(0x3FC, "RW", "MCR", "DTR 0, RTS 1, OUT1 2, OUT2 3 (lets the interrupt out on a PC), loopback 4", _16550),
    Register(0x3FD, "R", "LSR", "data ready 0, overrun 1, break 4, THR empty 5, all sent 6", _16550),
    Register(0x3FE, "R", "MSR", "changes 3-0, CTS 4, DSR 5, RI 6, DCD 7", _16550),
    Register(0x3FF, "RW", "SCR", "scratch", _16550),
)  # fmt: skip

COM1 = 0x3F8
RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
THR, FCR = RBR, IIR

IER_RX, IER_THRE, IER_LINE, IER_MODEM = 0b0001, 0b0010, 0b0100, 0b1000
IIR_NONE, IIR_LINE, IIR_RX, IIR_TIMEOUT, IIR_THRE, IIR_MODEM = 0x01, 0x06, 0x04, 0x0C, 0x02, 0x00
IIR_FIFO_ON = 0b1100_0000
FCR_ENABLE, FCR_CLEAR_RX = 0b0000_0001, 0b0000_0010
RX_TRIGGERS = (1, 4, 8, 14)
LCR_BREAK = 0b0100_0000
LCR_DLAB = 0b1000_0000
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0b0_0001, 0b0_0010, 0b0_0100, 0b0_1000, 0b1_0000
LSR_DATA, LSR_OVERRUN, LSR_BREAK, LSR_THRE, LSR_TEMT = 0b0000_0001, 0b0000_0010, 0b0001_0000, 0b0010_0000, 0b0100_0000
LSR_ERRORS = 0b0001_1110
MSR_DELTAS = 0b0000_1111
MSR_TERI = 0b0000_0100
MSR_RI = 0b0100_0000
MSR_CONNECTED = 0b1011_0000  # DCD, DSR, CTS: a terminal is switched on at the far end

FIFO_BYTES = 16
UART_CLOCK_HZ = 1_843_200
TIMEOUT_CHARACTERS = 4


class UartState(msgspec.Struct):
    """``fifo``: received, not read. ``backlog``: what the far end still holds. ``line``: errors of LSR."""

    ier: int = 0
    fcr: int = 0
    lcr: int = 0b0000_0011  # 8N1 at 9600 baud: what firmware sets up
    mcr: int = 0
    msr: int = MSR_CONNECTED
    scr: int = 0
    divisor: int = 12
    line: int = 0
    fifo: bytearray = msgspec.field(default_factory=bytearray)
    backlog: bytearray = msgspec.field(default_factory=bytearray)
    thre_interrupt: bool = False
    timeout_interrupt: bool = False
    timeout_at_ns: int | None = None


class Uart:
    """The chip.

    Parameters
    ----------
    irq : its interrupt line. console : the far end.
    out2_gates_irq : on a PC the interrupt reaches the PIC only through MCR.OUT2. Some hosted monitors leave that out,
        and small kernels that were only ever tried there never set the bit.

    Each byte sent is one ``ConsoleOutput`` event, so that a step shows its own output.
    """

    def __init__(
        self,
        clock: VirtualClock,
        log: EventLog,
        irq: InterruptLine,
        console: Console,
        base: int = COM1,
        out2_gates_irq: bool = True,
    ) -> None:
        self.ports = tuple(range(base, base + 8))
        self._clock = clock
        self._log = log
        self._irq = irq
        self._console = console
        self._irq_gate = MCR_OUT2 if out2_gates_irq else 0
        self._timer: Timer | None = None
        self._state = UartState()
        self._level = False

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        s = self._state
        offset = port & 7
        if offset == LSR:
            value = s.line | LSR_THRE | LSR_TEMT | (LSR_DATA if s.fifo else 0)
            if s.line:
                s.line = 0
                self._update()
            return value
        if offset == RBR:
            return s.divisor & 0xFF if s.lcr & LCR_DLAB else self._receive_register()
        if offset == IER:
            return s.divisor >> 8 if s.lcr & LCR_DLAB else s.ier
        if offset == IIR:
            source = self._source()
            if source == IIR_THRE:
                s.thre_interrupt = False
                self._update()
            return source | (IIR_FIFO_ON if s.fcr & FCR_ENABLE else 0)
        if offset == LCR:
            return s.lcr
        if offset == MCR:
            return s.mcr
        if offset == MSR:
            value = s.msr
            s.msr &= ~MSR_DELTAS
            self._update()
            return value
        return s.scr

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        s = self._state
        offset = port & 7
        if offset == THR:
            if s.lcr & LCR_DLAB:
                s.divisor = s.divisor & 0xFF00 | value
            else:
                self._send(value)
        elif offset == IER:
            if s.lcr & LCR_DLAB:
                s.divisor = s.divisor & 0x00FF | value << 8
            else:
                if value & ~s.ier & IER_THRE:
                    s.thre_interrupt = True
                s.ier = value & 0x0F
                self._update()
        elif offset == FCR:
            self._write_fcr(value)
        elif offset == LCR:
            if s.mcr & MCR_LOOP and value & ~s.lcr & LCR_BREAK:
                self._accept(0)
                s.line |= LSR_BREAK
            s.lcr = value
            self._update()
        elif offset == MCR:
            s.mcr = value & 0x1F
            self._modem_inputs()
            self._fill()
        elif offset == SCR:
            s.scr = value

    def receive(self, data: bytes) -> None:
        """Bytes arrive from the far end."""
        if data:
            self._state.backlog += data
            self._fill()

    def poll_input(self) -> bool:
        """Take what the console has; true if there was something. Nothing is taken before the last input is read."""
        if self._state.backlog:
            return False
        data = self._console.read_available()
        self.receive(data)
        return bool(data)

    def _send(self, value: int) -> None:
        s = self._state
        if s.ier & IER_THRE:
            s.thre_interrupt = False
            self._update()
        s.thre_interrupt = True
        if s.mcr & MCR_LOOP:
            self._accept(value)
        else:
            data = bytes((value,))
            self._console.write(data)
            if self._log.active:
                self._log.emit(ConsoleOutput(self._clock.now_ns, data))
        self._update()

    def _receive_register(self) -> int:
        s = self._state
        if not s.fifo:
            return 0
        value = s.fifo.pop(0)
        s.timeout_interrupt = False
        self._fill()
        return value

    def _capacity(self) -> int:
        return FIFO_BYTES if self._state.fcr & FCR_ENABLE else 1

    def _accept(self, value: int) -> None:
        """A byte comes out of the receive shift register; with no room it is lost (without FIFO: replaces the last)."""
        s = self._state
        if len(s.fifo) >= self._capacity():
            s.line |= LSR_OVERRUN
            if not s.fcr & FCR_ENABLE:
                s.fifo[:] = bytes((value,))
        else:
            s.fifo.append(value)
        self._start_timeout()

    def _fill(self) -> None:
        """Let waiting bytes in while there is room; in loopback the line is cut."""
        s = self._state
        if s.backlog and not s.mcr & MCR_LOOP:
            room = self._capacity() - len(s.fifo)
            s.fifo += s.backlog[:room]
            del s.backlog[:room]
        self._start_timeout()
        self._update()

    def _write_fcr(self, value: int) -> None:
        s = self._state
        if (value ^ s.fcr) & FCR_ENABLE or value & FCR_CLEAR_RX:
            s.fifo.clear()
            s.timeout_interrupt = False
        s.fcr = value & (FCR_ENABLE | 0b1100_0000) if value & FCR_ENABLE else 0
        self._fill()

    def _trigger(self) -> int:
        fcr = self._state.fcr
        return RX_TRIGGERS[fcr >> 6] if fcr & FCR_ENABLE else 1

    def _source(self) -> int:
        s = self._state
        if s.ier & IER_LINE and s.line:
            return IIR_LINE
        if s.ier & IER_RX:
            if len(s.fifo) >= self._trigger():
                return IIR_RX
            if s.timeout_interrupt:
                return IIR_TIMEOUT
        if s.ier & IER_THRE and s.thre_interrupt:
            return IIR_THRE
        if s.ier & IER_MODEM and s.msr & MSR_DELTAS:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        """Loopback takes the modem outputs, OUT2 with them, to their inactive state: no interrupt comes out."""
        gate = self._irq_gate
        out = not gate or self._state.mcr & (gate | MCR_LOOP) == gate
        level = bool(out and self._source() != IIR_NONE)
        if level != self._level:
            self._level = level
            self._irq.set_level(level)

    def _modem_inputs(self) -> None:
        """In loopback the four outputs feed the four inputs: RTS CTS, DTR DSR, OUT1 RI, OUT2 DCD."""
        s = self._state
        if s.mcr & MCR_LOOP:
            mcr = s.mcr
            inputs = (mcr & MCR_RTS) << 3 | (mcr & MCR_DTR) << 5 | (mcr & (MCR_OUT1 | MCR_OUT2)) << 4
        else:
            inputs = MSR_CONNECTED
        changed = (inputs ^ s.msr) >> 4
        if s.msr & MSR_RI <= inputs & MSR_RI:
            changed &= ~MSR_TERI  # RI reports only its trailing edge
        s.msr = inputs | s.msr & MSR_DELTAS | changed

    def character_ns(self) -> int:
        """How long one character takes on the line: 16 clocks of the divided clock a bit."""
        s = self._state
        bits = 1 + 5 + (s.lcr & 3) + (1 if s.lcr & 0b1000 else 0) + (2 if s.lcr & 0b100 else 1)
        return bits * 16 * (s.divisor or 1) * 1_000_000_000 // UART_CLOCK_HZ

    def _start_timeout(self) -> None:
        """Runs anew at each byte in or out while some wait below the trigger level."""
        s = self._state
        if s.fcr & FCR_ENABLE and 0 < len(s.fifo) < self._trigger() and not s.timeout_interrupt:
            s.timeout_at_ns = self._clock.now_ns + TIMEOUT_CHARACTERS * self.character_ns()
            self._schedule()
        elif s.timeout_at_ns is not None:
            s.timeout_at_ns = None
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at_ns = self._state.timeout_at_ns
        self._timer = None if at_ns is None else self._clock.at(at_ns, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._state.timeout_at_ns = None
        self._state.timeout_interrupt = True
        self._update()

    def save_state(self) -> UartState:
        return copied(self._state)

    def load_state(self, state: UartState) -> None:
        """The level of the IRQ line is part of the PIC's state and is not driven again here."""
        self._state = copied(state)
        gate = self._irq_gate
        out = not gate or self._state.mcr & (gate | MCR_LOOP) == gate
        self._level = bool(out and self._source() != IIR_NONE)
        self._schedule()
