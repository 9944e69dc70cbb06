"""From steps of the machine to beats: where the picture stops, and where the machine stands meanwhile."""

from __future__ import annotations

from tests.view import sample_runs
from vilab.events import CalloutTaken, Emulated
from vilab.view.beats import GUEST, VMM, beats_of


def test_a_trap_gives_two_beats_and_the_machine_stands_before_the_instruction_during_the_first() -> None:
    run = sample_runs.silent_pushf()
    beats = beats_of(run.records, (run.start, run.start_cpu))
    assert [(beat.actor, beat.step, beat.position, beat.kind) for beat in beats[:4]] == [
        (GUEST, 0, 0, "trap"),
        (VMM, 0, 1, ""),
        (GUEST, 1, 1, "trap"),
        (VMM, 1, 2, ""),
    ]
    assert len(beats) == 10


def test_time_never_runs_backwards_over_beats() -> None:
    for run in (sample_runs.silent_pushf(), sample_runs.svm_pushf(), sample_runs.translated()):
        times = [beat.at_ns for beat in beats_of(run.records, (run.start, run.start_cpu))]
        assert times == sorted(times)


def test_a_translation_is_the_vmms_work_before_the_guest_starts() -> None:
    run = sample_runs.translated()
    beats = beats_of(run.records, (run.start, run.start_cpu))
    assert [(beat.actor, beat.kind) for beat in beats[:3]] == [(VMM, "translate"), (GUEST, "callout"), (VMM, "")]


def test_a_translation_made_in_a_callout_is_no_beat_of_its_own() -> None:
    run = sample_runs.translated()
    jump = [
        beat for beat in beats_of(run.records, (run.start, run.start_cpu)) if run.records[beat.step].mnemonic == "je"
    ]
    assert [(beat.actor, beat.kind) for beat in jump] == [(GUEST, "callout"), (VMM, "")]


def test_what_the_run_ended_with_is_not_laid_to_the_instruction_before_it() -> None:
    """The stepper gives late events, such as the callout of a final HLT, to the last step."""
    w = sample_runs.Writer("bt", sample_runs.GUEST, sample_runs.CPU)
    hlt = sample_runs.GUEST.eip + 1
    w.add("40", CalloutTaken(9, hlt, sample_runs.TC + 1, "hlt", 1254), Emulated(9, hlt, b"\xf4", "halted"),
          how="translated")  # fmt: skip
    beats = beats_of(w.records, (w.start, w.start_cpu), engine="bt")
    assert [(beat.actor, beat.leaves) for beat in beats] == [(GUEST, False), (VMM, False)]


def test_every_step_ends_in_a_beat_where_the_machine_has_made_it() -> None:
    run = sample_runs.long_loop(400)
    beats = beats_of(run.records, (run.start, run.start_cpu))
    last = {beat.step: beat.position for beat in beats}
    assert last == {step: step + 1 for step in range(400)}
