"""The player in a real browser: keys, buttons, drawing, focus, what a screen reader hears."""

from __future__ import annotations

from typing import Any

import pytest

from tests.view import sample_runs
from tests.view.harness import open_player
from vilab.view.playback import Playback
from vilab.view.predict import Prediction
from vilab.view.run_track import RingsTrack

pytestmark = pytest.mark.browser


def rings(**options: Any) -> Playback:
    return Playback(RingsTrack(sample_runs.silent_pushf(), "Does `pushf` tell the truth?"), **options)


def at(page: Any, position: int) -> None:
    page.wait_for_function(f"document.querySelector('.vl-slider').getAttribute('aria-valuenow') === '{position}'")


def picture(page: Any) -> str:
    return str(page.inner_html(".vl-stage > svg"))


def test_step_and_back_change_the_drawing_and_move_the_machine(page: Any) -> None:
    player = rings()
    open_player(page, player)
    empty = picture(page)
    page.click("[data-do=step]")
    at(page, 1)
    one = picture(page)
    assert one != empty
    page.click("[data-do=step]")
    at(page, 2)
    assert picture(page) != one
    assert player.track.run.position == 1  # type: ignore[attr-defined]
    page.click("[data-do=back]")
    at(page, 1)
    assert picture(page) == one
    assert player.track.run.position == 0  # type: ignore[attr-defined]


def test_the_whole_keyboard_map(page: Any) -> None:
    open_player(page, rings())
    page.focus(".vl-slider")
    for key, position in (
        ("ArrowRight", 1), (".", 2), ("ArrowLeft", 1), ("Shift+ArrowRight", 3), ("Shift+ArrowRight", 5),
        ("Shift+ArrowLeft", 3), (",", 2), ("End", 10), ("Home", 0),
    ):  # fmt: skip
        page.keyboard.press(key)
        at(page, position)
    page.keyboard.press("]")
    assert page.inner_text(".speed") == "2×"
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert page.inner_text(".speed") == "0.5×"
    page.keyboard.press("l")
    assert page.get_attribute(".vl", "data-vl-mode") == "lecture"
    page.keyboard.press("L")
    assert page.get_attribute(".vl", "data-vl-mode") is None


def test_only_its_own_keys_are_kept_from_the_page_around_it(page: Any) -> None:
    open_player(page, rings())
    page.evaluate("window.heard = []; document.addEventListener('keydown', (e) => window.heard.push(e.key))")
    page.focus(".vl-slider")
    for key in ("ArrowRight", "Home", "l", "t", "3", "[", "Escape", "a", "Enter", "z", "F2"):
        page.keyboard.press(key)
    assert page.evaluate("window.heard") == ["a", "Enter", "z", "F2"]
    assert page.get_attribute(".vl", "data-lm-suppress-shortcuts") == "true"


def test_play_goes_to_the_end_and_tells_the_reader_once(page: Any) -> None:
    open_player(page, rings(position=6))
    page.evaluate(
        "const live = document.querySelector('[aria-live]'); window.said = [];"
        "new MutationObserver(() => window.said.push(live.textContent))"
        ".observe(live, {childList: true, characterData: true, subtree: true})"
    )
    page.focus(".vl-slider")
    page.keyboard.press("]")
    page.keyboard.press("]")
    page.keyboard.press(" ")
    at(page, 10)
    page.wait_for_function("document.querySelector('.play').innerText.includes('Play')")
    page.wait_for_timeout(100)
    assert [words for words in page.evaluate("window.said") if words] == [rings(position=10).describe()]


def test_a_step_tells_the_reader_the_text_twin_and_leaves_the_focus(page: Any) -> None:
    open_player(page, rings(position=6))
    page.focus("[data-do=step]")
    page.keyboard.press("Enter")
    at(page, 7)
    page.wait_for_function("document.querySelector('[aria-live]').textContent.includes('IF = 1')")
    assert page.evaluate("document.activeElement.dataset.do") == "step"
    assert page.get_attribute(".vl-slider", "aria-valuetext") == "step 7 of 10, pushf, no trap, 3.2 µs"


def test_dragging_the_slider_seeks(page: Any) -> None:
    open_player(page, rings())
    box = page.locator(".vl-slider").bounding_box()
    y = box["y"] + box["height"] * 0.66
    page.mouse.move(box["x"] + box["width"] * 160 / 912, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (160 + 74 * 7) / 912, y, steps=5)
    page.mouse.up()
    at(page, 7)


