"""Fusion-MPT scatter-gather lists: where in memory the data of a request lies.

::

    simple element   flags 31-24 | length 23-0,  address (32 or 64 bits)
    chain element    flags 31-24 | next chain offset 23-16 | length 15-0,  address: there the list goes on

    flags   80 last element of this buffer   40 end of buffer   30 type (1 simple, 3 chain)   08 local address
            04 from host to adapter          02 64-bit address  01 end of list

The request's *chain offset* (in dwords, 0: none) says where in the frame its chain element stands, the *next chain
offset* of a chain element the same for the buffer it leads to::

    frame  |.. head ..| simple | simple | chain | ──> | simple | simple | ... | chain | ──> | simple (end) |
                                        ^ chain offset                        ^ next chain offset

The list comes from the guest, so it is bounded: ``MOST_CHAINS`` buffers, ``MOST_ELEMENTS`` elements, no address
outside memory. A list that chains to itself ends there.
Source: Fusion-MPT Message Passing Interface Specification 1.2, scatter gather elements.
"""

from __future__ import annotations

import struct

from vilab.devices.bus_master import BusMaster, Segment
from vilab.devices.lsi_messages import CHAIN_DEPTH

LAST, END_OF_LIST = 0x80, 0x01
TYPE_MASK, SIMPLE, CHAIN = 0x30, 0x10, 0x30
LOCAL, WIDE = 0x08, 0x02
MOST_CHAINS = CHAIN_DEPTH
MOST_ELEMENTS = 4096
ELEMENT_BYTES, WIDE_BYTES = 8, 12


class SglError(Exception):
    """The list cannot be followed. Never leaves the adapter."""


def _element(buffer: bytes, at: int) -> tuple[int, int, int, int]:
    """(flags, lower 24 bits, address, size of the element)."""
    if at + ELEMENT_BYTES > len(buffer):
        raise SglError("the list leaves its buffer")
    word, address = struct.unpack_from("<II", buffer, at)
    flags, size = word >> 24, ELEMENT_BYTES
    if flags & WIDE:
        size = WIDE_BYTES
        if at + size > len(buffer):
            raise SglError("the list leaves its buffer")
        address |= struct.unpack_from("<I", buffer, at + 8)[0] << 32
    if flags & LOCAL:
        raise SglError("an address inside the adapter")
    return flags, word & 0xFF_FFFF, address, size


def walk(frame: bytes, at: int, chain_offset: int, master: BusMaster) -> list[Segment]:
    """The pieces of memory, in order; those of no length are left out. Raises ``SglError``."""
    segments: list[Segment] = []
    buffer, chain_at, chains = frame, 4 * chain_offset, 0
    for _ in range(MOST_ELEMENTS):
        flags, low, address, size = _element(buffer, at)
        if at == chain_at and chain_at:
            if flags & TYPE_MASK != CHAIN:
                raise SglError("no chain element where there should be one")
            chains += 1
            following = None if chains > MOST_CHAINS else master.read(address, low & 0xFFFF)
            if following is None:
                raise SglError("too many chains, or one that leads out of memory")
            buffer, at, chain_at = following, 0, 4 * (low >> 16)
            continue
        if flags & TYPE_MASK != SIMPLE:
            raise SglError("an element that is not for data")
        if low:
            if not master.reaches(address, low):
                raise SglError("a piece outside memory")
            segments.append((address, low))
        if flags & END_OF_LIST:
            return segments
        at += size
        if flags & LAST and at != chain_at:
            at = chain_at  # elements between the last one and the chain are skipped
            if not chain_at:
                raise SglError("the list has no end")
    raise SglError("too many elements")
