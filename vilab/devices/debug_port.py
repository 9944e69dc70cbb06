"""Ports that firmware and small kernels print on, and the one that shows how far a start has come.

::

    0x0080     RW POST          the last byte written; kernels also write here to wait about a microsecond
    0x00e9     RW E9            write: a character for the log; reads 0xe9 if someone listens
    0x0402     RW DEBUGCON      the same, where SeaBIOS prints
"""

from __future__ import annotations

import msgspec

from vilab.clock import VirtualClock
from vilab.devices.registers import Register, copied
from vilab.events import Event, EventLog

REGISTERS = (
    Register(0x80, "RW", "POST", "the last byte written; kernels also write here to wait about a microsecond", "PC AT"),
    Register(
        0xE9, "RW", "E9", "write: a character for the log; reads 0xe9 if someone listens", "Bochs, port 0xe9 hack"
    ),
    Register(0x402, "RW", "DEBUGCON", "the same, where SeaBIOS prints", "QEMU, isa-debugcon"),
)

LISTENING = 0xE9
KEPT_BYTES = 4096


class DebugOutput(Event, frozen=True, tag=True):
    """A byte on a debug port: 0xe9 or 0x402."""

    port: int
    data: bytes


class DebugPortState(msgspec.Struct):
    """``text``: the last ``KEPT_BYTES`` bytes printed on either port."""

    post: int = 0
    text: bytearray = msgspec.field(default_factory=bytearray)


class DebugPort:
    ports = (0x80, 0xE9, 0x402)

    def __init__(self, clock: VirtualClock, log: EventLog) -> None:
        self._clock = clock
        self._log = log
        self._state = DebugPortState()

    @property
    def text(self) -> bytes:
        return bytes(self._state.text)

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        return self._state.post if port == 0x80 else LISTENING

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        s = self._state
        if port == 0x80:
            s.post = value
            return
        s.text.append(value)
        if len(s.text) > KEPT_BYTES:
            del s.text[0]
        if self._log.active:
            self._log.emit(DebugOutput(self._clock.now_ns, port, bytes((value,))))

    def save_state(self) -> DebugPortState:
        return copied(self._state)

    def load_state(self, state: DebugPortState) -> None:
        self._state = copied(state)
