"""The translation picture: rows, kinds, links, the map of the cache."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from tests.view import sample_runs
from tests.view.sample_runs import TC, SampleRun, unit
from vilab.events import CacheFlushed, FragmentChained, UnitInvalidated, UnitTranslated
from vilab.view import cache_map
from vilab.view.cache import CacheHistory, CacheState, apply
from vilab.view.run_track import TranslationTrack
from vilab.view.translation import MOST_ROWS

QUESTION = "What happens to privileged instructions when the kernel is translated?"


def track() -> TranslationTrack:
    return TranslationTrack(sample_runs.translated(), QUESTION)


def test_each_row_says_what_became_of_it() -> None:
    labels = [(pair.text.split()[0], pair.label) for pair in track().scene(7).pairs]
    assert labels == [
        ("pushf", "callout"), ("cli", "in cache"), ("mov", "identical"), ("cmp", "identical"), ("je", "chained"),
        ("mov", "identical"), ("mov", "callout"), ("inc", "identical"), ("popf", "callout"),
        ("ret", "in cache: 1 to 3"),
    ]  # fmt: skip


def test_the_row_that_has_run_is_current_and_no_other() -> None:
    for position in range(1, track().total + 1):
        current = [pair for pair in track().scene(position).pairs if pair.current]
        assert [pair.gva for pair in current] == [track().run.records[position - 1].eip]


def test_an_identical_row_reads_the_same_on_both_sides() -> None:
    for pair in track().scene(7).pairs:
        if pair.kind == "ident":
            assert [line.text for line in pair.lines] == [pair.text]


def test_before_its_translation_a_fragment_is_not_there() -> None:
    assert track().scene(0).pairs == ()
    assert len(track().scene(4).state.fragments) == 1
    assert {pair.gva for pair in track().scene(4).pairs} == {row[0] for row in _unit(0).lines}
    assert len(track().scene(5).state.fragments) == 2


def _unit(step: int) -> UnitTranslated:
    events = sample_runs.translated().records[step].events
    return next(event for event in events if isinstance(event, UnitTranslated))


def test_at_most_twelve_rows_a_side_and_the_current_one_among_them() -> None:
    lines = [("40", "ident", "40")] * 11 + [("fa", "in_cache", "9090909090"), ("c3", "control", "9090")]
    long = unit(1, 0xC0100000, TC, *lines)
    w = sample_runs.Writer("bt", _kernel(0xC0100000), _kernel(0xC0100000))
    w.add("40", long, how="translated", tc=TC)
    for index in range(1, 11):
        w.add("40", how="translated", tc=TC + index)
    w.add("fa", how="translated", tc=TC + 11)
    t = TranslationTrack(w.run(), QUESTION)
    for position in range(1, t.total + 1):
        scene = t.scene(position)
        assert sum(max(1, len(pair.lines)) for pair in scene.pairs) <= MOST_ROWS
        assert [pair.gva for pair in scene.pairs if pair.current] == [t.run.records[position - 1].eip]
        assert scene.hidden_above + scene.hidden_below + len(scene.pairs) == len(long.lines)


def _kernel(eip: int) -> sample_runs.Registers:
    return sample_runs.msgspec.structs.replace(sample_runs.GUEST, cpl=0, eip=eip)


def test_user_code_runs_directly_and_no_row_is_current() -> None:
    w = sample_runs.Writer("bt", sample_runs.GUEST, sample_runs.CPU)
    w.add("40")
    t = TranslationTrack(w.run(), QUESTION)
    assert t.scene(1).current is None
    assert "runs directly" in t.describe(1)


def test_the_text_twin_says_what_was_called_and_what_needed_no_call() -> None:
    assert track().describe(7) == (
        "mov cr3,eax cannot run here: the cache calls the VMM, which does vCR3 ← 00102000 and comes back."
    )
    assert track().describe(2) == "cli needs no call: it is now 1 instruction, 8 bytes in the cache: IF = 0."
    assert "5 instructions from c0104f2e are translated, 2 of them identical" in track().describe(5)


def test_a_successor_in_the_place_of_an_exit_is_no_jump() -> None:
    state = CacheState()
    first = unit(1, 0x1000, TC, ("40", "ident", "40"), ("7400", "control", "0f8400000000cc90909090"))
    second = unit(2, 0x1003, TC + 7, ("40", "ident", "40"))
    for event in (first, second, FragmentChained(2, TC + 7, TC + 7, 0x1003, "fall_through")):
        apply(state, event)
    assert state.end_of(TC) == TC + 7
    assert [link.how for link in state.links_of(TC)] == ["fall_through"]
    assert state.links_of(TC + 7) == []
    assert 'class="arc' not in cache_map.draw(state, TC, {})


def test_dropped_fragments_take_their_links_along() -> None:
    state = CacheState()
    for event in (
        unit(1, 0x1000, TC, ("7400", "control", "0f8400000000")),
        unit(2, 0x2000, TC + 6, ("40", "ident", "40")),
        FragmentChained(3, TC, TC + 6, 0x2000, "jump"),
    ):
        apply(state, event)
    assert cache_map.draw(state, TC, {}).count('class="arc loud"') == 1
    apply(state, UnitInvalidated(4, 0x2000, TC + 6, "write"))
    assert (len(state.fragments), state.links) == (1, {})
    apply(state, CacheFlushed(5, 1, "full"))
    assert not state.fragments


def test_history_is_the_same_in_both_directions() -> None:
    run = sample_runs.translated()
    forwards = CacheHistory(run.records)
    sizes = [forwards.at(steps).size_bytes for steps in range(run.total + 1)]
    backwards = [forwards.at(steps).size_bytes for steps in range(run.total, -1, -1)]
    assert backwards == sizes[::-1]


def test_the_map_fills_up_and_then_halves_its_scale() -> None:
    widths = []
    state = CacheState()
    for index in range(40):
        apply(state, unit(index, 0x1000 + index, TC + 16 * index, ("40", "ident", "90" * 16)))
        boxes = re.findall(r'x="([\d.]+)" y="434" width="([\d.]+)"', cache_map.draw(state, None, {}))
        widths.append(float(boxes[-1][0]) + float(boxes[-1][1]))
    assert max(widths) <= 912.01
    assert widths[7] > widths[6]
    assert widths[8] < widths[7]


def test_above_forty_fragments_only_the_current_ones_arcs_are_drawn() -> None:
    state = CacheState()
    for index in range(60):
        at = TC + 6 * index
        apply(state, unit(index, 0x1000 + index, at, ("7400", "control", "0f8400000000")))
        apply(state, FragmentChained(index, at, TC, 0x1000, "jump"))
    assert cache_map.draw(state, TC + 60, {}).count('class="arc') == 1
    assert "arcs are the chained jumps of" in cache_map.draw(state, TC + 60, {})


def test_every_stage_is_well_formed_and_has_one_height() -> None:
    t = track()
    heights = set()
    for position in range(t.total + 1):
        stage = t.picture(position).stage
        ET.fromstring(f"<svg>{stage.over}</svg>")
        assert re.search(r"#[0-9a-f]{3}|rgb|hsl|px", stage.over) is None
        heights.add(stage.height)
    assert heights == {484}


def test_a_run_of_another_engine_has_nothing_to_show_and_says_so() -> None:
    run: SampleRun = sample_runs.silent_pushf()
    assert TranslationTrack(run, QUESTION).scene(3).pairs == ()
