"""One virtual machine as the memory manager sees it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.memory.balloon import BalloonServer
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.page_state import PageState
from vilab.memory.sampling import Sampler
from vilab.memory.shares import shares_of
from vilab.memory.swap_file import SwapFile

MB_PAGES = (1 << 20) // PAGE_BYTES


class MemoryConfig(msgspec.Struct, frozen=True):
    """What the administrator has set. ``limit_mb``: ``None`` is all that is configured."""

    size_mb: int
    reservation_mb: int = 0
    limit_mb: int | None = None
    shares: str | int = "normal"

    def check(self, name: str) -> None:
        """Raises ``AdminError`` where the figures contradict each other."""
        limit_mb = self.size_mb if self.limit_mb is None else self.limit_mb
        if self.size_mb < 1 or not 0 <= self.reservation_mb <= limit_mb <= self.size_mb:
            raise AdminError(
                f"{name} has {self.size_mb} MB, a reservation of {self.reservation_mb} MB and a limit of {limit_mb} MB:"
                " a reservation is at most the limit, and that at most the configured size."
            )
        shares_of(self.shares, self.size_mb)

    @property
    def min_pages(self) -> int:
        return self.reservation_mb * MB_PAGES

    @property
    def max_pages(self) -> int:
        return (self.size_mb if self.limit_mb is None else self.limit_mb) * MB_PAGES


@dataclass
class MemoryClient:
    """``target_pages``: what the allocation policy wants it to have; ``blocked``: it must not run."""

    vm_id: int
    name: str
    config: MemoryConfig
    pmap: ManagedPmap
    balloon: BalloonServer
    sampler: Sampler
    swap: SwapFile
    overhead: range
    target_pages: int = 0
    blocked: bool = False
    balloon_by_hand: int | None = None
    """Pages that the balloon is to have whatever the policy says; ``None`` leaves it to the policy."""
    balloon_stuck: bool = False
    """The driver was asked for more and has given nothing for a while, or the balloon is as large as it may be."""
    balloon_pages: int = 0
    """In the balloon when it last moved, which was at ``balloon_moved_ns``."""
    balloon_moved_ns: int = 0
    swapped_out: int = 0
    swapped_in: int = 0
    double_paged: int = 0
    failed: str = ""
    """Why it cannot go on, in a sentence: its swap file could not be written."""

    def private_pages(self) -> int:
        return self.pmap.count(PageState.PRIVATE)

    def can_balloon(self) -> bool:
        """A driver is there, and gives what it is asked for."""
        return self.balloon.active and not self.balloon_stuck
