"""A demonstration in a real Chromium: the picture follows the machines that are moved below it."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_the_picture_of_vmotion_follows_what_runs_in_later_cells(open_lesson, screenshots):
    lesson = open_lesson("notebooks/demonstrations/vmotion.ipynb")
    lesson.run_all()
    (view,) = lesson.views()
    assert view.position == view.total >= 4
    assert "web runs on" in view.text_twin
    view.screenshot(screenshots / "demonstration-vmotion-end.png")
    end = view.drawing()
    view.seek("Home")
    view.step()
    assert "Round 1" in view.text_twin
    view.seek("End")
    assert view.drawing() == end
    view.press("l")
    assert view.is_lecture
    view.screenshot(screenshots / "demonstration-vmotion-lecture.png")
    assert not lesson.complaints
