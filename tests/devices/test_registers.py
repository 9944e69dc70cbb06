"""The datasheet in a device's docstring, the one that a lesson renders, and the ports that answer are one."""

from __future__ import annotations

import importlib
import inspect

import pytest

from tests.devices.helpers import make_pc
from vilab.devices import ioapic, lapic_registers
from vilab.devices.datasheets import register_tables
from vilab.devices.pc import Pc
from vilab.devices.registers import render

TABLES = register_tables()
SCSI = ("lsi_registers", "buslogic_registers")
"""Behind base addresses, in a PC that has the adapter: test_lsi_registers and test_buslogic answer for them."""
CARDS = ("e1000_registers", "pcnet_registers", "vmxnet3_registers")
"""The same of network cards: the test of each answers for its table."""


@pytest.mark.parametrize("name", TABLES)
def test_docstring_shows_the_register_table(name: str) -> None:
    docstring = inspect.getdoc(importlib.import_module(f"vilab.devices.{name}"))
    assert docstring is not None
    shown = {" ".join(line.split()) for line in docstring.splitlines()}
    missing = [line for line in render(TABLES[name]).splitlines() if " ".join(line.split()) not in shown]
    assert missing == []


def answers(pc: Pc, name: str, port: int) -> bool:
    """Does the device of that name have this port, or this address?"""
    if name in ("lapic_registers", "ioapic"):
        return (pc.lapic.base if name == "lapic_registers" else ioapic.BASE) == port & ~0xFFF
    if name in ("i440fx", "piix") and port not in pc.pci.ports:
        return pc.pci.port_window(port) is not None
    owner = {"cmos": "rtc", "i440fx": "pci", "piix": "pci"}.get(name, name)
    return port in getattr(pc, owner).ports


@pytest.mark.parametrize(
    "name", [name for name in TABLES if name not in ("absent", "backdoor", "balloon_port", "ramdisk", *SCSI, *CARDS)]
)
def test_every_register_of_a_table_is_answered_by_its_device(name: str) -> None:
    pc, _, _ = make_pc()
    for register in TABLES[name]:
        if name == "pci" and register.port == 0xCF8:
            pc.write_port(0xCF8, 4, 0x8000_1234)
            assert pc.read_port(0xCF8, 4) == 0x8000_1234
        else:
            assert answers(pc, name, register.port), register


def test_the_local_apic_knows_every_register_of_its_table() -> None:
    pc, _, _ = make_pc()
    for register in TABLES["lapic_registers"]:
        if "R" in register.access:
            pc.read_mmio(register.port, 4)
        else:
            pc.write_mmio(register.port, 4, 0)
    pc.write_mmio(lapic_registers.BASE + lapic_registers.ESR, 4, 0)
    assert pc.read_mmio(lapic_registers.BASE + lapic_registers.ESR, 4) == 0
    pc.read_mmio(lapic_registers.BASE + 0x3F0, 4)
    pc.write_mmio(lapic_registers.BASE + lapic_registers.ESR, 4, 0)
    assert pc.read_mmio(lapic_registers.BASE + lapic_registers.ESR, 4) == lapic_registers.ERROR_REGISTER


def test_absent_hardware_reads_all_ones_and_loses_writes() -> None:
    pc, _, _ = make_pc()
    for register in TABLES["absent"]:
        for size_bytes in (1, 2) if register.port != 0xCF8 else (1,):
            pc.write_port(register.port, size_bytes, 0)
            assert pc.read_port(register.port, size_bytes) == (1 << 8 * size_bytes) - 1
