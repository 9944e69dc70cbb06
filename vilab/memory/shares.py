"""Shares of memory, the idle memory tax, and who must give the next page.

A client pays a price for the pages it holds: one for each page in use, and ``k`` for each idle page::

    charge = P (f + k (1 - f))        k = 1 / (1 - tax)
           = W + k (P - W)            W = f P: the pages in use

    charge |            /   slope k: idle pages are dear
           |          /
           |        /
           |     _-'        slope 1
           | _-'
           +-----+---------- P
                 W

    rho = S / charge                  adjusted shares per page

Where a page is wanted, the client with the lowest ``rho`` has paid least for its memory and gives one:
*min-funding revocation*. With ``tax = 0`` only shares count; as the tax goes to 1, only the working set counts.

Sources: Waldspurger 2002, sections 5.1 and 5.2 (formulas, default tax of 75 %); levels of 5, 10 and 20 shares a
configured megabyte: the VI SDK's documentation of ``SharesInfo.Level``; range of 0 to 100,000 shares, and a client
without shares staying at its minimum: ESX Server 2.5 Administration Guide, chapter 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from vilab.errors import AdminError

DEFAULT_TAX = 0.75
"""Mem.IdleTax = 75."""

SHARES_PER_MB = {"low": 5, "normal": 10, "high": 20}
MAX_SHARES = 100_000


class Claim(msgspec.Struct, frozen=True):
    """What a client has been promised, and what it seems to use.

    ``min_pages``: its reservation, which is never taken. ``max_pages``: its limit, or its configured size.
    ``active_pages``: the estimate of its working set (``sampling.active_fraction`` times the pages sampled from).
    """

    name: str
    shares: int
    min_pages: int
    max_pages: int
    active_pages: int


def shares_of(level: str | int, configured_mb: int) -> int:
    """Shares from what is configured: a level's name, times the size, or a number as it is."""
    if isinstance(level, str):
        if level not in SHARES_PER_MB:
            raise AdminError(f"Memory shares cannot be {level!r}: they are low, normal, high or a number.")
        return SHARES_PER_MB[level] * configured_mb
    if not 0 <= level <= MAX_SHARES:
        raise AdminError(f"Memory shares cannot be {level}: a number of shares is from 0 to {MAX_SHARES}.")
    return level


def idle_page_price(tax: float) -> float:
    """``k = 1 / (1 - tax)``: how many pages in use one idle page costs as much as. Waldspurger 2002, section 5.2."""
    if not 0 <= tax < 1:
        raise AdminError(f"The idle memory tax cannot be {tax:g}: it is at least 0 and below 1 (Mem.IdleTax 0 to 99).")
    return 1 / (1 - tax)


def adjusted_shares_per_page(shares: int, pages: int, active_fraction: float, tax: float = DEFAULT_TAX) -> float:
    """``rho = S / (P (f + k (1 - f)))``. A client that holds nothing has nothing to give: infinity."""
    if pages <= 0:
        return math.inf
    k = idle_page_price(tax)
    return shares / (pages * (active_fraction + k * (1 - active_fraction)))


def charge(pages: int, active_pages: int, k: float) -> float:
    """``P (f + k (1 - f))`` with ``f = min(1, W / P)``: what the pages of one client cost it, in pages.

    MODEL: as a client's allocation changes in thought, it is its working set W that stays and not the fraction f.
    The paper leaves it open; this reading gives its figure 7.
    """
    idle_pages = max(0, pages - active_pages)
    return pages - idle_pages + k * idle_pages


def rho(claim: Claim, pages: int, k: float) -> float:
    """Adjusted shares per page of a client if it held ``pages``."""
    return claim.shares / charge(pages, claim.active_pages, k) if pages > 0 else math.inf


def next_to_give(claims: Sequence[Claim], held_pages: Sequence[int], tax: float = DEFAULT_TAX) -> int | None:
    """Min-funding revocation: the index of the client that must give the next page.

    It is the one with the lowest ``rho`` among those above their minimum; of equals the first. ``None`` where all
    are at their minimum.
    """
    k = idle_page_price(tax)
    lowest, giver = math.inf, None
    for index, (claim, pages) in enumerate(zip(claims, held_pages, strict=True)):
        if pages > claim.min_pages and (bid := rho(claim, pages, k)) < lowest:
            lowest, giver = bid, index
    return giver
