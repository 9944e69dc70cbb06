"""Where things stand in the picture of a virtual switch, and how a VLAN looks.

::

    0      machines                    | web1 |  | web2 |  | db1 | ...
    55     their cables                   ▰          what is on its way, or why nothing is
    122    ports, on the switch's edge   VLAN 10    VLAN 10
    134    ===== vSwitch0 ====================================
    186    uplinks                            vmnic0      vmnic1
    212    their wires                          ▰
    276    [ physical switch ]─────────────────────────────── [ gw ]
    360    the frame, octet by octet
"""

from __future__ import annotations

import msgspec

from vilab.network.vlan_tagging import TRUNK
from vilab.view.frame import WIDTH
from vilab.view.switch_frame import Scene

BOX, BOX_HEIGHT = 148.0, 54.0
CABLE, PORT, PORT_HEIGHT = 55.0, 122.0, 24.0
SWITCH, SWITCH_END, BUS = 134.0, 192.0, 163.0
UPLINK, UPLINK_HEIGHT = 186.0, 26.0
WIRE, OUTSIDE, OUTSIDE_END, OUTSIDE_BUS = 212.0, 276.0, 322.0, 289.0
CHIP_CABLE, CHIP_WIRE, CHIP = 69.0, 229.0, 30.0
FRAME = 344.0
HEIGHT = FRAME + 104


class Look(msgspec.Struct, frozen=True):
    """``dash``: of its lines; a hue is never alone."""

    hue: str
    dash: str

    @property
    def ink(self) -> str:
        return f"var(--vl-{self.hue}-ink)"

    @property
    def wash(self) -> str:
        return f"var(--vl-{self.hue}-wash)"


LOOKS = (Look("shared", ""), Look("balloon", "8 4"), Look("warn", "2 4"))
NONE, ALL = Look("host", "4 2"), Look("host", "12 3 2 3")


def look(scene: Scene, vlan: int) -> Look:
    """Of a VLAN, by its place among those that there are; 0 and 4095 are in none."""
    numbers = sorted({v for v in (*scene.vlans, *scene.trunk) if 0 < v < TRUNK})
    if vlan in numbers and numbers.index(vlan) < len(LOOKS):
        return LOOKS[numbers.index(vlan)]
    return ALL if vlan == TRUNK else NONE


def vlan_words(vlan: int) -> str:
    return {0: "no VLAN", TRUNK: "all VLANs"}.get(vlan, f"VLAN {vlan}")


class Layout:
    """The same for every step of one lab."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        count = len(scene.machines)
        self.box = min(BOX, (WIDTH - 8 * (count - 1)) / max(count, 1))
        self.columns = {m.name: self._column(n, count) for n, m in enumerate(scene.machines)}
        names = [u.name for u in scene.uplinks]
        right = 550.0 if scene.outside else 646.5
        left = 265.5 if len(names) < 3 else 180.0
        step = (right - left) / max(len(names) - 1, 1)
        self.uplinks = {name: left + n * step for n, name in enumerate(names)}
        self.physical = (left - 90, right + 90)
        self.outside = 837.0
        self.height = HEIGHT

    def _column(self, n: int, count: int) -> float:
        return self.box / 2 + (n * (WIDTH - self.box) / (count - 1) if count > 1 else 0)

    def x(self, place: str) -> float:
        return self.columns.get(place) or self.uplinks.get(place) or self.outside
