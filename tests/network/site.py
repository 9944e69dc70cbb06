"""A host with a virtual switch and several cards, physical switches, somebody outside.

::

    VM ── cable ── vSwitch0 ── vmnic0 ── wire 0 ── access0 ── trunk 0 ──┐
                            └─ vmnic1 ── wire 1 ── access1 ── trunk 1 ──┴─ core ── outside

    ``flat``: all cards in the core itself
"""

from __future__ import annotations

from tests.network.ends import Listener, mac
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.cable import VirtualCable
from vilab.network.ethernet import RARP, type_of, untagged, vlan_of
from vilab.network.packets import ip_of
from vilab.network.peer import Peer
from vilab.network.physical_nic import PhysicalNic
from vilab.network.physical_port import PortSettings, Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.policies import Policies, TeamingPolicy
from vilab.network.switch_port import SwitchPort
from vilab.network.teams import Teams
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.wire import Wire

OUTSIDE, OUTSIDE_IP = mac(0xEE), ip_of("10.0.0.200")


class Site:
    def __init__(
        self, policy: TeamingPolicy, cards: int = 2, flat: bool = False, vlan: int = 0, missed: int = 3,
    ) -> None:  # fmt: skip
        self.clock, self.log = VirtualClock(), EventLog(keep=True)
        clock = self.clock
        links = [str(number) for number in range(cards)]
        core_ports: dict[str, PortSettings] = {name: Trunk() for name in (*links, "outside", "monitor")}
        self.core = PhysicalSwitch("core", clock, core_ports)
        self.access: list[PhysicalSwitch] = []
        self.wires: list[Wire] = []
        self.upstream: list[Wire] = []
        self.nics: list[PhysicalNic] = []
        self.teams = Teams("host1/vSwitch0", clock, self.log, beacons_missed=missed)
        self.switch = self.teams.switch = VirtualSwitch("vSwitch0", clock, self.log, self.teams)
        self.switch.set_policies(Policies(teaming=policy))
        self.switch.add_port_group("vms", vlan)
        for number in range(cards):
            wire = Wire(clock, delay_ns=500 + 4_000 * number)  # copies of a frame arrive one after the other
            self.wires.append(wire)
            if flat:
                self.core.connect(str(number), wire.b)
            else:
                access = PhysicalSwitch(f"access{number}", clock, {"host": Trunk(), "up": Trunk()})
                access.connect("host", wire.b)
                trunk = Wire(clock)
                access.connect("up", trunk.a)
                self.core.connect(str(number), trunk.b)
                self.access.append(access)
                self.upstream.append(trunk)
            nic = PhysicalNic(f"vmnic{number}", mac(0xF0 + number), wire.a, clock, self.log)
            self.nics.append(nic)
            self.switch.add_uplink(nic)
        self.outside = Peer(self.core.port("outside"), OUTSIDE, OUTSIDE_IP)
        self.monitor = Listener(self.core.port("monitor"), clock)

    def connect(self, number: int) -> SwitchPort:
        port = self.switch.connect("vms", f"vm{number}", address=mac(number))
        self.teams.announce(port)
        return port

    def peer(self, number: int) -> Peer:
        """A machine, 10.0.0.number."""
        return Peer(self._cable(number), mac(number), ip_of(f"10.0.0.{number}"))

    def listener(self, number: int) -> Listener:
        """A machine that keeps what it gets."""
        return Listener(self._cable(number), self.clock)

    def _cable(self, number: int) -> VirtualCable:
        cable = VirtualCable(self.connect(number), self.clock, self.clock)
        cable.listen(mac(number), False)
        return cable

    def run(self, seconds: float) -> None:
        self.clock.run_for(round(seconds * 1_000_000_000))

    def sent_over(self) -> list[int]:
        return [nic.statistics.frames_out for nic in self.nics]

    def notified(self) -> list[tuple[int, bytes, int | None]]:
        """RARP frames that have got to the core: when, for which address, in which VLAN."""
        return [
            (at, frame[6:12], vlan_of(frame))
            for at, frame in self.monitor.got
            if type_of(untagged(frame) if vlan_of(frame) is not None else frame) == RARP
        ]
