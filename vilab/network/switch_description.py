"""A virtual switch as text: what ``esxcfg-vswitch -l`` shows, and the counters below it.

::

    Switch Name    Num Ports   Used Ports  Configured Ports  MTU     Uplinks
    vSwitch0       64          3           64                1500    vmnic0

      PortGroup Name      Internal ID  VLAN ID  Used Ports  Uplinks
      Production          portgroup0   105      2           vmnic0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.network.ethernet import text_of
from vilab.network.switch_port import SwitchPort

if TYPE_CHECKING:
    from vilab.network.virtual_switch import VirtualSwitch

SWITCH = "{:<14} {:<11} {:<11} {:<17} {:<7} {}"
GROUP = "  {:<19} {:<12} {:<8} {:<11} {}"


def described(switch: VirtualSwitch) -> str:
    uplinks = ",".join(switch.nics)
    shown = switch.num_ports + len(switch.uplink_numbers)
    lines = [
        SWITCH.format("Switch Name", "Num Ports", "Used Ports", "Configured Ports", "MTU", "Uplinks"),
        SWITCH.format(switch.name, shown, len(switch.ports), shown, switch.mtu_bytes, uplinks),
        "",
        GROUP.format("PortGroup Name", "Internal ID", "VLAN ID", "Used Ports", "Uplinks"),
    ]
    for number, group in enumerate(switch.groups.values()):
        teaming = switch.policies_of(group.name).teaming
        used = [name for name in teaming.active + teaming.standby if name in switch.nics]
        row = (group.name, f"portgroup{number}", group.vlan, len(switch.ports_of(group.name)), ",".join(used))
        lines.append(GROUP.format(*row))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def ports_described(switch: VirtualSwitch) -> str:
    """The ports in use, a line each: who is connected, under which address, what has gone over it."""
    row = "{:<5} {:<20} {:<20} {:<18} {:>10} {:>10}  {}"
    lines = [row.format("Port", "Client", "PortGroup", "Address", "Sent", "Received", "Dropped")]
    for port in switch.ports.values():
        s, counts = port.state, port.statistics
        dropped = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.dropped.items()))
        group = "(uplink)" if port.is_uplink else s.group
        lines.append(
            row.format(s.number, s.client, group, _address(port), counts.sent.frames, counts.received.frames, dropped)
        )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _address(port: SwitchPort) -> str:
    if port.is_uplink:
        return ""
    return text_of(port.state.effective) + ("*" if port.sees_all else "!" if port.blocked else "")
