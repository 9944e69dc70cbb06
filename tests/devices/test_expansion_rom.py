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


def test_a_rom_for_the_family_is_run_by_a_bios_on_each_card_of_it() -> None:
    """The ids in its PCI data structure are the card's, and its bytes still add up to zero (PCI 3.0, 5.1)."""
    content = bytearray(1024)
    content[:3], content[0x18] = b"\x55\xaa\x02", 0x20
    content[0x20:0x2A] = b"PCIR" + bytes((0x86, 0x80, 0x0E, 0x10, 0x30, 0))
    content[0x50:0x54] = bytes((0x0E, 0x10, 0, 0))
    content[6] = -sum(content) & 0xFF
    for vendor, expected in ((0x8086, b"\x0f\x10"), (0x1022, b"\x0e\x10")):
        card = PciFunction(vendor, 0x100F, 0x020000)
        card.fit_rom(bytes(content))
        assert (card.rom[0x26:0x28], card.rom[0x50:0x52]) == (expected, expected)
        assert sum(card.rom[:1024]) & 0xFF == 0
