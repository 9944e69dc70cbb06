"""Guests on half of the memory they were promised: nobody sees a wrong byte, and free memory comes back."""

from __future__ import annotations

from pathlib import Path

from vilab.host.overcommit import overcommit


def test_guests_on_half_of_what_they_were_promised_see_no_wrong_byte(tmp_path: Path) -> None:
    found = overcommit(2.5, tmp_path, guests=4)
    assert found.wrong == 0
    assert not found.stopped
    assert all(rounds > 30 for rounds in found.rounds)
    assert found.state_at_end == "high"
    assert found.swapped_out + found.ballooned_pages + found.saved_frames > 500
    assert found.saved_frames > found.swapped_out
    assert not list(tmp_path.iterdir())
