"""I/O APIC, and the three controllers together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.devices.helpers import make_pc
from tests.devices.qemu import QemuPorts
from vilab.devices import ioapic, lapic_registers
from vilab.devices.pc import Pc
from vilab.events import EventLog

MASKED, LEVEL, EXTINT = 1 << 16, 1 << 15, 7 << 8


@pytest.fixture
def pc() -> Pc:
    return make_pc()[0]


@pytest.fixture(scope="module")
def qemu() -> Iterator[QemuPorts]:
    with QemuPorts() as ports:
        yield ports


def io_write(pc: Pc, index: int, value: int) -> None:
    pc.write_mmio(ioapic.BASE, 4, index)
    pc.write_mmio(ioapic.BASE + 0x10, 4, value)


def io_read(pc: Pc, index: int) -> int:
    pc.write_mmio(ioapic.BASE, 4, index)
    return pc.read_mmio(ioapic.BASE + 0x10, 4)


def end_of_interrupt(pc: Pc) -> None:
    pc.write_mmio(lapic_registers.BASE + lapic_registers.EOI, 4, 0)


def program_pic(pc: Pc, mask: int) -> None:
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0xA0, 0x11), (0xA1, 0x28), (0xA1, 2),
                        (0xA1, 1), (0x21, mask), (0xA1, 0xFF)):  # fmt: skip
        pc.write_port(port, 1, value)


def rise(pc: Pc, irq: int) -> None:
    line = pc.interrupts.line(irq)
    line.set_level(False)  # the PIT holds its own high from the beginning
    line.set_level(True)


def symmetric(pc: Pc) -> None:
    """The local APIC on, the PIC neither wired through nor unmasked."""
    program_pic(pc, 0xFF)
    pc.write_mmio(lapic_registers.BASE + lapic_registers.LVT_LINT0, 4, MASKED)


def test_registers_of_the_io_apic(pc: Pc) -> None:
    assert io_read(pc, 1) == 0x0017_0011
    assert [io_read(pc, 0x10 + 2 * pin) for pin in range(24)] == [MASKED] * 24
    io_write(pc, 0x13, 0xAB00_0000)
    io_write(pc, 0x12, 0xFFFF_FFFF)
    assert io_read(pc, 0x13) == 0xAB00_0000
    assert io_read(pc, 0x12) == 0x0001_AFFF
    assert io_read(pc, 0x40) == 0


@pytest.mark.interop
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.tuples(st.integers(0x10, 0x3F), st.integers(0, 0xFFFF_FFFF)), max_size=20))
def test_entries_read_back_as_in_qemu(qemu: QemuPorts, writes: list[tuple[int, int]]) -> None:
    """With every pin masked, since an unmasked one depends on lines; QEMU keeps reserved bits, so none is set."""
    pc = make_pc()[0]
    for index, value in [*((0x10 + i, MASKED * (1 - i % 2)) for i in range(48)), *writes]:
        value = value & 0xFF00_0000 if index & 1 else value & 0xFFFF | MASKED
        io_write(pc, index, value)
        qemu.write_mmio(ioapic.BASE, 4, index)
        qemu.write_mmio(ioapic.BASE + 0x10, 4, value)
    for index in range(0x10, 0x40):
        qemu.write_mmio(ioapic.BASE, 4, index)
        assert io_read(pc, index) == qemu.read_mmio(ioapic.BASE + 0x10), hex(index)


def test_without_any_set_up_the_pic_reaches_the_processor(pc: Pc) -> None:
    program_pic(pc, 0xEF)
    pc.interrupts.line(4).set_level(True)
    assert pc.interrupts.pending()
    assert pc.interrupts.acknowledge() == 0x24
    assert not pc.interrupts.pending()


def test_with_the_local_apic_switched_off_too(pc: Pc) -> None:
    pc.lapic.write_apic_base(lapic_registers.BASE)
    program_pic(pc, 0xEF)
    pc.interrupts.line(4).set_level(True)
    assert pc.interrupts.pending()
    assert pc.interrupts.acknowledge() == 0x24
    assert pc.read_mmio(lapic_registers.BASE + lapic_registers.VERSION, 4) == 0xFFFF_FFFF


def test_masked_at_lint0_the_pic_is_not_heard_but_through_pin_0(pc: Pc) -> None:
    program_pic(pc, 0xEF)
    pc.write_mmio(lapic_registers.BASE + lapic_registers.LVT_LINT0, 4, MASKED)
    pc.interrupts.line(4).set_level(True)
    assert not pc.interrupts.pending()
    io_write(pc, 0x10, EXTINT)
    assert pc.interrupts.pending()
    assert pc.interrupts.acknowledge() == 0x24


def test_lint0_in_fixed_mode_gives_its_own_vector(pc: Pc) -> None:
    program_pic(pc, 0xFE)
    pc.write_mmio(lapic_registers.BASE + lapic_registers.LVT_LINT0, 4, 0x55)
    rise(pc, 0)
    assert pc.interrupts.acknowledge() == 0x55


def test_irq_0_comes_in_at_pin_2_and_irq_4_at_pin_4(pc: Pc) -> None:
    symmetric(pc)
    io_write(pc, 0x14, 0x42)
    io_write(pc, 0x18, 0x44)
    rise(pc, 0)
    assert pc.interrupts.acknowledge() == 0x42
    end_of_interrupt(pc)
    pc.interrupts.line(4).set_level(True)
    assert pc.interrupts.acknowledge() == 0x44


def test_an_edge_comes_once_and_one_at_a_masked_pin_is_lost(pc: Pc) -> None:
    symmetric(pc)
    line = pc.interrupts.line(4)
    line.set_level(True)
    io_write(pc, 0x18, 0x44)
    assert not pc.interrupts.pending()
    line.set_level(False)
    line.set_level(True)
    assert pc.interrupts.acknowledge() == 0x44
    end_of_interrupt(pc)
    assert not pc.interrupts.pending()


def test_a_level_comes_again_after_its_end_until_the_line_falls(pc: Pc) -> None:
    symmetric(pc)
    io_write(pc, 0x18, LEVEL | 0x44)
    line = pc.interrupts.line(4)
    line.set_level(True)
    assert io_read(pc, 0x18) & ioapic.REMOTE_IRR
    for _ in range(3):
        assert pc.interrupts.acknowledge() == 0x44
        assert not pc.interrupts.pending()
        end_of_interrupt(pc)
        assert pc.interrupts.pending()
    assert pc.interrupts.acknowledge() == 0x44
    line.set_level(False)
    end_of_interrupt(pc)
    assert not pc.interrupts.pending()
    assert not io_read(pc, 0x18) & ioapic.REMOTE_IRR


def test_a_level_that_was_masked_comes_when_it_is_let_through(pc: Pc) -> None:
    symmetric(pc)
    pc.interrupts.line(4).set_level(True)
    io_write(pc, 0x18, LEVEL | MASKED | 0x44)
    assert not pc.interrupts.pending()
    io_write(pc, 0x18, LEVEL | 0x44)
    assert pc.interrupts.acknowledge() == 0x44


def test_an_entry_for_another_processor_reaches_nobody(pc: Pc) -> None:
    symmetric(pc)
    io_write(pc, 0x19, 5 << 24)
    io_write(pc, 0x18, 0x44)
    pc.interrupts.line(4).set_level(True)
    assert not pc.interrupts.pending()


def test_local_interrupts_come_before_the_pics(pc: Pc) -> None:
    program_pic(pc, 0xEF)
    io_write(pc, 0x1A, 0x90)
    pc.interrupts.line(4).set_level(True)
    pc.interrupts.line(5).set_level(True)
    assert [pc.interrupts.acknowledge() for _ in range(2)] == [0x90, 0x24]


def test_who_can_still_wake_a_halted_processor(pc: Pc) -> None:
    assert pc.interrupts.all_masked()
    program_pic(pc, 0xFE)
    assert not pc.interrupts.all_masked()
    pc.write_mmio(lapic_registers.BASE + lapic_registers.LVT_LINT0, 4, MASKED)
    assert pc.interrupts.all_masked()
    pc.write_mmio(lapic_registers.BASE + lapic_registers.LVT_TIMER, 4, 0x40)
    pc.write_mmio(lapic_registers.BASE + lapic_registers.INITIAL, 4, 1000)
    assert not pc.interrupts.all_masked()
    pc.write_mmio(lapic_registers.BASE + lapic_registers.INITIAL, 4, 0)
    io_write(pc, 0x14, 0x42)
    assert not pc.interrupts.all_masked()


def test_state_with_everything_on_its_way() -> None:
    first, clock, _ = make_pc()
    symmetric(first)
    io_write(first, 0x18, LEVEL | 0x44)
    first.interrupts.line(4).set_level(True)
    first.interrupts.acknowledge()
    first.write_mmio(lapic_registers.BASE + lapic_registers.LVT_TIMER, 4, lapic_registers.PERIODIC | 0x40)
    first.write_mmio(lapic_registers.BASE + lapic_registers.INITIAL, 4, 5_000)
    state = first.save_state()
    second, other_clock, _ = make_pc()
    second.load_state(state)
    assert second.save_state() == state
    assert other_clock.next_ns() == clock.next_ns()
    end_of_interrupt(second)
    assert second.interrupts.acknowledge() == 0x44


def test_accesses_are_logged_with_their_address() -> None:
    log = EventLog(keep=True)
    pc, _, _ = make_pc(log)
    pc.read_mmio(lapic_registers.BASE + lapic_registers.VERSION, 4)
    pc.write_mmio(0xE000_0000, 2, 0x1234)
    assert pc.read_mmio(0xE000_0000, 2) == 0xFFFF
    seen = [(type(event).__name__, event.gpa, event.value) for event in log.events]  # type: ignore[attr-defined]
    assert seen == [
        ("MmioRead", 0xFEE0_0030, 0x0005_0014), ("MmioWritten", 0xE000_0000, 0x1234), ("MmioRead", 0xE000_0000, 0xFFFF),
    ]  # fmt: skip
