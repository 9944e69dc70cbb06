"""A port of a physical switch: which VLANs it carries, and how they look outside.

::

    Access(vlan)             one VLAN, untagged outside
    Trunk(native, allowed)   many, tagged outside; the native one untagged. allowed None: all of them

    frame in ─ ingress ─> (VLAN, priority, frame without tag), or None: not for this port
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from vilab.errors import AdminError
from vilab.network.ethernet import MAX_VLAN, TAG_TYPE, priority_of, untagged, vlan_of
from vilab.protocols import NetworkInterface

if TYPE_CHECKING:
    from vilab.network.physical_switch import PhysicalSwitch


def _check(*vlans: int) -> None:
    for vlan in vlans:
        if not 1 <= vlan <= MAX_VLAN:
            raise AdminError(f"{vlan} is no VLAN of a physical switch: 1 to {MAX_VLAN} are.")


class Access(msgspec.Struct, frozen=True):
    vlan: int = 1

    def __post_init__(self) -> None:
        _check(self.vlan)


class Trunk(msgspec.Struct, frozen=True):
    """``native`` ``None``: untagged frames are dropped."""

    native: int | None = 1
    allowed: frozenset[int] | None = None

    def __post_init__(self) -> None:
        _check(*(() if self.native is None else (self.native,)), *(self.allowed or ()))


PortSettings: TypeAlias = Access | Trunk


class PortStatistics(msgspec.Struct):
    """``filtered``: not in this port's VLANs, or for the bridge itself."""

    frames_in: int = 0
    frames_out: int = 0
    flooded: int = 0
    filtered: int = 0
    malformed: int = 0
    storm_dropped: int = 0


class PhysicalPort:
    """A ``NetworkPort``. ``group``: its own name, or that of the aggregation group that it is in."""

    def __init__(self, switch: PhysicalSwitch, name: str, settings: PortSettings) -> None:
        self._switch = switch
        self.name, self.group, self.settings = name, name, settings
        self.enabled, self.carrier = True, True
        self.statistics = PortStatistics()
        self._interface: NetworkInterface | None = None

    # --- for what is plugged in ---------------------------------------------------------------------------------------

    @property
    def link_up(self) -> bool:
        return self.enabled and self.carrier

    def plug(self, interface: NetworkInterface) -> None:
        self._interface = interface

    def listen(self, address: bytes, promiscuous: bool) -> None:
        """A physical switch learns from frames only."""

    def transmit(self, frame: bytes) -> None:
        if self.link_up:
            self._switch.arrived(self, frame)

    def save_state(self) -> bytes:
        """Nothing: ``PhysicalSwitch.save_state`` has what is on its way."""
        return b""

    def load_state(self, state: bytes) -> None:
        pass

    # --- link ---------------------------------------------------------------------------------------------------------

    def carrier_changed(self, up: bool) -> None:
        """The wire was pulled, or plugged in."""
        self.carrier = up
        if not up:
            self._switch.forget(self)

    def enable(self, up: bool) -> None:
        if up == self.enabled:
            return
        self.enabled = up
        if not up:
            self._switch.forget(self)
        if self._interface is not None:
            self._interface.link_changed(up)

    # --- for the switch -----------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        if self.link_up and self._interface is not None:
            self.statistics.frames_out += 1
            self._interface.receive(frame)

    def carries(self, vlan: int) -> bool:
        settings = self.settings
        if isinstance(settings, Access):
            return vlan == settings.vlan
        return vlan == settings.native or settings.allowed is None or vlan in settings.allowed

    def is_untagged(self, vlan: int) -> bool:
        return vlan == (self.settings.vlan if isinstance(self.settings, Access) else self.settings.native)

    def ingress(self, frame: bytes) -> tuple[int, int, bytes] | None:
        """VLAN, priority, the frame without its tag; ``None``: this port does not take it."""
        settings, vlan = self.settings, vlan_of(frame)
        if vlan is None and frame[12:14] == TAG_TYPE:
            return None  # cut off within the tag
        if not vlan:  # untagged, or with a priority only
            own = settings.vlan if isinstance(settings, Access) else settings.native
            inner = frame if vlan is None else untagged(frame)
            return None if own is None else (own, priority_of(frame), inner)
        if isinstance(settings, Access) or vlan > MAX_VLAN or not self.carries(vlan):
            return None
        return vlan, priority_of(frame), untagged(frame)
