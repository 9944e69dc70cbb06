"""Virtual time that is let pass: every call at its own moment."""

from __future__ import annotations

from vilab.clock import VirtualClock


def test_each_call_is_made_at_its_own_moment_and_the_clock_ends_where_it_should() -> None:
    clock, seen = VirtualClock(), list[tuple[int, int]]()
    for number, at_ns in enumerate((5, 3, 3, 9, 10)):
        clock.at(at_ns, lambda number=number: seen.append((clock.now_ns, number)))  # type: ignore[misc]
    clock.run_to(9)
    assert (seen, clock.now_ns) == ([(3, 1), (3, 2), (5, 0), (9, 3)], 9)
    clock.run_for(100)
    assert (seen[-1], clock.now_ns) == ((10, 4), 109)


def test_what_a_call_asks_for_on_the_way_is_made_too_and_what_was_withdrawn_is_not() -> None:
    clock, seen = VirtualClock(), list[int]()

    def again() -> None:
        seen.append(clock.now_ns)
        clock.at(clock.now_ns + 4, again)

    clock.at(2, again)
    clock.at(7, lambda: seen.append(-1)).cancel()
    clock.run_to(12)
    assert (seen, clock.now_ns) == ([2, 6, 10], 12)
