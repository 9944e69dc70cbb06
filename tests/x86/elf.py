"""Just enough of ELF to find code in somebody else's file."""

from __future__ import annotations


def text_section(elf: bytes) -> tuple[int, bytes]:
    """(address, bytes) of .text in a 32-bit little-endian ELF file."""

    def number(at: int, size_bytes: int = 4) -> int:
        return int.from_bytes(elf[at : at + size_bytes], "little")

    table, size, count, names = number(32), number(46, 2), number(48, 2), number(50, 2)
    headers = [table + size * index for index in range(count)]
    strings = number(headers[names] + 16)
    for header in headers:
        start = strings + number(header)
        if elf[start : elf.index(b"\0", start)] == b".text":
            offset = number(header + 16)
            return number(header + 12), elf[offset : offset + number(header + 20)]
    raise AssertionError("no .text")
