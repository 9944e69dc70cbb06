"""Network policies: what a virtual switch says for all its port groups, and what a port group says differently.

::

    field                     default    what it decides
    security
      promiscuous             reject     a card that asks for every frame of its VLAN gets them
      mac_changes             accept     a card whose driver sets another address than it was made with still receives
      forged_transmits        accept     a card may send with a source address that is not the one it listens to
    shaping                              outbound: what a machine sends, each port for itself
      enabled                 no
      average_kbps            102400     kbit/s over time; 1 kbit = 1000 bits
      peak_kbps               102400     kbit/s at most, while there is burst bonus left; never below the average
      burst_kb                102400     how much bonus may be saved up; 1 KB = 1024 bytes
    teaming
      balancing               port_id    which uplink: "port_id", "mac_hash", "ip_hash", "explicit" (failover order)
      active, standby         none       names of uplinks, in order; one that is in neither is unused
      detection               link       an uplink has failed: "link" (no link), "beacon" (or no beacons get through)
      notify_switches         yes        RARP frames tell the physical switches when a machine's traffic moves
      failback                yes        an active uplink that is well again is used again at once

    the switch's    promiscuous=no   mac_changes=yes   forged_transmits=yes
    port group's        None             no                None                 None: what the switch says
    effective           no               no                yes

Sources: ESX Server 3 Configuration Guide, Advanced Networking ("Virtual Switch Policies"); VI SDK 2.5,
``HostNetworkPolicy``, whose fields are optional one by one at a port group. The shaping figures are those that the VI
Client proposes.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from vilab.errors import AdminError

Balancing = Literal["port_id", "mac_hash", "ip_hash", "explicit"]
Detection = Literal["link", "beacon"]


class SecurityPolicy(msgspec.Struct, frozen=True, kw_only=True):
    promiscuous: bool = False
    mac_changes: bool = True
    forged_transmits: bool = True


class ShapingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = False
    average_kbps: int = 102_400
    peak_kbps: int = 102_400
    burst_kb: int = 102_400


class TeamingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    balancing: Balancing = "port_id"
    active: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    detection: Detection = "link"
    notify_switches: bool = True
    failback: bool = True


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """All that holds for a switch, or in the end for a port group."""

    security: SecurityPolicy = SecurityPolicy()
    shaping: ShapingPolicy = ShapingPolicy()
    teaming: TeamingPolicy = TeamingPolicy()


# --- what a port group says differently: a field that is None is the switch's -----------------------------------------


class SecurityOverride(msgspec.Struct, frozen=True, kw_only=True):
    promiscuous: bool | None = None
    mac_changes: bool | None = None
    forged_transmits: bool | None = None


class ShapingOverride(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool | None = None
    average_kbps: int | None = None
    peak_kbps: int | None = None
    burst_kb: int | None = None


class TeamingOverride(msgspec.Struct, frozen=True, kw_only=True):
    """``active`` and ``standby`` are one order: a port group overrides both or neither."""

    balancing: Balancing | None = None
    active: tuple[str, ...] | None = None
    standby: tuple[str, ...] | None = None
    detection: Detection | None = None
    notify_switches: bool | None = None
    failback: bool | None = None


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    security: SecurityOverride = SecurityOverride()
    shaping: ShapingOverride = ShapingOverride()
    teaming: TeamingOverride = TeamingOverride()


P = TypeVar("P", SecurityPolicy, ShapingPolicy, TeamingPolicy)


def _merged(policy: P, override: msgspec.Struct) -> P:
    said = {name: value for name, value in msgspec.structs.asdict(override).items() if value is not None}
    return msgspec.structs.replace(policy, **said)


def resolved(switch: Policies, group: Overrides) -> Policies:
    """What holds for a port group. Raises ``AdminError`` if that is nothing a switch can do."""
    policies = Policies(
        security=_merged(switch.security, group.security),
        shaping=_merged(switch.shaping, group.shaping),
        teaming=_merged(switch.teaming, group.teaming),
    )
    check(policies)
    return policies


# --- what can be --------------------------------------------------------------------------------------------------


def check(policies: Policies) -> None:
    """Raises ``AdminError``."""
    check_shaping(policies.shaping)
    check_teaming(policies.teaming)


def check_shaping(shaping: ShapingPolicy) -> None:
    for name in ("average_kbps", "peak_kbps", "burst_kb"):
        if getattr(shaping, name) < 1:
            raise AdminError(
                f"A traffic shaper with {name} = {getattr(shaping, name)} lets nothing through: at least 1."
            )
    if shaping.peak_kbps < shaping.average_kbps:
        raise AdminError(
            f"The peak bandwidth ({shaping.peak_kbps} kbit/s) is below the average ({shaping.average_kbps} kbit/s)."
        )


def check_teaming(teaming: TeamingPolicy) -> None:
    order = teaming.active + teaming.standby
    for name in order:
        if order.count(name) > 1:
            raise AdminError(f"The uplink {name} is more than once in the failover order: active or standby, once.")
