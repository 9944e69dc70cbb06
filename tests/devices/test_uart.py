"""16550A: what a driver sees."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.helpers import FakeConsole, Line, run_to
from vilab.clock import VirtualClock
from vilab.devices.uart import Uart
from vilab.events import ConsoleOutput, EventLog

BASE = 0x3F8
DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(BASE, BASE + 8)
FCR = IIR


class Bench:
    def __init__(self, typed: bytes = b"") -> None:
        self.clock = VirtualClock()
        self.log = EventLog(keep=True)
        self.line = Line()
        self.console = FakeConsole(typed)
        self.uart = Uart(self.clock, self.log, self.line, self.console)

    def get(self, port: int) -> int:
        return self.uart.read_port(port)

    def put(self, port: int, value: int) -> None:
        self.uart.write_port(port, 1, value)


def interrupting(fcr: int = 0, ier: int = 0x0F) -> Bench:
    bench = Bench()
    bench.put(FCR, fcr)
    bench.put(MCR, 0x08)
    bench.put(IER, ier)
    return bench


def test_sent_bytes_reach_the_console_at_once_and_the_log_one_by_one() -> None:
    bench = Bench()
    for byte in b"hi\n":
        assert bench.get(LSR) & 0x60 == 0x60
        bench.put(DATA, byte)
    assert bench.console.written == b"hi\n"
    assert [event.data for event in bench.log.of(ConsoleOutput)] == [b"h", b"i", b"\n"]


def test_divisor_hides_behind_dlab_and_sets_the_character_time() -> None:
    bench = Bench()
    bench.put(LCR, 0x83)
    bench.put(DATA, 0x01)
    bench.put(IER, 0x00)
    assert (bench.get(DATA), bench.get(IER)) == (1, 0)
    bench.put(LCR, 0x03)
    assert bench.console.written == b""
    assert bench.uart.character_ns() == 10 * 10**9 // 115_200
    bench.put(LCR, 0x1F)  # 8 data bits, parity, 2 stop bits
    assert bench.uart.character_ns() == 12 * 10**9 // 115_200


def test_thre_interrupt_comes_with_its_enable_goes_with_iir_and_comes_again_with_a_byte() -> None:
    bench = Bench()
    bench.put(MCR, 0x08)
    assert not bench.line.level
    bench.put(IER, 0x02)
    assert bench.line.level
    assert bench.get(IIR) == 0x02
    assert not bench.line.level
    assert bench.get(IIR) == 0x01
    bench.put(DATA, 0x41)
    assert bench.line.level
    bench.line.edges.clear()
    bench.put(DATA, 0x42)
    assert bench.line.edges == [False, True]  # an edge for the PIC, as each byte's own


def test_interrupt_stays_inside_without_out2() -> None:
    bench = Bench()
    bench.put(IER, 0x02)
    assert not bench.line.level
    bench.put(MCR, 0x08)
    assert bench.line.level


def test_kernels_that_never_set_out2_are_served_where_the_gate_is_left_out() -> None:
    line = Line()
    uart = Uart(VirtualClock(), EventLog(), line, FakeConsole(), out2_gates_irq=False)
    uart.write_port(IER, 1, 0x01)
    uart.receive(b"x")
    assert line.level


def test_received_bytes_wait_outside_a_full_fifo_and_none_is_lost() -> None:
    bench = interrupting(fcr=0x01)
    text = bytes(range(100))
    bench.uart.receive(text)
    got = bytearray()
    while bench.get(LSR) & 1:
        got.append(bench.get(DATA))
    assert got == text
    assert bench.get(LSR) & 2 == 0


def test_trigger_level_interrupts_at_once_and_less_after_four_characters() -> None:
    bench = interrupting(fcr=0x81, ier=0x01)
    bench.uart.receive(b"1234567")
    assert not bench.line.level
    run_to(bench.clock, 4 * bench.uart.character_ns() - 1)
    assert not bench.line.level
    run_to(bench.clock, 4 * bench.uart.character_ns())
    assert bench.line.level
    assert bench.get(IIR) == 0xCC
    bench.get(DATA)
    assert not bench.line.level
    bench.uart.receive(b"89")
    assert bench.get(IIR) == 0xC4


def test_interrupts_are_reported_by_priority() -> None:
    bench = interrupting()
    bench.put(MCR, 0x18)  # loopback: the modem inputs change, OUT2 is cut off
    bench.put(DATA, 1)
    bench.put(DATA, 2)  # overrun
    assert bench.get(IIR) == 0x06
    assert bench.get(LSR) & 0x02
    assert bench.get(IIR) == 0x04
    assert bench.get(DATA) == 2
    assert bench.get(IIR) == 0x02
    assert bench.get(IIR) == 0x00
    assert bench.get(MSR) & 0x0F
    assert bench.get(IIR) == 0x01
    assert not bench.line.level


@settings(deadline=None)
@given(st.binary(max_size=40), st.booleans())
def test_loopback_returns_what_was_sent_and_sends_nothing_out(data: bytes, fifo: bool) -> None:
    bench = Bench()
    bench.put(FCR, 0x01 if fifo else 0x00)
    bench.put(MCR, 0x10)
    room = 16 if fifo else 1
    for at in range(0, len(data), room):
        chunk = data[at : at + room]
        for byte in chunk:
            bench.put(DATA, byte)
        assert bytes(bench.get(DATA) for _ in chunk) == chunk
        assert not bench.get(LSR) & 1
    assert bench.console.written == b""


@settings(deadline=None)
@given(st.integers(0, 15))
def test_loopback_joins_modem_outputs_to_modem_inputs(outputs: int) -> None:
    bench = Bench()
    bench.put(MCR, 0x10 | outputs)
    dtr, rts, out1, out2 = (outputs >> i & 1 for i in range(4))
    assert bench.get(MSR) >> 4 == rts | dtr << 1 | out1 << 2 | out2 << 3
    assert bench.get(MSR) & 0x0F == 0


def test_typed_input_waits_at_the_far_end_during_loopback() -> None:
    bench = Bench(typed=b"abc")
    bench.put(FCR, 0x01)
    bench.put(MCR, 0x10)
    assert bench.uart.poll_input()
    assert not bench.get(LSR) & 1
    bench.put(MCR, 0x00)
    assert bytes(bench.get(DATA) for _ in range(3)) == b"abc"


def test_console_is_not_asked_before_the_guest_has_read_the_last_input() -> None:
    bench = Bench(typed=b"ab")
    assert bench.uart.poll_input()
    bench.console.typed = b"c"
    assert not bench.uart.poll_input()
    assert (bench.get(DATA), bench.get(DATA)) == (ord("a"), ord("b"))
    assert bench.uart.poll_input()
    assert bench.get(DATA) == ord("c")


def test_probe_of_a_16550a_succeeds() -> None:
    """The classical sequence: scratch register, FIFO bits of IIR, and no 750's 64-byte FIFO."""
    bench = Bench()
    for pattern in (0x55, 0xAA):
        bench.put(SCR, pattern)
        assert bench.get(SCR) == pattern
    assert bench.get(IIR) & 0xC0 == 0
    bench.put(FCR, 0x01)
    assert bench.get(IIR) & 0xC0 == 0xC0
    bench.put(IER, 0xFF)
    assert bench.get(IER) == 0x0F
    bench.put(FCR, 0x00)
    assert bench.get(IIR) & 0xC0 == 0
