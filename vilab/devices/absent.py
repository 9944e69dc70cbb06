"""Ports at which a guest looks for hardware that this PC does not have.

::

    0x0000     RW DMA1          8237 DMA controller, 0x00-0x0f: absent
    0x0081     RW DMA_PAGE      DMA page registers, 0x81-0x8f: absent
    0x00c0     RW DMA2          second 8237, 0xc0-0xdf: absent
    0x01f0     RW IDE           disk controllers, 0x1f0-0x1f7 and 0x170-0x177: absent
    0x0278     RW PARALLEL      printers, 0x278, 0x378, 0x3bc: absent
    0x02e8     RW COM2-COM4     further UARTs, 0x2e8, 0x2f8, 0x3e8: absent
    0x03f0     RW FLOPPY        floppy controller, 0x3f0-0x3f7: absent
    0x0cf8     RW PCI2          byte accesses of configuration mechanism 2: absent

An ISA bus that nobody drives floats high: reads give all ones, writes are lost. A driver writes a pattern, reads it
back, finds ones and goes away. No code is needed for it: ``Pc`` answers so wherever no device has the port.
"""

from __future__ import annotations

from vilab.devices.registers import Register

_ISA = "IBM PC AT technical reference, I/O address map"

REGISTERS = (
    Register(0x00, "RW", "DMA1", "8237 DMA controller, 0x00-0x0f: absent", _ISA),
    Register(0x81, "RW", "DMA_PAGE", "DMA page registers, 0x81-0x8f: absent", _ISA),
    Register(0xC0, "RW", "DMA2", "second 8237, 0xc0-0xdf: absent", _ISA),
    Register(0x1F0, "RW", "IDE", "disk controllers, 0x1f0-0x1f7 and 0x170-0x177: absent", _ISA),
    Register(0x278, "RW", "PARALLEL", "printers, 0x278, 0x378, 0x3bc: absent", _ISA),
    Register(0x2E8, "RW", "COM2-COM4", "further UARTs, 0x2e8, 0x2f8, 0x3e8: absent", _ISA),
    Register(0x3F0, "RW", "FLOPPY", "floppy controller, 0x3f0-0x3f7: absent", _ISA),
    Register(
        0xCF8, "RW", "PCI2", "byte accesses of configuration mechanism 2: absent", "PCI specification 2.1, 3.7.4.2"
    ),
)
