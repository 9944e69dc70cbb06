"""A vmxnet3's receive queue: from frames to buffers, and to completions.

::

    frame      | 1514 bytes |                          | 9014 bytes                          |
    ring 1     | head .1 | head .1 | ..                | head .1 | body .1 | body .1 | head .1 | ..
                  └── all of it                           └────────────────────┘
    ring 2     | body .1 | ..                             what ring 1 has no bodies for goes on here
    completion | index, first, last, length, tag, checks | one for each buffer; checks in the last

Nothing is taken from a ring unless there is room for all of a frame. What the driver has not given buffers for is
dropped and counted; a ring that makes no sense stops the queue until the card is activated anew.
"""

from __future__ import annotations

import msgspec

from vilab.devices.bus_master import BusMaster
from vilab.devices.network_events import Refusal
from vilab.devices.vmxnet3_layout import (
    ENTRY_BYTES,
    ERROR,
    FIRST,
    LAST,
    MOST_DATA_BYTES,
    MOST_RX_COMPLETIONS,
    MOST_RX_ENTRIES,
    SMALL_BUFFER,
    STRIPPED,
    TYPE_UNKNOWN,
    UNCHECKED,
    QueueConf,
    RxDescriptor,
    parse_rx,
    rx_completion,
)
from vilab.devices.vmxnet3_rings import Ring, complete

MOST_BUFFERS, MOST_SKIPPED = 18, 32
MIN_HEAD_BYTES = 128

UNICAST_FRAMES, MULTICAST_FRAMES, BROADCAST_FRAMES, NO_BUFFER, ERRORS = 2, 4, 6, 8, 9
"""Places of counters; the bytes of the first three stand behind each."""


class RxState(msgspec.Struct):
    """``conf_gpa``: of its queue descriptor. ``data_gpa``: the data ring, whose entries have ``data_bytes``, 0: there
    is none. ``queues``: how many there are; MODEL: all frames go to the first one. ``error``: it has stopped."""

    conf_gpa: int = 0
    rings: list[Ring] = msgspec.field(default_factory=lambda: [Ring(), Ring()])
    completions: Ring = msgspec.field(default_factory=Ring)
    data_gpa: int = 0
    data_bytes: int = 0
    interrupt: int = 0
    queues: int = 1
    most_buffers: int = MOST_BUFFERS
    error: int = 0
    counters: list[int] = msgspec.field(default_factory=lambda: [0] * 10)

    def stopped(self) -> bool:
        return self.error != 0


def queue_of(
    conf: QueueConf, conf_gpa: int, queues: int, interrupts: int, most_buffers: int, version: int, master: BusMaster
) -> RxState | None:
    """``None``: a ring is out of reach, or of a size that none has."""
    rings = [Ring(gpa, entries) for gpa, entries in zip(conf.ring_gpa, conf.ring_entries, strict=True)]
    completions = Ring(conf.completion_gpa, conf.completion_entries)
    data_bytes = conf.data_bytes if version >= 3 and conf.receive_data_gpa else 0
    good = (
        rings[0].fits(MOST_RX_ENTRIES) and (not rings[1].entries or rings[1].fits(MOST_RX_ENTRIES))
        and completions.fits(MOST_RX_COMPLETIONS) and conf.interrupt < interrupts and data_bytes <= MOST_DATA_BYTES
        and all(master.reaches(ring.gpa, ring.entries * ENTRY_BYTES) for ring in (*rings, completions))
        and master.reaches(conf.receive_data_gpa, rings[0].entries * data_bytes)
    )  # fmt: skip
    if not good:
        return None
    return RxState(
        conf_gpa, rings, completions, conf.receive_data_gpa, data_bytes, conf.interrupt, queues,
        min(most_buffers or MOST_BUFFERS, MOST_BUFFERS),
    )  # fmt: skip


class _Place(msgspec.Struct, frozen=True):
    """A buffer for a part of a frame. ``after``: where its ring goes on."""

    ring: int
    index: int
    gpa: int
    size_bytes: int
    after: tuple[int, int]


