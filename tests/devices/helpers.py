"""What stands around a device in its tests: a line that remembers, a console that is typed at."""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.devices.pc import Pc
from vilab.events import EventLog

MEMORY_BYTES = 64 << 20


class Line:
    """An interrupt line; ``edges`` are the levels that it went to."""

    def __init__(self) -> None:
        self.level = False
        self.edges: list[bool] = []

    def set_level(self, high: bool) -> None:
        if high != self.level:
            self.level = high
            self.edges.append(high)


class FakeConsole:
    def __init__(self, typed: bytes = b"") -> None:
        self.written = b""
        self.typed = typed

    def write(self, data: bytes) -> None:
        self.written += data

    def read_available(self) -> bytes:
        data, self.typed = self.typed, b""
        return data


def run_to(clock: VirtualClock, at_ns: int) -> None:
    """As an engine does it: never past a call that is due."""
    while clock.next_ns() <= at_ns:
        clock.now_ns = max(clock.now_ns, clock.next_ns())
        clock.run_due()
    clock.now_ns = at_ns


def make_pc(log: EventLog | None = None, typed: bytes = b"") -> tuple[Pc, VirtualClock, FakeConsole]:
    clock, console = VirtualClock(), FakeConsole(typed)
    return Pc(clock, log or EventLog(), console, MEMORY_BYTES), clock, console
