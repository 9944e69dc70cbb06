"""A network card of the host: what a virtual switch calls an uplink.

::

    virtual switch ── transmit ──> vmnic0 ──> wire ── physical switch
                   <─ on_receive ─        <──
                   <─ on_link ────

It receives everything: a virtual switch puts its uplinks into promiscuous mode, because the addresses of its machines
are not the card's ("Virtual Networking Concepts", VMware 2007: the card's own MAC address is of no use to machines).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.ethernet import HEADER_BYTES
from vilab.network.physical_events import LinkChanged
from vilab.network.wire import GIGABIT
from vilab.protocols import NetworkPort


class NicStatistics(msgspec.Struct):
    """``no_link``: frames that were to be sent without a link, and are lost."""

    frames_out: int = 0
    octets_out: int = 0
    frames_in: int = 0
    octets_in: int = 0
    no_link: int = 0
    link_changes: int = 0


class NicState(msgspec.Struct):
    link_up: bool
    statistics: NicStatistics


class PhysicalNic:
    """A ``NetworkInterface`` in a port, as a rule one end of a ``Wire``.

    ``on_receive``, ``on_link`` belong to the virtual switch that has it; ``watchers`` are told of the link after it.
    ``intercept`` sees a frame first; what it answers "true" to gets no further.
    """

    def __init__(
        self, name: str, mac: bytes, port: NetworkPort, clock: VirtualClock, log: EventLog | None = None,
        bits_per_second: int = GIGABIT,
    ) -> None:  # fmt: skip
        self.name, self.mac, self.port, self.bits_per_second = name, mac, port, bits_per_second
        self._clock, self._log = clock, log
        self.on_receive: Callable[[bytes], None] = lambda frame: None
        self.on_link: Callable[[bool], None] = lambda up: None
        self.watchers: list[Callable[[], None]] = []
        self.intercept: Callable[[bytes], bool] | None = None
        self._link_up = port.link_up
        self.statistics = NicStatistics()
        port.plug(self)
        port.listen(mac, True)

    @property
    def link_up(self) -> bool:
        return self._link_up

    def transmit(self, frame: bytes) -> None:
        if not self._link_up:
            self.statistics.no_link += 1
            return
        self.statistics.frames_out += 1
        self.statistics.octets_out += len(frame)
        self.port.transmit(frame)

    # --- the port's side ----------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        if not self._link_up or len(frame) < HEADER_BYTES:
            return
        self.statistics.frames_in += 1
        self.statistics.octets_in += len(frame)
        if self.intercept is None or not self.intercept(frame):
            self.on_receive(frame)

    def link_changed(self, up: bool) -> None:
        if up == self._link_up:
            return
        self._link_up = up
        self.statistics.link_changes += 1
        if self._log is not None and self._log.active:
            self._log.emit(LinkChanged(self._clock.now_ns, self.name, up))
        self.on_link(up)
        for watcher in self.watchers:
            watcher()

    def wants_multicast(self, destination: bytes) -> bool:
        return True

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode(NicState(self._link_up, self.statistics))

    def load_state(self, state: bytes) -> None:
        record = msgspec.msgpack.decode(state, type=NicState)
        self._link_up, self.statistics = record.link_up, record.statistics
