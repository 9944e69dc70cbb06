"""82441FX host bridge, 00:00.0: the chip between processor, memory and PCI.

::

    0x0cfc[00] R  ID            8086:1237
    0x0cfc[59] RW PAM0          F0000-FFFFF in bits 5-4: read memory 4, write memory 5
    0x0cfc[5a] RW PAM1          C0000 in bits 1-0, C4000 in 5-4; PAM2 to PAM6 go on in 16 KB steps to EFFFF
    0x0cfc[60] R  DRB           upper end of each of eight rows of memory, in 8 MB
    0x0cfc[72] RW SMRAM         system management memory; kept, and does nothing

    PAM nibble  0 ROM   1 read memory, writes lost   2 read ROM, write memory   3 memory

The firmware of a PC copies itself from ROM into the memory behind it and then lets reads go there ("shadow RAM").
MODEL: from C0000 to FFFFF there is memory from the beginning, holding what was loaded; the PAM registers read back and
switch nothing, so that the copy finds itself already made.
"""

from __future__ import annotations

from vilab.devices.pci_function import COMMAND, STATUS, PciFunction
from vilab.devices.registers import Register

_440FX = "Intel 440FX PCIset datasheet (290549), 3.2"

REGISTERS = (
    Register(0xCFC, "R", "ID", "8086:1237", _440FX, 0x00),
    Register(0xCFC, "RW", "PAM0", "F0000-FFFFF in bits 5-4: read memory 4, write memory 5", _440FX, 0x59),
    Register(
        0xCFC, "RW", "PAM1", "C0000 in bits 1-0, C4000 in 5-4; PAM2 to PAM6 go on in 16 KB steps to EFFFF", _440FX, 0x5A
    ),
    Register(0xCFC, "R", "DRB", "upper end of each of eight rows of memory, in 8 MB", _440FX, 0x60),
    Register(0xCFC, "RW", "SMRAM", "system management memory; kept, and does nothing", _440FX, 0x72),
)

DEVICE = 0
PAM, DRB, SMRAM = 0x59, 0x60, 0x72
PAM_BITS = 0x33
ROWS = 8
SMRAM_AT_RESET, SMRAM_WRITABLE = 0x02, 0x78


def host_bridge(memory_bytes: int) -> PciFunction:
    """The function, for a machine with so much memory."""
    bridge = PciFunction(0x8086, 0x1237, 0x060000, revision=2)
    bridge.put(COMMAND, 0x0006, 2)
    bridge.put(STATUS, 0x2280, 2)
    bridge.allow(COMMAND, 0x0140, 2)
    bridge.put(PAM, 0, 7)
    bridge.allow(PAM, int.from_bytes(bytes((PAM_BITS & 0xF0, *(PAM_BITS,) * 6)), "little"), 7)
    bridge.put(DRB, int.from_bytes(bytes((min(memory_bytes >> 23, 0xFF),) * ROWS), "little"), ROWS)
    bridge.put(SMRAM, SMRAM_AT_RESET, 1)
    bridge.allow(SMRAM, SMRAM_WRITABLE, 1)
    return bridge
