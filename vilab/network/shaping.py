"""Traffic shaping: a token bucket, and the queue in front of it. Outbound: what a machine sends.

::

                     average: so many bits a second fall in
                        │
               ┌────────▼───────┐ burst: more does not fit          bits left in the bucket are the burst bonus
               │~~~~~~~~~~~~~~~~│
    queue ──>  └────────┬───────┘ ──> a frame takes its own bits out, and leaves
                        │
                     peak: and no sooner than the last one, at the peak rate, is through

    a frame of n bits may leave at t if  tokens(t) >= n  and  t >= last + n_last / peak
    in any time T there leave at most  burst + average * T  bits, and at most  peak * T  and one frame

Bits are kept in millionths, so that kbit/s times nanoseconds is exact: 1 kbit/s is one millionth of a bit a nanosecond.
Source: ESX Server 3 Configuration Guide, "Traffic Shaping Policy": excess is queued, and dropped if the queue is full.

MODEL: a burst smaller than one frame counts as one frame, or that frame could never leave. The length of the queue is
not documented.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.network.policies import ShapingPolicy

QUEUE_FRAMES = 256
MICROBITS = 8 * 1_000_000
"""An octet in millionths of a bit."""


class ShaperState(msgspec.Struct):
    """``tokens``: millionths of a bit at ``at_ns``. ``free_ns``: when the last frame is through at the peak rate."""

    tokens: int = 0
    at_ns: int = 0
    free_ns: int = 0
    queue: list[bytes] = msgspec.field(default_factory=list)


class TokenBucket:
    """When may the next frame leave?"""

    def __init__(self, policy: ShapingPolicy, state: ShaperState, largest_frame_bytes: int) -> None:
        self._average, self._peak = policy.average_kbps, policy.peak_kbps
        self.burst_bytes = max(policy.burst_kb * 1024, largest_frame_bytes)
        self._state = state

    def fill(self) -> None:
        """A port that has been idle for long."""
        self._state.tokens = self.burst_bytes * MICROBITS

    def leaves_ns(self, size_bytes: int, now_ns: int) -> int:
        """When a frame of this size may leave: ``now_ns`` or later. It must not be larger than the burst."""
        s = self._state
        if now_ns > s.at_ns:
            s.tokens += self._average * (now_ns - s.at_ns)
            s.at_ns = now_ns
        s.tokens = min(s.tokens, self.burst_bytes * MICROBITS)
        missing = size_bytes * MICROBITS - s.tokens
        enough_ns = now_ns + -(-missing // self._average) if missing > 0 else now_ns
        return max(enough_ns, s.free_ns)

    def take(self, size_bytes: int, now_ns: int) -> None:
        """It leaves now, which has to be possible."""
        s = self._state
        s.tokens -= size_bytes * MICROBITS
        s.free_ns = now_ns + -(-size_bytes * MICROBITS // self._peak)


class Shaper:
    """Holds back what a port sends.

    Parameters
    ----------
    passed : takes each frame at the time at which it leaves, in the order in which they came.
    """

    def __init__(
        self, policy: ShapingPolicy, clock: VirtualClock, passed: Callable[[bytes], None], largest_frame_bytes: int,
        state: ShaperState | None = None,
    ) -> None:  # fmt: skip
        self.policy, self.largest_bytes = policy, largest_frame_bytes
        self._clock, self._passed = clock, passed
        self._stopped = False
        self.state = state or ShaperState(at_ns=clock.now_ns)
        self._bucket = TokenBucket(policy, self.state, largest_frame_bytes)
        if state is None:
            self._bucket.fill()
        self._queued_bytes = sum(map(len, self.state.queue))
        self._timer: Timer | None = None
        self._expect()

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def offer(self, frame: bytes) -> bool:
        """A frame for the port: it leaves now or later. False: the queue is full."""
        s, now_ns = self.state, self._clock.now_ns
        if not s.queue and self._bucket.leaves_ns(len(frame), now_ns) <= now_ns:
            self._bucket.take(len(frame), now_ns)
            self._passed(frame)
            return True
        if len(s.queue) >= QUEUE_FRAMES:
            return False
        s.queue.append(frame)
        self._queued_bytes += len(frame)
        self._expect()
        return True

    def stop(self) -> None:
        """Not on the clock any more: the port is gone, or its policy is another."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self) -> None:
        if self._timer is None and self.state.queue and not self._stopped:
            at_ns = self._bucket.leaves_ns(len(self.state.queue[0]), self._clock.now_ns)
            self._timer = self._clock.at(at_ns, self._release)

    def _release(self) -> None:
        self._timer = None
        queue, now_ns = self.state.queue, self._clock.now_ns
        while queue and not self._stopped and self._bucket.leaves_ns(len(queue[0]), now_ns) <= now_ns:
            frame = queue.pop(0)
            self._queued_bytes -= len(frame)
            self._bucket.take(len(frame), now_ns)
            self._passed(frame)
        self._expect()


def reshaped(
    old: Shaper | None, policy: ShapingPolicy, clock: VirtualClock, passed: Callable[[bytes], None],
    largest_frame_bytes: int, held: ShaperState | None = None,
) -> tuple[Shaper | None, list[bytes]]:  # fmt: skip
    """A port's shaper after its policy was set, perhaps to what it was, and the frames that wait no more.

    A new policy goes on with the bonus and the queue of the old one, or with ``held``.
    """
    if old is not None:
        if policy.enabled and (old.policy, old.largest_bytes) == (policy, largest_frame_bytes):
            return old, []
        old.stop()
        held = old.state
    if policy.enabled:
        return Shaper(policy, clock, passed, largest_frame_bytes, held), []
    return None, list(held.queue) if held is not None else []
