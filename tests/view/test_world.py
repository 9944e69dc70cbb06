"""One packet through the worlds, and where its time goes: pictures, words and sliders of real runs."""

from __future__ import annotations

import re

import pytest

from vilab.course.hosted_runs import account, packet, paper_text, table_text
from vilab.course.predictions_hosted import one_packet_question, switch_questions, time_questions
from vilab.host.hosted_account import FOR_IO
from vilab.host.hosted_machine import HOSTED, PRODUCTS, ProductName
from vilab.host.world_costs import WORLD_COSTS
from vilab.host.world_events import LanceAccessed, WorldSwitched
from vilab.view.memory_knobs import KnobPlayback
from vilab.view.world_lanes import LanesTrack
from vilab.view.world_stops import ESX_LANES, LANES, stops
from vilab.view.world_time import KNOBS, TimeTrack


def lanes(product: ProductName) -> LanesTrack:
    return LanesTrack(stops(packet(product)), "Who?", ESX_LANES if product == "esx" else LANES)


def times() -> TimeTrack:
    return TimeTrack([lambda name=name: account(name) for name in PRODUCTS], PRODUCTS, "Where?")


@pytest.mark.parametrize("product", [*HOSTED, "esx"])
def test_every_switch_and_every_access_of_the_log_is_a_step(product: ProductName) -> None:
    made, events = stops(packet(product)), packet(product)
    assert sum(stop.kind == "switch" for stop in made) == sum(isinstance(each, WorldSwitched) for each in events)
    assert sum(stop.kind == "access" for stop in made) == sum(isinstance(each, LanceAccessed) for each in events)
    assert {stop.lane for stop in made} <= {name for name, _ in (ESX_LANES if product == "esx" else LANES)}
    assert [stop.at_ns for stop in made] == sorted(stop.at_ns for stop in made)


def test_the_unoptimized_packet_takes_eight_switches_and_esx_none() -> None:
    assert [stops(packet(name))[-1].switches for name in ("none", "flag", "esx")] == [8, 2, 0]
    assert "In all: 8 world switches" in lanes("none").describe(28)


def test_three_of_six_accesses_are_of_the_data_register_and_one_sends() -> None:
    accesses = [stop for stop in stops(packet("none")) if stop.kind == "access"]
    assert len(accesses) == 6
    assert sum("data register" in stop.say for stop in accesses) == 3
    assert sum("send now" in stop.say for stop in accesses) == 1


@pytest.mark.parametrize("product", [*HOSTED, "esx"])
def test_a_picture_holds_nothing_of_what_is_to_come(product: ProductName) -> None:
    track = lanes(product)
    drawn = ["".join((track.picture(at).stage.over, *(r.cells[3].text for r in track.picture(at).panels[1].rows)))
             for at in range(track.total + 1)]  # fmt: skip
    assert len(set(drawn)) == track.total + 1
    assert drawn[0] == ""
    for at in range(1, track.total):
        assert track.picture(at).stage.over.count("<path") < track.picture(track.total).stage.over.count("<path")
        assert len(track.picture(at).panels[1].rows) == at
    assert len({track.picture(at).stage.height for at in range(track.total + 1)}) == 1


def test_the_number_in_the_picture_is_the_number_of_switches_so_far() -> None:
    track = lanes("none")
    for at in range(track.total + 1):
        (shown,) = re.findall(r'class="b vmm tab"[^>]*>(\d+)<', track.picture(at).stage.under)
        assert int(shown) == sum(stop.kind == "switch" for stop in track.made[:at])


def test_the_next_switch_is_one_key_away() -> None:
    track = lanes("none")
    first = next(at for at, stop in enumerate(track.made, 1) if stop.kind == "switch")
    second = track.next_like(first, 1)
    assert second is not None
    assert track.made[second - 1].switches == 2
    assert track.next_like(second, -1) == first
    assert track.next_like(first, -1) is None


def test_bars_and_words_have_the_same_numbers() -> None:
    track = times()
    for at, name in enumerate(PRODUCTS, 1):
        found, words = account(name), track.describe(at)
        assert f"{found.need_ns() / 1000:.1f} µs" in words
        assert f"{found.mbit_s():.1f} Mbit/s" in words
        assert f"{found.mbit_s():.1f} Mbit/s" in track.picture(at).stage.over
        widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="26.0"', track.picture(at).stage.over)]
        assert widths


def test_a_slider_changes_the_costs_and_not_the_counts() -> None:
    track = times()
    playback = KnobPlayback(track)
    playback.step()
    before = track.describe(1)
    assert "processor is what it waits for" in before
    playback.turn("switch_ns", 0.5)
    after = track.describe(1)
    assert "(Measured, at the usual costs: 75.1 Mbit/s.)" in after
    assert account("none").need_ns(track.costs) == pytest.approx(
        account("none").need_ns() - account("none").switches() * (WORLD_COSTS.switch_ns - 500)
    )
    assert "stroke-dasharray:5 3" in track.picture(1).stage.over
    assert "yours" in {row.cells[-1].text for row in track.picture(1).panels[0].rows}
    playback.turn("switch_ns", WORLD_COSTS.switch_ns / 1000)
    assert track.describe(1) == before


def test_every_slider_stands_at_its_cost() -> None:
    values = {knob.name: knob.value for knob in times().knobs()}
    assert values == {field: getattr(WORLD_COSTS, field) / 1000 for field, _, _ in KNOBS}


def test_the_table_of_a_bar_adds_up() -> None:
    track = times()
    for at in range(1, track.total + 1):
        rows = track.picture(at).panels[0].rows
        total = sum(float(row.cells[3].text) for row in rows)
        assert total == pytest.approx(account(PRODUCTS[at - 1]).need_ns() / 1000, abs=0.06 * len(rows))


def test_the_questions_are_answered_by_the_run() -> None:
    asked = [
        one_packet_question(),
        *(switch_questions()(at) for at in (1, 2, 3)),
        *(time_questions()(at) for at in (0, 4)),
    ]
    for prediction in asked:
        assert prediction is not None
        assert 0 <= prediction.right() < len(prediction.options)
        why = prediction.why
        assert re.search(r"\d", why if isinstance(why, str) else why())
    assert switch_questions()(0) is None
    assert time_questions()(1) is None


def test_each_step_of_the_optimizations_is_what_the_lesson_says() -> None:
    """What is written between the cells, checked: if a number here changes, the text has to."""
    none, ports, flag, esx = (account(name) for name in ("none", "ports", "flag", "esx"))
    assert none.switches(*FOR_IO) / ports.switches(*FOR_IO) == pytest.approx(4, rel=0.1)
    assert 2.8 < esx.idle_ns / flag.idle_ns < 4
    back = [account(name, "receiving").switches() for name in ("combining", "flag")]
    assert back[0] / back[1] == pytest.approx(2, rel=0.1)
    assert account("native", "sending", 64).bound_by_processor


def test_tables_in_words() -> None:
    assert table_text().count("\n") == 1 + len(PRODUCTS)
    assert "26.8 %" in paper_text()
