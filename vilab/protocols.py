"""The small protocols that let rooms on different floors meet."""

from __future__ import annotations

from typing import Any, Protocol


class PortDevice(Protocol):
    """Answers on I/O ports. Sizes are 1, 2 or 4 bytes; values are unsigned."""

    def read_port(self, port: int, size_bytes: int) -> int: ...

    def write_port(self, port: int, size_bytes: int, value: int) -> None: ...


class MmioDevice(Protocol):
    """Answers on a range of guest physical memory. Offsets count from the range's start."""

    def read_mmio(self, offset: int, size_bytes: int) -> int: ...

    def write_mmio(self, offset: int, size_bytes: int, value: int) -> None: ...


class InterruptLine(Protocol):
    """One input of an interrupt controller."""

    def set_level(self, high: bool) -> None: ...


class InterruptController(Protocol):
    """What an engine asks when it could deliver an interrupt."""

    def pending(self) -> bool:
        """Is an interrupt waiting that the controller would let through?"""
        ...

    def acknowledge(self) -> int:
        """INTA: the vector of the waiting interrupt, which is now in service."""
        ...


class Stateful(Protocol):
    """State is a value: a typed record out, the same record in, nothing lost."""

    def save_state(self) -> Any:
        """A ``msgspec.Struct`` that holds everything needed to go on elsewhere."""
        ...

    def load_state(self, state: Any) -> None: ...


class Console(Protocol):
    """The far end of a serial line."""

    def write(self, data: bytes) -> None: ...

    def read_available(self) -> bytes:
        """Input that has arrived since the last call; empty if none."""
        ...
