"""A Storage VMotion in a real browser: words beside each other, contrast, keys, what a screen reader hears."""

from __future__ import annotations

from typing import Any

import pytest

from tests.view import storage_move_samples as samples
from tests.view.harness import open_player, page_html
from tests.view.test_pictures_in_chromium import LOW_CONTRAST
from tests.view.test_switch_in_chromium import OVERLAPS
from tests.view.test_vmotion_in_chromium import LOOKS, OUTSIDE, at
from vilab.view.playback import Playback
from vilab.view.storage_move_track import StorageMoveTrack

pytestmark = pytest.mark.browser

QUESTION = "What is copied, and what does the guest write meanwhile?"


def playback(name: str, position: int = 0) -> Playback:
    return Playback(StorageMoveTrack(samples.ALL[name](), QUESTION), None, position)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", samples.ALL)
def test_no_word_lies_upon_another_and_all_can_be_read(page: Any, name: str, look: str) -> None:
    width, options = LOOKS[look]
    page.set_viewport_size({"width": width, "height": 1080})
    total = playback(name).track.total
    for position in sorted({0, 5, total // 2, total - 5, total}):
        page.set_content(page_html(playback(name, position), **options))
        page.wait_for_selector(".vl h2:not(:empty)")
        assert page.evaluate(OVERLAPS) == [], position
        assert page.evaluate(OUTSIDE) == [], position
        assert page.evaluate(LOW_CONTRAST) == [], position
        say = page.locator(".vl-say").bounding_box()
        assert say["y"] + say["height"] <= (990 if look == "lecture" else 720)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_steps_by_keys_and_the_twin_is_heard(page: Any) -> None:
    open_player(page, playback("changed blocks"))
    page.emulate_media(reduced_motion="reduce")
    page.focus(".vl-slider")
    for position in range(1, 6):
        page.keyboard.press("ArrowRight")
        at(page, position)
    page.wait_for_function(
        "document.querySelector('[aria-live]').textContent.includes('1 more square has to go again')"
    )
    assert "64 KB copied" in page.get_attribute(".vl-stage > svg", "aria-label")
    page.keyboard.press("Shift+ArrowRight")
    at(page, 6)
    page.keyboard.press("End")
    at(page, 16)
    page.wait_for_function("document.querySelector('.vl-say').textContent.includes('It has moved.')")
    page.keyboard.press("Home")
    at(page, 0)
