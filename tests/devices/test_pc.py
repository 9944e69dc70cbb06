"""All devices together: state is a value, wide accesses split, counters count, the log hears."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.helpers import MEMORY_BYTES, FakeConsole, make_pc, run_to
from vilab.clock import VirtualClock
from vilab.devices.debug_port import DebugOutput
from vilab.devices.pc import Pc, PcState
from vilab.events import ConsoleOutput, EventLog, PortRead, PortWritten

PORTS = st.sampled_from((
    0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xE9,
    0x3D4, 0x3D5, 0x3DA, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0xCF8, 0xCF9, 0xCFC, 0x604, 0x1234,
))  # fmt: skip
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PORTS, st.integers(0, 255)),
        st.tuples(st.just("write_wide"), PORTS, st.integers(0, 2**32 - 1)),
        st.tuples(st.just("read"), PORTS, st.sampled_from((1, 2, 4))),
        st.tuples(st.just("wait"), st.just(0), st.integers(1, 3 * 10**8)),
        st.tuples(st.just("type"), st.just(0), st.integers(1, 20)),
        st.tuples(st.just("acknowledge"), st.just(0), st.just(0)),
    ),
    max_size=40,
)
Actions = list[tuple[str, int, int]]


def perform(pc: Pc, clock: VirtualClock, actions: Actions) -> list[int]:
    """What the guest would see."""
    seen: list[int] = []
    for what, port, argument in actions:
        if what == "write":
            pc.write_port(port, 1, argument)
        elif what == "write_wide":
            pc.write_port(port, 4, argument)
        elif what == "read":
            seen.append(pc.read_port(port, argument))
        elif what == "wait":
            run_to(clock, clock.now_ns + argument)
        elif what == "type":
            pc.uart.receive(bytes(argument))
        else:
            seen.append(pc.pic.acknowledge())
        seen.append(pc.pic.pending())
        seen.append(clock.next_ns())
    return seen


INITIALIZE: Actions = [
    ("write", port, value)
    for port, value in (
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0xA0, 0x11),
        (0xA1, 0x28),
        (0xA1, 2),
        (0xA1, 1),
    )
]


@settings(max_examples=150, deadline=None)
@given(ACTIONS, ACTIONS)
def test_a_pc_that_is_carried_elsewhere_as_bytes_goes_on_as_if_nothing_had_happened(
    before: Actions, after: Actions
) -> None:
    log, other_log = EventLog(keep=True), EventLog(keep=True)
    pc, clock, console = make_pc(log)
    perform(pc, clock, INITIALIZE + before)

    carried = msgspec.msgpack.encode(pc.save_state())
    other_clock, other_console = VirtualClock(), FakeConsole()
    other = Pc(other_clock, other_log, other_console, MEMORY_BYTES)
    other_clock.forget_all(clock.now_ns)
    other.load_state(msgspec.msgpack.decode(carried, type=PcState))
    assert msgspec.msgpack.encode(other.save_state()) == carried

    log.events.clear()
    console.written = b""
    assert perform(pc, clock, after) == perform(other, other_clock, after)
    assert log.events == other_log.events
    assert console.written == other_console.written
    assert pc.save_state() == other.save_state()


def test_saved_state_is_not_touched_by_what_the_pc_does_next() -> None:
    pc, clock, _ = make_pc()
    pc.uart.receive(b"abc")
    saved = pc.save_state()
    encoded = msgspec.msgpack.encode(saved)
    perform(pc, clock, [*INITIALIZE, ("read", 0x3F8, 1), ("wait", 0, 10**9), ("write", 0x3D5, 7)])
    assert msgspec.msgpack.encode(saved) == encoded
    pc.load_state(saved)
    perform(pc, clock, [("read", 0x3F8, 1), ("write", 0x3D5, 9)])
    assert msgspec.msgpack.encode(saved) == encoded


def test_loading_tells_the_engine_when_intr_is_another_one() -> None:
    heard: list[bool] = []
    clock = VirtualClock()
    pc = Pc(clock, EventLog(), FakeConsole(), MEMORY_BYTES, on_interrupt=heard.append)
    quiet = pc.save_state()
    perform(pc, clock, [*INITIALIZE, ("wait", 0, 60_000_000)])
    assert heard == [True]
    clock.forget_all(0)
    pc.load_state(quiet)
    assert heard == [True, False]
    assert not pc.pic.pending()


def test_timer_interrupt_travels_from_the_pit_to_the_vector() -> None:
    pc, clock, _ = make_pc()
    perform(pc, clock, [*INITIALIZE, ("write", 0x43, 0x34), ("write", 0x40, 0x9C), ("write", 0x40, 0x2E)])
    assert clock.skip_to_next()
    assert clock.now_ns == pytest.approx(10_000_000, abs=1_000)
    clock.run_due()
    assert pc.pic.acknowledge() == 0x20


def test_wide_access_to_an_8_bit_device_becomes_byte_accesses() -> None:
    pc, _, console = make_pc()
    pc.write_port(0x3D4, 2, 0x5A0E)
    assert pc.read_port(0x3D4, 2) == 0x5A0E
    assert pc.read_port(0x3D5, 1) == 0x5A
    pc.write_port(0x3F8, 1, ord("x"))
    assert console.written == b"x"
    assert pc.read_port(0x3FF, 2) == 0xFF00  # SCR, and beside it nothing


def test_empty_pci_slot_answers_all_ones_and_byte_accesses_of_the_address_port_miss_it() -> None:
    pc, _, _ = make_pc()
    pc.write_port(0xCF8, 4, 0x8000_8000)
    assert pc.read_port(0xCF8, 4) == 0x8000_8000
    assert pc.read_port(0xCFC, 4) == 0xFFFF_FFFF
    assert pc.read_port(0xCFE, 2) == 0xFFFF
    pc.write_port(0xCF8, 1, 0x55)
    assert pc.read_port(0xCF8, 4) == 0x8000_8000


def test_pci_function_sees_the_offset_and_size_of_the_access() -> None:
    class Function:
        def __init__(self) -> None:
            self.config = bytearray(range(256))

        def read_config(self, offset: int, size_bytes: int) -> int:
            return int.from_bytes(self.config[offset : offset + size_bytes], "little")

        def write_config(self, offset: int, size_bytes: int, value: int) -> None:
            self.config[offset : offset + size_bytes] = value.to_bytes(size_bytes, "little")

    pc, _, _ = make_pc()
    pc.pci.functions[1 << 8 | 3 << 3 | 2] = Function()
    pc.write_port(0xCF8, 4, 1 << 31 | 1 << 16 | 3 << 11 | 2 << 8 | 0x10)
    assert pc.read_port(0xCFC, 4) == 0x13121110
    assert pc.read_port(0xCFE, 1) == 0x12
    pc.write_port(0xCFD, 1, 0xEE)
    assert pc.read_port(0xCFC, 2) == 0xEE10
    pc.write_port(0xCF8, 4, 0)
    assert pc.read_port(0xCFC, 4) == 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("accesses", "request_"),
    [
        ([(0x604, 2, 0x2000)], "off"),
        ([(0x604, 1, 0x00), (0x605, 1, 0x20)], "off"),
        ([(0x604, 2, 0x3C00)], None),
        ([(0xCF9, 1, 0x02), (0xCF9, 1, 0x06)], "reset"),
        ([(0x92, 1, 0x03)], "reset"),
        ([(0x92, 1, 0x02)], None),
        ([(0x64, 1, 0xFE)], "reset"),
        ([(0x64, 1, 0xFE), (0x604, 2, 0x2000)], "reset"),
    ],
)
def test_power_requests(accesses: list[tuple[int, int, int]], request_: str | None) -> None:
    pc, _, _ = make_pc()
    for port, size_bytes, value in accesses:
        pc.write_port(port, size_bytes, value)
    assert pc.power.request == request_
    assert pc.power.take_request() == request_
    assert pc.power.request is None


def test_debug_ports_log_their_bytes_and_say_that_they_listen() -> None:
    log = EventLog(keep=True)
    pc, _, _ = make_pc(log)
    assert pc.read_port(0xE9, 1) == pc.read_port(0x402, 1) == 0xE9
    pc.write_port(0xE9, 1, ord("a"))
    pc.write_port(0x402, 1, ord("b"))
    pc.write_port(0x80, 1, 0x42)
    assert pc.debug_port.text == b"ab"
    assert pc.read_port(0x80, 1) == 0x42
    assert [(event.port, event.data) for event in log.of(DebugOutput)] == [(0xE9, b"a"), (0x402, b"b")]


def test_accesses_are_counted_by_port_and_logged_with_their_time() -> None:
    log = EventLog(keep=True)
    pc, clock, _ = make_pc(log)
    clock.now_ns = 77
    pc.write_port(0x3F8, 1, 0x41)
    pc.read_port(0x3FD, 1)
    pc.read_port(0x3FD, 1)
    assert (pc.reads, pc.writes) == ({0x3FD: 2}, {0x3F8: 1})
    assert log.events == [
        PortWritten(77, 0x3F8, 1, 0x41),
        ConsoleOutput(77, b"A"),
        PortRead(77, 0x3FD, 1, 0x60),
        PortRead(77, 0x3FD, 1, 0x60),
    ]


def test_device_on_a_taken_port_is_refused() -> None:
    pc, _, _ = make_pc()
    with pytest.raises(ValueError, match="0x3f8 has a device"):
        pc.attach(pc.pci, (0x3F8,))


def test_text_screen_is_read_from_guest_memory_from_where_the_crtc_starts() -> None:
    memory = bytearray(0x8000)
    for i, character in enumerate("vilab".encode("cp437")):
        memory[2 * (80 + i)] = character
    memory[2 * 81 + 1] = 0x1F
    pc, _, _ = make_pc()

    def read_gpa(gpa: int, size_bytes: int) -> bytes:
        return bytes(memory[gpa - 0xB8000 : gpa - 0xB8000 + size_bytes])

    assert pc.crtc.screen_lines(read_gpa)[:3] == ["", "vilab", ""]
    pc.write_port(0x3D4, 2, 80 << 8 | 0x0D)
    assert pc.crtc.screen_lines(read_gpa)[0] == "vilab"
    pc.write_port(0x3D4, 2, 85 << 8 | 0x0F)
    assert pc.crtc.cursor == (0, 5)
    assert len(pc.crtc.screen_lines(read_gpa)) == 25


def test_input_status_register_shows_a_retrace_70_times_a_second() -> None:
    pc, clock, _ = make_pc()
    retraces = last = 0
    for _ in range(20_000):
        clock.now_ns += 50_000
        now = pc.read_port(0x3DA, 1) & 8
        retraces += now > last
        last = now
    assert retraces == 70


def test_guest_clock_starts_on_the_date_that_the_constant_promises() -> None:
    pc, _, _ = make_pc()
    assert datetime.fromtimestamp(pc.rtc.seconds(), UTC) == datetime(2006, 10, 21, 20, 0, tzinfo=UTC)
