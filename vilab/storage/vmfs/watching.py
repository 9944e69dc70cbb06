"""A silent host is watched, look by look: is it alive, dead, or is that not known yet?

::

    first look     stamp 17      0 s                         silent_ns grows from look to look
    look           stamp 17      1 s
    look           stamp 18               ──> "alive"
    or             stamp 17      16 s     ──> "dead"          its heartbeat may be broken
    or             free, or another seq   ──> "gone"          somebody else has done that, or it has left

Between two looks no more than a third of that time counts: while nobody has looked, because the volume was not to be
reached or this process stood still, the host may not have reached it either.
"""

from __future__ import annotations

from typing import Literal

from vilab.storage.vmfs.layout import Heartbeat
from vilab.storage.vmfs.time import Timing

Seen = Literal["silent", "alive", "gone", "dead"]


class Watched:
    """One heartbeat. ``seen``: as it was at the first look, at ``since_ns``."""

    def __init__(self, seen: Heartbeat, now_ns: int, timing: Timing) -> None:
        self.seen, self.since_ns, self.timing = seen, now_ns, timing
        self.silent_ns = 0
        self._looked_ns = now_ns

    def forgotten(self, now_ns: int) -> bool:
        """Nobody has looked for so long that what was seen says nothing any more."""
        return now_ns - self._looked_ns > self.timing.dead_ns

    def look(self, now: Heartbeat, now_ns: int) -> Seen:
        if not now.live or now.seq != self.seen.seq:
            return "gone"
        if now.stamp_us != self.seen.stamp_us:
            return "alive"
        self.silent_ns += min(now_ns - self._looked_ns, self.timing.dead_ns // 3)
        self._looked_ns = now_ns
        return "dead" if self.silent_ns >= self.timing.dead_ns else "silent"

    def begin_again(self, seen: Heartbeat, now_ns: int) -> None:
        """It lives. ``since_ns`` stays."""
        self.seen, self.silent_ns, self._looked_ns = seen, 0, now_ns
