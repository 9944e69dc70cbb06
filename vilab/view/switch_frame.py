"""What there is around a virtual switch at one moment, and what happened to one frame in one step.

::

    Scene    machines ── ports ── switch ── uplinks ── physical switch ── a host outside
    Step     where a frame came from, the copies that were made of it, and who got none and why, in two words

=========  ==========================================  =========  ==================================================
kind       what has just happened                      kind       what has just happened
=========  ==========================================  =========  ==================================================
begin      nothing yet                                 set        the administrator has changed something
sends      a machine has put a frame on its port       link       a physical card has lost its link, or has one again
forwards   the switch has passed a frame on            moves      a port uses another uplink now
drops      the switch has dropped a frame              tells      RARP: the physical switch is told where a machine is
outside    the physical switch has had a frame         beacons    what beacons say has changed
=========  ==========================================  =========  ==================================================
"""

from __future__ import annotations

import msgspec

from vilab.network.policies import Balancing, Detection, SecurityPolicy
from vilab.network.vlan_tagging import TRUNK


class Machine(msgspec.Struct, frozen=True):
    """``vlan``: its port group's number. ``tag``: the VLAN that its guest tags its own frames with. ``curious``: its
    driver has asked for every frame. ``mac`` is what it listens to; ``own_mac``, what its card was made with."""

    name: str
    port: int
    mac: bytes
    own_mac: bytes
    ip: bytes
    group: str
    vlan: int
    tag: int | None = None
    curious: bool = False
    uplink: str = ""
    note: str = ""

    @property
    def kind(self) -> str:
        return "EST" if self.vlan == 0 else "VGT" if self.vlan == TRUNK else "VST"


class Uplink(msgspec.Struct, frozen=True):
    """``up``: it has a link. ``cable``: ``in``, ``out`` or ``wrong``. ``frames_out``: since the beginning."""

    name: str
    port: int
    up: bool = True
    cable: str = "in"
    used: bool = True
    frames_out: int = 0


class Outside(msgspec.Struct, frozen=True):
    """A host on the physical switch."""

    name: str
    mac: bytes
    ip: bytes
    vlan: int


class Scene(msgspec.Struct, frozen=True):
    """``where``: (address, name of the uplink or host) as the physical switch has learned it."""

    switch: str
    machines: tuple[Machine, ...]
    uplinks: tuple[Uplink, ...]
    outside: tuple[Outside, ...]
    trunk: tuple[int, ...]
    security: SecurityPolicy
    balancing: Balancing
    detection: Detection
    where: tuple[tuple[int, bytes, str], ...] = ()

    def machine(self, name: str) -> Machine | None:
        return next((m for m in self.machines if m.name == name), None)

    def uplink(self, name: str) -> Uplink | None:
        return next((u for u in self.uplinks if u.name == name), None)

    def name_of(self, mac: bytes) -> str:
        """Who listens to it, or the address."""
        found = [m.name for m in self.machines if m.mac == mac] + [o.name for o in self.outside if o.mac == mac]
        return found[0] if found else mac.hex(":")

    @property
    def vlans(self) -> list[int]:
        """In the order in which they get their look: numbers first, then none, then all."""
        there = {m.vlan for m in self.machines}
        return sorted(v for v in there if 0 < v < TRUNK) + [v for v in (0, TRUNK) if v in there]


class Copy(msgspec.Struct, frozen=True):
    """A frame as it is at a place: a machine, an uplink (its wire), a host outside."""

    place: str
    frame: bytes


class SwitchStep(msgspec.Struct, frozen=True):
    """``origin``: the place where the frame came in. ``vlan``: -1 where none was found out. ``refused``: (place, why).
    ``reason``: of a drop, or of a move. ``words``: what the administrator did."""

    at_ns: int
    kind: str
    scene: Scene
    origin: str = ""
    frame: bytes = b""
    vlan: int = -1
    copies: tuple[Copy, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    words: str = ""
