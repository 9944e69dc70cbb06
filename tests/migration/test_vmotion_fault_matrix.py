"""Every kind of fault at every step of a migration: one host runs the machine in the end, or it is off and it is said
why. The steps: ``vmotion_steps``. What has to be true: ``vmotion_journey``.

::

                        hello  Prepare  Pages  RoundEnd  ...  State  Loaded  HandOver  Runs
    cut, stall, corrupt   .       .       .       .             .      .        .       x        x  it has moved
    source dies           o       o       o       o             o      o        o       x        o  off
    destination dies      .       .       .       .             .      .        .       o        .  it runs on

``VILAB_MIGRATION_FAULTS``: how many random bytes and moments of each kind beside these. Times of the volume are a tenth
of the true ones: a host that is silent for 1.6 s may be taken for dead.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.migration.vmotion_journey import Journey, flipped
from tests.migration.vmotion_steps import (
    MESSAGES,
    PATIENCE_NS,
    TENTH,
    Moment,
    Step,
    Steps,
    Way,
    begin,
    go,
    in_tenths,
)
from vilab.host.host import Host, run_together
from vilab.storage.vmfs.errors import VmfsFull
from vilab.storage.vmfs.transaction import Transaction

FAULTS = int(os.environ.get("VILAB_MIGRATION_FAULTS", "0"))
PAUSE_NS = PATIENCE_NS // 2
DECIDED = ("back", "Runs")
"""Before this message is sent the destination has committed."""
NEAR_THE_END = ("Loaded", "HandOver", "Runs")


@pytest.fixture(autouse=True)
def tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    in_tenths(monkeypatch)


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    made = Journey(tmp_path, TENTH)
    yield made
    made.close()


def table(journey: Journey, kind: str) -> None:
    print(f"{kind:24}", dict(journey.ends))


# --- the wire ---------------------------------------------------------------------------------------------------------


def no_fault(_steps: Steps) -> None:
    pass


def test_all_steps_are_there(journey: Journey) -> None:
    steps = begin(journey, None, no_fault)
    go(steps)
    found = [(step.way, step.message) for step in steps.met if step.moment == "sent"]
    assert set(found) == set(MESSAGES)
    assert Counter(found)["out", "Pages"] > 1
    assert journey.judge(steps.migration) == "moved"


def cut(steps: Steps) -> None:
    steps.link.cut()


def stall(steps: Steps) -> None:
    steps.link.stall()


def pause(steps: Steps) -> None:
    steps.link.stall()
    clock = steps.link.clock
    clock.at(clock.now_ns + PAUSE_NS, steps.link.resume)


CHANGES: dict[str, Callable[[bytes, int], bytes]] = {
    "corrupt": flipped,
    "drop": lambda _data, _at: b"",
    "truncate": lambda data, at: data[:at],
    "repeat": lambda data, _at: data + data,
}
WIRE: dict[str, Callable[[Steps], None]] = {"cut": cut, "stall": stall, "pause": pause}


def on_the_wire(journey: Journey, kind: str, way: Way, message: str, lot: random.Random) -> None:
    def change(steps: Steps) -> None:
        size = steps.sizes[way, message]
        steps.spoil(CHANGES[kind], lot.randrange(size))

    steps = begin(journey, Step("sent", way, message), WIRE.get(kind, change))
    go(steps)
    assert steps.reached, "it has not come so far"
    if kind in CHANGES:
        assert steps.spoilt
    end = journey.judge(steps.migration)
    if kind == "pause":
        assert end == "moved", steps.migration.source.why
        assert message == "hello" or steps.was("taken")
    elif kind != "repeat":
        assert end == ("moved" if (way, message) == DECIDED else "resumed")
        assert not steps.was("taken"), "the message has come all the same"


@pytest.mark.parametrize("kind", [*WIRE, *CHANGES])
def test_on_the_wire_at_every_message(kind: str, journey: Journey) -> None:
    lot = random.Random(f"wire {kind}")
    for way, message in MESSAGES * (1 + FAULTS // len(MESSAGES)):
        try:
            on_the_wire(journey, kind, way, message, lot)
        except BaseException as error:
            error.add_note(f"{kind} at {message}, {way}")
            raise
    table(journey, kind)


@pytest.mark.parametrize("kind", ["cut", "stall", "pause"])
def test_after_every_message(kind: str, journey: Journey) -> None:
    """It has been taken, and what it leads to was done; the answer does not come, or late."""
    for way, message in MESSAGES:
        if message != "hello":
            steps = begin(journey, Step("taken", way, message), WIRE[kind])
            go(steps)
            assert steps.reached, (way, message)
            end = journey.judge(steps.migration)
            moved = kind == "pause" or (way, message) in (DECIDED, ("out", "HandOver"))
            assert end == ("moved" if moved else "resumed"), (way, message)
    table(journey, f"{kind} after")


# --- power ------------------------------------------------------------------------------------------------------------


MOMENTS: tuple[Moment, ...] = ("sent", "taken")


def die(steps: Steps, who: str) -> bool:
    steps.link.cut()
    (steps.journey.here if who == "source" else steps.journey.there).cut_power()
    return True


def judge_dead(journey: Journey, steps: Steps, victim: Host) -> str:
    run_together([host for host in journey.lab.hosts if host is not victim], 2 * PATIENCE_NS)
    return journey.judge(steps.migration, victim)


def dies(journey: Journey, who: str, step: Step) -> str:
    steps = begin(journey, step, lambda steps: die(steps, who))
    go(steps, lambda: steps.reached and who == "source")
    assert steps.reached
    return judge_dead(journey, steps, journey.here if who == "source" else journey.there)


@pytest.mark.parametrize("who", ["source", "destination"])
def test_a_host_dies_at_every_message(who: str, journey: Journey) -> None:
    for way, message in MESSAGES:
        for moment in MOMENTS:
            if message == "hello" or (moment == "taken" and not FAULTS and message not in NEAR_THE_END):
                continue
            end = dies(journey, who, Step(moment, way, message))
            committed = (way, message) == DECIDED or (message == "HandOver" and moment == "taken")
            if who == "source":
                expected = "moved" if committed else "off"
            else:
                expected = "off" if committed else "resumed"
            assert end == expected, (moment, way, message)
    table(journey, f"{who} dies")


def test_the_machine_is_powered_off_at_every_message(journey: Journey) -> None:
    """By somebody at its host. What was handed over by then is the other host's, and runs there."""
    ends = {}
    for way, message in MESSAGES:
        if message != "hello":
            steps = begin(journey, Step("sent", way, message), lambda _steps: journey.here.power_off(journey.vm))
            go(steps)
            assert steps.reached
            ends[message] = journey.judge(steps.migration)
    assert ends.pop("HandOver") == ends.pop("Runs") == "moved"
    assert set(ends.values()) == {"off"}
    table(journey, "powered off")


