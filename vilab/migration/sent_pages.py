"""What the source remembers of the pages that it has sent, so that it can send them again as deltas.

::

    ppn ──> slot_of ──> slot   0      1      2      3   ...   slots - 1
                             +------+------+------+------+
                   content   | 4 KB | 4 KB |      |      |    as it was when it was last sent
                             +------+------+------+------+
                   ppn_of       17     3      -1     -1       -1: free

    full: the oldest goes (``lru``), or any (``random``); never one that is in the batch at hand

The destination needs no such thing: its own memory holds what was sent last. Random replacement costs nothing to
keep, and does not lose everything to a working set that is a little larger than the cache and is sent in order.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.memory.sampling import RandomPages
from vilab.memory.scanner import random_ppns

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Replacement = Literal["random", "lru"]

_KEY_RANGE = 1 << 31


class SentPages:
    """A bounded cache.

    Parameters
    ----------
    pages : of the guest.
    limit_bytes : that contents may take; what else is kept is 1 % of it and 4 bytes a page of the guest.
    seed : of random replacement.

    Raises
    ------
    AdminError : not even one page fits.
    """

    def __init__(self, pages: int, limit_bytes: int, replacement: Replacement = "random", seed: int = 0) -> None:
        self.slots = min(limit_bytes // PAGE_BYTES, pages)
        if self.slots < 1:
            raise AdminError(
                f"A cache of sent pages of {limit_bytes} bytes holds no page: give it {PAGE_BYTES} bytes at least, or "
                "migrate without delta compression."
            )
        self.replacement = replacement
        self._content = np.empty((self.slots, PAGE_BYTES), np.uint8)
        self._slot_of = np.full(pages, -1, np.int32)
        self._ppn_of = np.full(self.slots, -1, np.int64)
        self._used = np.zeros(self.slots, np.int64)
        self._now = 0
        self._random = RandomPages(seed & 0xFFFF_FFFF_FFFF_FFFF)
        self.hits = self.misses = 0
        """Pages that were looked for: found, and not."""

    def __len__(self) -> int:
        return int(np.count_nonzero(self._ppn_of >= 0))

    def find(self, ppns: Numbers) -> Numbers:
        """The slot of each page, -1 for none."""
        slots = self._slot_of[ppns].astype(np.int64)
        hits = int(np.count_nonzero(slots >= 0))
        self.hits += hits
        self.misses += len(ppns) - hits
        return slots

    def content(self, slots: Numbers) -> Bytes:
        """A copy, shape (slots, 4096)."""
        return self._content[slots]

    def forget(self, ppns: Numbers) -> None:
        """What the destination has of these pages is something else now."""
        slots = self._slot_of[ppns]
        slots = slots[slots >= 0]
        self._slot_of[ppns] = -1
        self._ppn_of[slots] = -1

    def remember(self, ppns: Numbers, content: Bytes) -> None:
        """These different pages were sent, with this content: shape (pages, 4096). Of too many the first are kept."""
        self._now += 1
        slots = self._slot_of[ppns].astype(np.int64)
        self._used[slots[slots >= 0]] = self._now
        new = np.flatnonzero(slots < 0)
        if len(new):
            found = self._room(len(new))
            new = new[: len(found)]
            old = self._ppn_of[found]
            self._slot_of[old[old >= 0]] = -1
            self._ppn_of[found], self._slot_of[ppns[new]], self._used[found] = ppns[new], found, self._now
            slots[new] = found
        kept = slots >= 0
        if kept.all():
            self._content[slots] = content
        else:
            self._content[slots[kept]] = content[kept]

    def _room(self, count: int) -> Numbers:
        """Up to so many slots: free ones, then those of others."""
        free = np.flatnonzero(self._ppn_of < 0)[:count]
        wanted = count - len(free)
        if not wanted:
            return free
        others = np.flatnonzero((self._ppn_of >= 0) & (self._used < self._now))
        if wanted < len(others):
            keys = self._used[others]
            if self.replacement == "random":
                keys = random_ppns(self._random, np.full(len(others), _KEY_RANGE))
            others = others[np.argsort(keys, kind="stable")[:wanted]]
        return np.concatenate([free, others])
