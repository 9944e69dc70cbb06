"""``vilab lab`` as a student meets it: the first lesson open, wide, in a work copy, with nothing in the way."""

from __future__ import annotations

import pytest

from vilab.commands.lab import first_lesson
from vilab.course.workcopy import originals, originals_folder

pytestmark = pytest.mark.browser


def test_the_first_lesson_is_open_with_the_side_bar_closed(chromium, lab):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.goto(lab.front_door())
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        first = first_lesson(lab.work)
        assert first is not None
        assert page.locator(".jp-mod-current.lm-DockPanel-tabBar, .lm-TabBar-tab.jp-mod-current").first.is_visible()
        assert page.title().startswith(first.rsplit("/", 1)[-1])
        page.wait_for_selector(".jp-FileBrowser", state="hidden")
        assert page.locator(".jp-Notebook").bounding_box()["width"] > 1100
        assert page.locator(".jp-Dialog").count() == 0
        assert page.locator(".Toastify__toast").count() == 0
    finally:
        context.close()
        lab.end_kernels()


def test_the_work_copy_holds_every_lesson_and_exercise(lab):
    names = set(originals(originals_folder()))
    assert {name.split("/")[0] for name in names} == {"notebooks", "exercises"}
    assert all((lab.work / name).is_file() for name in names)
