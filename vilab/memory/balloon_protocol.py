"""The words that a balloon driver and its host exchange: commands, capabilities, statuses, and the batch page.

::

    ECX  command            EBX                     ESI       answer
     0   START              capabilities wanted     -         EAX 03000000, ECX capabilities granted
     1   GET_TARGET         all pages of the guest  -         EBX target in pages
     2   LOCK               ppn                     -         EBX target        the page is the host's
     3   UNLOCK             ppn                     -         EBX target        it is the guest's again
     4   GUEST_ID           1 Linux                 -
     6   BATCHED_LOCK       ppn of the batch page   entries   EBX target
     7   BATCHED_UNLOCK     ppn of the batch page   entries   EBX target
     8   BATCHED_2M_LOCK    as 6, for 2 MB pages
     9   BATCHED_2M_UNLOCK  as 7, for 2 MB pages
    10   DOORBELL           VMCI handle             handle    wake me when the target changes; -1, -1: never

    EAX  0 done  1 no such command  2 no such page  3 locked  4 not locked  5 pinned  6 not needed
         7 RESET: forget everything and START again        8 busy        FFFFFFFF failed

    batch page: 512 entries      63                     12 11       5 4      0
                                 |  ppn                   |    0     | status |    the host writes the status

Source: Linux 6.1, drivers/misc/vmw_balloon.c.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import msgspec

from vilab.addresses import PAGE_BYTES


class Command(IntEnum):
    """ECX."""

    START = 0
    GET_TARGET = 1
    LOCK = 2
    UNLOCK = 3
    GUEST_ID = 4
    BATCHED_LOCK = 6
    BATCHED_UNLOCK = 7
    BATCHED_2M_LOCK = 8
    BATCHED_2M_UNLOCK = 9
    DOORBELL = 10


class Capability(IntFlag):
    """Which commands a driver may use after START."""

    BASIC = 1 << 1
    BATCHED = 1 << 2
    BATCHED_2M = 1 << 3
    SIGNALLED_WAKEUP = 1 << 4
    TARGET_64_BIT = 1 << 5


class Status(IntEnum):
    """EAX, and the low bits of an entry of the batch page."""

    OK = 0
    COMMAND_INVALID = 1
    PPN_INVALID = 2
    PPN_LOCKED = 3
    PPN_UNLOCKED = 4
    PPN_PINNED = 5
    PPN_NOT_NEEDED = 6
    RESET = 7
    BUSY = 8
    STARTED = 0x0300_0000
    FAILED = 0xFFFF_FFFF


BATCH_ENTRY_BYTES = 8
BATCH_ENTRIES = PAGE_BYTES // BATCH_ENTRY_BYTES
NO_DOORBELL = 0xFFFF_FFFF


class Reply(msgspec.Struct, frozen=True):
    """EAX, EBX, ECX after a call."""

    status: int
    ebx: int
    ecx: int

    def registers(self) -> tuple[int, int, int]:
        return int(self.status), self.ebx & 0xFFFF_FFFF, self.ecx & 0xFFFF_FFFF
