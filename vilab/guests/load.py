"""From a name or a path to an image that can be started: finds out the format and calls its loader.

::

    a bundled name             the kernel with that first program, or an image without a kernel
    flat:PATH                  raw code, whatever it looks like
    PATH                       gzip is unpacked first, then by content:
       Multiboot header        in the first 8 KB, with its checksum right
       7f 45 4c 46             ELF for 32-bit x86, by physical address
       "HdrS" at 0x202         bzImage: Linux, memtest86+
       ea at the reset vector  64, 128 or 256 KB: a BIOS
       55 aa at 510            whole sectors: a boot sector
       suffix .bin or .img     raw code
"""

from __future__ import annotations

import zlib
from pathlib import Path

from vilab.errors import AdminError
from vilab.guests import bios, boot_sector, elf, flat, function, linux, multiboot
from vilab.guests.bundled import BUNDLED, PREBUILT, Bundled
from vilab.guests.image import LoadedImage
from vilab.guests.layout import MEGABYTE, MOST_BYTES, Layout
from vilab.guests.reader import Reader

FLAT_PREFIX = "flat:"
FLAT_SUFFIXES = (".bin", ".img")
FILE_MOST_BYTES = 512 << 20
KERNEL_NEEDS_BYTES = 4 * MEGABYTE  # the teaching kernel with its page tables and a few processes


def load(
    spec: str,
    *,
    memory_bytes: int,
    append: str = "",
    initrd: bytes | None = None,
    reserved: tuple[int, int] | None = None,
    paravirtual: bool = False,
) -> LoadedImage:
    """Loads a guest.

    Parameters
    ----------
    spec : the name of a bundled program, a path, or ``flat:`` and a path.
    memory_bytes : size of guest physical memory, at most 4 GB.
    append : arguments of a bundled program, or the command line of a kernel.
    initrd : initial RAM disk (Linux) or boot module (Multiboot).
    reserved : first and last address of the linear range where a monitor lives; an image there is refused.
    paravirtual : of a bundled program, the build that makes hypercalls.

    Raises
    ------
    AdminError : one sentence: the file is missing, damaged, of no known format, for another processor, too large for
        memory, or in the monitor's way.
    """
    if memory_bytes > MOST_BYTES:
        raise AdminError(
            f"{spec} cannot be loaded: a 32-bit guest has at most {MOST_BYTES // MEGABYTE} MB of memory, "
            f"not {memory_bytes // MEGABYTE} MB; see --memory."
        )
    if "\0" in append:
        raise AdminError(f"{spec} cannot be loaded: its command line contains a zero byte.")
    if spec in BUNDLED:
        return _load_bundled(BUNDLED[spec], memory_bytes, append, initrd, reserved, paravirtual)
    path = Path(spec.removeprefix(FLAT_PREFIX))
    reader = Reader(_read(path), path.name)
    layout = Layout(path.name, memory_bytes, reserved)
    if spec.startswith(FLAT_PREFIX):
        return flat.load(reader, layout)
    return load_bytes(reader, layout, append, initrd, flat_allowed=_may_be_flat(path))


def load_bytes(
    reader: Reader, layout: Layout, append: str, initrd: bytes | None, flat_allowed: bool = False
) -> LoadedImage:
    """By content. Raises ``AdminError``."""
    if reader.data.startswith(b"\x1f\x8b"):
        reader = Reader(_gunzip(reader), reader.name)
    if multiboot.find_header(reader.data) is not None:
        return multiboot.load(reader, layout, append, initrd)
    if reader.data.startswith(elf.MAGIC):
        return function.call_image(reader.name, "elf", layout, elf.load_segments(reader, layout), {})
    if linux.is_bzimage(reader.data):
        return linux.load(reader, layout, append, initrd)
    if bios.is_bios(reader.data):
        return bios.load(reader, layout)
    if boot_sector.is_boot_sector(reader.data):
        return boot_sector.load(reader, layout)
    if flat_allowed:
        return flat.load(reader, layout)
    raise AdminError(
        f"{reader.name} has no format that can be started: it is neither a Multiboot kernel nor a 32-bit ELF file nor "
        f"a bzImage nor a BIOS nor a boot sector; raw code needs the suffix .bin or .img or the prefix {FLAT_PREFIX} "
        "before its path."
    )


def _load_bundled(
    bundled: Bundled,
    memory_bytes: int,
    append: str,
    initrd: bytes | None,
    reserved: tuple[int, int] | None,
    paravirtual: bool,
) -> LoadedImage:
    if paravirtual and not bundled.para:
        raise AdminError(
            f"{bundled.name} needs ring 0 and has no paravirtual build; run it with --engine bt, svm or bare."
        )
    reader = Reader(_read(PREBUILT / (bundled.para if paravirtual else bundled.file)), bundled.name)
    layout = Layout(bundled.name, memory_bytes, reserved)
    if bundled.is_function:
        return _load_function(bundled, reader, layout, append)
    if memory_bytes < KERNEL_NEEDS_BYTES:
        raise layout.too_small(KERNEL_NEEDS_BYTES)
    command_line = f"init={bundled.init} {append}".rstrip() if bundled.init else append
    return multiboot.load(reader, layout, command_line, initrd)


def _load_function(bundled: Bundled, reader: Reader, layout: Layout, append: str) -> LoadedImage:
    operation = 0
    if bundled.operations:
        operation, append = function.parse_operation(bundled.name, append, bundled.operations)
    argument = function.parse_argument(bundled.name, append, bundled.argument, bundled.least)
    either = bundled.para == bundled.file
    built_for = ("machine", "hypercalls") if either else elf.built_for(reader)
    return function.load(reader, layout, argument, operation, built_for)


def _may_be_flat(path: Path) -> bool:
    return path.suffix.lower() in FLAT_SUFFIXES


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_MOST_BYTES:
            raise AdminError(f"{path} cannot be loaded: it is larger than {FILE_MOST_BYTES // MEGABYTE} MB.")
        return path.read_bytes()
    except FileNotFoundError:
        names = ", ".join(BUNDLED)
        raise AdminError(f"{path}: there is no such file and no bundled program of that name ({names}).") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AdminError(f"{path} cannot be read: {reason}.") from None


def _gunzip(reader: Reader) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(reader.data, FILE_MOST_BYTES)
    except zlib.error as error:
        raise AdminError(f"{reader.name} is damaged: it does not unpack ({error}).") from None
    if unpacker.unconsumed_tail:
        raise AdminError(
            f"{reader.name} cannot be loaded: unpacked it is larger than {FILE_MOST_BYTES // MEGABYTE} MB."
        )
    if not unpacker.eof:
        raise reader.truncated("its compressed data", len(reader.data) + 1)
    return data
