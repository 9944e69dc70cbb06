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
from vilab.network.policies import TeamingPolicy
from vilab.network.switch_port import SwitchPort
from vilab.network.uplinks import Nic, TeamMaker
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.virtual_switches import VirtualSwitches
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
    """``switches``: all virtual switches. ``nics``: physical cards by name."""

    def __init__(self, clock: VirtualClock, log: EventLog, teams: TeamMaker) -> None:
        self.clock = clock
        self.switches = VirtualSwitches(clock, log, teams)
        self.nics: dict[str, Nic] = {}
        self.switches.add(FIRST_SWITCH).add_port_group(DEFAULT_NETWORK)

    def add_nic(self, nic: Nic, switch: str | None = None) -> None:
        """A physical card; ``switch``: the virtual switch that gets it as an uplink. Raises ``AdminError``."""
        if nic.name in self.nics:
            raise AdminError(f"The host has a physical card {nic.name} already.")
        if switch is not None:
            self.switches.switch(switch).add_uplink(nic)
        self.nics[nic.name] = nic

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

    def describe(self) -> str:
        """As ``esxcfg-vswitch -l`` shows it."""
        return self.switches.describe()


class _FirstUp:
    def __init__(self, nics: Sequence[Nic]) -> None:
        self._nics = nics

    def uplink_for(self, port_id: int, frame: bytes) -> Nic | None:
        return next((nic for nic in self._nics if nic.link_up), None)

    def accepts(self, nic: Nic, port_id: int, frame: bytes) -> bool:
        return self.uplink_for(port_id, frame) is nic

    def stop(self) -> None:
        pass


def first_up(policy: TeamingPolicy, nics: Sequence[Nic], clock: VirtualClock) -> _FirstUp:
    return _FirstUp(nics)
