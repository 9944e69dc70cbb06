"""A demonstration in a real Chromium: the picture follows the machines that are moved below it."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_the_picture_of_vmotion_follows_what_runs_in_later_cells(open_lesson, screenshots):
    lesson = open_lesson("notebooks/demonstrations/vmotion.ipynb")
    seen = []
    done = lesson._is_done

    def watched() -> bool:
        """While later cells run: what the picture has got to."""
        seen.extend((view.total, view.text_twin.partition(".")[0]) for view in lesson.views())
        return done()

    lesson._is_done = watched
    lesson.run_all()
    rounds = {words for total, words in seen if total and words.startswith("Round")}
    assert len(rounds) >= 3, "it is drawn while it runs"
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
