"""A vmxnet3's rings as the card goes round them: where it is, and whose an entry is.

::

    next = 2, generation = 1          advance at the end: next = 0, generation flips
    | .1 | .1 | 1? | 1? | 0? |
                ^ the card's if its generation bit is the ring's
"""

from __future__ import annotations

import msgspec

from vilab.devices.bus_master import BusMaster
from vilab.devices.vmxnet3_layout import ENTRY_BYTES

BLOCK_ENTRIES = 32
"""Descriptors are fetched in blocks of so many. Ring sizes are multiples of it."""


class Ring(msgspec.Struct):
    """A descriptor ring or a completion ring. ``entries`` 0: there is none."""

    gpa: int = 0
    entries: int = 0
    next: int = 0
    generation: int = 1

    def after(self, index: int, generation: int) -> tuple[int, int]:
        """The place behind one."""
        return (index + 1, generation) if index + 1 < self.entries else (0, generation ^ 1)

    def fits(self, most: int) -> bool:
        """May it be of that size?"""
        return 0 < self.entries <= most and self.entries % BLOCK_ENTRIES == 0


class Descriptors:
    """What is in a ring, fetched a block at a time and remembered for one look."""

    def __init__(self, ring: Ring, master: BusMaster) -> None:
        self._ring, self._master = ring, master
        self._blocks: dict[int, bytes | None] = {}

    def entry(self, index: int) -> bytes | None:
        """16 bytes. ``None``: the ring is out of reach."""
        number = index // BLOCK_ENTRIES
        if number not in self._blocks:
            size_bytes = BLOCK_ENTRIES * ENTRY_BYTES
            self._blocks[number] = self._master.read(self._ring.gpa + number * size_bytes, size_bytes)
        block, at = self._blocks[number], index % BLOCK_ENTRIES * ENTRY_BYTES
        return None if block is None else block[at : at + ENTRY_BYTES]


def complete(ring: Ring, entries: list[bytes], master: BusMaster) -> bool:
    """Write completions, without their generation bits, from ``next`` on."""
    while entries:
        room = min(len(entries), ring.entries - ring.next)
        data = bytearray(b"".join(entries[:room]))
        if ring.generation:
            for at in range(ENTRY_BYTES - 1, len(data), ENTRY_BYTES):
                data[at] |= 0x80
        if not master.write(ring.gpa + ring.next * ENTRY_BYTES, bytes(data)):
            return False
        ring.next, entries = ring.next + room, entries[room:]
        if ring.next == ring.entries:
            ring.next, ring.generation = 0, ring.generation ^ 1
    return True
