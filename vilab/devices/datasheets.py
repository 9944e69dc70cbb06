"""Every device's register table, by the name of its file, in the order of the picture in ``pc``."""

from __future__ import annotations

from vilab.devices import (
    absent,
    backdoor,
    balloon_port,
    buslogic_registers,
    cmos,
    crtc,
    debug_port,
    e1000_registers,
    i440fx,
    ioapic,
    keyboard,
    lapic_registers,
    lsi_registers,
    pci,
    pcnet_registers,
    pic,
    piix,
    pit,
    port61,
    power,
    ramdisk,
    rtc,
    uart,
    vmxnet3_registers,
)
from vilab.devices.registers import Register


def register_tables() -> dict[str, tuple[Register, ...]]:
    """Every device's datasheet, by the name of its file, in the order of the picture above."""
    return {
        "pic": pic.REGISTERS,
        "pit": pit.REGISTERS,
        "keyboard": keyboard.REGISTERS,
        "port61": port61.REGISTERS,
        "rtc": rtc.REGISTERS,
        "cmos": cmos.REGISTERS,
        "debug_port": debug_port.REGISTERS,
        "power": power.REGISTERS,
        "crtc": crtc.REGISTERS,
        "uart": uart.REGISTERS,
        "lapic_registers": lapic_registers.REGISTERS,
        "ioapic": ioapic.REGISTERS,
        "pci": pci.REGISTERS,
        "i440fx": i440fx.REGISTERS,
        "piix": piix.REGISTERS,
        "ramdisk": ramdisk.REGISTERS,
        "lsi_registers": lsi_registers.REGISTERS,
        "buslogic_registers": buslogic_registers.REGISTERS,
        "pcnet_registers": pcnet_registers.REGISTERS,
        "e1000_registers": e1000_registers.REGISTERS,
        "vmxnet3_registers": vmxnet3_registers.REGISTERS,
        "backdoor": backdoor.REGISTERS,
        "balloon_port": balloon_port.REGISTERS,
        "absent": absent.REGISTERS,
    }
