"""The keyboard of a view: each key does what the table of keys says, and none reaches Lab."""

from __future__ import annotations

import pytest

from tests.browser.conftest import opening
from tests.browser.lesson import View, wait_for
from tests.notebooks.rules import LESSONS, name

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def lesson(chromium, lab):
    """One for all: the first test finds a question that nobody has answered yet, the others begin at Home."""
    if not LESSONS:
        pytest.fail("There is no lesson.")
    with opening(chromium, lab) as open_lesson:
        lesson = open_lesson(name(LESSONS[0]))
        lesson.run_all()
        yield lesson


def at(view: View, position: int) -> None:
    wait_for(lambda: view.position == position, 20, f"{view.question!r} stands at {position}, not {view.position}")


def advance(view: View, key: str) -> None:
    """The key until the position has changed; a question on the way is answered with 1."""
    start = view.position
    for _ in range(4):
        before = (view.position, view.asks, view.root.locator(".vl-slot").inner_html())
        if view.asks:
            view.page.keyboard.press("1")
        view.page.keyboard.press(key)
        wait_for(
            lambda before=before: (view.position, view.asks, view.root.locator(".vl-slot").inner_html()) != before,
            20,
            f"{key} in {view.question!r} does something",
        )
        if view.position == start + 1:
            return
    raise AssertionError(f"{key} in {view.question!r} stays at {view.position}")


def test_digits_choose_an_answer_and_escape_skips_the_question(lesson):
    for view in lesson.views():
        if finds_a_question(view):
            break
    else:
        pytest.fail("No view of the lesson asks anything within its first 40 steps.")
    reveal = view.button("Reveal")
    assert reveal.get_attribute("aria-disabled") == "true"
    view.press("2")
    assert reveal.get_attribute("aria-disabled") == "false"
    assert view.root.locator("[role=radio]").nth(1).get_attribute("aria-checked") == "true"
    view.press("1")
    assert view.root.locator("[role=radio]").nth(0).get_attribute("aria-checked") == "true"
    here = view.position
    view.press("Escape")
    at(view, here + 1)
    assert not view.asks


def test_every_key_of_the_table(lesson):
    view = lesson.views()[0]
    view.seek("Home")
    advance(view, "ArrowRight")
    advance(view, ".")
    view.page.keyboard.press("ArrowLeft")
    at(view, 1)
    view.page.keyboard.press(",")
    at(view, 0)
    view.page.keyboard.press("End")
    at(view, view.total)
    view.page.keyboard.press("Home")
    at(view, 0)
    speed = view.root.locator("button[aria-label^='Speed']")
    usual = speed.inner_text()
    view.page.keyboard.press("]")
    assert speed.inner_text() != usual
    view.page.keyboard.press("[")
    assert speed.inner_text() == usual
    view.page.keyboard.press("L")
    assert view.is_lecture
    view.page.keyboard.press("l")
    assert not view.is_lecture
    spoken = view.root.locator("[aria-live]")
    spoken.evaluate("node => { node.textContent = '' }")
    view.page.keyboard.press("t")
    wait_for(lambda: spoken.inner_text().strip(), 5, "T reads the text twin")
    assert not lesson.complaints


def test_space_plays_and_pauses(lesson):
    view = lesson.views()[0]
    view.seek("Home")
    advance(view, "ArrowRight")
    view.page.keyboard.press("]")
    view.page.keyboard.press("]")
    start = view.position
    view.page.keyboard.press("Space")
    wait_for(lambda: view.position > start or view.asks, 20, "Space plays")
    view.seek("Home")


def finds_a_question(view: View) -> bool:
    view.seek("Home")
    for _ in range(min(40, view.total)):
        before = view.position
        view.press("ArrowRight")
        wait_for(lambda before=before: view.asks or view.position > before, 20, "A step or a question")
        if view.asks:
            return True
    return False


def test_lab_does_not_hear_the_keys_of_a_view(lesson):
    """In Lab's command mode Shift-L toggles line numbers, Space scrolls, digits make headings, M makes Markdown."""
    view = lesson.views()[0]
    before = cells(lesson)
    for key in ("L", "L", "1", "2", "Space", "Space", "Home", "End", "Escape", "ArrowRight", ".", ",", "t"):
        view.press(key)
    assert cells(lesson) == before


def test_keys_outside_a_view_stay_labs(lesson):
    view = lesson.views()[0]
    view.seek("Home")
    lesson.page.locator(".jp-Notebook .jp-MarkdownCell").first.click()
    lesson.page.keyboard.press("Escape")
    lesson.page.keyboard.press("ArrowRight")
    lesson.page.keyboard.press("End")
    lesson.page.wait_for_timeout(500)
    assert view.position == 0


SOURCES = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .map(cell => cell.model.type + cell.model.sharedModel.getSource())"""


def cells(lesson) -> list[str]:
    """What Lab would have changed: kinds and sources of the cells, line numbers."""
    return [*lesson.page.evaluate(SOURCES), str(lesson.page.locator(".cm-lineNumbers").count())]
