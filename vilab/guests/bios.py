"""A BIOS image: what the processor finds when it is switched on.

::

    FFFC0000  +--------------------+
              |  the ROM, 256 KB   |
    FFFF0000  |                    | <- CS base after reset
    FFFFFFF0  |  far jump          | <- CS:IP = f000:fff0
    FFFFFFFF  +--------------------+
    000C0000  +--------------------+
              |  the same bytes    |    in RAM; a chip set shows them below 1 MB as well
    000FFFFF  +--------------------+ <- the far jump leads here, f000:e05b by tradition

MODEL: the copy below 1 MB is RAM from the start, as after a BIOS has copied itself; real chip sets show the ROM there
until then.
Source: Intel SDM volume 3, section 9.1.4; Intel 440FX data sheet, section 4.1.
"""

from __future__ import annotations

from vilab.errors import AdminError
from vilab.guests.image import LoadedImage
from vilab.guests.layout import Layout
from vilab.guests.reader import Reader

LEAST_BYTES, MOST_BYTES = 0x1_0000, 0x4_0000
END_BELOW_1_MB = 0x10_0000
RESET_CS, RESET_IP = 0xF000, 0xFFF0
FAR_JUMP = 0xEA


def is_bios(data: bytes) -> bool:
    """64, 128 or 256 KB with a far jump at the reset vector."""
    size = len(data)
    return LEAST_BYTES <= size <= MOST_BYTES and size & size - 1 == 0 and data[-16] == FAR_JUMP


def load(reader: Reader, layout: Layout) -> LoadedImage:
    """Raises ``AdminError`` if it is none."""
    data = reader.data
    if not is_bios(data):
        raise AdminError(
            f"{reader.name} cannot be loaded as a BIOS: it is {len(data)} bytes long, and what is wanted is 64, 128 or "
            "256 KB with a far jump 16 bytes before the end."
        )
    layout.add(END_BELOW_1_MB - len(data), data)
    return LoadedImage(
        name=reader.name,
        kind="bios",
        segments=tuple(layout.segments),
        zeroed=tuple(layout.zeroed),
        entry=RESET_IP,
        gpr={},
        esp=0,
        gdt_base=0,
        gdt_limit=0xFFFF,
        cs=RESET_CS,
        ds=0,
        real_mode=True,
        rom=data,
        cs_base=0xFFFF_0000,
    )
