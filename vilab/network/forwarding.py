"""Forwarding: which ports a frame goes to. Nothing is learned from frames.

::

    arrive   sent, tap ──> long enough, not too long ──> VLAN ──> source ──> shaper ──> pass_on
                                    │                      │         │          │
                                    └── too short/long     └ guest   └ forged   └ queue full, or later
    pass_on  by VLAN and destination:

      destination                  from a port                          from an uplink
      an address that ports have   those ports                          those ports
      another unicast address      one uplink                           nobody: dropped
      broadcast                    all ports and one uplink             all ports
      multicast                    ports that want it, one uplink       ports that want it
      in any case, too             promiscuous ports of the VLAN        promiscuous ports of the VLAN

    never: back to where it came from, from uplink to uplink, to another VLAN

The table is what the cards have said that they listen to, so it is right from the start, a guest cannot fill it, and no
loop can come of it: there is no spanning tree. Per VLAN it is computed when first needed and thrown away when anything
changes. ``VlanTable.fast`` is the part of it that ``SwitchPort.transmit`` can use without looking further.

* A frame from an uplink whose source is a port's address in that VLAN is one that this switch sent out before, flooded
  back over another uplink: a machine never gets a copy of what it has sent, nor any frame twice (Virtual Networking
  Concepts, "Virtual Switch Correctness"). It is dropped as ``came back``.
* A frame that may come in over several uplinks is taken once: of which uplink, the team says (``UplinkTeam.accepts``).
  From an uplink that its port group does not use a port gets nothing.

MODEL: a port with the sender's own address gets nothing from it, and the frame does not go out (``own address``); two
ports with one address get a copy each. A card that is plugged in must not send from within ``receive``: cables and
wires have their clocks between.
"""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, HEADER_BYTES, MTU_BYTES, NO_ADDRESS, TAG_BYTES, TAG_TYPE, is_group
from vilab.network.network_events import AddressSet, FrameDropped, FrameForwarded, FrameHeld
from vilab.network.statistics import Reason, VlanStatistics, add_in
from vilab.network.switch_port import SwitchPort
from vilab.network.uplinks import Nic, UplinkInterface
from vilab.network.vlan_tagging import TRUNK, vlan_at, with_tag, without_tag

NO_VLAN = -1
EVENT_BYTES = 64
"""A dropped frame may have any size; its event shows the beginning."""


class VlanTable:
    """One VLAN's ports, uplinks not among them. ``owners``: by unicast address, who listens to it."""

    def __init__(self, ports: list[SwitchPort], statistics: VlanStatistics) -> None:
        self.members = ports
        self.statistics = statistics
        self.promiscuous = [p for p in ports if p.sees_all]
        self.owners: dict[bytes, list[SwitchPort]] = {}
        for port in ports:
            if not is_group(port.state.effective) and port.state.effective != NO_ADDRESS:
                self.owners.setdefault(port.state.effective, []).append(port)
        self.fast: dict[bytes, SwitchPort] = {}
        if not self.promiscuous:
            for address, owners in self.owners.items():
                port = owners[0]
                if len(owners) == 1 and port.vlan != TRUNK and not port.blocked and not port.taps:
                    self.fast[address] = port


