"""Passing over code that stays as it is, while it is discovered: in machine code where there is some.

Most of a kernel is instructions whose length a table knows, and direct jumps in their usual form. ``PassOver`` goes
from one to the next, notes marks and jumps, and stops where the decoder has to be asked (``mirror_discovery``).
Without native code it stops at jumps, too; the decoder's answer is the same.
"""

from __future__ import annotations

from vilab.machine import native_scan
from vilab.vmm.mirror import INSIDE, START
from vilab.x86.decode import MAX_BYTES
from vilab.x86.scan import NO_BASE, length_tables

PLAIN_SEGMENTS = frozenset((0x26, 0x36, 0x3E, 0x64, 0x65))
"""Overrides that change neither length nor kind of what follows them."""
MARKS = tuple(bytes((START, *(INSIDE,) * (size - 1))) if size else b"" for size in range(MAX_BYTES + 1))


class PassOver:
    """For one engine.

    ``marks``: of the piece that is being discovered, from its first byte on. ``count``: instructions passed over by the
    last call. ``ended``: behind the last of them nothing comes.

    Parameters
    ----------
    native : False does it in Python.
    """

    def __init__(self, native: bool = True) -> None:
        self.marks = bytearray(native_scan.MOST_BYTES + MAX_BYTES)
        self._cells = memoryview(bytearray(8 * native_scan.CELLS)).cast("q")
        self.count = 0
        self.ended = False
        self._one, self._two = length_tables()
        self._scan = native_scan.compile_scan(self._one, self._two, self.marks, self._cells) if native else None

    def __call__(self, code: bytes, at: int, gap: int, jumps: list[int]) -> int:
        """From ``at`` on, up to ``gap`` at most; where it stopped. What jumps lead to is relative to the code."""
        last = min(gap, len(code) - MAX_BYTES)
        if self._scan is None:
            return self._in_python(code, at, last, gap)
        cells = self._cells
        at = self._scan(code, at, last, gap)
        self.count = cells[native_scan.COUNT]
        self.ended = bool(cells[native_scan.ENDED])
        found = cells[native_scan.JUMPS]
        if found:
            jumps += cells[native_scan.FIRST : native_scan.FIRST + found].tolist()
        return at

    def _in_python(self, code: bytes, at: int, last: int, gap: int) -> int:
        one, two, marks = self._one, self._two, self.marks
        self.count = 0
        while at < last:
            here = at
            first = code[at]
            if first in PLAIN_SEGMENTS:
                here += 1
                first = code[here]
            if first == 0x0F:
                size = two[code[here + 1] << 8 | code[here + 2]]
                if size > NO_BASE:
                    size -= NO_BASE - 4 if code[here + 3] & 7 == 5 else NO_BASE
            else:
                size = one[first << 8 | code[here + 1]]
                if size > NO_BASE:
                    size -= NO_BASE - 4 if code[here + 2] & 7 == 5 else NO_BASE
            end = here + size
            if not size or end > gap or end - at > MAX_BYTES:
                return at
            marks[at:end] = MARKS[end - at]
            self.count += 1
            at = end
        return at
