"""Network cards for a virtual machine: a kind, an address, and the port that the cable is in.

::

    AttachedCard("e1000", port, 00:50:56:00:00:01)  ──>  PCI slot 24   the first one
    AttachedCard("vlance", port, 00:50:56:00:00:02) ──>  PCI slot 25
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from vilab.errors import AdminError
from vilab.protocols import NetworkPort

CARDS = ("vlance", "e1000", "vmxnet3")
"""As configuration files call them: AMD PCnet32, Intel 82545EM, VMware's own."""
MOST_CARDS = 4
GENERATED_PREFIX = bytes.fromhex("000c29")
"""VMware's, for addresses that a host makes itself; those that a person chooses begin with 00:50:56."""


class AttachedCard(NamedTuple):
    """One card."""

    kind: str
    port: NetworkPort
    address: bytes


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
        if len(card.address) != 6 or card.address[0] & 1:
            raise AdminError(
                f"{card.address.hex(':')} is no address for a network card: six bytes, the first one even."
            )
