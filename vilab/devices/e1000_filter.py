"""Which frames the 82545EM lets in.

::

    broadcast   RCTL.BAM ──────────────────────────┐
    multicast   RCTL.MPE ──────────────────────────┤
    unicast     RCTL.UPE ──────────────────────────┼──> VLAN, if RCTL.VFE: its bit in VFTA ──> length ──> in
    any         one of 16 addresses, exact (RA) ───┤
    group       its hash has a bit in MTA ─────────┘

    hash: of the address's last two bytes, 12 bits        last byte  ...............  fifth byte
          RCTL.MO  0: bits 15-4   1: 14-3   2: 13-2   3: 11-0        7 6 5 4 3 2 1 0  7 6 5 4 3 2 1 0

Source: the manual's 13.4.22, 13.5.1 (hash), 13.5.2, 13.5.4. The filter is a function of registers, and keeps nothing.
"""

from __future__ import annotations

from vilab.devices.e1000_registers import (
    MTA,
    RA,
    RAH_SOURCE,
    RAH_VALID,
    RCTL,
    RCTL_BAM,
    RCTL_LPE,
    RCTL_MO_SHIFT,
    RCTL_MPE,
    RCTL_UPE,
    RCTL_VFE,
    VET,
    VFTA,
)

Registers = dict[int, int]
BROADCAST = b"\xff" * 6
LONGEST_BYTES, LONGEST_LONG_BYTES = 1518, 16380
"""Without the FCS: with RCTL.LPE clear and set."""
_HASH_SHIFTS = (4, 3, 2, 0)
_ADDRESSES = 16


def hash_of(address: bytes, offset: int) -> int:
    """12 bits; ``offset``: RCTL.MO."""
    return (address[5] << 8 | address[4]) >> _HASH_SHIFTS[offset] & 0xFFF


def address_at(r: Registers, index: int) -> bytes | None:
    """One of the receive addresses, if it is valid."""
    high = r[RA + 8 * index + 4]
    if not high & RAH_VALID:
        return None
    return (r[RA + 8 * index] | (high & 0xFFFF) << 32).to_bytes(6, "little")


def _in_addresses(r: Registers, frame: bytes) -> bool:
    for index in range(_ADDRESSES):
        address = address_at(r, index)
        if address is not None:
            select = r[RA + 8 * index + 4] >> 16 & 3
            if address == (frame[6:12] if select == RAH_SOURCE else frame[:6] if select == 0 else b""):
                return True
    return False


def _in_hash(r: Registers, destination: bytes) -> bool:
    number = hash_of(destination, r[RCTL] >> RCTL_MO_SHIFT & 3)
    return bool(r[MTA + 4 * (number >> 5)] >> (number & 31) & 1)


def lets_address(r: Registers, frame: bytes) -> bool:
    """``frame``: its two addresses are enough."""
    rctl, group = r[RCTL], frame[0] & 1
    if frame[:6] == BROADCAST:
        open_to_all = RCTL_BAM
    else:
        open_to_all = RCTL_MPE if group else RCTL_UPE
    return bool(rctl & open_to_all) or _in_addresses(r, frame) or (bool(group) and _in_hash(r, frame[:6]))


def lets_vlan(r: Registers, frame: bytes) -> bool:
    if not r[RCTL] & RCTL_VFE or frame[12:14] != r[VET].to_bytes(2, "big"):
        return True
    vlan = int.from_bytes(frame[14:16], "big") & 0xFFF
    return bool(r[VFTA + 4 * (vlan >> 5)] >> (vlan & 31) & 1)


def longest_bytes(r: Registers) -> int:
    return LONGEST_LONG_BYTES if r[RCTL] & RCTL_LPE else LONGEST_BYTES


def more_addresses(r: Registers) -> bool:
    """Are there unicast addresses beside the first, or such as are compared with the source?"""
    for index in range(_ADDRESSES):
        address = address_at(r, index)
        if address is not None and (r[RA + 8 * index + 4] & 3 << 16 or (index and not address[0] & 1)):
            return True
    return False
