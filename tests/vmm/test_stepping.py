"""Walking a run in both directions: going back and forth never changes what a step is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vmm.images import timer_image
from vilab.events import ConsoleOutput, EventLog, UnitTranslated, encode
from vilab.guests.load import load
from vilab.vmm.stepping import Stepper, run_until_eip, run_until_ns
from vilab.vmm.vm import QuietConsole, VirtualMachine

ENGINES = ("bare", "trap", "bt", "svm")


def stepper(name: str, engine: str, limit: int = 600, skip: object = None, memory_mb: int = 4) -> Stepper:
    image = load(name, memory_bytes=memory_mb << 20)
    return Stepper(
        lambda log: VirtualMachine(image, engine, memory_mb << 20, log=log), limit, skip  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module", params=ENGINES)
def booting(request: pytest.FixtureRequest) -> Stepper:
    return stepper("shell", request.param)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_wherever_one_seeks_the_machine_is_in_the_recorded_state(booting: Stepper, data: st.DataObject):
    position = data.draw(st.integers(0, booting.total))
    booting.seek(position)
    assert booting.position == position
    expected = booting.records[position - 1].guest if position else booting.start
    assert booting.vm.engine.guest_registers() == expected


def test_the_log_after_going_back_is_the_log_of_the_first_pass(booting: Stepper):
    booting.seek(booting.total)
    first = [encode(event) for event in booting.log.events]
    booting.seek(130)
    booting.seek(booting.total)
    assert [encode(event) for event in booting.log.events] == first
    assert [encode(e) for record in booting.records for e in record.events] == first


def test_step_and_back_move_by_one(booting: Stepper):
    booting.seek(10)
    record = booting.step()
    assert record is not None
    assert (record.index, booting.position) == (11, 11)
    booting.back()
    booting.back()
    assert booting.position == 9
    booting.seek(0)
    booting.back()
    assert booting.position == 0


@pytest.mark.parametrize("engine", [*ENGINES, "deprivileged"])
def test_isprime_has_51_steps_and_a_reason_to_end(engine: str):
    run = stepper("isprime", engine)
    assert run.total == 51
    assert "EAX = 0" in run.ending
    assert run.step() is not None
    run.seek(51)
    assert run.step() is None
    assert [record.mnemonic for record in run.records[:4]] == ["mov", "mov", "cmp", "jge"]


def test_units_of_isprime_begin_where_the_paper_says():
    run = stepper("isprime", "bt")
    units = [e for record in run.records for e in record.events if isinstance(e, UnitTranslated)]
    assert [len(unit.lines) for unit in units] == [4, 5, 3, 2]
    starts = []
    while run.position < run.total:
        run.seek(run.next_unit())
        starts.append(run.position)
    assert starts[:3] == [4, 9, 12]  # after mov mov cmp jge, after the five of nexti, after inc cmp jl


def test_guest_memory_can_be_read_at_any_step():
    run = stepper("isprime", "bt")
    assert run.read_guest(run.start.eip, 2) == bytes.fromhex("89f9")


def test_a_recording_can_begin_in_the_middle_of_a_run():
    whole = stepper("isprime", "bt")
    middle = stepper("isprime", "bt", skip=run_until_eip(whole.records[20].eip))
    assert middle.start.eip == whole.records[20].eip
    assert middle.total < 51
    later = stepper("shell", "bt", limit=40, skip=run_until_ns(2_000_000), memory_mb=8)
    assert later.total == 40
    assert later.records[0].virtual_ns >= 2_000_000
    later.seek(0)
    later.seek(40)


def test_an_unstepped_run_logs_the_same_events_as_a_stepped_one():
    for engine in ENGINES:
        image = load("isprime", memory_bytes=4 << 20)
        log = EventLog(keep=True)
        vm = VirtualMachine(image, engine, 4 << 20, log=log)
        vm.load_state(vm.save_state())
        log.events.clear()
        vm.engine.run()
        run = stepper("isprime", engine)
        run.seek(run.total)
        stepped = [encode(e) for record in run.records for e in record.events]
        assert stepped == [encode(e) for e in log.events]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_typed_is_heard_again_and_what_was_said_is_not_said_again(engine: str):
    # STI; HLT: idle, so that the terminal is looked at. The handler reads a byte, and sends it back: EAX.
    image = timer_image("31c0 fb f4 f4", "66baf803 ec ee bc00000900 c3")
    walk = Stepper(lambda log: VirtualMachine(image, engine, 4 << 20, console=QuietConsole(b"K"), log=log))
    for _ in range(2):
        walk.seek(walk.total)
        assert walk.vm.engine.vcpu.gpr[0] & 0xFF == ord("K")
        assert [event.data for event in walk.log.of(ConsoleOutput)] == [b"K"]
        walk.seek(0)
    console = walk.vm.console
    assert isinstance(console, QuietConsole)
    assert console.output == b"K"
