"""The datastore is away for longer than a host's locks live, at every phase of a migration; and it is full.

::

    away      source, destination, both      x   when it begins: copying, last copy, ..., at and after the commitment
    away for  2.6 s; a host that is silent for 1.6 s may be taken for dead (times: ``vmotion_steps``)
    third     a third host powers the machine on meanwhile: it may, where the one that had it was silent for so long
              (at every second phase; with ``VILAB_MIGRATION_FAULTS`` at every one)

Who finds out that it was taken for dead stops its machine. So one of three hosts runs it, or it is off.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.migration.vmotion_journey import WEB, Journey
from tests.migration.vmotion_steps import MS, TENTH, Step, Steps, Way, begin, go, in_tenths
from vilab.errors import AdminError
from vilab.host.host import Host, run_together
from vilab.host.registered import power_on_file
from vilab.migration import handover_destination, handover_source
from vilab.migration.handover_record import HandoverRecord, write_record
from vilab.vmm.vm import QuietConsole

FAULTS = int(os.environ.get("VILAB_MIGRATION_FAULTS", "0"))
AWAY_NS, THIRD_AFTER_NS, SETTLE_NS = 2_600 * MS, 300 * MS, 800 * MS
WHO = {"source": (0,), "destination": (1,), "both": (0, 1)}
PHASES = {
    "copying": Step("sent", "out", "Pages"),
    "last copy": Step("sent", "out", "last Pages"),
    "loading": Step("sent", "back", "Loaded"),
    "giving back": Step("sent", "out", "record offered"),
    "offered": Step("taken", "out", "record offered"),
    "handing over": Step("sent", "out", "HandOver"),
    "committing": Step("sent", "back", "record committed"),
    "committed": Step("taken", "back", "record committed"),
    "runs": Step("sent", "back", "Runs"),
}
UNHEARD = {"offer unheard": Step("arrives", "out", "HandOver"), "runs, unheard": Step("sent", "back", "Runs")}
"""The link is cut as well: the source decides."""


class Watched:
    """Steps of the migration that goes on: what is written to the record, too."""

    steps: Steps | None = None


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    in_tenths(monkeypatch)
    made = Watched()

    def write(home: Any, record: HandoverRecord) -> None:
        steps = made.steps
        way: Way = "back" if record.state == "committed" else "out"
        if steps is None:
            write_record(home, record)
            return
        steps.meet("sent", way, f"record {record.state}")
        write_record(home, record)
        steps.meet("taken", way, f"record {record.state}")

    for module in (handover_source, handover_destination):
        monkeypatch.setattr(module, "write_record", write)
    return made


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    made = Journey(tmp_path, TENTH)
    made.lab.add()
    yield made
    made.close()


class Away:
    """What was done, and what has come of it."""

    def __init__(self, journey: Journey, who: str, third: bool, cut: bool) -> None:
        self.journey, self.cut, self.third = journey, cut, third
        self.hosts = [(journey.here, journey.there)[number] for number in WHO[who]]
        self.other = next(host for host in journey.lab.hosts if host not in (journey.here, journey.there))
        self.began_ns: int | None = None
        self.tried = self.powered_on = False

    def begin(self, steps: Steps) -> bool:
        self.began_ns = steps.link.clock.now_ns
        self.journey.take_paths(self.hosts, AWAY_NS)
        if self.cut:
            steps.link.cut()
        return self.cut

    def look(self) -> bool:
        """Is it time for the third host? ``False``, always."""
        clock = self.journey.lab.clock
        if not self.third or self.tried or self.began_ns is None or clock.now_ns < self.began_ns + THIRD_AFTER_NS:
            return False
        self.tried = True
        with contextlib.suppress(AdminError):
            power_on_file(self.other, WEB, console=QuietConsole())
            self.powered_on = True
        return False

    def settle(self, hosts: Sequence[Host]) -> None:
        """Until the datastore has been there again for a while."""
        assert self.began_ns is not None
        clock = self.journey.lab.clock
        while clock.now_ns < self.began_ns + AWAY_NS + SETTLE_NS:
            run_together(hosts, 100 * MS)
            self.look()


def attempt(journey: Journey, watched: Watched, who: str, step: Step, third: bool, cut: bool) -> str:
    away = Away(journey, who, third, cut)
    steps = watched.steps = begin(journey, step, away.begin)
    go(steps, away.look)
    watched.steps = None
    assert steps.reached, f"it has not come to {step}"
    away.settle(journey.lab.hosts)
    assert away.tried == third
    fenced = [h.name for h in journey.lab.hosts if getattr(h.storage.mounted("san1"), "state", "") == "fenced"]
    end = journey.judge(steps.migration)
    return f"{end}{', fenced' if fenced else ''}{', third' if away.powered_on else ''}"


@pytest.mark.parametrize("who", WHO)
def test_the_datastore_is_away_for_longer_than_the_locks_live(who: str, journey: Journey, watched: Watched) -> None:
    ends: Counter[str] = Counter()
    cases = [(step, cut) for cut, steps in ((False, PHASES), (True, UNHEARD)) for step in steps.values()]
    for number, (step, cut) in enumerate(cases):
        for third in (False, True) if FAULTS else (number % 2 == (who == "destination"),):
            try:
                end = attempt(journey, watched, who, step, third, cut)
            except BaseException as error:
                error.add_note(f"{who} away at {step}, third: {third}, cut: {cut}")
                raise
            ends[end] += 1
            if who == "source" and not cut and not third:
                committed = step.message in ("HandOver", "record committed", "Runs")
                assert end == ("moved" if committed else "resumed"), step
            if who == "source" and third and step.message in ("Pages", "last Pages", "Loaded"):
                assert end == "elsewhere, fenced, third", step
            assert "off" not in end or step.message in ("record committed", "Runs"), (step, end)
    assert sum(count for end, count in ends.items() if "fenced" in end) > 0
    print(f"{who} away: {dict(ends)}")


def test_what_could_not_be_given_back_is_free_when_the_paths_are_there_again(journey: Journey) -> None:
    """An ordinary power-off while all paths are dead: every file that was open stays locked by a host that lives, and
    only that long."""
    journey.take_paths([journey.here], 1_000 * MS)
    journey.here.power_off(journey.vm)
    assert "dead" in journey.vm.stopped
    run_together(journey.lab.hosts, 2_000 * MS)
    journey.vm = power_on_file(journey.there, WEB, console=QuietConsole())
    journey.here, journey.there = journey.there, journey.here
    journey.judge_locks()
