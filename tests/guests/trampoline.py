"""Puts a ``LoadedImage`` into QEMU exactly as a loader left it: nothing of QEMU's own loading is used.

::

    TRAMPOLINE  Multiboot header with addresses | code | table | the image's bytes
                                                   |
       copies every segment, clears what is zeroed <- table: (gpa, source, bytes to copy, bytes to clear)
       loads the image's GDT and registers, and jumps to its entry
"""

from __future__ import annotations

import struct

from tests.guests import forge
from vilab.guests import LoadedImage

BASE = 0x0300_0000  # above every image that is tested, inside 64 MB
REGISTER_NUMBERS = {"eax": 0, "ecx": 1, "edx": 2, "ebx": 3, "ebp": 5, "esi": 6, "edi": 7}


def build(image: LoadedImage) -> bytes:
    """A Multiboot file that ends in the image's first state."""
    assert image.end_bytes() <= BASE
    rows = [(gpa, data, 0) for gpa, data in image.segments] + [(gpa, b"", size) for gpa, size in image.zeroed]
    code_at = BASE + 32
    table_at = code_at + len(_code(image, len(rows), 0, 0))
    gdtr_at = table_at + 16 * len(rows)
    source = gdtr_at + 6
    table, body = b"", b""
    for gpa, data, zero_bytes in rows:
        table += struct.pack("<4I", gpa, source + len(body), len(data), zero_bytes)
        body += data
    gdtr = struct.pack("<HI", image.gdt_limit, image.gdt_base)
    return forge.kludge(_code(image, len(rows), table_at, gdtr_at) + table + gdtr + body, load=BASE)


def _code(image: LoadedImage, rows: int, table_at: int, gdtr_at: int) -> bytes:
    gpr = dict.fromkeys(REGISTER_NUMBERS, 0) | image.gpr
    return b"".join(
        [
            b"\xba" + struct.pack("<I", rows),  # mov edx, rows
            b"\xbd" + struct.pack("<I", table_at),  # mov ebp, table
            bytes.fromhex("8b7d00 8b7504 8b4d08 f3a4"),  # mov edi/esi/ecx, [ebp + 0/4/8]; rep movsb
            bytes.fromhex("8b4d0c 31c0 f3aa"),  # mov ecx, [ebp + 12]; xor eax, eax; rep stosb
            bytes.fromhex("83c510 4a 75e8"),  # add ebp, 16; dec edx; jnz to the first mov of the loop
            b"\x0f\x01\x15" + struct.pack("<I", gdtr_at),  # lgdt
            b"\xb8" + struct.pack("<I", image.ds),  # mov eax, ds
            bytes.fromhex("8ed8 8ec0 8ed0 8ee0 8ee8"),  # mov ds/es/ss/fs/gs, eax
            b"\xbc" + struct.pack("<I", image.esp),  # mov esp
            *(bytes([0xB8 + REGISTER_NUMBERS[name]]) + struct.pack("<I", value) for name, value in gpr.items()),
            b"\xea" + struct.pack("<IH", image.entry, image.cs),  # jmp cs:entry
        ]
    )
