"""The 82545EM before any frame: registers, reset, EEPROM, PHY, link, interrupts and their throttling, statistics."""

from __future__ import annotations

import itertools

import pytest

from tests.devices.e1000_bench import ADDRESS, RX_RING, SLOT, Bench, frame_of
from tests.devices.recording_port import RecordingPort
from vilab.devices import e1000_registers as regs
from vilab.devices.adapter_events import AdapterInterrupt, AdapterRegisterWritten
from vilab.devices.e1000_phy import NEGOTIATION_NS

ONES = 0xFFFF_FFFF
EECD_CLOCK, EECD_SELECT, EECD_IN, EECD_OUT = 1, 2, 4, 8
ACTING = {"CTRL", "CTRL_DUP", "EECD", "EERD", "MDIC", "ICR", "IMS", "PBA", "RCTL", "TCTL", "RDT", "TDT"}
"""What a write does more to than to keep it; other tests look at these."""


@pytest.fixture
def bench() -> Bench:
    return Bench(start=False)


def config(bench: Bench, offset: int) -> int:
    bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | offset)
    return bench.pc.read_port(0xCFC, 4)


def phy_write(bench: Bench, register: int, value: int) -> None:
    bench.write(regs.MDIC, 1 << 26 | 1 << 21 | register << 16 | value)


def phy_read(bench: Bench, register: int, phy: int = 1) -> int:
    bench.write(regs.MDIC, 2 << 26 | phy << 21 | register << 16)
    return bench.read(regs.MDIC)


# Registers


def test_it_is_what_the_configuration_space_says(bench: Bench) -> None:
    assert config(bench, 0x00) == 0x100F_8086
    assert config(bench, 0x08) >> 8 == 0x020000
    assert config(bench, 0x2C) == 0x0750_15AD
    assert (config(bench, 0x10), config(bench, 0x14), config(bench, 0x20)) == (bench.window | 4, 0, bench.io | 1)
    for offset, size in ((0x10, 128 << 10), (0x14, 0), (0x18, 0), (0x1C, 0), (0x20, 8)):
        bench.pc.write_port(0xCF8, 4, 1 << 31 | SLOT << 11 | offset)
        bench.pc.write_port(0xCFC, 4, ONES)
        assert -(config(bench, offset) & ~0xF if size != 8 else config(bench, offset) & ~3) & ONES == size


def test_every_register_of_the_table_keeps_to_its_access(bench: Bench) -> None:
    for register in regs.REGISTERS:
        before = bench.read(register.port)
        if register.access == "R":
            bench.write(register.port, ONES)
            assert bench.read(register.port) == before, register
        elif register.access == "W":
            assert before == 0, register
        elif register.name not in ACTING:
            bench.write(register.port, 0x5A5A_5A5A)
            kept = bench.read(register.port)
            assert kept, register
            assert kept & ~0x5A5A_5A5A == 0, register
            bench.write(register.port, 0)
            assert bench.read(register.port) == 0, register
    assert len({register.port for register in regs.REGISTERS}) == len(regs.REGISTERS)


def test_what_is_in_no_table_reads_zero_and_keeps_nothing(bench: Bench) -> None:
    known = {register.port for register in regs.REGISTERS}
    arrays = set(range(regs.MTA, regs.MTA + 512, 4)) | set(range(regs.RA, regs.RA + 128, 4))
    arrays |= set(range(regs.VFTA, regs.VFTA + 512, 4))
    for offset in range(0, regs.MEMORY_BYTES, 4):
        if offset not in known | arrays:
            bench.write(offset, ONES)
            assert bench.read(offset) == 0, hex(offset)
    for offset in sorted(arrays - known):
        bench.write(offset, 0x8000_0001)
        assert bench.read(offset) == 0x8000_0001, hex(offset)


def test_the_io_window_reaches_every_register(bench: Bench) -> None:
    bench.pc.write_port(bench.io, 4, regs.TIDV)
    bench.pc.write_port(bench.io + 4, 4, 0x1234)
    assert bench.read(regs.TIDV) == 0x1234
    bench.pc.write_port(bench.io, 4, regs.RA + 4)
    assert bench.pc.read_port(bench.io, 4) == regs.RA + 4
    assert bench.pc.read_port(bench.io + 4, 4) == 0x8000_0100
    bench.pc.write_port(bench.io, 4, 0xFFFF_FFFC)
    bench.pc.write_port(bench.io + 4, 4, ONES)
    assert bench.pc.read_port(bench.io + 4, 4) == 0


def test_narrow_accesses_read_parts_and_write_nothing(bench: Bench) -> None:
    bench.write(regs.TIDV, 0x4711)
    assert [bench.pc.read_mmio(bench.window + regs.TIDV + n, 1) for n in range(4)] == [0x11, 0x47, 0, 0]
    bench.pc.write_mmio(bench.window + regs.TIDV, 2, 1)
    bench.pc.write_mmio(bench.window + regs.TIDV, 1, 1)
    assert bench.read(regs.TIDV) == 0x4711


