"""Bars on one scale, and lines over a cost: what is drawn is what was counted, and nothing of the future."""

from __future__ import annotations

import re

import pytest

from vilab.view import still
from vilab.view.bars import LEFT, RIGHT, Bar, Bars, BarsTrack, Part, write
from vilab.view.playback import Playback
from vilab.view.turning import TurningTrack, Way, turning_point

NAMES = (("native", "no VMM"), ("software", "bt"), ("hardware", "svm"))


def scene(name: str, *values: float) -> Bars:
    bars = tuple(
        Bar(each, (Part(value / 4, "host"), Part(value * 3 / 4, "vmm")), other=value / 2, best=value == min(values))
        for (each, _), value in zip(NAMES, values, strict=False)
    )
    return Bars(name, "what it is", "cycles", bars, f"`{name}`: **{write(min(values))}** is least.")


def track() -> BarsTrack:
    return BarsTrack("Who?", [lambda: scene("in", 3209, 1254, 7432), lambda: scene("out", 8, 2)], NAMES, "Nothing yet.")


def widths(drawn: str) -> list[float]:
    return [float(each) for each in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="18"', drawn)]


def test_the_longest_bar_fills_the_room_and_all_share_one_scale_from_zero():
    drawn = track().picture(1).stage.over
    found = widths(drawn)
    totals = [found[at] + found[at + 1] for at in range(0, 6, 2)]
    assert max(totals) == pytest.approx(RIGHT - LEFT, abs=0.1)
    assert totals[0] / totals[2] == pytest.approx(3209 / 7432, abs=0.001)
    assert drawn.count('y="20"') == 3


def test_what_somebody_else_measured_is_dashed_and_named():
    drawn = track().picture(1).stage.over
    assert drawn.count("stroke-dasharray:4 3") == 3
    assert "paper 627" in drawn


def test_only_the_least_is_marked():
    drawn = track().picture(1).stage.over
    assert drawn.count("g-right") == 1
    assert ">1,254</text>" in drawn


def test_a_column_that_is_missing_leaves_its_row_empty():
    drawn = track().picture(2).stage.over
    assert len(widths(drawn)) == 4
    assert "hardware" in drawn


def test_before_the_first_step_there_is_a_name_for_each_bar_and_no_bar():
    player = Playback(track())
    assert player.describe() == "Nothing yet."
    drawn = player.picture().stage.over
    assert all(name in drawn for name, _ in NAMES)
    assert not widths(drawn)


def test_a_scene_is_made_when_it_is_asked_for_and_once():
    made: list[int] = []

    def make() -> Bars:
        made.append(1)
        return scene("in", 1, 2, 3)

    player = Playback(BarsTrack("Who?", [make], NAMES, "Nothing yet."))
    assert not made
    player.step()
    assert player.describe() == "in: 1 is least."
    player.back()
    player.step()
    assert player.describe() == "in: 1 is least."
    assert made == [1]
    assert still.svg(player.picture()).startswith("<svg")


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (4.5, "4.5"), (9.96, "10.0"), (216.4, "216"), (3284, "3,284")])
def test_numbers_are_written_as_they_are_read(value: float, words: str):
    assert write(value) == words


SOFTWARE, HARDWARE, NESTED = Way("software", 4.0, 0), Way("hardware", 1.0, 0.001), Way("nested", 1.0, 0)


def turning() -> TurningTrack:
    return TurningTrack("When?", (SOFTWARE, HARDWARE, NESTED), "times native", "one exit", 500, 10_000)


def test_the_order_turns_where_both_cost_the_same():
    x = turning_point(SOFTWARE, HARDWARE)
    assert x == pytest.approx(3000)
    assert SOFTWARE.at(x) == pytest.approx(HARDWARE.at(x))
    assert turning_point(SOFTWARE, NESTED) is None
    assert turning_point(NESTED, HARDWARE) is None


def test_the_turn_is_told_when_it_has_come_and_not_before():
    lines = turning()
    assert "turned" not in lines.describe(6)
    assert "turns at" not in lines.picture(6).stage.over
    assert "The order turned at 3,000: now software is the cheaper one." in lines.describe(7)
    assert "turns at 3,000" in lines.picture(7).stage.over
    assert lines.next_like(0, 1) == 7
    assert lines.next_like(20, -1) == 7
    assert lines.next_like(7, 1) is None


def test_no_line_goes_beyond_the_playhead():
    stage = turning().picture(7).stage
    assert stage.playhead is not None
    ends = [float(x) for x in re.findall(r"<path d=\"M[\d.]+ [\d.]+L([\d.]+)", stage.over)]
    assert len(ends) == 3
    assert max(ends) == pytest.approx(stage.playhead, abs=0.01)
