"""The serial line of a machine that moves between processes: what was written goes along, who reads asks again there.

::

    esx1   Line: "... login: web# "  ──with the state──>  esx2   Line: "... login: web# "  and what comes now
"""

from __future__ import annotations

import msgspec

from vilab.vmm.vm import QuietConsole

MOST_KEPT_BYTES = 1 << 18
MOST_TYPED_BYTES = 1 << 20
"""More cannot wait for a guest: it all goes along in one message."""


class LineState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``output``: the last that was said, of ``total_bytes`` in all. ``typed``: and not read yet."""

    output: bytes
    total_bytes: int
    typed: bytes


class Line(QuietConsole):
    """A console that keeps the last 256 KB of what the guest says, and can go along with it."""

    def __init__(self) -> None:
        super().__init__()
        self._before = 0
        """Said, and not kept."""

    @property
    def total_bytes(self) -> int:
        return self._before + len(self.output)

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.output) > 2 * MOST_KEPT_BYTES:
            gone = len(self.output) - MOST_KEPT_BYTES
            del self.output[:gone]
            self._before += gone

    def type_bytes(self, data: bytes) -> None:
        """Somebody types, and does not say that it is a line."""
        self._typed += data

    @property
    def typed_bytes(self) -> int:
        """So much the guest has not taken yet."""
        return len(self._typed)

    @property
    def is_typed(self) -> bool:
        """There is something that the guest has not taken yet."""
        return bool(self._typed)

    def after(self, count: int) -> bytes:
        """What was said after so many bytes, as far as it is kept."""
        return bytes(self.output[max(0, count - self._before) :])

    def save_state(self) -> LineState:
        return LineState(bytes(self.output[-MOST_KEPT_BYTES:]), self.total_bytes, self._typed)

    def load_state(self, state: LineState) -> None:
        self.output = bytearray(state.output)
        self._before = max(0, state.total_bytes - len(state.output))
        self._typed = state.typed
