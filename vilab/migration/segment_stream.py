"""One end of a reliable stream in segments, as TCP has it: bytes in, segments out, and the other way round.

::

    send ─> │ waiting │ ── cut into 1460 ──> │ in flight │ ──> segments        at most ``window_bytes`` in flight
                                               ▲       │
              acknowledged: gone ──────────────┘       └── three say that one is missing, or 200 ms without a word:
                                                           all that is in flight goes again
    segments ──> in order? ─> bytes                        every second one is acknowledged, and the last of a burst

Sans I/O: ``output`` says what is to be sent, ``due_ns`` when ``late`` is to be called. Offsets count from 0 and do not
wrap; the 32 bits of a header are whoever sends them to make (``near`` undoes it).

    may be in flight      64 KB   ╱──┐     ╱─╱─╱─   twice as much each time round; after a loss half, and from there a
                                 ╱   └─╱─╱          segment more each time round
                        3 of them

MODEL: the window is 64 KB, as TCP without scaling has it. What comes after a missing segment is dropped (go back n).
The other side reads at once. Sources: RFC 793 (sequence numbers, window), RFC 5681, 3.1 and 3.2 (slow start, congestion
avoidance, three duplicates), RFC 6298, 5 (doubling).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from vilab.protocols import ReadableBytes

SEGMENT_BYTES = 1460
"""A frame of 1514 without the headers of Ethernet, IPv4 and TCP."""
WINDOW_BYTES = 65_535
"""The most that the header's 16 bits can say."""
TIMEOUT_NS, MOST_TIMEOUT_NS = 200_000_000, 3_200_000_000
MOST_TRIES = 5
FIRST_SEGMENTS = 3
DUPLICATES = 3
WORD = 1 << 32


