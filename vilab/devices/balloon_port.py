"""The balloon's port: the private channel between a guest's balloon driver and the memory manager of its host.

::

    0x5670     R  BALLOON       32 bits: a command in ECX is carried out, if EAX has the magic number

    before   EAX 456C6D6F   EBX, ESI arguments   ECX command   EDX 5670         in eax, dx
    after    EAX status     EBX mostly the target in pages     ECX after START: capabilities

It is a read of a port at which nobody is, as with the backdoor: without the magic number, in another size, on a bare
machine, or where no host manages the guest's memory, all ones come back, and a driver gives up. The words of the
channel are in ``vilab.memory.balloon_protocol``; who carries them out is ``vilab.memory.balloon``.
Source: Linux 6.1, drivers/misc/vmw_balloon.c.
"""

from __future__ import annotations

from vilab.devices.registers import Register
from vilab.events import Event
from vilab.memory.balloon_protocol import Command, Status

_SOURCE = "Linux 6.1, drivers/misc/vmw_balloon.c"

REGISTERS = (
    Register(0x5670, "R", "BALLOON", "32 bits: a command in ECX is carried out, if EAX has the magic number", _SOURCE),
)

PORT = 0x5670
PORTS = frozenset((PORT,))
MAGIC = 0x456C_6D6F
NOTHING = 0xFFFF_FFFF


class BalloonCalled(Event, frozen=True, tag=True):
    """A balloon driver has spoken to its host. ``first``, ``second``: EBX, ESI; ``answer``: EAX, EBX, ECX."""

    command: int
    first: int
    second: int
    answer: tuple[int, int, int]

    def describe(self) -> str:
        """In words: ``LOCK 3a0 -> OK, target 1500``."""
        return f"{command_name(self.command)} {self.first:x} -> {status_name(self.answer[0])}, target {self.answer[1]}"


def command_name(command: int) -> str:
    return Command(command).name if command in Command.__members__.values() else f"command {command}"


def status_name(status: int) -> str:
    return Status(status).name if status in Status.__members__.values() else f"status {status:#x}"
