"""Somebody behind the physical switch who talks to a machine while it moves, and counts what does not come back.

::

    time ──────────────────────────────────────────────>
    sent      | | | | | | | | | | | | | | |                 a datagram every 10 ms, with its number
    answered  | | | | |             | | | |
                        └ silence ─┘                        what was sent there found nobody, or waited

A datagram is answered by what the guest runs (``udpecho``), not by its kernel. UDP repeats nothing: one that is lost
stays lost.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from vilab.clock import Timer, VirtualClock
from vilab.network.peer import Datagram, Peer
from vilab.protocols import NetworkPort

ECHO_PORT, OWN_PORT = 7, 5007
EVERY_NS, SIZE_BYTES = 10_000_000, 32


class Heard(NamedTuple):
    """``sent`` datagrams, ``lost`` of them. ``longest_ns``: between two that were answered, at the longest.

    ``slowest_ns``: the answer that took longest. ``strange``: answers that are none, or came twice.
    """

    sent: int
    lost: int
    longest_ns: int
    slowest_ns: int
    strange: int

    def describe(self) -> str:
        lost = "none lost" if not self.lost else f"{self.lost} lost"
        return (
            f"{self.sent} datagrams, {lost}; longest between two answered ones {self.longest_ns / 1e6:.0f} ms, "
            f"slowest answer {self.slowest_ns / 1e6:.0f} ms"
        )


class EchoClient:
    """A peer at a port of the physical switch. ``ask`` begins; ``stop`` ends it, and gives what was heard.

    ``every_ns``: between two datagrams. ``size_bytes``: of each, a multiple of 4.
    """

    def __init__(
        self, port: NetworkPort, mac: bytes, ip: bytes, clock: VirtualClock, every_ns: int = EVERY_NS,
        size_bytes: int = SIZE_BYTES,
    ) -> None:  # fmt: skip
        self.clock, self.every_ns, self.size_bytes = clock, every_ns, size_bytes
        self.peer = Peer(port, mac, ip, services={OWN_PORT: self._came})
        self.sent_ns: list[int] = []
        self.came_ns: dict[int, int] = {}
        self.strange = 0
        self._whom = b""
        self._timer: Timer | None = None

    def ask(self, ip: bytes) -> None:
        """From now on, counted anew."""
        self.stop()
        self.sent_ns, self.came_ns, self.strange = [], {}, 0
        self._whom = ip
        self._send()

    def stop(self) -> Heard:
        """No more are sent. What is on its way still counts when it comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self.heard()

    def heard(self) -> Heard:
        """Until now."""
        answered = [self.sent_ns[number] for number in sorted(self.came_ns)]
        longest_ns = max((later - earlier for earlier, later in itertools.pairwise(answered)), default=0)
        slowest_ns = max((came - self.sent_ns[number] for number, came in self.came_ns.items()), default=0)
        return Heard(len(self.sent_ns), len(self.sent_ns) - len(answered), longest_ns, slowest_ns, self.strange)

    def _send(self) -> None:
        number = len(self.sent_ns)
        self.sent_ns.append(self.clock.now_ns)
        self.peer.send_udp(self._whom, ECHO_PORT, OWN_PORT, number.to_bytes(4, "big") * (self.size_bytes // 4))
        self._timer = self.clock.at(self.clock.now_ns + self.every_ns, self._send)

    def _came(self, datagram: Datagram) -> None:
        number = int.from_bytes(datagram.data[:4], "big")
        right = number.to_bytes(4, "big") * (self.size_bytes // 4)
        if datagram.data != right or number >= len(self.sent_ns) or number in self.came_ns:
            self.strange += 1
            return
        self.came_ns[number] = self.clock.now_ns
