"""The EEPROM of the 82545EM: 64 words, read through EERD in one go, or bit by bit over the wires in EECD.

::

    word 0-2    MAC address, first byte lowest            word 0a   01 in 15-14: valid; 1-0: load the ids below
         3f     all words together are baba                    0b   subsystem    0c   subsystem vendor
                                                               0d   device       0e   vendor     0f   more control

    Microwire:  select ─┐                                                            ┌─
                 in     │ 1 │ 1 0 │ A5 A4 A3 A2 A1 A0 │                              │
                 out    │                             │ 0 │ D15 D14 ... D1 D0        │      on each rising clock
                        start  read                   dummy

Sources: the manual's 5.3 (interface), 5.6 (map), 13.4.3, 13.4.4; Microwire: National NM93C46, read cycle.
MODEL: it can be read only; other Microwire commands get no answer.
"""

from __future__ import annotations

import struct

import msgspec

from vilab.devices.e1000_registers import DEVICE, SUBSYSTEM, VENDOR

WORDS, CHECKSUM_WORD, CHECKSUM = 64, 0x3F, 0xBABA
CLOCK, SELECT, IN, OUT, REQUEST, GRANT, PRESENT = (1 << bit for bit in (0, 1, 2, 3, 6, 7, 8))
EERD_START, EERD_DONE = 1 << 0, 1 << 4
_COMMAND_BITS, _ADDRESS_BITS, _READ = 3, 6, 0b110


class EepromState(msgspec.Struct):
    """``wires``: what the driver drives, in EECD. ``shifted``: the bits that have come in since the chip was selected,
    ``bits`` how many; ``leaving``: how many are to go out of ``word``. ``eerd``: the register."""

    wires: int = 0
    shifted: int = 0
    bits: int = 0
    leaving: int = 0
    word: int = 0
    out: bool = True
    eerd: int = 0


def words_of(address: bytes) -> tuple[int, ...]:
    """The whole contents for a card with this MAC address."""
    words = [0] * WORDS
    words[0:3] = struct.unpack("<3H", address)
    words[0x0A:0x10] = (0x4403, SUBSYSTEM[1], SUBSYSTEM[0], DEVICE, VENDOR, 0)
    words[CHECKSUM_WORD] = CHECKSUM - sum(words) & 0xFFFF
    return tuple(words)


def read_wires(s: EepromState) -> int:
    """EECD. Nobody else wants the EEPROM: whoever asks gets it at once."""
    return s.wires | PRESENT | (GRANT if s.wires & REQUEST else 0) | (OUT if s.out else 0)


def write_wires(s: EepromState, value: int, address: bytes) -> None:
    rises = value & CLOCK and not s.wires & CLOCK
    s.wires = value & (CLOCK | SELECT | IN | REQUEST | 0b11 << 4)
    if not value & SELECT:
        s.shifted, s.bits, s.leaving, s.out = 0, 0, 0, True
    elif rises:
        _clock(s, bool(value & IN), address)


def _clock(s: EepromState, bit: bool, address: bytes) -> None:
    if s.leaving:
        s.leaving -= 1
        s.out = bool(s.word >> s.leaving & 1)
        return
    if s.bits == 0 and not bit:
        return  # the start bit has not come
    if s.bits < _COMMAND_BITS + _ADDRESS_BITS:
        s.shifted, s.bits = s.shifted << 1 | bit, s.bits + 1
    if s.bits == _COMMAND_BITS + _ADDRESS_BITS and s.shifted >> _ADDRESS_BITS == _READ:
        s.word = words_of(address)[s.shifted & WORDS - 1]
        s.leaving, s.shifted, s.out = 16, 0, False


def write_eerd(s: EepromState, value: int, address: bytes) -> None:
    at = value >> 8 & 0xFF
    s.eerd = value & 0xFF00
    if value & EERD_START:
        s.eerd |= EERD_DONE | (words_of(address)[at] if at < WORDS else 0xFFFF) << 16
