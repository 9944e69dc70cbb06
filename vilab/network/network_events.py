"""What a virtual switch reports.

::

    card ──transmit──> FrameHeld (shaper) ──later──> FrameForwarded      to ports and at most one uplink
                  └──> FrameDropped                                      reason in two words at most
    driver ──listen──> AddressSet          administrator ──> PortConnected, PortDisconnected
"""

from __future__ import annotations

from vilab.events import Event
from vilab.network.statistics import Reason


class FrameForwarded(Event, frozen=True, tag=True):
    """A frame that came in at ``port`` went out at ``to_ports``, uplinks included. ``frame``: as it came in."""

    switch: str
    port: int
    vlan: int
    to_ports: tuple[int, ...]
    frame: bytes


class FrameDropped(Event, frozen=True, tag=True):
    """A frame ended here. ``port``: where it came in, or the one that did not get it (``address changed``, ``other
    uplink``). ``vlan`` -1: it was dropped before that was known. ``frame``: its first 64 octets, as it came in."""

    switch: str
    port: int
    vlan: int
    reason: Reason
    size_bytes: int
    frame: bytes


class FrameHeld(Event, frozen=True, tag=True):
    """The port's shaper has put a frame in its queue, which holds ``queued_bytes`` now."""

    switch: str
    port: int
    size_bytes: int
    queued_bytes: int


class PortConnected(Event, frozen=True, tag=True):
    """``group`` is empty for an uplink, whose ``client`` is the name of the physical card."""

    switch: str
    port: int
    group: str
    client: str


class PortDisconnected(Event, frozen=True, tag=True):
    switch: str
    port: int
    group: str
    client: str


class AddressSet(Event, frozen=True, tag=True):
    """A driver has set the address that its card listens to. ``accepted`` is false if the policy keeps the card from
    receiving under it."""

    switch: str
    port: int
    initial: bytes
    effective: bytes
    promiscuous: bool
    accepted: bool
