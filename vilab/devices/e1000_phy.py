"""The PHY of the 82545EM, an M88E1011, behind MDIC: the link, and how it is negotiated.

::

    cable in ──> negotiating ──NEGOTIATION_NS──> up: 1000 Mbit/s, full duplex
                     ^   restart (0.9), reset (0.15)      │
                     └────────────────────────────────────┤
    cable out, power down (0.11), isolated (0.10) ──> down┘

    MDIC    | 30 error | 29 interrupt | 28 ready | 27-26 10 read, 01 write | 25-21 PHY, 1 | 20-16 register | 15-0 data |

    0  CONTROL        15 reset, 14 loopback, 12 negotiate, 11 power down, 10 isolate, 9 restart, 8 full duplex
    1  STATUS         5 negotiated, 2 link (stays down until it is read), the rest says what it can
    2  3  ID          0141 0c20
    4  5  ABILITIES   own and the partner's     9 10  the same for 1000 Mbit/s
    17 CHIP STATUS    15-14 speed, 10: 1000, 13 full duplex, 11 resolved, 10 link
    18 19 INTERRUPTS  kept; never asked for

Sources: the manual's 13.4.7 and chapter 11; IEEE 802.3-2005, 22.2.4 for registers 0 to 15.
MODEL: the partner can do everything, so that the result is always the same, also where the driver wants less.
"""

from __future__ import annotations

import msgspec

NEGOTIATION_NS = 10_000_000
"""MODEL: on a cable it takes more than a second."""

ADDRESS = 1
OP_WRITE, OP_READ = 0b01, 0b10
READY, INTERRUPT, ERROR = 1 << 28, 1 << 29, 1 << 30
CONTROL, STATUS, CHIP_STATUS = 0, 1, 17
RESET, LOOPBACK, NEGOTIATE, POWER_DOWN, ISOLATE, RESTART = 1 << 15, 1 << 14, 1 << 12, 1 << 11, 1 << 10, 1 << 9
NEGOTIATED, LINK = 1 << 5, 1 << 2

FIXED = {
    STATUS: 0x7949, 2: 0x0141, 3: 0x0C20, 5: 0x45E1, 6: 0x000D, 10: 0x3C00, 15: 0x3000, CHIP_STATUS: 0xA000,
}  # fmt: skip
"""What can only be read; link bits come on top."""
AFTER_RESET = {CONTROL: 0x1140, 4: 0x0DE1, 7: 0x2001, 9: 0x0E00, 16: 0x0360, 18: 0, 20: 0x0D60, 29: 0, 30: 0}


class PhyState(msgspec.Struct):
    """``negotiated_ns``: when the partners will have agreed, 0: they have, or there is no cable. ``was_down``: since
    STATUS was read."""

    registers: dict[int, int] = msgspec.field(default_factory=lambda: dict(AFTER_RESET))
    mdic: int = READY
    cable: bool = False
    negotiated_ns: int = 0
    was_down: bool = False


def is_up(s: PhyState) -> bool:
    return s.cable and not s.negotiated_ns and not s.registers[CONTROL] & (POWER_DOWN | ISOLATE)


def is_looped(s: PhyState) -> bool:
    return bool(s.registers[CONTROL] & LOOPBACK)


def negotiate(s: PhyState, now_ns: int) -> None:
    """From the beginning; without a cable there is nobody to do it with."""
    s.was_down = True
    s.negotiated_ns = now_ns + NEGOTIATION_NS if s.cable else 0


def plug(s: PhyState, cable: bool, now_ns: int) -> None:
    s.cable = cable
    negotiate(s, now_ns)


def reset(s: PhyState, now_ns: int) -> None:
    s.registers = dict(AFTER_RESET)
    negotiate(s, now_ns)


def access(s: PhyState, value: int, now_ns: int) -> None:
    """MDIC is written: one register of a PHY is read or written at once."""
    number, operation = value >> 16 & 31, value >> 26 & 3
    s.mdic = value & ~ERROR | READY
    if value >> 21 & 31 != ADDRESS or operation not in (OP_READ, OP_WRITE):
        s.mdic |= ERROR
    elif operation == OP_READ:
        s.mdic = s.mdic & ~0xFFFF | _read(s, number)
    else:
        _write(s, number, value & 0xFFFF, now_ns)


def _read(s: PhyState, number: int) -> int:
    value = FIXED.get(number, 0) | s.registers.get(number, 0)
    if number == STATUS:
        value |= (NEGOTIATED if is_up(s) else 0) | (LINK if is_up(s) and not s.was_down else 0)
        s.was_down = not is_up(s)
    elif number == CHIP_STATUS and is_up(s):
        value |= 1 << 11 | 1 << 10
    return value


def _write(s: PhyState, number: int, value: int, now_ns: int) -> None:
    if number not in AFTER_RESET:
        return
    was_up = is_up(s)
    s.registers[number] = value if number != CONTROL else value & ~(RESET | RESTART)
    if number == CONTROL:
        if value & RESET:
            reset(s, now_ns)
        elif value & RESTART or (not was_up and is_up(s)):
            negotiate(s, now_ns)
        elif not is_up(s):
            s.was_down = True
