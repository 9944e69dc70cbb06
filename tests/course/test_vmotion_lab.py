"""The lab of the lessons on VMotion: a machine on a volume over iSCSI goes back and forth, and answers all the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vilab.course.vmotion_lab import VMotionLab
from vilab.errors import AdminError
from vilab.migration.agent_link import LinkSettings
from vilab.migration.migration_events import MachineResumed, MigrationEnded, RoundSent
from vilab.migration.options import MigrationOptions
from vilab.migration.termination import FixedRounds, StopAndCopy

SLOW = LinkSettings(12_500_000, 100_000)


@pytest.fixture
def lab() -> Iterator[VMotionLab]:
    made = VMotionLab()
    yield made
    made.close()


def test_a_guest_answers_while_it_goes_there_and_back_and_writes(lab: VMotionLab) -> None:
    lab.power_on()
    lab.serve("writer 1000 100 10 2")
    lab.ask()
    lab.run_for(100)
    moves = [lab.move(), lab.move()]
    lab.run_for(100)
    heard = lab.heard()
    assert heard.sent > 20
    assert heard.strange == 0
    assert heard.lost == 0
    assert lab.host_of().name == "esx1"
    ended = [each for each in lab.log.events if isinstance(each, MigrationEnded)]
    assert [each.ok for each in ended] == [True, True]
    resumed = [each for each in lab.log.events if isinstance(each, MachineResumed)]
    assert [each.host for each in resumed] == ["esx2", "esx1"]
    assert all(each.source.downtime_ns < 60_000_000 for each in moves)
    assert "wrong" not in lab.vm().console.said


def test_the_client_notices_a_machine_that_stands_still(lab: VMotionLab) -> None:
    lab.power_on()
    lab.serve()
    lab.ask()
    lab.run_for(100)
    migration = lab.move(link=SLOW, options=MigrationOptions(policy=StopAndCopy()))
    heard = lab.heard()
    assert heard.slowest_ns > migration.source.downtime_ns - 20_000_000 or heard.longest_ns > 50_000_000


def test_the_same_lab_does_the_same_again(lab: VMotionLab) -> None:
    other = VMotionLab()
    rounds = []
    for each in (lab, other):
        each.power_on()
        each.serve("writer 500 100 10 2")
        each.ask()
        each.move(link=SLOW, options=MigrationOptions(policy=FixedRounds(2)))
        rounds.append([event for event in each.log.events if isinstance(event, RoundSent)])
    other.close()
    assert rounds[0] == rounds[1]
    assert len(rounds[0]) == 3


def test_a_third_host_and_a_second_volume_can_be_had(lab: VMotionLab) -> None:
    lab.add_host()
    lab.add_lun("san2")
    lab.power_on(datastore="san2")
    assert lab.move(to="esx3").hosted is lab.hosts["esx3"].vms["web"]


def test_a_machine_that_is_nowhere_is_said_to_be(lab: VMotionLab) -> None:
    with pytest.raises(AdminError, match="No host has a machine db"):
        lab.host_of("db")
