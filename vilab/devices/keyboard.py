"""8042 keyboard controller, with a keyboard on which nobody types and no mouse.

::

    0x0060     RW DATA          read: a byte for the processor; write: to the keyboard, or a command's argument
    0x0064     R  STATUS        output full 0, input full 1, system 2, command 3, unlocked 4, from mouse 5
    0x0064     W  COMMAND       0x20/0x60 read/write config, 0xaa self-test, 0xab test, 0xad/0xae off/on, ...

    command                          answer at 0x60
    0x20 read configuration          the byte: interrupt on key 0, mouse 1, system 2, keyboard off 4, mouse off 5, XT 6
    0x60 write configuration         (argument at 0x60)
    0xa7/0xa8 mouse off/on           -
    0xa9 test mouse                  0x00
    0xaa self-test                   0x55
    0xab test keyboard               0x00
    0xad/0xae keyboard off/on        -
    0xc0 read input port             0x80
    0xd0/0xd1 read/write output port the byte: not reset 0, A20 1  /  (argument at 0x60)
    0xd2/0xd3 echo as keyboard/mouse the argument
    0xd4 write to mouse              (argument at 0x60), then 0xfe: nothing there
    0xf0-0xff pulse output bits      0xfe pulses bit 0: reset
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.devices.registers import Register, copied
from vilab.protocols import InterruptLine

_8042 = "IBM PC AT technical reference, keyboard controller"

REGISTERS = (
    Register(
        0x60, "RW", "DATA", "read: a byte for the processor; write: to the keyboard, or a command's argument", _8042
    ),
    Register(0x64, "R", "STATUS", "output full 0, input full 1, system 2, command 3, unlocked 4, from mouse 5", _8042),
    Register(
        0x64, "W", "COMMAND", "0x20/0x60 read/write config, 0xaa self-test, 0xab test, 0xad/0xae off/on, ...", _8042
    ),
)

STATUS_OUTPUT_FULL = 0b0000_0001
STATUS_SYSTEM = 0b0000_0100
STATUS_COMMAND = 0b0000_1000
STATUS_UNLOCKED = 0b0001_0000
STATUS_MOUSE = 0b0010_0000
CONFIG_IRQ1 = 0b0000_0001
CONFIG_SYSTEM = 0b0000_0100
CONFIG_KEYBOARD_OFF = 0b0001_0000
CONFIG_MOUSE_OFF = 0b0010_0000
OUTPUT_NOT_RESET = 0b0000_0001
OUTPUT_A20 = 0b0000_0010
SELF_TEST_PASSED = 0x55
INPUT_PORT = 0b1000_0000
COMMANDS_WITH_ARGUMENT = frozenset({0x60, 0xD1, 0xD2, 0xD3, 0xD4})

ACK, RESEND, BAT_PASSED, ECHO = 0xFA, 0xFE, 0xAA, 0xEE
KEYBOARD_ID = (0xAB, 0x83)
KEYBOARD_COMMANDS_WITH_ARGUMENT = frozenset({0xED, 0xF0, 0xF3})


class KeyboardState(msgspec.Struct):
    """``output`` : bytes on their way to the processor, each with 1 in ``from_mouse`` if it is the mouse's.

    command : the controller command whose argument comes next; key_command : the same for the keyboard itself.
    """

    config: int = CONFIG_SYSTEM | CONFIG_MOUSE_OFF
    output_port: int = OUTPUT_NOT_RESET | OUTPUT_A20
    command: int | None = None
    key_command: int | None = None
    last_was_command: bool = False
    output: bytearray = msgspec.field(default_factory=bytearray)
    from_mouse: bytearray = msgspec.field(default_factory=bytearray)


class Keyboard:
    """The controller.

    Parameters
    ----------
    irq : IRQ 1. reset : called when the guest asks the controller to reset the machine.

    MODEL: answers are there at once and queue up; the chip holds one byte at a time.
    """

    ports = (0x60, 0x64)

    def __init__(self, irq: InterruptLine, reset: Callable[[], None]) -> None:
        self._irq = irq
        self._reset = reset
        self._state = KeyboardState()

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        s = self._state
        if port == 0x64:
            value = STATUS_UNLOCKED | s.config & STATUS_SYSTEM
            if s.last_was_command:
                value |= STATUS_COMMAND
            if s.output:
                value |= STATUS_OUTPUT_FULL | (STATUS_MOUSE if s.from_mouse[0] else 0)
            return value
        if not s.output:
            return 0
        value = s.output.pop(0)
        s.from_mouse.pop(0)
        self._irq.set_level(False)
        self._drive()
        return value

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        s = self._state
        s.last_was_command = port == 0x64
        if port == 0x64:
            self._command(value)
        elif s.command is not None:
            command, s.command = s.command, None
            self._argument(command, value)
        else:
            s.config &= ~CONFIG_KEYBOARD_OFF  # writing to the keyboard switches it on
            self._to_keyboard(value)
        self._drive()

    def _command(self, value: int) -> None:
        s = self._state
        s.command = value if value in COMMANDS_WITH_ARGUMENT else None
        if value == 0x20:
            self._answer(s.config)
        elif value == 0xA7:
            s.config |= CONFIG_MOUSE_OFF
        elif value == 0xA8:
            s.config &= ~CONFIG_MOUSE_OFF
        elif value in (0xA9, 0xAB):
            self._answer(0)
        elif value == 0xAA:
            s.config |= CONFIG_SYSTEM
            self._answer(SELF_TEST_PASSED)
        elif value == 0xAD:
            s.config |= CONFIG_KEYBOARD_OFF
        elif value == 0xAE:
            s.config &= ~CONFIG_KEYBOARD_OFF
        elif value == 0xC0:
            self._answer(INPUT_PORT)
        elif value == 0xD0:
            self._answer(s.output_port)
        elif value >= 0xF0 and not value & OUTPUT_NOT_RESET:
            self._reset()

    def _argument(self, command: int, value: int) -> None:
        s = self._state
        if command == 0x60:
            s.config = value
        elif command == 0xD1:
            s.output_port = value
            if not value & OUTPUT_NOT_RESET:
                self._reset()
        elif command == 0xD2:
            self._answer(value)
        elif command == 0xD3:
            self._answer(value, mouse=True)
        else:
            self._answer(RESEND, mouse=True)

    def _to_keyboard(self, value: int) -> None:
        s = self._state
        if s.key_command is not None:
            command, s.key_command = s.key_command, None
            self._answer(ACK)
            if command == 0xF0 and value == 0:
                self._answer(2)  # scan code set 2
            return
        if value == 0xEE:
            self._answer(ECHO)
            return
        self._answer(ACK)
        if value == 0xFF:
            self._answer(BAT_PASSED)
        elif value == 0xF2:
            for byte in KEYBOARD_ID:
                self._answer(byte)
        elif value in KEYBOARD_COMMANDS_WITH_ARGUMENT:
            s.key_command = value

    def _answer(self, value: int, mouse: bool = False) -> None:
        self._state.output.append(value)
        self._state.from_mouse.append(mouse)

    def _drive(self) -> None:
        """IRQ 1 is high while a byte of the keyboard's waits and its interrupt is on."""
        s = self._state
        self._irq.set_level(bool(s.output and not s.from_mouse[0] and s.config & CONFIG_IRQ1))

    def save_state(self) -> KeyboardState:
        return copied(self._state)

    def load_state(self, state: KeyboardState) -> None:
        self._state = copied(state)
