"""A host's network: virtual switches with their port groups, physical cards, and whose cable is in which port.

::

    vm1 eth0 ──cable──┐
    vm1 eth1 ──cable──┤  port group "VM Network"   vSwitch0 ── vmnic0 ── wire ── physical switch
    vm2 eth0 ──cable──┘
    vm3 eth0 ──cable──── port group "isolated"     vSwitch1                    no uplink: nothing leaves the host

Names of port groups are unique on a host: a machine's configuration file names nothing else. A host begins with
vSwitch0 and "VM Network" on it, as ESX does after its installation, and without physical cards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.vmx_network import DEFAULT_NETWORK, CardSettings
from vilab.network.cable import VirtualCable
from vilab.network.peer import Peer
from vilab.network.physical_nic import PhysicalNic
from vilab.network.switch_port import SwitchPort
from vilab.network.teams import Teams
from vilab.network.virtual_switch import NUM_PORTS, VirtualSwitch
from vilab.network.virtual_switches import VirtualSwitches
from vilab.protocols import NetworkPort
from vilab.vmm.network import AttachedCard, Unplugged

FIRST_SWITCH = "vSwitch0"
BUSY_NS = 50_000_000


class MachineCables:
    """The cables of one machine's cards. ``offset_ns``: the host's time when the machine's clock stood at 0."""

    def __init__(self) -> None:
        self.settings: tuple[CardSettings, ...] = ()
        self.cards: list[AttachedCard] = []
        self.cables: list[VirtualCable] = []
        self.ports: dict[int, SwitchPort] = {}
        """By the card's number; those whose cable is in one."""
        self.offset_ns: Callable[[], int] = lambda: 0
        self._switches: dict[int, VirtualSwitch] = {}

    def busy(self, now_ns: int) -> bool:
        """Has a frame left the machine a short while ago?"""
        return any(0 <= cable.sent_ns > now_ns - BUSY_NS for cable in self.cables)

    def plug(
        self,
        card: CardSettings,
        switch: VirtualSwitch,
        name: str,
        card_clock: VirtualClock,
        network_clock: VirtualClock,
    ) -> None:
        """A cable from the card to a port of its port group. Raises ``AdminError``: there is none free."""
        port = switch.connect(card.network, f"{name} eth{card.number}", address=card.address)
        self.ports[card.number], self._switches[card.number] = port, switch
        cable = VirtualCable(port, card_clock, network_clock, lambda: self.offset_ns())
        self.cables.append(cable)
        self._add(card, AttachedCard(card.kind, cable, card.address))

    def leave_unplugged(self, card: CardSettings) -> None:
        self._add(card, AttachedCard(card.kind, Unplugged(), card.address))

    def _add(self, card: CardSettings, attached: AttachedCard) -> None:
        self.settings += (card,)
        self.cards.append(attached)

    def set_link(self, number: int, up: bool) -> None:
        """The administrator connects or disconnects a card while the machine runs. Raises ``AdminError``."""
        if number not in self.ports:
            raise AdminError(f"The cable of eth{number} is in no port: there is nothing to connect or to disconnect.")
        self.ports[number].set_connected(up)

    def unplug(self) -> None:
        """The machine is gone: its ports are free."""
        for number, switch in self._switches.items():
            switch.disconnect(self.ports[number])
        self._switches.clear()
        self.ports.clear()


class HostNetwork:
    """``switches``: all virtual switches. ``nics``: physical cards by name. ``vmkernel``: VMkernel ports by name.
    ``vmotion``: the VMkernel port that is enabled for VMotion; empty: none is."""

    def __init__(self, host: str, clock: VirtualClock, log: EventLog) -> None:
        self.host, self.clock, self._log = host, clock, log
        self._teams: dict[str, Teams] = {}
        self.switches = VirtualSwitches(clock, log, self._teams_for)
        self.nics: dict[str, PhysicalNic] = {}
        self.vmkernel: dict[str, Peer] = {}
        self.vmotion = ""
        self.add_switch(FIRST_SWITCH).add_port_group(DEFAULT_NETWORK)

    def _teams_for(self, switch: str) -> Teams:
        self._teams[switch] = Teams(f"{self.host}/{switch}", self.clock, self._log)
        return self._teams[switch]

    def add_switch(self, name: str, num_ports: int = NUM_PORTS) -> VirtualSwitch:
        """Raises ``AdminError``."""
        switch = self.switches.add(name, num_ports)
        self._teams[name].switch = switch
        return switch

    def add_nic(self, name: str, port: NetworkPort, address: bytes, switch: str | None = None) -> PhysicalNic:
        """A physical card in a port, as a rule at the end of a wire; ``switch``: whose uplink it becomes.

        Raises ``AdminError``; nothing is changed then.
        """
        if name in self.nics:
            raise AdminError(f"The host has a physical card {name} already.")
        target = None if switch is None else self.switches.switch(switch)
        nic = PhysicalNic(name, address, port, self.clock, self._log)
        if target is not None:
            target.add_uplink(nic)
        self.nics[name] = nic
        return nic

    def add_vmkernel_port(self, name: str, group: str, address: bytes, ip: bytes, prefix: int = 24) -> Peer:
        """The vmkernel's own place in a port group (``vmk0``), with an IPv4 address: for VMotion, iSCSI, NFS.

        Raises ``AdminError``; nothing is changed then.
        """
        if name in self.vmkernel:
            raise AdminError(f"The host has a VMkernel port {name} already.")
        port = self.switches.connect(group, name, "vmkernel", address)
        self.vmkernel[name] = Peer(VirtualCable(port, self.clock, self.clock), address, ip, prefix)
        return self.vmkernel[name]

    def enable_vmotion(self, name: str) -> None:
        """Machines move through this VMkernel port from now on, through another one no more; empty: they do not move.

        Raises ``AdminError``. Source: VI SDK 2.5, ``HostVMotionSystem``, which selects one.
        """
        if name and name not in self.vmkernel:
            known = ", ".join(sorted(self.vmkernel)) or "none"
            raise AdminError(f"{self.host} has no VMkernel port {name!r} to be enabled for VMotion; it has {known}.")
        self.vmotion = name

    def connect(self, name: str, cards: Sequence[CardSettings], card_clock: VirtualClock) -> MachineCables:
        """Ports for a machine's cards. Raises ``AdminError``, and nothing is connected then."""
        cables = MachineCables()
        try:
            for card in cards:
                if card.connected:
                    cables.plug(card, self.switches.switch_of(card.network), name, card_clock, self.clock)
                else:
                    cables.leave_unplugged(card)
        except BaseException:
            cables.unplug()
            raise
        return cables

    def announce(self, cables: MachineCables) -> None:
        """A machine goes on here: the physical switches are told where its addresses are now."""
        for port in cables.ports.values():
            self._teams[self.switches.switch_of(port.state.group).name].announce(port)

    def describe(self) -> str:
        """As ``esxcfg-vswitch -l`` shows it."""
        return self.switches.describe()
