"""A machine that really moves between two hosts, looked at while it does and afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.storage_helpers import to_prompt
from tests.migration.two_hosts import TwoHosts
from vilab.events import Event
from vilab.migration.migration_events import RoundSent
from vilab.migration.vmotion import Migration
from vilab.view.vmotion_run import merged
from vilab.view.vmotion_track import VMotionPlayback, VMotionTrack


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[TwoHosts]:
    made = TwoHosts(tmp_path)
    yield made
    made.close()


def test_there_and_back_with_both_logs(lab: TwoHosts) -> None:
    web = lab.power_on()
    to_prompt(lab.esx1, web)
    live = VMotionPlayback(VMotionTrack([], "When does it stop?"))
    said: list[str] = []

    def look(event: Event) -> None:
        if live.add(event):
            said.append(live.describe())

    for host in lab.hosts:
        host.log.listen(look)
    web.console.type("forkwait 900")
    there = Migration(lab.esx1, web, lab.esx2).run()
    Migration(lab.esx2, there, lab.esx1).run()
    logs = [host.log.events for host in lab.hosts]
    first, second = VMotionTrack.all_of(merged(*logs), "When does it stop?")
    for track, logged, name in ((first, logs[0], "esx2"), (second, logs[1], "esx1")):
        assert track.run is not None
        rounds = [event for event in logged if isinstance(event, RoundSent)]
        assert [each.sent for each in track.run.seen.rounds] == rounds
        assert track.kind_of(track.total) == "moved"
        assert track.describe(track.total).startswith(f"web runs on {name}.")
        assert track.run.seen.downtime_ns
        assert "in use" in track.describe(1)
        alone = VMotionTrack(logged, "?")
        assert alone.describe(alone.total) == track.describe(track.total)
    assert any(words.startswith("Round 1 is under way") for words in said)
    assert any(words.startswith("web runs on esx2.") for words in said)
    assert said[-1] == second.describe(second.total)
    assert live.picture().stage == second.picture(second.total).stage
