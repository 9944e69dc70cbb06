"""A network for one machine that runs by itself: a virtual switch, and somebody on it who gives addresses and answers.

::

    machine ── cable ── port ─┐
                              vSwitch0, port group "lab"
    10.0.0.1 ─────────────────┘   ARP, ping, UDP echo (port 7), DHCP: 10.0.0.100 to 10.0.0.199

Everything is on the machine's own clock.
"""

from __future__ import annotations

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.cable import VirtualCable
from vilab.network.dhcp import DhcpServer, DhcpSettings
from vilab.network.peer import Peer
from vilab.network.teams import Teams
from vilab.network.virtual_switch import VirtualSwitch

GROUP = "lab"
GATEWAY, GATEWAY_ADDRESS = bytes((10, 0, 0, 1)), bytes.fromhex("005056c00001")
FIRST, LAST = bytes((10, 0, 0, 100)), bytes((10, 0, 0, 199))


class SmallNetwork:
    """``switch``, ``peer`` (10.0.0.1) and ``dhcp`` are there to be looked at."""

    def __init__(self, clock: VirtualClock, log: EventLog | None = None, vlan: int = 0) -> None:
        log = log if log is not None else EventLog()
        teams = Teams("lab/vSwitch0", clock, log)
        self.clock, self.switch = clock, VirtualSwitch("vSwitch0", clock, log, teams)
        teams.switch = self.switch
        self.switch.add_port_group(GROUP, vlan)
        port = self.switch.connect(GROUP, "gateway", address=GATEWAY_ADDRESS)
        self.peer = Peer(VirtualCable(port, clock, clock), GATEWAY_ADDRESS, GATEWAY)
        self.dhcp = DhcpServer(self.peer, clock, DhcpSettings(first=FIRST, last=LAST, router=GATEWAY))

    def connect(self, name: str, address: bytes) -> VirtualCable:
        """A cable for a card. Raises ``AdminError``: no port is free, or the address is none."""
        return VirtualCable(self.switch.connect(GROUP, name, address=address), self.clock, self.clock)
