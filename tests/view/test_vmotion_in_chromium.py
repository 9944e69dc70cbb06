"""The rounds of a migration in a real browser: words beside each other, contrast, places, keys, a log that grows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.view import vmotion_samples as samples
from tests.view.harness import as_json, form, open_player, page_html
from tests.view.test_pictures_in_chromium import LOW_CONTRAST
from tests.view.test_switch_in_chromium import OVERLAPS
from vilab.view.vmotion_track import VMotionPlayback, VMotionTrack

pytestmark = pytest.mark.browser

QUESTION = "When should pre-copy give up and stop the VM?"
OUTSIDE = """() => {
  const stage = document.querySelector(".vl-stage").getBoundingClientRect();
  return [...document.querySelectorAll(".vl-stage text")].filter((t) => t.textContent.trim())
    .map((t) => [t.textContent, t.getBoundingClientRect()])
    .filter(([, b]) => b.width && (b.left < stage.left - 1 || b.right > stage.right + 1 || b.bottom > stage.bottom + 4
      || b.top < stage.top - 4)).map(([words]) => words);
}"""
NAMES = [name for name in samples.ALL if name != "many"]
LOOKS: dict[str, tuple[int, dict[str, Any]]] = {
    "wide": (960, {"wide": True}), "dark": (848, {"theme": "dark"}), "lecture": (1440, {"lecture": True, "wide": True}),
}  # fmt: skip


def playback(name: str = "specweb", position: int = 0) -> VMotionPlayback:
    return VMotionPlayback(VMotionTrack(samples.ALL[name](), QUESTION), None, position)


def at(page: Any, position: int) -> None:
    page.wait_for_function(f"document.querySelector('.vl-slider').getAttribute('aria-valuenow') === '{position}'")


@pytest.mark.parametrize(
    ("name", "look"), [*((name, "wide") for name in NAMES), ("specweb", "dark"), ("aborted", "dark"),
                       *((name, "lecture") for name in ("specweb", "constant", "large", "given_back", "live"))],
)  # fmt: skip
def test_no_word_lies_upon_another_and_all_can_be_read(page: Any, name: str, look: str) -> None:
    """At the end, where most is written, and half-way."""
    width, options = LOOKS[look]
    page.set_viewport_size({"width": width, "height": 1080})
    total = playback(name).track.total
    for position in sorted({total // 2, max(total - 1, 0), total}):
        page.set_content(page_html(playback(name, position), **options))
        page.wait_for_selector(".vl h2:not(:empty)")
        assert page.evaluate(OVERLAPS) == [], position
        assert page.evaluate(OUTSIDE) == [], position
        assert page.evaluate(LOW_CONTRAST) == [], position
        say = page.locator(".vl-say").bounding_box()
        assert say["y"] + say["height"] <= (1080 if look == "lecture" else 720)
        assert page.locator(".vl-second:visible").count() == (0 if look == "lecture" else 1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_steps_by_keys_and_the_knob_under_the_rounds_squares(page: Any) -> None:
    open_player(page, playback())
    page.emulate_media(reduced_motion="reduce")
    page.focus(".vl-slider")
    for position in range(1, 10):
        page.keyboard.press("ArrowRight")
        at(page, position)
        knob = page.locator(".knob").bounding_box()
        squares = page.locator("[data-bytes]").nth(position - 1).bounding_box()
        assert knob["x"] + knob["width"] / 2 == pytest.approx(squares["x"] + squares["width"] / 2, abs=1)
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("End")
    at(page, 10)
    page.keyboard.press("Home")
    at(page, 0)
    page.keyboard.press("Shift+ArrowRight")
    at(page, 1)
    page.keyboard.press("Shift+ArrowRight")
    at(page, 2)
    assert page.locator("[data-bytes]").count() == 2
    page.focus("tr[data-goto='1']")
    page.keyboard.press("Enter")
    at(page, 1)
    words = page.get_attribute(".vl-slider", "aria-valuetext")
    assert words == "step 1 of 10, round 1, 56.7 s"


def test_a_screen_reader_hears_the_twin_and_the_picture_has_its_facts(page: Any) -> None:
    open_player(page, playback("given_back", 3))
    page.focus("[data-do=step]")
    page.keyboard.press("Enter")
    at(page, 4)
    page.wait_for_function("document.querySelector('[aria-live]').textContent.includes('look at the paths of esx2')")
    assert "3 rounds of 64.0 MB, 6.0 MB, 0.5 MB" in page.get_attribute(".vl-stage > svg", "aria-label")
    assert page.locator(".vl-say.fault").count() == 1


def test_a_log_that_grows_while_it_is_looked_at(page: Any) -> None:
    events = samples.specweb()
    shown = VMotionPlayback(VMotionTrack([], QUESTION))
    open_player(page, shown)
    for count in (1, 2, 3, 9, len(events)):
        shown.take(events[:count])
        page.evaluate(f"model.set('frame', {as_json(shown.frame())})")
        at(page, shown.track.total)
    assert form(shown) is None
    assert page.inner_text(".vl-say").startswith("web1 runs on esx2.")
    assert page.locator("[data-bytes]").count() == 9


def test_a_press_on_the_slider_seeks_to_the_round_above_it(page: Any) -> None:
    open_player(page, playback())
    stops = playback().track.stops()
    box = page.locator(".vl-slider").bounding_box()
    for position in (6, 1, 10, 0, 3):
        page.mouse.click(box["x"] + box["width"] * stops[position] / 912, box["y"] + box["height"] * 0.66)
        at(page, position)
