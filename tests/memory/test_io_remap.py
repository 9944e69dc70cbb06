"""I/O page remapping against a small machine that keeps the frames."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vilab.memory.io_remap import FIRST_HIGH_MPN, How, IoRemapper, Transmission, forget, transmit


class Machine:
    """Carries out what the policy says. All pages start high."""

    def __init__(self, state: IoRemapper) -> None:
        self.state = state
        self.low: set[int] = set()
        self.room = state.low_free_pages

    def send(self, ppn: int) -> Transmission:
        sent = transmit(self.state, ppn, ppn if ppn in self.low else FIRST_HIGH_MPN + ppn)
        if sent.move_high is not None:
            self.low.remove(sent.move_high)
        if sent.how is How.REMAPPED:
            assert ppn not in self.low
            self.low.add(ppn)
        assert len(self.low) <= self.room
        return sent


def test_a_page_is_copied_until_the_threshold_then_remapped_then_sent_directly() -> None:
    machine = Machine(IoRemapper(low_free_pages=10, threshold=3))
    how = [machine.send(5).how for _ in range(6)]
    assert how == [How.COPIED] * 3 + [How.REMAPPED] + [How.DIRECT] * 2


def test_a_ring_of_buffers_costs_orders_of_magnitude_fewer_copies() -> None:
    machine = Machine(IoRemapper(low_free_pages=100))
    for round_ in range(1000):
        for ppn in range(64):
            machine.send(ppn if round_ % 2 else 63 - ppn)
    assert machine.state.transmissions == 64_000
    assert machine.state.copied_pages == 4 * 64
    assert machine.state.remapped_pages == 64


def test_pages_sent_once_are_never_remapped() -> None:
    machine = Machine(IoRemapper(low_free_pages=100))
    assert {machine.send(ppn).how for ppn in range(10_000)} == {How.COPIED}
    assert len(machine.state.copies) == machine.state.cache_pages


def test_the_first_frame_above_4_gb_is_high_the_last_below_is_low() -> None:
    state = IoRemapper(low_free_pages=1, threshold=0)
    assert transmit(state, 1, FIRST_HIGH_MPN - 1).how is How.DIRECT
    assert transmit(state, 1, FIRST_HIGH_MPN).how is How.REMAPPED
    assert FIRST_HIGH_MPN << 12 == 1 << 32


def test_without_low_memory_hot_pages_stay_and_are_copied() -> None:
    machine = Machine(IoRemapper(low_free_pages=0))
    assert {machine.send(1).how for _ in range(100)} == {How.COPIED}


def test_under_pressure_the_page_unsent_longest_goes_high_and_no_warm_one() -> None:
    machine = Machine(IoRemapper(low_free_pages=2, threshold=1, cold_after=20))
    for ppn in (1, 2, 1, 2):
        machine.send(ppn)
    assert machine.low == {1, 2}
    sent = [machine.send(ppn) for _ in range(30) for ppn in (2, 3)]
    assert machine.low == {2, 3}
    assert [s.move_high for s in sent if s.how is How.REMAPPED] == [1]
    assert machine.state.moved_high_pages == 1
    sent = [machine.send(ppn) for _ in range(100) for ppn in (2, 3, 4)]
    assert machine.low == {2, 3}
    assert all(s.how is How.COPIED for s in sent[2::3])


def test_a_page_that_lost_its_frame_starts_anew_and_gives_its_room_back() -> None:
    machine = Machine(IoRemapper(low_free_pages=1, threshold=1))
    machine.send(1)
    assert machine.send(1).how is How.REMAPPED
    machine.low.remove(1)
    forget(machine.state, 1)
    assert [machine.send(1).how for _ in range(2)] == [How.COPIED, How.REMAPPED]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=200),
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(1, 8),
    st.integers(0, 30),
)
def test_what_the_state_counts_is_what_the_machine_has(
    steps: list[tuple[int, bool]], room: int, threshold: int, cache: int, cold_after: int
) -> None:
    machine = Machine(IoRemapper(room, threshold, cache, cold_after))
    seen = dict.fromkeys(How, 0)
    for ppn, lost in steps:
        if lost:
            machine.low.discard(ppn)
            forget(machine.state, ppn)
        else:
            seen[machine.send(ppn).how] += 1
    state = machine.state
    assert set(state.remapped) == machine.low
    assert state.low_free_pages == room - len(machine.low)
    assert not set(state.copies) & machine.low
    assert len(state.copies) <= cache
    assert (seen[How.COPIED], seen[How.REMAPPED]) == (state.copied_pages, state.remapped_pages)
    assert msgspec.json.decode(msgspec.json.encode(state), type=IoRemapper) == state
