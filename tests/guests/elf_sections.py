"""Sections of a 32-bit ELF file that hold code, for tests that read it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

EXECUTABLE, HOLDS_BITS = 4, 1


def code(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(address, bytes) of each; without the Multiboot header, and without text at the end, which is no code."""
    (table,) = struct.unpack_from("<I", data, 32)
    entry_bytes, count = struct.unpack_from("<HH", data, 46)
    for index in range(count):
        _, kind, flags, address, offset, size = struct.unpack_from("<6I", data, table + index * entry_bytes)
        if kind != HOLDS_BITS or not flags & EXECUTABLE:
            continue
        section = data[offset : offset + size]
        if section[:4] == b"\x02\xb0\xad\x1b":
            address, section = address + 12, section[12:]
        text = section.find(b"boot: ring \0")
        yield address, section if text < 0 else section[:text]
