"""The ways in which a guest switches its PC off or starts it again.

::

    0x0092     RW PORT_A        reset 0 (a rising edge resets), A20 1
    0x0604     RW PM1A_CNT      16 bits: sleep type 12-10 (0 = off), sleep enable 13
    0x0cf9     RW RESET         full reset 1, reset 2 (a rising edge resets)

and the keyboard controller's command 0xfe. Nothing happens here but that the wish is noted: ``request`` is ``off`` or
``reset`` until whoever runs the machine takes it.
MODEL: address line 20 is never masked; bit 1 of port A reads back and does nothing more.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vilab.devices.registers import Register, copied

REGISTERS = (
    Register(0x92, "RW", "PORT_A", "reset 0 (a rising edge resets), A20 1", "IBM PS/2 technical reference, port 0x92"),
    Register(
        0x604,
        "RW",
        "PM1A_CNT",
        "16 bits: sleep type 12-10 (0 = off), sleep enable 13",
        "ACPI 1.0, 4.7.3.2; QEMU's base",
    ),
    Register(0xCF9, "RW", "RESET", "full reset 1, reset 2 (a rising edge resets)", "Intel 82371AB PIIX4, 4.2.7"),
)

PORT_A_RESET = 0b0000_0001
PORT_A_A20 = 0b0000_0010
SLEEP_ENABLE = 1 << 13
SLEEP_TYPE = 0b111 << 10
CF9_RESET = 0b0000_0100
CF9_WRITABLE = 0b0000_0110

PowerRequest = Literal["off", "reset"]


class PowerState(msgspec.Struct):
    request: PowerRequest | None = None
    port_a: int = PORT_A_A20
    pm1a: int = 0
    cf9: int = 0


class Power:
    ports = (0x92, 0x604, 0x605, 0xCF9)

    def __init__(self) -> None:
        self._state = PowerState()

    @property
    def request(self) -> PowerRequest | None:
        return self._state.request

    def ask(self, request: PowerRequest) -> None:
        """Note a wish; the first one counts until it is taken."""
        if self._state.request is None:
            self._state.request = request

    def take_request(self) -> PowerRequest | None:
        request, self._state.request = self._state.request, None
        return request

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        s = self._state
        if port == 0x92:
            return s.port_a
        if port == 0xCF9:
            return s.cf9
        return s.pm1a >> (8 if port == 0x605 else 0) & ((1 << 8 * size_bytes) - 1)

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        s = self._state
        if port == 0x92:
            if value & ~s.port_a & PORT_A_RESET:
                self.ask("reset")
            s.port_a = value
        elif port == 0xCF9:
            if value & ~s.cf9 & CF9_RESET:
                self.ask("reset")
            s.cf9 = value & CF9_WRITABLE
        else:
            if size_bytes > 1:
                word = value & 0xFFFF
            elif port == 0x605:
                word = s.pm1a & 0x00FF | value << 8
            else:
                word = s.pm1a & 0xFF00 | value
            if word & SLEEP_ENABLE and not word & SLEEP_TYPE:
                self.ask("off")
            s.pm1a = word & ~SLEEP_ENABLE  # write only: reads as 0

    def save_state(self) -> PowerState:
        return copied(self._state)

    def load_state(self, state: PowerState) -> None:
        self._state = copied(state)
