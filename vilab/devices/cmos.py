"""What the firmware of a PC has written into CMOS memory before a system starts.

::

    0x0071[0f] RW SHUTDOWN      why the processor was reset: 0 = power-on
    0x0071[10] RW FLOPPIES      drive types: 0 = none
    0x0071[12] RW DISKS         drive types: 0 = none
    0x0071[14] RW EQUIPMENT     coprocessor 1, colour text 5-4 (2 = 80 columns)
    0x0071[15] RW BASE_LOW      base memory in KB, low byte; 0x16: high byte
    0x0071[17] RW EXTENDED_LOW  KB above 1 MB, at most 65535; 0x18: high byte
    0x0071[2e] RW CHECKSUM      high byte of the sum of 0x10-0x2d; 0x2f: low byte
    0x0071[30] RW EXTENDED2_LOW KB above 1 MB as the firmware measured it; 0x31: high byte
    0x0071[34] RW ABOVE_16M_LOW 64 KB units above 16 MB; 0x35: high byte
"""

from __future__ import annotations

from vilab.devices.registers import Register

_AT = "IBM PC AT technical reference, real-time clock and CMOS RAM"
_QEMU = "de facto: the layout that QEMU and SeaBIOS agree on"

REGISTERS = (
    Register(0x71, "RW", "SHUTDOWN", "why the processor was reset: 0 = power-on", _AT, 0x0F),
    Register(0x71, "RW", "FLOPPIES", "drive types: 0 = none", _AT, 0x10),
    Register(0x71, "RW", "DISKS", "drive types: 0 = none", _AT, 0x12),
    Register(0x71, "RW", "EQUIPMENT", "coprocessor 1, colour text 5-4 (2 = 80 columns)", _AT, 0x14),
    Register(0x71, "RW", "BASE_LOW", "base memory in KB, low byte; 0x16: high byte", _AT, 0x15),
    Register(0x71, "RW", "EXTENDED_LOW", "KB above 1 MB, at most 65535; 0x18: high byte", _AT, 0x17),
    Register(0x71, "RW", "CHECKSUM", "high byte of the sum of 0x10-0x2d; 0x2f: low byte", _AT, 0x2E),
    Register(0x71, "RW", "EXTENDED2_LOW", "KB above 1 MB as the firmware measured it; 0x31: high byte", _AT, 0x30),
    Register(0x71, "RW", "ABOVE_16M_LOW", "64 KB units above 16 MB; 0x35: high byte", _QEMU, 0x34),
)

EQUIPMENT = 0b0010_0010
BASE_KB = 640
MB = 1 << 20


def cmos_memory(memory_bytes: int) -> bytes:
    """128 bytes for a PC with so much memory and no drives. The time registers are the clock's own affair."""
    ram = bytearray(128)

    def put(index: int, value: int) -> None:
        ram[index : index + 2] = min(value, 0xFFFF).to_bytes(2, "little")

    ram[0x14] = EQUIPMENT
    put(0x15, min(BASE_KB, memory_bytes >> 10))
    put(0x17, max(memory_bytes - MB, 0) >> 10)
    put(0x30, max(memory_bytes - MB, 0) >> 10)
    put(0x34, max(memory_bytes - 16 * MB, 0) >> 16)
    ram[0x2E:0x30] = sum(ram[0x10:0x2E]).to_bytes(2, "big")
    return bytes(ram)