def near(word: int, about: int) -> int:
    """The offset that a header's 32 bits mean: of all possible ones the nearest to ``about``."""
    return about + (word - about + WORD // 2) % WORD - WORD // 2


class Segment(msgspec.Struct, frozen=True):
    """``sequence``, ``acknowledgement``: offsets. ``push``: no other one comes right behind it, so that it is answered.
    ``last``: the stream ends with it; its end counts as one byte more."""

    sequence: int
    acknowledgement: int
    data: bytes = b""
    push: bool = False
    last: bool = False

    @property
    def end(self) -> int:
        return self.sequence + len(self.data) + self.last


class _Piece(msgspec.Struct):
    sequence: int
    data: bytes
    last: bool

    @property
    def end(self) -> int:
        return self.sequence + len(self.data) + self.last


class SegmentStream:
    """Attributes
    ----------
    waiting_bytes : to be sent, and not in flight yet. in_flight_bytes : not acknowledged yet.
    acknowledged, expected : up to which byte the other side has everything, and this side.
    again : segments that were sent once more. due_ns : when ``late`` is to be called; ``None``: not at all.
    dead : nothing was heard for so long that nothing more is sent.
    heard_end : the other side has said that it sends no more, and all before that has come.
    """

    def __init__(self, window_bytes: int = WINDOW_BYTES, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.window_bytes, self.segment_bytes = max(window_bytes, segment_bytes), segment_bytes
        self.waiting_bytes = self.again = 0
        self.due_ns: int | None = None
        self.dead = self.heard_end = False
        self._waiting: deque[memoryview] = deque()
        self._flight: deque[_Piece] = deque()
        self._sent = 0
        """So many of those in flight; the others go again."""
        self.acknowledged = self.expected = 0
        self._next = self._recover = 0
        self._allowed, self._threshold = FIRST_SEGMENTS * segment_bytes, self.window_bytes
        self._ends = self._ended = False
        self._duplicates = self._tries = 0
        self._unanswered = 0
        self._answer = False

    @property
    def in_flight_bytes(self) -> int:
        return self._next - self.acknowledged

    @property
    def all_acknowledged(self) -> bool:
        """And, after ``end``, that it was."""
        return not self._flight and not self._waiting and self._ends == self._ended

    # --- out ----------------------------------------------------------------------------------------------------------

    def send(self, buffers: Iterable[ReadableBytes]) -> int:
        """In order; how many bytes they are. What could be changed by its owner is copied."""
        size = 0
        for buffer in buffers:
            data = buffer if isinstance(buffer, bytes) else bytes(buffer)
            if data:
                self._waiting.append(memoryview(data))
                size += len(data)
        self.waiting_bytes += size
        return size

    def end(self) -> None:
        """Nothing more will be sent."""
        self._ends = True

    def forget(self) -> None:
        """What waits or is in flight is not sent any more."""
        self._waiting.clear()
        self._flight.clear()
        self.waiting_bytes = self._sent = 0
        self.due_ns = None

    def output(self, now_ns: int) -> list[Segment]:
        """What is to be sent now."""
        pieces: list[_Piece] = []
        if not self.dead:
            while self._sent < len(self._flight) and self._room(self._flight[self._sent].end):
                self.again += 1
                pieces.append(self._flight[self._sent])
                self._sent += 1
            while self._sent == len(self._flight) and (piece := self._cut()) is not None:
                self._flight.append(piece)
                self._next = piece.end
                self._sent += 1
                pieces.append(piece)
        if pieces and self.due_ns is None:
            self.due_ns = now_ns + self._timeout_ns
        answers, self._answer = self._answer, False
        if not pieces and not answers:
            return []
        self._unanswered = 0
        if not pieces:
            return [Segment(self._next, self.expected)]
        last = pieces[-1]
        return [Segment(it.sequence, self.expected, it.data, it is last, it.last) for it in pieces]

    @property
    def _timeout_ns(self) -> int:
        return min(TIMEOUT_NS << self._tries, MOST_TIMEOUT_NS)

    def _room(self, end: int) -> bool:
        return end - self.acknowledged <= min(self._allowed, self.window_bytes)

    def _cut(self) -> _Piece | None:
        """The next piece, if the window has room for it."""
        size = min(self.segment_bytes, self.waiting_bytes)
        if not self._room(self._next + size):
            return None
        if not size:
            if not self._ends or self._ended:
                return None
            self._ended = True
            return _Piece(self._next, b"", True)
        parts, missing = [], size
        while missing:
            first = self._waiting.popleft()
            parts.append(first[:missing])
            if len(first) > missing:
                self._waiting.appendleft(first[missing:])
            missing -= len(parts[-1])
        self.waiting_bytes -= size
        return _Piece(self._next, b"".join(parts), False)

    # --- in -----------------------------------------------------------------------------------------------------------

    def received(self, segment: Segment, now_ns: int) -> bytes:
        """What it brings that is new and in order."""
        self._acknowledge(segment, now_ns)
        if segment.end == segment.sequence:
            return b""
        if segment.sequence != self.expected or self.heard_end:
            self._answer = True
            return b""
        self.expected = segment.end
        self.heard_end = segment.last
        self._unanswered += 1
        self._answer |= segment.push or segment.last or self._unanswered >= 2
        return segment.data

    def late(self, now_ns: int) -> None:
        """It is ``due_ns``, and nothing has come: all goes again, or it is given up."""
        self._tries += 1
        self.dead = self._tries > MOST_TRIES
        self.due_ns = None
        self._go_back()
        self._allowed = self.segment_bytes

    def _go_back(self) -> None:
        self._threshold = self._allowed = max(self.in_flight_bytes // 2, 2 * self.segment_bytes)
        self._sent, self._duplicates, self._recover = 0, 0, self._next

    def _grow(self, acknowledged_bytes: int) -> None:
        if self._allowed >= self._threshold:
            acknowledged_bytes = max(acknowledged_bytes * self.segment_bytes // self._allowed, 1)
        self._allowed = min(self._allowed + acknowledged_bytes, self.window_bytes)

    def _acknowledge(self, segment: Segment, now_ns: int) -> None:
        to = segment.acknowledgement
        if not self.acknowledged <= to <= self._next:
            return
        if to > self.acknowledged:
            while self._flight and self._flight[0].end <= to:
                self._flight.popleft()
                self._sent = max(self._sent - 1, 0)
            self._grow(to - self.acknowledged)
            self.acknowledged, self._duplicates, self._tries = to, 0, 0
            self.due_ns = now_ns + self._timeout_ns if self._flight else None
        elif self._flight and segment.end == segment.sequence and self.acknowledged >= self._recover:
            self._duplicates += 1
            if self._duplicates == DUPLICATES:
                self._go_back()
