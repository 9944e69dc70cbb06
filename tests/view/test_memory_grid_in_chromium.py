"""The memory grid in a real browser: what the canvas shows, keys, pointer, filters, a million pages, themes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.view.harness import open_player
from tests.view.memory_samples import SECOND_NS, million_pages, two_guests
from vilab.view.memory_grid import Kind, kinds
from vilab.view.memory_grid_track import GridPlayback, GridTrack
from vilab.view.memory_track import MemoryTrack

pytestmark = pytest.mark.browser

CANVAS, WORDS = ".vl-grid > canvas", ".vl-grid-words"
COLOURS = """() => {
    const canvas = document.querySelector(".vl-grid > canvas");
    const data = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const counts = {};
    for (const dot of data) counts[dot] = (counts[dot] || 0) + 1;
    return counts;
}"""
TOKEN = """(name) => {
    const pen = document.createElement("canvas").getContext("2d");
    pen.fillStyle = getComputedStyle(document.querySelector(".vl")).getPropertyValue("--vl-" + name).trim();
    pen.fillRect(0, 0, 1, 1);
    return String(new Uint32Array(pen.getImageData(0, 0, 1, 1).data.buffer)[0]);
}"""


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryTrack]:
    made = MemoryTrack(two_guests(), SECOND_NS // 2)
    made.run(5)
    yield made
    made.host.close()


@pytest.fixture
def playback(memory: MemoryTrack) -> GridPlayback:
    memory.seek(5)
    return GridPlayback(GridTrack(memory, "Who has what?", 6), position=5)


def shown(page: Any) -> str:
    return str(page.get_attribute(CANVAS, "data-sum"))


def until(page: Any, expression: str) -> None:
    page.wait_for_function(expression)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_a_dot_in_the_colour_of_its_kind(page: Any, playback: GridPlayback, theme: str) -> None:
    open_player(page, playback, theme=theme)
    counts = page.evaluate(COLOURS)
    found = kinds(playback.track.memory.frame)
    for name, kind in (("guest-fill", Kind.PRIVATE), ("shared-fill", Kind.SHARED), ("host-fill", Kind.MONITOR)):
        dots = counts[page.evaluate(TOKEN, name)]
        pages = int((found == kind).sum())
        assert dots % pages == 0
        assert dots // pages == round((dots // pages) ** 0.5) ** 2  # a square of whole pixels for each


def test_steps_redraw_and_the_same_step_looks_the_same(page: Any, playback: GridPlayback) -> None:
    open_player(page, playback)
    last = shown(page)
    page.click("[data-do=back]")
    until(page, f"document.querySelector('{CANVAS}').dataset.sum !== '{last}'")
    page.click("[data-do=step]")
    until(page, f"document.querySelector('{CANVAS}').dataset.sum === '{last}'")


def test_the_keyboard_reaches_every_page_and_leads_back(page: Any, playback: GridPlayback) -> None:
    open_player(page, playback)
    page.focus(CANVAS)
    for key, square in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowUp", 2)):
        page.keyboard.press(key)
        assert page.inner_text(WORDS).startswith(f"Square {square} of 40:")
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('{CANVAS}').dataset.sum.endsWith('-1')")
    page.keyboard.press("ArrowDown")
    assert page.inner_text(WORDS).startswith("Frame 00110: ")
    assert playback.position == 5  # arrows in the grid are no steps
    page.keyboard.press("Escape")
    until(page, f"!document.querySelector('{CANVAS}').dataset.sum.includes('-')")
    assert page.inner_text(WORDS).startswith("Square 2 of 40:")
    page.keyboard.press("Escape")
    until(page, "document.activeElement.classList.contains('vl-slider')")


def test_a_click_opens_a_square_and_pointing_names_its_pages(page: Any, playback: GridPlayback) -> None:
    open_player(page, playback)
    page.hover(CANVAS, position={"x": 10, "y": 10})
    assert page.inner_text(WORDS).startswith("Square 1 of 40:")
    page.click(CANVAS, position={"x": 10, "y": 10})
    until(page, f"document.querySelector('{CANVAS}').dataset.sum.endsWith('-0')")
    page.hover(CANVAS, position={"x": 30, "y": 5})
    assert page.inner_text(WORDS).startswith("Frame 00001: ")
    assert "monitor" in page.inner_text(WORDS) or "vmkernel" in page.inner_text(WORDS)


def test_a_filter_leaves_one_kind_in_its_colour(page: Any, playback: GridPlayback) -> None:
    open_player(page, playback)
    private, shared = page.evaluate(TOKEN, "guest-fill"), page.evaluate(TOKEN, "shared-fill")
    before = page.evaluate(COLOURS)
    page.click(".vl-grid-key button[data-kind='2']")
    until(
        page, "document.querySelector('.vl-grid-key button[data-kind=\"2\"]').getAttribute('aria-pressed') === 'true'"
    )
    page.wait_for_timeout(100)
    after = page.evaluate(COLOURS)
    assert private in before
    assert private not in after
    assert after[shared] == before[shared]
    page.focus(CANVAS)
    page.keyboard.press("2")
    page.wait_for_timeout(100)
    assert page.evaluate(COLOURS)[private] == before[private]


def test_one_machine_is_shown_alone_and_all_again(page: Any, playback: GridPlayback) -> None:
    open_player(page, playback)
    private = page.evaluate(TOKEN, "guest-fill")
    before = page.evaluate(COLOURS)[private]
    page.click("[data-row='1'] .vm-here")
    until(page, "document.querySelector('.vl-under').textContent.includes('only what vm2 has a part in')")
    page.wait_for_timeout(100)
    vm = playback.track.memory.frame.vm("vm2")
    assert vm is not None
    assert 0 < page.evaluate(COLOURS)[private] < before
    page.click("[data-row='1'] .vm-here")
    until(page, "!document.querySelector('.vl-under').textContent.includes('only what')")


def test_the_rows_can_be_walked_with_keys(page: Any, playback: GridPlayback) -> None:
    open_player(page, playback)
    page.evaluate("document.querySelector('.vl-stage').focus()")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.vl-under').textContent.includes('only what vm2 has a part in')")
    page.keyboard.press("Enter")
    until(page, "!document.querySelector('.vl-under').textContent.includes('only what')")


def test_a_million_pages_are_drawn_and_opened(page: Any) -> None:
    playback = GridPlayback(GridTrack(million_pages(), "4 GiB", 1))
    open_player(page, playback)
    counts = page.evaluate(COLOURS)
    assert len(counts) > 4
    page.focus(CANVAS)
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('{CANVAS}').dataset.sum.endsWith('-0')")
    assert page.inner_text(WORDS).startswith("Frame 00000: ")


@pytest.mark.parametrize("look", [{}, {"lecture": True}, {"wide": True}])
def test_nothing_of_the_grid_lies_over_the_slider(page: Any, playback: GridPlayback, look: dict[str, bool]) -> None:
    page.set_viewport_size({"width": 1440 if look.get("lecture") else 960, "height": 1000})
    open_player(page, playback, **look)
    grid, slider = (page.locator(css).bounding_box() for css in (".vl-grid", ".vl-slider"))
    assert grid["y"] + grid["height"] <= slider["y"] + 4
    stage = page.locator(".vl-stage").bounding_box()
    assert grid["width"] <= stage["width"] / 2
