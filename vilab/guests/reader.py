"""Reading fields out of a file that may be damaged."""

from __future__ import annotations

import struct

from vilab.errors import AdminError


class Reader:
    """A file's bytes. Every access is checked; what lies outside is one sentence, not a traceback."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name

    def unpack(self, layout: str, offset: int, what: str) -> tuple[int, ...]:
        """Little-endian fields by ``struct`` letters. ``AdminError`` if the file ends before them."""
        needed = struct.calcsize("<" + layout)
        if offset < 0 or offset + needed > len(self.data):
            raise self.truncated(what, offset + needed)
        return struct.unpack_from("<" + layout, self.data, offset)

    def take(self, offset: int, size: int, what: str) -> bytes:
        """``size`` bytes from ``offset``. ``AdminError`` if the file is shorter."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise self.truncated(what, offset + size)
        return self.data[offset : offset + size]

    def truncated(self, what: str, needed: int) -> AdminError:
        return AdminError(
            f"{self.name} is truncated or damaged: {what} would end at byte {needed}, the file has "
            f"{len(self.data)}; get a fresh copy of it."
        )