class Receiver:
    """Works at the receive queue."""

    def __init__(self, master: BusMaster) -> None:
        self._master = master

    def store(self, queue: RxState, frame: bytes, tag: int | None, checks: int | None) -> tuple[int, int] | Refusal:
        """Put a frame into memory: (its first descriptor's address, how many), or why not.

        ``tag``: that was taken out of it; ``checks``: ``None`` if nobody looked.
        """
        places = self._places(queue, len(frame))
        if places is None:
            queue.counters[NO_BUFFER] += 1
            return "no_descriptor"
        first = places[0]
        in_data_ring = len(frame) <= queue.data_bytes
        if in_data_ring:
            good = self._master.write(queue.data_gpa + first.index * queue.data_bytes, frame, "data")
        else:
            good = self._master.scatter([(place.gpa, place.size_bytes) for place in places], frame) == len(frame)
        for place in places:
            queue.rings[place.ring].next, queue.rings[place.ring].generation = place.after
        complete(queue.completions, _completions(queue, places, frame, tag, checks, in_data_ring, good), self._master)
        if not good:
            queue.counters[ERRORS] += 1
            return "bad_descriptor"
        return queue.rings[0].gpa + first.index * ENTRY_BYTES, len(places)

    def _places(self, queue: RxState, size_bytes: int) -> list[_Place] | None:
        head = self._head(queue)
        if head is None:
            return None
        if head.size_bytes < MIN_HEAD_BYTES:
            queue.error = SMALL_BUFFER
            return None
        places, room = [head], head.size_bytes if size_bytes > queue.data_bytes else size_bytes
        at = [head.after, (queue.rings[1].next, queue.rings[1].generation)]
        while room < size_bytes:
            body = next((found for ring in (0, 1) if (found := self._place(queue, ring, at[ring], True))), None)
            if body is None or len(places) >= queue.most_buffers or not body.size_bytes:
                return None
            at[body.ring] = body.after
            places.append(body)
            room += body.size_bytes
        return places

    def _head(self, queue: RxState) -> _Place | None:
        """The next buffer of ring 1 that a frame can begin in; bodies that stand before it are passed over."""
        at = queue.rings[0].next, queue.rings[0].generation
        for _ in range(MOST_SKIPPED):
            place = self._place(queue, 0, at, False)
            if place is not None:
                return place
            entry = self._descriptor(queue, 0, at)
            if entry is None:
                return None
            at = queue.rings[0].after(*at)
        return None

    def _descriptor(self, queue: RxState, ring: int, at: tuple[int, int]) -> RxDescriptor | None:
        """The entry there, if it is the card's."""
        if not queue.rings[ring].entries:
            return None
        data = self._master.read(queue.rings[ring].gpa + at[0] * ENTRY_BYTES, ENTRY_BYTES)
        if data is None:
            return None
        found = parse_rx(data)
        if found.generation != at[1]:
            return None
        if found.kind:
            queue.error = TYPE_UNKNOWN
            return None
        return found

    def _place(self, queue: RxState, ring: int, at: tuple[int, int], body: bool) -> _Place | None:
        found = self._descriptor(queue, ring, at)
        if found is None or found.body != body:
            return None
        return _Place(ring, at[0], found.gpa, found.size_bytes, queue.rings[ring].after(*at))


def _completions(
    queue: RxState, places: list[_Place], frame: bytes, tag: int | None, checks: int | None, in_data_ring: bool,
    good: bool,
) -> list[bytes]:  # fmt: skip
    made, left = [], len(frame)
    for number, place in enumerate(places):
        part, last = min(left, place.size_bytes), number == len(places) - 1
        if in_data_ring:
            part = left
        left -= part
        rank = 2 if in_data_ring else place.ring
        first_word = place.index | rank * queue.queues << 16 | (FIRST if number == 0 else 0) | (LAST if last else 0)
        third_word = part
        if last:
            first_word |= UNCHECKED if checks is None else 0
            third_word |= 0 if good else ERROR
            third_word |= 0 if tag is None else STRIPPED | tag << 16
        made.append(rx_completion(first_word, third_word, (checks or 0) if last else 0))
    return made
