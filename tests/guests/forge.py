"""Small guest files made on the spot, right unless a test damages them."""

from __future__ import annotations

import lzma
import struct

from vilab.guests import LoadedImage

CODE = b"\xb8\x07\x00\x00\x00\xc3"  # mov eax, 7; ret


def elf(
    segments: list[tuple[int, int, bytes, int]] | None = None,
    entry: int | None = None,
    machine: int = 3,
    kind: int = 2,
    elf_class: int = 1,
    order: int = 1,
) -> bytes:
    """``segments``: (gva, gpa, data, memory size)."""
    if segments is None:
        segments = [(0x200000, 0x200000, CODE, len(CODE))]
    header_bytes = 52 + 32 * len(segments)
    body, table = b"", b""
    for gva, gpa, data, size in segments:
        table += struct.pack("<8I", 1, header_bytes + len(body), gva, gpa, len(data), size, 7, 4)
        body += data
    if entry is None:
        entry = segments[0][1] if segments else 0
    ident = b"\x7fELF" + bytes([elf_class, order, 1]) + bytes(9)
    header = struct.pack("<HHIIIIIHHHHHH", kind, machine, 1, entry, 52, 0, 0, 52, 32, len(segments), 0, 0, 0)
    return ident + header + table + body


def kludge(
    code: bytes,
    load: int = 0x100000,
    bss_bytes: int = 0,
    flags: int = 1 << 16,
    load_end: int | None = None,
    pad: int = 0,
) -> bytes:
    """A Multiboot image with addresses in its header; ``code`` is behind the header and entered at its start."""
    end = load + 32 + len(code)
    fields = [load, load, end if load_end is None else load_end, end + bss_bytes if bss_bytes else 0, load + 32]
    header = struct.pack("<III5I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, *fields)
    return bytes(pad) + header + code


def bzimage(
    body: bytes = CODE, payload: bytes | None = None, version: int = 0x020F, init_bytes: int = 0x10000, sectors: int = 4
) -> bytes:
    """With ``payload`` the body is followed by it, and the setup header says so."""
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x200:0x202] = b"\xeb\x66"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    setup[0x211] = 1
    struct.pack_into("<I", setup, 0x22C, 0x37FFFFFF)
    struct.pack_into("<I", setup, 0x260, init_bytes)
    if payload is not None:
        struct.pack_into("<II", setup, 0x248, len(body), len(payload))
    return bytes(setup) + body + (payload or b"")


def xz_payload(kernel: bytes) -> bytes:
    """As Linux's build makes it: x86 branch filter, CRC32, and the unpacked size behind the stream."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
    packed = lzma.compress(kernel, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)
    return packed + struct.pack("<I", len(kernel))


def memory_of(image: LoadedImage, memory_bytes: int) -> bytearray:
    """Guest memory after loading."""
    memory = bytearray(memory_bytes)
    for gpa, data in image.segments:
        memory[gpa : gpa + len(data)] = data
    return memory
