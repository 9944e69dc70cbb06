"""Each lesson in a real Chromium: every cell runs, every picture moves, nobody complains."""

from __future__ import annotations

import pytest

from tests.notebooks.rules import LESSONS, name

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


@pytest.mark.parametrize("notebook", [name(path) for path in LESSONS])
def test_a_lesson_runs_and_its_pictures_move(open_lesson, screenshots, notebook):
    lesson = open_lesson(notebook)
    lesson.run_all()
    views = lesson.views()
    assert views, "The lesson has no picture."
    stem = notebook.rsplit("/", 1)[-1].removesuffix(".ipynb")
    for number, view in enumerate(views, 1):
        steps_forth_and_back(view)
        view.screenshot(screenshots / f"{stem}-{number}-light.png")
    plays(views[0])
    lectures(views[0])
    views[0].screenshot(screenshots / f"{stem}-1-lecture.png")
    views[0].press("l")
    lesson.theme(DARK)
    for number, view in enumerate(views, 1):
        view.screenshot(screenshots / f"{stem}-{number}-dark.png")
    lesson.theme(LIGHT)
    assert not lesson.complaints


def steps_forth_and_back(view):
    """To the beginning, two steps on, one back: picture and words follow, and the same place looks the same."""
    view.seek("Home")
    beginning, words = view.drawing(), view.text_twin
    view.step()
    first, first_words = view.drawing(), view.text_twin
    assert first != beginning, view.question
    assert first_words != words, view.question
    if view.total >= 2:
        view.step()
        assert view.drawing() != first, view.question
        view.click("Back")
        assert view.position == 1
        assert view.drawing() == first, view.question
        assert view.text_twin == first_words, view.question
        view.step()


def plays(view):
    """Play goes on by itself, Pause holds it."""
    from tests.browser.lesson import wait_for

    view.seek("Home")
    view.step()
    start = view.position
    view.button("Play").click()
    wait_for(lambda: view.position > start or view.asks, 20, f"Play in {view.question!r} goes on")
    if view.button("Pause").count():
        view.button("Pause").click()
    wait_for(lambda: view.button("Play").count(), 5, "Pause gives Play back")
    here = view.position
    view.page.wait_for_timeout(1200)
    assert view.position in (here, here + 1)  # one step may have been under way


def lectures(view):
    """L makes everything larger."""
    small = view.root.locator("h2").evaluate("node => parseFloat(getComputedStyle(node).fontSize)")
    view.press("l")
    assert view.is_lecture
    assert view.root.locator("h2").evaluate("node => parseFloat(getComputedStyle(node).fontSize)") > small