def test_enter_on_a_row_of_the_log_seeks_there_and_keeps_the_row(page: Any) -> None:
    open_player(page, rings(position=7))
    page.focus("tr[data-goto='3']")
    page.keyboard.press("Enter")
    at(page, 3)
    assert page.evaluate("document.activeElement.dataset.goto") == "3"


def test_the_playhead_stands_over_the_sliders_knob(page: Any) -> None:
    open_player(page, rings())
    for _ in range(4):
        page.keyboard.press("Tab")
    page.focus(".vl-slider")
    page.keyboard.press("End")
    at(page, 10)
    page.wait_for_timeout(600)
    head = page.locator(".vl-stage .playhead").bounding_box()
    knob = page.locator(".knob").bounding_box()
    assert head["x"] + head["width"] / 2 == pytest.approx(knob["x"] + knob["width"] / 2, abs=1)


@pytest.mark.parametrize(("motion", "duration"), [("reduce", "0s"), ("no-preference", "0.4s")])
def test_reduced_motion_makes_travel_a_jump(page: Any, motion: str, duration: str) -> None:
    page.emulate_media(reduced_motion=motion)
    open_player(page, rings())
    page.click("[data-do=step]")
    at(page, 1)
    assert page.evaluate("getComputedStyle(document.querySelector('.vl-ph')).transitionDuration") == duration


def asking(position: int) -> Prediction | None:
    if position != 6:
        return None
    options = ("It traps to the VMM", "It runs and pushes IF = 0", "It runs and pushes IF = 1")
    return Prediction(
        "The next instruction is `pushf`, at ring 1. What happens?", options, lambda: 2, "No trap at all."
    )


def test_predict_then_reveal_by_keys(page: Any) -> None:
    open_player(page, rings(position=6, ask=asking))
    page.focus("[data-do=step]")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".vl-card")
    assert page.inner_text("[data-do=step]").strip() == "Reveal"
    assert page.get_attribute("[data-do=step]", "aria-disabled") == "true"
    assert page.locator(".vl-btn.primary:visible").count() == 1
    page.keyboard.press("ArrowRight")
    assert [message["do"] for message in page.evaluate("window.sent")] == ["step"]
    before = page.locator(".vl-card").bounding_box()
    assert "No trap" not in page.content()
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".vl-opt.right")
    assert page.inner_text(".vl-opt.mine .verdict") == "✕ your answer"
    assert page.locator(".vl-card").bounding_box() == before
    assert page.evaluate("document.activeElement.dataset.do") == "step"
    assert page.inner_text("[data-do=step]").strip() == "Step"
    page.keyboard.press("Enter")
    at(page, 7)
    assert page.locator(".vl-card").count() == 0
    assert page.evaluate("document.activeElement.dataset.do") == "step"


def test_escape_skips_and_play_waits_at_a_prediction(page: Any) -> None:
    open_player(page, rings(position=5, ask=asking))
    page.focus(".vl-slider")
    page.keyboard.press("]")
    page.keyboard.press("]")
    page.keyboard.press(" ")
    page.wait_for_selector(".vl-card")
    page.wait_for_timeout(600)
    at(page, 6)
    page.keyboard.press("Escape")
    at(page, 7)


def test_a_long_run_stays_light(page: Any) -> None:
    track = RingsTrack(sample_runs.long_loop(5000), "How often does it leave?", ("registers", "log"))
    open_player(page, Playback(track, position=2500))
    assert page.locator(".vl *").count() < 2500
    page.focus(".vl-slider")
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    at(page, 2512)
    page.wait_for_timeout(500)
    assert page.evaluate("document.querySelector('.vl-slide').style.transform") == "translateX(0px)"


def test_narrow_columns_put_panels_and_text_under_each_other(page: Any) -> None:
    page.set_viewport_size({"width": 680, "height": 900})
    open_player(page, rings(position=7))
    deck = page.locator(".vl-deck").bounding_box()
    say = page.locator(".vl-say").bounding_box()
    assert say["y"] >= deck["y"] + deck["height"]
    state, log = (page.locator(".vl-panel").nth(index).bounding_box() for index in (0, 1))
    assert log["y"] >= state["y"] + state["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
