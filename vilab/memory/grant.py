"""What a virtual machine gets of a machine's memory: all of a machine of its own, or its part of a host's.

::

    alone      | monitor | guest, page for page | ROM |          a machine as large as it needs
    on a host  | vm 1's monitor | vm 2's monitor | ... frames of every guest's pages, mixed ... |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vilab.addresses import PAGE_SHIFT
from vilab.machine.memory import FrameAllocator, MachineMemory
from vilab.memory.pmap import Pmap


class BalloonHost(Protocol):
    """The host's end of the balloon driver's channel: one call in, status and answer out."""

    def call(self, command: int, first: int, second: int, pmap: Pmap) -> tuple[int, int, int]:
        """``first``, ``second``: EBX, ESI. Returns EAX (status), EBX (mostly the target in pages), ECX."""
        ...


@dataclass
class MemoryGrant:
    """``monitor``: frames of the VMM's own; ``rom``: frames for what a ROM shows at the end of the address space."""

    memory: MachineMemory
    monitor: range
    pmap: Pmap
    rom: range
    balloon: BalloonHost | None = None


def alone(memory_bytes: int, monitor_bytes: int, rom_bytes: int) -> MemoryGrant:
    """A machine of its own. The guest's memory begins behind the monitor's, so that a ppn is not its mpn."""
    memory = MachineMemory(memory_bytes + monitor_bytes + rom_bytes)
    frames = FrameAllocator(memory)
    first, pages, rom_pages = monitor_bytes >> PAGE_SHIFT, memory_bytes >> PAGE_SHIFT, rom_bytes >> PAGE_SHIFT
    monitor = frames.allocate_run(first)
    guest = frames.allocate_run(pages)
    rom = frames.allocate_run(rom_pages)
    pmap = Pmap(memory, range(guest, guest + pages))
    # No table lies at machine address 0.
    return MemoryGrant(memory, range(monitor + 1, monitor + first), pmap, range(rom, rom + rom_pages))