class Fabric:
    """The ports of a switch, and the way between them.

    Parameters
    ----------
    name : of the switch, for events. vlans : counters, by VLAN.
    """

    def __init__(self, name: str, clock: VirtualClock, log: EventLog) -> None:
        self.name, self._clock, self._log = name, clock, log
        self.ports: dict[int, SwitchPort] = {}
        self.vlans: dict[int, VlanStatistics] = {}
        self._tables: dict[int, VlanTable] = {}
        self._uplinks: dict[str, SwitchPort] = {}
        self.largest_bytes = HEADER_BYTES + MTU_BYTES
        """Without a tag."""

    # --- what ports say -----------------------------------------------------------------------------------------------

    def port_changed(self, port: SwitchPort) -> None:
        """Something about it is different."""
        port.fast = None
        self.changed()

    def changed(self) -> None:
        """All tables are computed again when they are needed."""
        for table in self._tables.values():
            table.fast.clear()
        self._tables.clear()
        self._uplinks = {p.state.client: p for p in self.ports.values() if p.is_uplink}

    def address_set(self, port: SwitchPort) -> None:
        self.port_changed(port)
        if self._log.active:
            s = port.state
            initial = s.initial or s.effective
            self._log.emit(AddressSet(
                self._clock.now_ns, self.name, s.number, initial, s.effective, s.promiscuous, not port.blocked,
            ))  # fmt: skip

    def table(self, vlan: int) -> VlanTable:
        table = self._tables.get(vlan)
        if table is None:
            ports = [
                p for _, p in sorted(self.ports.items())
                if not p.is_uplink and p.link_up and p.interface is not None and p.vlan in (vlan, TRUNK)
            ]  # fmt: skip
            table = self._tables[vlan] = VlanTable(ports, self.vlans.setdefault(vlan, VlanStatistics()))
        return table

    # --- in -----------------------------------------------------------------------------------------------------------

    def arrive(self, port: SwitchPort, frame: bytes) -> None:
        """A card has sent a frame to its port, or a physical card has received one."""
        if not port.link_up:
            self._drop(port, frame, NO_VLAN, "port down")
            return
        size_bytes = len(frame)
        port.sent.add(frame[:6], size_bytes)
        for tap in port.taps:
            tap(self._clock.now_ns, frame)
        if size_bytes < HEADER_BYTES:
            self._drop(port, frame, NO_VLAN, "too short")
            return
        if size_bytes > self.largest_bytes + (TAG_BYTES if frame[12:14] == TAG_TYPE else 0):
            self._drop(port, frame, NO_VLAN, "too long")
            return
        vlan = vlan_at(port.vlan, frame)
        if not isinstance(vlan, int):
            self._drop(port, frame, NO_VLAN, vlan)
            return
        if port.vlan == TRUNK:
            add_in(port.statistics.sent_in, vlan, frame[:6], size_bytes)
        if not port.security.forged_transmits and frame[6:12] != port.state.effective and not port.is_uplink:
            self._drop(port, frame, vlan, "forged source")
            return
        if port.shaper is not None:
            self._shape(port, frame, vlan)
            return
        self._pass_on(port, frame, vlan)
        looked_at = port.vlan == TRUNK or port.taps or port.shaper or not port.security.forged_transmits
        if port.link_up and not looked_at:
            table = self.table(port.vlan)
            port.fast, port.forwarded = table.fast, table.statistics.forwarded

    def _shape(self, port: SwitchPort, frame: bytes, vlan: int) -> None:
        assert port.shaper is not None
        held_bytes = port.shaper.queued_bytes
        if not port.shaper.offer(frame):
            self._drop(port, frame, vlan, "queue full")
        elif self._log.active and port.shaper.queued_bytes > held_bytes:
            self._log.emit(FrameHeld(self._clock.now_ns, self.name, port.number, len(frame), port.shaper.queued_bytes))

    def shaped(self, port: SwitchPort, frame: bytes) -> None:
        """The port's shaper lets a frame go that had arrived. The port group's VLAN may be another one by now."""
        vlan = vlan_at(port.vlan, frame)
        if not port.link_up:
            self._drop(port, frame, NO_VLAN, "port down")
        elif not isinstance(vlan, int):
            self._drop(port, frame, NO_VLAN, vlan)
        else:
            self._pass_on(port, frame, vlan)

    # --- out ----------------------------------------------------------------------------------------------------------

    def _pass_on(self, port: SwitchPort, frame: bytes, vlan: int) -> None:
        table = self.table(vlan)
        destination = frame[:6]
        from_uplink = port.is_uplink
        if from_uplink and frame[6:12] in table.owners:
            self._drop(port, frame, vlan, "came back")
            return
        why: Reason
        if destination[0] & 1:
            owners: list[SwitchPort] = []
            why, to = "no receiver", self._group(table, destination)
        else:
            owners = table.owners.get(destination, [])
            why = "own address" if owners else "unknown address" if from_uplink else "no uplink"
            to = owners + [p for p in table.promiscuous if p not in owners] if table.promiscuous else owners
        taken: list[SwitchPort] = []
        withheld: Reason | None = None
        nic = port.interface.nic if from_uplink and isinstance(port.interface, UplinkInterface) else None
        for receiver in to:
            if receiver is port:
                continue
            if receiver.blocked:
                withheld = self._withhold(receiver, frame, vlan, "address changed")
            elif nic is not None and not self._accepts(receiver, nic, frame):
                withheld = self._withhold(receiver, frame, vlan, "other uplink")
            else:
                taken.append(receiver)
        if not owners and not from_uplink:
            uplink = self._uplink_for(port, with_tag(frame, vlan))
            if uplink is not None:
                taken.append(uplink)
        if taken:
            table.statistics.forwarded.add(destination, len(frame))
            if self._log.active:
                numbers = tuple(p.number for p in taken)
                self._log.emit(FrameForwarded(self._clock.now_ns, self.name, port.number, vlan, numbers, frame))
            bare = trunk = None
            for receiver in taken:
                if receiver.vlan != TRUNK:
                    bare = bare or without_tag(frame, vlan)
                    self._out(receiver, bare, vlan)
                else:
                    trunk = trunk or with_tag(frame, vlan)
                    self._out(receiver, trunk, vlan)
        elif withheld is not None:
            table.statistics.drop(withheld)
        else:
            self._drop(port, frame, vlan, why)

    @staticmethod
    def _accepts(port: SwitchPort, nic: Nic, frame: bytes) -> bool:
        """Does the port take this frame from this uplink?"""
        return nic.name in port.uplinks and port.team is not None and port.team.accepts(nic, port.number, frame)

    @staticmethod
    def _group(table: VlanTable, destination: bytes) -> list[SwitchPort]:
        if destination == BROADCAST:
            return table.members
        return [p for p in table.members if p.sees_all or (p.interface and p.interface.wants_multicast(destination))]

    def _uplink_for(self, port: SwitchPort, frame: bytes) -> SwitchPort | None:
        nic = port.team.uplink_for(port.number, frame) if port.team is not None else None
        return self._uplinks.get(nic.name) if nic is not None else None

    def _out(self, port: SwitchPort, frame: bytes, vlan: int) -> None:
        port.received.add(frame[:6], len(frame))
        if port.vlan == TRUNK:
            add_in(port.statistics.received_in, vlan, frame[:6], len(frame))
        for tap in port.taps:
            tap(self._clock.now_ns, frame)
        if port.deliver is not None:
            port.deliver(frame)

    # --- not out ------------------------------------------------------------------------------------------------------

    def _drop(self, port: SwitchPort, frame: bytes, vlan: int, reason: Reason) -> None:
        """Nobody gets it."""
        port.statistics.drop(reason)
        if vlan != NO_VLAN:
            self.table(vlan).statistics.drop(reason)
        self._say_dropped(port, frame, vlan, reason)

    def _withhold(self, port: SwitchPort, frame: bytes, vlan: int, reason: Reason) -> Reason:
        """This port does not get it; others may."""
        port.statistics.drop(reason)
        self._say_dropped(port, frame, vlan, reason)
        return reason

    def _say_dropped(self, port: SwitchPort, frame: bytes, vlan: int, reason: Reason) -> None:
        if self._log.active:
            self._log.emit(FrameDropped(
                self._clock.now_ns, self.name, port.number, vlan, reason, len(frame), frame[:EVENT_BYTES],
            ))  # fmt: skip
