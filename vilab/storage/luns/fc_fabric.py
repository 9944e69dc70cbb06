"""A Fibre Channel fabric: one switch, its name server, its zones.

::

    host 1   vmhba1 ══╗                      ╔══ SP A, port 0
    host 2   vmhba1 ══╣  switch              ╠══ SP B, port 1
                      ╚══ name server, zones ╝

    attach          FLOGI: the port gets its 24-bit identifier and stands in the name server
    targets_of      what the name server answers an initiator: target ports that are up and share a zone with it
    send            a command from port to port: only with a session, over two links that are up, within a zone
    link, zones     what comes or goes for a port is told to it (RSCN); sessions over what is gone end

MODEL: one switch; commands travel whole, not as frames, and take no time. Two switches that share no ports are two
fabrics: what redundant paths are made of.
Sources: FC-GS-6 (name server, RSCN), FC-LS-3 (FLOGI, PLOGI, PRLI).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.luns.fc_events import FcLinkChanged, FcLogin, FcPortAttached, FcStateChange, FcZonesChanged
from vilab.storage.luns.fc_names import PortId, Wwn, port_id, wwn
from vilab.storage.scsi.request import Response

Role = Literal["initiator", "target"]
MOST_PORTS = 256
"""What the area byte of an identifier can tell apart."""


class Device(Protocol):
    """What is at the end of a cable. All calls come from the fabric."""

    def state_change(self, own: Wwn, about: Wwn, reachable: bool) -> None:
        """RSCN: another port has come or gone for this one."""
        ...


class TargetDevice(Device, Protocol):
    """An array."""

    def login(self, own: Wwn, initiator: Wwn) -> None: ...

    def logout(self, own: Wwn, initiator: Wwn) -> None: ...

    def receive(self, own: Wwn, initiator: Wwn, lun: int, cdb: bytes, data_out: ReadableBytes) -> Response: ...

    def reset_unit(self, own: Wwn, initiator: Wwn, lun: int) -> None: ...


class FabricPort(msgspec.Struct):
    """One entry of the name server, and whether its cable is good."""

    wwpn: Wwn
    wwnn: Wwn
    identifier: PortId
    role: Role
    up: bool = True


class FabricState(msgspec.Struct):
    """Ports by WWPN, zones by name, sessions as pairs of initiator and target."""

    ports: dict[str, FabricPort] = {}
    zones: dict[str, tuple[Wwn, ...]] | None = None
    sessions: list[tuple[Wwn, Wwn]] = []


class Fabric:
    """A switch with everything attached to it."""

    def __init__(
        self, name: str = "switch1", domain: int = 1, clock: VirtualClock | None = None, log: EventLog | None = None
    ) -> None:
        self.name, self.domain = name, domain
        self.clock, self.log = clock or VirtualClock(), log or EventLog()
        self.state = FabricState()
        self._devices: dict[Wwn, Device] = {}

    # --- ports --------------------------------------------------------------------------------------------------------

    def attach(self, wwpn: Wwn, wwnn: Wwn, device: Device, role: Role) -> FabricPort:
        """Plug a port in. Refused where its name is taken or the switch is full."""
        if wwpn in self.state.ports:
            raise AdminError(f"{self.name} has a port {wwpn} already: world wide names are unique.")
        if len(self.state.ports) >= MOST_PORTS:
            raise AdminError(f"{self.name} is full: it has {MOST_PORTS} ports.")
        before = self._views()
        port = FabricPort(wwpn, wwnn, port_id(self.domain, len(self.state.ports)), role)
        self.state.ports[wwpn] = port
        self._devices[wwpn] = device
        self._say(FcPortAttached(self.clock.now_ns, wwpn, wwnn, port.identifier, role))
        self._tell(before)
        return port

    def link(self, wwpn: Wwn, up: bool) -> None:
        """Pull the cable of a port, or plug it in again."""
        port = self._port(wwpn)
        if port.up == up:
            return
        before = self._views()
        port.up = up
        self._say(FcLinkChanged(self.clock.now_ns, wwpn, up))
        self._tell(before)

    def _port(self, wwpn: Wwn) -> FabricPort:
        found: FabricPort | None = self.state.ports.get(wwpn)
        if found is None:
            raise AdminError(f"{self.name} has no port {wwpn}.")
        return found

    # --- zones --------------------------------------------------------------------------------------------------------

    def set_zones(self, zones: Mapping[str, Sequence[str]] | None) -> None:
        """Put a set of zones into force, each a list of WWPNs; ``None``: none, everybody sees everybody."""
        before = self._views()
        self.state.zones = None if zones is None else {n: tuple(map(wwn, members)) for n, members in zones.items()}
        self._say(FcZonesChanged(self.clock.now_ns, self.state.zones))  # type: ignore[arg-type]
        self._tell(before)

    def reachable(self, one: Wwn, other: Wwn) -> bool:
        """Both cables are good, and some zone has both."""
        a, b = self.state.ports.get(one), self.state.ports.get(other)
        if a is None or b is None or not (a.up and b.up):
            return False
        zones = self.state.zones
        return zones is None or any(one in members and other in members for members in zones.values())

    def targets_of(self, initiator: Wwn) -> list[FabricPort]:
        """The name server's answer: target ports by identifier."""
        found = [p for p in self.state.ports.values() if p.role == "target" and self.reachable(initiator, p.wwpn)]
        return sorted(found, key=lambda port: port.identifier)

    # --- sessions and commands ----------------------------------------------------------------------------------------

    def login(self, initiator: Wwn, target: Wwn) -> None:
        """PLOGI and PRLI. ``BlockError`` (away) where the target is not to be reached."""
        device = self._reach(initiator, target)
        if (initiator, target) not in self.state.sessions:
            self.state.sessions.append((initiator, target))
            device.login(target, initiator)
            self._say(FcLogin(self.clock.now_ns, initiator, target, True))

    def send(self, initiator: Wwn, target: Wwn, lun: int, cdb: bytes, data_out: ReadableBytes = b"") -> Response:
        """A command and its answer. ``BlockError`` (away) where there is no way, or no session any more."""
        device = self._reach(initiator, target)
        self._need_session(initiator, target)
        return device.receive(target, initiator, lun, cdb, data_out)

    def reset_unit(self, initiator: Wwn, target: Wwn, lun: int) -> None:
        """LOGICAL UNIT RESET."""
        device = self._reach(initiator, target)
        self._need_session(initiator, target)
        device.reset_unit(target, initiator, lun)

    def _reach(self, initiator: Wwn, target: Wwn) -> TargetDevice:
        if not self.reachable(initiator, target) or self.state.ports[target].role != "target":
            raise BlockError("away", f"Port {target} is not to be reached from {initiator} through {self.name}.")
        return self._devices[target]  # type: ignore[return-value]

    def _need_session(self, initiator: Wwn, target: Wwn) -> None:
        if (initiator, target) not in self.state.sessions:
            raise BlockError("away", f"{initiator} is not logged in to {target}; rescan its host bus adapter.")

    # --- what changes is told -----------------------------------------------------------------------------------------

    def _views(self) -> set[tuple[Wwn, Wwn]]:
        """Who reaches whom, (initiator, target)."""
        ports = self.state.ports.values()
        targets = [port.wwpn for port in ports if port.role == "target"]
        hosts = [port.wwpn for port in ports if port.role == "initiator"]
        return {(one, other) for one in hosts for other in targets if self.reachable(one, other)}

    def _tell(self, before: set[tuple[Wwn, Wwn]]) -> None:
        """End the sessions over what is gone, then tell both ends of every change, in a fixed order."""
        after = self._views()
        for initiator, target in sorted(before - after):
            if (initiator, target) in self.state.sessions:
                self.state.sessions.remove((initiator, target))
                self._devices[target].logout(target, initiator)  # type: ignore[attr-defined]
                self._say(FcLogin(self.clock.now_ns, initiator, target, False))
        for initiator, target in sorted(before ^ after):
            here = (initiator, target) in after
            for told, about in ((initiator, target), (target, initiator)):
                self._say(FcStateChange(self.clock.now_ns, told, about, here))
                self._devices[told].state_change(told, about, here)

    def _say(self, event: Event) -> None:
        if self.log.active:
            self.log.emit(event)
