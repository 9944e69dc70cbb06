"""Machine memory as a picture: kinds of frames, squares, words, bars, and what a player does with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view.memory_samples import SECOND_NS, million_pages, two_guests
from vilab.errors import AdminError
from vilab.memory.client import MB_PAGES
from vilab.memory.page_state import FrameUse
from vilab.view import memory_grid, memory_says
from vilab.view.memory_bars import parts_of
from vilab.view.memory_grid import MOST_PAGES, OTHER, Kind, kinds, opened, shape, stacks, totals
from vilab.view.memory_grid_track import GridPlayback, GridTrack
from vilab.view.memory_track import MemoryTrack


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryTrack]:
    made = MemoryTrack(two_guests(), SECOND_NS // 2)
    made.run(6)
    yield made
    made.host.close()


@pytest.fixture
def track(memory: MemoryTrack) -> GridTrack:
    memory.seek(6)
    return GridTrack(memory, "Who has what?", 8)


def test_every_frame_has_the_kind_that_the_frame_table_says(memory: MemoryTrack) -> None:
    frame, table = memory.newest, memory.host.memory.frames
    found = kinds(frame)
    for mpn, kind in enumerate(found.tolist()):
        use, owner = FrameUse(table.use[mpn]), int(table.owner[mpn])
        if use is FrameUse.SHARED:
            assert kind == (Kind.ZERO if mpn == frame.zero_frame else Kind.SHARED)
        elif use is FrameUse.OVERHEAD:
            assert kind == (Kind.MONITOR if owner else Kind.VMKERNEL)
        else:
            assert kind == {FrameUse.FREE: Kind.FREE, FrameUse.PRIVATE: Kind.PRIVATE}[use]
    assert totals(found)[Kind.FREE] == frame.free_pages
    assert totals(found)[Kind.PRIVATE] == sum(vm.private for vm in frame.vms)


def test_one_machines_frames_are_its_own_its_monitor_and_what_it_shares(memory: MemoryTrack) -> None:
    frame, pmap = memory.newest, memory.host.vms["vm2"].client.pmap
    mine = set(np.flatnonzero(kinds(frame, "vm2") < OTHER).tolist())
    overhead = set(memory.host.vms["vm2"].client.overhead)
    assert mine == {mpn for mpn in pmap.mpn_of if mpn >= 0} | overhead


def test_stacks_count_every_page_once(memory: MemoryTrack) -> None:
    for only in ("", "vm1"):
        found = kinds(memory.newest, only)
        counts = stacks(found)
        assert counts.sum(axis=1).tolist() == [MB_PAGES] * (len(found) // MB_PAGES)
        assert counts[:, Kind.PRIVATE].sum() == np.count_nonzero(found == Kind.PRIVATE)
        assert counts[:, len(Kind)].sum() == np.count_nonzero(found & OTHER)


@given(st.integers(1, 4096))
def test_squares_fit_and_are_as_many_as_megabytes(megabytes: int) -> None:
    form = shape(megabytes * MB_PAGES, 408, 306)
    assert form.squares == megabytes
    assert form.columns * form.pitch <= 408
    assert form.rows * form.pitch <= 306
    assert (form.rows - 1) * form.columns < megabytes <= form.rows * form.columns
    assert not form.with_pages or megabytes * MB_PAGES <= MOST_PAGES


def test_each_page_of_a_square_says_whose_it_is(memory: MemoryTrack) -> None:
    frame, table = memory.newest, memory.host.memory.frames
    names = {vm.vm_id: vm.name for vm in frame.vms}
    said = set()
    for square in range(frame.machine_pages // MB_PAGES):
        found = opened(frame, square, kinds(frame))
        assert len(found.words) == len(found.kinds) == MB_PAGES
        for at, words in enumerate(found.words):
            mpn = square * MB_PAGES + at
            said.add(Kind(found.kinds[at]))
            assert words.startswith(f"Frame {mpn:05x}: ")
            if table.use[mpn] == FrameUse.PRIVATE:
                assert words.endswith(f"page {table.who[mpn]:05x} of {names[int(table.owner[mpn])]}, private.")
            elif table.use[mpn] == FrameUse.SHARED:
                assert f"shared by {table.who[mpn]} page" in words
    assert {Kind.FREE, Kind.PRIVATE, Kind.SHARED, Kind.ZERO, Kind.MONITOR} <= said


def test_a_bar_holds_every_page_that_was_touched(memory: MemoryTrack) -> None:
    for frame in memory.frames:
        for vm in frame.vms:
            assert sum(parts_of(vm)) == vm.pages - vm.untouched


def test_the_words_have_the_numbers_of_the_frame(memory: MemoryTrack, track: GridTrack) -> None:
    frame = memory.frames[1]
    touched = memory_says.touched_since(frame, memory.frames[0])
    assert f"{touched:,} pages touched for the first time" in track.describe(1)
    assert f"{memory_grid.in_mb(frame.free_pages)} of 40 MB are free" in track.describe(1)
    assert track.describe(0).endswith("Nothing has run yet in this picture.")


@pytest.mark.parametrize(
    ("pages", "words"), [(0, "0"), (1, "<0.01"), (5, "0.02"), (256, "1"), (300, "1.2"), (99_999, "391")]
)
def test_sizes_have_no_more_digits_than_they_need(pages: int, words: str) -> None:
    assert memory_grid.in_mb(pages) == words


def test_a_player_steps_opens_squares_and_shows_one_machine(track: GridTrack) -> None:
    playback = GridPlayback(track, position=6)
    playback.handle({"do": "back"})
    assert track.memory.position == playback.position == 5
    playback.handle({"do": "zoom", "square": 3, "cursor": 17})
    grid = playback.frame()["stage"]["grid"]
    assert (grid["open"]["square"], grid["cursor"], len(grid["open"]["words"])) == (3, 17, MB_PAGES)
    playback.handle({"do": "open", "row": 1})
    assert playback.frame()["stage"]["grid"]["only"] == "vm2"
    playback.handle({"do": "open", "row": 1})
    playback.handle({"do": "zoom", "square": -1})
    grid = playback.frame()["stage"]["grid"]
    assert (grid["open"], grid["cursor"], grid["only"]) == (None, 3, "")


def test_a_square_that_is_not_there_is_a_sentence(track: GridTrack) -> None:
    with pytest.raises(AdminError, match="40 MB of memory; there is no square 41"):
        track.zoom(40)
    playback = GridPlayback(track, position=6)
    playback.handle({"do": "zoom", "square": 40})
    assert "no square 41" in playback.describe()


def test_a_frame_that_is_pointed_at_is_the_one_that_is_open(track: GridTrack) -> None:
    mpn = track.memory.frame.zero_frame
    track.point(mpn)
    grid = track.grid()
    assert grid["open"]["words"][grid["cursor"]].startswith(f"Frame {mpn:05x}: all zeros, shared by")


def test_a_million_pages_are_some_kilobytes_a_frame() -> None:
    track = GridTrack(million_pages(), "4 GiB", 1)
    track.zoom(100)
    grid = track.grid()
    assert grid["squares"] == 4096
    assert grid["pages"] is None
    assert len(grid["stacks"]) == 4096 * 7 * 2
    assert len(grid["open"]["kinds"]) == MB_PAGES


def test_the_still_picture_has_the_grid_and_the_words(track: GridTrack) -> None:
    from vilab.view import still

    picture = still.svg(track.still(6))
    assert "private " in picture
    assert picture.count("<path") > 4
    assert "var(--vl-guest-fill)" in picture


def test_the_panels_count_what_the_frame_counts(track: GridTrack) -> None:
    track.show = ("sharing", "table", "log")
    sharing, table, log = track.picture(6).panels
    counts = track.memory.frames[6].sharing
    assert {row.cells[0].text: row.cells[2].text for row in sharing.rows}["frames saved"] == f"{counts.saved_frames:,}"
    assert [row.cells[0].text for row in table.rows] == ["vm1", "vm2"]
    assert any("pages shared" in row.cells[3].text for row in log.rows)


def test_the_next_like_this_is_a_recorded_one(track: GridTrack) -> None:
    assert track.next_like(6, 1) is None
    at = track.next_like(6, -1)
    assert at is not None
    assert memory_says.glyph_of(track.memory.frames[at]) == memory_says.glyph_of(track.memory.frames[6])
