"""The runs of lessons 10 and 11: what the guests say agrees with the host, and figures 2 and 7 have their shape."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vilab.course import figure_2, reclaim_runs, tax_runs
from vilab.course.reclaim_runs import CRAMPED, FINISHED, WORKING, blocks, counters, pressed, source, touch_ballooned
from vilab.errors import AdminError
from vilab.memory.memory_events import BalloonReset
from vilab.view.memory_track import MemoryTrack

COUNTERS = ("free_pages", "page_outs", "page_ins", "balloon_pages", "balloon_resets")


@pytest.fixture(scope="module")
def run() -> Iterator[MemoryTrack]:
    made = pressed({"vm1": WORKING, "vm2": FINISHED})
    made.run(20)
    yield made
    made.host.close()


def test_the_guest_that_works_pages_and_the_one_that_has_finished_does_not(run: MemoryTrack) -> None:
    working, finished = (counters(run.host.vms[name]) for name in ("vm1", "vm2"))
    assert working["page_outs"] > 200
    assert finished["page_outs"] == 0
    assert finished["balloon_pages"] > 300
    assert sum(vm.swapped_out for vm in run.newest.vms) == 0
    run.host.memory.check()


def test_both_ends_of_a_balloon_count_the_same(run: MemoryTrack) -> None:
    ends = {vm.name: vm.ballooned for vm in run.frames[-2].vms}
    printed = blocks(run.host.vms["vm2"])[-1]
    assert printed["balloon_pages"] == pytest.approx(ends["vm2"], abs=50)
    assert set(COUNTERS) <= set(printed)
    assert len(printed) == reclaim_runs.COUNTERS


def test_a_balloon_pops_when_one_of_its_pages_is_touched() -> None:
    track = pressed({"vm1": WORKING, "vm2": FINISHED})
    track.run(9)
    inside = track.newest.vms[1].ballooned
    assert inside > 100
    touch_ballooned(track, "vm2")
    assert track.host.vms["vm2"].client.balloon.state.reset_wanted
    track.run(2)
    resets = [event for frame in track.frames for event in frame.events if isinstance(event, BalloonReset)]
    assert [event.released_pages for event in resets if event.vm == track.host.vms["vm2"].id][-1] >= inside - 1
    assert not track.host.vms["vm2"].client.balloon.state.reset_wanted
    track.run(3)
    assert track.newest.vms[1].ballooned > 100
    with pytest.raises(AdminError, match="no page in its balloon"):
        touch_ballooned(pressed({"vm1": WORKING}), "vm1")
    track.host.close()


def test_a_cramped_guest_is_paged_twice_only_where_the_host_pages_it() -> None:
    found = {}
    for ballooning in (True, False):
        track = pressed({"vm1": CRAMPED, "vm2": FINISHED}, ballooning=ballooning)
        track.run(14)
        found[ballooning] = track.newest.vms[0].double_paged
        track.host.close()
    assert found[True] == 0
    assert found[False] > 5


def test_the_source_that_is_shown_is_the_drivers() -> None:
    assert source("balloon.c", "take_page").startswith("/* One page.")
    assert source("balloon.c", "inflate").endswith("}")
    with pytest.raises(AdminError, match="no function burst"):
        source("balloon.c", "burst")


def test_figure_2_a_balloon_costs_a_little_and_less_where_less_is_ballooned() -> None:
    much, little = figure_2.overhead_percent(4), figure_2.overhead_percent(6)
    assert 0 < much < 6
    assert 0 <= little < much
    for size_mb in (4, 6):
        small, ballooned = figure_2.timed(size_mb, "configured"), figure_2.timed(size_mb, "ballooned")
        assert ballooned.ballooned_pages == (figure_2.FULL_MB - size_mb) * 256
        assert ballooned.misses >= small.misses
        assert ballooned.held_pages == pytest.approx(small.held_pages, abs=2)
    assert figure_2.overhead_percent(4, "paged") > 3 * much


def test_figure_7_the_idle_guest_gives_and_the_busy_one_works_more() -> None:
    track = tax_runs.idle_and_busy()
    track.run(tax_runs.TAX_AT - 1)
    before = track.newest
    assert before.vms[0].target == pytest.approx(before.vms[1].target, abs=2)
    track.run(12)
    idle, busy = track.newest.vms
    part = idle.target / (idle.target + busy.target)
    assert part == pytest.approx(101 / 342, abs=0.06)  # as in the paper, within 2 of 32 MB
    assert idle.charged < before.vms[0].charged - 500
    assert busy.charged > before.vms[1].charged + 250
    told = tax_runs.rounds_text(track, "vm2", tax_runs.TAX_AT)
    assert int(told.rpartition("+")[2].split()[0]) > 20
    track.host.close()


def test_refusals_name_what_is_short() -> None:
    said = tax_runs.refusals().splitlines()
    assert said[0].startswith("db is on")
    assert "web cannot be powered on: its reservation of 24 MB" in said[1]
    assert "mail cannot be powered on: its swap file needs 48 MB on datastore swap1, where 32 MB are free" in said[2]
    assert "at most the limit" in said[3]
