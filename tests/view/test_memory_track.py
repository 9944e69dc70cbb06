"""A host's memory, step by step: what is recorded stays, time goes on at the newest moment only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view.memory_samples import SECOND_NS, two_guests
from vilab.course import memory_runs as runs
from vilab.errors import AdminError
from vilab.memory.memory_events import PageShared
from vilab.memory.page_state import FrameUse, PageState
from vilab.view.memory_frame import Packed, curve
from vilab.view.memory_track import MemoryTrack


@pytest.fixture
def track() -> Iterator[MemoryTrack]:
    made = MemoryTrack(two_guests(), SECOND_NS // 2)
    yield made
    made.host.memory.check()
    made.host.close()


@given(st.lists(st.integers(0, 255), max_size=300))
def test_an_array_comes_out_as_it_went_in(values: list[int]) -> None:
    array = np.array(values, np.uint16)
    found = Packed.of(array).array()
    assert found.dtype == array.dtype
    assert found.tolist() == values


def test_a_step_lets_time_pass_and_records_what_the_host_has(track: MemoryTrack) -> None:
    for number in (1, 2, 3):
        frame = track.step()
        memory = track.host.memory
        assert (frame.number, frame.at_ns) == (number, number * SECOND_NS // 2)
        assert frame.free_pages == memory.free_pages == int((frame.use.array() == FrameUse.FREE).sum())
        assert frame.sharing == memory.sharing.counts()
        for vm in frame.vms:
            client = memory.clients[vm.vm_id]
            assert sum(vm.counts) == vm.pages == client.pmap.pages
            assert vm.states.array().tolist() == client.pmap.states.tolist()
            assert vm.charged == memory.charged_pages(client)
    assert any(isinstance(event, PageShared) for event in track.frame.events)


def test_back_shows_what_was_recorded_and_the_host_stays(track: MemoryTrack) -> None:
    track.run(3)
    recorded, now = track.frames[1], track.host.now_ns
    track.back()
    assert track.back() is recorded
    assert track.host.now_ns == now
    assert track.step() is track.frames[2]
    assert track.seek(99) is track.newest
    assert track.seek(-1) is track.frames[0]


def test_who_acts_in_the_past_acts_now_and_is_told(track: MemoryTrack) -> None:
    track.run(3)
    assert track.set_tax(0.5) == ""
    track.seek(1)
    assert "1 s ago" in track.set_tax(0.25)
    assert track.at_newest
    assert track.step().actions == ("idle tax 75% → 50%", "idle tax 50% → 25%")
    assert track.frame.tax == 0.25
    assert track.notice == ""


def test_peeking_records_the_next_step_and_does_not_show_it(track: MemoryTrack) -> None:
    track.step()
    next_one = track.peek()
    assert track.position == 1
    assert track.peek() is next_one is track.step()


def test_pressure_takes_free_pages_and_gives_them_back(track: MemoryTrack) -> None:
    before = track.run(2)
    track.set_pressure(1000)
    frame = track.step()
    assert frame.pressure_pages == 1000
    assert frame.total_pages == before.total_pages - 1000
    track.host.memory.check()
    track.set_pressure(0)
    assert track.step().total_pages == before.total_pages
    assert track.frame.pressure_pages == 0


def test_more_pressure_than_there_are_pages_takes_what_it_can(track: MemoryTrack) -> None:
    track.run(2)
    track.set_pressure(100_000)
    frame = track.step()
    assert 0 < frame.pressure_pages < 100_000
    assert frame.free_pages < 1000
    track.host.memory.check()


def test_shares_power_and_clones_are_actions(track: MemoryTrack) -> None:
    track.step()
    track.set_shares("vm1", "high")
    track.clone("vm1", "vm3")
    track.power_off("vm2")
    frame = track.step()
    assert [vm.name for vm in frame.vms] == ["vm1", "vm3"]
    assert frame.vm("vm1") is not None
    assert frame.vm("vm1").config.shares == "high"  # type: ignore[union-attr]
    assert frame.vm("vm2") is None


def test_what_is_refused_changes_nothing(track: MemoryTrack) -> None:
    track.step()
    with pytest.raises(AdminError, match="There is no virtual machine vm9"):
        track.power_off("vm9")
    with pytest.raises(AdminError, match="Memory shares cannot be"):
        track.set_shares("vm1", "huge")
    assert track.step().actions == ()


def test_a_plan_acts_at_its_step_and_a_refusal_does_not_end_the_run() -> None:
    plan = {2: runs.on(8, "vm1"), 3: lambda track: track.power_off("vm9")}
    track = MemoryTrack(runs.new_host(24), SECOND_NS // 4, plan)
    seen: list[int] = []
    track.listen(lambda: seen.append(track.position))
    track.run(4)
    assert [len(frame.vms) for frame in track.frames] == [0, 0, 1, 1, 1]
    assert track.frames[2].actions == ("vm1 on",)
    assert "There is no virtual machine vm9" in track.frames[3].actions[0]
    assert seen == [4]
    assert track.notice == ""


def test_sharers_of_a_frame_are_those_whose_pmap_leads_there(track: MemoryTrack) -> None:
    frame = track.run(4)
    for mpn in np.flatnonzero(frame.use.array() == FrameUse.SHARED)[:20].tolist():
        found = frame.sharers(mpn)
        assert len(found) == frame.who.array()[mpn]
        for name, ppn in found:
            pmap = track.host.vms[name].client.pmap
            assert pmap.mpn_of[ppn] == mpn
            assert pmap.state_of(ppn) is PageState.SHARED


def test_the_same_run_twice_is_the_same() -> None:
    def once() -> list[object]:
        track = MemoryTrack(two_guests(), SECOND_NS // 2)
        track.run(4)
        return [(frame.events, frame.use, frame.owner, frame.who, frame.vms) for frame in track.frames]

    assert once() == once()


def test_a_curve_is_seconds_and_values(track: MemoryTrack) -> None:
    track.run(2)
    seconds, free = curve(track.frames, lambda frame: frame.free_pages)
    assert seconds == [0, 0.5, 1.0]
    assert free == [frame.free_pages for frame in track.frames]
