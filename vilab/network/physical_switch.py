"""A physical Ethernet switch: learns who is where, keeps VLANs apart, bundles links; loops it survives.

::

    port          untagged in      tagged in                  out
    Access(10)    VLAN 10          dropped (VLAN 0: as untagged)   untagged
    Trunk(native  native VLAN,     that VLAN, if allowed      tagged, the native VLAN untagged
          =1)     None: dropped
    group         links that count as one port: learned as one, a frame takes one of those that are up (``ip_hash``)

    in ─> VLAN ─> storm control ─> learn (VLAN, source) at this port ─> FORWARD_NS later:
          destination known, on another port        that port
                      known, on the same port       nobody
                      group, or unknown             every other port of the VLAN

    table    (VLAN, address) -> port, when seen last     300 s later it is forgotten; 8192 entries

There is no spanning tree. In a loop a broadcast goes round, addresses seem to move, and everybody gets it again
and again, until the ports have brought as many frames for everybody as they may in that window (``StormControl``).

MODEL: store and forward in a fixed time, not bound by an inner bandwidth; queues are those of the wires behind the
ports. Sources: IEEE 802.1D-2004, 7.8, 7.9 (learning, ageing 300 s), 7.12.6 (reserved addresses); 802.1Q-2005, 8.6
(ingress, egress); 802.3-2005, 43 (aggregation: all frames of one conversation take one link).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.balancing import ip_hash
from vilab.network.ethernet import HEADER_BYTES, MAX_FRAME_BYTES, is_group, tagged
from vilab.network.forwarding_table import ForwardingTable
from vilab.network.physical_events import AddressLearned, StormControlled
from vilab.network.physical_port import PhysicalPort, PortSettings
from vilab.network.wire import WireEnd

FORWARD_NS = 2_000
STORM_FRAMES, STORM_WINDOW_NS = 1_000, 100_000_000
MAX_PENDING = 65_536
RESERVED = bytes.fromhex("0180c20000")
"""And 00 to 0F: for the bridge itself, never forwarded."""


class Pending(msgspec.Struct, frozen=True):
    """A frame on its way through the switch, as it leaves."""

    at_ns: int
    port: str
    frame: bytes


class StormControl(msgspec.Struct):
    """Of one port: frames for everybody in the window that began at ``since_ns``."""

    since_ns: int = 0
    frames: int = 0


class PhysicalSwitchState(msgspec.Struct):
    table: ForwardingTable
    pending: list[Pending] = []
    storms: dict[str, StormControl] = {}
    overflowed: int = 0


class PhysicalSwitch:
    """
    Parameters
    ----------
    ports : settings by name, in the order in which frames are flooded.
    storm_frames : that a port may bring for everybody in ``STORM_WINDOW_NS``.
    max_frame_bytes : without a tag; what is longer is dropped.
    """

    def __init__(
        self, name: str, clock: VirtualClock, ports: Mapping[str, PortSettings], log: EventLog | None = None,
        storm_frames: int = STORM_FRAMES, max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:  # fmt: skip
        self.name, self.storm_frames, self.max_frame_bytes = name, storm_frames, max_frame_bytes
        self._clock, self._log = clock, log
        self.ports = {port: PhysicalPort(self, port, settings) for port, settings in ports.items()}
        self._groups: dict[str, list[PhysicalPort]] = {port.name: [port] for port in self.ports.values()}
        self.state = PhysicalSwitchState(ForwardingTable())
        self._timer: Timer | None = None

    # --- for the administrator ----------------------------------------------------------------------------------------

    def port(self, name: str) -> PhysicalPort:
        """Something is plugged into it. Raises ``AdminError``."""
        if name not in self.ports:
            raise AdminError(f"{self.name} has no port {name!r}; its ports are {', '.join(self.ports)}.")
        return self.ports[name]

    def connect(self, name: str, end: WireEnd) -> PhysicalPort:
        """Plug one end of a wire into a port; the link counts from now on."""
        port = self.port(name)
        end.attach(port, port.carrier_changed)
        if not port.enabled:
            end.link_changed(False)
        port.carrier = end.link_up
        return port

    def configure(self, name: str, settings: PortSettings) -> None:
        """Another VLAN; what was learned there is forgotten."""
        port = self.port(name)
        if port.group != name:
            raise AdminError(f"{self.name}: port {name} is in the group {port.group}, whose ports have to be alike.")
        port.settings = settings
        self.forget(port)

    def aggregate(self, name: str, *members: str) -> None:
        """Make one link of several (static, without LACP). Raises ``AdminError``."""
        ports = [self.port(member) for member in members]
        if name in self._groups or not ports or len(set(members)) != len(members):
            raise AdminError(f"{self.name} cannot make a group {name!r} of {', '.join(members) or 'no ports'}.")
        if any(p.group != p.name or p.settings != ports[0].settings for p in ports):
            raise AdminError(f"{self.name}: the ports of group {name} have to be free and in the same VLANs.")
        for port in ports:
            self.forget(port)
            del self._groups[port.group]
            port.group = name
        self._groups[name] = ports

    def shut(self, name: str) -> None:
        """Administratively down: whoever is plugged in loses the link."""
        self.port(name).enable(False)

    def open(self, name: str) -> None:
        self.port(name).enable(True)

    def where(self, mac: bytes, vlan: int = 1) -> str | None:
        """The port, or group of ports, behind which an address is now."""
        return self.state.table.find(vlan, mac, self._clock.now_ns)

    # --- in -----------------------------------------------------------------------------------------------------------

    def arrived(self, port: PhysicalPort, frame: bytes) -> None:
        """A frame has come in at a port with a link."""
        statistics = port.statistics
        statistics.frames_in += 1
        if len(frame) < HEADER_BYTES or is_group(frame[6:12]):
            statistics.malformed += 1
            return
        classified = port.ingress(frame)
        if classified is None or (frame[:5] == RESERVED and frame[5] < 16):
            statistics.filtered += 1
            return
        vlan, priority, inner = classified
        if len(inner) > self.max_frame_bytes:
            statistics.malformed += 1
            return
        destination = inner[:6]
        found = None if is_group(destination) else self.where(destination, vlan)
        if found is None and self._is_storm(port):
            statistics.storm_dropped += 1
            return
        self._learn(port, vlan, inner[6:12])
        if found is None:
            statistics.flooded += 1
        for group in self._groups if found is None else (found,):
            if group != port.group:
                self._send(group, vlan, priority, inner)

    def forget(self, port: PhysicalPort) -> None:
        """Nobody is known to be there any more, unless other links of its group are up."""
        if not any(p.link_up for p in self._groups[port.group] if p is not port):
            self.state.table.forget(port.group)

    def _learn(self, port: PhysicalPort, vlan: int, source: bytes) -> None:
        before = self.state.table.learn(vlan, source, port.group, self._clock.now_ns)
        if before != port.group and self._log is not None and self._log.active:
            self._log.emit(AddressLearned(self._clock.now_ns, self.name, vlan, source, port.group, before))

    def _is_storm(self, port: PhysicalPort) -> bool:
        now_ns, storm = self._clock.now_ns, self.state.storms.setdefault(port.name, StormControl())
        if now_ns - storm.since_ns >= STORM_WINDOW_NS:
            storm.since_ns, storm.frames = now_ns, 0
        storm.frames += 1
        if storm.frames == self.storm_frames + 1 and self._log is not None and self._log.active:
            self._log.emit(StormControlled(now_ns, self.name, port.name, storm.since_ns + STORM_WINDOW_NS))
        return storm.frames > self.storm_frames

    # --- out ----------------------------------------------------------------------------------------------------------

    def _send(self, group: str, vlan: int, priority: int, inner: bytes) -> None:
        members = [port for port in self._groups[group] if port.link_up and port.carries(vlan)]
        if not members:
            return
        port = members[ip_hash(inner) % len(members)]
        if len(self.state.pending) >= MAX_PENDING:
            self.state.overflowed += 1
            return
        frame = inner if port.is_untagged(vlan) else tagged(inner, vlan, priority)
        self.state.pending.append(Pending(self._clock.now_ns + FORWARD_NS, port.name, frame))
        self._expect()

    def _expect(self) -> None:
        if self._timer is None and self.state.pending:
            self._timer = self._clock.at(self.state.pending[0].at_ns, self._forward)

    def _forward(self) -> None:
        self._timer = None
        pending, now_ns = self.state.pending, self._clock.now_ns
        due = next((n for n, it in enumerate(pending) if it.at_ns > now_ns), len(pending))
        leaving = pending[:due]
        del pending[:due]
        for it in leaving:
            self.ports[it.port].send(it.frame)
        self._expect()

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        """What it has learned and what is on its way; not how it is configured."""
        return msgspec.msgpack.encode(self.state)

    def load_state(self, state: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.state = msgspec.msgpack.decode(state, type=PhysicalSwitchState)
        self._expect()
