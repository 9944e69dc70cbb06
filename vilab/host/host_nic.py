"""The host's own network card on a 100 Mbit/s wire, and a peer at its other end.

::

    send ──> line, one frame at a time ──> peer          at the end of each frame: an interrupt, "sent"
    interrupt "received" <── line <── peer.transmit

    on the wire: preamble 8 | frame | FCS 4 | gap 12     (vilab/network/wire)

What is going to happen is known as soon as a frame is on the wire. So whoever has the processor can be told of an
interrupt at its own time, even if the clock jumps over that because somebody was busy: ``due``.

MODEL: one interrupt for each frame, either way. The card has room for ``ROOM`` frames to be sent; then the sender
waits, as TCP would let it.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.clock import NEVER_NS, Timer, VirtualClock
from vilab.network.ethernet import MIN_FRAME_BYTES
from vilab.network.wire import DELAY_NS, FCS_BYTES, GAP_BYTES, PREAMBLE_BYTES
from vilab.protocols import NetworkInterface

FAST_ETHERNET = 100_000_000
ROOM = 4


class Line:
    """One direction."""

    def __init__(self, bits_per_second: int) -> None:
        self.bits_per_second, self.free_ns = bits_per_second, 0

    def time_ns(self, octets: int) -> int:
        return -(-octets * 8 * 1_000_000_000 // self.bits_per_second)

    def send(self, now_ns: int, frame: bytes) -> tuple[int, int]:
        """(when it begins, when its last bit has left)"""
        octets = PREAMBLE_BYTES + max(len(frame), MIN_FRAME_BYTES) + FCS_BYTES
        start_ns = max(now_ns, self.free_ns)
        self.free_ns = start_ns + self.time_ns(octets + GAP_BYTES)
        return start_ns, start_ns + self.time_ns(octets)


class HostNic:
    """The card, the wire, and a ``NetworkPort`` for the peer.

    Parameters
    ----------
    interrupt : called at an interrupt: when it came, and the frame that was received, or ``None``: one was sent.
    """

    link_up = True

    def __init__(
        self, clock: VirtualClock, interrupt: Callable[[int, bytes | None], None], bits_per_second: int = FAST_ETHERNET
    ) -> None:
        self.clock, self._interrupt = clock, interrupt
        self.out, self.back = Line(bits_per_second), Line(bits_per_second)
        self.sending = 0
        self._due: list[tuple[int, bytes | None]] = []
        self._timer: Timer | None = None
        self._peer: NetworkInterface | None = None

    @property
    def has_room(self) -> bool:
        return self.sending < ROOM

    def send(self, at_ns: int, frame: bytes) -> None:
        """From the host."""
        _, left_ns = self.out.send(at_ns, frame)
        self.sending += 1
        self._add(left_ns, None)
        peer = self._peer
        if peer is not None:
            self.clock.at(left_ns + DELAY_NS, lambda: peer.receive(frame))

    # --- the peer's port ----------------------------------------------------------------------------------------------

    def plug(self, interface: NetworkInterface) -> None:
        self._peer = interface

    def transmit(self, frame: bytes) -> None:
        _, left_ns = self.back.send(self.clock.now_ns, frame)
        self._add(left_ns + DELAY_NS, frame)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        """It hears all that is on its wire."""

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        pass

    # --- interrupts ---------------------------------------------------------------------------------------------------

    def take_due(self, until_ns: int) -> tuple[int, bytes | None] | None:
        """The next interrupt that comes until then."""
        if not self._due or self._due[0][0] > until_ns:
            return None
        found = self._due.pop(0)
        if found[1] is None:
            self.sending -= 1
        self._expect()
        return found

    def _add(self, at_ns: int, frame: bytes | None) -> None:
        self._due.append((at_ns, frame))
        self._due.sort(key=lambda each: each[0])
        self._expect()

    def _expect(self) -> None:
        at_ns = self._due[0][0] if self._due else NEVER_NS
        if self._timer is not None and (self._timer.action is None or self._timer.at_ns != max(at_ns, 0)):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._due:
            self._timer = self.clock.at(at_ns, self._fire)

    def _fire(self) -> None:
        self._timer = None
        while (found := self.take_due(self.clock.now_ns)) is not None:
            self._interrupt(*found)
        self._expect()
