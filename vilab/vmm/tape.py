"""What came in over the serial line, kept so that a run that goes back hears it again.

::

    reads    | b"" | b"" | "ls\n" | b"" | ...        one entry each time the guest was idle and somebody looked
                ^ at: the next one to be answered from here; at the end, the console is asked

Output goes the other way once: what has been shown is not shown again when the run passes there a second time.
"""

from __future__ import annotations

from vilab.protocols import Console


class Tape:
    """A console between the machine and the real one. It passes everything on; after ``record`` it keeps it too."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._recording = False
        self._reads: list[bytes] = []
        self._at = self._written = self._shown = 0

    def record(self) -> None:
        """From now on the run can be taken back."""
        self._recording = True

    @property
    def position(self) -> tuple[int, int]:
        """How often input was asked for, and how many bytes were written, since ``record``."""
        return self._at, self._written

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        self._at, self._written = position

    def write(self, data: bytes) -> None:
        if not self._recording:
            self._console.write(data)
            return
        new = data[max(0, self._shown - self._written) :]
        self._written += len(data)
        self._shown = max(self._shown, self._written)
        if new:
            self._console.write(new)

    def read_available(self) -> bytes:
        if not self._recording:
            return self._console.read_available()
        if self._at == len(self._reads):
            self._reads.append(self._console.read_available())
        self._at += 1
        return self._reads[self._at - 1]
