"""Events of a migration as steps: nothing of the future in any of them, whatever order and whichever part arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view import vmotion_samples as samples
from vilab.events import Event, PoweredOn
from vilab.migration.migration_events import MachineResumed, MigrationBegan, MigrationEnded, RoundSent, WriterStunned
from vilab.view.vmotion_run import MigrationRun, migrations
from vilab.view.vmotion_track import VMotionTrack


def run_of(events: list[Event]) -> MigrationRun:
    run = MigrationRun.of(events)
    assert run is not None
    return run


def kinds(events: list[Event]) -> list[str]:
    return [step.kind for step in run_of(events).steps]


def test_a_step_a_round_and_how_it_ended() -> None:
    assert kinds(samples.specweb()) == ["round"] * 8 + ["stopped", "moved"]
    assert kinds(samples.one_round()) == ["stopped", "moved"]
    assert kinds(samples.aborted()) == ["round", "round", "failed"]
    assert kinds(samples.given_back()) == ["round", "round", "stopped", "failed"]
    assert kinds(samples.refused()) == ["failed"]
    assert kinds(samples.live()) == ["round", "round", "round", "open"]


def test_writers_of_one_round_are_one_step_before_it() -> None:
    run = run_of(samples.stunned_writers())
    at = [step.kind for step in run.steps].index("writers")
    assert [writer.number for writer in run.steps[at].seen.writers] == [12, 12, 12]
    assert [each.number for each in run.steps[at].seen.rounds][-1] == 12
    assert run.steps[at].seen.rounds[-1].sent is None
    assert run.steps[at + 1].seen.rounds[-1].sent is not None


def test_the_numbers_are_those_of_clarks_figure_9() -> None:
    whole = run_of(samples.specweb()).seen
    assert [round(each.bytes / samples.MB, 1) for each in whole.rounds] == list(samples.SPECWEB_MB)
    assert whole.sent_bytes / whole.memory_bytes == pytest.approx(1.20, abs=0.005)
    assert whole.downtime_ns == pytest.approx(220e6, rel=0.01)
    assert whole.moved
    assert whole.runs_on == "esx2"
    assert whole.rounds[7].overtaken
    assert not whole.rounds[4].overtaken


def test_the_working_set_is_claimed_when_rounds_have_stopped_to_shrink_and_not_before() -> None:
    run = run_of(samples.specweb())
    found = [run.at(position).plateau for position in range(10)]
    assert found[:7] == [None] * 7
    eight, nine = found[8], found[9]
    assert eight is not None
    assert nine is not None
    assert nine[0] == 4
    assert nine[1] / samples.MB == pytest.approx(16.7, abs=0.01)
    assert run_of(samples.quake()).seen.plateau is None
    assert run_of(samples.muncher()).seen.plateau is None
    constant = run_of(samples.constant()).seen.plateau
    assert constant == (1, 96 * samples.MB)


def test_the_working_set_is_what_rounds_leave_not_what_they_send() -> None:
    """Of a guest that writes everything again before its turn hardly anything is sent."""
    told = samples.Teller(64)
    told.round(64, 100, 10)
    for _ in range(5):
        told.round(2, 100, 10, skipped=samples.pages(8))
    whole = run_of(told.events).seen
    assert whole.plateau == (1, 10 * samples.MB)
    assert [each.due_bytes for each in whole.rounds[1:]] == [10 * samples.MB] * 5


def test_a_step_knows_what_its_part_of_the_log_says_and_no_more() -> None:
    for make in samples.ALL.values():
        events = make()
        whole = run_of(events)
        said = {}
        for length in range(1, len(events) + 1):
            part = run_of(events[:length])
            if part.steps and part.steps[-1].kind != "open":
                said[len(part.steps)] = part.steps[-1]
        for position, step in said.items():
            assert whole.steps[position - 1] == step


def test_a_round_that_was_cut_off_stays_open() -> None:
    whole = run_of(samples.aborted()).seen
    assert whole.rounds[-1].sent is None
    assert whole.rounds[-1].bytes == 300 * 4096
    assert not whole.moved
    assert whole.runs_on == "esx1"
    assert whole.downtime_ns is None


def test_it_runs_at_the_source_again_after_a_late_refusal() -> None:
    whole = run_of(samples.given_back()).seen
    assert whole.runs_on == "esx1"
    assert whole.downtime_ns is not None
    assert whole.downtime_ns > 31 * samples.MS


def test_off_is_not_running_anywhere() -> None:
    told = samples.Teller(16)
    told.round(16, 900, 1)
    told.stun("256 pages are left")
    told.round(1, 900, 0, True)
    events = told.end(False, "both hosts lost the datastore: the VM is off.")
    assert run_of(events).seen.runs_on == ""
    assert kinds(events)[-1] == "failed"


def test_the_other_hosts_clock_does_not_count() -> None:
    events = samples.specweb()
    here = next(at for at, event in enumerate(events) if isinstance(event, MachineResumed))
    resumed = events[here]
    assert isinstance(resumed, MachineResumed)
    far = MachineResumed(10**18, resumed.vm, resumed.host, resumed.downtime_ns, True)
    late = [*events[:here], *events[here + 1 :], far]
    assert run_of(late).seen.duration_ns == run_of(events).seen.duration_ns
    assert kinds(late) == kinds(events)
    assert run_of(late).seen.downtime_ns == resumed.downtime_ns


def test_a_log_without_the_other_host_says_what_the_end_says() -> None:
    events = [event for event in samples.specweb() if not isinstance(event, MachineResumed)]
    whole = run_of(events).seen
    assert whole.runs_on == "esx2"
    assert whole.downtime_ns == run_of(samples.specweb()).seen.downtime_ns


def test_several_migrations_in_one_log() -> None:
    there, back = samples.specweb(), samples.Teller(800, source="esx2", destination="esx1")
    back.round(800, 900, 0)
    back.stun("nothing is left")
    other = samples.quake()
    log: list[Event] = [PoweredOn(0, "bt", "x", 0), *there]
    mixed = [event for pair in zip(back.move(), other, strict=False) for event in pair]
    runs = migrations([*log, *mixed])
    assert [run.begin.began.vm for run in runs] == ["web1", "web1", "quake"]
    assert runs[0].seen.runs_on == "esx2"
    assert runs[1].seen.runs_on == "esx1"
    assert MigrationRun.of(log, "nobody") is None
    assert MigrationRun.of(there, which=4) is None
    assert len(VMotionTrack.all_of(there, "?")) == 1


def test_pages_that_follow_after_it_runs_do_not_hide_the_end() -> None:
    told = samples.Teller(16)
    told.stun("post-copy")
    told.events.append(MachineResumed(told.now, told.vm, told.destination, 4 * samples.MS, True))
    told.round(16, 900, 0)
    assert kinds(told.events) == ["round", "moved"]
    assert kinds(told.end(True, "")) == ["round", "moved"]


ANY = samples.specweb()[:14] + samples.aborted() + samples.stunned_writers()[30:] + samples.given_back()


@given(st.lists(st.sampled_from(ANY), max_size=40), st.integers(0, 40))
def test_any_part_of_any_log_in_any_order_can_be_shown(events: list[Event], cut: int) -> None:
    """Whatever comes in, steps are shown, their places grow, and what has been said stays said."""
    track = VMotionTrack(events[:cut], "?")
    for event in events[cut:]:
        track.add(event)
    for position in range(track.total + 1):
        made = track.picture(position)
        assert made.say
        assert made.timeline.left <= made.timeline.right
    if track.run is not None:
        assert all(isinstance(step.seen.began, MigrationBegan) for step in track.run.steps)
        stops = track.stops()
        assert len(stops) == track.total + 1
        assert stops == sorted(stops)


def test_a_duration_of_nothing_divides_nothing() -> None:
    began = MigrationBegan(0, "a", "x", "y", 0, "traces", "nelson")
    sent = RoundSent(0, "a", 1, 0, 0, 0, 0, 0, 0, 0, True)
    writer = WriterStunned(0, "a", 1, 0, 0)
    ended = MigrationEnded(0, "a", True, "", 0, 0, 0)
    track = VMotionTrack([began, writer, sent, ended], "?")
    assert [track.kind_of(at) for at in (1, 2, 3)] == ["writers", "stopped", "moved"]
    assert all(track.picture(at).stage.under for at in range(4))
