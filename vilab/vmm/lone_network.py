"""What the network cards of a machine that runs by itself are plugged into: a small network, and a capture of it.

::

    --nic e1000 --nic vlance --capture lab.pcap

    e1000   ── port 10 ─┐
    vlance  ── port 11 ─┴ vSwitch0 ── 10.0.0.1: addresses (DHCP), ping, UDP echo
                 └── lab.pcap: every frame at the first card's port, for Wireshark or tshark
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.pcap import PcapWriter
from vilab.network.small_network import SmallNetwork
from vilab.protocols import NetworkPort
from vilab.vmm.network import AttachedCard, Unplugged, check_cards, generated_address


class LoneNetwork:
    """``clock``: the machine's, which it has to be made with.

    Parameters
    ----------
    kinds, addresses : of the cards; without addresses, ones that belong to the name. rom : for all of them.
    capture : a file for the frames of the first card.

    Raises
    ------
    AdminError : a card that there is not, or a file that cannot be read or written; nothing was begun.
    """

    def __init__(
        self, name: str, kinds: Sequence[str], addresses: Sequence[bytes] = (), capture: Path | None = None,
        rom: Path | None = None, log: EventLog | None = None,
    ) -> None:  # fmt: skip
        if not kinds and (capture is not None or rom is not None):
            raise AdminError("Without a network card there is nothing to capture and no place for a ROM: add --nic.")
        self.clock = VirtualClock()
        self._file: BinaryIO | None = None
        self.cards: list[AttachedCard] = []
        if not kinds:
            return
        content = b"" if rom is None else _read(rom)
        chosen = list(addresses) or [generated_address(name, number) for number in range(len(kinds))]
        network = SmallNetwork(self.clock, log)
        check_cards(tuple(AttachedCard(k, Unplugged(), a, content) for k, a in zip(kinds, chosen, strict=True)))
        for number, (kind, address) in enumerate(zip(kinds, chosen, strict=True)):
            cable = network.connect(f"eth{number}", address)
            self.cards.append(AttachedCard(kind, cable, address, content))
        if capture is not None:
            self._file = _created(capture)
            first = min(number for number, port in network.switch.ports.items() if port.state.client == "eth0")
            network.switch.ports[first].tap(PcapWriter(self._file))

    @property
    def ports(self) -> list[NetworkPort]:
        return [card.port for card in self.cards]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AdminError(f"{path} cannot be read: {error.strerror or error}.") from None


def _created(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise AdminError(f"{path} cannot be written: {error.strerror or error}.") from None
