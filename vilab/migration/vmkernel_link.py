"""A link between two hosts of one program through their VMkernel ports: its bytes are frames on the hosts' own wires.

::

    ┌ esx1 ───────────────────────────────┐                            ┌ esx2 ────────────┐
    │ vmk0 ── port group "VMotion" ──┐    │                            │                  │
    │         (shaping, VLAN, team)  ├─ vmnic0 ══ wire ══ switch ══ wire ══ vmnic0 ── vmk0│
    │ mail ── "VM Network" ──────────┘    │                            │                  │
    └─────────────────────────────────────┘                            └──────────────────┘
    vmnic0's transmitter    [page][page][page][mail][page][page]...       first come, first served, frame by frame

Nothing here knows whether the network is shared: that is how the administrator has plugged it. With a card of its own
below the port group the migration has the wire for itself; with a traffic shaper at the port group it leaves some of it
to others. What is between the hosts is whatever there is: a frame can be dropped, a cable pulled.

A page of a frame: 1460 bytes of the stream in 1514 of Ethernet, which take 1538 on the wire: 95 % at best.

MODEL: a TCP connection to port 8000, VMotion's, that is there from the beginning (no SYN); how it sends:
``segment_stream``. Neither host's processor is charged for it. A frame costs some 0.1 ms of computing, so that this
is for machines of some MB; a ``MemoryLink`` carries GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from vilab.clock import Timer, VirtualClock
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.migration.segment_stream import WINDOW_BYTES, WORD, Segment, SegmentStream, near
from vilab.network import packets
from vilab.network.packets import Tcp, ip_text
from vilab.network.peer import Peer
from vilab.protocols import ReadableBytes

VMOTION_PORT, FIRST_PORT = 8000, 32_768
LINGER_NS = 4_000_000_000
"""After its end a port still answers what comes again."""


class VmkernelEnd:
    """One end: what is sent here arrives at the other host's. As ``LinkEnd``."""

    def __init__(
        self, name: str, other_name: str, peer: Peer, other_ip: bytes, ports: tuple[int, int], clock: VirtualClock,
        window_bytes: int,
    ) -> None:  # fmt: skip
        self.name, self.other_name, self.clock = name, other_name, clock
        self.on_data: Callable[[ReadableBytes], None] = lambda _data: None
        self.on_end: Callable[[str], None] = lambda _why: None
        self.open = True
        self.sent_bytes = 0
        self.stream = SegmentStream(window_bytes)
        self._peer, self._other_ip, self._ports = peer, other_ip, ports
        self._timer: Timer | None = None
        self._over = False
        self._key = (other_ip, ports[1], ports[0])
        peer.connections[self._key] = self._received

    @property
    def waiting_bytes(self) -> int:
        """Sent here, and not in a frame yet."""
        return self.stream.waiting_bytes

    def send(self, buffers: Iterable[ReadableBytes]) -> None:
        """In order. On an end that is not open: nothing happens."""
        if self.open:
            self.sent_bytes += self.stream.send(buffers)
            self._go_on()

    def close(self) -> None:
        """No more will be sent or heard here. The other end hears the rest, then that it ends."""
        if self.open:
            self.open = False
            self.stream.end()
            self._go_on()

    def drop(self) -> None:
        """At once, and without a word: nothing is sent or taken any more."""
        self.stream.forget()
        self.stream.dead = True
        self._expect()
        self._leave()

    # --- frames -------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        here, there = self._ports
        window = min(self.stream.window_bytes, WINDOW_BYTES)
        for each in self.stream.output(self.clock.now_ns):
            flags = packets.ACK | (packets.PSH if each.push and each.data else 0) | (packets.FIN if each.last else 0)
            segment = Tcp(here, there, each.sequence % WORD, each.acknowledgement % WORD, flags, window, 0, b"",
                          each.data)  # fmt: skip
            self._peer.send_tcp(self._other_ip, segment)
        self._expect()

    def _received(self, segment: Tcp) -> None:
        if segment.flags & packets.RST:
            self.end(f"Host {self.other_name} knows nothing of the connection with host {self.name}.")
            return
        stream = self.stream
        # Both directions begin at 0, so that either one's offsets tell about where the header's are.
        sequence = near(segment.sequence, stream.expected)
        acknowledgement = near(segment.acknowledgement, stream.acknowledged)
        came = Segment(sequence, acknowledgement, segment.data, bool(segment.flags & packets.PSH),
                       bool(segment.flags & packets.FIN))  # fmt: skip
        data = stream.received(came, self.clock.now_ns)
        if data and self.open:
            self.on_data(data)
        self._go_on()
        if stream.heard_end:
            self.end(f"Host {self.other_name} has closed the link to host {self.name}.")
        elif not self.open and stream.all_acknowledged:
            self._linger()

    def end(self, why: str) -> None:
        """It is over here, too: whoever listens is told, once."""
        self.stream.forget()
        self._expect()
        self._linger()
        if self.open:
            self.open = False
            self.on_end(why)

    def _expect(self) -> None:
        """One timer at a time: what is due later by then is waited for anew."""
        due_ns = self.stream.due_ns
        if self._timer is None and due_ns is not None:
            self._timer = self.clock.at(due_ns, self._due)

    def _due(self) -> None:
        self._timer = None
        stream, now_ns = self.stream, self.clock.now_ns
        if stream.due_ns is None or stream.due_ns > now_ns:
            self._expect()
            return
        stream.late(now_ns)
        if stream.dead:
            self.end(
                f"Host {self.name} has heard nothing of {ip_text(self._other_ip)}, the VMkernel port of host "
                f"{self.other_name}: look whether both ports are in one network, and their cables are plugged in."
            )
        else:
            self._go_on()

    def _linger(self) -> None:
        if not self._over:
            self._over = True
            self.clock.at(self.clock.now_ns + LINGER_NS, self._leave)

    def _leave(self) -> None:
        if self._peer.connections.get(self._key) == self._received:
            del self._peer.connections[self._key]


class VmkernelLink:
    """Between the VMkernel ports of two hosts that are enabled for VMotion; ``a`` is the end of ``source``.

    ``bandwidth_bytes_per_s``: what the wires carry at best; so much is got ready in time. Raises ``AdminError`` for a
    host without such a port.
    """

    def __init__(
        self, source: Host, destination: Host, bandwidth_bytes_per_s: int, window_bytes: int = WINDOW_BYTES
    ) -> None:
        self.clock, self.bandwidth_bytes_per_s = source.clock, bandwidth_bytes_per_s
        here, there = _port_of(source), _port_of(destination)
        used = {own for _, _, own in here.connections}
        own = next(port for port in count(FIRST_PORT) if port not in used)
        self.a = VmkernelEnd(
            source.name, destination.name, here, there.ip, (own, VMOTION_PORT), self.clock, window_bytes
        )
        self.b = VmkernelEnd(
            destination.name, source.name, there, here.ip, (VMOTION_PORT, own), self.clock, window_bytes
        )

    def cut(self) -> None:
        """Nothing passes any more. Both ends hear of it when the clock makes its calls next."""
        why = f"The link between host {self.a.name} and host {self.b.name} was cut."
        for end in (self.a, self.b):
            end.drop()

        def tell() -> None:
            for end in (self.a, self.b):
                end.end(why)

        self.clock.at(self.clock.now_ns, tell)


def _port_of(host: Host) -> Peer:
    name = host.network.vmotion
    if not name:
        raise AdminError(f"{host.name} has no VMkernel port that is enabled for VMotion: enable one.")
    return host.network.vmkernel[name]
