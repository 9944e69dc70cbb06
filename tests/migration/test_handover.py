"""What two hosts say to each other when a machine changes hands, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.migration.handover_site import EARLIER, NODE, SESSION, WEB, Kind, Site, open_disks
from tests.migration.handover_world import World
from vilab.errors import AdminError
from vilab.host.storage_time import pass_time
from vilab.host.vm_home import VmHome
from vilab.migration import handover_record
from vilab.migration.handover import Lost, Offer, Reclaimed, TakenOver, Waiting
from vilab.migration.handover_destination import DestinationSide
from vilab.migration.handover_record import read_record, record_path
from vilab.migration.handover_source import SourceSide

KINDS: tuple[Kind, ...] = ("local", "vmfs", "nfs")
SECOND = 1_000_000_000


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(request.param, tmp_path)


# --- what is said -----------------------------------------------------------------------------------------------------


def moved(world: World) -> Offer:
    """The source has given it back, and sent the offer."""
    while world.offer is None:
        world.source.step()
    return world.offer


def destination(world: World, offer: Offer, session: str = SESSION) -> DestinationSide:
    return DestinationSide(world.hosts[1].storage, offer, session, world.clock, world.hosts[1].log)


def test_a_good_hand_over_and_the_next_one_back(site: Site) -> None:
    world = World(site)
    offer = moved(world)
    side = destination(world, offer)
    assert side.take().devices()[NODE].read(0, 512) == EARLIER
    disks = side.commit()
    record = read_record(disks.home)
    assert record is not None
    assert (record.state, record.sequence, record.session) == ("committed", 1, SESSION)
    assert world.moving.reclaim() == TakenOver("esx2", "web runs on esx2.") or site.kind == "nfs"
    back = SourceSide(disks, "another", "esx1").give_back()
    assert (back.sequence, back.source, back.destination) == (2, "esx2", "esx1")
    again = DestinationSide(world.hosts[0].storage, back, "another", world.clock, world.hosts[0].log)
    again.take()
    again.commit().close()
    world.close()


def test_an_offer_that_comes_late_or_twice_is_refused(site: Site) -> None:
    world = World(site)
    offer = moved(world)
    answer = world.moving.reclaim()
    assert isinstance(answer, Reclaimed)
    late = destination(world, offer)
    with pytest.raises(AdminError, match="esx1 does not offer it any more; the record says reclaimed, number 1"):
        late.take()
    answer.disks.close()  # powered off
    with pytest.raises(AdminError, match="the record says reclaimed"):
        late.take()
    second = SourceSide(open_disks(world.hosts[0]), "second", "esx2")
    following = second.give_back()
    with pytest.raises(AdminError, match="the record says offered, number 1"):
        late.take()
    side = destination(world, following, "second")
    side.take()
    side.commit().close()
    with pytest.raises(AdminError, match="the record says committed, number 1"):
        destination(world, following, "second").take()
    world.close()


def test_an_offer_of_another_session_or_to_another_host_is_refused(site: Site) -> None:
    world = World(site)
    offer = moved(world)
    for side in (
        destination(world, offer, "other"),
        DestinationSide(world.hosts[2].storage, offer, SESSION, world.clock, world.hosts[2].log),
    ):
        with pytest.raises(AdminError, match="was offered to esx2 in another migration"):
            side.take()
    with pytest.raises(AdminError, match="nothing to commit"):
        destination(world, offer).commit()
    assert isinstance(world.moving.reclaim(), Reclaimed)
    world.close()


def test_disks_that_somebody_has_written_to_are_refused_by_both(site: Site) -> None:
    world = World(site)
    offer = moved(world)
    third = open_disks(world.hosts[2], handed_over=True)  # and without a word in the record
    third.devices()[NODE].write(512, bytes(512))
    third.close()
    with pytest.raises(AdminError, match=r"esx2 refuses .*: its disks are not as esx1 has left them"):
        destination(world, offer).take()
    answer = world.moving.reclaim()
    assert isinstance(answer, Lost)
    assert "web is off: it was on its way from esx1 to esx2, and its disks were written to meanwhile" in answer.sentence
    open_disks(world.hosts[2]).close()
    world.close()


def test_a_machine_that_was_powered_on_meanwhile_is_nobody_elses(site: Site) -> None:
    """It wrote nothing, and is off again: its memory was another one all the same."""
    world = World(site)
    offer = moved(world)
    third = open_disks(world.hosts[2])
    answer = world.moving.reclaim()
    assert isinstance(answer, Waiting if site.kind == "nfs" else TakenOver) or "esx3" in answer.sentence
    third.close()
    with pytest.raises(AdminError, match="there is no record of it"):
        destination(world, offer).take()
    answer = world.moving.reclaim()
    assert isinstance(answer, Lost)
    assert "somebody else has powered it on meanwhile" in answer.sentence
    world.close()


def test_a_record_that_nobody_wrote_decides_against_the_machine(site: Site) -> None:
    world = World(site)
    offer = moved(world)
    home = world.moving.home
    home.files.replace(record_path(home), b'{"session": "5e5510"}')
    with pytest.raises(AdminError, match=r"web\.handover .* is no record of a hand-over"):
        destination(world, offer).take()
    answer = world.moving.reclaim()
    assert isinstance(answer, Lost)
    assert "cannot be known" in answer.sentence
    assert SourceSide(open_disks(world.hosts[0]), "next", "esx2").give_back().sequence == 1
    world.close()


def test_nothing_was_given_back_where_the_record_cannot_be_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(site)
    disks = world.source.disks
    assert disks is not None

    def full(_home: VmHome, _data: bytes) -> None:
        raise AdminError("There is no room.")

    monkeypatch.setattr(handover_record, "put", full)
    with pytest.raises(AdminError, match="no room"):
        world.moving.give_back()
    assert not world.moving.given_back
    with pytest.raises(AdminError, match="has its files still"):
        world.moving.reclaim()
    monkeypatch.undo()
    disks.devices()[NODE].write(0, bytes(512))
    with pytest.raises(AdminError, match="esx1"):
        open_disks(world.hosts[1])
    world.close()


def test_a_machine_whose_folder_is_being_moved_or_that_was_fenced_stays(site: Site) -> None:
    world = World(site)
    disks = world.source.disks
    assert disks is not None
    disks.closing.append(lambda: None)
    with pytest.raises(AdminError, match="esx1 is moving its folder to another datastore"):
        world.moving.give_back()
    disks.closing.clear()
    disks.lose("Its volume is lost.")
    with pytest.raises(AdminError, match=r"web was not handed over to esx2: Its volume is lost\."):
        world.moving.give_back()
    assert not world.moving.given_back
    assert read_record(world.moving.home) is None
    world.close()


@pytest.mark.parametrize("line", ['scsi0:3.present = "TRUE"', 'scsi0:0.fileName = "other.vmdk"'])
def test_a_machine_whose_configuration_was_edited_stays(site: Site, line: str) -> None:
    """Both hosts would open other disks than it has, and the one would refuse them and the other have lost it."""
    world = World(site)
    one = world.hosts[0]
    one.storage.create_disk("[san1] web/other.vmdk", 1 << 20)
    text = one.storage.read_file(WEB).decode().replace('scsi0:0.fileName = "web.vmdk"', "")
    text += f'scsi0:3.fileName = "other.vmdk"\n{line}\n'
    if "scsi0:3" in line:
        text += 'scsi0:0.fileName = "web.vmdk"\n'
    one.storage.write_file(WEB, text.encode())
    with pytest.raises(
        AdminError, match=r"web/web\.vmx says something else of scsi0:[03] than when esx1 powered it on"
    ):
        world.moving.give_back()
    assert not world.moving.given_back
    assert world.source.runs
    world.close()


def test_files_of_the_computer_are_not_taken(site: Site) -> None:
    world = World(site)
    offer = msgspec.structs.replace(moved(world), home="/etc/web.vmx")
    with pytest.raises(AdminError, match=r"esx2 refuses /etc/web\.vmx of esx1: that is no file on a datastore"):
        destination(world, offer).take()
    world.close()


def test_a_commitment_that_was_not_written_is_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(site)
    side = destination(world, moved(world))
    side.take()

    def full(_home: VmHome, _data: bytes) -> None:
        raise AdminError("There is no room.")

    monkeypatch.setattr(handover_record, "put", full)
    with pytest.raises(AdminError, match=r"esx2 does not run .*, which esx1 has given back: There is no room"):
        side.commit()
    monkeypatch.undo()
    assert isinstance(world.moving.reclaim(), Reclaimed)
    world.close()


def test_a_commitment_whose_answer_was_lost_is_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(site)
    side = destination(world, moved(world))
    disks = side.take()
    put = handover_record.put

    def unanswered(home: VmHome, data: bytes) -> None:
        put(home, data)
        raise AdminError("The server does not answer.")

    monkeypatch.setattr(handover_record, "put", unanswered)
    assert side.commit() is disks
    world.close()


def test_on_a_file_server_a_destination_that_has_died_is_told_from_one_that_lives(tmp_path: Path) -> None:
    for dies in (False, True):
        world = World(Site("nfs", tmp_path))
        side = destination(world, moved(world))
        side.take()
        side.commit()
        first = world.moving.reclaim()
        assert isinstance(first, Waiting)
        assert "whether it lives is not known" in first.sentence
        if dies:
            world.hosts[1].cut_power()
        answer = world.moving.settle(lambda ns, clock=world.clock: pass_time(clock, ns))  # type: ignore[misc]
        assert isinstance(answer, Lost if dies else TakenOver)
        assert ("esx2 has taken it over, and does not have it any more" in answer.sentence) == dies
        world.close()


def test_who_gets_neither_files_nor_an_answer_is_off(site: Site) -> None:
    """The destination has the files, lives, and never commits."""
    world = World(site)
    side = destination(world, moved(world))
    side.take()
    answer = world.moving.settle(lambda ns: pass_time(world.clock, ns), patience_ns=20 * SECOND)
    assert isinstance(answer, TakenOver)
    assert answer.sentence.startswith("web is off on esx1: esx2 has its files.")
    side.commit()
    world.close()


def test_a_record_that_came_too_late_does_not_bring_an_old_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source sleeps with "reclaimed" in its hand; the destination commits, writes nothing, and dies; then the
    source's write covers "committed"."""
    world = World(Site("nfs", tmp_path))
    world.patience = 5
    moved(world)
    files = world.moving.home.files
    times: list[int] = []

    def late(path: Path, content: bytes) -> None:
        if b"reclaimed" in content and not times:
            times.append(world.clock.now_ns)
            world.nap(world.source)
            assert world.destination.runs
            world.destination.die()
        world.hosts[2].storage.mounted("san1").files.replace(path, content)  # nobody asks whose locks they are

    monkeypatch.setattr(files, "replace", late)
    answer = world.moving.reclaim()
    assert isinstance(answer, Waiting)
    monkeypatch.undo()
    record = read_record(world.moving.home)
    assert record is not None
    assert record.state == "reclaimed"
    answer = world.moving.settle(lambda ns: pass_time(world.clock, ns))
    assert isinstance(answer, Lost)
    assert "esx1 has stood still in between, so that esx2 may have run it" in answer.sentence
    open_disks(world.hosts[2]).close()
    world.close()


def test_between_a_look_and_the_locks_the_source_may_have_run_it_again(site: Site) -> None:
    world = World(site)
    side = destination(world, moved(world))
    steps = side.take_steps()
    assert next(steps) == "looked"
    answer = world.moving.reclaim()
    assert isinstance(answer, Reclaimed)
    answer.disks.close()  # powered off, and nothing written
    assert next(steps) == "opened"
    with pytest.raises(AdminError, match="the record says reclaimed"):
        next(steps)
    open_disks(world.hosts[2]).close()
    world.close()


def test_the_path_of_the_machine_is_the_one_that_was_offered(site: Site) -> None:
    world = World(site)
    assert moved(world).home == WEB
    world.close()
