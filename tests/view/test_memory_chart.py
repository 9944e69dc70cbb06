"""Memory over time: true heights, the past only, machines that come and go, the words, the pressure slider."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest

from tests.view.memory_chart_samples import made_up
from tests.view.memory_samples import SECOND_NS, two_guests
from vilab.memory.manager import FLOOR_PAGES
from vilab.view import memory_free_draw
from vilab.view.memory_chart import ChartTrack
from vilab.view.memory_chart_draw import LAYERS, LEFT, RIGHT, Band, apart
from vilab.view.memory_knobs import KnobPlayback
from vilab.view.memory_pressure import PressureTrack
from vilab.view.memory_track import MemoryTrack

QUESTION = "Who pays?"


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryTrack]:
    made = made_up()
    yield made
    made.host.close()


@pytest.fixture
def chart(memory: MemoryTrack) -> ChartTrack:
    return ChartTrack(memory, QUESTION, 8)


def group(chart: ChartTrack, position: int, row: int) -> ET.Element:
    stage = chart.picture(position).stage
    root = ET.fromstring(f"<g>{stage.under}</g>")
    return next(node for node in root.iter("g") if node.get("data-row") == str(row))


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_heights_of_the_areas_are_their_pages_and_stand_on_each_other(chart: ChartTrack, memory: MemoryTrack) -> None:
    vm = memory.frames[4].vms[0]
    row = group(chart, 4, 0)
    layers = {node.get("data-layer"): points(node.get("d", "")) for node in row.iter("path") if node.get("data-layer")}
    heights = {}
    below = None
    for layer in LAYERS:
        path = layers[layer.name]
        x = max(px for px, _ in path)
        at_end = [py for px, py in path if px == x]
        heights[layer.name] = max(at_end) - min(at_end)
        assert below is None or max(at_end) == pytest.approx(below, abs=0.02)
        below = min(at_end)
    unit = heights["private"] / vm.private
    for layer in LAYERS:
        assert heights[layer.name] == pytest.approx(unit * layer.value(vm), abs=0.05), layer.name


def test_nothing_is_drawn_to_the_right_of_the_playhead(chart: ChartTrack) -> None:
    for position in range(7):
        picture = chart.picture(position)
        assert picture.stage.playhead == pytest.approx(LEFT + (RIGHT - LEFT) * position / 8)
        for row in range(picture.stage.rows):
            for node in group(chart, position, row).iter("path"):
                if node.get("data-layer") or node.get("data-curve"):
                    assert max(x for x, _ in points(node.get("d", ""))) <= picture.stage.playhead + 2


def test_a_machine_is_there_from_its_first_frame_to_its_last(chart: ChartTrack) -> None:
    assert chart.picture(1).stage.rows == 1
    assert "vm2" not in chart.picture(1).stage.under
    two = group(chart, 4, 1)
    private = next(node for node in two.iter("path") if node.get("data-layer") == "private")
    assert min(x for x, _ in points(private.get("d", ""))) == pytest.approx(LEFT + (RIGHT - LEFT) * 2 / 8, abs=0.01)
    assert "is off" in ET.tostring(group(chart, 5, 1), encoding="unicode")


def test_a_picture_is_the_same_height_at_every_step_and_its_svg_is_well_formed(chart: ChartTrack) -> None:
    stages = [chart.picture(position).stage for position in range(7)]
    assert len({stage.height for stage in stages}) == 1
    for stage in stages:
        ET.fromstring(f"<g>{stage.under}{stage.over}</g>")


def test_enter_shows_one_machine_alone_and_enter_again_all(chart: ChartTrack, memory: MemoryTrack) -> None:
    memory.seek(4)
    chart.open(1)
    assert chart.only == "vm2"
    assert chart.picture(4).stage.rows == 1
    assert ">vm1<" not in chart.picture(4).stage.under
    chart.open(0)
    assert chart.picture(4).stage.rows == 2


def test_the_words_name_the_threshold_that_was_crossed_and_who_is_stopped(chart: ChartTrack) -> None:
    assert "Soft: free memory fell to 3.5 %, below 4 %." in chart.describe(2)
    low = chart.describe(3)
    assert low.startswith("vm2 is blocked: it holds 6.8 MB, 1.0 above its target.")
    assert "Low: free memory fell to 0.9 %, below 1 %" in low
    assert "Hard again: free memory rose to 2.6 %, above 2.5 %" in chart.describe(4)
    assert len(low) < 260


def test_the_line_of_free_memory_shows_what_it_fell_to_before_anything_was_done(memory: MemoryTrack) -> None:
    frames = memory.frames[:4]
    line = memory_free_draw.line_of(frames, [0.0, 10.0, 20.0, 30.0])
    assert [x for x, _ in line] == [0.0, 10.0, 20.0, 20.0, 30.0, 30.0]
    assert line[-2][1] == pytest.approx(frames[-1].free_percent, abs=0.01)


def test_above_ten_percent_the_number_says_where_the_line_is(chart: ChartTrack) -> None:
    assert "30.0 %: high" in chart.picture(5).stage.under
    assert "0.9 %: low" in chart.picture(3).stage.under


def test_the_next_of_its_kind_is_the_next_change_of_state(chart: ChartTrack) -> None:
    assert [chart.next_like(at, 1) for at in (0, 2, 3, 4)] == [2, 3, 4, 5]
    assert chart.next_like(5, 1) is None
    assert chart.next_like(5, -1) == 4


@pytest.mark.parametrize("wanted", [[10.0, 10.0, 10.0], [59.0, 58.0, 57.0, 3.0], [30.0], []])
def test_labels_do_not_lie_upon_another_and_stay_inside(wanted: list[float]) -> None:
    band = Band(0.0, 60.0, 1.0, ())
    placed = apart(wanted, band)
    ordered = sorted(placed)
    assert all(b - a >= 14 for a, b in itertools.pairwise(ordered))
    assert all(-3 <= y <= 61 for y in placed)
    for (a, at_a), (b, at_b) in itertools.combinations(zip(wanted, placed, strict=True), 2):
        assert a == b or (a < b) == (at_a < at_b)


# A host that runs ---------------------------------------------------------------------------------------------------


def test_the_slider_takes_frames_from_a_running_host_and_lets_a_step_pass() -> None:
    memory = MemoryTrack(two_guests(), SECOND_NS // 10)
    try:
        track = PressureTrack(memory, QUESTION, 20, 40)
        playback = KnobPlayback(track)
        before = memory.newest
        playback.handle({"do": "turn", "knob": "pressure", "to": 20})
        assert playback.position == 1
        assert memory.newest.pressure_pages == 20 * 256
        assert memory.newest.total_pages == before.total_pages - 20 * 256
        memory.host.memory.check()
        playback.handle({"do": "turn", "knob": "pressure", "to": 400})
        assert memory.newest.pressure_pages < 40 * 256
        assert "taken" in playback.frame()["knobs"][0]["words"]
        assert FLOOR_PAGES <= memory.newest.free_pages < 2 * FLOOR_PAGES
        playback.back()
        assert memory.position == 1
        playback.handle({"do": "turn", "knob": "pressure", "to": 0})
        assert playback.position == 3
        assert memory.newest.total_pages == before.total_pages
        playback.handle({"do": "turn", "knob": "volume", "to": 11})
        assert "There is no knob 'volume' here" in playback.describe()
    finally:
        memory.host.close()
