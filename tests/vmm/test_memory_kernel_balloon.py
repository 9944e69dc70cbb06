"""The teaching kernel's balloon driver, and what the guest pays with."""

from __future__ import annotations

import pytest

from tests.vmm.memory_guest import KEPT_FREE_PAGES, SMALL_PAGES, FakeHost, Guest
from vilab.memory.balloon_protocol import Command, Status

WITH_MONITOR = ("bt", "svm")


def test_no_host_no_balloon() -> None:
    guest = Guest("init=memory")
    guest.run()
    assert guest.counters()["balloon_host"] == 0


@pytest.mark.parametrize("engine", WITH_MONITOR)
def test_balloon_takes_and_gives_page_for_page_what_the_host_wants(engine: str) -> None:
    host = FakeHost(target=300)
    guest = Guest("hz=19 init=memory 1", engine, host)
    for target in (300, 120, 500, 0):
        host.target = target
        guest.run_until(lambda: len(host.inside) == host.target)
        seen = guest.output.count("ticks_a_second")
        guest.run_until(lambda: guest.output.count("ticks_a_second") >= seen + 3)  # noqa: B023
        now = guest.counters()
        assert now["balloon_pages"] == now["balloon_target_pages"] == target
        assert now["balloon_host"] == 1
        assert len(host.inside) == target
    assert host.wrong == []
    assert host.guest_pages == SMALL_PAGES
    assert (host.calls[Command.START], host.calls[Command.GUEST_ID]) == (1, 1)


def test_it_asks_for_its_target_once_a_second() -> None:
    host = FakeHost()
    guest = Guest("init=memory 1", "svm", host)
    guest.run_until(lambda: guest.vm.clock.now_ns >= 10_500_000_000)
    assert host.calls[Command.GET_TARGET] in (9, 10)


def test_a_balloon_shrinks_the_cache_first_and_programs_last() -> None:
    host = FakeHost()
    guest = Guest("swap=300 init=together filecache 1000000 700 2 + checksum 300 0 4 50 + memory 1", "svm", host)
    guest.run_until(lambda: guest.output.count("ticks_a_second") >= 4)
    before = guest.counters()
    assert before["cached_pages"] > 250
    host.target = 200
    guest.run_until(lambda: len(host.inside) == 200)
    seen = guest.output.count("ticks_a_second")
    guest.run_until(lambda: guest.output.count("ticks_a_second") >= seen + 3)
    half = guest.counters()
    assert half["page_outs"] == 0
    assert half["cached_pages"] == pytest.approx(before["cached_pages"] - 200, abs=KEPT_FREE_PAGES)
    host.target = 550
    guest.run_until(lambda: len(host.inside) == 550, most_steps=2000)
    guest.run_until(lambda: guest.counters()["balloon_pages"] == 550)
    tight = guest.counters()
    assert tight["page_outs"] > 0
    assert "wrong" not in guest.output.replace("cache_wrong", "").replace("0 wrong", "")
    assert host.wrong == []


def test_a_target_above_what_the_guest_can_give_leaves_it_enough_to_go_on() -> None:
    host = FakeHost(target=SMALL_PAGES)
    guest = Guest("swap=40 hz=19 init=together checksum 100 8 10 19 + memory 1", "svm", host)
    output = guest.run()
    assert "checksum: round 8 ok\n" in output
    now = guest.counters()
    assert now["balloon_pages"] == len(host.inside) < SMALL_PAGES
    assert now["balloon_rate_pages"] == 16
    assert 0 < now["swapped_pages"] <= 40
    assert host.wrong == []


def test_locked_pages_never_go_to_the_disk() -> None:
    host = FakeHost(target=SMALL_PAGES)
    guest = Guest("hz=19 init=checksum 100 8 10 19 1 1 1", "svm", host)
    assert "checksum: round 8 ok\n" in guest.run()
    disk = guest.vm.pc.ramdisk
    assert disk is not None
    assert len(host.inside) > 400
    assert (disk.writes, disk.reads) == (0, 0)


def test_after_a_reset_it_gives_up_all_pages_and_starts_again() -> None:
    host = FakeHost(target=250)
    guest = Guest("hz=19 init=memory 1", "svm", host)
    guest.run_until(lambda: len(host.inside) == 250)
    host.reset = True
    guest.run_until(lambda: host.calls[Command.START] == 2 and len(host.inside) == 250)
    seen = guest.output.count("ticks_a_second")
    guest.run_until(lambda: guest.output.count("ticks_a_second") >= seen + 2)
    now = guest.counters()
    assert (now["balloon_pages"], now["balloon_resets"]) == (250, 1)
    assert host.calls[Command.UNLOCK] == 0
    assert host.wrong == []


@pytest.mark.parametrize(
    ("status", "counted"),
    [
        (Status.PPN_PINNED, 1),
        (Status.PPN_INVALID, 1),
        (Status.BUSY, 0),
        (Status.PPN_NOT_NEEDED, 0),
        (Status.RESET, 0),
        (Status.FAILED, 1),
    ],
)
def test_a_page_that_the_host_refuses_stays_the_guests(status: Status, counted: int) -> None:
    host = FakeHost(target=40)
    host.answers = [Status.OK, Status.OK, status]
    guest = Guest("hz=19 init=memory 1", "svm", host)
    guest.run_until(lambda: len(host.inside) == 40)
    seen = guest.output.count("ticks_a_second")
    guest.run_until(lambda: guest.output.count("ticks_a_second") >= seen + 2)
    now = guest.counters()
    assert (now["balloon_pages"], now["balloon_refusals"]) == (40, counted)
    assert len(host.refused) == 1
    assert host.wrong == []


def test_a_host_that_refuses_every_page_is_asked_less_and_less_and_no_page_is_lost() -> None:
    host = FakeHost(target=200)
    host.answers = [Status.PPN_PINNED] * 100
    guest = Guest("hz=19 init=memory 1", "svm", host)
    guest.run_until(lambda: guest.output.count("ticks_a_second") >= 1)
    free = guest.counters()["free_pages"]
    guest.run_until(lambda: len(host.inside) == 200)
    seen = guest.output.count("ticks_a_second")
    guest.run_until(lambda: guest.output.count("ticks_a_second") >= seen + 2)
    now = guest.counters()
    assert now["balloon_refusals"] == 100
    assert now["free_pages"] == free - 200
    assert host.wrong == []


def test_the_rate_doubles_while_it_costs_nothing() -> None:
    host = FakeHost(target=600)
    guest = Guest("hz=19 init=memory 1", "svm", host)
    sizes: list[int] = []

    def noted() -> bool:
        if not sizes or sizes[-1] != len(host.inside):
            sizes.append(len(host.inside))
        return len(host.inside) == 600

    guest.run_until(noted)
    assert sizes == [0, 256, 600]  # 256 in the first second, up to 512 in the next
