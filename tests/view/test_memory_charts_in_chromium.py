"""Charts and sliders of memory in a real browser: knobs by pointer and keys, cursor, themes, lecture mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.view.harness import open_player
from tests.view.memory_chart_samples import made_up
from tests.view.memory_samples import SECOND_NS, two_guests
from vilab.view.memory_chart import ChartTrack
from vilab.view.memory_knobs import KnobPlayback
from vilab.view.memory_pressure import PressureTrack
from vilab.view.memory_tax import figure_7
from vilab.view.memory_track import MemoryTrack

pytestmark = pytest.mark.browser

OVERLAPS = """() => {
    const boxes = [...document.querySelectorAll(".vl-stage text")].filter((t) => t.textContent.trim())
        .map((t) => [t.textContent, t.getBoundingClientRect()]);
    const hits = [];
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
        const [a, b] = [boxes[i][1], boxes[j][1]];
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 5 && b.top < a.bottom - 5)
            hits.push(`${boxes[i][0]} / ${boxes[j][0]}`);
    }
    return hits;
}"""


def at(page: Any, position: int) -> None:
    page.wait_for_function(f"document.querySelector('.vl-slider').getAttribute('aria-valuenow') === '{position}'")


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryTrack]:
    made = made_up()
    yield made
    made.host.close()


def chart(memory: MemoryTrack, position: int = 4) -> KnobPlayback:
    memory.seek(position)
    return KnobPlayback(ChartTrack(memory, "Who pays?", 8), position=position)


def tax(position: int = 3) -> KnobPlayback:
    return KnobPlayback(figure_7("What is a page worth?"), position=position)


LOOKS = ({}, {"theme": "dark"}, {"wide": True}, {"lecture": True})


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("position", [0, 2, 3, 4, 6])
def test_no_word_of_the_chart_lies_upon_another(page: Any, memory: MemoryTrack, look: dict[str, Any],
                                                position: int) -> None:  # fmt: skip
    if look.get("lecture"):
        page.set_viewport_size({"width": 1440, "height": 1000})
    open_player(page, chart(memory, position), **look)
    assert page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("position", [0, 1, 3, 5])
def test_no_word_of_the_board_lies_upon_another(page: Any, look: dict[str, Any], position: int) -> None:
    if look.get("lecture"):
        page.set_viewport_size({"width": 1440, "height": 1000})
    open_player(page, tax(position), **look)
    assert page.evaluate(OVERLAPS) == []


def test_a_chart_without_knobs_has_no_strip_for_them(page: Any, memory: MemoryTrack) -> None:
    open_player(page, chart(memory))
    assert page.locator(".vl-knobs").is_hidden()


def test_the_playhead_stands_over_the_sliders_knob(page: Any, memory: MemoryTrack) -> None:
    open_player(page, chart(memory, 3))
    head = page.locator(".vl-stage .playhead").bounding_box()
    knob = page.locator(".knob").bounding_box()
    assert head["x"] + head["width"] / 2 == pytest.approx(knob["x"] + knob["width"] / 2, abs=1)


def test_enter_on_a_row_shows_one_machine_alone(page: Any, memory: MemoryTrack) -> None:
    open_player(page, chart(memory))
    page.focus(".vl-stage")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('.vl-row.cursor, .vm-row.cursor').dataset.row === '1'")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('[data-row]').length === 1")
    assert "vm2" in page.inner_html(".vl-under")


def test_arrows_on_a_knob_turn_it_and_do_not_step(page: Any) -> None:
    playback = tax()
    open_player(page, playback)
    page.locator(".vl-knob input").first.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.vl-knob output').textContent.replace('\\u00a0', ' ') === '74 %'")
    assert {message["do"] for message in page.evaluate("window.sent")} == {"turn"}
    assert playback.track.tax == 0.74  # type: ignore[attr-defined]
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "vl-slider"


def test_dragging_a_knob_moves_the_targets_while_it_moves(page: Any) -> None:
    playback = tax(0)
    open_player(page, playback)
    box = page.locator(".vl-knob input").first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=6)
    page.wait_for_function("!document.querySelector('.vl-knob output').textContent.startsWith('0')")
    page.mouse.up()
    page.wait_for_function("document.querySelector('.vl-say').textContent.includes('k')")
    assert 0.4 < playback.track.tax < 0.6  # type: ignore[attr-defined]


def test_the_pressure_slider_is_sent_when_it_is_let_go_and_time_passes(page: Any) -> None:
    memory = MemoryTrack(two_guests(), SECOND_NS // 10)
    try:
        open_player(page, KnobPlayback(PressureTrack(memory, "Who pays?", 10, 20)))
        knob = page.locator(".vl-knob input")
        box = knob.bounding_box()
        page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2, steps=4)
        assert page.evaluate("window.sent.length") == 0
        page.mouse.up()
        at(page, 1)
        assert 8 * 256 <= memory.newest.pressure_pages <= 12 * 256
        assert page.locator(".vl-knob output").inner_text().endswith("MB")
    finally:
        memory.host.close()
