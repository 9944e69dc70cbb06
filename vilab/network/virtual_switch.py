"""A virtual switch of ESX 3: its ports, its port groups, its uplinks, its policies.

::

    web1 eth0 ── port 9  ─┐ "Production"   VLAN 105  ┐
    web2 eth0 ── port 10 ─┘                          ├ vSwitch0 ─┬ port 1 ── vmnic0
    vmk0      ── port 11 ── "VMotion"      VLAN 20   ┘           └ port 2 ── vmnic1

    ports 1 to 8             for uplinks, always there
    ports 9 to 8 + num_ports for machines, VMkernel ports and the service console: 56 of them unless said otherwise

``esxcfg-vswitch`` shows both kinds together, 64; the VI Client shows 56. How frames go: ``forwarding``; tags:
``vlan_tagging``; policies: ``policies``. Sources: VMware, Virtual Networking Concepts (2007); ESX Server 3
Configuration Guide, "Networking", "Advanced Networking".

The state is configuration, counters, addresses, what shapers and teams hold, as one record. Cards are not in it: a port
that is there before and after ``load_state`` keeps the card that is plugged into it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.ethernet import ADDRESS_BYTES, HEADER_BYTES, MTU_BYTES, NO_ADDRESS, TAG_BYTES
from vilab.network.forwarding import Fabric
from vilab.network.network_events import PortConnected, PortDisconnected
from vilab.network.policies import Overrides, Policies, check, resolved
from vilab.network.port_group import PortGroup, check_group
from vilab.network.shaping import ShaperState, reshaped
from vilab.network.statistics import VlanStatistics
from vilab.network.switch_description import described
from vilab.network.switch_port import Kind, PortState, SwitchPort
from vilab.network.switch_state import SwitchState, check_cards, decoded, same_connection
from vilab.network.uplinks import GroupTeams, Nic, TeamMaker, UplinkInterface
from vilab.network.vlan_tagging import TRUNK

NUM_PORTS, MAX_PORTS = 56, 1016
UPLINK_PORTS = 8
"""Reserved: as many as the longest failover order may have."""
MIN_MTU_BYTES, MAX_MTU_BYTES = MTU_BYTES, 9000
"""ESX Server 3.5: jumbo frames, ``esxcfg-vswitch -m``."""


class VirtualSwitch:
    """One virtual switch of a host.

    Parameters
    ----------
    clock : the network's. teams : makes the team of a port group out of its teaming policy and the uplinks.
    num_ports : for all but uplinks. host : all switches of the host, whose names of port groups are this one's, too.
    """

    def __init__(
        self, name: str, clock: VirtualClock, log: EventLog, teams: TeamMaker, num_ports: int = NUM_PORTS,
        host: Mapping[str, VirtualSwitch] | None = None,
    ) -> None:  # fmt: skip
        if not name or name != name.strip() or not name.isprintable():
            raise AdminError(f"{name!r} is no name for a virtual switch: vSwitch0 is one.")
        if not 1 <= num_ports <= MAX_PORTS:
            raise AdminError(f"{name} cannot have {num_ports} ports: a virtual switch has 1 to {MAX_PORTS}.")
        self.name, self.num_ports, self.mtu_bytes = name, num_ports, MTU_BYTES
        self._clock, self._log = clock, log
        self._host = host if host is not None else {}
        self.policies = Policies()
        self.groups: dict[str, PortGroup] = {}
        self._fabric = Fabric(name, clock, log)
        self._teams = GroupTeams(teams, clock)

    @property
    def ports(self) -> dict[int, SwitchPort]:
        """By number, uplinks among them."""
        return dict(sorted(self._fabric.ports.items()))

    @property
    def uplink_numbers(self) -> range:
        """Reserved for uplinks, whether or not there are so many."""
        return range(1, UPLINK_PORTS + 1)

    @property
    def vlans(self) -> Mapping[int, VlanStatistics]:
        """Counters, by VLAN id; 0 for frames that are in none."""
        return self._fabric.vlans

    @property
    def nics(self) -> dict[str, Nic]:
        """The uplinks, in the order in which they were added."""
        interfaces = (p.interface for p in self.ports.values())
        return {i.nic.name: i.nic for i in interfaces if isinstance(i, UplinkInterface)}

    def port_group(self, name: str) -> PortGroup:
        """Raises ``AdminError``."""
        if name not in self.groups:
            raise AdminError(f"{self.name} has no port group {name!r}; it has {self._names(self.groups)}.")
        return self.groups[name]

    def policies_of(self, group: str) -> Policies:
        """What holds for a port group, after its overrides."""
        return resolved(self.policies, self.port_group(group).overrides)

    def ports_of(self, group: str) -> list[SwitchPort]:
        return [p for p in self.ports.values() if p.state.group == group and not p.is_uplink]

    # --- configuration ------------------------------------------------------------------------------------------------

    def add_port_group(self, name: str, vlan: int = 0, overrides: Overrides | None = None) -> PortGroup:
        """Raises ``AdminError``."""
        for switch in (self, *self._host.values()):
            if name in switch.groups:
                raise AdminError(f"{switch.name} has a port group {name!r} already, and its name is the host's.")
        group = PortGroup(name, vlan, overrides or Overrides())
        self._configure(self.policies, self.groups | {name: group})
        return group

    def set_port_group(self, name: str, vlan: int | None = None, overrides: Overrides | None = None) -> PortGroup:
        """Another VLAN or other overrides; its ports follow at once. Raises ``AdminError``."""
        old = self.port_group(name)
        group = PortGroup(name, old.vlan if vlan is None else vlan, old.overrides if overrides is None else overrides)
        self._configure(self.policies, self.groups | {name: group})
        return group

    def remove_port_group(self, name: str) -> None:
        self.port_group(name)
        if used := self.ports_of(name):
            raise AdminError(f"The port group {name!r} is in use: {used[0].state.client} is connected to it.")
        self._configure(self.policies, {n: g for n, g in self.groups.items() if n != name})

    def set_policies(self, policies: Policies) -> None:
        """What holds wherever a port group does not say otherwise. Raises ``AdminError``."""
        self._configure(policies, self.groups)

    def set_mtu(self, mtu_bytes: int) -> None:
        if not MIN_MTU_BYTES <= mtu_bytes <= MAX_MTU_BYTES:
            raise AdminError(f"{self.name}: the MTU is {MIN_MTU_BYTES} to {MAX_MTU_BYTES} octets, not {mtu_bytes}.")
        self.mtu_bytes = mtu_bytes
        self._apply()

    def _configure(self, policies: Policies, groups: dict[str, PortGroup]) -> None:
        """All of it, or none of it if any of it cannot be."""
        check(policies)
        for group in groups.values():
            check_group(group)
            resolved(policies, group.overrides)
        self.policies, self.groups = policies, groups
        self._apply()

    # --- cards --------------------------------------------------------------------------------------------------------

    def connect(self, group: str, client: str, kind: Kind = "machine", address: bytes | None = None) -> SwitchPort:
        """A port for a card. ``address``: the one that the card is made with; without it, the first that it listens to.

        Raises ``AdminError`` if there is no such port group or no port is free.
        """
        self.port_group(group)
        if kind == "uplink":
            raise AdminError(f"{client} is no physical card: uplinks are added to the switch, not to a port group.")
        if address is not None and (len(address) != ADDRESS_BYTES or address[0] & 1):
            raise AdminError(f"{address.hex(':')} is no address for a card: six octets, and not a group's.")
        free = self._free(range(UPLINK_PORTS + 1, UPLINK_PORTS + 1 + self.num_ports))
        if free is None:
            raise AdminError(f"{self.name} is full: all of its {self.num_ports} ports are in use.")
        state = PortState(free, kind, client, group, initial=address, effective=address or NO_ADDRESS)
        return self._attach(SwitchPort(self._fabric, self._log, state))

    def disconnect(self, port: SwitchPort) -> None:
        """The machine is off, or has moved away: the port is free again."""
        if self._fabric.ports.get(port.number) is not port:
            raise AdminError(f"{port.state.client} has no port on {self.name} any more.")
        self._detach(port)

    def add_uplink(self, nic: Nic) -> SwitchPort:
        """A physical card becomes an uplink: an active one unless the switch's failover order names it already. Port
        groups with an order of their own do not use it."""
        for switch in (self, *self._host.values()):
            if nic.name in switch.nics:
                raise AdminError(f"{nic.name} is an uplink of {switch.name} already.")
        free = self._free(self.uplink_numbers)
        if free is None:
            raise AdminError(f"{self.name} has {UPLINK_PORTS} uplinks, and there is no room for {nic.name}.")
        port = SwitchPort(self._fabric, self._log, PortState(free, "uplink", nic.name))
        self._plug_uplink(port, nic)
        teaming = self.policies.teaming
        if nic.name not in teaming.active + teaming.standby:
            self._order((*teaming.active, nic.name), teaming.standby)
        return self._attach(port)

    @staticmethod
    def _plug_uplink(port: SwitchPort, nic: Nic) -> None:
        port.plug(UplinkInterface(nic))
        nic.on_receive = port.transmit

    def _order(self, active: tuple[str, ...], standby: tuple[str, ...]) -> None:
        teaming = msgspec.structs.replace(self.policies.teaming, active=active, standby=standby)
        self.policies = msgspec.structs.replace(self.policies, teaming=teaming)

    def remove_uplink(self, name: str) -> None:
        """Raises ``AdminError``. Failover orders of port groups may name it still; it is not used."""
        for port in self.ports.values():
            if port.is_uplink and port.state.client == name:
                teaming = self.policies.teaming
                self._order(
                    tuple(n for n in teaming.active if n != name), tuple(n for n in teaming.standby if n != name)
                )
                self._detach(port)
                return
        raise AdminError(f"{self.name} has no uplink {name}; it has {self._names(self.nics)}.")

    def detach_all(self) -> None:
        """Nobody is connected any more."""
        for port in self.ports.values():
            self._detach(port)

    def _free(self, numbers: range) -> int | None:
        return next((n for n in numbers if n not in self._fabric.ports), None)

    def _attach(self, port: SwitchPort) -> SwitchPort:
        self._fabric.ports[port.number] = port
        self._apply()
        self._say(PortConnected, port)
        return port

    def _detach(self, port: SwitchPort) -> None:
        del self._fabric.ports[port.number]
        port.attached = False
        if port.shaper is not None:
            port.shaper.stop()
        if isinstance(port.interface, UplinkInterface):
            if port.interface.nic.on_receive == port.transmit:
                port.interface.nic.on_receive = _ignore
        elif port.interface is not None and port.state.connected:
            port.interface.link_changed(False)
        port.fast = None
        self._apply()
        self._say(PortDisconnected, port)

    def _say(self, kind: type[PortConnected] | type[PortDisconnected], port: SwitchPort) -> None:
        if self._log.active:
            s = port.state
            self._log.emit(kind(self._clock.now_ns, self.name, s.number, s.group, s.client))

    # --- what the configuration means for each port -------------------------------------------------------------------

    def _apply(self) -> None:
        self._fabric.largest_bytes = HEADER_BYTES + self.mtu_bytes
        policies = {name: resolved(self.policies, group.overrides) for name, group in self.groups.items()}
        self._teams.apply({name: own.teaming for name, own in policies.items()}, tuple(self.nics.values()))
        released: list[tuple[SwitchPort, bytes]] = []
        for port in self.ports.values():
            port.fast = None
            if port.is_uplink:
                port.vlan = TRUNK
                continue
            group = port.state.group
            own = policies[group]
            port.vlan, port.security, port.team = self.groups[group].vlan, own.security, self._teams.of(group)
            port.uplinks = frozenset(own.teaming.active + own.teaming.standby)
            released += [(port, frame) for frame in self._shape(port, own, None)]
        self._fabric.changed()
        for port, frame in released:
            self._fabric.shaped(port, frame)

    def _shape(self, port: SwitchPort, policies: Policies, held: ShaperState | None) -> list[bytes]:
        """Returns what a shaper held that is not there any more. ``held``: of one that was saved."""
        largest_bytes = HEADER_BYTES + self.mtu_bytes + TAG_BYTES
        port.shaper, released = reshaped(
            port.shaper, policies.shaping, self._clock, lambda f: self._fabric.shaped(port, f), largest_bytes, held
        )
        return released

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        ports = [
            msgspec.structs.replace(p.state, shaper=p.shaper.state if p.shaper is not None else None)
            for p in self.ports.values()
        ]
        return msgspec.msgpack.encode(SwitchState(
            self.name, self.num_ports, self.mtu_bytes, self.policies, self.groups, ports, self._fabric.vlans,
            self._teams.save_state(),
        ))  # fmt: skip

    def load_state(self, state: bytes, nics: Mapping[str, Nic] | None = None) -> None:
        """``nics``: physical cards by name, beside those that are uplinks already. Raises ``AdminError`` if one of the
        record's uplinks is in neither; nothing is changed then."""
        s = decoded(state)
        cards = {**self.nics, **(nics or {})}
        check_cards(s, cards)
        old = self.ports
        kept = {p.number: p for p in old.values() if any(same_connection(p.state, record) for record in s.ports)}
        for number in old.keys() - kept.keys():
            self._detach(old[number])
        self.name = self._fabric.name = s.name
        self.num_ports, self.mtu_bytes, self.policies, self.groups = s.num_ports, s.mtu_bytes, s.policies, s.groups
        self._fabric.vlans.clear()
        self._fabric.vlans.update(s.vlans)
        for record in s.ports:
            port = kept.get(record.number) or SwitchPort(self._fabric, self._log, record)
            self._fabric.ports[record.number] = port
            if port.shaper is not None:
                port.shaper.stop()
                port.shaper = None
            held, record.shaper = record.shaper, None
            was_up = port.link_up
            port.take(record)
            if port.is_uplink:
                self._plug_uplink(port, cards[record.client])
            elif held is not None:
                self._shape(port, resolved(s.policies, s.groups[record.group].overrides), held)
            if port.interface is not None and port.link_up != was_up:
                port.interface.link_changed(port.link_up)
        self._apply()
        self._teams.load_state(s.teams)

    def describe(self) -> str:
        """As ``esxcfg-vswitch -l`` shows it."""
        return described(self)

    @staticmethod
    def _names(names: Mapping[str, object]) -> str:
        return ", ".join(names) or "none"


def _ignore(frame: bytes) -> None:
    """A physical card that belongs to no switch."""
