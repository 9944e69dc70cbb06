"""Who has the processor, what every change of that costs, and the account of it.

::

    the VMM's world                        the host's world
    ┌──────────────┐    WorldSwitched     ┌──────────────────────────────────┐
    │ guest | VMM  │ ──────────────────>  │ VMDriver | VMApp | host kernel   │
    └──────────────┘ <──────────────────  └──────────────────────────────────┘

    at_ns    now, and what was spent since but is not yet on the guest's clock
    counts   (which cost, why) -> how often

The guest waits for all of it: ``owe`` puts it on its clock. An access to a port may stand in the middle of a block of
code, where time must not jump, so it is paid at the next boundary (vilab/vmm/engine_time); until then ``at_ns`` is
ahead of the clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from vilab.clock import VirtualClock
from vilab.events import Event, EventLog
from vilab.host.world_costs import WorldCosts
from vilab.host.world_events import Crossed, Place, Worked, WorldSwitched

Key = tuple[str, str]
"""(a field of ``WorldCosts``, why)"""


class Worlds:
    """The account of one virtual machine.

    Parameters
    ----------
    owe : lets the guest wait so many nanoseconds longer.
    """

    def __init__(self, clock: VirtualClock, log: EventLog, owe: Callable[[int], None], costs: WorldCosts) -> None:
        self.clock, self.log, self.costs = clock, log, costs
        self._owe = owe
        self._until_ns = 0
        self.counts: Counter[Key] = Counter()
        self.charged_ns = 0

    @property
    def at_ns(self) -> int:
        return max(self.clock.now_ns, self._until_ns)

    def switch(self, origin: Place, to: Place, why: str) -> None:
        """From one world to the other."""
        ns = self.costs.switch_ns
        self.emit(WorldSwitched(self.at_ns, origin, to, why, ns))
        self._spend("switch_ns", why, ns)

    def cross(self, origin: Place, to: Place, why: str) -> None:
        """Within a world. MODEL: it costs nothing of its own; the way is in what is done at its end."""
        self.emit(Crossed(self.at_ns, origin, to, why))

    def work(self, where: Place, field: str, what: str, covered_ns: int = 0) -> None:
        """Spend what ``field`` says. ``covered_ns``: so much of it the engine has charged already."""
        ns: int = getattr(self.costs, field)
        self.emit(Worked(self.at_ns, where, what, ns))
        self._spend(field, "", max(0, ns - covered_ns))

    def emit(self, event: Event) -> None:
        if self.log.active:
            self.log.emit(event)

    def _spend(self, field: str, why: str, ns: int) -> None:
        self.counts[field, why] += 1
        self._until_ns = self.at_ns + ns
        self.charged_ns += ns
        if ns:
            self._owe(ns)
