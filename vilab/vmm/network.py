"""Network cards for a virtual machine: a kind, an address, and the port that the cable is in.

::

    AttachedCard("e1000", port, 00:50:56:00:00:01)  ──>  PCI slot 24   the first one
    AttachedCard("vlance", port, 00:50:56:00:00:02) ──>  PCI slot 25
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from vilab.errors import AdminError
from vilab.protocols import NetworkInterface, NetworkPort

CARDS = ("vlance", "e1000", "vmxnet3")
"""As configuration files call them: AMD PCnet32, Intel 82545EM, VMware's own."""
MOST_CARDS = 4
GENERATED_PREFIX = bytes.fromhex("000c29")
"""VMware's, for addresses that a host makes itself; those that a person chooses begin with 00:50:56."""


class Unplugged:
    """The port of a card whose cable is in none."""

    link_up = False

    def plug(self, interface: NetworkInterface) -> None:
        pass

    def transmit(self, frame: bytes) -> None:
        pass

    def listen(self, address: bytes, promiscuous: bool) -> None:
        pass

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        """What was on its way to the card when the cable was pulled is lost."""


class CardRecord(msgspec.Struct, frozen=True):
    """What a suspended machine says of one of its cards. Where its cable is, is not its own affair."""

    kind: str
    address: bytes


class AttachedCard(NamedTuple):
    """One card. ``rom``: an expansion ROM, which a BIOS starts from the network with."""

    kind: str
    port: NetworkPort
    address: bytes
    rom: bytes = b""

    @property
    def record(self) -> CardRecord:
        return CardRecord(self.kind, self.address)


def generated_address(name: str, number: int = 0) -> bytes:
    """An address that a machine keeps as long as its name stays what it is."""
    return GENERATED_PREFIX + hashlib.sha256(f"{name}/{number}".encode()).digest()[:3]


def check_cards(cards: tuple[AttachedCard, ...]) -> None:
    """Raises ``AdminError``."""
    if len(cards) > MOST_CARDS:
        raise AdminError(f"{len(cards)} network cards are more than the {MOST_CARDS} that a machine has slots for.")
    for card in cards:
        if card.kind not in CARDS:
            raise AdminError(f"There is no network card {card.kind!r}; there are {', '.join(CARDS)}.")
        if card.rom and (card.rom[:2] != b"\x55\xaa" or len(card.rom) > 1 << 20):
            raise AdminError("An expansion ROM begins with the bytes 55 aa and has 1 MB at most; this one does not.")
        if len(card.address) != 6 or card.address[0] & 1:
            raise AdminError(
                f"{card.address.hex(':')} is no address for a network card: six bytes, the first one even."
            )
