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
from tests.migration.vmotion_steps import Moment, Step, Steps, Way
from vilab.host.host import run_together
from vilab.storage.vmfs.time import Timing

FAULTS = int(os.environ.get("VILAB_MIGRATION_FAULTS", "0"))
MS = 1_000_000
TENTH = Timing(300 * MS, 1_600 * MS, 100 * MS, MS // 2, 3_000 * MS)
PATIENCE_NS, PAUSE_NS = 400 * MS, 200 * MS
OUT = ("hello", "Prepare", "Pages", "RoundEnd", "last Pages", "last RoundEnd", "State", "HandOver")
BACK = ("hello", "Prepared", "RoundTaken", "last RoundTaken", "Loaded", "Runs")
MESSAGES: tuple[tuple[Way, str], ...] = (*(("out", each) for each in OUT), *(("back", each) for each in BACK))
DECIDED = ("back", "Runs")
"""Before this message is sent the destination has committed."""
NEAR_THE_END = ("Loaded", "HandOver", "Runs")


@pytest.fixture(autouse=True)
def tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a machine's locks again does that in the volume's time."""
    for name, ns in (("INTERVAL_NS", 500 * MS), ("PATIENCE_NS", 6_000 * MS)):
        monkeypatch.setattr(f"vilab.migration.source.{name}", ns)


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    made = Journey(tmp_path, TENTH)
    yield made
    made.close()


def begin(journey: Journey, step: Step | None, action: Callable[[Steps], object]) -> Steps:
    journey.put_note()
    return Steps(journey, step, action, PATIENCE_NS)


def go(steps: Steps, until: Callable[[], bool] = lambda: False) -> None:
    """To its end; the guest writes to its memory, so that there is something left for the last copy."""
    migration = steps.migration
    pmap = migration.source.hosted.client.pmap
    while not (migration.over or until()):
        if migration.source.phase == "copying":
            pmap.write(0x5000, bytes(pmap.page(5))[:1])
        migration.step()
    if migration.over:
        steps.close()


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


def dies(journey: Journey, who: str, step: Step) -> str:
    victim = journey.here if who == "source" else journey.there

    def die(steps: Steps) -> bool:
        steps.link.cut()
        victim.cut_power()
        return True

    steps = begin(journey, step, die)
    go(steps, lambda: steps.reached and who == "source")
    assert steps.reached
    run_together([host for host in journey.lab.hosts if host is not victim], 2 * PATIENCE_NS)
    return journey.judge(steps.migration, victim)


@pytest.mark.parametrize("who", ["source", "destination"])
def test_a_host_dies_at_every_message(who: str, journey: Journey) -> None:
    moments: tuple[Moment, ...] = ("sent", "taken")
    for way, message in MESSAGES:
        for moment in moments:
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
