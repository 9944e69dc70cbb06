"""What went over a port or through a VLAN, and what did not, and why.

::

    port     sent        what its card sends, as it arrives at the port      octets as on that port: an uplink's tagged
             received    what the port hands to its card
             dropped     by reason
    VLAN     forwarded   each frame once, however many got it; octets as it came in
             dropped     by reason

A frame is in ``sent`` of its port also if it is dropped then. It is in ``forwarded`` of its VLAN if a port or an uplink
took it, in ``dropped`` of the VLAN otherwise. Why it was dropped is counted at the port where it came in; but ``address
changed`` and ``other uplink`` at the port that it did not go to, and others may have got it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vilab.network.ethernet import BROADCAST

Reason = Literal[
    "port down",  # it has no link
    "too short",  # no whole header, or a tag cut off
    "too long",  # more than the switch's MTU
    "guest tag",  # a tag from a port whose port group says that the switch does the tagging, or nobody
    "reserved VLAN",  # id 4095
    "forged source",  # forged_transmits = reject
    "queue full",  # of the shaper
    "own address",  # to itself
    "came back",  # from an uplink, sent by a port of this switch
    "unknown address",  # from an uplink, and no port listens to it
    "no uplink",  # to the outside, where nothing leads
    "no receiver",  # a group address that no port wants, and no uplink
    "address changed",  # mac_changes = reject, and the driver has set another
    "other uplink",  # this port's copy comes over the uplink that its own traffic uses
]


class TrafficCounts(msgspec.Struct):
    """Frames of one direction."""

    unicast: int = 0
    multicast: int = 0
    broadcast: int = 0
    octets: int = 0

    @property
    def frames(self) -> int:
        return self.unicast + self.multicast + self.broadcast

    def add(self, destination: bytes, size_bytes: int) -> None:
        self.octets += size_bytes
        if not destination or not destination[0] & 1:
            self.unicast += 1
        elif destination == BROADCAST:
            self.broadcast += 1
        else:
            self.multicast += 1


class PortStatistics(msgspec.Struct):
    """``sent_in``, ``received_in``: by VLAN id, 0 for untagged; kept where there is more than one VLAN (uplinks, 4095).
    ``received`` of an uplink is what goes out over it."""

    sent: TrafficCounts = msgspec.field(default_factory=TrafficCounts)
    received: TrafficCounts = msgspec.field(default_factory=TrafficCounts)
    dropped: dict[Reason, int] = msgspec.field(default_factory=dict)
    sent_in: dict[int, TrafficCounts] = msgspec.field(default_factory=dict)
    received_in: dict[int, TrafficCounts] = msgspec.field(default_factory=dict)

    def drop(self, reason: Reason) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


class VlanStatistics(msgspec.Struct):
    """Frames of one VLAN, 0 being those that have none."""

    forwarded: TrafficCounts = msgspec.field(default_factory=TrafficCounts)
    dropped: dict[Reason, int] = msgspec.field(default_factory=dict)

    def drop(self, reason: Reason) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


def add_in(counts: dict[int, TrafficCounts], vlan: int, destination: bytes, size_bytes: int) -> None:
    """Count a frame of a VLAN."""
    one = counts.get(vlan)
    if one is None:
        one = counts[vlan] = TrafficCounts()
    one.add(destination, size_bytes)
