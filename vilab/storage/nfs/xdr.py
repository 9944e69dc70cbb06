"""XDR: numbers big-endian, everything padded to four bytes.

::

    uint32   | 00 00 00 2a |
    opaque<> | 00 00 00 05 | 'h' 'e' 'l' 'l' | 'o' 00 00 00 |      length, bytes, zeros to the next four
    opaque[] |               'h' 'e' 'l' 'l' | 'o' 00 00 00 |      a length that both sides know

Source: RFC 4506.
"""

from __future__ import annotations

import struct

from vilab.protocols import ReadableBytes
from vilab.storage.nfs.errors import NfsError


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def opaque(data: ReadableBytes) -> bytes:
    """Variable length."""
    size = memoryview(data).nbytes
    return b"".join((struct.pack(">I", size), data, bytes(-size % 4)))


def string(text: str) -> bytes:
    """A name: UTF-8, as every server of today has it; bytes that are not survive as they are."""
    return opaque(text.encode("utf-8", "surrogateescape"))


class XdrReader:
    """Takes values off the front. Never reads past the end: ``NfsError`` instead."""

    def __init__(self, data: ReadableBytes) -> None:
        self.data = memoryview(data).cast("B")
        self.at = 0

    @property
    def left_bytes(self) -> int:
        return len(self.data) - self.at

    def fixed(self, size_bytes: int) -> bytes:
        end = self.at + size_bytes + (-size_bytes % 4)
        if end > len(self.data):
            raise NfsError(
                "protocol",
                f"A message of the file server is damaged: {size_bytes} bytes promised, {self.left_bytes} left.",
            )
        piece = bytes(self.data[self.at : self.at + size_bytes])
        self.at = end
        return piece

    def u32(self) -> int:
        return int.from_bytes(self.fixed(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.fixed(8), "big")

    def flag(self) -> bool:
        value = self.u32()
        if value > 1:
            raise NfsError("protocol", f"A message of the file server is damaged: {value} is neither true nor false.")
        return value == 1

    def opaque(self, most_bytes: int) -> bytes:
        size = self.u32()
        if size > most_bytes:
            raise NfsError(
                "protocol",
                f"A message of the file server is damaged: {size} bytes where there can be {most_bytes} at most.",
            )
        return self.fixed(size)

    def string(self, most_bytes: int = 1024) -> str:
        return self.opaque(most_bytes).decode("utf-8", "surrogateescape")
