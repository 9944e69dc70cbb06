"""Linux's bzImage, entered by its 32-bit boot protocol (memtest86+ is one, too).

::

    file     +--------------+-------------------------------------------------+
             | setup, 16-bit| protected-mode part -> 0x100000, entry is there |
             +--------------+-------------------------------------------------+
              setup header at 0x1f1          ^ payload_offset: the kernel as a compressed ELF file

    offset in the file and in the zero page     field
    0x1f1   1   setup_sects (0 means 4)         0x210   1   type_of_loader, 0xff: unknown
    0x1fe   2   0xaa55                          0x218   4   ramdisk_image    0x21c  4  ramdisk_size
    0x202   4   "HdrS"                          0x228   4   cmd_line_ptr     0x22c  4  initrd_addr_max
    0x206   2   version                         0x248   4   payload_offset   0x24c  4  payload_length
    0x1e8   1   e820 entries (zero page only)   0x260   4   init_size        0x2d0  20 each: e820 table

    at entry: ESI = zero page, CS = 0x10, DS = ES = SS = 0x18, EBP = EDI = EBX = 0, paging and interrupts off

If the payload is a 32-bit ELF file under xz or gzip, it is unpacked here and entered directly: that saves two billion
instructions of decompressor. Any other payload unpacks itself.

Source: Documentation/arch/x86/boot.rst and zero-page.rst of Linux 6.1.
"""

from __future__ import annotations

import lzma
import struct
import zlib

from vilab.errors import AdminError
from vilab.guests import elf
from vilab.guests.image import LoadedImage, flat_gdt
from vilab.guests.layout import HIGH_FIRST, PAGE, Layout, memory_map
from vilab.guests.reader import Reader

MAGIC_AT, MAGIC = 0x202, b"HdrS"
SECTOR_BYTES = 512
HEADER_FIRST, HEADER_LAST = 0x1F1, 0x270
VERSION_32_BIT_ENTRY = 0x0200
ZERO_PAGE = 0x9_0000
GDT = 0x9_1000
COMMAND_LINE = 0x9_2000
COMMAND_LINE_MOST = 2048
STACK_TOP = 0x9_0000
CODE_SELECTOR, DATA_SELECTOR = 0x10, 0x18
INITRD_MOST_DEFAULT = 0x37FF_FFFF
UNPACKED_MOST_BYTES = 256 << 20


def is_bzimage(data: bytes) -> bool:
    return data[MAGIC_AT : MAGIC_AT + 4] == MAGIC and data[0x1FE:0x200] == b"\x55\xaa"


def load(reader: Reader, layout: Layout, command_line: str, initrd: bytes | None) -> LoadedImage:
    """Loads a bzImage for its 32-bit entry. Raises ``AdminError``."""
    (version,) = reader.unpack("H", 0x206, "its setup header")
    (load_flags,) = reader.unpack("B", 0x211, "its setup header")
    if version < VERSION_32_BIT_ENTRY or not load_flags & 1:
        raise AdminError(f"{reader.name} cannot be loaded: it is a zImage for low memory; a bzImage is needed.")
    if len(command_line.encode()) >= COMMAND_LINE_MOST:
        raise AdminError(f"{reader.name} cannot be loaded: its command line is longer than {COMMAND_LINE_MOST} bytes.")
    (sectors,) = reader.unpack("B", HEADER_FIRST, "its setup header")
    setup_bytes = ((sectors or 4) + 1) * SECTOR_BYTES
    body = reader.take(setup_bytes, len(reader.data) - setup_bytes, "its setup part")
    if not body:
        raise reader.truncated("its protected-mode part", setup_bytes + 1)

    kernel = _unpack_payload(reader, body)
    if kernel is not None:
        entry = elf.load_segments(Reader(kernel, f"the kernel inside {reader.name}"), layout)
    else:
        (init_bytes,) = reader.unpack("I", 0x260, "its setup header") if version >= 0x020A else (0,)
        layout.add(HIGH_FIRST, body, max(len(body), init_bytes))
        entry = HIGH_FIRST

    layout.add(ZERO_PAGE, _zero_page(reader, layout, initrd))
    layout.add(COMMAND_LINE, command_line.encode() + b"\0")
    gdt = flat_gdt(CODE_SELECTOR)
    layout.add(GDT, gdt)
    return LoadedImage(
        name=reader.name,
        kind="linux",
        segments=tuple(layout.segments),
        zeroed=tuple(layout.zeroed),
        entry=entry,
        gpr={"esi": ZERO_PAGE},
        esp=STACK_TOP,
        gdt_base=GDT,
        gdt_limit=len(gdt) - 1,
        cs=CODE_SELECTOR,
        ds=DATA_SELECTOR,
    )


def _unpack_payload(reader: Reader, body: bytes) -> bytes | None:
    """The kernel proper as an ELF file; ``None`` if it has to unpack itself."""
    (version,) = reader.unpack("H", 0x206, "its setup header")
    if version < 0x0208:
        return None
    offset, length = reader.unpack("II", 0x248, "its setup header")
    if length == 0:
        return None
    if offset + length > len(body):
        raise reader.truncated("its payload", len(reader.data) - len(body) + offset + length)
    payload = body[offset : offset + length]
    try:
        if payload.startswith(b"\xfd7zXZ\0"):
            kernel = lzma.LZMADecompressor().decompress(payload, UNPACKED_MOST_BYTES)
        elif payload.startswith(b"\x1f\x8b"):
            kernel = zlib.decompressobj(wbits=31).decompress(payload, UNPACKED_MOST_BYTES)
        else:
            return None
    except (lzma.LZMAError, zlib.error) as error:
        raise AdminError(f"{reader.name} is damaged: its compressed kernel does not unpack ({error}).") from None
    return kernel if kernel.startswith(elf.MAGIC) else None


def _zero_page(reader: Reader, layout: Layout, initrd: bytes | None) -> bytes:
    """The boot parameters; puts the initial RAM disk at the top of memory."""
    page = bytearray(PAGE)
    header = reader.take(HEADER_FIRST, HEADER_LAST - HEADER_FIRST, "its setup header")
    page[HEADER_FIRST:HEADER_LAST] = header
    page[0x210] = 0xFF
    if initrd is not None:
        gpa = _initrd_address(reader, layout, len(initrd))
        layout.add(gpa, initrd)
        struct.pack_into("<II", page, 0x218, gpa, len(initrd))
    struct.pack_into("<I", page, 0x228, COMMAND_LINE)
    entries = memory_map(layout.memory_bytes)
    page[0x1E8] = len(entries)
    for index, entry in enumerate(entries):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * index, *entry)
    return bytes(page)


def _initrd_address(reader: Reader, layout: Layout, size: int) -> int:
    """As high as memory and the kernel allow, on a page boundary, clear of the kernel."""
    (version,) = reader.unpack("H", 0x206, "its setup header")
    (most,) = reader.unpack("I", 0x22C, "its setup header") if version >= 0x0203 else (INITRD_MOST_DEFAULT,)
    gpa = (min(layout.memory_bytes, most + 1) - size) & ~(PAGE - 1)
    if gpa < layout.place_high(0):
        raise layout.too_small(layout.place_high(0) + size + PAGE)
    return gpa
