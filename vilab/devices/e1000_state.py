"""Everything that an 82545EM remembers: the record that travels with a machine.

::

    registers ── what the driver has programmed            arrived ── frames let in, not in memory yet (packet buffer)
    causes ──┐                                             packet ─── what transmit descriptors have gathered so far
    mask ────┴─> interrupt, no sooner than ``quiet_ns``    context ── for checksums, for segmentation
    ``..._ns``   when something is due, in virtual time; 0: nothing is
"""

from __future__ import annotations

import msgspec

from vilab.devices.e1000_eeprom import EepromState
from vilab.devices.e1000_offload import Context
from vilab.devices.e1000_phy import PhyState
from vilab.devices.e1000_registers import after_reset
from vilab.devices.e1000_statistics import Counters
from vilab.devices.network_adapter import NetworkAdapterState
from vilab.devices.network_events import Refusal


class Packet(msgspec.Struct):
    """What has been gathered of a packet to be sent. ``gpa``: its first descriptor. ``checksum``: where a legacy
    descriptor wants one, and from where on. ``refusal``: it will not be sent, the rest of it is passed over."""

    parts: list[bytes] = msgspec.field(default_factory=list)
    size_bytes: int = 0
    gpa: int = 0
    descriptors: int = 0
    segment: bool = False
    options: int = 0
    checksum: tuple[int, int] | None = None
    vlan: int | None = None
    refusal: Refusal | None = None


class E1000State(NetworkAdapterState):
    """``causes``: ICR. ``mask``: IMS. ``link``: STATUS.LU. ``arrived_bytes``: what the packet buffer has in it.

    ``send_ns``, ``store_ns``: when descriptors are looked at next, of either ring. ``wire_ns``: when the wire is free.
    ``quiet_ns``: no interrupt before that (ITR). The last four are delayed interrupts. ``refused``: packets of the
    driver's that were not sent, and rings that lead nowhere; no register tells.
    """

    registers: dict[int, int] = msgspec.field(default_factory=lambda: after_reset(bytes(6)))
    causes: int = 0
    mask: int = 0
    link: bool = False
    io_address: int = 0
    phy: PhyState = msgspec.field(default_factory=PhyState)
    eeprom: EepromState = msgspec.field(default_factory=EepromState)
    statistics: Counters = msgspec.field(default_factory=dict)
    arrived: list[bytes] = msgspec.field(default_factory=list)
    arrived_bytes: int = 0
    packet: Packet = msgspec.field(default_factory=Packet)
    context: Context = msgspec.field(default_factory=Context)
    segmentation: Context = msgspec.field(default_factory=Context)
    refused: int = 0
    send_ns: int = 0
    store_ns: int = 0
    wire_ns: int = 0
    quiet_ns: int = 0
    received_ns: int = 0
    received_latest_ns: int = 0
    sent_ns: int = 0
    sent_latest_ns: int = 0
