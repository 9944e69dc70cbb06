"""ELF executables for 32-bit x86, loaded by physical address.

::

    offset   ELF header                      offset   program header (e_phnum of them at e_phoff)
    0        7f 45 4c 46                     0        p_type      1 = load, 4 = note
    4        class  1 = 32-bit               4        p_offset    in the file
    5        data   1 = little endian        8        p_vaddr     where it is linked to run
    16       e_type  2 = executable          12       p_paddr     where it is to be loaded
    18       e_machine  3 = 80386            16       p_filesz
    24       e_entry                         20       p_memsz     the rest is zero
    28       e_phoff                         24       p_flags
    42       e_phentsize, e_phnum            28       p_align

A note says what a paravirtual kernel is: name ``vilab``, type 1 (kernel/para.c has it).

Source: Tool Interface Standard, ELF specification 1.2, figures 1-3, 2-1 and 2-3.
"""

from __future__ import annotations

import struct

from vilab.errors import AdminError
from vilab.guests.layout import Layout
from vilab.guests.reader import Reader

MAGIC = b"\x7fELF"
CLASS_32, LITTLE_ENDIAN = 1, 1
TYPE_EXECUTABLE = 2
MACHINE_386 = 3
SEGMENT_LOAD, SEGMENT_NOTE = 1, 4
HEADER_BYTES, PROGRAM_HEADER_BYTES = 52, 32
HYPERCALL_NOTE = struct.pack("<3I", 6, 4, 1) + b"vilab\0"

MACHINES = {2: "SPARC", 8: "MIPS", 20: "PowerPC", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
TYPES = {1: "an object file that still has to be linked", 3: "a shared object or a position-independent program"}


def check(reader: Reader) -> None:
    """``AdminError`` unless the header says: an executable for a 32-bit x86."""
    ident = reader.take(0, 16, "its ELF header")
    if ident[4] != CLASS_32:
        raise AdminError(
            f"{reader.name} cannot be loaded: it is a 64-bit ELF file and the processor here is a 32-bit x86; "
            "build it with -m32."
        )
    if ident[5] != LITTLE_ENDIAN:
        raise AdminError(f"{reader.name} cannot be loaded: it is a big-endian ELF file, so it is not for an x86.")
    kind, machine = reader.unpack("HH", 16, "its ELF header")
    if machine != MACHINE_386:
        raise AdminError(
            f"{reader.name} cannot be loaded: it is an ELF file for {MACHINES.get(machine, f'machine {machine}')}, "
            "the processor here is a 32-bit x86."
        )
    if kind != TYPE_EXECUTABLE:
        raise AdminError(
            f"{reader.name} cannot be loaded: it is {TYPES.get(kind, f'an ELF file of type {kind}')}, "
            "not an executable with fixed addresses."
        )


def load_segments(reader: Reader, layout: Layout) -> int:
    """Adds every PT_LOAD at its p_paddr and returns the entry point as a physical address."""
    check(reader)
    entry, table = reader.unpack("II", 24, "its ELF header")
    entry_bytes, count = reader.unpack("HH", 42, "its ELF header")
    if count and entry_bytes < PROGRAM_HEADER_BYTES:
        raise AdminError(f"{reader.name} is damaged: its program headers have {entry_bytes} bytes instead of 32.")
    loads: list[tuple[int, int, int]] = []
    for index in range(count):
        at = table + index * entry_bytes
        kind, offset, gva, gpa, file_bytes, memory_bytes = reader.unpack("6I", at, f"program header {index}")
        if kind != SEGMENT_LOAD or memory_bytes == 0:
            continue
        if file_bytes > memory_bytes:
            raise AdminError(
                f"{reader.name} is damaged: segment {index} has {file_bytes} bytes in the file and room for "
                f"{memory_bytes}."
            )
        layout.add(gpa, reader.take(offset, file_bytes, f"segment {index}"), memory_bytes, gva)
        loads.append((gva, gpa, memory_bytes))
    if not loads:
        raise AdminError(f"{reader.name} cannot be loaded: no part of this ELF file is to be loaded (no PT_LOAD).")
    return physical_entry(entry, loads, reader.name)


def built_for(reader: Reader) -> tuple[str, ...]:
    """``hypercalls`` where a note says so, else ``machine``. A damaged note says nothing."""
    data = reader.data
    if not data.startswith(MAGIC) or len(data) < HEADER_BYTES:
        return ("machine",)
    (table,) = reader.unpack("I", 28, "its ELF header")
    entry_bytes, count = reader.unpack("HH", 42, "its ELF header")
    for at in range(table, table + entry_bytes * count, max(entry_bytes, 1)):
        kind, offset, _, _, size = struct.unpack_from("<5I", data, at) if at + 20 <= len(data) else (0,) * 5
        if kind == SEGMENT_NOTE and data[offset : offset + size].startswith(HYPERCALL_NOTE):
            return ("hypercalls",)
    return ("machine",)


def physical_entry(entry: int, loads: list[tuple[int, int, int]], name: str) -> int:
    """e_entry is physical by custom, but some linkers leave it virtual: then translate it by its segment.

    ``loads`` has (gva, gpa, size in bytes) of each segment.
    """
    for _, gpa, size in loads:
        if gpa <= entry < gpa + size:
            return entry
    for gva, gpa, size in loads:
        if gva <= entry < gva + size:
            return entry - gva + gpa
    raise AdminError(f"{name} is damaged: its entry point {entry:#x} lies in none of its segments.")
