"""The translation cache as the event log tells it: fragments, their links, and what became of them.

::

    UnitTranslated    a fragment is there          |  A  |B|   C    |
    FragmentChained   an exit leads straight on       '---------^
    UnitInvalidated   a fragment is gone
    CacheFlushed      all of them are

``CacheHistory`` can be asked for any step; going on from the last answer costs only the steps between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from vilab.events import CacheFlushed, FragmentChained, UnitInvalidated, UnitTranslated
from vilab.vmm.records import StepRecord


class Link(msgspec.Struct, frozen=True):
    """An exit at ``source`` that has been patched to jump to ``target``. ``how``: ``jump`` or ``fall_through``."""

    source: int
    target: int
    how: str


class CacheState(msgspec.Struct):
    """What is in the cache: fragments by address in the cache, links by address of the exit."""

    fragments: dict[int, UnitTranslated] = {}
    links: dict[int, Link] = {}

    def starts(self) -> list[int]:
        return sorted(self.fragments)

    def end_of(self, start: int) -> int:
        """Where the fragment ends: a successor may have taken the place of its last exit."""
        starts = self.starts()
        at = bisect_right(starts, start)
        own = start + len(self.fragments[start].tc_code)
        return min(own, starts[at]) if at < len(starts) else own

    def holding(self, address: int | None) -> int | None:
        """The start of the fragment that ``address`` lies in."""
        if address is None:
            return None
        starts = self.starts()
        at = bisect_right(starts, address) - 1
        if at < 0 or address >= self.end_of(starts[at]):
            return None
        return starts[at]

    def owner_of(self, link: Link) -> int | None:
        """The fragment that a link leaves. Where its target took the place of the exit, that is the one before."""
        return self.holding(link.source - 1 if link.source == link.target else link.source)

    def links_of(self, start: int) -> list[Link]:
        """Links that leave this fragment."""
        return [link for _, link in sorted(self.links.items()) if self.owner_of(link) == start]

    @property
    def size_bytes(self) -> int:
        return sum(self.end_of(start) - start for start in self.fragments)


class CacheHistory:
    """Replays the cache's events up to a step."""

    def __init__(self, records: Sequence[StepRecord]) -> None:
        self._records = records
        self._made = 0
        self._state = CacheState()

    def at(self, steps: int) -> CacheState:
        """The state after that many steps. Good until the next call."""
        if steps < self._made:
            self._made = 0
            self._state = CacheState()
        for record in self._records[self._made : steps]:
            for event in record.events:
                apply(self._state, event)
        self._made = steps
        return self._state


def apply(state: CacheState, event: object) -> None:
    """One event of the log."""
    if isinstance(event, UnitTranslated):
        state.fragments[event.tc_address] = event
    elif isinstance(event, FragmentChained):
        link = Link(event.from_tc_address, event.to_tc_address, event.how)
        state.links[link.source] = link
    elif isinstance(event, UnitInvalidated):
        gone = state.fragments.pop(event.tc_address, None)
        size = len(gone.tc_code) if gone else 0
        inside = range(event.tc_address, event.tc_address + max(size, 1))
        state.links = {
            source: link for source, link in state.links.items() if source not in inside and link.target not in inside
        }
    elif isinstance(event, CacheFlushed):
        state.fragments.clear()
        state.links.clear()
