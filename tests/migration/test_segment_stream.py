"""A stream in segments over a network that loses, repeats and cuts: the same bytes come out, in order, once."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.migration.segment_stream import (
    FIRST_SEGMENTS,
    MOST_TRIES,
    SEGMENT_BYTES,
    TIMEOUT_NS,
    WINDOW_BYTES,
    WORD,
    Segment,
    SegmentStream,
    near,
)

HOP_NS = 1_000_000


class Joined:
    """Two ends, a hop of 1 ms either way. ``loses`` is asked for each segment that leaves."""

    def __init__(self, window_bytes: int = WINDOW_BYTES, loss: float = 0.0, seed: int = 0) -> None:
        self.ends = SegmentStream(window_bytes), SegmentStream(window_bytes)
        self.got = bytearray(), bytearray()
        self.under_way: tuple[deque[tuple[int, Segment]], ...] = deque(), deque()
        self.random, self.loss = Random(seed), loss
        self.now_ns = 0
        self.sent: list[Segment] = []
        self.most_in_flight = 0

    def loses(self, _segment: Segment) -> bool:
        return self.random.random() < self.loss

    def go_on(self, side: int) -> None:
        for each in self.ends[side].output(self.now_ns):
            self.sent.append(each)
            if not self.loses(each):
                self.under_way[side].append((self.now_ns + HOP_NS, each))
        self.most_in_flight = max(self.most_in_flight, self.ends[side].in_flight_bytes)

    def step(self) -> bool:
        """To whatever is next; false: nothing will ever happen."""
        due = [(line[0][0], 0, side) for side, line in enumerate(self.under_way) if line]
        due += [(end.due_ns, 1, side) for side, end in enumerate(self.ends) if end.due_ns is not None]
        if not due:
            return False
        self.now_ns, late, side = min(due)
        if late:
            self.ends[side].late(self.now_ns)
        else:
            segment = self.under_way[side].popleft()[1]
            side = 1 - side
            self.got[side].extend(self.ends[side].received(segment, self.now_ns))
        self.go_on(side)
        return True

    def run(self) -> None:
        for side in (0, 1):
            self.go_on(side)
        for _ in range(100_000):
            if not self.step():
                return
        raise AssertionError("It does not come to an end.")


def text(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


@given(
    sizes=st.lists(st.integers(0, 40_000), max_size=8), back=st.integers(0, 9000), loss=st.sampled_from([0, 0.01, 0.1]),
    seed=st.integers(0, 1 << 16), window=st.sampled_from([1, 4 * SEGMENT_BYTES, WINDOW_BYTES, 1 << 20]),
)  # fmt: skip
def test_bytes_are_conserved_and_in_order_whatever_is_lost(
    sizes: list[int], back: int, loss: float, seed: int, window: int
) -> None:
    joined = Joined(window, loss, seed)
    parts = [text(size, number) for number, size in enumerate(sizes)]
    joined.ends[0].send(parts)
    joined.ends[1].send([text(back)])
    for end in joined.ends:
        end.end()
    joined.run()
    whole = [b"".join(parts), text(back)]
    dead = [end.dead for end in joined.ends]
    for side in (0, 1):
        got = bytes(joined.got[1 - side])
        assert whole[side].startswith(got)
        assert len(got) == len(whole[side]) or dead[side]
        assert joined.ends[side].all_acknowledged or dead[side]
    if loss < 0.1:
        assert not any(dead)
        assert all(end.heard_end for end in joined.ends)
    assert joined.most_in_flight <= max(window, SEGMENT_BYTES) + 1
    if not loss:
        assert joined.ends[0].again == joined.ends[1].again == 0


def test_one_segment_that_is_missing_is_sent_again_before_the_time_is_up() -> None:
    joined = Joined()
    missing = iter([False] * 5 + [True])
    joined.loses = lambda segment: bool(segment.data) and next(missing, False)  # type: ignore[method-assign]
    joined.ends[0].send([text(60_000)])
    joined.run()
    assert joined.got[1] == text(60_000)
    assert joined.now_ns < TIMEOUT_NS // 2
    assert 1 <= joined.ends[0].again <= -(-60_000 // SEGMENT_BYTES)


def test_the_last_one_is_missing_and_only_time_tells() -> None:
    joined = Joined()
    count = -(-9000 // SEGMENT_BYTES)
    missing = iter([False] * (count - 1) + [True])
    joined.loses = lambda segment: bool(segment.data) and next(missing, False)  # type: ignore[method-assign]
    joined.ends[0].send([text(9000)])
    joined.run()
    assert joined.got[1] == text(9000)
    assert joined.now_ns >= TIMEOUT_NS
    assert joined.ends[0].again in (1, 2)


def test_after_a_loss_less_is_in_flight_and_after_a_while_as_much_as_before() -> None:
    joined = Joined()
    missing = iter([False] * 100 + [True])
    joined.loses = lambda segment: bool(segment.data) and next(missing, False)  # type: ignore[method-assign]
    joined.ends[0].send([text(8_000_000)])
    joined.go_on(0)
    assert joined.ends[0].in_flight_bytes == FIRST_SEGMENTS * SEGMENT_BYTES
    while not joined.ends[0].again:
        joined.step()
    before = joined.most_in_flight
    assert before > WINDOW_BYTES - SEGMENT_BYTES
    for _ in range(200):
        joined.step()
    assert joined.ends[0].in_flight_bytes < before * 3 // 4
    while joined.ends[0].waiting_bytes:
        joined.step()
    assert joined.ends[0].in_flight_bytes > before * 9 // 10


def test_who_hears_nothing_gives_up_and_sends_nothing_more() -> None:
    joined = Joined(loss=1.0)
    end = joined.ends[0]
    end.send([b"anybody?"])
    joined.run()
    assert end.dead
    assert len(joined.sent) == 1 + MOST_TRIES
    assert 5_000_000_000 < joined.now_ns < 15_000_000_000
    end.send([b"more"])
    assert end.output(joined.now_ns) == []


def test_every_second_segment_is_answered_and_the_last_of_a_burst() -> None:
    joined = Joined()
    joined.ends[0].send([text(5 * SEGMENT_BYTES)])
    joined.run()
    assert [each.acknowledgement // SEGMENT_BYTES for each in joined.sent if not each.data] == [2, 3, 5]


def test_what_is_older_or_of_another_stream_changes_nothing() -> None:
    end = SegmentStream()
    end.send([b"x" * 3000])
    end.output(0)
    for wrong in (Segment(0, 4000), Segment(0, -1), Segment(5000, 0, b"later"), Segment(-3, 0, b"old")):
        assert end.received(wrong, 1) == b""
    assert (end.acknowledged, end.expected, end.in_flight_bytes) == (0, 0, 3000)


@given(st.integers(0, 1 << 40), st.integers(-(1 << 30), 1 << 30))
def test_32_bits_of_a_header_are_enough(about: int, off: int) -> None:
    assert near((about + off) % WORD, about) == about + off


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_its_owner_may_change_is_copied(kind: type) -> None:
    owned = bytearray(b"as it was")
    end = SegmentStream()
    assert end.send([kind(owned), b""]) == 9
    owned[:2] = b"??"
    assert b"".join(each.data for each in end.output(0)) == b"as it was"
