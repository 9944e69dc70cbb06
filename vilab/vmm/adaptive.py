"""Adaptive translation: instructions that keep storing to traced pages become callouts, and back again.

::

    identical ── 8 trace faults ──> simulated (a callout that does the store)
        ^                               │
        └── 512 stores that hit no ─────┘
            traced page in a row

Adams and Agesen 2006, section 3.3: an instruction is innocent until proven guilty. Eager to leave traps behind, since a
trap costs about twice a callout (2030 against 1254 cycles, papers' figures), and reluctant to go back (hysteresis).
"""

from __future__ import annotations

GUILTY_AFTER_TRAPS = 8
INNOCENT_AFTER_STORES = 512


class Adaptive:
    """Counts by the linear address of an instruction. It holds no translations; engines ask it.

    Parameters
    ----------
    guilty_after : trace faults until an instruction is simulated; 0: never.
    innocent_after : simulated stores without a hit until it runs as it is again.
    """

    def __init__(self, guilty_after: int = GUILTY_AFTER_TRAPS, innocent_after: int = INNOCENT_AFTER_STORES) -> None:
        self.guilty_after, self.innocent_after = guilty_after, innocent_after
        self.traps: dict[int, int] = {}
        self.misses: dict[int, int] = {}
        """Of the guilty: stores in a row that hit no traced page."""

    def trapped(self, address: int) -> bool:
        """A trace fault. True: simulate the instruction from now on."""
        count = self.traps.get(address, 0) + 1
        self.traps[address] = count
        if count != self.guilty_after:
            return False
        self.misses[address] = 0
        return True

    def stored(self, address: int, hit: bool) -> bool:
        """A simulated store. True: let the instruction run as it is again."""
        misses = self.misses[address] = 0 if hit else self.misses.get(address, 0) + 1
        if misses < self.innocent_after:
            return False
        self.acquit(address)
        return True

    def acquit(self, address: int) -> None:
        """Start from innocence."""
        self.traps.pop(address, None)
        self.misses.pop(address, None)

    def is_guilty(self, address: int) -> bool:
        return address in self.misses

    def forget(self) -> None:
        """The code is gone."""
        self.traps.clear()
        self.misses.clear()

    def contents(self) -> tuple[dict[int, int], dict[int, int]]:
        """For checkpoints."""
        return self.traps, self.misses

    def set_contents(self, contents: tuple[dict[int, int], dict[int, int]]) -> None:
        self.forget()
        self.traps.update(contents[0])
        self.misses.update(contents[1])
