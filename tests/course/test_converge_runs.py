"""Lesson 19: what its text says of the runs is so, and the questions have the answers of the runs."""

from __future__ import annotations

import pytest

from vilab.course import converge_runs as runs
from vilab.course.converge_paper import MS, PAPER, by_clark, paper_table
from vilab.course.converge_rates import NAMES, RatesTrack
from vilab.course.converge_runs import moved, predicted_ns
from vilab.course.predictions_converge import link_questions, remedy_questions, rogue_questions, steady_questions
from vilab.errors import AdminError
from vilab.migration.dirty_traces import workload
from vilab.migration.migration_events import MachineStunned, MigrationEnded, RoundSent
from vilab.view.vmotion_track import VMotionTrack

pytestmark = pytest.mark.timeout(120)


def test_the_rogue_stands_still_for_what_is_left_at_the_speed_of_the_link() -> None:
    for link in (40, 160):
        found = moved("rogue", "plain", link)
        assert found.left_pages > runs.ROGUE_PAGES
        assert found.downtime_ns == pytest.approx(predicted_ns(found.left_pages, link), rel=0.03)


def test_stunning_its_writer_cuts_what_a_round_leaves_by_more_than_ten() -> None:
    plain, stunned = moved(), moved("rogue", "stun")
    (event,) = stunned.stunned
    assert (event.number, event.faults) == (1, 41)
    left = [each.dirtied_pages for each in stunned.rounds if not each.stopped]
    assert left[0] * 4 < plain.left_pages
    assert left[1] * 10 < plain.left_pages
    assert left[-1] * 40 < plain.left_pages
    assert stunned.downtime_ns * 40 < plain.downtime_ns
    assert plain.done is not None
    assert stunned.done is not None
    assert stunned.done < plain.done / 2, "who is stunned pays"


def test_rates_and_deltas_do_not_help_the_rogue() -> None:
    for way in ("rates", "delta"):
        assert moved("rogue", way).downtime_ns > 0.9 * moved().downtime_ns
    assert moved("rogue", "rates").total_ns > 1.2 * moved().total_ns


def test_deltas_make_the_steady_writer_converge_and_more_so_without_peeking() -> None:
    plain, delta, every = (moved("steady", way) for way in ("plain", "delta", "every"))
    assert "too little progress" in plain.why
    assert "no more than" in delta.why
    assert delta.downtime_ns * 10 < plain.downtime_ns
    assert delta.sent_bytes < 0.7 * plain.sent_bytes
    assert every.downtime_ns * 4 < delta.downtime_ns
    assert every.rounds[-1].sent_bytes * 100 < plain.rounds[-1].sent_bytes
    assert plain.heard.lost > 10 * delta.heard.lost


def test_post_copy_ends_the_standstill_and_the_rogue_waits_for_its_pages_instead() -> None:
    for guest, most_asked, least_asked in (("rogue", 1600, 1000), ("steady", 200, 1)):
        found = moved(guest, "post")
        assert found.downtime_ns < 30 * MS
        assert found.asked + found.pushed == found.left_pages
        assert least_asked <= found.asked < most_asked
    assert moved("rogue", "post").heard.slowest_ns > moved().heard.slowest_ns
    assert moved("steady", "post").heard.slowest_ns * 4 < moved("steady").heard.slowest_ns


def test_pages_of_zeros_take_no_room() -> None:
    raw, plain = moved("zeros", "raw"), moved("zeros", "plain")
    assert raw.rounds[0].zero_pages == 0
    assert plain.rounds[0].zero_pages > runs.ROGUE_PAGES
    assert plain.sent_bytes * 8 < raw.sent_bytes


def test_each_question_has_the_answer_of_its_run() -> None:
    track = VMotionTrack(moved().events, "?")
    ask = rogue_questions(track)
    cards = [card for at in range(track.total + 1) if (card := ask(at)) is not None]
    assert [card.right() for card in cards] == [2, 2]
    (link,) = (card for at in range(4) if (card := link_questions()(at)) is not None)
    assert link.right() == 1
    four = [card for at in range(5) if (card := remedy_questions()(at)) is not None]
    assert [card.right() for card in four][:2] == [0, 0]
    assert four[3].right() == 0
    two = [card for at in range(5) if (card := steady_questions()(at)) is not None]
    assert [card.right() for card in two] == [2, 1]
    for card in (*cards, link, *four, *two):
        assert 0 <= card.right() < len(card.options)
        assert (card.why if isinstance(card.why, str) else card.why()).endswith(".")


def test_the_model_s_events_are_of_the_paper_s_size_and_add_up() -> None:
    for name, paper in PAPER.items():
        outcome, events = by_clark(name)
        (ended,) = (event for event in events if isinstance(event, MigrationEnded))
        (stopped,) = (event for event in events if isinstance(event, MachineStunned))
        rounds = [event for event in events if isinstance(event, RoundSent)]
        assert (
            ended.sent_bytes == sum(each.sent_bytes for each in rounds) == outcome.sent_bytes * workload(name).divisor
        )
        assert stopped.pages == rounds[-2].dirtied_pages == rounds[-1].sent_pages
        assert stopped.why == outcome.why
        assert ended.downtime_ns / MS == pytest.approx(paper.downtime_ms, rel=0.45)
        assert ended.duration_ns / 1e9 == pytest.approx(paper.total_s, rel=0.25)
        if paper.sent_mb:
            assert ended.sent_bytes / 1e6 == pytest.approx(paper.sent_mb, rel=0.12)
    assert paper_table().splitlines()[0].split()[:2] == ["machine", "MB"]


def test_limits_can_be_turned_and_the_machine_is_moved_again() -> None:
    track = RatesTrack("?")
    before = track.sentence(track.now)
    track.turn("most", 300)
    assert track.sentence(track.now) != before
    track.turn("least", 500)
    assert (track.least_mbit, track.most_mbit) == (500, 500)
    track.turn("most", 100)
    assert (track.least_mbit, track.most_mbit) == (100, 100)
    track.turn("machine", NAMES.index("constant-writer"))
    assert "constant-writer runs on" in track.sentence(track.now)
    assert [knob.words.replace("\xa0", " ") for knob in track.knobs()] == [
        "constant-writer",
        "100 Mbit/s",
        "100 Mbit/s",
    ]
    with pytest.raises(AdminError):
        by_clark("specweb", 500, 100)
