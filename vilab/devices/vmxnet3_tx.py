"""A vmxnet3's transmit queue: from descriptors to frames, and back to completions.

::

    tx ring   | headers .1 | page .1 | end page .1 | headers .1 | end .1 | .0 |
                 └──────── one packet ──────────┘    └──── the next ───┘    the driver's: nothing more
                 gathered ──> checksum or segments ──> tag ──> padding ──> port
    completion ring  | 2 .1 | 4 .1 |                       index of the last descriptor of each, if it asked for one

A packet that cannot be sent is counted, dropped and completed all the same: its buffers are the driver's again. A ring
that makes no sense stops the queue until the card is activated anew; ``error`` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from vilab.devices.bus_master import BusMaster
from vilab.devices.network_events import Refusal
from vilab.devices.vmxnet3_layout import (
    BIG_PACKET,
    CHECKSUM,
    ENTRY_BYTES,
    MOST_TX_ENTRIES,
    NO_END,
    SEGMENTATION,
    TYPE_UNKNOWN,
    QueueConf,
    TxDescriptor,
    parse_tx,
    tx_completion,
)
from vilab.devices.vmxnet3_offload import checksummed, segmented
from vilab.devices.vmxnet3_rings import Descriptors, Ring, complete
from vilab.network.ethernet import (
    ADDRESS_BYTES,
    BROADCAST,
    HEADER_BYTES,
    MIN_FRAME_BYTES,
    TAG_BYTES,
    TAG_TYPE,
    is_group,
)

MOST_DESCRIPTORS, MOST_TSO_DESCRIPTORS = 16, 64
MOST_TSO_BYTES = (64 << 10) + 256
MOST_FRAMES = 64
"""In one look; the rest waits for the next one."""

TSO_FRAMES, UNICAST_FRAMES, MULTICAST_FRAMES, BROADCAST_FRAMES, ERRORS, DISCARDED = 0, 2, 4, 6, 8, 9
"""Places of counters; the bytes of the first four stand behind each."""


class TxState(msgspec.Struct):
    """``conf_gpa``: of its queue descriptor. ``threshold``: what the driver was told last; ``sent_ns``: when something
    was there last. ``error``: it has stopped."""

    conf_gpa: int = 0
    ring: Ring = msgspec.field(default_factory=Ring)
    completions: Ring = msgspec.field(default_factory=Ring)
    interrupt: int = 0
    threshold: int = 0
    sent_ns: int = 0
    error: int = 0
    counters: list[int] = msgspec.field(default_factory=lambda: [0] * 10)


class Worked(NamedTuple):
    """``packets``: how many there were. ``completed``: the driver gets some back. ``more``: there may be."""

    packets: int
    completed: bool
    more: bool
    failed: bool


def queue_of(conf: QueueConf, conf_gpa: int, interrupts: int, master: BusMaster) -> TxState | None:
    """``None``: a ring is out of reach, or of a size that none has."""
    ring = Ring(conf.ring_gpa[0], conf.ring_entries[0])
    completions = Ring(conf.completion_gpa, conf.completion_entries)
    good = (
        ring.fits(MOST_TX_ENTRIES) and completions.fits(MOST_TX_ENTRIES) and conf.interrupt < interrupts
        and master.reaches(ring.gpa, ring.entries * ENTRY_BYTES)
        and master.reaches(completions.gpa, completions.entries * ENTRY_BYTES)
    )  # fmt: skip
    return TxState(conf_gpa, ring, completions, conf.interrupt) if good else None


class Transmitter:
    """Works at transmit queues. ``send``: (first descriptor, how many, frames); ``refused``: (why, size)."""

    def __init__(
        self, master: BusMaster, send: Callable[[int, int, list[bytes]], None], refused: Callable[[Refusal, int], None],
    ) -> None:  # fmt: skip
        self._master, self._send, self._refused = master, send, refused

    def work(self, queue: TxState, mtu: int, link_up: bool) -> Worked:
        """Packets, until the ring is empty or ``MOST_FRAMES`` have left."""
        descriptors, packets, frames, completions = Descriptors(queue.ring, self._master), 0, 0, list[bytes]()
        while frames < MOST_FRAMES and not queue.error:
            packet = self._take(queue, descriptors)
            if packet is None:
                break
            first, end, parts = packet
            packets += 1
            frames += self._transmit(queue, first, parts, mtu, link_up)
            if parts[-1].completion:
                completions.append(tx_completion(end))
        complete(queue.completions, completions, self._master)
        return Worked(packets, bool(completions), frames >= MOST_FRAMES, queue.error != 0)

    def _take(self, queue: TxState, descriptors: Descriptors) -> tuple[int, int, list[TxDescriptor]] | None:
        """The next packet: its first and its last index, and its descriptors."""
        ring = queue.ring
        index, generation, parts = ring.next, ring.generation, list[TxDescriptor]()
        while True:
            entry = descriptors.entry(index)
            if entry is None:
                return None
            part = parse_tx(entry)
            if part.generation != generation:
                if parts:
                    queue.error = NO_END
                return None
            if part.kind:
                queue.error = TYPE_UNKNOWN
                return None
            parts.append(part)
            after = ring.after(index, generation)
            if part.end:
                break
            most = MOST_TSO_DESCRIPTORS if parts[0].offload == SEGMENTATION else MOST_DESCRIPTORS
            if len(parts) == min(most, ring.entries):
                queue.error = BIG_PACKET
                return None
            index, generation = after
        first = ring.next
        ring.next, ring.generation = after
        return first, index, parts

    def _transmit(self, queue: TxState, first: int, parts: list[TxDescriptor], mtu: int, link_up: bool) -> int:
        """How many frames it was worth, sent or not."""
        head, size_bytes = parts[0], sum(part.size_bytes for part in parts)
        most_bytes = HEADER_BYTES + TAG_BYTES + mtu
        why: Refusal | None = None
        frames: list[bytes] | None = None
        if size_bytes > (MOST_TSO_BYTES if head.offload == SEGMENTATION else most_bytes):
            why = "too_long"
        elif size_bytes < HEADER_BYTES:
            why = "too_short"
        elif not link_up:
            why = "off"
        else:
            frames = self._frames(head, parts, size_bytes)
            if frames is None:
                why = "bad_descriptor"
            elif len(frames[0]) > most_bytes:
                why = "too_long"
        if why is not None or frames is None:
            queue.counters[DISCARDED if why == "off" else ERRORS] += 1
            self._refused(why or "bad_descriptor", size_bytes)
            return 1
        frames = [_finished(frame, head.tag) for frame in frames]
        _count(queue.counters, frames, head.offload == SEGMENTATION)
        self._send(queue.ring.gpa + first * ENTRY_BYTES, len(parts), frames)
        return len(frames)

    def _frames(self, head: TxDescriptor, parts: list[TxDescriptor], size_bytes: int) -> list[bytes] | None:
        frame = self._master.gather(((part.gpa, part.size_bytes) for part in parts), size_bytes)
        if frame is None:
            return None
        if head.offload == SEGMENTATION:
            return segmented(frame, head.header_bytes, head.offset)
        if head.offload == CHECKSUM:
            done = checksummed(frame, head.header_bytes, head.offset)
            return None if done is None else [done]
        return None if head.offload else [frame]


def _finished(frame: bytes, tag: int | None) -> bytes:
    """As it goes to the wire: padded, with its tag."""
    padded = frame.ljust(MIN_FRAME_BYTES, b"\0")
    return padded if tag is None else padded[:12] + TAG_TYPE + tag.to_bytes(2, "big") + padded[12:]


def _count(counters: list[int], frames: list[bytes], is_tso: bool) -> None:
    size_bytes = sum(map(len, frames))
    destination = frames[0][:ADDRESS_BYTES]
    kind = UNICAST_FRAMES if not is_group(destination) else MULTICAST_FRAMES
    if destination == BROADCAST:
        kind = BROADCAST_FRAMES
    for place in (kind, TSO_FRAMES) if is_tso else (kind,):
        counters[place] += len(frames)
        counters[place + 1] += size_bytes
