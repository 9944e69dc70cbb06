"""A PCI function's configuration space: the header that all have, base addresses, and what may be written.

::

    offset  3          2          1          0
    00      device id             vendor id
    04      status (W1C 15-11, 8) command: I/O 0, memory 1, bus master 2, interrupt off 10
    08      class      subclass   interface  revision
    0c      BIST       header type latency   cache line
    10-24   six base addresses:   memory  | address 31-4 | prefetch 3 | type 2-1 | 0 |
                                  I/O     | address 31-2 |             0         | 1 |
    2c      subsystem id          subsystem vendor
    30      expansion ROM:        address 31-11 | 0 | enable 0        only where there is one (fit_rom)
    3c      max lat    min gnt    interrupt pin  interrupt line

    sizing: write ffffffff, read back: the zeros say how much room the base address needs

A device on the bus is a ``PciFunction`` with ``bars`` and with ``read_bar`` and ``write_bar`` for what is behind them.
Source: PCI local bus specification 2.1, chapter 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

COMMAND, STATUS, REVISION, HEADER_TYPE, BAR0, SUBSYSTEM, ROM, INTERRUPT_LINE, INTERRUPT_PIN = (
    0x04, 0x06, 0x08, 0x0E, 0x10, 0x2C, 0x30, 0x3C, 0x3D,
)  # fmt: skip
COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER, COMMAND_NO_INTERRUPT = 1 << 0, 1 << 1, 1 << 2, 1 << 10
COMMAND_WRITABLE = COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | 1 << 6 | 1 << 8 | COMMAND_NO_INTERRUPT
MULTIFUNCTION = 0x80
BAR_IS_IO = 1
ROM_ENABLE = 1
ROM_WINDOW = 6
"""The index of the expansion ROM among the windows, behind those of the six base addresses."""
MOST_ROM_BYTES = 1 << 20


class Bar(msgspec.Struct, frozen=True):
    """One base address. ``size_bytes``: a power of two, at least 4 for I/O and 16 for memory."""

    size_bytes: int
    is_memory: bool = False


def _for_device(rom: bytes, vendor: int, device: int) -> bytes:
    """A BIOS runs a ROM only where the ids in its PCI data structure are those of the function: a driver for a family
    of one vendor's gets the id of the card that it is put on, and a checksum to match. Any other stays as it is."""
    at = int.from_bytes(rom[0x18:0x1A], "little")
    if rom[at : at + 6] != b"PCIR" + vendor.to_bytes(2, "little"):
        return rom
    others = int.from_bytes(rom[at + 8 : at + 10], "little")  # a list of further ids, since revision 3
    patched, old = bytearray(rom), rom[at + 6 : at + 8]
    for place in (at + 6, at + others if others else at + 6):
        if rom[place : place + 2] == old:
            patched[place : place + 2] = device.to_bytes(2, "little")
    image = patched[: rom[2] * 512]
    patched[6] = patched[6] - sum(image) & 0xFF if sum(rom[: rom[2] * 512]) & 0xFF == 0 else patched[6]
    return bytes(patched)


