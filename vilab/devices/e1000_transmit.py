"""The transmitter of the 82545EM: descriptors become packets, packets become frames.

::

    ring ──one read──> descriptors ─┬─ context ──> kept for the packets that follow, one of each kind
                                    ├─ data, legacy ──> gathered into ``packet``
                                    └─ end of packet ──> checksums, segments, VLAN tag, padding ──> frames
    ring <──one write── "done", for those that ask for a report

A look takes no more than so many descriptors, frames and bytes; what is left waits for the next one. A packet that
cannot be sent (a buffer outside memory, a header that its context does not fit, more than fits in a frame) is passed
over to its end, and counted: its descriptors come back as done.

Source: the manual's 3.3 to 3.5.
MODEL: the FCS is always the device's own, also where the driver wants to bring it (IFCS clear). Descriptors are done
when they are fetched, frames may still be waiting for the wire. PAYLEN of a context is not needed, see ``Context``.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

from vilab.devices import e1000_rings as rings
from vilab.devices import e1000_statistics as statistics
from vilab.devices.bus_master import BusMaster
from vilab.devices.e1000_offload import Context, can_segment, put_checksum, segments, with_checksums
from vilab.devices.e1000_registers import CTRL, CTRL_VME, TCTL, TCTL_EN, TCTL_PSP, TDBAL, TDH, TIDV, VET
from vilab.devices.e1000_rings import DESCRIPTOR_BYTES, Ring
from vilab.devices.e1000_state import E1000State, Packet
from vilab.devices.network_events import Refusal

MOST_DESCRIPTORS, MOST_FRAMES, MOST_BYTES = 256, 64, 256 << 10
"""In one look; the last packet may go beyond."""
LONGEST_BYTES, SHORTEST_BYTES, PADDED_BYTES = 16288, 14, 60
"""Without the FCS (3.3.3, for the first); MODEL: less than a header is refused."""
LONGEST_SEGMENTED_BYTES = 256 << 10


class Going(NamedTuple):
    """Frames of one packet. ``gpa``: its first descriptor."""

    gpa: int
    descriptors: int
    frames: list[bytes]


class Batch(msgspec.Struct):
    """What a look has found. ``reported``: a descriptor has asked for an interrupt; ``reported_late``: for one that
    may be delayed. ``emptied``: nothing is left in the ring; ``more``: something is, for the next look."""

    going: list[Going] = msgspec.field(default_factory=list)
    refused: list[tuple[Refusal, int]] = msgspec.field(default_factory=list)
    reported: bool = False
    reported_late: bool = False
    emptied: bool = False
    more: bool = False
    frames: int = 0
    size_bytes: int = 0

    @property
    def full(self) -> bool:
        return self.frames >= MOST_FRAMES or self.size_bytes >= MOST_BYTES


def fetch(s: E1000State, master: BusMaster) -> Batch:
    """One look at the ring."""
    batch, ring = Batch(), Ring.of(s.registers, TDBAL)
    if not s.registers[TCTL] & TCTL_EN:
        return batch
    descriptors = ring.read(master, MOST_DESCRIPTORS) if ring.is_sound else None
    if descriptors is None:
        _refuse(s, batch, "bad_descriptor", 0)
        return batch
    taken, reports = 0, []
    for first, second in struct.iter_unpack("<QQ", descriptors):
        if batch.full:
            break
        command = second >> 24 & 0xFF
        _take(s, master, batch, ring.gpa(taken), first, second, command)
        if command & (rings.REPORT | rings.REPORT_SENT):
            descriptors[taken * DESCRIPTOR_BYTES + rings.DONE_BYTE] |= 1
            reports.append(taken)
            late = bool(command & rings.DELAY and s.registers[TIDV])
            batch.reported, batch.reported_late = batch.reported or not late, batch.reported_late or late
        taken += 1
    if reports:
        done = descriptors[reports[0] * DESCRIPTOR_BYTES : (reports[-1] + 1) * DESCRIPTOR_BYTES]
        ring.write(master, reports[0], done)
    s.registers[TDH] = (ring.head + taken) % ring.size
    batch.more = taken < ring.waiting
    batch.emptied = taken > 0 and not batch.more
    return batch


def _refuse(s: E1000State, batch: Batch, why: Refusal, size_bytes: int) -> None:
    s.refused += 1
    batch.refused.append((why, size_bytes))


def _take(
    s: E1000State, master: BusMaster, batch: Batch, gpa: int, first: int, second: int, command: int
) -> None:  # fmt: skip
    """One descriptor."""
    extended = command & rings.EXTENDED
    kind = second >> 20 & 0xF if extended else rings.DATA
    if kind == rings.CONTEXT:
        if command & rings.SEGMENT_OR_CHECKSUM:
            s.segmentation = rings.context_of(first, second)
        else:
            s.context = rings.context_of(first, second)
        return
    p = s.packet
    if not p.descriptors:
        p.gpa = gpa
        p.segment = bool(extended and command & rings.SEGMENT_OR_CHECKSUM)
        p.options = second >> 40 & 0xFF if extended else 0
    p.descriptors += 1
    if not extended and command & rings.SEGMENT_OR_CHECKSUM:
        p.checksum = (second >> 40 & 0xFF, second >> 16 & 0xFF)
    if command & rings.INSERT_VLAN:
        p.vlan = second >> 48
    if kind != rings.DATA:
        p.refusal = p.refusal or "bad_descriptor"
    else:
        _gather(p, master, batch, first, second & (0xF_FFFF if extended else 0xFFFF))
    if command & rings.EOP:
        s.packet = Packet()
        _finish(s, batch, p)


def _gather(p: Packet, master: BusMaster, batch: Batch, gpa: int, size_bytes: int) -> None:
    p.size_bytes += size_bytes
    if p.size_bytes > (LONGEST_SEGMENTED_BYTES if p.segment else LONGEST_BYTES):
        p.refusal = p.refusal or "too_long"
    if p.refusal is None and size_bytes:
        data = master.read(gpa, size_bytes, "data")
        batch.size_bytes += size_bytes
        if data is None:
            p.refusal = "bad_descriptor"
        else:
            p.parts.append(data)
    if p.refusal is not None:
        p.parts = []


def _finish(s: E1000State, batch: Batch, p: Packet) -> None:
    """A packet is whole."""
    context = s.segmentation if p.segment else s.context
    why = p.refusal or _objection(p, context)
    if p.segment:
        statistics.count(s.statistics, statistics.TSCTFC if why else statistics.TSCTC)
    if why:
        _refuse(s, batch, why, p.size_bytes)
        return
    frames = [_dressed(s, p, frame) for frame in _frames(p, context)]
    for frame in frames:
        statistics.went(s.statistics, frame)
        batch.size_bytes += len(frame)
    batch.frames += len(frames)
    batch.going.append(Going(p.gpa, p.descriptors, frames))


def _objection(p: Packet, context: Context) -> Refusal | None:
    if p.size_bytes < SHORTEST_BYTES:
        return "too_short"
    if not p.segment:
        return None
    if not can_segment(context, p.size_bytes):
        return "bad_descriptor"
    longest = context.header_bytes + min(context.mss, p.size_bytes - context.header_bytes)
    return "too_long" if longest > LONGEST_BYTES else None


def _frames(p: Packet, context: Context) -> list[bytearray]:
    data = b"".join(p.parts)
    ip, tcp = bool(p.options & rings.OPTION_IP), bool(p.options & rings.OPTION_TCP)
    if p.segment:
        return list(segments(data, context, ip, tcp))
    frame = bytearray(data)
    if p.checksum is not None:
        start, at = p.checksum
        put_checksum(frame, start, at, 0)
    with_checksums(frame, context, ip, tcp)
    return [frame]


def _dressed(s: E1000State, p: Packet, frame: bytearray) -> bytes:
    """With its tag, and long enough."""
    if p.vlan is not None and s.registers[CTRL] & CTRL_VME:
        frame[12:12] = struct.pack(">HH", s.registers[VET], p.vlan)
    return bytes(frame).ljust(PADDED_BYTES if s.registers[TCTL] & TCTL_PSP else 0, b"\0")
