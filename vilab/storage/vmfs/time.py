"""Time for hosts on a volume: passed in, so that sixteen seconds of silence need not be sat out in a test.

::

    0        renew        renew        ...                      a live host writes its stamp
    stamp────┴────────────┴─────

    stamp────────────────────────────────────────┤ dead         an observer has seen no change for so long: its locks
             look   look   look   look   look                   may be broken

MODEL: ESX 3 renews every 3 s; a lock can be broken once the stamp has not changed for 16 s.
"""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from vilab.clock import VirtualClock

SECOND_NS = 1_000_000_000


class Clock(Protocol):
    """``VirtualTime`` or ``WallTime``."""

    @property
    def now_ns(self) -> int:
        """Since the host was started, or any other moment: only differences and changes count."""
        ...

    def unix_s(self) -> int:
        """For the times in inodes."""
        ...

    def wait(self, for_ns: int) -> None:
        """Return when so much time has passed; other hosts go on meanwhile."""
        ...


class Timing(msgspec.Struct, frozen=True):
    """``renew_ns`` between two stamps, ``dead_ns`` of silence, ``look_ns`` between two looks at a silent host;
    ``retry_ns`` after the first reservation conflict (it doubles), ``conflict_ns`` of conflicts until it is an
    error."""

    renew_ns: int = 3 * SECOND_NS
    dead_ns: int = 16 * SECOND_NS
    look_ns: int = SECOND_NS
    retry_ns: int = 500_000
    conflict_ns: int = 30 * SECOND_NS


class WallTime:
    """This computer's clock."""

    @property
    def now_ns(self) -> int:
        return time.monotonic_ns()

    def unix_s(self) -> int:
        return int(time.time())

    def wait(self, for_ns: int) -> None:
        time.sleep(for_ns / SECOND_NS)


VIRTUAL_EPOCH_S = 1_149_120_000
"""1 June 2006: when virtual time begins."""


class VirtualTime:
    """The virtual clock. Whoever waits makes it go on: what is due meanwhile is done."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    def unix_s(self) -> int:
        return VIRTUAL_EPOCH_S + self.clock.now_ns // SECOND_NS

    def wait(self, for_ns: int) -> None:
        until = self.clock.now_ns + for_ns
        while self.clock.next_ns() <= until:
            self.clock.skip_to_next()
            self.clock.run_due()
        self.clock.advance(max(0, until - self.clock.now_ns))
