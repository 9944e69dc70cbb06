"""What a configuration file says of network cards, typed.

::

    key                          what                                                    where it is missing
    ethernet0.present            there is a card: TRUE, FALSE                            FALSE
    ethernet0.virtualDev         vlance, e1000, vmxnet3 (vmxnet means that one here)     vlance
    ethernet0.networkName        the port group that its cable is in                     VM Network
    ethernet0.startConnected     the cable is plugged in at power-on                     TRUE
    ethernet0.addressType        generated, static; vpx: VirtualCenter has chosen it     generated
    ethernet0.address            static: 00:50:56:00:00:00 to 00:50:56:3f:ff:ff          it has to be there
    ethernet0.generatedAddress   generated, vpx: written at power-on                     made from the machine's name

Four cards, ethernet0 to ethernet3. Sources: files that ESX has written, in public repositories; libvirt's table of
keys; ESX Server 3 Configuration Guide, "Setting up MAC addresses". MODEL: the first vmxnet, which stock kernels do not
know any more, is the third one here.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from vilab.errors import AdminError
from vilab.host.vmx import Vmx, truth, unfit
from vilab.network.ethernet import address_of, text_of
from vilab.vmm.network import CARDS, MOST_CARDS, generated_address

AddressType = Literal["generated", "static", "vpx"]
ADDRESS_TYPES: tuple[AddressType, ...] = ("generated", "static", "vpx")
DEFAULT_NETWORK = "VM Network"
STATIC_PREFIX, MOST_STATIC = bytes.fromhex("005056"), 0x3F

_NODE = re.compile(r"ethernet(\d+)\.\w+", re.IGNORECASE)


class CardSettings(msgspec.Struct, frozen=True):
    """One card. ``address``: six bytes."""

    number: int
    kind: str
    address: bytes
    network: str = DEFAULT_NETWORK
    connected: bool = True
    address_type: AddressType = "generated"


def cards_of(vmx: Vmx, name: str) -> tuple[CardSettings, ...]:
    """The cards that are present. ``name``: the machine's, for addresses that are made here. ``AdminError``, with the
    line, for what cannot be."""
    for key in vmx.keys():  # noqa: SIM118
        found = _NODE.fullmatch(key)
        if found is not None and int(found[1]) >= MOST_CARDS:
            raise AdminError(
                f"{vmx.where(key)}: there is no place for {key.partition('.')[0]}: cards are ethernet0 to "
                f"ethernet{MOST_CARDS - 1}."
            )
    return tuple(_card(vmx, n, name) for n in range(MOST_CARDS) if truth(vmx, f"ethernet{n}.present"))


def write_addresses(vmx: Vmx, cards: tuple[CardSettings, ...]) -> bool:
    """Generated addresses into the file, so that a machine keeps its own. True: something was new."""
    new = False
    for card in cards:
        key = f"ethernet{card.number}.generatedAddress"
        if card.address_type != "static" and vmx.get(key) != text_of(card.address):
            vmx.set(f"ethernet{card.number}.addressType", card.address_type)
            vmx.set(key, text_of(card.address))
            new = True
    return new


def add_card(vmx: Vmx, card: CardSettings) -> None:
    """Lines for one more card."""
    node = f"ethernet{card.number}"
    vmx.set(f"{node}.present", "TRUE")
    vmx.set(f"{node}.virtualDev", card.kind)
    vmx.set(f"{node}.networkName", card.network)
    vmx.set(f"{node}.startConnected", "TRUE" if card.connected else "FALSE")
    vmx.set(f"{node}.addressType", card.address_type)
    vmx.set(f"{node}.address" if card.address_type == "static" else f"{node}.generatedAddress", text_of(card.address))


def _card(vmx: Vmx, number: int, name: str) -> CardSettings:
    node = f"ethernet{number}"
    kind = (vmx.get(f"{node}.virtualDev") or CARDS[0]).lower()
    kind = "vmxnet3" if kind == "vmxnet" else kind
    if kind not in CARDS:
        raise unfit(vmx, f"{node}.virtualDev", ", ".join(CARDS))
    address_type = (vmx.get(f"{node}.addressType") or "generated").lower()
    if address_type not in ADDRESS_TYPES:
        raise unfit(vmx, f"{node}.addressType", " or ".join(ADDRESS_TYPES))
    connected = vmx.get(f"{node}.startConnected") is None or truth(vmx, f"{node}.startConnected")
    address = _address(vmx, node, address_type) or generated_address(name, number)
    return CardSettings(
        number, kind, address, vmx.get(f"{node}.networkName") or DEFAULT_NETWORK, connected, address_type
    )


def _address(vmx: Vmx, node: str, address_type: str) -> bytes | None:
    key = f"{node}.address" if address_type == "static" else f"{node}.generatedAddress"
    text = vmx.get(key)
    if text is None:
        if address_type == "static":
            raise AdminError(f"{vmx.where(f'{node}.addressType')}: {node} is static, but {key} is not there.")
        return None
    try:
        address = address_of(text)
    except AdminError as error:
        raise AdminError(f"{vmx.where(key)}: {error}") from None
    if address_type == "static" and (address[:3] != STATIC_PREFIX or address[3] > MOST_STATIC):
        raise unfit(vmx, key, "between 00:50:56:00:00:00 and 00:50:56:3f:ff:ff, as all that a person chooses")
    if address[0] & 1:
        raise unfit(vmx, key, "the address of one card: its first byte is even")
    return address
