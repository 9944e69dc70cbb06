"""How a bus master reaches guest memory: checked, because the addresses come from the guest.

::

    0                                    memory ends              4 GB
    |================ memory =================|- - - - nobody - - - -|
         |-- segment --|                   |-- segment --|
              moved                            refused: ``None``, nothing of it is moved

A segment that leaves memory is a master abort on real hardware. So is every transfer while the guest keeps the bus
master bit of the function's command register clear.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from vilab.clock import VirtualClock
from vilab.devices.adapter_events import DmaMoved
from vilab.devices.pci_function import COMMAND, COMMAND_MASTER, PciFunction
from vilab.events import EventLog

Segment = tuple[int, int]
"""(guest physical address, size in bytes)"""

What = Literal["data", "sense", "message"]


class SizedMemory(Protocol):
    """Guest physical memory that says where it ends."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, gpa: int, size_bytes: int) -> bytes: ...

    def write(self, gpa: int, data: bytes) -> None: ...


class BusMaster:
    """The road of one PCI function into memory."""

    def __init__(
        self, function: PciFunction, memory: SizedMemory, clock: VirtualClock, log: EventLog, slot: int
    ) -> None:
        self._function, self._memory, self._clock, self._log = function, memory, clock, log
        self.slot = slot

    def reaches(self, gpa: int, size_bytes: int) -> bool:
        """Is all of it memory, and may the function go there?"""
        if not size_bytes:
            return True
        inside = gpa >= 0 and gpa + size_bytes <= self._memory.size_bytes
        return inside and bool(self._function.config[COMMAND] & COMMAND_MASTER)

    def read(self, gpa: int, size_bytes: int, what: What = "message") -> bytes | None:
        if not self.reaches(gpa, size_bytes):
            return None
        self._moved("read", what, gpa, size_bytes)
        return bytes(self._memory.read(gpa, size_bytes)) if size_bytes else b""

    def write(self, gpa: int, data: bytes, what: What = "message") -> bool:
        if not self.reaches(gpa, len(data)):
            return False
        if data:
            self._memory.write(gpa, data)
            self._moved("written", what, gpa, len(data))
        return True

    def _moved(self, direction: Literal["read", "written"], what: What, gpa: int, size_bytes: int) -> None:
        if self._log.active and size_bytes:
            self._log.emit(DmaMoved(self._clock.now_ns, self.slot, direction, what, gpa, size_bytes))

    def gather(self, segments: Iterable[Segment], size_bytes: int) -> bytes | None:
        """The first bytes of the segments, in order; fewer if they are shorter. ``None``: one of them leaves memory."""
        parts, left = [], size_bytes
        for gpa, size in segments:
            if not left:
                break
            part = self.read(gpa, min(size, left), "data")
            if part is None:
                return None
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def scatter(self, segments: Sequence[Segment], data: bytes) -> int | None:
        """Fill the segments in order; how many bytes had room. ``None``: one leaves memory, and nothing was written."""
        at, pieces = 0, []
        for gpa, size in segments:
            part = data[at : at + size]
            if not part:
                break
            pieces.append((gpa, part))
            at += len(part)
        if not all(self.reaches(gpa, len(part)) for gpa, part in pieces):
            return None
        for gpa, part in pieces:
            self.write(gpa, part, "data")
        return at
