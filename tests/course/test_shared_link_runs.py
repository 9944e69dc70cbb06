"""Lesson 18's wire for two: what its text says of the runs, and that the question has the answer of its run."""

from __future__ import annotations

import pytest

from vilab.course.predictions_vmotion import wire_questions
from vilab.course.shared_link_runs import LIMIT_PERCENT, NETWORKS, Beside, beside, beside_text, percentile
from vilab.course.shared_link_views import wires
from vilab.course.vmotion_views import walk
from vilab.errors import AdminError
from vilab.migration.segment_stream import WINDOW_BYTES


@pytest.fixture(scope="module")
def runs() -> list[Beside]:
    return [beside(network) for network in NETWORKS]


def test_a_neighbour_on_the_same_wire_waits_for_the_window_and_nobody_else_does(runs: list[Beside]) -> None:
    own, shared, limited = runs
    window_ns = WINDOW_BYTES * 8 * 10
    quiet_ns = percentile(own.quiet_ns, 99)
    assert percentile(own.replies_ns, 99) < quiet_ns * 1.05
    assert window_ns * 0.9 < percentile(shared.replies_ns, 50) - quiet_ns < window_ns * 1.1
    assert percentile(limited.replies_ns, 99) < quiet_ns * 1.5
    assert [run.lost for run in runs] == [0, 0, 0]
    assert [run.again for run in runs] == [0, 0, 0]
    assert all(len(run.quiet_ns) > 50 for run in runs)


def test_the_migration_pays_for_the_shaper_and_hardly_for_the_neighbour(runs: list[Beside]) -> None:
    own, shared, limited = runs
    assert own.duration_ns < shared.duration_ns < own.duration_ns * 1.2
    assert limited.duration_ns > shared.duration_ns * 1.2
    assert limited.downtime_ns > shared.downtime_ns * 1.3 > own.downtime_ns
    assert limited.duration_ns >= limited.sent_bytes * 8 * 1_000_000_000 // (LIMIT_PERCENT * 1_000_000)


def test_lines_and_steps_say_what_was_measured(runs: list[Beside]) -> None:
    lines = beside_text(runs).splitlines()
    assert len(lines) == len(NETWORKS) + 2
    assert f"at {LIMIT_PERCENT} %" in lines[-1]
    view = wires("?", ask=True)
    said = walk(view).splitlines()
    assert len(said) == 4
    assert f"{percentile(runs[1].replies_ns, 99) / 1000:,.0f} µs" in said[1].replace("*", "")
    assert "Nothing has been moved yet" in said[0]


def test_the_question_has_the_answer_of_its_run(runs: list[Beside]) -> None:
    ask = wire_questions()
    assert [ask(position) is None for position in range(3)] == [False, True, True]
    card = ask(0)
    assert card is not None
    assert card.right() == 2
    assert callable(card.why)
    assert "5.2 ms" in card.why()


def test_what_cannot_be_is_a_sentence() -> None:
    with pytest.raises(AdminError, match="no network 'wireless'"):
        beside("wireless")
    with pytest.raises(AdminError, match="1 to 100 %"):
        beside("limited", 0)


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_a_percentile_is_a_time_that_was_measured(percent: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], percent) == expected
    assert percentile([], percent) == 0
