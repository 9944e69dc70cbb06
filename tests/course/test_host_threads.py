"""Hosts beside each other in one virtual time: in order, the same every time, and really dead when they are dead."""

from __future__ import annotations

import threading

import pytest

from vilab.clock import VirtualClock
from vilab.course.host_threads import HostThread, run
from vilab.errors import AdminError


def play(names: str = "ab", kill_b_at: int | None = None) -> list[tuple[int, str, int]]:
    clock, seen = VirtualClock(), list[tuple[int, str, int]]()

    def work(host: HostThread) -> None:
        for count in range(5):
            seen.append((clock.now_ns, host.name, count))
            host.wait(30 if host.name == "a" else 20)
            if kill_b_at is not None and host.name == "b" and clock.now_ns >= kill_b_at:
                host.die()

    hosts = [HostThread(name, clock, work) for name in names]
    run(clock, hosts)
    return seen


def test_whoever_is_due_next_moves() -> None:
    expected = [(30 * n, "a", n) for n in range(5)] + [(20 * n, "b", n) for n in range(5)]
    assert sorted(play()) == sorted(expected)
    assert [at for at, _, _ in play()] == sorted(at for at, _, _ in play())
    assert play() == play()


def test_a_host_without_power_does_nothing_more() -> None:
    seen = play(kill_b_at=40)
    assert [entry for entry in seen if entry[1] == "b"] == [(0, "b", 0), (20, "b", 1)]
    assert len([entry for entry in seen if entry[1] == "a"]) == 5


def test_power_is_lost_in_the_middle_of_what_is_being_done() -> None:
    clock, done = VirtualClock(), list[str]()

    def work(host: HostThread) -> None:
        host.fuse = 2
        try:
            for number in range(5):
                host.command(10)
                done.append(str(number))
        finally:
            try:
                host.command(10)  # giving something back: it does not get through
                done.append("given back")
            finally:
                done.append("end")

    host = HostThread("a", clock, work)
    run(clock, [host])
    assert done == ["0", "1", "end"]
    assert host.dead
    assert clock.now_ns == 20


def test_what_a_hosts_function_raises_is_raised_where_it_was_started() -> None:
    def work(host: HostThread) -> None:
        host.wait(5)
        raise AdminError("Nothing goes.")

    clock = VirtualClock()
    with pytest.raises(AdminError, match="Nothing goes"):
        run(clock, [HostThread("a", clock, work)])


def test_no_thread_is_left_over() -> None:
    before = threading.active_count()
    play()
    play(kill_b_at=40)
    assert threading.active_count() == before
