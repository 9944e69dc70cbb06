"""Exits through time: columns of what was counted, up to the playhead, on one scale."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from vilab.view.exits import MOST_ROWS, ExitsTrack, Moment
from vilab.view.playback import Playback

MOMENTS = [
    Moment(1_000, {"chain": 4, "in": 2}, 5), Moment(2_000, {"rdtsc": 40, "chain": 1}, 5),
    Moment(3_000, {}, 9), Moment(4_000, {"in": 20, "out": 21}, 14),
]  # fmt: skip
CONSOLES = ["boot\n", "boot\n", "boot\nab", "boot\nab\n`x`\n"]


def track(columns: int = 60) -> ExitsTrack:
    return ExitsTrack("When?", MOMENTS, CONSOLES, columns)


def tall(drawn: str, hue: str) -> list[float]:
    return [float(h) for h in re.findall(rf'height="([\d.]+)" style="fill:var\(--vl-{hue}-fill\)"', drawn)]


def test_what_is_right_of_the_playhead_is_not_drawn():
    for position in range(5):
        stage = track().picture(position).stage
        edges = [float(x) for x in re.findall(r'<rect x="([\d.]+)"[^>]*-fill\)', stage.under)]
        assert stage.playhead is not None
        assert all(x < stage.playhead for x in edges)
    assert ">rdtsc</text>" not in track().picture(1).stage.under
    assert ">rdtsc</text>" in track().picture(2).stage.under


def test_the_current_piece_is_orange_and_heights_are_to_one_scale():
    drawn = track().picture(4).stage.under
    now, before = tall(drawn, "vmm"), tall(drawn, "host")
    assert len(now) == 2
    assert len(before) == 4
    assert now[0] / now[1] == pytest.approx(20 / 21, abs=0.01)
    assert max(before) / now[1] == pytest.approx(40 / 21, abs=0.01)


def test_words_name_the_time_the_count_and_what_was_written():
    assert track().describe(0).startswith("The machine is off")
    assert (
        track().describe(1) == "Up to 1.0 µs: 6 exits in this piece, 4 of them chain. The guest has just written: boot"
    )
    assert track().describe(2).endswith("The guest writes nothing.")
    assert track().describe(4).endswith("written:  x ")


def test_moments_are_put_together_and_none_is_lost():
    two = track(2)
    assert two.total == 2
    assert two.so_far(2) == track().so_far(4) == Counter(rdtsc=40, out=21, chain=5) + Counter({"in": 22})


def test_rows_stand_in_the_order_of_their_first_exit():
    drawn = track().picture(4).stage.under
    names = [n for n in re.findall(r">([a-z_]+)</text>", drawn) if n in ("chain", "in", "rdtsc", "out")]
    assert names == ["chain", "in", "rdtsc", "out"]
    many = ExitsTrack("?", [Moment(1, {f"r{n}": n for n in range(1, 10)}, 0)], [""])
    assert many.picture(1).stage.under.count('class="m b vmm"') == MOST_ROWS


def test_it_can_be_played():
    player = Playback(track())
    player.step()
    assert player.picture().panels[0].rows[0].cells[0].text == "boot"
    player.jump(1)
    assert player.position == 1
    player.seek(4)
    assert "exits so far" in player.picture().stage.under
