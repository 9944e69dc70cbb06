"""A port of a virtual switch: what a card is plugged into, and what the switch knows of that card.

::

    card ──plug, listen──> port ──> initial and effective address, promiscuous or not
         ──transmit──────>      ──> fabric.arrive ──> other ports
         <──receive───────      <── fabric

    initial address    of the card as it was made (its configuration)      fixed
    effective address  what the driver has set last                        what the card listens to
    they differ, and mac_changes = reject: nothing is delivered to the port until they are the same again
    a source other than the effective one, and forged_transmits = reject: the frame is dropped
    the driver asks for every frame, and promiscuous = accept: it gets those of the VLANs of its port group

``transmit`` has the way of most frames in it: one VLAN, an address that one port listens to, nothing else to be looked
at. All others go through the fabric, which comes to the same result (the tests run both).
Source: ESX Server 3 Configuration Guide, "Securing Virtual Switch Ports".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.ethernet import ADDRESS_BYTES, NO_ADDRESS, TAG_TYPE
from vilab.network.policies import SecurityPolicy
from vilab.network.shaping import Shaper, ShaperState
from vilab.network.statistics import PortStatistics, TrafficCounts
from vilab.network.uplinks import UplinkTeam
from vilab.protocols import NetworkInterface

Kind = Literal["machine", "vmkernel", "console", "uplink"]
Tap = Callable[[int, bytes], None]
"""Called with the time and a frame exactly as it is on the port, in either direction."""


class PortState(msgspec.Struct):
    """``client``: who is connected, in words; an uplink's is the name of the physical card. An ``initial`` address of
    ``None`` is the first one that the card listens to. ``shaper`` is filled in where the record is saved."""

    number: int
    kind: Kind
    client: str
    group: str = ""
    connected: bool = True
    initial: bytes | None = None
    effective: bytes = NO_ADDRESS
    promiscuous: bool = False
    statistics: PortStatistics = msgspec.field(default_factory=PortStatistics)
    shaper: ShaperState | None = None


class PortOwner(Protocol):
    """What a port needs from its switch."""

    largest_bytes: int

    def arrive(self, port: SwitchPort, frame: bytes) -> None: ...

    def port_changed(self, port: SwitchPort) -> None: ...

    def address_set(self, port: SwitchPort) -> None: ...


class SwitchPort:
    """A ``NetworkPort``. Made by ``VirtualSwitch.connect``, which also says what its port group has resolved to."""

    def __init__(self, owner: PortOwner, log: EventLog, state: PortState) -> None:
        self._owner, self._log = owner, log
        self.state = state
        self.interface: NetworkInterface | None = None
        self.deliver: Callable[[bytes], None] | None = None
        """The card's ``receive``; ``None`` without one."""
        self.vlan = 0
        self.security = SecurityPolicy()
        self.team: UplinkTeam | None = None
        self.uplinks: frozenset[str] = frozenset()
        """Active and standby."""
        self.shaper: Shaper | None = None
        self.taps: tuple[Tap, ...] = ()
        self.fast: dict[bytes, SwitchPort] | None = None
        """Addresses in the port's VLAN that one port listens to which takes frames as they are. ``None``: not known, or
        each frame has to be looked at."""
        self.forwarded = TrafficCounts()
        """Of that VLAN."""
        self.attached = True
        self.take(state)

    def take(self, state: PortState) -> None:
        """Its record is another one."""
        self.state, self.fast = state, None
        self.statistics = state.statistics
        self.sent, self.received = state.statistics.sent, state.statistics.received

    @property
    def number(self) -> int:
        return self.state.number

    @property
    def is_uplink(self) -> bool:
        return self.state.kind == "uplink"

    @property
    def blocked(self) -> bool:
        """The policy does not let the card receive under the address that its driver has set."""
        s = self.state
        return not self.security.mac_changes and s.initial is not None and s.effective != s.initial

    @property
    def sees_all(self) -> bool:
        return self.state.promiscuous and self.security.promiscuous

    # --- for the card -------------------------------------------------------------------------------------------------

    @property
    def link_up(self) -> bool:
        return self.attached and self.state.connected

    def plug(self, interface: NetworkInterface) -> None:
        self.interface, self.deliver = interface, interface.receive
        self._owner.port_changed(self)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        s = self.state
        if len(address) != ADDRESS_BYTES:
            raise AdminError(f"A card cannot listen to {address.hex(':')}: a MAC address has {ADDRESS_BYTES} bytes.")
        if s.initial is None:
            s.initial = address
        s.effective, s.promiscuous = address, promiscuous
        self._owner.address_set(self)

    def transmit(self, frame: bytes) -> None:
        fast = self.fast
        if fast is not None and frame[12:14] != TAG_TYPE and not self._log.active:
            to = fast.get(frame[:6])
            size_bytes = len(frame)
            if to is not None and to is not self and 14 <= size_bytes <= self._owner.largest_bytes:
                counts = self.sent
                counts.unicast += 1
                counts.octets += size_bytes
                counts = self.forwarded
                counts.unicast += 1
                counts.octets += size_bytes
                counts = to.received
                counts.unicast += 1
                counts.octets += size_bytes
                to.deliver(frame)  # type: ignore[misc]  # a port in the table has a card
                return
        self._owner.arrive(self, frame)

    def save_state(self) -> bytes:
        """Nothing is on its way to the card: the switch delivers at once. What its shaper holds is the switch's."""
        return b""

    def load_state(self, state: bytes) -> None:
        """See ``save_state``."""

    # --- for the administrator ----------------------------------------------------------------------------------------

    def set_connected(self, connected: bool) -> None:
        """Pull the virtual cable, or plug it in again."""
        if connected != self.state.connected:
            self.state.connected = connected
            self._owner.port_changed(self)
            if self.interface is not None:
                self.interface.link_changed(self.link_up)

    def tap(self, tap: Tap) -> None:
        """From now on ``tap`` sees every frame on this port; a ``PcapWriter`` makes a capture of them."""
        self.taps += (tap,)
        self._owner.port_changed(self)

    def untap(self, tap: Tap) -> None:
        self.taps = tuple(t for t in self.taps if t is not tap)
        self._owner.port_changed(self)
