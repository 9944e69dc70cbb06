"""A host with one virtual switch, its cards, cables and a physical switch: the real parts, to be wired and watched.

::

    web1  web2  db1 ...          stations on ports of vSwitch0, each in the port group of its VLAN
      └────┴────┴── vSwitch0
                    vmnic0  vmnic1        teams, wires of 1 Gbit/s
                      └──┬───┘
                  physical switch ── gw   trunk ports for the uplinks, an access port for each host outside

What an administrator can do is a method; each returns what was done, in words. What comes of it stands in ``recorder``
and on the ports' taps (``captures``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.cable import VirtualCable
from vilab.network.ethernet import address_of
from vilab.network.failover import choose
from vilab.network.packets import ip_of
from vilab.network.pcap import Packet, PcapWriter
from vilab.network.physical_nic import PhysicalNic
from vilab.network.physical_port import Access, PhysicalPort, Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.policies import Policies
from vilab.network.switch_port import SwitchPort
from vilab.network.teaming import Team
from vilab.network.teams import Teams
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.vlan_tagging import TRUNK
from vilab.network.wire import Wire
from vilab.view.switch_frame import Machine, Outside, Scene, Uplink
from vilab.view.switch_record import Recorder
from vilab.view.switch_station import Station

QUIET_NS = 2_000_000
"""Long enough for any conversation of a few frames."""
WRONG_VLAN = 99
CABLES = ("in", "out", "wrong")
GROUPS = {0: "VM Network", 10: "Production", 20: "Test", 105: "VMotion", TRUNK: "Trunk"}
Configure = Callable[[VirtualSwitch], Mapping[str, str]]


class Wanted(msgspec.Struct, frozen=True):
    """A machine to be made. ``order``: machines are connected in this order, and get their port numbers by it."""

    name: str
    mac: str
    ip: str
    vlan: int
    tag: int | None = None
    curious: bool = False
    order: int = 0
    note: str = ""


class Card(Protocol):
    """A machine's card, as a picture sees it."""

    mac: bytes
    own_mac: bytes
    ip: bytes
    tag: int | None
    curious: bool


class Home(NamedTuple):
    """Where a lab is, if not in a world of its own. ``announce``: tells the physical switches of a machine's port."""

    clock: VirtualClock
    log: EventLog
    switch: VirtualSwitch
    announce: Callable[[SwitchPort], None]


def new_home() -> Home:
    clock, log = VirtualClock(), EventLog()
    teams = Teams("esx1/vSwitch0", clock, log)
    teams.switch = VirtualSwitch("vSwitch0", clock, log, teams)
    return Home(clock, log, teams.switch, teams.announce)


class WatchedSwitch(PhysicalSwitch):
    """A physical switch that says what it passes on."""

    watch: Callable[[str, bytes, list[tuple[str, bytes]]], None] | None = None

    def arrived(self, port: PhysicalPort, frame: bytes) -> None:
        before = len(self.state.pending)
        super().arrived(port, frame)
        if self.watch is not None:
            self.watch(port.name, frame, [(it.port, it.frame) for it in self.state.pending[before:]])


