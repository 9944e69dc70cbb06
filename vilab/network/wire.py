"""A physical link: two directions that know nothing of each other, each with a speed, a delay and a queue.

::

    end a                                                                                                 end b
    transmit ─> queue (bounded) ─> serialisation, one frame at a time ─> delay_ns ─> deliver
    deliver <─ delay_ns <─ serialisation <─ queue <─ transmit

    on the wire    | preamble, SFD | frame, at least 60 | FCS |  gap  |
    octets                 8         max(60, length)       4      12

    start     = max(now, the end of the gap after the frame before)
    delivered = start + (8 + frame + 4) * 8 / bits_per_second + delay_ns     the gap is behind: it delays no one
    next      = start + (8 + frame + 4 + 12) * 8 / bits_per_second           but the frame that follows

1 Gbit/s: a frame of 60 octets takes 576 ns and its slot 672 ns, one of 1514 takes 12208 and 12304 ns. Fractions of a
nanosecond are rounded up, frame by frame. A frame that finds ``queue_frames`` waiting is dropped. When the cable is
pulled, what is queued or on its way is lost.

What is at an end: a card (``plug``) or a port of a switch (``attach``).

MODEL: no bit errors, no collisions (full duplex), no flow control (PAUSE). The delay is that of 100 m of copper,
5 ns/m. Source: IEEE 802.3-2005, 3.1 (frame), 4.4.2 (gap of 96 bit times).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.network.ethernet import MIN_FRAME_BYTES
from vilab.protocols import NetworkInterface, NetworkPort

PREAMBLE_BYTES, FCS_BYTES, GAP_BYTES = 8, 4, 12
GIGABIT = 1_000_000_000
DELAY_NS = 500
QUEUE_FRAMES = 256


class OnWire(msgspec.Struct, frozen=True):
    start_ns: int
    arrives_ns: int
    frame: bytes


class DirectionStatistics(msgspec.Struct):
    """``lost``: sent while there was no link, or under way when it was pulled. ``dropped``: the queue was full."""

    frames: int = 0
    octets: int = 0
    dropped: int = 0
    lost: int = 0


class DirectionState(msgspec.Struct):
    """``free_ns``: when the gap behind the last frame ends. ``under_way``: in the order of sending."""

    free_ns: int = 0
    under_way: list[OnWire] = []
    statistics: DirectionStatistics = msgspec.field(default_factory=DirectionStatistics)


class WireState(msgspec.Struct):
    """Of each end: whether it is switched on, and the direction that begins there."""

    plugged: bool = True
    enabled: tuple[bool, bool] = (True, True)
    directions: tuple[DirectionState, DirectionState] = msgspec.field(
        default_factory=lambda: (DirectionState(), DirectionState())
    )


class WireEnd:
    """A ``NetworkPort`` for a card, and a ``NetworkInterface`` for a port of a switch."""

    def __init__(self, wire: Wire, side: int) -> None:
        self._wire, self._side = wire, side
        self._deliver: Callable[[bytes], None] | None = None
        self._tell: Callable[[bool], None] | None = None
        self._timer: Timer | None = None

    @property
    def link_up(self) -> bool:
        return self._wire.link_up

    @property
    def statistics(self) -> DirectionStatistics:
        """Of what has been sent from this end."""
        return self._wire.state.directions[self._side].statistics

    # --- what is at this end ------------------------------------------------------------------------------------------

    def plug(self, interface: NetworkInterface) -> None:
        """A card: it is handed what arrives, and told of the link."""
        self._deliver, self._tell = interface.receive, interface.link_changed

    def attach(self, port: NetworkPort, carrier: Callable[[bool], None] | None = None) -> None:
        """A port of a switch: this end is plugged into it. ``carrier`` is told of the link."""
        self._deliver, self._tell = port.transmit, carrier
        port.plug(self)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        """A wire carries everything."""

    def wants_multicast(self, destination: bytes) -> bool:
        return True

    def link_changed(self, up: bool) -> None:
        """What is at this end was switched off, or on again: there is no link while one end is off."""
        self._wire.enable(self._side, up)

    def carrier_changed(self, up: bool) -> None:
        if self._tell is not None:
            self._tell(up)

    # --- frames -------------------------------------------------------------------------------------------------------

    def transmit(self, frame: bytes) -> None:
        wire = self._wire
        direction, now_ns = wire.state.directions[self._side], wire.clock.now_ns
        if not wire.link_up:
            direction.statistics.lost += 1
            return
        under_way = direction.under_way
        started = bisect_right(under_way, now_ns, key=lambda it: it.start_ns)
        if len(under_way) - started >= wire.queue_frames:
            direction.statistics.dropped += 1
            return
        frame = frame.ljust(MIN_FRAME_BYTES, b"\0")
        start_ns = max(now_ns, direction.free_ns)
        octets = PREAMBLE_BYTES + len(frame) + FCS_BYTES
        direction.free_ns = start_ns + wire.time_ns(octets + GAP_BYTES)
        under_way.append(OnWire(start_ns, start_ns + wire.time_ns(octets) + wire.delay_ns, frame))
        direction.statistics.frames += 1
        direction.statistics.octets += len(frame)
        self.expect()

    receive = transmit
    """For a port of a switch: what it hands to its interface goes to the other end."""

    def expect(self) -> None:
        """Ask the clock for the next arrival at the other end."""
        under_way = self._wire.state.directions[self._side].under_way
        if self._timer is None and under_way:
            self._timer = self._wire.clock.at(under_way[0].arrives_ns, self._arrive)

    def forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arrive(self) -> None:
        self._timer = None
        under_way, now_ns = self._wire.state.directions[self._side].under_way, self._wire.clock.now_ns
        other = self._wire.ends[1 - self._side]
        while under_way and under_way[0].arrives_ns <= now_ns:
            frame = under_way.pop(0).frame
            if other._deliver is not None:
                other._deliver(frame)
        self.expect()

    # --- a NetworkPort's state: the wire has it -----------------------------------------------------------------------

    def save_state(self) -> bytes:
        """Nothing: ``Wire.save_state`` has what is under way."""
        return b""

    def load_state(self, state: bytes) -> None:
        pass


class Wire:
    """Ends ``a`` and ``b``.

    Parameters
    ----------
    queue_frames : that may wait at an end, not counting the one which is being sent.
    """

    def __init__(
        self, clock: VirtualClock, bits_per_second: int = GIGABIT, delay_ns: int = DELAY_NS,
        queue_frames: int = QUEUE_FRAMES,
    ) -> None:  # fmt: skip
        self.clock = clock
        self.bits_per_second, self.delay_ns, self.queue_frames = bits_per_second, delay_ns, queue_frames
        self.state = WireState()
        self.ends = WireEnd(self, 0), WireEnd(self, 1)
        self.a, self.b = self.ends

    @property
    def link_up(self) -> bool:
        return self.state.plugged and all(self.state.enabled)

    def time_ns(self, octets: int) -> int:
        """How long so many octets take, rounded up."""
        return -(-octets * 8 * 1_000_000_000 // self.bits_per_second)

    def pull(self) -> None:
        """Pull the cable out. Both ends notice."""
        self._change(lambda: setattr(self.state, "plugged", False))

    def plug_in(self) -> None:
        self._change(lambda: setattr(self.state, "plugged", True))

    def enable(self, side: int, up: bool) -> None:
        first, second = self.state.enabled
        self._change(lambda: setattr(self.state, "enabled", (first, up) if side else (up, second)))

    def _change(self, change: Callable[[], None]) -> None:
        before = self.link_up
        change()
        if self.link_up == before:
            return
        if before:
            for end, direction in zip(self.ends, self.state.directions, strict=True):
                direction.statistics.lost += len(direction.under_way)
                direction.under_way.clear()
                direction.free_ns = self.clock.now_ns
                end.forget()
        for end in self.ends:
            end.carrier_changed(not before)

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode(self.state)

    def load_state(self, state: bytes) -> None:
        for end in self.ends:
            end.forget()
        self.state = msgspec.msgpack.decode(state, type=WireState)
        for end in self.ends:
            end.expect()
