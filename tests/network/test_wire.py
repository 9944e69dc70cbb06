"""A physical link: exact times, a bounded queue, what is lost when it is pulled."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tests.network.ends import Listener, mac, number_of, numbered
from vilab.clock import VirtualClock
from vilab.network.physical_nic import PhysicalNic
from vilab.network.wire import Wire


def wire_with_ends(**more: int) -> tuple[VirtualClock, Wire, Listener, Listener]:
    clock = VirtualClock()
    wire = Wire(clock, **more)
    return clock, wire, Listener(wire.a, clock), Listener(wire.b, clock)


def test_a_gigabit_wire_takes_8_ns_for_each_octet_from_preamble_to_fcs() -> None:
    clock, wire, _, b = wire_with_ends(delay_ns=500)
    clock.run_to(10_000)
    wire.a.transmit(bytes(60))
    wire.a.transmit(bytes(1514))
    clock.run_to(100_000)
    first = 10_000 + (8 + 60 + 4) * 8
    assert [at for at, _ in b.got] == [first + 500, first + 12 * 8 + (8 + 1514 + 4) * 8 + 500]


def test_a_short_frame_is_padded_to_what_a_wire_needs() -> None:
    clock, wire, _, b = wire_with_ends()
    wire.a.transmit(b"\xff" * 20)
    clock.run_to(1_000_000)
    assert b.frames == [(b"\xff" * 20).ljust(60, b"\0")]
    assert b.got[0][0] == 576 + 500


def test_the_two_directions_do_not_wait_for_each_other() -> None:
    clock, wire, a, b = wire_with_ends()
    wire.a.transmit(bytes(1514))
    wire.b.transmit(bytes(1514))
    clock.run_to(1_000_000)
    assert a.got == b.got


def test_a_full_queue_drops_the_newest() -> None:
    clock, wire, _, b = wire_with_ends(queue_frames=3)
    for number in range(10):
        wire.a.transmit(numbered(number, mac(2), mac(1)))
    clock.run_to(1_000_000)
    assert [number_of(frame) for frame in b.frames] == [0, 1, 2, 3], "one is being sent, three wait"
    assert wire.a.statistics.dropped == 6


def test_pulling_the_cable_loses_what_is_under_way_and_both_ends_notice() -> None:
    clock, wire, a, b = wire_with_ends()
    for number in range(3):
        wire.a.transmit(numbered(number, mac(2), mac(1)))
    clock.run_to(576 + 500)
    wire.pull()
    assert not wire.link_up
    wire.a.transmit(numbered(3, mac(2), mac(1)))
    clock.run_for(1_000_000)
    wire.plug_in()
    wire.a.transmit(numbered(4, mac(2), mac(1)))
    clock.run_for(1_000_000)
    assert [number_of(frame) for frame in b.frames] == [0, 4]
    assert (a.link, b.link) == ([False, True], [False, True])
    assert wire.a.statistics.lost == 3


def test_one_end_that_is_off_takes_the_link_from_both() -> None:
    _, wire, a, b = wire_with_ends()
    wire.b.link_changed(False)
    wire.pull()
    wire.plug_in()
    assert not wire.link_up
    assert (a.link, b.link) == ([False], [False])
    wire.b.link_changed(True)
    assert (a.link, b.link) == ([False, True], [False, True])


@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(14, 9018)), min_size=1, max_size=30),
    st.sampled_from([10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000]),
)
def test_frames_arrive_when_a_simulation_in_bit_times_says(sends: list[tuple[int, int]], speed: int) -> None:
    """Judge: exact fractions, one slot after the other. The wire may be late by what it rounds up, frame by frame."""
    clock, wire, _, b = wire_with_ends(bits_per_second=speed, queue_frames=1000)
    expected: list[Fraction] = []
    free, at_ns = Fraction(0), 0
    for pause, size in sends:
        at_ns += pause
        clock.run_to(at_ns)
        wire.a.transmit(bytes(size))
        start = max(free, Fraction(at_ns))
        bit = Fraction(1_000_000_000, speed)
        expected.append(start + (max(size, 60) + 12) * 8 * bit + 500)
        free = start + (max(size, 60) + 24) * 8 * bit
    clock.run_to(10_000_000_000)
    for number, ((got, _), exact) in enumerate(zip(b.got, expected, strict=True), start=1):
        assert 0 <= got - exact < number
    if speed <= 1_000_000_000:
        assert [at for at, _ in b.got] == expected


@given(st.lists(st.integers(0, 2_000), max_size=20), st.integers(0, 30_000))
def test_a_saved_wire_goes_on_as_if_nothing_had_been(pauses: list[int], cut_ns: int) -> None:
    def run(cut: bool) -> list[tuple[int, bytes]]:
        clock, wire, _, b = wire_with_ends()
        sends = [(sum(pauses[: n + 1]), numbered(n, mac(2), mac(1), 60 + 50 * n)) for n in range(len(pauses))]
        for at_ns, frame in [*(s for s in sends if s[0] <= cut_ns), (cut_ns, b"")]:
            clock.run_to(at_ns)
            if frame:
                wire.a.transmit(frame)
        if cut:
            other_clock = VirtualClock()
            other_clock.now_ns = clock.now_ns
            other = Wire(other_clock)
            end = Listener(other.b, other_clock)
            end.got = b.got
            other.load_state(wire.save_state())
            clock, wire, b = other_clock, other, end
        for at_ns, frame in (s for s in sends if s[0] > cut_ns):
            clock.run_to(at_ns)
            wire.a.transmit(frame)
        clock.run_for(1_000_000)
        return b.got

    assert run(cut=True) == run(cut=False)


def test_a_card_of_the_host_counts_and_tells_of_its_link() -> None:
    clock = VirtualClock()
    wire = Wire(clock)
    nic, far = PhysicalNic("vmnic0", mac(1), wire.a, clock), Listener(wire.b, clock)
    links: list[bool] = []
    got: list[bytes] = []
    nic.on_link, nic.on_receive = links.append, got.append
    nic.transmit(numbered(1, mac(2), mac(1)))
    far.port.transmit(numbered(2, mac(9), mac(2)))
    clock.run_for(10_000)
    wire.pull()
    nic.transmit(numbered(3, mac(2), mac(1)))
    assert [number_of(f) for f in far.frames] == [1]
    assert [number_of(f) for f in got] == [2], "not for its own address, and received all the same"
    assert links == [False]
    statistics = nic.statistics
    assert (statistics.frames_out, statistics.frames_in, statistics.no_link, statistics.link_changes) == (1, 1, 1, 1)
    twin = PhysicalNic("vmnic0", mac(1), Wire(clock).a, clock)
    twin.load_state(nic.save_state())
    assert (twin.link_up, twin.statistics) == (False, statistics)
