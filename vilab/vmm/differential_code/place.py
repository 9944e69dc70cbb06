"""Where a slot stands in its program, and the addresses that are interesting from there.

::

    slots    |  slot  |  slot  | this one |  slot  |  slot  | end
                 ^ target, seldom  at        next      ^ target, mostly; code_byte: a byte in one of them
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.vmm import differential_guest as g
from vilab.vmm.differential_code.choice import Digits


class Place:
    """Where a slot stands. ``slots`` are the addresses of all slots of its area, the end included."""

    def __init__(self, user: bool) -> None:
        self.user = user
        self.index = 0
        self.slots: list[int] = [0]
        self.other: list[int] = [0]
        """Slots of the other area."""

    @property
    def at(self) -> int:
        return self.slots[self.index]

    @property
    def next(self) -> int:
        return self.slots[min(self.index + 1, len(self.slots) - 1)]

    def target(self, d: Digits) -> int:
        """Mostly a slot a little further on, seldom one before, very seldom the middle of an instruction."""
        far = (1, 2, 3, 1, 4, 6, -1, -2, 0, 1)[d.below(10)]
        at = self.slots[max(0, min(self.index + far, len(self.slots) - 1))]
        return at + (1 if d.one_in(24) else 0)


Template = Callable[[Digits, Place], bytes]


def u16(value: int) -> bytes:
    return (value & 0xFFFF).to_bytes(2, "little")


def u32(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


_GOOD = (g.DATA_USER, g.LOW_DATA, g.DATA_LAST, g.DATA_USER)
_AREAS = (
    g.DATA_KERNEL, g.READ_USER, g.READ_KERNEL, g.HOLE, g.DATA_KERNEL - 2, g.READ_USER - 2, g.HOLE - 2, g.DATA_LAST - 2,
    g.DATA_LAST + 0xFFE, g.REMAPPED, g.KERNEL_ALIAS, g.USER_ALIAS, g.KERNEL_CODE + 0xFFE, g.USER_CODE + 0xFFE,
    0xFFFFFFFE, 0x0, g.VARIABLES + 0x800, g.GDT + 0x80, g.TSS + 4,
)  # fmt: skip


def address(d: Digits, p: Place) -> int:
    """A linear address: plain data three times of four, else somewhere delicate."""
    kind = d.below(16)
    if kind < 12:
        return d.of(_GOOD) + 4 * d.below(200) + (d.below(4) if kind > 8 else 0)
    if kind < 14:
        return d.of(_AREAS) + d.below(8)
    if kind == 14:
        return code_byte(d, p)
    return (g.USER_STACK if p.user else g.KERNEL_STACK) - 64 + 4 * d.below(24)


def code_byte(d: Digits, p: Place) -> int:
    """A byte of the program, as itself or through the alias, mostly near by."""
    slots = p.slots
    at = slots[max(0, min(p.index + (1, 1, 2, -1, 3, -2, 5, 2)[d.below(8)], len(slots) - 1))] + d.below(8)
    if d.one_in(4):
        if p.user:
            at = at - g.USER_CODE + g.USER_ALIAS if at < g.USER_CODE + 0x1000 else at
        else:
            at = at - g.KERNEL_CODE + g.KERNEL_ALIAS
    return at
