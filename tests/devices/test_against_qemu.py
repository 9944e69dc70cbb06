"""The same port accesses on QEMU's devices: what a driver would read must be the same.

Where the two are known to differ, the test says which one the datasheet supports, and keeps off that corner.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.devices.helpers import make_pc
from tests.devices.qemu import QemuPorts, pic_paths

pytestmark = pytest.mark.interop

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def qemu() -> Iterator[QemuPorts]:
    with QemuPorts("-rtc", "base=2006-10-21T20:00:00,clock=vm") as ports:
        yield ports


@pytest.fixture(scope="module")
def paths() -> tuple[str, str]:
    return pic_paths()


chips = st.integers(0, 1)
PIC_INPUTS = (3, 5, 6, 7, 9, 10, 11, 14, 15)  # not driven by a device of QEMU's own
PIC_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), st.sampled_from(PIC_INPUTS), st.booleans()),
        st.tuples(st.just("poll"), chips, st.just(0)),
        st.tuples(st.just("mask"), chips, st.integers(0, 255)),
        st.tuples(st.just("ocw2"), chips, st.integers(0, 255).map(lambda value: value & 0xE7)),
        st.tuples(st.just("ocw3"), chips, st.sampled_from((0x08, 0x48, 0x68))),
    ),
    max_size=40,
)


class Pics:
    """Both pairs, initialized alike; every write goes to both."""

    def __init__(self, qemu: QemuPorts, paths: tuple[str, str], master_icw4: int, level: bool) -> None:
        self.qemu, self.paths = qemu, paths
        self.pic = make_pc()[0].pic
        self.write(0x4D0, 0xF8)
        self.write(0x4D1, 0xDE)
        for number in PIC_INPUTS:
            self.line(number, False)  # level triggered, they leave nothing behind
        self.write(0x4D0, 0xE8 if level else 0)
        self.write(0x4D1, 0x4E if level else 0)
        for port, icws in ((0xA0, (0x11, 0x28, 0x02, 0x01)), (0x20, (0x11, 0x20, 0x04, master_icw4))):
            self.write(port, icws[0])
            for icw in icws[1:]:
                self.write(port + 1, icw)

    def write(self, port: int, value: int) -> None:
        self.qemu.write_port(port, 1, value)
        self.pic.write_port(port, 1, value)

    def read(self, port: int) -> int:
        """What both read, but for the slave's request in the master's IRR: see ``asks``."""
        ours, theirs = self.pic.read_port(port), self.qemu.read_port(port)
        assert ours == theirs
        return ours

    def line(self, number: int, high: bool) -> None:
        self.qemu.set_irq(self.paths[number >> 3], number & 7, high)
        self.pic.set_line(number, high)

    def asks(self, number: int) -> bool:
        """An edge waits. Were it to fall now, QEMU would keep the request; here it goes, as the 8259A datasheet says:
        it "must remain high until after the falling edge of the first INTA"."""
        state = self.pic.save_state()
        chip = state.slave if number & 8 else state.master
        return bool(chip.irr & ~chip.elcr & 1 << (number & 7))

    def hides(self, base: int) -> bool:
        state = self.pic.save_state()
        chip = state.master if base == 0x20 else state.slave
        return chip.special_mask and bool(chip.isr & chip.imr)

    def poll(self, base: int) -> int:
        self.write(base, 0x0C)
        return self.read(base)

    def compare(self, irr_mask: int = 0xFF) -> None:
        for base in (0x20, 0xA0):
            self.write(base, 0x0A)
            assert (self.pic.read_port(base) ^ self.qemu.read_port(base)) & (irr_mask if base == 0x20 else 0xFF) == 0
            self.write(base, 0x0B)
            self.read(base)
            self.read(base + 1)


@SETTINGS
@given(PIC_ACTIONS, st.sampled_from((0x01, 0x03, 0x11)), st.booleans())
def test_pic_priorities_of_each_chip(
    qemu: QemuPorts, paths: tuple[str, str], actions: list[tuple[str, int, int]], master_icw4: int, level: bool
) -> None:
    """The cascade is masked at the master; requests are acknowledged by polling.

    No unspecific EOI where special mask mode has a masked input in service: the datasheet says that this "will not be
    cleared", QEMU clears it.
    """
    pics = Pics(qemu, paths, master_icw4, level)
    pics.write(0x21, 0x04)
    for what, which, argument in actions:
        base = (0x20, 0xA0)[which & 1]
        if what == "line":
            if argument or not pics.asks(which):
                pics.line(which, bool(argument))
        elif what == "mask":
            pics.write(base + 1, argument | (0x04 if base == 0x20 else 0))
        elif what == "poll":
            pics.poll(base)
        elif what == "ocw3" or not (argument & 0x60 == 0x20 and pics.hides(base)):
            pics.write(base, argument)
        pics.compare(irr_mask=0xFB)


@SETTINGS
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("line"), st.sampled_from(PIC_INPUTS), st.booleans()),
            st.tuples(st.just("serve"), st.just(0), st.just(0)),
            st.tuples(st.just("eoi"), chips, st.just(0)),
        ),
        max_size=40,
    )
)
def test_pic_cascade(qemu: QemuPorts, paths: tuple[str, str], actions: list[tuple[str, int, int]]) -> None:
    """An acknowledge is a poll of the master and, if it names the slave, one of the slave.

    Not in special fully nested mode: there QEMU lets lower inputs of the master interrupt a slave's handler, while in
    the datasheet only the slave itself is "not locked out".
    """
    pics = Pics(qemu, paths, master_icw4=0x01, level=False)
    for what, which, argument in actions:
        if what == "line":
            if argument or not pics.asks(which):
                pics.line(which, bool(argument))
        elif what == "eoi":
            pics.write((0x20, 0xA0)[which], 0x20)
        elif pics.poll(0x20) == 0x82:
            pics.poll(0xA0)
        pics.compare()


UART_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0x3F8, 0x3FF), st.just(0)),
        st.tuples(st.just("write"), st.sampled_from((0x3F8, 0x3FF)), st.integers(0, 255)),
        st.tuples(st.just("write"), st.just(0x3F9), st.integers(0, 7)),
        st.tuples(st.just("write"), st.just(0x3FC), st.integers(0x10, 0x1F)),
        st.tuples(st.just("write"), st.just(0x3FB), st.sampled_from((0x03, 0x83, 0x1B))),
        st.tuples(st.just("write"), st.just(0x3FA), st.sampled_from((0x00, 0x01, 0x07, 0xC7))),
    ),
    max_size=40,
)


@SETTINGS
@given(UART_ACTIONS)
def test_uart_in_loopback(qemu: QemuPorts, actions: list[tuple[str, int, int]]) -> None:
    """Without the change bits of MSR and their interrupt: the datasheet has them in loopback, QEMU has not."""
    pc, _, _ = make_pc()
    start = [
        (0x3FB, 0x83),
        (0x3F8, 12),
        (0x3F9, 0),
        (0x3FB, 0x03),
        (0x3FC, 0x10),
        (0x3F9, 0x00),
        (0x3FA, 0x07),
        (0x3FA, 0x00),
        (0x3FF, 0x00),
    ]
    for port, value in start:
        for ports in (qemu, pc):
            ports.write_port(port, 1, value)
    for port in (0x3FD, 0x3FE, 0x3FA):
        for ports in (qemu, pc):
            ports.read_port(port, 1)
    for what, port, value in actions:
        if what == "read":
            if port == 0x3F8 and not pc.read_port(0x3FB, 1) & 0x80 and not pc.uart.save_state().fifo:
                continue  # nothing received: the datasheet leaves open what is read
            compared = 0xF0 if port == 0x3FE else 0xFF
            assert (pc.read_port(port, 1) ^ qemu.read_port(port)) & compared == 0, hex(port)
        else:
            qemu.write_port(port, 1, value)
            pc.write_port(port, 1, value)


@pytest.mark.parametrize("format_bits", [0, 2, 4, 6])
@pytest.mark.parametrize("hour", [0, 1, 11, 12, 13, 23])
def test_rtc_time_registers(qemu: QemuPorts, format_bits: int, hour: int) -> None:
    """A time is set in one format and read in another: registers hold a time, not bytes, once SET is off."""
    pc, _, _ = make_pc()

    def put(index: int, value: int) -> None:
        for ports in (qemu, pc):
            ports.write_port(0x70, 1, index)
            ports.write_port(0x71, 1, value)

    put(0x0B, 0x86)
    for index, value in ((0, 58), (2, 7), (4, hour), (6, 5), (7, 29), (8, 2), (9, 24), (0x32, 20)):
        put(index, value)
    put(0x0B, 0x06)
    put(0x0B, format_bits)
    for index in (0, 2, 4, 6, 7, 8, 9, 0x0B, 0x0D, 0x32):
        for ports in (qemu, pc):
            ports.write_port(0x70, 1, index)
        assert pc.read_port(0x71, 1) == qemu.read_port(0x71), hex(index)


def test_cmos_memory_size(qemu: QemuPorts) -> None:
    pc, _, _ = make_pc()
    for index in (0x10, 0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35):
        for ports in (qemu, pc):
            ports.write_port(0x70, 1, index)
        assert pc.read_port(0x71, 1) == qemu.read_port(0x71), hex(index)


def test_keyboard_controller_answers(qemu: QemuPorts) -> None:
    pc, _, _ = make_pc()
    for commands in ((0xAA,), (0xAB,), (0x60, 0x05), (0x20,), (0xC0,), (0xD2, 0x77)):
        for ports in (qemu, pc):
            ports.write_port(0x64, 1, commands[0])
            for argument in commands[1:]:
                ports.write_port(0x60, 1, argument)
        assert pc.read_port(0x64, 1) & 0x21 == qemu.read_port(0x64) & 0x21
        if pc.read_port(0x64, 1) & 1:
            assert pc.read_port(0x60, 1) == qemu.read_port(0x60), hex(commands[0])


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_pit_status_after_a_control_word_and_after_a_count(qemu: QemuPorts, mode: int) -> None:
    """Time stands still. NULL is not compared: QEMU never sets it, the 8254 does until the count is loaded.
    In modes 2, 4 and 5 QEMU starts with OUT low, the 8254 with OUT high."""
    pc, _, _ = make_pc()
    for accesses in ([(0x43, 0xB0 | mode << 1)], [(0x42, 0x34), (0x42, 0x12)]):
        for ports in (qemu, pc):
            for port, value in accesses:
                ports.write_port(port, 1, value)
            ports.write_port(0x43, 1, 0xE8)
        assert (pc.read_port(0x42, 1) ^ qemu.read_port(0x42)) & 0xBF == 0
