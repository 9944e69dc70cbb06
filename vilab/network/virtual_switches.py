"""The virtual switches of one host: several, each for itself, with port groups whose names are the host's.

::

    vSwitch0 ── "VM Network", "Service Console"      no frame goes from one switch to another:
    vSwitch1 ── "Production", "DMZ"                  they share neither tables nor uplinks

Source: VMware, Virtual Networking Concepts (2007), "Virtual Switch Isolation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.switch_port import Kind, SwitchPort
from vilab.network.switch_state import check_cards, decoded
from vilab.network.uplinks import Nic, TeamMaker
from vilab.network.virtual_switch import NUM_PORTS, VirtualSwitch

MAX_SWITCHES = 127


class VirtualSwitches:
    """All of a host. ``teams``: who makes the teams of the switch with a name."""

    def __init__(self, clock: VirtualClock, log: EventLog, teams: Callable[[str], TeamMaker]) -> None:
        self._clock, self._log, self._teams = clock, log, teams
        self._switches: dict[str, VirtualSwitch] = {}

    def __iter__(self) -> Iterator[VirtualSwitch]:
        return iter(tuple(self._switches.values()))

    def add(self, name: str, num_ports: int = NUM_PORTS) -> VirtualSwitch:
        """Raises ``AdminError``."""
        if name in self._switches:
            raise AdminError(f"The host has a virtual switch {name} already.")
        if len(self._switches) >= MAX_SWITCHES:
            raise AdminError(f"The host has {MAX_SWITCHES} virtual switches; there is no room for {name}.")
        switch = VirtualSwitch(name, self._clock, self._log, self._teams(name), num_ports, self._switches)
        self._switches[name] = switch
        return switch

    def remove(self, name: str) -> None:
        """Raises ``AdminError`` if it is in use. Its uplinks are free then."""
        switch = self.switch(name)
        for port in switch.ports.values():
            if not port.is_uplink:
                raise AdminError(f"The virtual switch {name} is in use: {port.state.client} is connected to it.")
        for nic in switch.nics:
            switch.remove_uplink(nic)
        del self._switches[name]

    def switch(self, name: str) -> VirtualSwitch:
        """Raises ``AdminError``."""
        if name not in self._switches:
            raise AdminError(f"The host has no virtual switch {name}; it has {', '.join(self._switches) or 'none'}.")
        return self._switches[name]

    def switch_of(self, group: str) -> VirtualSwitch:
        """Where a port group is. Raises ``AdminError``."""
        for switch in self:
            if group in switch.groups:
                return switch
        names = ", ".join(name for switch in self for name in switch.groups)
        raise AdminError(f"The host has no port group {group!r}; it has {names or 'none'}.")

    def connect(self, group: str, client: str, kind: Kind = "machine", address: bytes | None = None) -> SwitchPort:
        """A port for a card, wherever its port group is. Raises ``AdminError``."""
        return self.switch_of(group).connect(group, client, kind, address)

    def describe(self) -> str:
        return "\n".join(switch.describe() for switch in self)

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode([s.save_state() for s in self])

    def load_state(self, state: bytes, nics: Mapping[str, Nic] | None = None) -> None:
        """``nics``: physical cards by name, beside those that are uplinks already. Raises ``AdminError`` if one is
        missing; nothing is changed then."""
        saved = msgspec.msgpack.decode(state, type=list[bytes])
        records = {record.name: (record, raw) for raw in saved for record in [decoded(raw)]}
        cards = {**{name: nic for switch in self for name, nic in switch.nics.items()}, **(nics or {})}
        for record, _ in records.values():
            check_cards(record, cards)
        for switch in tuple(self):
            if switch.name not in records:
                switch.detach_all()
                del self._switches[switch.name]
        for name, (record, raw) in records.items():
            if name not in self._switches:
                self.add(name, record.num_ports)
            self._switches[name].load_state(raw, cards)