@pytest.mark.parametrize("who", ["source", "destination"])
def test_the_one_dies_while_the_other_is_told_that_it_gives_up(who: str, journey: Journey) -> None:
    """A refusal, and a host that dies before it is heard, or when it is."""
    for moment in MOMENTS:
        steps = begin(journey, Step(moment, "back", "GaveUp"), lambda steps: die(steps, who))
        while steps.migration.destination.phase != "prepared":
            steps.migration.step()
        steps.migration.destination.give_up("esx2 has no room.")
        while not (steps.migration.over or (steps.reached and who == "source")):
            steps.migration.step()
        assert steps.reached
        victim = journey.here if who == "source" else journey.there
        assert judge_dead(journey, steps, victim) == ("off" if who == "source" else "resumed")


# --- the datastore ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anew", [False, True], ids=["record", "no record"])
def test_the_datastore_is_full_at_every_message(anew: bool, journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a hand-over needs room, but its first record: without one the machine stays. Not a block, not even
    one that the other host has just given back: the name in the lock's file is missing then."""
    allocate = Transaction.allocate
    for way, message in MESSAGES:
        if message == "hello":
            continue
        if anew:
            assert journey.vm.disks is not None
            home = journey.vm.disks.home
            home.files.remove(home.handover_path)
        elif message == "Prepare":  # there is one, of a move before
            go(begin(journey, None, no_fault))
            journey.here, journey.there = journey.there, journey.here
            journey.vm = journey.here.vms["web"]

        def full(_transaction: Transaction, *_: object, **__: object) -> int:
            raise VmfsFull("The volume is full: no block is free.")

        steps = begin(
            journey, Step("sent", way, message), lambda _steps: monkeypatch.setattr(Transaction, "allocate", full)
        )
        go(steps)
        monkeypatch.setattr(Transaction, "allocate", allocate)
        assert steps.reached
        late = message in ("HandOver", "Runs")
        end = journey.judge(steps.migration, named=False)
        assert end == ("resumed" if anew and not late else "moved"), (message, steps.migration.source.why)
        assert end == "moved" or "full" in steps.migration.source.why
    table(journey, "datastore full")
