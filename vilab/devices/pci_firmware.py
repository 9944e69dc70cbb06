"""What a BIOS does for a PCI function before a guest starts: addresses, an interrupt, the bits that open its windows.

::

    adapter    I/O       memory        PCI interrupt of slot 16 + n, INTA: (15 + n) mod 4
    0          1400      e8000000      D ──PIRQRC──> IRQ 11, level-triggered (ELCR, port 4d1)
    1          1500      e8100000      A ──────────> IRQ 10
    ...                                B, C ───────> IRQ 10, 11

A guest that looks for functions itself (Linux) keeps what it finds. With an I/O APIC, the MP table (mp_table.py) says
which of its pins each PCI interrupt is on.
"""

from __future__ import annotations

from vilab.devices.pci import Pci
from vilab.devices.pci_function import (
    BAR0,
    COMMAND,
    COMMAND_IO,
    COMMAND_MASTER,
    COMMAND_MEMORY,
    INTERRUPT_LINE,
    PciFunction,
)
from vilab.devices.piix import PIRQRC, IsaBridge

FIRST_IO, IO_STEP = 0x1400, 0x100
FIRST_MEMORY, MEMORY_STEP = 0xE800_0000, 0x10_0000
IRQ_OF_PCI_INTERRUPT = (10, 10, 11, 11)
ELCR_LOW = 0x4D0


def assign(pci: Pci, bridge: IsaBridge, slot: int, function: PciFunction, index: int) -> list[tuple[int, int]]:
    """Set up the function in a slot, the ``index``-th one; returns (port, bits) to set in the PIC's ELCR."""
    memory = FIRST_MEMORY + index * MEMORY_STEP
    for number, bar in enumerate(function.bars):
        if bar.is_memory:
            function.write_config(BAR0 + 4 * number, 4, memory)
            memory += max(bar.size_bytes, 0x1000)
        else:
            function.write_config(BAR0 + 4 * number, 4, FIRST_IO + index * IO_STEP)
    interrupt = slot - 1 & 3
    irq = IRQ_OF_PCI_INTERRUPT[interrupt]
    bridge.write_config(PIRQRC + interrupt, 1, irq)
    function.write_config(INTERRUPT_LINE, 1, irq)
    function.write_config(COMMAND, 2, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER)
    pci.find_windows()
    return [(ELCR_LOW + (irq >> 3), 1 << (irq & 7))]
