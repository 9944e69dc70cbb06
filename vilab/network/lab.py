"""A network that runs by itself: no processor, the clock jumps from one frame to the next."""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.errors import VmmBug


def run_until(clock: VirtualClock, at_ns: int, max_steps: int = 1_000_000) -> int:
    """Make every call that is due until ``at_ns``, each at its own moment; the clock shows ``at_ns`` then.

    Returns the number of moments at which something happened. ``VmmBug`` after ``max_steps``.
    """
    steps = 0
    while clock.next_ns() <= at_ns:
        clock.skip_to_next()
        clock.run_due()
        steps += 1
        if steps > max_steps:
            raise VmmBug(f"The network has done {max_steps} steps and is at {clock.now_ns} ns only.")
    clock.now_ns = max(clock.now_ns, at_ns)
    return steps


def run_for(clock: VirtualClock, for_ns: int, max_steps: int = 1_000_000) -> int:
    return run_until(clock, clock.now_ns + for_ns, max_steps)