@pytest.mark.parametrize("through_ports", [False, True])
def test_reset_forgets_all_but_the_address_and_the_phy(bench: Bench, through_ports: bool) -> None:
    bench.start()
    bench.write(regs.RA, 0x1234_5678)
    bench.write(regs.IMS, ONES)
    bench.write(regs.ICS, 1)
    assert bench.line
    phy_write(bench, 16, 0x47)
    bench.arrive(frame_of(), settle=False)
    if through_ports:
        bench.pc.write_port(bench.io, 4, regs.CTRL)
        bench.pc.write_port(bench.io + 4, 4, regs.CTRL_RST)
    else:
        bench.write(regs.CTRL, regs.CTRL_RST)
    assert not bench.line
    assert not bench.read(regs.CTRL) & regs.CTRL_RST
    for register in (regs.RCTL, regs.TCTL, regs.IMS, regs.ICR, regs.RDBAL, regs.RDT):
        assert bench.read(register) == 0
    assert bench.read(regs.RA).to_bytes(4, "little") + bench.read(regs.RA + 4).to_bytes(4, "little")[:2] == ADDRESS
    assert phy_read(bench, 16) & 0xFFFF == 0x47
    bench.settle()
    assert bench.memory.read(RX_RING + 8, 8) == bytes(8)


# The EEPROM


def words(bench: Bench) -> list[int]:
    found = []
    for number in range(64):
        bench.write(regs.EERD, number << 8 | 1)
        value = bench.read(regs.EERD)
        assert value & 0x10
        found.append(value >> 16)
    return found


def microwire(bench: Bench, command: int, bits: int = 9) -> int:
    """Clock a command in, and 16 bits out."""
    bench.write(regs.EECD, EECD_SELECT)
    for bit in range(bits - 1, -1, -1):
        wire = EECD_SELECT | (EECD_IN if command >> bit & 1 else 0)
        bench.write(regs.EECD, wire)
        bench.write(regs.EECD, wire | EECD_CLOCK)
        bench.write(regs.EECD, wire)
    value = 0
    for _ in range(16):
        bench.write(regs.EECD, EECD_SELECT | EECD_CLOCK)
        value = value << 1 | bool(bench.read(regs.EECD) & EECD_OUT)
        bench.write(regs.EECD, EECD_SELECT)
    bench.write(regs.EECD, 0)
    return value


def test_the_eeprom_has_the_address_and_a_right_checksum(bench: Bench) -> None:
    found = words(bench)
    assert b"".join(word.to_bytes(2, "little") for word in found[:3]) == ADDRESS
    assert sum(found) & 0xFFFF == 0xBABA
    assert found[0x0B:0x0F] == [0x0750, 0x15AD, 0x100F, 0x8086]
    assert found[0x0A] >> 14 == 0b01
    bench.write(regs.EERD, 64 << 8 | 1)
    assert bench.read(regs.EERD) >> 16 == 0xFFFF
    bench.write(regs.EERD, 0)
    assert not bench.read(regs.EERD) & 0x10


def test_the_wires_and_the_register_read_the_same_words(bench: Bench) -> None:
    bench.write(regs.EECD, 0x40)
    assert bench.read(regs.EECD) & 0x1C0 == 0x1C0  # asked for, granted, present
    assert not bench.read(regs.EECD) & 0x200  # 64 words
    assert [microwire(bench, 0b110 << 6 | number) for number in range(64)] == words(bench)


def test_the_eeprom_waits_for_a_start_bit_and_answers_to_reads_only(bench: Bench) -> None:
    assert microwire(bench, 0b110 << 6 | 0x0E, bits=14) == 0x8086
    assert microwire(bench, 0b101 << 6 | 0x0E) == ONES & 0xFFFF
    assert words(bench)[0x0E] == 0x8086


def test_a_zero_comes_before_the_first_bit_of_a_word(bench: Bench) -> None:
    bench.write(regs.EECD, EECD_SELECT)
    for bit in f"{0b110 << 6:09b}":
        wire = EECD_SELECT | (EECD_IN if bit == "1" else 0)
        assert bench.read(regs.EECD) & EECD_OUT
        bench.write(regs.EECD, wire | EECD_CLOCK)
        bench.write(regs.EECD, wire)
    assert not bench.read(regs.EECD) & EECD_OUT


# The PHY and the link


def test_the_phy_is_an_m88e1011_at_address_1(bench: Bench) -> None:
    assert [phy_read(bench, register) & 0xFFFF for register in (2, 3)] == [0x0141, 0x0C20]
    assert phy_read(bench, 2) >> 28 == 1  # ready, no error
    assert phy_read(bench, 2, phy=2) >> 28 == 5
    bench.write(regs.MDIC, 2 << 26 | 1 << 21 | 2 << 16 | 1 << 29)
    assert bench.read(regs.ICR) & regs.MDAC


