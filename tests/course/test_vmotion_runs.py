"""Lesson 18: what its text says of the runs, and that every question has the answer of its run."""

from __future__ import annotations

import pytest

from vilab.course.predictions_vmotion import rule_questions
from vilab.course.vmotion_rules import COMPARED, SHOWN, outcome, rules_text
from vilab.course.vmotion_runs import GUESTS, Demonstration, link_of, moved, rates_text, summary
from vilab.course.vmotion_views import rounds, rules, walk
from vilab.errors import AdminError
from vilab.migration.migration_events import DirtySampled, MachineResumed
from vilab.view.vmotion_ask import vmotion_questions
from vilab.view.vmotion_track import VMotionTrack


def test_the_run_of_the_lesson_converges_and_nobody_loses_a_datagram() -> None:
    run = moved()
    assert [each.dirtied_pages for each in run.rounds[:-1]] == sorted(
        (each.dirtied_pages for each in run.rounds[:-1]), reverse=True
    )
    assert len(run.rounds) == 6
    assert run.heard.lost == 0
    assert run.heard.strange == 0
    assert 50_000_000 < run.downtime_ns < 80_000_000
    assert run.downtime_ns == pytest.approx(run.rounds[-1].duration_ns, rel=0.1)
    assert "no more than 256" in summary(run, 40)
    assert "You have guessed 40 ms." in summary(run, 40)
    assert len(rates_text(run).splitlines()) == 7
    assert sum(isinstance(event, DirtySampled) for event in run.events) < 200


def test_its_questions_have_its_answers() -> None:
    track = VMotionTrack(moved().events, "?")
    cards = {at: card for at in range(track.total) if (card := vmotion_questions(track)(at)) is not None}
    assert {at: card.right() for at, card in cards.items()} == {0: 2, 2: 0, 5: 1, 6: 0}


def test_a_writer_that_nothing_keeps_up_with_can_be_stunned_and_that_has_a_price() -> None:
    free, stunned = moved("rogue", 100, "rounds:4"), moved("rogue", 100, "rounds:4", 40)
    assert min(each.dirtied_pages for each in free.rounds[:-1]) > 1000
    assert stunned.downtime_ns * 50 < free.downtime_ns
    assert free.heard.lost > 15
    assert stunned.heard.lost * 5 < free.heard.lost, "the next turn is the other process's"
    assert stunned.heard.slowest_ns > 20_000_000, "but a wait of one is a wait of all"


def test_a_demonstration_goes_there_and_back_and_its_picture_follows() -> None:
    demonstration = Demonstration("quiet", 100, "nelson")
    assert demonstration.view.playback.track.total == 0
    runs = [demonstration.move(), demonstration.move()]
    resumed = [event.host for run in runs for event in run.events if isinstance(event, MachineResumed)]
    assert resumed == ["esx2", "esx1"]
    assert demonstration.view.playback.position == demonstration.view.playback.track.total == 3
    assert "It stood still" in demonstration.view.describe()
    demonstration.close()


def test_rules_beside_each_other() -> None:
    view = rules("?", ask=True)
    assert walk(view).count("\n") == len(SHOWN)
    assert len(rules_text().splitlines()) == len(SHOWN) + 1
    ask = rule_questions()
    cards = {at: card for at in range(len(SHOWN)) if (card := ask(at)) is not None}
    assert {SHOWN[at]: card.right() for at, card in cards.items()} == {"quake": 2, "specweb": 0, "constant-writer": 1}
    for card in cards.values():
        assert callable(card.why)
        assert card.why().endswith(".")
    assert outcome("specweb", COMPARED["Nelson"]).downtime_ns < outcome("specweb", "rounds:1").downtime_ns


def test_guests_and_links_that_cannot_be_are_refused() -> None:
    assert set(GUESTS) == {"quiet", "steady", "busy", "rogue"}
    with pytest.raises(AdminError, match="A link of 0 Mbit/s"):
        link_of(0)
    with pytest.raises(AdminError, match="no rule 'often'"):
        Demonstration("quiet", 100, "often")


def test_the_picture_of_the_lesson_has_words() -> None:
    assert walk(rounds("?"), 0, 1).startswith("  0  Nothing is sent yet.")
