"""Long lives of one machine: it moves, comes back, is powered off and on somewhere else; and offers of long ago arrive.

The machine's memory is a number, the last one that it has written to its disk: who runs it with another number than the
disk has would go on with a past that is not true any more.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.migration.handover_site import NODE, Kind, Site, open_disks
from tests.migration.handover_world import World
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.storage_time import pass_time
from vilab.host.vm_disks import VmDisks
from vilab.migration.handover import Offer, Reclaimed, TakenOver, reattach
from vilab.migration.handover_destination import DestinationSide
from vilab.migration.handover_source import SourceSide

EVENTS = ("write", "write", "off", "on", "on", "move", "move", "move", "late", "late", "nobody")
MOVES = ("good", "refused", "silent", "answer lost", "too late")


class History:
    def __init__(self, site: Site, seed: int) -> None:
        self.random = random.Random(seed)
        world = World(site)
        self.world, self.hosts = world, world.hosts
        assert world.source.disks is not None
        world.source.disks.close()
        self.at: Host | None = None
        self.disks: VmDisks | None = None
        self.memory = self.written = 0
        self.offers: list[tuple[Offer, int]] = []
        """With the memory that went with each."""
        self.pending: Offer | None = None
        self.sessions = 0
        self.seen: set[str] = set()

    def event(self) -> None:
        what = self.random.choice(EVENTS)
        getattr(self, what)()
        self.judge()

    def judge(self) -> None:
        if self.disks is None:
            return
        found = int.from_bytes(self.disks.devices()[NODE].read(0, 512)[:8], "little")
        assert found == self.memory == self.written
        for host in self.hosts:
            if host is not self.at:
                with pytest.raises(AdminError):
                    open_disks(host)

    def _begin(self, host: Host, disks: VmDisks, memory: int) -> None:
        self.at, self.disks, self.memory, self.pending = host, disks, memory, None

    # --- what happens -------------------------------------------------------------------------------------------------

    def write(self) -> None:
        if self.disks is not None:
            self.memory = self.written = self.written + 1
            self.disks.devices()[NODE].write(0, self.memory.to_bytes(8, "little").ljust(512, b"\0"))

    def off(self) -> None:
        if self.disks is not None:
            assert self.disks.close() == []
            self.at = self.disks = None

    def on(self) -> None:
        """In the ordinary way: its memory is new, and knows the disk."""
        if self.disks is None:
            host = self.random.choice(self.hosts)
            disks = open_disks(host)
            self._begin(host, disks, self.written)
            if self.written == 0:
                self.write()

    def move(self) -> None:
        if self.disks is None or self.at is None:
            return
        how = self.random.choice(MOVES)
        here, before = self.at, self.disks
        there = self.random.choice([host for host in self.hosts if host is not here])
        self.sessions += 1
        source = SourceSide(before, f"session {self.sessions}", there.name)
        offer, memory = source.give_back(), self.memory
        self.offers.append((offer, memory))
        self.at = self.disks = None
        side = DestinationSide(there.storage, offer, offer.session, there.clock, there.log)
        if how in ("good", "answer lost"):
            side.take()
            self._begin(there, side.commit(), memory)
            if how == "answer lost":
                answer = source.settle(lambda ns: pass_time(there.clock, ns))
                assert isinstance(answer, TakenOver)
                assert answer.host == there.name
        else:
            if how == "refused":
                side.take()
                side.refuse()
            answer = source.reclaim()
            assert isinstance(answer, Reclaimed)
            reattach(before, answer.disks)
            self._begin(here, answer.disks, memory)
            if how == "too late":
                with pytest.raises(AdminError):
                    side.take()
        self.seen.add(how)

    def nobody(self) -> None:
        """The source dies when it has given the locks back, and the offer is on its way for a long time."""
        if self.disks is not None and self.at is not None:
            there = self.random.choice([host for host in self.hosts if host is not self.at])
            self.sessions += 1
            self.pending = SourceSide(self.disks, f"session {self.sessions}", there.name).give_back()
            self.offers.append((self.pending, self.memory))
            self.at = self.disks = None

    def late(self) -> None:
        """Any offer of before arrives, again or at last."""
        if not self.offers:
            return
        offer, memory = self.random.choice(self.offers)
        there = next(host for host in self.hosts if host.name == offer.destination)
        side = DestinationSide(there.storage, offer, offer.session, there.clock, there.log)
        if offer is self.pending:
            side.take()
            self._begin(there, side.commit(), memory)
            self.seen.add("at last")
        else:
            with pytest.raises(AdminError):
                side.take()
            self.seen.add("late" if self.disks is None else "late, and it runs")


@pytest.mark.parametrize(("kind", "lives", "events"), [("local", 16, 60), ("vmfs", 3, 40), ("nfs", 3, 40)])
def test_only_the_newest_offer_is_ever_taken(kind: Kind, lives: int, events: int, tmp_path: Path) -> None:
    site = Site(kind, tmp_path)
    seen: set[str] = set()
    for seed in range(lives):
        history = History(site, seed)
        for _ in range(events):
            history.event()
        seen |= history.seen
        history.world.close()
    if kind == "local":
        assert seen == {*MOVES, "at last", "late", "late, and it runs"}
