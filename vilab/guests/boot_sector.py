"""A boot sector: 512 bytes that a BIOS loads from a disk and jumps to, in real mode.

::

    0x0000   interrupt vectors      0x0400   BIOS data area
    0x7c00   the sector  <- CS:IP = 0000:7c00, DL = 0x80 (the first hard disk), DS ES SS = 0, SP = 0x7c00
             last two bytes 55 aa
    0x7e00   the rest of the image, if it is longer

There is no BIOS behind it here: INT 10h and INT 13h lead to vectors that are all zero. A program for the bare machine
uses the ports: COM1 at 0x3f8, the debug port at 0xe9. Since nobody can load the rest of a longer image, it is there
already. To have a BIOS, start one (``bios``).
Source: BIOS Boot Specification 1.01, section 6.5.1.
"""

from __future__ import annotations

from vilab.errors import AdminError
from vilab.guests.image import LoadedImage
from vilab.guests.layout import Layout
from vilab.guests.reader import Reader

SECTOR_BYTES = 512
SIGNATURE_AT, SIGNATURE = 510, b"\x55\xaa"
LOADED_AT = 0x7C00
FIRST_HARD_DISK = 0x80
MOST_BYTES = 0x9_FC00 - LOADED_AT


def is_boot_sector(data: bytes) -> bool:
    """Whole sectors, the first of them with the signature."""
    return len(data) > 0 and len(data) % SECTOR_BYTES == 0 and data[SIGNATURE_AT : SIGNATURE_AT + 2] == SIGNATURE


def load(reader: Reader, layout: Layout) -> LoadedImage:
    """Raises ``AdminError`` if it has no signature or does not fit below 640 KB."""
    data = reader.data
    if not is_boot_sector(data):
        raise AdminError(
            f"{reader.name} cannot be loaded as a boot sector: it is {len(data)} bytes long, and what is wanted is a "
            "multiple of 512 with 55 aa at 510."
        )
    if len(data) > MOST_BYTES:
        raise AdminError(
            f"{reader.name} cannot be loaded: without a BIOS all its {len(data)} bytes have to lie between 0x7c00 and "
            f"639 KB, where there is room for {MOST_BYTES}."
        )
    layout.add(LOADED_AT, data)
    return LoadedImage(
        name=reader.name,
        kind="boot sector",
        segments=tuple(layout.segments),
        zeroed=tuple(layout.zeroed),
        entry=LOADED_AT,
        gpr={"edx": FIRST_HARD_DISK},
        esp=LOADED_AT,
        gdt_base=0,
        gdt_limit=0,
        cs=0,
        ds=0,
        real_mode=True,
    )
