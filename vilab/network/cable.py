"""The virtual cable between a machine's network card and a port: two clocks, and what is on its way.

::

    card of a VM            cable                              port of a switch
    vm.clock            ───transmit──>  network clock: CABLE_NS later, in the order of time ──> port.transmit
    vm.clock: CABLE_NS later, or at once if the VM is further already  <──receive── port

    offset_ns: what the network's clock shows when the machine's shows 0

Machines of a host run one after the other, a slice each. What they send within a slice is put on the network's clock
with the moment at which it was sent, so that the switch sees all frames in the order of time. A frame that arrives for
a machine which has run further than that is there at once: no frame is ever received before it was sent.

Frames on their way to the card are state, and travel with the machine; what it has sent is the network's.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.protocols import NetworkInterface, NetworkPort

CABLE_NS = 5_000
"""MODEL: what the vmkernel takes to carry a frame between a card and a switch, either way."""
MOST_ARRIVING = 4096
"""Frames that wait for a machine which does not run; more are lost, so that no flood fills the host's memory."""


class CableState(msgspec.Struct):
    """``arriving``: (when, in the machine's time, the frame). ``lost``: how many found no room."""

    arriving: list[tuple[int, bytes]] = []
    lost: int = 0


class VirtualCable:
    """A ``NetworkPort`` for the card, a ``NetworkInterface`` for the port.

    Parameters
    ----------
    offset_ns : asked at each frame; a machine that stands still falls behind.
    """

    def __init__(
        self, port: NetworkPort, card_clock: VirtualClock, network_clock: VirtualClock,
        offset_ns: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        self.port, self._card_clock, self._network_clock = port, card_clock, network_clock
        self.offset_ns = offset_ns
        self.sent_ns = -1
        """When the last frame left the card, in the network's time; statistics, not state."""
        self._card: NetworkInterface | None = None
        self._state = CableState()
        self._timer: Timer | None = None

    # --- for the card -------------------------------------------------------------------------------------------------

    @property
    def link_up(self) -> bool:
        return self.port.link_up

    def plug(self, interface: NetworkInterface) -> None:
        self._card = interface
        self.port.plug(self)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        self.port.listen(address, promiscuous)

    def transmit(self, frame: bytes) -> None:
        self.sent_ns = self._card_clock.now_ns + self.offset_ns()
        self._network_clock.at(self.sent_ns + CABLE_NS, lambda: self.port.transmit(frame))

    # --- for the port -------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes) -> None:
        at_ns = max(self._card_clock.now_ns, self._network_clock.now_ns - self.offset_ns() + CABLE_NS)
        if len(self._state.arriving) >= MOST_ARRIVING:
            self._state.lost += 1
            return
        self._state.arriving.append((at_ns, frame))
        self._expect()

    def link_changed(self, up: bool) -> None:
        if self._card is not None:
            self._card.link_changed(up)

    def wants_multicast(self, destination: bytes) -> bool:
        return self._card is not None and self._card.wants_multicast(destination)

    # --- on its way ---------------------------------------------------------------------------------------------------

    def _expect(self) -> None:
        if self._timer is None and self._state.arriving:
            self._timer = self._card_clock.at(self._state.arriving[0][0], self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        arriving, now_ns = self._state.arriving, self._card_clock.now_ns
        while arriving and arriving[0][0] <= now_ns:
            frame = arriving.pop(0)[1]
            if self._card is not None:
                self._card.receive(frame)
        self._expect()

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def load_state(self, state: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._state = msgspec.msgpack.decode(state, type=CableState)
        self._expect()
