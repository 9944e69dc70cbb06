"""Images that are called like a function: code, a small stack, and a return address that ends the run.

::

    stack top - 4   return address  ->  return stub: HLT, never executed, since EIP reaching it ends the run
    ESP points at the return address;  EDI = the argument, a whole number;  ESI = which operation
"""

from __future__ import annotations

import msgspec

from vilab.errors import AdminError
from vilab.guests import elf
from vilab.guests.image import LoadedImage, flat_gdt
from vilab.guests.layout import Layout
from vilab.guests.reader import Reader

CODE_SELECTOR, DATA_SELECTOR = 0x08, 0x10
RETURN_STUB = b"\xf4"  # hlt
ARGUMENT_MOST = 0x7FFF_FFFF


def load(
    reader: Reader, layout: Layout, argument: int, operation: int = 0, built_for: tuple[str, ...] = ("machine",)
) -> LoadedImage:
    """A bundled ELF file whose entry point is a function of one number in EDI, and perhaps an operation's in ESI."""
    gpr = {"edi": argument, "esi": operation}
    image = call_image(reader.name, "function", layout, elf.load_segments(reader, layout), gpr)
    return msgspec.structs.replace(image, built_for=built_for)


def parse_operation(name: str, text: str, operations: tuple[str, ...]) -> tuple[int, str]:
    """The index of the command line's first word, and the rest of it. ``AdminError`` if it is none of them."""
    word, _, rest = text.strip().partition(" ")
    if not word:
        return 0, ""
    if word not in operations:
        raise AdminError(
            f"{name} has no operation {word!r}; there are {', '.join(operations)}; give one with --append."
        )
    return operations.index(word), rest


def parse_argument(name: str, text: str, default: int, least: int = 0) -> int:
    """The number on the command line. ``AdminError`` if it is none."""
    word = text.strip()
    if not word:
        return default
    if not (word.isascii() and word.isdigit() and len(word) <= 10 and least <= int(word) <= ARGUMENT_MOST):
        raise AdminError(
            f"{name} takes one whole number from {least} to {ARGUMENT_MOST}, not {word!r}; give it with --append."
        )
    return int(word)


def call_image(name: str, kind: str, layout: Layout, entry: int, gpr: dict[str, int]) -> LoadedImage:
    """Adds stack, return stub and GDT to code that ``layout`` already holds."""
    gdt = flat_gdt(CODE_SELECTOR)
    gdt_base = layout.put(gdt)
    stop_eip = layout.put(RETURN_STUB)
    top = layout.put_stack()
    gpa, size = layout.zeroed.pop()
    layout.zeroed.append((gpa, size - 4))
    layout.add(top - 4, stop_eip.to_bytes(4, "little"))
    return LoadedImage(
        name=name,
        kind=kind,
        segments=tuple(layout.segments),
        zeroed=tuple(layout.zeroed),
        entry=entry,
        gpr=gpr,
        esp=top - 4,
        gdt_base=gdt_base,
        gdt_limit=len(gdt) - 1,
        cs=CODE_SELECTOR,
        ds=DATA_SELECTOR,
        stop_eip=stop_eip,
        returns_register="eax",
    )
