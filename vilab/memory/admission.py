"""May a virtual machine be powered on? Only if what it has been promised can be kept whatever the others do.

::

    configured |<------------------------ 512 MB ---------------------->|
    promised   |<- reservation ->|<----- configured - reservation --------------->|
                 machine memory,   room in the swap file, all of it made at power-on: a guest
                 never taken       may have touched every page before a limit is set, or in spite of one
    overhead   |<-- 79 MB -->|     machine memory, for the VMM's own tables and the frame buffer

    machine memory:  reservation + overhead             <=  unreserved memory of the host
    datastore:       configured - reservation  <=  free space where the .vswp goes

Sources: Waldspurger 2002, section 6.2 (memory for min + overhead, swap space for max - min, overhead of typically
32 MB in ESX Server 1); Administration Guide of ESX Server 2.5, chapter 12 (its overhead by size); VI3: a .vswp for
each VM, made at power-on.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError

PAGES_PER_MB = (1 << 20) // PAGE_BYTES

OVERHEAD_MB = {256: 79, 512: 79, 1024: 84, 2048: 91, 4096: 107, 16384: 201}
"""Configured MB to overhead MB, one vCPU, 32-bit guest.

MODEL: after the table of VI3's Resource Management Guide, from memory, each value uncertain by several MB.
"""

OVERHEAD_MB_PER_FURTHER_VCPU = 10
"""MODEL: what ESX Server 2.5 reserved for a second vCPU (64 - 54 MB); VI3's guide has a column a number of vCPUs."""


def overhead_mb(configured_mb: int, vcpus: int = 1) -> int:
    """Overhead of ESX 3, on straight lines between the table's entries and beyond the last, rounded up."""
    sizes = list(pairwise(OVERHEAD_MB.items()))
    (size, mb), (next_size, next_mb) = next((s for s in sizes if configured_mb <= s[1][0]), sizes[-1])
    above = max(0, configured_mb - size)
    return mb - (-above * (next_mb - mb) // (next_size - size)) + OVERHEAD_MB_PER_FURTHER_VCPU * (vcpus - 1)


def overhead_esx_2_5_mb(configured_mb: int, vcpus: int = 1) -> int:
    """54 MB, or 64 MB with two vCPUs, up to 512 MB; 32 MB more for each further gigabyte, rounded up."""
    above = max(0, configured_mb - 512)
    return (54 if vcpus == 1 else 64) - (-above * 32 // 1024)


class PowerOn(msgspec.Struct, frozen=True):
    """What a virtual machine asks for. ``limit_pages`` ``None``: as much as is configured."""

    name: str
    configured_pages: int
    reservation_pages: int
    limit_pages: int | None
    overhead_pages: int

    @property
    def max_pages(self) -> int:
        """What it can ever hold."""
        return self.configured_pages if self.limit_pages is None else min(self.limit_pages, self.configured_pages)


class Room(msgspec.Struct, frozen=True):
    """What is left: machine memory that nobody has reserved, and space on the datastore of the swap file."""

    unreserved_pages: int
    datastore: str
    datastore_free_pages: int


class Admitted(msgspec.Struct, frozen=True):
    """What to set aside: machine memory, and the size of the .vswp file."""

    memory_pages: int
    swap_pages: int


def admit(request: PowerOn, room: Room) -> Admitted:
    """Set aside what a power-on needs, or refuse with a sentence for each thing that is short, and by how much."""
    _check(request)
    needed = Admitted(
        request.reservation_pages + request.overhead_pages, request.configured_pages - request.reservation_pages
    )
    short = []
    if needed.memory_pages > room.unreserved_pages:
        short.append(
            f"its reservation of {_mb(request.reservation_pages)} and its overhead of {_mb(request.overhead_pages)} "
            f"need {_mb(needed.memory_pages)} of machine memory, of which {_mb(room.unreserved_pages)} are unreserved, "
            f"{_mb(needed.memory_pages - room.unreserved_pages)} too little: lower its reservation or power off "
            f"another virtual machine"
        )
    if needed.swap_pages > room.datastore_free_pages:
        short.append(
            f"its swap file needs {_mb(needed.swap_pages)} on datastore {room.datastore}, where "
            f"{_mb(room.datastore_free_pages)} are free, {_mb(needed.swap_pages - room.datastore_free_pages)} too "
            f"little: free some, or raise its reservation, which makes the file smaller"
        )
    if short:
        raise AdminError(f"{request.name} cannot be powered on: {'; and '.join(short)}.")
    return needed


def _check(request: PowerOn) -> None:
    if request.reservation_pages < 0 or request.overhead_pages < 0 or request.max_pages < 0:
        raise AdminError(
            f"{request.name} cannot be powered on: its reservation, limit and overhead must not be negative."
        )
    if request.reservation_pages > request.max_pages:
        what = "configured size" if request.max_pages == request.configured_pages else "limit"
        raise AdminError(
            f"{request.name} cannot be powered on: its reservation of {_mb(request.reservation_pages)} is above its "
            f"{what} of {_mb(request.max_pages)}: lower the reservation."
        )


def _mb(pages: int) -> str:
    """Megabytes as a person reads them; odd sizes in pages, so that what is short never reads as 0."""
    whole, odd = divmod(max(0, pages), PAGES_PER_MB)
    if not odd:
        return f"{whole} MB"
    return f"{pages / PAGES_PER_MB:.1f} MB ({pages} pages)" if whole else "1 page" if odd == 1 else f"{odd} pages"
