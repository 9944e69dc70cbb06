"""Preconditions of VMotion for networks: the machine's cables find the same ports, and its memory a way to go.

::

    web eth0 ── "Production", VLAN 105 ── vSwitch0 ── vmnic0 ─┐
                                                              ├── one physical network
             ── "Production", VLAN 105 ── vSwitch3 ── vmnic2 ─┘     whatever the switches are called

    vmk0, VMotion, 10.9.0.1/24 ──────────── memory ──────────> vmk1, VMotion, 10.9.0.2/24
"""

from __future__ import annotations

from collections.abc import Iterator

from vilab.migration.descriptions import CardBacking, HostDescription, NetworkSeen, VmDescription


def vmotion_ports(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    here, there = source.vmotion_port, destination.vmotion_port
    for host, other in ((source, destination), (destination, source)):
        if host.vmotion_port is None:
            ports = " or ".join(port.name for port in host.vmkernel)
            done = f"enable {ports} for VMotion" if ports else "add one, and enable it for VMotion"
            yield (
                f"{host.name} has no VMkernel port for VMotion, and without one {vm.name} cannot move between it and "
                f"{other.name}: {done}."
            )
    if here is not None and there is not None and not _one_network(here.ip, there.ip, here.prefix, there.prefix):
        yield (
            f"{here.name} of {source.name} ({_ip(here.ip)}/{here.prefix}) and {there.name} of {destination.name} "
            f"({_ip(there.ip)}/{there.prefix}), the VMkernel ports for VMotion, are in different networks: give one "
            "of them another address."
        )


def port_groups(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    for name in dict.fromkeys(card.network for card in vm.cards if card.connected):
        cards = [card for card in vm.cards if card.connected and card.network == name]
        here, there = source.network(name), destination.network(name)
        used = f"{_cards(cards)} of {vm.name} {'is' if len(cards) == 1 else 'are'} in port group {name!r}"
        if there is None:
            yield (
                f"{used} of {source.name}, and {destination.name} has none of that name: add it there, or disconnect "
                f"{'it' if len(cards) == 1 else 'them'}."
            )
            continue
        if here is not None and here.vlan != there.vlan:
            yield (
                f"{used}, which is in VLAN {here.vlan} on {source.name} and in VLAN {there.vlan} on "
                f"{destination.name}: give it the same one on both."
            )
        if here is not None and here.mtu_bytes > there.mtu_bytes:
            yield (
                f"{used}, whose switch takes frames of {here.mtu_bytes} bytes on {source.name} and of "
                f"{there.mtu_bytes} on {destination.name}: set the same MTU on {there.switch} there."
            )
        if len(cards) > there.free_ports:
            yield (
                f"{used} of {source.name}, and {there.switch} on {destination.name} has {there.free_ports} free ports "
                f"for {len(cards)}: power something off there, or make it larger."
            )
        yield from _forbidden(vm, cards, there, source, destination)


def _forbidden(
    vm: VmDescription, cards: list[CardBacking], there: NetworkSeen, source: HostDescription,
    destination: HostDescription,
) -> Iterator[str]:  # fmt: skip
    security = there.security
    for card in cards:
        relies = []
        if card.promiscuous and not security.promiscuous:
            relies.append("hears every frame, and promiscuous mode is rejected")
        if card.other_address and not (security.mac_changes and security.forged_transmits):
            relies.append("uses another address than its own, and MAC address changes or forged transmits are rejected")
        for what in relies:
            yield (
                f"eth{card.number} of {vm.name} on {source.name} {what} in port group {there.name!r} of "
                f"{destination.name}: set the same security policy there."
            )


def card_backings(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    for name in dict.fromkeys(card.network for card in vm.cards if card.connected):
        cards = _cards([card for card in vm.cards if card.connected and card.network == name])
        for host, other in ((source, destination), (destination, source)):
            seen = host.network(name)
            if seen is not None and not seen.uplinks:
                yield (
                    f"{cards} of {vm.name} in port group {name!r}: {seen.switch} of {host.name} has no physical card, "
                    f"so that nobody in it can be reached from {other.name}. Add one, or disconnect the cable."
                )


def _cards(cards: list[CardBacking]) -> str:
    return " and ".join(f"eth{card.number}" for card in cards)


def _ip(address: bytes) -> str:
    return ".".join(map(str, address))


def _one_network(one: bytes, other: bytes, *prefixes: int) -> bool:
    first, second = int.from_bytes(one, "big"), int.from_bytes(other, "big")
    return all((first ^ second) >> 32 - prefix == 0 for prefix in prefixes)
