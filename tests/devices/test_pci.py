"""Functions on the bus: what of them is read-only, where their windows are, where their interrupts go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.helpers import make_pc
from tests.devices.qemu import QemuPorts
from vilab.devices import ioapic, lapic_registers
from vilab.devices.pc import Pc
from vilab.devices.pci_function import Bar, PciFunction
from vilab.devices.piix import PciLine

FUNCTIONS = (0x0000, 0x0800, 0x0B00)
SIZES = {0x04: 2, 0x0C: 1, 0x0D: 1, 0x10: 4, 0x3C: 1}


def select(pc: Pc, function: int, offset: int) -> None:
    pc.write_port(0xCF8, 4, 1 << 31 | function | offset & 0xFC)


def read(pc: Pc, function: int, offset: int, size_bytes: int) -> int:
    select(pc, function, offset)
    return pc.read_port(0xCFC + (offset & 3), size_bytes)


def write(pc: Pc, function: int, offset: int, size_bytes: int, value: int) -> None:
    select(pc, function, offset)
    pc.write_port(0xCFC + (offset & 3), size_bytes, value)


class Card(PciFunction):
    """A device with an I/O window and a memory window that remember one value each."""

    def __init__(self) -> None:
        super().__init__(0x1234, 0x5678, 0x010000, interrupt_pin=1, bars=(Bar(256), Bar(0x1000, is_memory=True)))
        self.values = [0, 0]

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        return self.values[index] + offset & (1 << 8 * size_bytes) - 1

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        self.values[index] = value


@pytest.fixture
def pc() -> Pc:
    return make_pc()[0]


CARD = 16 << 11


@pytest.fixture
def with_card(pc: Pc) -> Pc:
    pc.pci.add(16, 0, Card())
    return pc


def test_ids_and_classes(pc: Pc) -> None:
    assert [read(pc, f, 0, 4) for f in FUNCTIONS] == [0x1237_8086, 0x7000_8086, 0x7113_8086]
    assert [read(pc, f, 8, 4) >> 8 for f in FUNCTIONS] == [0x060000, 0x060100, 0x068000]
    assert read(pc, 0x0800, 0x0E, 1) == 0x80
    assert read(pc, 0x0900, 0, 4) == read(pc, 0x1000, 0, 2) | 0xFFFF_0000 == 0xFFFF_FFFF


@pytest.mark.interop
def test_the_header_of_each_function_is_the_one_that_qemu_shows() -> None:
    pc = make_pc()[0]
    with QemuPorts() as qemu:
        for function in FUNCTIONS:
            for offset in (0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0A, 0x0B, 0x0E, 0x3D):
                qemu.write_port(0xCF8, 4, 1 << 31 | function | offset & 0xFC)
                theirs = qemu.read_port(0xCFC + (offset & 3))
                assert read(pc, function, offset, 1) == theirs, (hex(function), hex(offset))


@given(st.sampled_from(FUNCTIONS), st.integers(0, 63), st.integers(0, 0xFFFF_FFFF), st.sampled_from((1, 2, 4)))
def test_a_dword_is_its_bytes_whatever_is_written(function: int, dword: int, value: int, size_bytes: int) -> None:
    pc = make_pc()[0]
    offset = 4 * dword
    ids = [read(pc, f, at, 4) for f in FUNCTIONS for at in (0, 8)]
    write(pc, function, offset, size_bytes, value & (1 << 8 * size_bytes) - 1)
    whole = read(pc, function, offset, 4)
    assert whole == sum(read(pc, function, offset + i, 1) << 8 * i for i in range(4))
    assert whole == read(pc, function, offset, 2) | read(pc, function, offset + 2, 2) << 16
    assert [read(pc, f, at, 4) for f in FUNCTIONS for at in (0, 8)] == ids


def test_base_addresses_tell_their_size(with_card: Pc) -> None:
    pc = with_card
    for offset, mask in ((0x10, 0xFFFF_FF01), (0x14, 0xFFFF_F000), (0x18, 0)):
        write(pc, CARD, offset, 4, 0xFFFF_FFFF)
        assert read(pc, CARD, offset, 4) == mask


def test_a_window_opens_with_its_enable_bit_and_moves_with_its_base(with_card: Pc) -> None:
    pc = with_card
    write(pc, CARD, 0x10, 4, 0x1000)
    write(pc, CARD, 0x14, 4, 0xE000_0000)
    assert (pc.read_port(0x1004, 1), pc.read_mmio(0xE000_0004, 4)) == (0xFF, 0xFFFF_FFFF)
    write(pc, CARD, 0x04, 2, 3)
    assert (pc.read_port(0x1004, 1), pc.read_mmio(0xE000_0004, 4)) == (4, 4)
    pc.write_port(0x1010, 4, 0x12345)
    pc.write_mmio(0xE000_0010, 4, 0xABC0)
    assert (pc.read_port(0x1001, 2), pc.read_mmio(0xE000_0001, 2)) == (0x2346, 0xABC1)
    write(pc, CARD, 0x10, 4, 0x2000)
    assert (pc.read_port(0x1004, 4), pc.read_port(0x2000, 4)) == (0xFFFF_FFFF, 0x12345)
    write(pc, CARD, 0x04, 1, 0)
    assert pc.read_port(0x2000, 4) == 0xFFFF_FFFF


def test_windows_come_back_with_the_state(with_card: Pc) -> None:
    write(with_card, CARD, 0x10, 4, 0x1000)
    write(with_card, CARD, 0x04, 2, 1)
    other = make_pc()[0]
    other.pci.add(16, 0, Card())
    other.load_state(with_card.save_state())
    assert other.read_port(0x1004, 1) == 4
    assert other.save_state() == with_card.save_state()


def test_a_place_is_taken_once(with_card: Pc) -> None:
    with pytest.raises(ValueError, match=r"00:10\.0"):
        with_card.pci.add(16, 0, Card())


def test_shadow_ram_registers_read_back(pc: Pc) -> None:
    for offset in range(0x59, 0x60):
        write(pc, 0, offset, 1, 0xFF)
    assert [read(pc, 0, offset, 1) for offset in range(0x59, 0x60)] == [0x30] + [0x33] * 6


def test_pci_interrupts_go_where_pirqrc_says_and_to_their_own_pins(pc: Pc) -> None:
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0xA0, 0x11), (0xA1, 0x28), (0xA1, 2),
                        (0xA1, 1), (0x21, 0xFB), (0xA1, 0xF7), (0x4D1, 0x0C)):  # fmt: skip
        pc.write_port(port, 1, value)
    line, shared = PciLine(pc.isa_bridge, 16), PciLine(pc.isa_bridge, 20)
    line.set_level(True)
    assert not pc.interrupts.pending()
    write(pc, 0x0800, 0x60 + (16 - 1 & 3), 1, 11)
    assert pc.interrupts.acknowledge() == 0x2B
    shared.set_level(True)
    line.set_level(False)
    pc.write_port(0xA0, 1, 0x20)
    pc.write_port(0x20, 1, 0x20)
    assert pc.interrupts.acknowledge() == 0x2B
    pc.write_port(0xA0, 1, 0x20)
    pc.write_port(0x20, 1, 0x20)
    shared.set_level(False)
    assert not pc.interrupts.pending()
    pc.write_mmio(ioapic.BASE, 4, 0x10 + 2 * 19)
    pc.write_mmio(ioapic.BASE + 0x10, 4, 1 << 15 | 0x77)
    line.set_level(True)
    assert pc.interrupts.acknowledge() == 0x77
    line.set_level(False)
    pc.write_mmio(lapic_registers.BASE + lapic_registers.EOI, 4, 0)


def test_power_management_has_a_timer_and_moves(pc: Pc) -> None:
    pc.clock.now_ns = 1_000_000_000
    assert pc.read_port(0x608, 4) == 3_579_545
    assert pc.read_port(0x600, 4) == 0
    write(pc, 0x0B00, 0x40, 4, 0xB001)
    assert (pc.read_port(0xB008, 4), pc.read_port(0x608, 4)) == (3_579_545, 0xFFFF_FFFF)
    write(pc, 0x0B00, 0x80, 1, 0)
    assert pc.read_port(0xB008, 4) == 0xFFFF_FFFF
    write(pc, 0x0B00, 0x80, 1, 1)
    pc.write_port(0xB004, 2, 0x2000)
    assert pc.power.request == "off"
