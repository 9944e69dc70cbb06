"""The state of a virtual switch as one record: configuration, ports, counters, what shapers and teams hold."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vilab.errors import AdminError
from vilab.network.policies import Policies
from vilab.network.port_group import PortGroup
from vilab.network.statistics import VlanStatistics
from vilab.network.switch_port import PortState
from vilab.network.uplinks import Nic


class SwitchState(msgspec.Struct):
    """``groups`` and ``teams`` by name, ``vlans`` by VLAN id."""

    name: str
    num_ports: int
    mtu_bytes: int
    policies: Policies
    groups: dict[str, PortGroup]
    ports: list[PortState]
    vlans: dict[int, VlanStatistics]
    teams: dict[str, bytes] = {}


def decoded(state: bytes) -> SwitchState:
    """Raises ``AdminError`` if it is no switch's."""
    try:
        return msgspec.msgpack.decode(state, type=SwitchState)
    except msgspec.DecodeError as error:
        raise AdminError(f"This is not the state of a virtual switch: {error}.") from error


def check_cards(state: SwitchState, cards: Mapping[str, Nic]) -> None:
    """Are all uplinks there? Raises ``AdminError``."""
    for record in state.ports:
        if record.kind == "uplink" and record.client not in cards:
            raise AdminError(f"{state.name} had the uplink {record.client}, and there is no such physical card here.")


def same_connection(one: PortState, other: PortState) -> bool:
    """The card that is plugged in stays."""
    return (one.number, one.kind, one.client, one.group) == (other.number, other.kind, other.client, other.group)
