"""The rounds of a migration as a widget: what it says, what it sends to the page, and a log that it follows."""

from __future__ import annotations

from typing import Any

from tests.view import vmotion_samples as samples
from vilab.events import EventLog
from vilab.migration.migration_events import DirtySampled
from vilab.view.vmotion_ask import vmotion_questions
from vilab.view.vmotion_player import SAMPLES_DRAWN, VMotionPlayer


def test_it_plays_a_finished_log() -> None:
    player = VMotionPlayer(samples.specweb())
    assert player.question == "When should pre-copy give up and stop the VM?"
    assert player.describe().startswith("Nothing is sent yet.")
    assert player.step().startswith("Round 1 sends all memory")
    assert player.seek(9).startswith("Stop after round 8")
    assert player.back().startswith("Round 8")
    assert player.frame["n"] == 8
    assert VMotionPlayer(samples.aborted(), position=-1).describe().startswith("Not moved")


def test_it_follows_logs_until_it_is_told_not_to() -> None:
    log, drawn = EventLog(keep=True), []
    player = VMotionPlayer([], "Does it move?")
    player.observe(lambda change: drawn.append(change["new"]["n"]), "frame")
    end = player.follow(log)
    events = samples.specweb()
    for event in events[:13]:
        log.emit(event)
    assert player.frame["n"] == player.rounds.track.total == 6
    end()
    end()
    assert log.listeners == []
    for event in events[13:]:
        log.emit(event)
    assert player.frame["n"] == 6
    assert player.take(log.events).startswith("web1 runs on esx2.")
    assert drawn == sorted(drawn)


def test_samples_do_not_draw_the_page_each() -> None:
    told, count = samples.Teller(64), 0
    told.begin()
    player, log = VMotionPlayer(told.events, position=-1), EventLog()

    def published(_: Any) -> None:
        nonlocal count
        count += 1

    player.take(told.events)
    player.observe(published, "frame")
    player.follow(log)
    for at in range(3 * SAMPLES_DRAWN):
        log.emit(DirtySampled(told.now + at, "web1", 1, at, 10 * at))
    assert count == 3


def test_a_question_stands_before_the_stop() -> None:
    player = VMotionPlayer(samples.specweb(), position=8)
    player.playback.ask = vmotion_questions(player.rounds.track)
    assert player.step().startswith("Round 8 had 15.3 MB to send and leaves 18.2 MB. What happens next?")
    assert "right" in player.answer(2)
    assert player.step().startswith("Stop after round 8")
