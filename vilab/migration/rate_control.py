"""How fast a round may send: dynamic rate limiting.

::

    Mbit/s   maximum ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┌──┐  the last copy: the machine stands still
                                                 ┌─────┤  │
                                          ┌──────┘     │  │   what the guest has dirtied a second in the round
                       ┌──────────────────┘            │  │   before, and 50 Mbit/s more: a little faster than it
    minimum  ──────────┘  2            3      4     5  │  │
                 1

    limit(1)     = minimum
    limit(n + 1) = dirtied(n) / duration(n) + 50 Mbit/s
    stop, if limit(n + 1) > maximum or less than 256 KB are left; then send what is left at maximum

The first round carries most of the memory and is gentle to the network and to what else the host does; only the few
pages that are written all the time are worth the full rate.

Source: Clark et al. 2005, section 5.3. 1 Mbit/s is 10**6 bits a second, 1 KB of memory 1024 bytes.
MODEL: the paper does not say what holds if the formula gives less than the minimum. A minimum is a minimum here.
"""

from __future__ import annotations

import msgspec

from vilab.errors import AdminError
from vilab.migration.migration_events import RoundSent

PAGE_BYTES = 4096
MBIT = 1_000_000 // 8
"""Bytes a second that make 1 Mbit/s."""

INCREMENT_BYTES_PER_S = 50 * MBIT
SMALL_BYTES = 256 * 1024

MINIMUM_BYTES_PER_S = 100 * MBIT
"""The first round of the paper's SPECweb99 run: 676.8 MB in 54.1 s."""
MAXIMUM_BYTES_PER_S = 500 * MBIT
"""MODEL: the paper has the administrator choose. Its constant writer was sent at 500 Mbit/s."""


class RateLimits(msgspec.Struct, frozen=True):
    """What the administrator sets, and the constants of the rule. ``AdminError`` if they do not go together."""

    minimum_bytes_per_s: int = MINIMUM_BYTES_PER_S
    maximum_bytes_per_s: int = MAXIMUM_BYTES_PER_S
    increment_bytes_per_s: int = INCREMENT_BYTES_PER_S
    small_bytes: int = SMALL_BYTES

    def __post_init__(self) -> None:
        low, high = self.minimum_bytes_per_s / MBIT, self.maximum_bytes_per_s / MBIT
        if self.minimum_bytes_per_s <= 0:
            raise AdminError(f"The least rate of a migration is {low:g} Mbit/s: give one that is more than 0.")
        if self.maximum_bytes_per_s < self.minimum_bytes_per_s:
            raise AdminError(
                f"The greatest rate of a migration, {high:g} Mbit/s, is below the least, {low:g} Mbit/s: "
                "raise the one or lower the other."
            )
        if self.increment_bytes_per_s <= 0:
            raise AdminError("A round has to be sent faster than pages are dirtied: the increment must be above 0.")


class Decision(msgspec.Struct, frozen=True):
    """``limit_bytes_per_s``: of the next round, or of the last copy if ``stop`` gives the reason for one."""

    limit_bytes_per_s: int
    stop: str = ""


def dirtying_bytes_per_s(last: RoundSent) -> int:
    """What the guest has dirtied a second in this round, rounded down. 0 for a round that took no time."""
    if not last.duration_ns:
        return 0
    return last.dirtied_pages * PAGE_BYTES * 1_000_000_000 // last.duration_ns


def wanted_bytes_per_s(limits: RateLimits, last: RoundSent) -> int:
    """The formula, before it meets the maximum."""
    return max(dirtying_bytes_per_s(last) + limits.increment_bytes_per_s, limits.minimum_bytes_per_s)


def after_round(limits: RateLimits, last: RoundSent) -> Decision:
    """Whether there is another round after this one, and how fast."""
    left_bytes = last.dirtied_pages * PAGE_BYTES
    if left_bytes < limits.small_bytes:
        return Decision(
            limits.maximum_bytes_per_s,
            f"{left_bytes // 1024} KB are left, less than {limits.small_bytes // 1024} KB",
        )
    wanted = wanted_bytes_per_s(limits, last)
    if wanted > limits.maximum_bytes_per_s:
        return Decision(
            limits.maximum_bytes_per_s,
            f"the next round would need {wanted / MBIT:.5g} Mbit/s, more than the maximum of "
            f"{limits.maximum_bytes_per_s / MBIT:.5g} Mbit/s",
        )
    return Decision(wanted)
