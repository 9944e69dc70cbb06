"""Virtual time: one clock, driven by the processor.

Time moves in two ways only: the processor has executed code (1 ns a byte unless told otherwise), or an exit was
charged its cost. Whatever waits (a timer chip, a disk) asks the clock for a call at a later time; the engine runs
the processor no further than ``next_ns`` and then lets ``run_due`` make the calls. Calls due at one instant are made
in the order in which they were asked for, so that a run is the same every time.

Waiting things are not part of a snapshot as callables: a device keeps its deadline in its state record and asks again
when its state is loaded.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

NEVER_NS = 1 << 62


class Timer:
    """A call that has been asked for. ``cancel()`` withdraws it."""

    __slots__ = ("action", "at_ns", "order")

    def __init__(self, at_ns: int, order: int, action: Callable[[], None]) -> None:
        self.at_ns = at_ns
        self.order = order
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None

    def __lt__(self, other: Timer) -> bool:
        return (self.at_ns, self.order) < (other.at_ns, other.order)


class VirtualClock:
    """Nanoseconds since power-on, and who wants to be woken when."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._order = 0
        self._heap: list[Timer] = []

    def at(self, at_ns: int, action: Callable[[], None]) -> Timer:
        """Call ``action`` at ``at_ns`` (at once, on the next ``run_due``, if that has passed)."""
        self._order += 1
        timer = Timer(max(at_ns, self.now_ns), self._order, action)
        heapq.heappush(self._heap, timer)
        return timer

    def next_ns(self) -> int:
        """When the next call is due; ``NEVER_NS`` if nobody waits."""
        heap = self._heap
        while heap and heap[0].action is None:
            heapq.heappop(heap)
        return heap[0].at_ns if heap else NEVER_NS

    def advance(self, by_ns: int) -> None:
        self.now_ns += by_ns

    def run_due(self) -> None:
        """Make every call that is due now."""
        while self.next_ns() <= self.now_ns:
            action = heapq.heappop(self._heap).action
            if action is not None:
                action()

    def run_to(self, until_ns: int) -> None:
        """Make every call that is due until then, each at its own time; then it is ``until_ns``."""
        while (at_ns := self.next_ns()) <= until_ns:
            self.now_ns = max(self.now_ns, at_ns)
            action = heapq.heappop(self._heap).action
            if action is not None:
                action()
        self.now_ns = max(self.now_ns, until_ns)

    def run_for(self, for_ns: int) -> None:
        """The same, for so long."""
        self.run_to(self.now_ns + for_ns)

    def skip_to_next(self) -> bool:
        """Jump to the next call (the processor is halted). False if nobody waits."""
        at_ns = self.next_ns()
        if at_ns >= NEVER_NS:
            return False
        self.now_ns = max(self.now_ns, at_ns)
        return True

    def forget_all(self, now_ns: int) -> None:
        """Withdraw every call and set the time: a snapshot is about to be loaded."""
        self._heap.clear()
        self.now_ns = now_ns
