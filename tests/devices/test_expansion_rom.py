"""A function's expansion ROM: sized like a base address, seen only where it is enabled, never written."""

from __future__ import annotations

import pytest

from vilab.devices.pci_function import COMMAND, COMMAND_MEMORY, ROM, ROM_WINDOW, PciFunction

CONTENT = b"\x55\xaa" + bytes(range(256)) * 12


def function() -> PciFunction:
    made = PciFunction(0x1022, 0x2000, 0x020000)
    made.fit_rom(CONTENT)
    return made


def test_sizing_says_how_large_it_is() -> None:
    card = function()
    card.write_config(ROM, 4, 0xFFFF_FFFE)
    assert card.read_config(ROM, 4) == 0xFFFF_F000  # 3,074 bytes: a window of 4 KB


def test_a_function_without_one_has_nothing_to_size() -> None:
    card = PciFunction(0x1022, 0x2000, 0x020000)
    card.write_config(ROM, 4, 0xFFFF_FFFF)
    assert card.read_config(ROM, 4) == 0


def test_it_is_seen_where_both_enable_bits_are_set() -> None:
    card = function()
    card.write_config(ROM, 4, 0xF000_0000 | 1)
    assert list(card.windows()) == []
    card.write_config(COMMAND, 2, COMMAND_MEMORY)
    assert list(card.windows()) == [(ROM_WINDOW, 0xF000_0000, 0x1000, True)]
    assert card.read_window(ROM_WINDOW, 0, 4) == int.from_bytes(CONTENT[:4], "little")
    card.write_window(ROM_WINDOW, 0, 4, 0)
    assert card.read_window(ROM_WINDOW, 0, 2) == 0xAA55
    assert card.read_window(ROM_WINDOW, 0xFFF, 1) == 0xFF
    card.write_config(ROM, 4, 0xF000_0000)
    assert list(card.windows()) == []


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x55\xaa" + bytes(1 << 20)])
def test_what_is_no_rom_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="expansion ROM"):
        PciFunction(0x1022, 0x2000, 0x020000).fit_rom(content)
