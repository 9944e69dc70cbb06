"""Allocation targets: how many pages each client should hold.

Take the pages away in thought, one at a time, each from the client with the lowest adjusted shares per page. What is
left when the rest fits is the target of each client. One level of ``rho`` divides the pages that go from those that
stay, so the level is sought instead, by bisection::

    rho |  A .                      a client's rho falls as it holds more; it holds as many pages as
        |     .    B  .             keep its rho at the level or above it, within its minimum and maximum:
        |       .        .
    ----+---------.---------.-----  level     charge(P) <= S / level
        |         :  .      :   .             P = S / level                        if that is at most W
        +---------+---------+------ pages     P = W + (S / level - W) / k          otherwise
                 P_A       P_B

The pages that lie on the level itself are settled one by one; there are no more of them than clients.

Sources: Waldspurger 2002, sections 5.1 (min-funding revocation), 5.2 (tax), 6.3 (targets of all clients together).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from vilab.errors import AdminError
from vilab.memory.shares import DEFAULT_TAX, Claim, idle_page_price, rho


def allocation_targets(claims: Sequence[Claim], available_pages: int, tax: float = DEFAULT_TAX) -> tuple[int, ...]:
    """The target of each client, in pages, in the order of ``claims``.

    Each is between the client's minimum and maximum, their sum is at most ``available_pages``, and no page stays
    unused that somebody with shares may hold. A client without shares gets its minimum and no more.

    MODEL: where not even the minimums fit, which admission control prevents, each gets the same part of its minimum.
    """
    k = idle_page_price(tax)
    for claim in claims:
        _check(claim)
    minimum_pages = sum(c.min_pages for c in claims)
    if minimum_pages > available_pages:
        return tuple(c.min_pages * max(0, available_pages) // minimum_pages for c in claims)
    most = [c.max_pages if c.shares else c.min_pages for c in claims]
    if sum(most) <= available_pages:
        return tuple(most)
    return _at_level(claims, most, available_pages, k)


def _check(claim: Claim) -> None:
    if claim.shares < 0 or not 0 <= claim.min_pages <= claim.max_pages:
        raise AdminError(
            f"{claim.name} has {claim.shares} shares, a minimum of {claim.min_pages} and a maximum of "
            f"{claim.max_pages} pages: neither may be negative, and the minimum is at most the maximum."
        )


def _at_level(claims: Sequence[Claim], most: Sequence[int], available_pages: int, k: float) -> tuple[int, ...]:
    """Bisect on the level of rho: above ``too_low`` too much is held, at ``level`` it fits."""
    bidders = [c for c, at_most in zip(claims, most, strict=True) if at_most > c.min_pages]
    too_low = min(rho(c, c.max_pages, k) for c in bidders)
    level = max(rho(c, c.min_pages + 1, k) for c in bidders) * 2
    held = [_pages_at(c, at_most, level, k) for c, at_most in zip(claims, most, strict=True)]
    while True:
        middle = math.sqrt(too_low * level)
        if not too_low < middle < level:
            break
        pages = [_pages_at(c, at_most, middle, k) for c, at_most in zip(claims, most, strict=True)]
        if sum(pages) > available_pages:
            too_low = middle
        else:
            level, held = middle, pages
            if available_pages - sum(pages) <= len(claims):
                break
    return _hand_out_rest(claims, most, held, available_pages - sum(held), k)


def _pages_at(claim: Claim, at_most: int, level: float, k: float) -> int:
    """The most pages with which the client's rho is still at least ``level``, within its bounds."""
    if not claim.shares:
        return claim.min_pages
    affordable = claim.shares / level
    active = claim.active_pages
    pages = affordable if affordable <= active else active + (affordable - active) / k
    whole = max(claim.min_pages, min(at_most, int(pages)))
    # The inverse is rounded; rho itself decides about the last page.
    while whole < at_most and rho(claim, whole + 1, k) >= level:
        whole += 1
    while whole > claim.min_pages and rho(claim, whole, k) < level:
        whole -= 1
    return whole


def _hand_out_rest(
    claims: Sequence[Claim], most: Sequence[int], held: Sequence[int], rest: int, k: float
) -> tuple[int, ...]:
    """The last pages, each to whoever would lose it last; of equals the later one, as the earlier one gives first."""
    pages = list(held)
    bids = [(-rho(c, pages[i] + 1, k), -i) for i, c in enumerate(claims) if pages[i] < most[i]]
    heapq.heapify(bids)
    for _ in range(rest):
        index = -bids[0][1]
        pages[index] += 1
        if pages[index] < most[index]:
            heapq.heapreplace(bids, (-rho(claims[index], pages[index] + 1, k), -index))
        else:
            heapq.heappop(bids)
    return tuple(pages)
