"""A virtual switch with cards that keep what they get, and an outside."""

from __future__ import annotations

from collections.abc import Sequence

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.ethernet import is_group
from vilab.network.policies import Overrides, SecurityOverride, TeamingPolicy
from vilab.network.switch_port import SwitchPort
from vilab.network.uplinks import Nic
from vilab.network.virtual_switch import VirtualSwitch


class Card:
    """A ``NetworkInterface`` in a port."""

    def __init__(self, port: SwitchPort, address: bytes, promiscuous: bool = False) -> None:
        self.port, self.address = port, address
        self.frames: list[bytes] = []
        self.multicast: set[bytes] = set()
        self.link: list[bool] = []
        port.plug(self)
        port.listen(address, promiscuous)

    def receive(self, frame: bytes) -> None:
        self.frames.append(frame)

    def link_changed(self, up: bool) -> None:
        self.link.append(up)

    def wants_multicast(self, destination: bytes) -> bool:
        return destination in self.multicast

    def send(self, frame: bytes) -> None:
        self.port.transmit(frame)


class Outside:
    """A physical card that keeps what it is to send."""

    def __init__(self, name: str) -> None:
        self.name, self.link_up = name, True
        self.frames: list[bytes] = []
        self.on_receive = self.frames.append

    def transmit(self, frame: bytes) -> None:
        self.frames.append(frame)


class FirstWithLink:
    """A team: the first active card that has a link; unicast frames from any."""

    def __init__(self, policy: TeamingPolicy, nics: Sequence[Nic], clock: VirtualClock) -> None:
        order = policy.active + policy.standby
        self._nics = sorted((n for n in nics if n.name in order), key=lambda n: order.index(n.name))
        self.stopped = False

    def uplink_for(self, port_id: int, frame: bytes) -> Nic | None:
        return next((n for n in self._nics if n.link_up), None)

    def accepts(self, nic: Nic, port_id: int, frame: bytes) -> bool:
        return not is_group(frame) or nic is self.uplink_for(port_id, frame)

    def stop(self) -> None:
        self.stopped = True


def new_switch(log: EventLog | None = None, **groups: int) -> VirtualSwitch:
    """``groups``: VLAN numbers."""
    switch = VirtualSwitch("vSwitch0", VirtualClock(), log or EventLog(), FirstWithLink)
    for name, vlan in groups.items():
        switch.add_port_group(name, vlan)
    return switch


def card(switch: VirtualSwitch, group: str, number: int, promiscuous: bool = False) -> Card:
    """Connected, with the address of its number."""
    return Card(switch.connect(group, f"vm{number}", address=address(number)), address(number), promiscuous)


def address(number: int) -> bytes:
    return bytes.fromhex("005056") + number.to_bytes(3, "big")


def security(**what: bool) -> Overrides:
    return Overrides(security=SecurityOverride(**what))