class SwitchLab:
    """
    Parameters
    ----------
    machines : on the virtual switch, as they stand in the picture. outside : on the physical one.
    trunk : VLANs that the physical switch carries to the host.
    home : the clock, log and switch of somebody else, who has to let time pass (``_pass``).
    configure : makes port groups and says, by machine, which one it is connected to; without it, one a VLAN.
    """

    def __init__(
        self, machines: Sequence[Wanted], outside: Sequence[Wanted] = (), uplinks: int = 2,
        trunk: Sequence[int] = (10, 20), policies: Policies | None = None, configure: Configure | None = None,
        home: Home | None = None,
    ) -> None:  # fmt: skip
        self.clock, self.log, self.switch, self.announce = home or new_home()
        self.trunk = tuple(trunk)
        self.captures: dict[str, list[Packet]] = {}
        names = [f"vmnic{n}" for n in range(uplinks)]
        ports = {name: self._trunk() for name in names} | {o.name: Access(o.vlan) for o in outside}
        self.physical = WatchedSwitch("physical switch", self.clock, ports, self.log)
        self.wires = {name: Wire(self.clock) for name in names}
        self.recorder = Recorder(self.clock, self.scene)
        for n, name in enumerate(names):
            nic = PhysicalNic(name, bytes((0, 0x1B, 0x21, 0x5C, 0, n)), self.wires[name].a, self.clock, self.log)
            self.physical.connect(name, self.wires[name].b)
            self._tapped(name, self.switch.add_uplink(nic))
        if policies is not None:
            teaming = msgspec.structs.replace(policies.teaming, active=tuple(names))
            self.switch.set_policies(msgspec.structs.replace(policies, teaming=teaming))
        self.groups = dict(configure(self.switch)) if configure is not None else {}
        self.wanted = {w.name: w for w in machines}
        self.outside = tuple(outside)
        self.ports: dict[str, SwitchPort] = {}
        self.stations: dict[str, Station] = {}
        self.cards: dict[str, Card] = {}
        """What is on each port of the switch: stations, as a rule."""
        for w in sorted(machines, key=lambda w: w.order):
            self._connect(w.name, w.vlan)
        for o in outside:
            wire = Wire(self.clock)
            self.stations[o.name] = Station(o.name, wire.a, address_of(o.mac), ip_of(o.ip), self.recorder.sent)
            self.physical.connect(o.name, wire.b)
            self.stations[o.name].peer.announce()
        self.run()
        self.log.listen(self.recorder.heard)
        self.physical.watch = self.recorder.outside
        self.recorder.begin()

    def _trunk(self) -> Trunk:
        return Trunk(1, frozenset((1, *self.trunk)))

    def _tapped(self, name: str, port: SwitchPort) -> None:
        kept = self.captures.setdefault(name, [])

        def tap(at_ns: int, frame: bytes) -> None:
            kept.append(Packet(at_ns, frame, len(frame)))
            self.recorder.on_port(name, port.number, frame)

        port.tap(tap)

    def _group(self, name: str, vlan: int) -> str:
        """Its port group, which is made if there is none yet."""
        group = self.groups.get(name) or GROUPS.get(vlan, f"VLAN {vlan}")
        if group not in self.switch.groups:
            self.switch.add_port_group(group, vlan)
        return group

    def _connect(self, name: str, vlan: int) -> None:
        group, w = self._group(name, vlan), self.wanted[name]
        port = self.switch.connect(group, name, "vmkernel" if name.startswith("vmk") else "machine", address_of(w.mac))
        self.ports[name] = port
        self._tapped(name, port)
        cable = VirtualCable(port, self.clock, self.clock)
        if name in self.stations:
            self.stations[name].move(cable)
        else:
            self.stations[name] = Station(
                name, cable, address_of(w.mac), ip_of(w.ip), self.recorder.sent, w.tag, w.curious
            )
            self.cards[name] = self.stations[name]
        self.announce(port)

    def run(self, for_ns: int = QUIET_NS) -> None:
        self._pass(for_ns)
        self.recorder.flush()

    def _pass(self, for_ns: int) -> None:
        """Time goes on."""
        self.clock.run_for(for_ns)

    # --- for the administrator ----------------------------------------------------------------------------------------

    def station(self, name: str) -> Station:
        """Raises ``AdminError``."""
        if name not in self.stations:
            raise AdminError(f"There is no machine {name!r} here; there are {', '.join(self.stations)}.")
        return self.stations[name]

    def set_vlan(self, name: str, vlan: int, tag: int | None = None) -> str:
        """Another port group. ``tag``: what the guest's driver tags with from now on."""
        self.station(name).tag = tag
        if self.ports[name].vlan != vlan:
            self.switch.disconnect(self.ports.pop(name))
            self.groups.pop(name, None)
            self._connect(name, vlan)
        what = {0: "no VLAN (EST)", TRUNK: "all VLANs (VGT)"}.get(vlan, f"VLAN {vlan} (VST)")
        guest = "" if tag is None else f"; its guest tags with {tag}"
        return f"{name} is connected to {GROUPS.get(vlan, f'VLAN {vlan}')!r}: {what}{guest}"

    def set_cable(self, name: str, how: str) -> str:
        """``in``; ``out``: pulled; ``wrong``: in, but its port on the physical switch is in another VLAN."""
        if name not in self.wires or how not in CABLES:
            raise AdminError(
                f"The cable of {name!r} cannot be {how!r}: {', '.join(self.wires)} can be {', '.join(CABLES)}."
            )
        right = Access(WRONG_VLAN) if how == "wrong" else self._trunk()
        if self.physical.port(name).settings != right:
            self.physical.configure(name, right)
        if how == "out":
            self.wires[name].pull()
            return f"The cable of {name} is pulled"
        self.wires[name].plug_in()
        if how == "wrong":
            return f"{name}'s port on the physical switch is in VLAN {WRONG_VLAN} now; the link is up"
        return f"The cable of {name} is plugged in"

    def cable(self, name: str) -> str:
        if not self.wires[name].link_up:
            return "out"
        return "wrong" if isinstance(self.physical.port(name).settings, Access) else "in"

    def set_policies(self, policies: Policies) -> None:
        self.switch.set_policies(policies)

    # --- what there is ------------------------------------------------------------------------------------------------

    def scene(self) -> Scene:
        """As a picture needs it."""
        nics, teaming = self.switch.nics, self.switch.policies.teaming
        numbers = {p.state.client: p.number for p in self.switch.ports.values() if p.is_uplink}
        in_use = {n for port in self.ports.values() if isinstance(port.team, Team) for n in port.team.in_use}
        uplinks = tuple(
            Uplink(n, numbers[n], nic.link_up, self.cable(n), n in in_use, nic.statistics.frames_out)
            for n, nic in nics.items() if isinstance(nic, PhysicalNic)
        )  # fmt: skip
        machines = tuple(self._machine(name) for name in self.wanted if name in self.ports)
        outside = tuple(Outside(o.name, address_of(o.mac), ip_of(o.ip), o.vlan) for o in self.outside)
        where = tuple((vlan, mac, port) for vlan, mac, port, _ in self.physical.state.table.known(self.clock.now_ns))
        return Scene(
            self.switch.name, machines, uplinks, outside, self.trunk, self.switch.policies.security,
            teaming.balancing, teaming.detection, where,
        )  # fmt: skip

    def _machine(self, name: str) -> Machine:
        station, port, w = self.cards[name], self.ports[name], self.wanted[name]
        return Machine(
            name, port.number, station.mac, station.own_mac, station.ip, port.state.group, port.vlan, station.tag,
            station.curious, self.uplink_of(name), w.note,
        )  # fmt: skip

    def uplink_of(self, name: str) -> str:
        """Where its frames leave the host; empty where that depends on the packet, or nothing is left."""
        port = self.ports[name]
        if not isinstance(port.team, Team) or port.team.policy.balancing == "ip_hash":
            return ""
        number = self.cards[name].mac[5] if port.team.policy.balancing == "mac_hash" else port.number
        number = 0 if port.team.policy.balancing == "explicit" else number
        return choose(port.team.state.places, number) or ""

    def pcap(self, name: str) -> bytes:
        """What a port has seen so far, as a capture file."""
        if name not in self.captures:
            raise AdminError(f"There is no port of {name!r} here; there are {', '.join(self.captures)}.")
        file = io.BytesIO()
        write = PcapWriter(file, nanoseconds=True)
        for packet in self.captures[name]:
            write(packet.at_ns, packet.frame)
        return file.getvalue()
