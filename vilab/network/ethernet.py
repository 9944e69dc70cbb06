"""Ethernet frames: addresses, types, the 802.1Q tag.

::

    octet 0       6        12     14                                    untagged
    | destination | source | type | data, 46 to 1500 bytes |
    octet 0       6        12     14    16     18                       tagged: 4 octets more
    | destination | source | 8100 | TCI | type | data |
                                    │
                     15  13  12  11         0
                    | PCP |DEI| VLAN id      |    0: priority only, 4095: reserved

    destination, first octet:  bit 0  group (multicast, broadcast)     bit 1  locally administered

A frame is ``bytes`` without preamble and FCS, as a capture has it. Sources: IEEE 802.3-2005, 3.1; 802.1Q-2005, 9.
"""

from __future__ import annotations

import re

from vilab.errors import AdminError

ADDRESS_BYTES, HEADER_BYTES, TAG_BYTES = 6, 14, 4
MIN_FRAME_BYTES = 60
"""Without the FCS; shorter ones are padded by whoever puts them on a wire."""
MTU_BYTES = 1500
MAX_FRAME_BYTES = HEADER_BYTES + MTU_BYTES

BROADCAST = b"\xff" * ADDRESS_BYTES
NO_ADDRESS = bytes(ADDRESS_BYTES)

IPV4, ARP, RARP, VLAN = 0x0800, 0x0806, 0x8035, 0x8100
TAG_TYPE = VLAN.to_bytes(2, "big")
MAX_VLAN = 4094

_ADDRESS = re.compile(r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}", re.IGNORECASE)


def address_of(text: str) -> bytes:
    """``00:50:56:00:00:01`` or with hyphens. Raises ``AdminError``."""
    if not _ADDRESS.fullmatch(text):
        raise AdminError(f"{text!r} is no MAC address: six bytes in hexadecimal are, as in 00:50:56:00:00:01.")
    return bytes.fromhex(text.replace("-", "").replace(":", ""))


def text_of(address: bytes) -> str:
    """``00:50:56:00:00:01``"""
    return address.hex(":")


def is_group(address: bytes) -> bool:
    """Multicast or broadcast."""
    return bool(address[0] & 1)


def vlan_of(frame: bytes) -> int | None:
    """The VLAN id of the tag; ``None`` without a tag; 0 for one that has a priority only."""
    if frame[12:14] != TAG_TYPE or len(frame) < HEADER_BYTES + TAG_BYTES:
        return None
    return (frame[14] << 8 | frame[15]) & 0xFFF


def priority_of(frame: bytes) -> int:
    """PCP of the tag, 0 to 7; 0 without a tag."""
    return frame[14] >> 5 if frame[12:14] == TAG_TYPE and len(frame) >= HEADER_BYTES + TAG_BYTES else 0


def tagged(frame: bytes, vlan: int, priority: int = 0) -> bytes:
    """The frame with one more tag, in front of those that it may have."""
    return frame[:12] + TAG_TYPE + (priority << 13 | vlan).to_bytes(2, "big") + frame[12:]


def untagged(frame: bytes) -> bytes:
    """The frame without its outer tag; it has to have one."""
    return frame[:12] + frame[16:]


def type_of(frame: bytes) -> int:
    """The type field behind the tags, if any."""
    at = 12
    while frame[at : at + 2] == TAG_TYPE:
        at += TAG_BYTES
    return int.from_bytes(frame[at : at + 2], "big")


def frame_of(destination: bytes, source: bytes, kind: int, data: bytes) -> bytes:
    """A frame, padded to the shortest that may be on a wire."""
    return (destination + source + kind.to_bytes(2, "big") + data).ljust(MIN_FRAME_BYTES, b"\0")
