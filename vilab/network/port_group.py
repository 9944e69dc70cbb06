"""Port groups: a template for ports of a virtual switch, with a name that machines are connected by.

::

    machine "web1", Ethernet 1 ── "Production" ── vSwitch0 ── vmnic0, vmnic1
                                   VLAN 105, promiscuous: reject, ...

The name is unique on a host, not only on a switch: a machine that moves to another host is connected to the port group
of the same name there. What the VLAN number does: ``vlan_tagging``. Source: VMware, Virtual Networking Concepts (2007),
"Port Groups".
"""

from __future__ import annotations

import msgspec

from vilab.errors import AdminError
from vilab.network.policies import Overrides
from vilab.network.vlan_tagging import check_number, kind_of


class PortGroup(msgspec.Struct, frozen=True):
    """``vlan``: 0, 1 to 4094, or 4095. ``overrides``: where it differs from its switch's policies."""

    name: str
    vlan: int = 0
    overrides: Overrides = Overrides()

    @property
    def kind(self) -> str:
        """EST, VST or VGT."""
        return kind_of(self.vlan)


def check_group(group: PortGroup) -> None:
    """Raises ``AdminError``. Whether its policies go with the switch's is found out where they are resolved."""
    if not group.name or group.name != group.name.strip() or not group.name.isprintable():
        raise AdminError(f"{group.name!r} is no name for a port group: letters, digits, spaces between them.")
    check_number(group.vlan)
