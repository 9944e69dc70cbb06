"""The rings picture: lanes, the mark that is loud, the window, and that the future is not drawn."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET

import pytest

from tests.view import sample_runs
from vilab.view import rings, still
from vilab.view.playback import Playback
from vilab.view.run_track import RingsTrack
from vilab.view.words import instruction

QUESTION = "The kernel has just said `cli`. Does `pushf` tell it the truth?"


def track() -> RingsTrack:
    return RingsTrack(sample_runs.silent_pushf(), QUESTION)


def test_lanes_are_the_rings_that_the_cpu_is_really_in() -> None:
    assert [(lane.ring, lane.name) for lane in track().scene(0).lanes] == [
        (3, "guest program"),
        (1, "guest kernel"),
        (0, "VMM"),
    ]
    svm = RingsTrack(sample_runs.svm_pushf(), QUESTION)
    assert [lane.ring for lane in svm.scene(0).lanes] == [3, 0, -1]
    assert [lane.ring for lane in rings.lanes_of("bare", 0)] == [3, 0]


def test_the_silent_pushf_is_loud_while_it_is_the_current_step_and_stays_marked() -> None:
    t = track()
    assert t.scene(7).loud == "no trap"
    assert t.scene(7).asides[1] == "IF on the stack is the CPU's."
    assert t.scene(8).loud == ""
    assert t.scene(8).segments[6].wrong


def test_nothing_right_of_the_playhead_is_in_the_picture() -> None:
    t = track()
    names = [instruction(record.mnemonic, record.operands) for record in t.run.records]
    for position in range(t.total):
        frame = Playback(t, position=position).frame()
        sent = html.unescape(json.dumps([frame[part] for part in ("stage", "line", "panels", "say")]))
        begun = {beat.step for beat in t.beats[:position]}
        for step, name in enumerate(names):
            if step not in begun:
                assert re.search(rf">{re.escape(name)}<", sent) is None, (position, name)
        if position < 7:
            assert "no trap" not in sent


def test_a_short_run_shares_its_axis_with_the_slider() -> None:
    picture = track().picture(7)
    unit = (picture.timeline.right - picture.timeline.left) / picture.total
    assert picture.stage.playhead == pytest.approx(picture.timeline.left + 7 * unit)


def test_a_long_run_is_seen_through_a_window_that_follows() -> None:
    long = RingsTrack(sample_runs.long_loop(5000), "How often does it leave?")
    for position in (0, 1, 9, 2500, long.total):
        scene = long.scene(position)
        assert scene.first <= position <= scene.first + rings.WINDOW
        assert len(scene.segments) <= rings.WINDOW
    assert len(long.picture(2500).stage.under) < 10_000


def test_height_never_changes_while_stepping() -> None:
    t = track()
    assert len({t.picture(position).stage.height for position in range(t.total + 1)}) == 1


def test_the_text_twin_has_the_numbers_of_the_picture() -> None:
    assert track().describe(7) == (
        "At ring 1, pushf runs on the bare CPU: no trap. It pushes 00000202, so the kernel reads IF = 1 "
        "where it had set 0."
    )
    assert track().describe(2) == (
        "The VMM looks up gate 80 in the guest's IDT at c0397400 and enters the guest kernel, at ring 1."
    )
    assert track().describe(0) == "Nothing has run yet. Press Step to execute the first instruction at 08048412."


def test_going_moves_the_machine_to_where_it_stands_in_that_beat() -> None:
    t = track()
    for position in range(1, t.total + 1):
        t.go(position)
        assert t.run.position == t.beats[position - 1].position
    t.go(0)
    assert t.run.position == 0


def test_every_stage_is_well_formed_and_has_no_colour_of_its_own() -> None:
    for run in (sample_runs.silent_pushf(), sample_runs.svm_pushf(), sample_runs.translated()):
        t = RingsTrack(run, QUESTION)
        for position in range(t.total + 1):
            picture = t.picture(position)
            drawn = picture.stage.under + picture.stage.over + picture.timeline.svg
            ET.fromstring(f"<svg>{drawn}</svg>")
            assert re.search(r"#[0-9a-f]{3}|rgb|hsl|px", drawn) is None


def test_the_still_is_a_whole_svg_file_with_the_text_twin() -> None:
    picture = still.svg(track().picture(7))
    root = ET.fromstring(picture)
    words = " ".join("".join(node.itertext()) for node in root if node.tag.endswith("text"))
    assert "no trap" in "".join(root.itertext())
    assert "It pushes 00000202" in words
