"""Traffic shaping: never more than burst + average * time, never faster than the peak, nothing out of order."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.network.switches import card, new_switch
from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.ethernet import frame_of
from vilab.network.network_events import FrameHeld
from vilab.network.policies import Overrides, ShapingOverride, ShapingPolicy
from vilab.network.shaping import QUEUE_FRAMES, Shaper, ShaperState

LARGEST = 1518

policies = st.builds(
    lambda average, more, burst: ShapingPolicy(
        enabled=True, average_kbps=average, peak_kbps=average + more, burst_kb=burst
    ),
    st.integers(1, 200_000), st.integers(0, 1_000_000), st.integers(1, 64),
)  # fmt: skip
arrivals = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 999, 12_345, 3_000_000, 5_000_000_000]), st.integers(14, LARGEST)),
    max_size=60,
)


class Line:
    """What leaves a shaper, and when."""

    def __init__(
        self, policy: ShapingPolicy, clock: VirtualClock | None = None, state: ShaperState | None = None
    ) -> None:
        self.clock = clock or VirtualClock()
        self.left: list[tuple[int, bytes]] = []
        self.shaper = Shaper(policy, self.clock, self.leave, LARGEST, state)

    def leave(self, frame: bytes) -> None:
        self.left.append((self.clock.now_ns, frame))

    def wait(self, by_ns: int) -> None:
        end_ns = self.clock.now_ns + by_ns
        while self.clock.next_ns() <= end_ns:
            self.clock.skip_to_next()
            self.clock.run_due()
        self.clock.now_ns = end_ns

    def drain(self) -> None:
        while self.clock.skip_to_next():
            self.clock.run_due()


@settings(deadline=None)
@given(policies, arrivals)
def test_in_no_interval_does_more_leave_than_burst_and_average_allow_nor_faster_than_the_peak(
    policy: ShapingPolicy, frames: list[tuple[int, int]]
) -> None:
    line = Line(policy)
    sent = []
    for number, (gap_ns, size_bytes) in enumerate(frames):
        line.wait(gap_ns)
        frame = number.to_bytes(2, "big").ljust(size_bytes, b"\0")
        if line.shaper.offer(frame):
            sent.append(frame)
    line.drain()
    assert [frame for _, frame in line.left] == sent
    burst_bits = max(policy.burst_kb * 1024, LARGEST) * 8
    for first, (begin_ns, first_frame) in enumerate(line.left):
        bits = 0
        for at_ns, frame in line.left[first:]:
            bits += len(frame) * 8
            took_ns = at_ns - begin_ns
            assert bits * 1_000_000 <= burst_bits * 1_000_000 + policy.average_kbps * took_ns
            assert (bits - len(frame) * 8) * 1_000_000 <= policy.peak_kbps * took_ns
            assert first_frame is not None


@settings(deadline=None)
@given(policies, arrivals)
def test_a_shaper_is_not_slower_than_it_has_to_be(policy: ShapingPolicy, frames: list[tuple[int, int]]) -> None:
    """A frame that leaves late could not have left a nanosecond before: an exact fluid model says the same times."""
    line = Line(policy)
    arrived: list[tuple[int, int]] = []
    for gap_ns, size_bytes in frames:
        line.wait(gap_ns)
        if line.shaper.offer(bytes(size_bytes)):
            arrived.append((line.clock.now_ns, size_bytes))
    line.drain()
    full = max(policy.burst_kb * 1024, LARGEST) * 8 * 1_000_000
    bonus, now_ns, free_ns = full, 0, 0
    expected = []
    for at_ns, size_bytes in arrived:
        need = size_bytes * 8 * 1_000_000
        start_ns = max(at_ns, free_ns, now_ns)
        bonus, now_ns = min(full, bonus + policy.average_kbps * (start_ns - now_ns)), start_ns
        while bonus < need:
            wait_ns = (need - bonus + policy.average_kbps - 1) // policy.average_kbps
            bonus, now_ns = bonus + policy.average_kbps * wait_ns, now_ns + wait_ns
        bonus = min(full, bonus) - need
        free_ns = now_ns + (need + policy.peak_kbps - 1) // policy.peak_kbps
        expected.append(now_ns)
    assert [at for at, _ in line.left] == expected


def test_a_port_that_has_saved_up_its_bonus_sends_a_burst_at_the_peak_and_goes_on_at_the_average() -> None:
    line = Line(ShapingPolicy(enabled=True, average_kbps=8_000, peak_kbps=80_000, burst_kb=10))
    for _ in range(20):
        assert line.shaper.offer(bytes(1024))
    line.drain()
    gaps = [b - a for (a, _), (b, _) in pairwise(line.left)]
    assert gaps[:9] == [102_400] * 9
    assert gaps[-5:] == [1_024_000] * 5


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    line = Line(ShapingPolicy(enabled=True, average_kbps=1, peak_kbps=1, burst_kb=1))
    taken = [line.shaper.offer(bytes(100)) for _ in range(QUEUE_FRAMES + 10)]
    assert taken.count(False) == 9
    assert line.shaper.queued_bytes == QUEUE_FRAMES * 100
    line.drain()
    assert len(line.left) == QUEUE_FRAMES + 1
    assert line.shaper.queued_bytes == 0


@settings(deadline=None)
@given(policies, arrivals, st.integers(0, 60))
def test_a_shaper_that_is_saved_and_loaded_goes_on_as_if_nothing_had_been(
    policy: ShapingPolicy, frames: list[tuple[int, int]], cut: int
) -> None:
    whole, halves = Line(policy), Line(policy)
    for number, (gap_ns, size_bytes) in enumerate(frames):
        if number == cut:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(halves.shaper.state), type=ShaperState)
            halves.shaper.stop()
            again = Line(policy, halves.clock, state)
            again.left[:0] = halves.left
            halves = again
        for line in (whole, halves):
            line.wait(gap_ns)
            line.shaper.offer(bytes(size_bytes))
    whole.drain()
    halves.drain()
    assert halves.left == whole.left


def test_only_what_a_machine_sends_is_shaped_and_each_port_for_itself() -> None:
    slow = Overrides(shaping=ShapingOverride(enabled=True, average_kbps=8, peak_kbps=8, burst_kb=1))
    log = EventLog(keep=True)
    switch = new_switch(log)
    switch.add_port_group("slow", 0, slow)
    switch.add_port_group("fast", 0)
    first, second, fast = card(switch, "slow", 1), card(switch, "slow", 2), card(switch, "fast", 3)
    to_fast = frame_of(fast.address, first.address, 0x88B5, bytes(1486))
    for _ in range(3):
        first.send(to_fast)
        second.send(to_fast)
        fast.send(frame_of(first.address, fast.address, 0x88B5, bytes(1486)))
    assert (len(fast.frames), len(first.frames)) == (2, 3)
    assert [e.queued_bytes for e in log.of(FrameHeld)] == [1500, 1500, 3000, 3000]
    switch.set_port_group("slow", overrides=Overrides())
    assert len(fast.frames) == 6
    first.send(to_fast)
    assert len(fast.frames) == 7


def test_what_is_over_the_queue_is_dropped_and_counted() -> None:
    slow = Overrides(shaping=ShapingOverride(enabled=True, average_kbps=8, peak_kbps=8, burst_kb=1))
    switch = new_switch()
    switch.add_port_group("slow", 7, slow)
    a, b = card(switch, "slow", 1), card(switch, "slow", 2)
    for _ in range(QUEUE_FRAMES + 6):
        a.send(frame_of(b.address, a.address, 0x88B5, bytes(1486)))
    assert a.port.statistics.dropped == switch.vlans[7].dropped == {"queue full": 5}
    switch.disconnect(a.port)
    assert len(b.frames) == 1


def test_a_policy_that_changes_while_a_frame_is_let_go_neither_loses_nor_doubles_one() -> None:
    slow = ShapingOverride(enabled=True, average_kbps=8, peak_kbps=8, burst_kb=1)
    switch = new_switch()
    switch.add_port_group("slow", 0, Overrides(shaping=slow))
    a, b = card(switch, "slow", 1), card(switch, "slow", 2)
    frames = [frame_of(b.address, a.address, 0x88B5, bytes([n]) * 1486) for n in range(5)]
    for frame in frames:
        a.send(frame)
    receive = b.receive

    def change(frame: bytes) -> None:
        receive(frame)
        slower = msgspec.structs.replace(slow, average_kbps=8 - len(b.frames))
        switch.set_port_group("slow", overrides=Overrides(shaping=slower))

    a.port._owner.ports[b.port.number].deliver = change  # type: ignore[attr-defined]
    clock = switch._clock
    left: list[int] = []
    while clock.skip_to_next():
        clock.run_due()
        left.append(clock.now_ns)
    assert b.frames == frames
    gaps = [b - a for a, b in pairwise(left)]
    assert len(left) == 4
    assert gaps == sorted(set(gaps)), "each frame waits for the policy that holds then, and not for the one before"
