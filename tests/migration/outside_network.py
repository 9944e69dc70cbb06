"""The network outside of hosts that are processes: a physical switch, a cable to each, and a client that counts.

::

    esx1 vmnic0 ── TCP tunnel ── p1 ┐
    esx2 vmnic0 ── TCP tunnel ── p2 ┤ physical switch ── client: a datagram every 20 ms, and when its echo comes
    esx3 vmnic0 ── TCP tunnel ── p3 ┘

It runs in a thread of its own, by this computer's clock; nobody else touches the switch.
"""

from __future__ import annotations

import hashlib
import itertools
import selectors
import threading
import time

from vilab.host.storage_time import WallClock
from vilab.network.peer import Datagram, Peer
from vilab.network.physical_port import Access
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.tunnel import TunnelLink, TunnelListener
from vilab.network.wire import Wire

CLIENT_IP, CLIENT_MAC = bytes((10, 0, 0, 100)), bytes.fromhex("00505600aa01")
EVERY_NS = 20_000_000
QUIET_S = 10.0
ECHO_PORT, OWN_PORT = 7, 5007


class Echoed:
    """What the client has seen: numbers of datagrams, and the wall's nanoseconds. What is late is not lost."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.sent_ns: dict[int, int] = {}
        self.came_ns: dict[int, int] = {}
        self.wrong = self.twice = 0

    @property
    def last_answered(self) -> int:
        return max(self.came_ns, default=self.first - 1)

    @property
    def lost(self) -> int:
        """Answers come in order: what was sent before the last one that was answered will not be."""
        return self.last_answered + 1 - self.first - len(self.came_ns)

    def longest_gap_ns(self) -> int:
        """Between two datagrams that were answered, when they were sent."""
        times = [self.sent_ns[number] for number in sorted(self.came_ns)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0)

    def delays_ms(self) -> list[float]:
        return sorted((came - self.sent_ns[number]) / 1e6 for number, came in self.came_ns.items())


class OutsideNetwork:
    """``address`` of each cable's end, for ``--uplink``; ``ask`` begins to send to an address."""

    def __init__(self, cables: int = 3) -> None:
        self.clock = WallClock()
        names = [f"p{number}" for number in range(1, cables + 1)]
        self.switch = PhysicalSwitch("outside", self.clock, {name: Access() for name in [*names, "client"]})
        self._listeners = {name: TunnelListener() for name in names}
        self._links: dict[str, TunnelLink] = {}
        wire = Wire(self.clock)
        self.switch.connect("client", wire.a)
        self.client = Peer(wire.b, CLIENT_MAC, CLIENT_IP, services={OWN_PORT: self._echo})
        self.seen = Echoed()
        self._ask: bytes | None = None
        self._next_ns = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="outside network", daemon=True)
        self._thread.start()

    def uplink(self, number: int) -> tuple[str, str]:
        """The words for ``vilab host``."""
        host, port = self._listeners[f"p{number}"].address
        return "--uplink", f"vmnic0={host}:{port}"

    def ask(self, address: bytes) -> None:
        """Datagrams go there from now on, counted anew."""
        self.seen = Echoed(self.seen.first + len(self.seen.sent_ns))
        self._ask = address

    def hear(self) -> Echoed:
        """No more are sent, and no more answers are on their way: what was seen since ``ask``."""
        self._ask = None
        seen, answered, heard_s = self.seen, -1, time.monotonic()
        while seen.last_answered != max(seen.sent_ns) and time.monotonic() < heard_s + QUIET_S:
            if seen.last_answered != answered:
                answered, heard_s = seen.last_answered, time.monotonic()
            time.sleep(0.02)
        return self.seen

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)
        for listener in self._listeners.values():
            listener.close()
        for link in self._links.values():
            link.close()

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._over.is_set():
            for name, listener in self._listeners.items():
                connection = listener.accept()
                if connection is not None:
                    wire = Wire(self.clock)
                    self.switch.connect(name, wire.a)
                    self._links[name] = TunnelLink(wire.b, connection)
            for link in self._links.values():
                link.poll()
            self._send()
            self.clock.run_due()
            with selectors.DefaultSelector() as selector:
                for link in self._links.values():
                    if link.open:
                        selector.register(link, selectors.EVENT_READ)
                selector.select(0.002)

    def _send(self) -> None:
        now_ns, address, seen = time.monotonic_ns(), self._ask, self.seen
        if address is None or now_ns < self._next_ns:
            return
        self._next_ns = max(self._next_ns + EVERY_NS, now_ns - EVERY_NS)
        number = seen.first + len(seen.sent_ns)
        seen.sent_ns[number] = now_ns
        self.client.send_udp(address, ECHO_PORT, OWN_PORT, payload(number))

    def _echo(self, datagram: Datagram) -> None:
        seen = self.seen
        number = int.from_bytes(datagram.data[:4], "big")
        if datagram.data != payload(number):
            seen.wrong += 1
        elif number < seen.first:
            pass  # of before: too late to be counted
        elif number in seen.came_ns or number not in seen.sent_ns:
            seen.twice += 1
        else:
            seen.came_ns[number] = time.monotonic_ns()


def payload(number: int) -> bytes:
    """Of a length and with bytes that follow from the number."""
    head = number.to_bytes(4, "big")
    return head + (hashlib.sha256(head).digest() * 5)[: number % 120]
