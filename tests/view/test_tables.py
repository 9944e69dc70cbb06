"""The picture of page tables: what stands beside what, what a step has changed, and what is said of it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import lru_cache

import pytest

from vilab.course.paging_runs import PAGE_A, PAGE_B, tour
from vilab.course.runs import run_typed
from vilab.view import tables
from vilab.view.playback import Playback
from vilab.view.tables_track import TablesTrack
from vilab.vmm import translation_path as tp

QUESTION = "Who knows that the guest has changed its page tables?"
MAPS, LOADS, STORES, EDITS, USES_AGAIN, FLUSHES, SWITCHES, COW, BACK = 2, 5, 6, 9, 11, 13, 27, 30, 40
"""Steps of the tour."""


@lru_cache
def track(way: str) -> TablesTrack:
    return TablesTrack(tour(way), QUESTION, gva=PAGE_A)


def relation(way: str, position: int, gva: int) -> str:
    slot = track(way).scene(position).moment.at(gva)
    assert slot is not None
    return slot.relation


def test_a_page_that_nobody_has_used_has_no_shadow_entry_yet() -> None:
    assert relation("all", LOADS - 1, PAGE_A) == tables.NOT_YET
    assert relation("all", LOADS, PAGE_A) == tables.CLEAN
    assert relation("all", 7, PAGE_A) == tables.FOLLOWS


def test_an_edit_without_invlpg_is_stale_unless_it_is_traced() -> None:
    for way in ("lazy", "prevalidate"):
        assert relation(way, EDITS, PAGE_B) == tables.STALE
        assert relation(way, USES_AGAIN, PAGE_B) == tables.STALE
        assert relation(way, FLUSHES, PAGE_B) != tables.STALE
    assert relation("all", EDITS, PAGE_B) == tables.NOT_YET


def test_a_page_that_holds_a_table_is_watched_when_it_is_mapped_itself() -> None:
    text = "mov dword ptr [0xc0103128], 0x00103067\nmov eax, [0x0804a000]"
    watched = TablesTrack(run_typed(text, "bt"), QUESTION, gva=PAGE_A)
    assert watched.scene(2).moment.slot.relation == tables.WATCHED
    assert watched.scene(2).moment.watched == (True, True)


def test_loads_of_cr3_cost_entries_under_lazy_only() -> None:
    lazy, traced, checked = (track(way).scene(BACK).moment.counts for way in ("lazy", "all", "prevalidate"))
    assert lazy.dropped > 0
    assert traced.dropped == traced.validated == checked.dropped == 0
    assert checked.validated >= 1024


@pytest.mark.parametrize("way", ["all", "lazy", "prevalidate", "nested", "bare"])
def test_changes_are_those_between_two_moments(way: str) -> None:
    t = track(way)
    for position in range(1, t.total + 1):
        now, before = t.scene(position), t.scene(position - 1)
        for change in now.changes:
            old, new = before.moment.at(change.gva), now.moment.at(change.gva)
            assert old is not None
            assert new is not None
            pair = (old.left, new.left) if change.side == tp.GUEST else (old.right, new.right)
            assert (change.old, change.new) == tuple(value or 0 for value in pair)
        assert now.switched == (position in (SWITCHES, BACK))
        assert not (now.switched and now.changes)


def test_the_followed_page_is_the_one_that_something_has_happened_to() -> None:
    assert track("lazy").scene(LOADS).moment.focus == PAGE_A
    assert track("lazy").scene(STORES).moment.focus == PAGE_B
    assert track("lazy").scene(COW).moment.focus == PAGE_A


def test_enter_on_a_row_follows_it_until_the_next_enter() -> None:
    t = TablesTrack(tour("lazy"), QUESTION, gva=PAGE_A)
    playback = Playback(t)
    playback.seek(LOADS)
    playback.handle({"do": "open", "row": 3})
    for position in (LOADS, STORES, COW):
        assert t.scene(position).moment.focus == PAGE_B
    playback.handle({"do": "open", "row": 3})
    assert t.scene(COW).moment.focus == PAGE_A
    assert t.run.position == LOADS


def test_the_words_name_the_fault_that_the_log_has() -> None:
    for way in ("all", "lazy", "prevalidate", "nested"):
        t = track(way)
        for position in range(1, t.total + 1):
            kind, words = t.beats[position - 1].kind, t.describe(position)
            for name in ("hidden_fault", "trace_fault", "true_fault"):
                assert (f"a {name.replace('_', ' ')}" in words.lower()) == (kind == name), (way, position, words)


def test_one_sentence_of_each_kind() -> None:
    lazy, traced = track("lazy"), track("all")
    assert lazy.describe(EDITS).endswith(
        "00203067 → 00204007. Nobody notices: the shadow entry is stale until INVLPG or a load of CR3."
    )
    assert "goes through the stale entry" in lazy.describe(USES_AGAIN)
    assert "drops the shadow entry" in lazy.describe(FLUSHES)
    assert "come back one hidden fault at a time" in lazy.describe(BACK)
    assert "drops the shadow entry" in traced.describe(EDITS)
    assert "the shadow follows" in traced.describe(21)
    assert "compares" in track("prevalidate").describe(BACK)
    assert "The CPU itself sets A and D" in track("nested").describe(37)
    assert "handler at" in traced.describe(COW)


@pytest.mark.parametrize("way", ["all", "lazy", "nested", "bare"])
def test_every_moment_is_wellformed_and_of_one_size(way: str) -> None:
    t = track(way)
    for position in range(0, t.total + 1, 3):
        stage = t.picture(position).stage
        ET.fromstring(f"<g>{stage.over}</g>")
        assert stage.height == t.picture(0).stage.height
        assert len(re.findall("data-row=", stage.over)) == stage.rows == tables.ROWS


def test_nothing_of_the_future_is_in_the_picture() -> None:
    """The same prefix of a run looks the same whatever comes behind it."""
    text = "mov dword ptr [0xc0103128], 0x00202007\nmov eax, [0x0804a000]\n"
    one = TablesTrack(run_typed(text + "mov [0x0804a000], eax", "bt"), QUESTION, gva=PAGE_A)
    other = TablesTrack(run_typed(text + "mov ecx, 1", "bt"), QUESTION, gva=PAGE_A)
    for position in range(3):
        assert one.picture(position).stage == other.picture(position).stage


def test_the_walk_panel_has_what_the_cpu_reads() -> None:
    assert len(track("lazy").panels(LOADS)[0].rows) == 2
    assert len(track("nested").panels(LOADS)[0].rows) == 8
    assert len(track("bare").panels(LOADS)[0].rows) == 2


def test_a_run_without_paging_has_a_picture() -> None:
    from vilab.course.runs import run_program

    t = TablesTrack(run_program("isprime", "bt", limit=5), QUESTION)
    assert t.picture(3).stage.over
    assert t.panels(3)[0].rows


def test_an_accessed_bit_that_the_guest_takes_back_is_not_set_again_under_lazy() -> None:
    text = "mov dword ptr [0xc0103128], 0x00202007\nmov eax, [0x0804a000]\n"
    text += "and dword ptr [0xc0103128], 0xffffffdf\nmov eax, [0x0804a000]"
    lazy, traced = (TablesTrack(run_typed(text, "bt", trace=trace), QUESTION, gva=PAGE_A) for trace in ("lazy", "all"))
    assert lazy.scene(3).moment.slot.relation == tables.STALE
    assert "changes the guest's entry, 00202027 → 00202007" in lazy.describe(3)
    assert "nobody sets A or D" in lazy.describe(4)
    assert lazy.scene(4).moment.slot.left == 0x00202007
    assert traced.scene(4).moment.slot.left == 0x00202027


def test_a_brief_track_stops_only_where_something_happens_to_page_tables() -> None:
    brief, whole = TablesTrack(tour("lazy"), QUESTION, gva=PAGE_A, brief=True), track("lazy")
    assert 5 < brief.total < whole.total
    for position in range(1, brief.total + 1):
        at = brief.beats[position - 1].position
        assert brief.describe(position) == whole.describe(at)
        assert brief.scene(position).moment == whole.scene(at).moment
        brief.go(position)
        assert brief.run.position == at
