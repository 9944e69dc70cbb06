"""PCI configuration mechanism 1: an address register, and a window on the selected function's 256 bytes.

::

    0x0cf8     RW CONFIG_ADDR   32 bits only: enable 31, bus 23-16, device 15-11, function 10-8, register 7-2
    0x0cfc     RW CONFIG_DATA   8, 16 or 32 bits at 0xcfc-0xcff; all ones where there is no function

      31  30-24   23-16    15-11    10-8      7-2     1 0
    +---+-------+--------+--------+-------+---------+-----+
    | E |   0   |  bus   | device | funct |  dword  | 0 0 |
    +---+-------+--------+--------+-------+---------+-----+

An empty bus answers all ones to every read, which is how a guest learns that it is empty.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from vilab.devices.registers import Register, copied

_PCI = "PCI local bus specification 2.1, 3.7.4.1"

REGISTERS = (
    Register(
        0xCF8,
        "RW",
        "CONFIG_ADDR",
        "32 bits only: enable 31, bus 23-16, device 15-11, function 10-8, register 7-2",
        _PCI,
    ),
    Register(0xCFC, "RW", "CONFIG_DATA", "8, 16 or 32 bits at 0xcfc-0xcff; all ones where there is no function", _PCI),
)

CONFIG_ADDRESS, CONFIG_DATA = 0xCF8, 0xCFC
ENABLE = 1 << 31
ADDRESS_BITS = 0x80FF_FFFC


class PciFunction(Protocol):
    """One function's configuration space; offsets 0-255."""

    def read_config(self, offset: int, size_bytes: int) -> int: ...

    def write_config(self, offset: int, size_bytes: int, value: int) -> None: ...


class PciState(msgspec.Struct):
    address: int = 0


class Pci:
    """The mechanism. ``functions`` : (bus << 8 | device << 3 | function) -> who answers there."""

    ports = (0xCFC, 0xCFD, 0xCFE, 0xCFF)
    """At 0xcf8 only 32-bit accesses are meant for it; others belong to whoever has the byte ports there."""

    def __init__(self) -> None:
        self.functions: dict[int, PciFunction] = {}
        self._state = PciState()

    def _selected(self) -> PciFunction | None:
        address = self._state.address
        return self.functions.get(address >> 8 & 0xFFFF) if address & ENABLE else None

    def read_port(self, port: int, size_bytes: int) -> int:
        if port < CONFIG_DATA:
            return self._state.address
        function = self._selected()
        if function is None:
            return (1 << 8 * size_bytes) - 1
        return function.read_config(self._state.address & 0xFC | port & 3, size_bytes)

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        if port < CONFIG_DATA:
            self._state.address = value & ADDRESS_BITS
            return
        function = self._selected()
        if function is not None:
            function.write_config(self._state.address & 0xFC | port & 3, size_bytes, value)

    def save_state(self) -> PciState:
        return copied(self._state)

    def load_state(self, state: PciState) -> None:
        self._state = copied(state)
