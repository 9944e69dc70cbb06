"""Multiboot kernels: a header in the first 8 KB says how to load, a structure in memory says what was loaded.

::

    header, 4-byte aligned             information, EBX points at it
    0   magic     1badb002             0   flags: which of the following are filled in
    4   flags                          4   mem_lower, mem_upper in KB            bit 0
    8   checksum, sum of three = 0     16  cmdline                               bit 2
    with flag 16, instead of ELF:      20  mods_count, mods_addr                 bit 3
    12  header_addr                    44  mmap_length, mmap_addr                bit 6
    16  load_addr                      64  boot_loader_name                      bit 9
    20  load_end_addr  (0: whole file)
    24  bss_end_addr   (0: none)       at entry: EAX = 2badb002, flat segments, paging off, interrupts off
    28  entry_addr

Source: Multiboot Specification 0.6.96, sections 3.1 to 3.3.
"""

from __future__ import annotations

import struct

from vilab.errors import AdminError
from vilab.guests import elf
from vilab.guests.image import LoadedImage, flat_gdt
from vilab.guests.layout import HIGH_FIRST, LOW_END, Layout, memory_map
from vilab.guests.reader import Reader

SEARCH_BYTES = 8192
HEADER_MAGIC = 0x1BADB002
LOADER_MAGIC = 0x2BADB002
FLAG_PAGE_ALIGN, FLAG_MEMORY, FLAG_VIDEO, FLAG_ADDRESSES = 1 << 0, 1 << 1, 1 << 2, 1 << 16
REQUIRED_FLAGS = 0xFFFF  # a loader that does not know one of these must refuse
KNOWN_FLAGS = FLAG_PAGE_ALIGN | FLAG_MEMORY | FLAG_VIDEO  # video may be left unanswered: info flag 11 stays 0

INFO_MEMORY, INFO_COMMAND_LINE, INFO_MODULES, INFO_MAP, INFO_LOADER = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9
INFO_BYTES = 116
CODE_SELECTOR, DATA_SELECTOR = 0x08, 0x10


def find_header(data: bytes) -> int | None:
    """The header's offset in the file; ``None`` if this is not a Multiboot kernel."""
    for offset in range(0, min(SEARCH_BYTES, len(data)) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", data, offset)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & 0xFFFFFFFF == 0:
            return offset
    return None


def load(reader: Reader, layout: Layout, command_line: str, module: bytes | None) -> LoadedImage:
    """Loads the kernel in ``reader``, which ``find_header`` has recognised.

    ``module`` becomes the only boot module. Raises ``AdminError``.
    """
    header = find_header(reader.data)
    if header is None:
        raise AdminError(f"{reader.name} has no Multiboot header in its first 8 KB.")
    (flags,) = reader.unpack("I", header + 4, "its Multiboot header")
    unknown = flags & REQUIRED_FLAGS & ~KNOWN_FLAGS
    if unknown:
        raise AdminError(
            f"{reader.name} cannot be loaded: its Multiboot header requires features {unknown:#x}, "
            "which this loader does not have."
        )
    if flags & FLAG_ADDRESSES:
        entry = _load_by_addresses(reader, layout, header)
    elif reader.data.startswith(elf.MAGIC):
        entry = elf.load_segments(reader, layout)
    else:
        raise AdminError(
            f"{reader.name} cannot be loaded: its Multiboot header has no addresses and it is no ELF file."
        )

    information = _put_information(layout, command_line, module)
    gdt = flat_gdt(CODE_SELECTOR)
    return LoadedImage(
        name=reader.name,
        kind="multiboot",
        built_for=elf.built_for(reader),
        gdt_base=layout.put(gdt),
        gdt_limit=len(gdt) - 1,
        cs=CODE_SELECTOR,
        ds=DATA_SELECTOR,
        entry=entry,
        gpr={"eax": LOADER_MAGIC, "ebx": information},
        esp=layout.put_stack(),
        segments=tuple(layout.segments),
        zeroed=tuple(layout.zeroed),
    )


def _load_by_addresses(reader: Reader, layout: Layout, header: int) -> int:
    """Flag 16: the header, not ELF, says what goes where (made for a.out kernels)."""
    at, load, load_end, bss_end, entry = reader.unpack("5I", header + 12, "its Multiboot header")
    start = header - (at - load)
    if load > at or start < 0:
        raise AdminError(f"{reader.name} is damaged: its Multiboot header lies outside what it says is to be loaded.")
    size = load_end - load if load_end else len(reader.data) - start
    data = reader.take(start, size, "what its Multiboot header loads")
    memory_size = max(bss_end - load, size) if bss_end else size
    if not load <= entry < load + size:
        raise AdminError(f"{reader.name} is damaged: its entry point {entry:#x} is outside what is loaded.")
    layout.add(load, data, memory_size)
    return entry


def _put_information(layout: Layout, command_line: str, module: bytes | None) -> int:
    """Writes the information structure and what it points at; returns its address."""
    flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MAP | INFO_LOADER
    command_at = layout.put(command_line.encode() + b"\0")
    loader_at = layout.put(b"vilab\0")
    entries = b"".join(struct.pack("<IQQI", 20, *each) for each in memory_map(layout.memory_bytes))
    map_at = layout.put(entries)
    modules_count = modules_at = 0
    if module is not None:
        flags |= INFO_MODULES
        module_at = layout.place_high(len(module))
        layout.add(module_at, module)
        modules_count = 1
        modules_at = layout.put(struct.pack("<4I", module_at, module_at + len(module), command_at, 0))
    information = bytearray(INFO_BYTES)
    upper_kb = max(layout.memory_bytes - HIGH_FIRST, 0) // 1024
    struct.pack_into("<III", information, 0, flags, LOW_END // 1024, upper_kb)
    struct.pack_into("<III", information, 16, command_at, modules_count, modules_at)
    struct.pack_into("<II", information, 44, len(entries), map_at)
    struct.pack_into("<I", information, 64, loader_at)
    return layout.put(bytes(information))
