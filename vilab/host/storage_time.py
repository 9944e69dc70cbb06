"""Whose time heartbeats and lock renewals keep.

::

    virtual    the host's clock: peers are hosts of this program        who waits makes it go on, for all that share it
    wall       this computer's clock: peers are other programs          kept up while a host runs, or waits

Two hosts of one program have to share a clock: while one waits to see whether the other is alive, the other's timers
must go on. The wall clock is the same for everybody anyway (``WALL``).

MODEL: with the wall clock, a program that lets no host run and waits for nothing sends no heartbeats either; after
16 s (VMFS) or 30 s (NFS) other programs may take it for dead. It finds that out before it writes again.
"""

from __future__ import annotations

import time
from typing import Literal

from vilab.clock import VirtualClock
from vilab.storage.vmfs.time import SECOND_NS, VIRTUAL_EPOCH_S

Keeps = Literal["virtual", "wall"]


class WallClock(VirtualClock):
    """This computer's time as a clock with timers; ``run_due`` makes the calls."""

    def __init__(self) -> None:
        self._begin_ns = time.monotonic_ns()
        super().__init__()

    @property
    def now_ns(self) -> int:
        return time.monotonic_ns() - self._begin_ns

    @now_ns.setter
    def now_ns(self, _value: int) -> None:
        """It goes by itself."""


WALL = WallClock()


def pass_time(clock: VirtualClock, for_ns: int) -> None:
    """Return when so much time has passed; what is due meanwhile is done."""
    until_ns = clock.now_ns + for_ns
    while (now_ns := clock.now_ns) < until_ns:
        next_ns = min(until_ns, max(now_ns, clock.next_ns()))
        if isinstance(clock, WallClock):
            time.sleep((next_ns - now_ns) / SECOND_NS)
        else:
            clock.now_ns = next_ns
        clock.run_due()
    clock.run_due()


class VolumeTime:
    """A clock as VMFS wants it. ``waits``: an operation on the volume waits at this moment, and renews by itself."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.waits = 0

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    def unix_s(self) -> int:
        if isinstance(self.clock, WallClock):
            return int(time.time())
        return VIRTUAL_EPOCH_S + self.clock.now_ns // SECOND_NS

    def wait(self, for_ns: int) -> None:
        self.waits += 1
        try:
            pass_time(self.clock, for_ns)
        finally:
            self.waits -= 1
