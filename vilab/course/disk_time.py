"""Where the time of lesson 12's disk goes: the guest's requests one after the other, and the same ones all at once.

::

    one by one   |== write ==|  |= flush =|  |== write ==|  ...      the driver waits for each
    at once      |== write ==|
                 |...........= flush =|                              ...: waits for those before it
                 |.....................== write ==|

``ListenedTo`` notes what the guest's own disk counts, ``AtOnce`` gives its requests to another disk of the same make.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.clock import VirtualClock
from vilab.devices.scsi_events import CommandCompleted, RequestFetched
from vilab.events import Event, EventLog
from vilab.storage.paged_disk import PagedDisk
from vilab.storage.scsi.parallel import ParallelBus, movement
from vilab.storage.timed import DiskRequest, Latency, TimedDisk
from vilab.view.disk_statistics import Moment
from vilab.view.write_path import spoken


class ListenedTo:
    """The requests of a guest to disk 0 of a bus, from now on; its statistics begin anew."""

    def __init__(self, bus: ParallelBus, log: EventLog) -> None:
        self.bus, self.cdbs = bus, list[bytes]()
        self._made: list[Moment] = []
        self._under_way: dict[int, bytes] = {}
        self._begun_ns: int | None = None
        bus.restart_statistics()
        log.listen(self._hear)

    @property
    def lanes(self) -> int:
        return self.bus.latency.lanes

    def moments(self) -> Sequence[Moment]:
        return self._made

    def _hear(self, event: Event) -> None:
        if isinstance(event, RequestFetched) and event.target == 0 and movement(event.cdb) is not None:
            self._under_way[event.tag] = event.cdb
            if self._begun_ns is None:
                self._begun_ns = event.at_ns
        elif isinstance(event, CommandCompleted) and event.target == 0 and event.tag in self._under_way:
            cdb = self._under_way.pop(event.tag)
            assert self._begun_ns is not None
            self.cdbs.append(cdb)
            self._made.append(Moment(spoken(cdb), event.at_ns - self._begun_ns, self.bus.statistics[0].copy()))


class AtOnce:
    """A driver that does not wait: it gives all of these commands at the same moment, in their order."""

    def __init__(self, cdbs: Sequence[bytes], latency: Latency, size_bytes: int) -> None:
        self.lanes = latency.lanes
        self._made: list[Moment] = []
        self.clock = VirtualClock()
        self.disk = TimedDisk(PagedDisk(size_bytes), self.clock, latency)
        for cdb in cdbs:
            self._give(cdb)
        while self.disk.outstanding():
            self.clock.skip_to_next()
            self.clock.run_due()

    def moments(self) -> Sequence[Moment]:
        return self._made

    def _give(self, cdb: bytes) -> None:
        moved = movement(cdb)
        assert moved is not None

        def ended(_request: DiskRequest) -> None:
            self._made.append(Moment(spoken(cdb), self.clock.now_ns, self.disk.statistics.copy()))

        if moved.operation == "read":
            self.disk.read(moved.offset_bytes, moved.size_bytes, ended)
        elif moved.operation == "write":
            self.disk.write(moved.offset_bytes, bytes(moved.size_bytes), ended)
        elif moved.operation == "flush":
            self.disk.flush(ended)
        else:
            self.disk.unmap(moved.offset_bytes, moved.size_bytes, ended)
