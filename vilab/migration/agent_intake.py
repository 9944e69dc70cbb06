"""Where bytes of a stream are received, and taken out of in pieces whose size is known only when the last one was read.

::

    little ── room() ──> │ staging: 8 KiB │ ── take(size) ──> a copy
    much   ── room() ──> │ a buffer of its own for a piece, and AHEAD_BYTES of the next │ ── take(size) ──> a view of it

A big piece is received where it stays: no copy. Its buffer is used again when nobody has a view of it any more, which
the buffer itself knows: a ``bytearray`` with views refuses to change its size.

Bounded: the staging area, and for each piece in use what ``take`` was asked for; ``SPARE`` buffers are kept.
"""

from __future__ import annotations

from vilab.protocols import ReadableBytes

STAGING_BYTES = 8192
AHEAD_BYTES = 32
"""The next header comes with the last bytes of a big piece, in one call to the socket."""
SPARE = 4
GRAIN_BYTES = 1 << 16


def _unused(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return False
    del buffer[-1:]
    return True


class BufferPool:
    """Buffers that are used again."""

    def __init__(self) -> None:
        self._buffers: list[bytearray] = []

    @property
    def held_bytes(self) -> int:
        return sum(map(len, self._buffers))

    def take(self, size_bytes: int) -> bytearray:
        """At least as long. It is free again when the last view of it has gone."""
        for buffer in self._buffers:
            if len(buffer) >= size_bytes and _unused(buffer):
                return buffer
        buffer = bytearray(-(-size_bytes // GRAIN_BYTES) * GRAIN_BYTES)
        self._buffers = [buffer, *self._buffers[: SPARE - 1]]
        return buffer


class Intake:
    """Bytes in, pieces out. ``take`` asks for the same size again until it has come."""

    def __init__(self) -> None:
        self._staging = memoryview(bytearray(STAGING_BYTES))
        self._start = self._end = 0
        self._pool = BufferPool()
        self._big: memoryview | None = None
        self._big_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Received and not taken."""
        return self._big_bytes if self._big is not None else self._end - self._start

    @property
    def buffer_bytes(self) -> int:
        """Memory that is used for all of it."""
        return STAGING_BYTES + self._pool.held_bytes

    def room(self) -> memoryview:
        """Where the next bytes go: one or more. Valid until the next ``received``."""
        if self._big is not None:
            return self._big[self._big_bytes :]
        if self._start:
            rest = bytes(self._staging[self._start : self._end])
            self._staging[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return self._staging[self._end :]

    def received(self, count: int) -> None:
        if self._big is not None:
            self._big_bytes += count
        else:
            self._end += count

    def peek(self) -> memoryview:
        """What is there, while nothing big is under way."""
        return self._staging[self._start : self._end]

    def partial(self) -> memoryview:
        """What has come of the piece that ``take`` was asked for, if it is a big one; else nothing."""
        return self._staging[:0] if self._big is None else self._big[: self._big_bytes]

    def take(self, size_bytes: int) -> memoryview | None:
        """The next so many bytes; ``None``: they have not all come yet."""
        if self._big is None:
            there = self._end - self._start
            if there >= size_bytes:
                piece: ReadableBytes = bytes(self._staging[self._start : self._start + size_bytes])
                self._start += size_bytes
                return memoryview(piece)
            if size_bytes <= STAGING_BYTES:
                return None
            self._big = memoryview(self._pool.take(size_bytes + AHEAD_BYTES))[: size_bytes + AHEAD_BYTES]
            self._big[:there] = self.peek()
            self._big_bytes, self._start, self._end = there, 0, 0
            return None
        if self._big_bytes < size_bytes:
            return None
        big, ahead = self._big, self._big_bytes - size_bytes
        self._staging[:ahead] = big[size_bytes : size_bytes + ahead]
        self._big, self._big_bytes, self._start, self._end = None, 0, 0, ahead
        return big[:size_bytes]