def test_the_link_is_up_once_cable_phy_and_driver_want_it(bench: Bench) -> None:
    assert not bench.read(regs.STATUS) & regs.STATUS_LU
    bench.write(regs.IMS, regs.LSC)
    bench.write(regs.CTRL, regs.CTRL_SLU)
    assert bench.line
    assert bench.read(regs.STATUS) & 0xC3 == 0x83
    assert bench.read(regs.ICR) == regs.LSC
    assert not bench.line
    bench.port.link_up = False
    bench.card.link_changed(False)
    assert bench.line
    assert not bench.read(regs.STATUS) & regs.STATUS_LU
    assert not phy_read(bench, 1) & 4
    bench.read(regs.ICR)
    bench.port.link_up = True
    bench.card.link_changed(True)
    bench.wait(NEGOTIATION_NS - 1)
    assert not bench.read(regs.STATUS) & regs.STATUS_LU
    bench.wait(1)
    assert bench.read(regs.STATUS) & regs.STATUS_LU
    assert not phy_read(bench, 1) & 4  # it was down since the register was read
    assert phy_read(bench, 1) & 0x24 == 0x24


@pytest.mark.parametrize("bits", [1 << 15, 1 << 9 | 1 << 12])
def test_reset_and_restart_negotiate_again(bench: Bench, bits: int) -> None:
    bench.start()
    phy_write(bench, 4, 0x47)
    phy_write(bench, 0, bits)
    assert bench.read(regs.ICR) == regs.LSC
    assert not phy_read(bench, 0) & (1 << 15 | 1 << 9)
    bench.settle()
    assert bench.read(regs.ICR) == regs.LSC
    assert bench.read(regs.STATUS) & regs.STATUS_LU
    assert (phy_read(bench, 4) & 0xFFFF == 0x47) == (bits != 1 << 15)


def test_a_phy_without_power_has_no_link(bench: Bench) -> None:
    bench.start()
    phy_write(bench, 0, 1 << 11)
    bench.settle()
    assert not bench.read(regs.STATUS) & regs.STATUS_LU
    phy_write(bench, 0, 1 << 12)
    bench.settle()
    assert bench.read(regs.STATUS) & regs.STATUS_LU


def test_a_cable_that_differs_elsewhere_is_noticed_after_loading() -> None:
    bench = Bench()
    bench.write(regs.IMS, regs.LSC)
    other = Bench(bench.memory, start=False, port=RecordingPort(link_up=False))
    other.clock.forget_all(bench.clock.now_ns)
    other.pc.load_state(bench.pc.save_state())
    assert other.read(regs.STATUS) & regs.STATUS_LU
    other.settle()
    assert not other.read(regs.STATUS) & regs.STATUS_LU
    assert other.line


# Interrupts


def test_causes_are_masked_set_and_cleared(bench: Bench) -> None:
    bench.write(regs.ICS, ONES)
    assert not bench.line
    bench.write(regs.IMS, regs.RXT0 | regs.LSC)
    assert bench.line
    bench.write(regs.IMC, regs.RXT0)
    assert bench.read(regs.IMS) == regs.LSC
    bench.write(regs.ICR, regs.LSC)
    assert not bench.line
    bench.write(regs.IMS, regs.TXDW)
    assert bench.line
    assert bench.read(regs.ICR) == regs.CAUSES & ~regs.LSC
    assert bench.read(regs.ICR) == 0
    assert not bench.line
    assert [event.high for event in bench.log.of(AdapterInterrupt)] == [True, False, True, False]
    assert ("IMC", regs.RXT0) in {(event.register, event.value) for event in bench.log.of(AdapterRegisterWritten)}


def test_throttling_keeps_interrupts_apart(bench: Bench) -> None:
    """Whatever the driver does, the pin goes high no sooner than ITR after it last did."""
    bench.write(regs.ITR, 400)
    bench.write(regs.IMS, regs.RXT0)
    for _ in range(200):
        bench.write(regs.ICS, regs.RXT0)
        if bench.line:
            bench.read(regs.ICR)
        bench.wait(7_000)
    times = [event.at_ns for event in bench.log.of(AdapterInterrupt) if event.high]
    assert {b - a for a, b in itertools.pairwise(times)} == {400 * 256}
    assert len(times) == 200 * 7_000 // (400 * 256) + 1


def test_a_throttled_interrupt_comes_by_itself_also_elsewhere(bench: Bench) -> None:
    bench.write(regs.ITR, 1000)
    bench.write(regs.IMS, regs.RXT0)
    bench.write(regs.ICS, regs.RXT0)
    bench.read(regs.ICR)
    bench.write(regs.ICS, regs.RXT0)
    bench = bench.moved()
    bench.wait(255_999)
    assert not bench.line
    bench.wait(1)
    assert bench.line


# Statistics


def test_reading_a_counter_clears_it(bench: Bench) -> None:
    bench.start()
    bench.arrive(frame_of(size=100), frame_of(b"\xff" * 6, size=60), frame_of(size=1514))
    assert [bench.read(at) for at in (0x4074, 0x4078, 0x405C, 0x4060, 0x4070)] == [3, 1, 1, 1, 1]
    assert bench.read(0x4088) == 100 + 60 + 1514 + 3 * 4
    assert bench.read(0x408C) == 0  # the upper half: clears both
    assert [bench.read(at) for at in (0x4074, 0x4078, 0x4088, 0x405C)] == [0, 0, 0, 0]
