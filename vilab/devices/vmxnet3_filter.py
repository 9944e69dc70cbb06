"""Which frames a vmxnet3 takes: the mode, the table of multicast addresses, the table of VLANs.

::

    frame ──> promiscuous? ──yes──────────────────────────────────────────────────> taken
                   │ no
                   ├── tagged, and the VLAN's bit is 0 ──────────────────────────> not for this card
                   └── destination:  broadcast        mode bit 2
                                     multicast        mode bit 3, or bit 1 and the address is in the table
                                     unicast          mode bit 0, and it is the card's own address

Source: Linux, drivers/net/vmxnet3: vmxnet3_defs.h, and what the driver says in each mode.
"""

from __future__ import annotations

import msgspec

from vilab.devices.bus_master import BusMaster
from vilab.devices.vmxnet3_layout import (
    ALL_MULTICAST,
    BROADCAST,
    MULTICAST,
    PROMISCUOUS,
    UNICAST,
    VLANS_AT,
    VLANS_BYTES,
    parse_filter,
)
from vilab.network import ethernet
from vilab.network.ethernet import ADDRESS_BYTES


class FilterState(msgspec.Struct):
    """``multicast``: addresses one after the other; ``vlans``: 4096 bits."""

    mode: int = 0
    multicast: bytes = b""
    vlans: bytes = bytes(VLANS_BYTES)


class Filter:
    """The tables, and what goes through them."""

    def __init__(self, state: FilterState) -> None:
        self.state = state
        self.load(state)

    def load(self, state: FilterState) -> None:
        self.state = state
        self._groups = _addresses(state.multicast)

    @property
    def promiscuous(self) -> bool:
        return bool(self.state.mode & PROMISCUOUS)

    def take_mode(self, shared: bytes) -> None:
        """From DriverShared."""
        self.state.mode = parse_filter(shared)[0]

    def take_vlans(self, shared: bytes) -> None:
        self.state.vlans = shared[VLANS_AT : VLANS_AT + VLANS_BYTES]

    def take_multicast(self, shared: bytes, master: BusMaster) -> bool:
        """False: the table is out of reach, and the one before stays."""
        _, size_bytes, gpa = parse_filter(shared)
        table = master.read(gpa, size_bytes)
        if table is None:
            return False
        self.state.multicast = table[: size_bytes // ADDRESS_BYTES * ADDRESS_BYTES]
        self._groups = _addresses(self.state.multicast)
        return True

    def wants_group(self, destination: bytes) -> bool:
        """A multicast address that is not the broadcast one."""
        mode = self.state.mode
        return bool(mode & (ALL_MULTICAST | PROMISCUOUS)) or (bool(mode & MULTICAST) and destination in self._groups)

    def takes(self, frame: bytes, address: bytes) -> bool:
        """``address``: the card's own."""
        if self.promiscuous:
            return True
        vlan = ethernet.vlan_of(frame)
        if vlan is not None and not self.state.vlans[vlan >> 3] >> (vlan & 7) & 1:
            return False
        destination = frame[:ADDRESS_BYTES]
        if destination == ethernet.BROADCAST:
            return bool(self.state.mode & BROADCAST)
        if ethernet.is_group(destination):
            return self.wants_group(destination)
        return bool(self.state.mode & UNICAST) and destination == address


def _addresses(table: bytes) -> frozenset[bytes]:
    return frozenset(table[at : at + ADDRESS_BYTES] for at in range(0, len(table), ADDRESS_BYTES))
