"""PCI configuration mechanism 1, and where the functions' own registers appear: the bus.

::

    0x0cf8     RW CONFIG_ADDR   32 bits only: enable 31, bus 23-16, device 15-11, function 10-8, register 7-2
    0x0cfc     RW CONFIG_DATA   8, 16 or 32 bits at 0xcfc-0xcff; all ones where there is no function

      31  30-24   23-16    15-11    10-8      7-2     1 0
    +---+-------+--------+--------+-------+---------+-----+
    | E |   0   |  bus   | device | funct |  dword  | 0 0 |
    +---+-------+--------+--------+-------+---------+-----+

    00:00.0  8086:1237  host bridge   (i440fx.py)
    00:01.0  8086:7000  ISA bridge    (piix.py)
    00:01.3  8086:7113  power management

An empty slot answers all ones to every read, which is how a guest learns that it is empty.
"""

from __future__ import annotations

import msgspec

from vilab.devices.pci_function import PciFunction
from vilab.devices.piix import IsaBridge
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


class Window(msgspec.Struct, frozen=True):
    """Addresses at which a function's registers are now: ``first`` to ``last``."""

    first: int
    last: int
    function: PciFunction
    index: int


class PciState(msgspec.Struct):
    """``functions``: the 256 bytes of each, by bus << 8 | device << 3 | function. ``asserted``: see ``IsaBridge``."""

    address: int = 0
    functions: dict[int, bytes] = msgspec.field(default_factory=dict)
    asserted: list[int] = msgspec.field(default_factory=list)


class Pci:
    """The mechanism and the bus. ``functions`` : (bus << 8 | device << 3 | function) -> who answers there."""

    ports = (0xCFC, 0xCFD, 0xCFE, 0xCFF)
    """At 0xcf8 only 32-bit accesses are meant for it; others belong to whoever has the byte ports there."""

    def __init__(self) -> None:
        self.functions: dict[int, PciFunction] = {}
        self.bridge: IsaBridge | None = None
        self.port_windows: list[Window] = []
        self.memory_windows: list[Window] = []
        self._state = PciState()

    def add(self, device: int, number: int, function: PciFunction) -> None:
        """Put a function on bus 0. Raises ``ValueError`` if its place is taken."""
        at = device << 3 | number
        if at in self.functions:
            raise ValueError(f"PCI function 00:{device:02x}.{number} exists already")
        self.functions[at] = function
        if isinstance(function, IsaBridge):
            self.bridge = function
        function.windows_changed = self.find_windows
        self.find_windows()

    def find_windows(self) -> None:
        """Base addresses or enable bits have changed."""
        self.port_windows = []
        self.memory_windows = []
        for function in self.functions.values():
            for index, first, size_bytes, is_memory in function.windows():
                window = Window(first, first + size_bytes - 1, function, index)
                (self.memory_windows if is_memory else self.port_windows).append(window)

    def port_window(self, port: int) -> Window | None:
        return next((w for w in self.port_windows if w.first <= port <= w.last), None)

    def memory_window(self, gpa: int) -> Window | None:
        return next((w for w in self.memory_windows if w.first <= gpa <= w.last), None)

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
        functions = {at: bytes(function.config) for at, function in self.functions.items()}
        return PciState(self._state.address, functions, list(self.bridge.asserted) if self.bridge is not None else [])

    def load_state(self, state: PciState) -> None:
        self._state = copied(state)
        if self.bridge is not None:
            self.bridge.load_asserted(state.asserted)
        for at, config in state.functions.items():
            self.functions[at].load_config(config)
        self.find_windows()
