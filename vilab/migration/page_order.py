"""Which pages of a round go next.

::

    pages of the round      3 4 5 6 7 40 41 42 43 44 ...
    random                  41 6 44 3 40 ...                         each its place by lot
    random, clusters of 2   (40 41) (6 7) (4 5) ...                  by address, neighbours together
                             │
    next batch   <───────────┘   of so many bytes at most; pages that were written again meanwhile are left out:
                                 they would have to be sent a second time anyway, and are the next round's

Writes come in clusters: in ascending order a cluster that is written now is either wholly ahead or wholly behind. By
lot some of it is always ahead, and need not be sent in vain.

Source: Clark et al. 2005, section 4.1: pages dirtied again are skipped, and the scan is pseudo-random for that reason.
MODEL: clusters are ours: pages that are neighbours in machine memory travel as one buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.memory.sampling import RandomPages
from vilab.memory.scanner import random_ppns

Numbers = npt.NDArray[np.int64]
Order = Literal["ascending", "random"]

BATCH_BYTES = 1 << 20
_KEY_RANGE = 1 << 32


def ordered(ppns: Numbers, order: Order, seed: int = 0, cluster_pages: int = 1) -> Numbers:
    """These pages, ascending before, in the order in which they go; the same seed gives the same order.

    Raises
    ------
    AdminError : no such order.
    """
    if order == "ascending":
        return ppns
    if order != "random" or cluster_pages < 1:
        raise AdminError(
            f"Pages cannot be sent in the order {order!r} with clusters of {cluster_pages}: choose ascending, or random"
            " with clusters of 1 page or more."
        )
    _, cluster = np.unique(ppns // cluster_pages, return_inverse=True)
    clusters = int(cluster[-1]) + 1 if len(ppns) else 0
    lots = random_ppns(RandomPages(seed & 0xFFFF_FFFF_FFFF_FFFF), np.full(clusters, _KEY_RANGE))
    return ppns[np.argsort(lots[cluster], kind="stable")]


class RoundPages:
    """What is left of a round.

    Parameters
    ----------
    ppns : the round's pages, ascending.
    batch_bytes : of pages as they are, whatever they take on the wire; at least one page goes.
    """

    def __init__(
        self,
        ppns: Numbers,
        order: Order = "random",
        seed: int = 0,
        batch_bytes: int = BATCH_BYTES,
        cluster_pages: int = 1,
    ) -> None:
        self._ppns = ordered(ppns, order, seed, cluster_pages)
        self._at = 0
        self.batch_pages = max(1, batch_bytes // PAGE_BYTES)
        self.skipped_pages = 0
        """Left to the next round."""

    @property
    def left_pages(self) -> int:
        return len(self._ppns) - self._at

    def take(self, is_dirty: Callable[[Numbers], npt.NDArray[np.bool_]] | None = None) -> Numbers:
        """The next batch, empty when the round is over.

        ``is_dirty``: of each of these pages, was it written again? ``None``: every page goes.
        """
        batch, found = [np.zeros(0, np.int64)], 0
        while self._at < len(self._ppns) and found < self.batch_pages:
            piece = self._ppns[self._at : self._at + self.batch_pages - found]
            self._at += len(piece)
            if is_dirty is not None:
                clean = piece[~is_dirty(piece)]
                self.skipped_pages += len(piece) - len(clean)
                piece = clean
            batch.append(piece)
            found += len(piece)
        return np.concatenate(batch)
