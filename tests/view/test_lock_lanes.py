"""Two hosts and a LUN: the picture tells what has happened and nothing that has not. The judges: the volume's bytes,
debugvmfs and fsck.vmfs."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tests.storage.vmfs_judges import is_clean
from tests.tools import require_tool
from vilab.course.lock_runs import EsxHost, TwoHosts, story
from vilab.errors import AdminError
from vilab.storage.vmfs.events import VmfsReservation
from vilab.storage.vmfs.layout import HEARTBEATS_AT
from vilab.view.lock_frame import Command, LockStory
from vilab.view.lock_lanes import LockLanesTrack
from vilab.view.lock_wire import chips, draw
from vilab.view.vmfs_frame import FREE, HELD, STALE

DB = ("/db/db.vmx", "/db/db-flat.vmdk")


@pytest.fixture(scope="module")
def run() -> TwoHosts:
    return story()


@pytest.fixture(scope="module")
def told(run: TwoHosts) -> LockStory:
    return run.story


def at(told: LockStory, kind: str, last: bool = False) -> int:
    found = [number for number, step in enumerate(told.steps) if step.kind == kind]
    return found[-1 if last else 0]


def test_a_file_has_one_owner_at_any_moment(told: LockStory) -> None:
    for step in told.steps:
        for path in told.paths:
            file = step.volume.file(path)
            assert file is not None
            assert file.lock in (FREE, HELD, STALE)
            assert (file.lock == FREE) == (file.owner == "")


def test_the_lock_does_not_change_when_its_owner_dies(told: LockStory) -> None:
    dies, broken = at(told, "dies"), at(told, "broken")
    for number in range(dies, broken):
        for path in DB:
            file = told.steps[number].volume.file(path)
            assert file is not None
            assert (file.owner, file.slot, file.seq) == ("esx1", 0, 2)
            assert file.lock == HELD
    stale = told.steps[broken].volume.file(DB[0])
    assert stale is not None
    assert (stale.owner, stale.lock) == ("esx1", STALE)
    assert told.steps[broken].volume.slots[0].seq == 3


def test_the_survivor_waits_as_long_as_it_has_to_and_no_longer(told: LockStory) -> None:
    asked, broken = told.steps[at(told, "asks", last=True)], told.steps[at(told, "broken")]
    silent = broken.seconds - asked.seconds
    assert 16.0 <= silent < 16.1
    looks = [
        command for command in told.commands
        if command.host == "esx2" and command.name == "READ" and asked.at_ns < command.at_ns < broken.at_ns
        and asked.volume.where(command.pos) == "slot 0"
    ]  # fmt: skip
    assert len(looks) >= 17


def test_the_journal_is_replayed_before_the_heartbeat_is_broken_and_nothing_is_lost(told: LockStory) -> None:
    dies, replayed, broken = at(told, "dies"), at(told, "replayed"), at(told, "broken")
    assert replayed < broken
    before, after = told.steps[dies].volume.file(DB[1]), told.steps[replayed].volume.file(DB[1])
    assert before is not None
    assert after is not None
    assert told.steps[dies].volume.slots[0].pending > 0
    assert len(after.blocks) == len(before.blocks) + 2
    assert told.steps[-2].agrees is True


@pytest.mark.interop
def test_the_volume_is_clean_in_the_end_and_one_host_is_on_it(run: TwoHosts, tmp_path: Path) -> None:
    image = run.disk.save(tmp_path / "lun.img")
    is_clean(image)
    command = [require_tool("debugvmfs", "the Debian package vmfs-tools"), str(image), "show_heartbeats"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout  # its status is their number
    assert shown.count("Heartbeat ID") == 1
    assert f"Heartbeat ID {HEARTBEATS_AT + 512:#x}" in shown, "slot 1: esx2's"


def test_a_conflict_is_met_while_the_other_has_the_lun(told: LockStory) -> None:
    held: list[tuple[str, int, int]] = []
    begun: dict[str, int] = {}
    for said in told.said:
        if isinstance(said.event, VmfsReservation) and said.event.action == "reserved":
            begun[said.host] = said.event.at_ns
        elif isinstance(said.event, VmfsReservation) and said.event.action == "released":
            held.append((said.host, begun.pop(said.host), said.event.at_ns))
    conflicts = [command for command in told.commands if command.conflict]
    assert conflicts
    for command in conflicts:
        assert any(host != command.host and low <= command.at_ns <= high for host, low, high in held)


def test_the_picture_holds_nothing_that_comes_later(told: LockStory) -> None:
    track = LockLanesTrack(told, "?")
    stolen = at(told, "stolen")
    for position in range(track.total + 1):
        stage = track.picture(position).stage
        drawn = stage.under + stage.over
        assert ("--vl-vmm-fill" in drawn) == (position >= stolen)
        assert ("power lost" in drawn) == (position >= at(told, "dies"))
        now = stage.playhead
        assert now is not None
        for x in re.findall(r'<rect x="([\d.]+)"', stage.under):
            assert float(x) <= now + 2.5 or float(x) == 0, "something is drawn right of the playhead"


def test_silence_is_drawn_from_the_question_on_and_not_before_there_is_one(told: LockStory) -> None:
    track = LockLanesTrack(told, "?")
    silent = [at_ for at_ in range(track.total + 1) if "s silent" in track.picture(at_).stage.under]
    assert silent == list(range(at(told, "silent"), track.total + 1))
    assert "16.0 s silent" in track.picture(track.total).stage.under


def test_going_back_shows_what_was_recorded(told: LockStory) -> None:
    track = LockLanesTrack(told, "?")
    first = track.picture(5)
    track.picture(track.total)
    assert track.picture(5) == first
    assert len({track.picture(position).stage.height for position in range(track.total + 1)}) == 1


def test_every_step_looks_and_reads_otherwise_than_the_one_before(told: LockStory) -> None:
    track = LockLanesTrack(told, "?")
    pictures = [track.picture(position) for position in range(track.total + 1)]
    for one, other in pairwise(pictures):
        assert one.stage.under + one.stage.over != other.stage.under + other.stage.over
        assert one.say != other.say


def test_the_sentences_have_the_figures_of_the_run(told: LockStory) -> None:
    track = LockLanesTrack(told, "?")
    died = told.steps[at(told, "dies")]
    on = told.steps[-2]
    assert f"{died.volume.slots[0].pending} sectors are in its journal" in track.describe(at(told, "dies"))
    assert f"{on.seconds - died.seconds:.1f} s after the power went" in track.describe(track.total - 1).replace(
        "\u00a0", " "
    )
    turned = sum(command.conflict for command in told.commands if 12 < command.at_ns / 1e9 < 13)
    assert f"turned away {turned} times" in track.describe(at(told, "grows") + 3)


def test_commands_are_chips_in_their_order(told: LockStory) -> None:
    grows = at(told, "grows")
    words = [chip.words for chip in chips(told.commands_of(grows), told.steps[grows].volume, 0)]
    assert words[0] == "RESERVE"
    assert words[-1] == "RELEASE"
    assert words.index("write journal 0") < words.index("write inode of db-flat.vmdk") < words.index("write bitmap 0")
    assert words.index("flush") == words.index("write journal 0") + 1


def test_more_chips_than_there_is_room_for_are_counted(told: LockStory) -> None:
    volume = told.steps[0].volume
    many = [Command(at_ns, "esx1", ("RESERVE", "RELEASE")[at_ns % 2], -1, 0, False) for at_ns in range(100)]
    found = chips(many, volume, 0)
    drawn = draw(found, 0)
    left = re.search(r"… (\d+) more", drawn)
    assert left is not None
    assert drawn.count("<rect") + int(left[1]) == 100


@pytest.mark.parametrize(("end", "takes_s"), [("power", 16.0), ("freeze", 16.0), ("off", 0.0)])
def test_other_ends(end: str, takes_s: float) -> None:
    told = story(end).story
    on = [step for step in told.steps if step.kind == "on" and step.subject == "db" and step.host == "esx2"]
    assert on[0].seconds - 25.6 == pytest.approx(takes_s, abs=0.1)
    if end == "freeze":
        assert told.steps[-1].kind == "fenced"
        assert "esx1" in told.steps[-1].words
        assert on[0].agrees is True


def test_a_dead_hosts_reservation_holds_up_everybody_until_its_port_is_gone() -> None:
    told = story(nexus_s=10).story
    died = told.steps[at(told, "dies")].at_ns
    after = [c for c in told.commands if c.host == "esx2" and c.at_ns > died]
    turned = [c.at_ns for c in after if c.conflict]
    assert turned
    assert max(turned) < died + 10e9 <= min(c.at_ns for c in after if not c.conflict)
    assert "dead" in LockLanesTrack(told, "?").describe(at(told, "meets", last=True))


def test_what_a_script_forgets_is_a_sentence() -> None:
    def nothing(host: EsxHost) -> None:
        host.until(1)

    def forgets(host: EsxHost) -> None:
        host.power_on("db")

    with pytest.raises(AdminError, match=r"mount\(\) comes first"):
        TwoHosts(nothing, forgets)
    with pytest.raises(AdminError, match="no end of a host"):
        story("sleep")
