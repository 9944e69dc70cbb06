"""System control port B, 0x61: the speaker, the gate of PIT counter 2, and a bit that toggles with memory refresh.

::

    0x0061     RW NMI_SC        gate of counter 2: 0, speaker 1, parity off 2, I/O check off 3; read only: 4-7

    bit 4  toggles with every refresh request, 66,288 times a second: kernels time short delays with it
    bit 5  OUT of counter 2      bit 6  I/O check      bit 7  parity error (neither ever happens here)
"""

from __future__ import annotations

import msgspec

from vilab.clock import VirtualClock
from vilab.devices.pit import Pit, tick_at
from vilab.devices.registers import Register, copied

REGISTERS = (
    Register(
        0x61,
        "RW",
        "NMI_SC",
        "gate of counter 2: 0, speaker 1, parity off 2, I/O check off 3; read only: 4-7",
        "Intel 82371AB PIIX4 datasheet, 4.2.5.1",
    ),
)

GATE2 = 0b0000_0001
SPEAKER = 0b0000_0010
WRITABLE = 0b0000_1111
REFRESH_TOGGLE = 0b0001_0000
OUT2 = 0b0010_0000
REFRESH_TICKS = 18
"""MODEL: counter 1 as the firmware sets it; a guest that changes it does not change the toggle."""


class Port61State(msgspec.Struct):
    latch: int = 0


class Port61:
    ports = (0x61,)

    def __init__(self, clock: VirtualClock, pit: Pit) -> None:
        self._clock = clock
        self._pit = pit
        self._state = Port61State()

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        toggle = REFRESH_TOGGLE if tick_at(self._clock.now_ns) // REFRESH_TICKS & 1 else 0
        return self._state.latch | toggle | (OUT2 if self._pit.output(2) else 0)

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        self._state.latch = value & WRITABLE
        self._pit.set_gate2(bool(value & GATE2))

    def save_state(self) -> Port61State:
        return copied(self._state)

    def load_state(self, state: Port61State) -> None:
        self._state = copied(state)
