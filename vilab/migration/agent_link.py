"""A link between two hosts in one process: bandwidth, delay and loss in virtual time.

::

    a.send ──> │ chunk │ chunk │ chunk │ ── the line: size / bandwidth ──> ─ ─ delay ─ ─ ─ ─> b.on_data
                └────── waiting_bytes ──────┘                     lost? again, and what is behind it waits

    a chunk of n bytes that is sent at t leaves at   max(t, when the last one has left) + n / bandwidth
    and arrives                                      delay later

MODEL: the stream above is reliable, as TCP is: nothing is missing, a loss costs time. Of every segment that is lost,
the line carries another copy, and its chunk arrives a round trip later for each time that this happened to it; chunks
behind it arrive no sooner than it. There is no window and no slow start: one sender has the whole bandwidth at once.

``cut`` is a cable pulled out: what is under way is lost. ``stall``: nothing moves until ``resume``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.errors import AdminError
from vilab.protocols import ReadableBytes

CHUNK_BYTES = 65_536
"""What arrives at one moment."""
SEGMENT_BYTES = 1460
"""What is lost at once: a full Ethernet frame of TCP."""

Fault = Callable[[ReadableBytes], bytes]


class LinkSettings(msgspec.Struct, frozen=True):
    """``delay_ns``: one way. ``loss``: of segments, 0 to less than 1. ``seed``: for which of them.

    Raises ``AdminError`` for a link that cannot be.
    """

    bandwidth_bytes_per_s: int
    delay_ns: int = 0
    loss: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bandwidth_bytes_per_s <= 0 or self.delay_ns < 0 or not 0 <= self.loss < 1:
            raise AdminError(
                f"A link of {self.bandwidth_bytes_per_s} bytes/s, {self.delay_ns} ns and a loss of {self.loss} cannot "
                "be: give a bandwidth above 0, a delay of 0 or more and a loss from 0 to less than 1."
            )


class _Chunk(msgspec.Struct):
    """``data`` is ``None`` at the end of the stream."""

    arrives_ns: int
    data: ReadableBytes | None


class _LineTime:
    """The clock of the line: it stands still while the link is stalled."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._stood_ns = 0
        self._stands_at_ns: int | None = None

    @property
    def stands(self) -> bool:
        return self._stands_at_ns is not None

    @property
    def now_ns(self) -> int:
        return (self.clock.now_ns if self._stands_at_ns is None else self._stands_at_ns) - self._stood_ns

    def at(self, line_ns: int, action: Callable[[], None]) -> Timer:
        return self.clock.at(line_ns + self._stood_ns, action)

    def clock_ns(self, line_ns: int) -> int:
        return max(self.clock.now_ns, line_ns + self._stood_ns)

    def stop(self) -> None:
        self._stands_at_ns = self.clock.now_ns

    def go(self) -> None:
        assert self._stands_at_ns is not None
        self._stood_ns += self.clock.now_ns - self._stands_at_ns
        self._stands_at_ns = None


