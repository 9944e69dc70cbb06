"""PCnet: which frames are for this card, and the frame check sequence that decides it for groups.

::

    destination ──┬── PROM ────────────────────────────────> every frame
                  ├── ff:ff:ff:ff:ff:ff, not DRCVBC ───────> BAM
                  ├── first bit 0: = PADR, not DRCVPA ─────> PAM
                  └── first bit 1: ── CRC-32 ── its 6 upper bits ── that bit of LADRF is 1 ──> LAFM

    octet 0                    6        12     14              60 or more
    | destination              | source | type | data | padding | FCS |
                                        └ 802.3: a length below 46 says where padding begins (ASTRP_RCV takes it off)

Sources: Am79C970A data sheet, "Address Matching", "Automatic Pad Stripping", CSR8 to CSR15; IEEE 802.3, 3.2.9 (FCS).
"""

from __future__ import annotations

import zlib

from vilab.devices.pcnet_rings import BAM, LAFM, PAM
from vilab.network.ethernet import BROADCAST, HEADER_BYTES, MIN_FRAME_BYTES

FCS_BYTES = 4
FEWEST_DATA_BYTES = MIN_FRAME_BYTES - HEADER_BYTES


def fcs(frame: bytes) -> bytes:
    """The four octets behind a frame, in the order of the wire."""
    return zlib.crc32(frame).to_bytes(FCS_BYTES, "little")


def hash_of(address: bytes) -> int:
    """Which bit of LADRF stands for a group: the CRC register before the complement that makes an FCS of it."""
    return (zlib.crc32(address) ^ 0xFFFF_FFFF) >> 26


def match(destination: bytes, address: bytes, logical_filter: int, *, every: bool, no_broadcast: bool,
          no_physical: bool) -> int | None:  # fmt: skip
    """The descriptor's bit for the filter that lets the frame in, 0 if only ``every`` does; ``None``: not for us."""
    if destination == BROADCAST and not no_broadcast:
        return BAM
    if destination[0] & 1:
        if logical_filter >> hash_of(destination) & 1:
            return LAFM
    elif destination == address and not no_physical:
        return PAM
    return 0 if every else None


def stripped(wire: bytes) -> bytes:
    """A frame with its FCS, without padding and FCS if its length field says that it was padded."""
    length = int.from_bytes(wire[12:14], "big")
    return wire[: HEADER_BYTES + length] if length < FEWEST_DATA_BYTES else wire