class PciFunction:
    """One function.

    Parameters
    ----------
    vendor, device : the ids. class_code : 24 bits, class, subclass and interface.
    interrupt_pin : 1 to 4 for INTA to INTD, 0 for none.
    """

    def __init__(
        self,
        vendor: int,
        device: int,
        class_code: int,
        *,
        revision: int = 0,
        header_type: int = 0,
        subsystem: tuple[int, int] = (0, 0),
        interrupt_pin: int = 0,
        bars: tuple[Bar, ...] = (),
    ) -> None:
        self.config = bytearray(256)
        self.writable = bytearray(256)
        """Which bits a write changes."""
        self.cleared_by_ones = bytearray(256)
        """Which bits a write of 1 clears."""
        self.bars = bars
        self.rom = b""
        self.windows_changed: Callable[[], None] = lambda: None
        self.put(0x00, vendor | device << 16, 4)
        self.put(REVISION, class_code << 8 | revision, 4)
        self.put(HEADER_TYPE, header_type, 1)
        self.put(SUBSYSTEM, subsystem[0] | subsystem[1] << 16, 4)
        self.put(INTERRUPT_PIN, interrupt_pin, 1)
        self.allow(COMMAND, COMMAND_WRITABLE, 2)
        self.allow(0x0C, 0xFFFF, 2)
        if interrupt_pin:
            self.allow(INTERRUPT_LINE, 0xFF, 1)
        self.cleared_by_ones[STATUS + 1] = 0b1111_1001
        for index, bar in enumerate(bars):
            self.allow(BAR0 + 4 * index, ~(bar.size_bytes - 1) & 0xFFFF_FFFF, 4)
            self.put(BAR0 + 4 * index, 0 if bar.is_memory else BAR_IS_IO, 4)

    def fit_rom(self, content: bytes) -> None:
        """Put a ROM on the card: code that a BIOS copies and runs. ``ValueError`` if it is none or too large."""
        if content[:2] != b"\x55\xaa" or len(content) > MOST_ROM_BYTES:
            raise ValueError(f"{len(content)} bytes are no expansion ROM: one begins with 55 aa and has up to 1 MB")
        size_bytes = max(0x800, 1 << (len(content) - 1).bit_length())
        self.rom = _for_device(content, self.get(0x00, 2), self.get(0x02, 2)).ljust(size_bytes, b"\xff")
        self.allow(ROM, ~(size_bytes - 1) & 0xFFFF_F800 | ROM_ENABLE, 4)

    def put(self, offset: int, value: int, size_bytes: int) -> None:
        """Set a register from inside."""
        self.config[offset : offset + size_bytes] = value.to_bytes(size_bytes, "little")

    def get(self, offset: int, size_bytes: int) -> int:
        return int.from_bytes(self.config[offset : offset + size_bytes], "little")

    def allow(self, offset: int, bits: int, size_bytes: int) -> None:
        """Let the guest change these bits."""
        self.writable[offset : offset + size_bytes] = bits.to_bytes(size_bytes, "little")

    def read_config(self, offset: int, size_bytes: int) -> int:
        return self.get(offset, size_bytes)

    def write_config(self, offset: int, size_bytes: int, value: int) -> None:
        for at in range(offset, offset + size_bytes):
            byte, old, writable = value & 0xFF, self.config[at], self.writable[at]
            self.config[at] = (old & ~writable | byte & writable) & ~(byte & self.cleared_by_ones[at])
            value >>= 8
        if offset < INTERRUPT_LINE and offset + size_bytes > COMMAND:
            self.windows_changed()
        self.config_written(offset, size_bytes)

    def config_written(self, offset: int, size_bytes: int) -> None:
        """The guest has written registers: a function with some of its own looks at them."""

    def load_config(self, config: bytes) -> None:
        self.config[:] = config
        self.config_written(0, 256)

    def windows(self) -> Iterator[tuple[int, int, int, bool]]:
        """What its base addresses open now: (index, first address, size in bytes, is memory)."""
        command = self.config[COMMAND]
        for index, bar in enumerate(self.bars):
            address = self.get(BAR0 + 4 * index, 4) & ~(bar.size_bytes - 1)
            enabled = command & (COMMAND_MEMORY if bar.is_memory else COMMAND_IO)
            if enabled and address and (bar.is_memory or address < 0x10000):
                yield index, address, bar.size_bytes, bar.is_memory
        address = self.get(ROM, 4)
        if self.rom and address & ROM_ENABLE and command & COMMAND_MEMORY:
            yield ROM_WINDOW, address & ~(len(self.rom) - 1), len(self.rom), True

    def read_window(self, index: int, offset: int, size_bytes: int) -> int:
        """A read behind a base address, or of the expansion ROM."""
        if index == ROM_WINDOW:
            return int.from_bytes(self.rom[offset : offset + size_bytes], "little")
        return self.read_bar(index, offset, size_bytes)

    def write_window(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        """A write behind a base address; a ROM keeps what it has."""
        if index != ROM_WINDOW:
            self.write_bar(index, offset, size_bytes, value)

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        """A read behind base address ``index``."""
        return (1 << 8 * size_bytes) - 1

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        """A write behind base address ``index``."""
