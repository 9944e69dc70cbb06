"""What the cells of lesson 20 call."""

from __future__ import annotations

import pytest

from vilab.course import storage_move_views as views
from vilab.errors import AdminError


def test_moves_side_by_side() -> None:
    calm, logs = views.storage_move("?", writes=0), views.storage_move("?", "snapshot", writes=0)
    rows = [line.split("  ") for line in views.compare(calm, logs).splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0] == ["changed blocks", "snapshot"]
    assert cells[1] == ["round 1", "2,048 KB", "2,048 KB"]
    assert cells[2] == ["round 2", "0 KB, stopped", "0 KB, stopped"]
    assert cells[-2:] == [["written by the guest", "0 KB", "0 KB"], ["space for redo logs", "0 KB", "0 KB"]]


def test_words_of_a_part_and_the_view_stays() -> None:
    view = views.storage_move("?", writes=0)
    view.seek(2)
    lines = views.walk(view, 1, 3).splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert view.playback.position == 2


def test_a_death_at_the_step_that_a_view_shows() -> None:
    view = views.death("?", "snapshot")
    with pytest.raises(AdminError, match="Nothing has happened yet at step 0"):
        views.die(view)
    view.seek(4)
    found = views.die(view)
    assert (found.at, found.synced, found.right, found.in_copy) == ("san1", 8, 8, 0)
    view.step()
    view.playback.reveal(1)
    assert "not 2, but 1: It runs from [san1], with 8 of 8 files" in view.describe()
