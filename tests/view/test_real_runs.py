"""The views on runs of the real machine: every engine, every position, and numbers that the paper gives."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import lru_cache

import pytest

from vilab.guests.load import load
from vilab.view.playback import Playback
from vilab.view.run_track import RingsTrack, TranslationTrack
from vilab.vmm.stepping import Stepper
from vilab.vmm.vm import ENGINES, MONITOR_WINDOW, VirtualMachine

MEMORY_BYTES = 16 << 20


@lru_cache(maxsize=8)
def run(engine: str, image: str = "isprime", limit: int = 400) -> Stepper:
    reserved = None if engine in ("bare", "svm") else MONITOR_WINDOW
    loaded = load(image, memory_bytes=MEMORY_BYTES, reserved=reserved)
    return Stepper(lambda log: VirtualMachine(loaded, engine, MEMORY_BYTES, log=log), limit=limit)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_position_of_isprime_can_be_drawn_and_told(engine: str) -> None:
    stepper = run(engine)
    assert stepper.total == 51
    for track in (RingsTrack(stepper, "Is 49 prime?"), TranslationTrack(stepper, "Is 49 prime?", ("registers", "log"))):
        for position in range(track.total + 1):
            picture = track.picture(position)
            ET.fromstring(f"<svg>{picture.stage.under}{picture.stage.over}{picture.timeline.svg}</svg>")
            assert picture.say.endswith(".")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_registers_shown_are_the_machines(engine: str) -> None:
    stepper = run(engine)
    track = RingsTrack(stepper, "Is 49 prime?", ("registers",))
    for position in (1, 7, track.total, 5, 0):
        track.go(position)
        shown = {row.cells[0].text: row.cells[-1].text for row in track.picture(position).panels[0].rows}
        truth = stepper.vm.engine.guest_registers()
        assert shown["EAX"] == f"{truth.gpr[0]:08x}"
        assert shown["EDX"] == f"{truth.gpr[2]:08x}"
        assert shown["EIP"] == f"{truth.eip:08x}"


def test_the_papers_isprime_in_the_picture() -> None:
    """Adams and Agesen 2006, section 3.2: 4 fragments, 14 instructions, 10 of them IDENT."""
    track = TranslationTrack(run("bt"), "Is 49 prime?")
    units = track.scene(track.total).state.fragments.values()
    assert len(units) == 4
    kinds = [line[2] for unit in units for line in unit.lines]
    assert (len(kinds), kinds.count("ident")) == (14, 10)


def test_only_the_first_round_of_the_loop_calls_the_vmm() -> None:
    track = RingsTrack(run("bt"), "Is 49 prime?")
    called = [beat.step for beat in track.beats if beat.kind == "callout"]
    first_round = [step for step in called if step < 12]
    assert len(first_round) == 3  # two exits fall into new code, one loops back
    left_the_loop = next(step for step, record in enumerate(run("bt").records) if record.eip >= 0x0010001F)
    assert [step for step in called if 12 <= step < left_the_loop - 1] == []


def test_the_kernel_reads_its_own_ring_wrongly_under_trap_and_emulate_only() -> None:
    """The teaching kernel looks at CS when it starts."""

    def wrong(engine: str) -> list[str]:
        track = RingsTrack(run(engine, "shell", 40), "?")
        return [track.describe(index + 1) for index, beat in enumerate(track.beats) if beat.wrong]

    assert len(wrong("trap")) == 1
    assert "no trap" in wrong("trap")[0]
    assert wrong("bt") == wrong("svm") == wrong("bare") == []


def test_a_trap_that_nobody_handles_is_the_end_and_says_so() -> None:
    track = RingsTrack(run("deprivileged", "shell", 40), "?")
    player = Playback(track, position=track.total)
    frame = player.frame()
    assert frame["fault"]
    assert "there is no VMM to help" in frame["twin"]


def test_stepping_back_and_forth_through_the_real_machine() -> None:
    stepper = run("bt")
    player = Playback(RingsTrack(stepper, "Is 49 prime?"))
    seen = []
    for _ in range(20):
        player.handle({"do": "step"})
        seen.append(player.frame())
    for _ in range(19):
        player.handle({"do": "back"})
        seen.pop()
        assert player.frame() == seen[-1]
    assert player.notice is None
