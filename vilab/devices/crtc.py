"""The CRT controller of a VGA, as much as a text console needs, and the text on the screen.

::

    0x03b4     RW INDEX_MONO    register for the next access at 0x3b5
    0x03b5     RW DATA_MONO     the register that the index has selected
    0x03ba     R  STATUS_MONO   as 0x3da
    0x03d4     RW INDEX         register for the next access at 0x3d5
    0x03d5     RW DATA          the register that the index has selected
    0x03d5[0a] RW CURSOR_START  bit 5 hides the cursor
    0x03d5[0c] RW START_HIGH    first character shown, high byte; 0x0d: low byte
    0x03d5[0e] RW CURSOR_HIGH   cursor position, high byte; 0x0f: low byte
    0x03da     R  STATUS        no picture now 0, vertical retrace 3

    text memory at 0xb8000:  two bytes a cell, 80 cells a row, 25 rows
      15    14-12       11-8        7-0
    +-----+-----------+-----------+-----------+
    |blink| background| foreground| character |
    +-----+-----------+-----------+-----------+

MODEL: all 25 registers read back whatever was written; nothing is drawn from them but start and cursor.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import VirtualClock
from vilab.devices.registers import Register, copied

_VGA = "IBM PS/2 video subsystem technical reference, VGA registers"

REGISTERS = (
    Register(0x3B4, "RW", "INDEX_MONO", "register for the next access at 0x3b5", _VGA),
    Register(0x3B5, "RW", "DATA_MONO", "the register that the index has selected", _VGA),
    Register(0x3BA, "R", "STATUS_MONO", "as 0x3da", _VGA),
    Register(0x3D4, "RW", "INDEX", "register for the next access at 0x3d5", _VGA),
    Register(0x3D5, "RW", "DATA", "the register that the index has selected", _VGA),
    Register(0x3D5, "RW", "CURSOR_START", "bit 5 hides the cursor", _VGA, 0x0A),
    Register(0x3D5, "RW", "START_HIGH", "first character shown, high byte; 0x0d: low byte", _VGA, 0x0C),
    Register(0x3D5, "RW", "CURSOR_HIGH", "cursor position, high byte; 0x0f: low byte", _VGA, 0x0E),
    Register(0x3DA, "R", "STATUS", "no picture now 0, vertical retrace 3", _VGA),
)

TEXT_BASE = 0xB8000
COLUMNS, ROWS = 80, 25
TEXT_CELLS = 0x8000 // 2
CRTC_REGISTERS = 25
START_HIGH, START_LOW, CURSOR_HIGH, CURSOR_LOW = 0x0C, 0x0D, 0x0E, 0x0F

STATUS_BLANK = 0b0000_0001
STATUS_RETRACE = 0b0000_1000
LINE_NS = 31_778  # 31.469 kHz
LINES, VISIBLE_LINES = 449, 400
VISIBLE_LINE_NS = 25_422


class CrtcState(msgspec.Struct):
    index: int = 0
    registers: bytearray = msgspec.field(default_factory=lambda: bytearray(CRTC_REGISTERS))


class Crtc:
    ports = (0x3B4, 0x3B5, 0x3BA, 0x3D4, 0x3D5, 0x3DA)

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._state = CrtcState()

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        s = self._state
        register = port & 0xF
        if register == 4:
            return s.index
        if register == 5:
            return s.registers[s.index] if s.index < CRTC_REGISTERS else 0xFF
        line, in_line_ns = divmod(self._clock.now_ns, LINE_NS)
        if line % LINES >= VISIBLE_LINES:
            return STATUS_BLANK | STATUS_RETRACE
        return STATUS_BLANK if in_line_ns >= VISIBLE_LINE_NS else 0

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        s = self._state
        register = port & 0xF
        if register == 4:
            s.index = value
        elif register == 5 and s.index < CRTC_REGISTERS:
            s.registers[s.index] = value

    @property
    def start_cell(self) -> int:
        """Which cell of text memory is at the top left."""
        r = self._state.registers
        return r[START_HIGH] << 8 | r[START_LOW]

    @property
    def cursor(self) -> tuple[int, int]:
        """Row and column on the screen."""
        r = self._state.registers
        return divmod(((r[CURSOR_HIGH] << 8 | r[CURSOR_LOW]) - self.start_cell) % TEXT_CELLS, COLUMNS)

    def screen_lines(self, read_gpa: Callable[[int, int], bytes]) -> list[str]:
        """The 25 rows of the screen without their trailing blanks.

        ``read_gpa(gpa, size_bytes)`` reads guest-physical memory. Characters are code page 437.
        """
        text = read_gpa(TEXT_BASE, 2 * TEXT_CELLS)[::2]
        start = self.start_cell
        cells = (text + text)[start % TEXT_CELLS :][: COLUMNS * ROWS].replace(b"\0", b" ").decode("cp437")
        return [cells[row * COLUMNS : (row + 1) * COLUMNS].rstrip() for row in range(ROWS)]

    def save_state(self) -> CrtcState:
        return copied(self._state)

    def load_state(self, state: CrtcState) -> None:
        self._state = copied(state)