class LinkEnd:
    """One end: what is sent here arrives at ``other``.

    ``on_data`` gets bytes that nobody changes; ``on_end`` a sentence, once, when no more will come. Set them before the
    clock runs on. ``faults``: applied to each chunk that was sent from here, as it arrives; nothing arrives if it
    returns nothing.
    """

    def __init__(self, name: str, line: _LineTime, settings: LinkSettings, seed: str) -> None:
        self.name = name
        self.on_data: Callable[[ReadableBytes], None] = lambda _data: None
        self.on_end: Callable[[str], None] = lambda _why: None
        self.faults: Fault | None = None
        self.open = True
        self.sent_bytes = 0
        self._line, self._settings = line, settings
        self._random = Random(seed)
        self._other: LinkEnd = self
        self._flight: deque[_Chunk] = deque()
        self._waiting: deque[tuple[int, int]] = deque()
        self._waiting_bytes = 0
        self._free_ns = self._arrived_ns = 0
        self._timer: Timer | None = None
        self._cut = False

    @property
    def other(self) -> LinkEnd:
        return self._other

    @property
    def waiting_bytes(self) -> int:
        """Sent here and not yet on its way: the line is busy with what is before it."""
        now_ns = self._line.now_ns
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._waiting_bytes -= self._waiting.popleft()[1]
        return self._waiting_bytes

    @property
    def free_ns(self) -> int:
        """When all that was sent here has left, by the clock: now or later. A stall moves it."""
        return self._line.clock_ns(self._free_ns)

    def send(self, buffers: Iterable[ReadableBytes]) -> None:
        """In order. What could be changed by its owner is copied. On an end that is not open: nothing happens."""
        for buffer in buffers:
            if not self.open:
                return
            data = buffer if isinstance(buffer, bytes) else bytes(buffer)
            whole = memoryview(data)
            self.sent_bytes += len(data)
            for at in range(0, len(data), CHUNK_BYTES):
                self._put(whole[at : at + CHUNK_BYTES] if len(data) > CHUNK_BYTES else data)
        self._expect()

    def close(self) -> None:
        """No more will be sent or heard here. The other end hears the rest, then that it ends."""
        if self.open:
            self.open = False
            leaves_ns = max(self._line.now_ns, self._free_ns)
            arrives_ns = max(self._arrived_ns, leaves_ns + self._settings.delay_ns)
            self._flight.append(_Chunk(arrives_ns, None))
            self._expect()

    def _put(self, data: ReadableBytes) -> None:
        settings, size = self._settings, len(data)
        line_bytes, waits_ns = size, 0
        if settings.loss:
            again = self._lost(-(-size // SEGMENT_BYTES))
            while again:
                line_bytes += min(again * SEGMENT_BYTES, size)
                waits_ns += 2 * settings.delay_ns
                again = self._lost(again)
        begin_ns = max(self._line.now_ns, self._free_ns)
        self._free_ns = begin_ns - (-line_bytes * 1_000_000_000 // settings.bandwidth_bytes_per_s)
        self._arrived_ns = max(self._arrived_ns, self._free_ns + settings.delay_ns + waits_ns)
        self._waiting.append((self._free_ns, size))
        self._waiting_bytes += size
        self._flight.append(_Chunk(self._arrived_ns, data))

    def _lost(self, segments: int) -> int:
        return sum(self._random.random() < self._settings.loss for _ in range(segments))

    def _expect(self) -> None:
        if self._timer is None and self._flight and not (self._line.stands or self._cut):
            self._timer = self._line.at(self._flight[0].arrives_ns, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        try:
            while self._flight and not self._line.stands and self._flight[0].arrives_ns <= self._line.now_ns:
                data = self._flight.popleft().data
                if data is None:
                    self._other._ended(f"Host {self.name} has closed the link to host {self._other.name}.")
                elif self._other.open:
                    arriving = data if self.faults is None else self.faults(data)
                    if len(arriving):
                        self._other.on_data(arriving)
        finally:
            self._expect()

    def _ended(self, why: str) -> None:
        if self.open:
            self.open = False
            self._drop()
            self.on_end(why)

    def _hold(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self) -> None:
        self._hold()
        self._flight.clear()
        self._waiting.clear()
        self._waiting_bytes = 0


class MemoryLink:
    """Two ends, ``a`` and ``b``.

    ``names``: of the hosts, for the sentences. Both directions have the whole bandwidth.
    """

    def __init__(self, clock: VirtualClock, settings: LinkSettings, names: tuple[str, str] = ("a", "b")) -> None:
        self.clock, self.settings = clock, settings
        self._line = _LineTime(clock)
        self.a = LinkEnd(names[0], self._line, settings, f"{settings.seed} a")
        self.b = LinkEnd(names[1], self._line, settings, f"{settings.seed} b")
        self.a._other, self.b._other = self.b, self.a

    @property
    def bandwidth_bytes_per_s(self) -> int:
        return self.settings.bandwidth_bytes_per_s

    @property
    def stalled(self) -> bool:
        return self._line.stands

    @property
    def faults(self) -> Fault | None:
        """Of both directions."""
        return self.a.faults

    @faults.setter
    def faults(self, fault: Fault | None) -> None:
        self.a.faults = self.b.faults = fault

    def cut(self) -> None:
        """What is under way is lost. Both ends hear of it when the clock makes its calls next."""
        for end in (self.a, self.b):
            end._cut = True
            end._drop()
        why = f"The link between host {self.a.name} and host {self.b.name} was cut."

        def tell() -> None:
            for end in (self.a, self.b):
                end._ended(why)

        self.clock.at(self.clock.now_ns, tell)

    def stall(self) -> None:
        """Nothing moves on, nobody hears why."""
        if not self._line.stands:
            self._line.stop()
            for end in (self.a, self.b):
                end._hold()

    def resume(self) -> None:
        """Everything moves on from where it stood."""
        if self._line.stands:
            self._line.go()
            for end in (self.a, self.b):
                end._expect()
