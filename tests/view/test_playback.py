"""What the player does with a wish from the page."""

from __future__ import annotations

import json

import pytest

from tests.view import sample_runs
from vilab.errors import AdminError, VmmBug
from vilab.view.playback import Playback
from vilab.view.predict import Prediction
from vilab.view.run_track import RingsTrack

SECRET = "the CPU drops the change, silently"


def playback(**options: object) -> Playback:
    return Playback(RingsTrack(sample_runs.silent_pushf(), "Does `pushf` tell the truth?"), **options)  # type: ignore[arg-type]


def asking(decided: list[str] | None = None) -> Playback:
    def right() -> int:
        if decided is not None:
            decided.append("right")
        return 2

    def ask(position: int) -> Prediction | None:
        if position != 6:
            return None
        options = ("It traps to the VMM", "It runs and pushes IF = 0", "It runs and pushes IF = 1")
        return Prediction("The next instruction is `pushf`, at ring 1. What happens?", options, right, lambda: SECRET)

    return playback(ask=ask, position=6)


def test_steps_go_on_and_stop_at_both_ends() -> None:
    player = playback()
    for _ in range(20):
        player.handle({"do": "step"})
    assert player.position == 10
    for _ in range(20):
        player.handle({"do": "back"})
    assert player.position == 0
    player.handle({"do": "seek", "to": 99})
    assert player.position == 10


def test_jumping_finds_the_next_event_of_the_same_kind() -> None:
    player = playback(position=1)
    player.handle({"do": "jump", "by": 1})
    assert player.position == 3
    player.handle({"do": "jump", "by": 1})
    player.handle({"do": "jump", "by": 1})
    assert player.position == 5  # there is no later trap
    player.handle({"do": "jump", "by": -1})
    assert player.position == 3


def test_a_prediction_stands_in_the_way_until_it_is_answered() -> None:
    player = asking()
    player.handle({"do": "step"})
    assert player.position == 6
    player.handle({"do": "step"})
    assert player.position == 6
    player.handle({"do": "reveal", "choice": 0})
    assert "✓ this" in player.frame()["card"]
    assert "✕ your answer" in player.frame()["card"]
    player.handle({"do": "step"})
    assert player.position == 7
    player.handle({"do": "back"})
    player.handle({"do": "step"})
    assert player.position == 7  # asked once


def test_escape_skips_a_prediction() -> None:
    player = asking()
    player.handle({"do": "step"})
    player.handle({"do": "skip"})
    assert player.position == 7
    assert player.frame()["card"] is None


def test_nothing_that_is_sent_before_the_reveal_holds_the_answer() -> None:
    decided: list[str] = []
    player = asking(decided)
    player.handle({"do": "step"})
    before = json.dumps(player.frame())
    assert SECRET not in before
    assert "no trap" not in before
    assert "00000202" not in before
    assert decided == []
    assert '"revealed": false' in before
    player.handle({"do": "reveal", "choice": 1})
    assert decided == ["right"]
    assert SECRET in json.dumps(player.frame())


def test_a_choice_that_is_none_reveals_nothing() -> None:
    player = asking()
    player.handle({"do": "step"})
    player.handle({"do": "reveal", "choice": -1})
    assert not player.frame()["revealed"]


def test_a_prediction_has_two_to_four_options() -> None:
    with pytest.raises(ValueError, match="two to four options"):
        Playback(
            RingsTrack(sample_runs.silent_pushf(), "?"), ask=lambda _: Prediction("?", ("one",), lambda: 0, "")
        ).step()


def refusing(error: Exception) -> Playback:
    class Refusing(RingsTrack):
        def go(self, position: int) -> None:
            raise error

    return Playback(Refusing(sample_runs.silent_pushf(), "?"))


def test_an_error_of_the_person_says_what_why_and_where_and_changes_nothing() -> None:
    player = refusing(AdminError("web1 cannot move to esx2. Host esx2 has no VMkernel port. Add one to vSwitch1."))
    player.handle({"do": "step"})
    frame = player.frame()
    assert frame["n"] == 0
    assert "✕ web1 cannot move to esx2<" in frame["notice"]
    assert "Nothing was changed." in frame["notice"]
    assert "Add one to vSwitch1." in player.describe()
    player.handle({"do": "skip"})
    assert player.frame()["notice"] is None


def test_a_bug_offers_what_is_needed_to_report_it_and_keeps_the_last_picture() -> None:
    player = refusing(VmmBug("shadow entry 3 maps a frame of another guest"))
    player.handle({"do": "step"})
    notice = player.frame()["notice"]
    assert "shadow entry 3 maps a frame of another guest" in notice
    assert "data-copy=" in notice
    assert "step 0 of 10" in notice
    assert player.frame()["stage"]["under"]


def test_text_of_a_run_is_escaped() -> None:
    player = Playback(RingsTrack(sample_runs.silent_pushf(), "Is 1 < 2 & `<b>`?"))
    player.handle({"do": "step"})
    assert "gate DPL 0 &lt; CPL 3" in player.frame()["panels"]
