"""The receiver of the 82545EM: frames wait in the packet buffer, and go from there into the driver's buffers.

::

    port ──> filter ──> packet buffer, PBA KB ──look──> buffer, buffer, ... of RCTL.BSIZE bytes each
               │              │ full: MPC, RXO            │
               └─ refused     └─ no descriptor: waits     └─> descriptors: length, checksums, VLAN, "done"; one write

The ring is read once in a look, and written once. A frame whose buffers lead nowhere is lost: its first descriptor
comes back with an error and without data. A descriptor whose address is 0 is passed over, as the manual has it.

Source: the manual's 3.2, 13.4.22, 13.4.47.
MODEL: frames below 60 bytes are padded, as whoever puts them on a wire would have done. PIF is never set. Pause frames
and MAC control frames are filtered as any others are.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import msgspec

from vilab.devices import e1000_filter, e1000_offload, e1000_rings, e1000_statistics
from vilab.devices.bus_master import BusMaster
from vilab.devices.e1000_registers import (
    CTRL,
    CTRL_VME,
    PBA,
    RCTL,
    RCTL_BSEX,
    RCTL_EN,
    RCTL_RDMTS_SHIFT,
    RCTL_SECRC,
    RCTL_SIZE_SHIFT,
    RDBAL,
    RDH,
    RSRPD,
    RXCSUM,
    RXCSUM_IP,
    RXCSUM_TCP,
    RXDMT0,
    RXO,
    SRPD,
    VET,
)
from vilab.devices.e1000_rings import DESCRIPTOR_BYTES, RX_DD, RX_EOP, RX_IPCS, RX_IXSM, RX_TCPCS, RX_VP, Ring
from vilab.devices.e1000_state import E1000State
from vilab.devices.network_events import Refusal

MOST_DESCRIPTORS, MOST_FRAMES = 256, 64
"""In one look."""
SHORTEST_BYTES = 60
BUFFER_OVERHEAD_BYTES = 16
"""MODEL: what a frame takes of the packet buffer beside its bytes."""
Pieces = list[tuple[int, int, bytes]]
"""(number of the descriptor from the head on, address, bytes)"""


class Stored(NamedTuple):
    """A frame in memory. ``gpa``: its first descriptor."""

    gpa: int
    descriptors: int
    frame: bytes


class Batch(msgspec.Struct):
    """What a look has done. ``causes``: interrupts beside the usual one. ``more``: for the next look."""

    stored: list[Stored] = msgspec.field(default_factory=list)
    refused: list[tuple[Refusal, int]] = msgspec.field(default_factory=list)
    causes: int = 0
    more: bool = False


def buffer_bytes(rctl: int) -> int:
    """2048, 1024, 512 or 256; with BSEX sixteen times that (but for 32 KB, which is reserved: 2048)."""
    size = 2048 >> (rctl >> RCTL_SIZE_SHIFT & 3)
    return size * 16 if rctl & RCTL_BSEX and size < 2048 else size


def let_in(s: E1000State, frame: bytes) -> Refusal | None:
    """A frame has come. ``None``: it is in the packet buffer."""
    r = s.registers
    if not r[RCTL] & RCTL_EN:
        return "off"
    frame = frame.ljust(SHORTEST_BYTES, b"\0")
    e1000_statistics.came(s.statistics, frame)
    if not e1000_filter.lets_address(r, frame) or not e1000_filter.lets_vlan(r, frame):
        return "filter"
    if len(frame) > e1000_filter.longest_bytes(r):
        e1000_statistics.count(s.statistics, e1000_statistics.ROC)
        return "too_long"
    size = len(frame) + BUFFER_OVERHEAD_BYTES
    if s.arrived_bytes + size > (r[PBA] & 0xFFFF) << 10:
        e1000_statistics.count(s.statistics, e1000_statistics.MPC)
        s.causes |= RXO
        return "no_descriptor"
    e1000_statistics.was_good(s.statistics, frame)
    if not Ring.of(r, RDBAL).waiting:
        e1000_statistics.count(s.statistics, e1000_statistics.RNBC)
    s.arrived.append(frame)
    s.arrived_bytes += size
    return None


def forget(s: E1000State) -> list[bytes]:
    """Empty the packet buffer; what was in it."""
    frames = list(s.arrived)
    s.arrived.clear()
    s.arrived_bytes = 0
    return frames


def store(s: E1000State, master: BusMaster) -> Batch:
    """One look at the ring."""
    batch, r = Batch(), s.registers
    ring, size = Ring.of(r, RDBAL), buffer_bytes(r[RCTL])
    if not s.arrived or not ring.waiting:
        return batch
    descriptors = ring.read(master, MOST_DESCRIPTORS)
    if descriptors is None:
        batch.refused = [("bad_descriptor", len(frame)) for frame in forget(s)]
        e1000_statistics.count(s.statistics, e1000_statistics.MPC, len(batch.refused))
        return batch
    addresses = [address for address, _ in struct.iter_unpack("<QQ", descriptors)]
    at = 0
    for _ in range(min(MOST_FRAMES, len(s.arrived))):
        frame = s.arrived[0]
        data, special = _stripped(r, frame)
        pieces, behind = _cut(addresses, at, data, size)
        if pieces is None:
            if at or (len(addresses) == ring.waiting < ring.size - 1):
                break  # it waits for more descriptors
            _leave(s)  # they would never be enough
            batch.refused.append(("no_descriptor", len(frame)))
            continue
        _leave(s)
        if all(master.reaches(gpa, len(piece)) for _, gpa, piece in pieces):
            _fill(s, master, descriptors, pieces, at, behind, frame, special)
            batch.stored.append(Stored(ring.gpa(at), behind - at, frame))
            batch.causes |= SRPD if len(frame) + 4 <= r[RSRPD] else 0
        else:
            behind = pieces[0][0] + 1
            _mark(descriptors, range(at, behind), RX_EOP, e1000_rings.RX_RXE)
            e1000_statistics.count(s.statistics, e1000_statistics.RXERRC)
            batch.refused.append(("bad_descriptor", len(frame)))
        at = behind
    if at:
        ring.write(master, 0, descriptors[: at * DESCRIPTOR_BYTES])
        r[RDH] = (ring.head + at) % ring.size
    least, left = ring.size >> 1 + (r[RCTL] >> RCTL_RDMTS_SHIFT & 3), ring.waiting - at
    batch.causes |= RXDMT0 if left <= least < ring.waiting else 0
    batch.more = bool(s.arrived) and left > 0 and at > 0
    return batch


def _leave(s: E1000State) -> None:
    s.arrived_bytes -= len(s.arrived.pop(0)) + BUFFER_OVERHEAD_BYTES


def _stripped(r: dict[int, int], frame: bytes) -> tuple[bytes, int | None]:
    """What goes into memory, and the tag that does not."""
    fcs = b"" if r[RCTL] & RCTL_SECRC else zlib.crc32(frame).to_bytes(4, "little")
    if r[CTRL] & CTRL_VME and frame[12:14] == r[VET].to_bytes(2, "big"):
        return frame[:12] + frame[16:] + fcs, int.from_bytes(frame[14:16], "big")
    return frame + fcs, None


def _cut(addresses: list[int], at: int, data: bytes, size: int) -> tuple[Pieces | None, int]:
    """Pieces for the buffers from ``at`` on, and the first descriptor behind them."""
    pieces: Pieces = []
    done = 0
    while done < len(data):
        if at == len(addresses):
            return None, at
        if addresses[at]:
            pieces.append((at, addresses[at], data[done : done + size]))
            done += size
        at += 1
    return pieces, at


def _mark(descriptors: bytearray, numbers: range, status: int, errors: int) -> None:
    """Descriptors without data: done, the last one with ``status``."""
    for number in numbers:
        last = number == numbers[-1]
        address = int.from_bytes(descriptors[number * DESCRIPTOR_BYTES :][:8], "little")
        descriptors[number * DESCRIPTOR_BYTES : (number + 1) * DESCRIPTOR_BYTES] = e1000_rings.received(
            address, 0, 0, RX_DD | (status if last else 0), errors if last else 0, 0
        )


def _fill(
    s: E1000State, master: BusMaster, descriptors: bytearray, pieces: Pieces, at: int, behind: int,
    frame: bytes, special: int | None,
) -> None:  # fmt: skip
    """Bytes into buffers, and what there is to say about them into the descriptors."""
    r = s.registers
    _mark(descriptors, range(at, behind), 0, 0)
    found = e1000_offload.check(
        frame, bool(r[RXCSUM] & RXCSUM_IP), bool(r[RXCSUM] & RXCSUM_TCP), r[VET].to_bytes(2, "big")
    )
    status = RX_EOP | (RX_VP if special is not None else 0)
    status |= (RX_IPCS if found.ip else 0) | (RX_TCPCS if found.tcp else 0) or RX_IXSM
    errors = (0 if found.ip_good else e1000_rings.RX_IPE) | (0 if found.tcp_good else e1000_rings.RX_TCPE)
    start = r[RXCSUM] & 0xFF
    stripped = frame if special is None else frame[:12] + frame[16:]
    checksum = ~e1000_offload.ones_sum(stripped[start:]) & 0xFFFF
    checksum = checksum >> 8 | (checksum & 0xFF) << 8  # as it would stand in a header
    for number, gpa, piece in pieces:
        master.write(gpa, piece, "data")
        last = number == pieces[-1][0]
        descriptors[number * DESCRIPTOR_BYTES : (number + 1) * DESCRIPTOR_BYTES] = e1000_rings.received(
            gpa, len(piece), checksum if last else 0, RX_DD | (status if last else 0), errors if last else 0,
            special if last and special is not None else 0,
        )  # fmt: skip
