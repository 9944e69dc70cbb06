"""The record of a hand-over is written in its place: few commands, and after each of them it is the old or the new."""

from __future__ import annotations

import contextlib

import msgspec
import pytest

from tests.host.storage_helpers import SECOND
from tests.migration.handover_site import ENOUGH, WEB, Died, Site, open_disks
from tests.migration.handover_world import Side
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.mounted import MountedVmfs
from vilab.host.storage_time import pass_time
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.migration.handover_record import HandoverRecord, read_record, record_path, write_record
from vilab.storage.vmfs.check import check

OFFERED = HandoverRecord("5e5510", 1, "esx1", "esx2", "offered")
COMMITTED = msgspec.structs.replace(OFFERED, state="committed")
RECLAIMED = msgspec.structs.replace(OFFERED, state="reclaimed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site("vmfs", tmp_path_factory.mktemp("site"))


class Pair:
    """esx1 has the machine's files open, and "offered" stands there."""

    def __init__(self, site: Site) -> None:
        self.hosts, self.fuses = site.hosts()
        self.disks = open_disks(self.hosts[0])
        self.home = self.disks.home
        write_record(self.home, OFFERED)

    def commands(self, record: HandoverRecord) -> int:
        fuse = self.fuses[0]
        fuse.left = ENOUGH
        write_record(self.home, record)
        return ENOUGH - fuse.left

    def read(self, host: int) -> HandoverRecord | None:
        return read_record(VmHome(self.hosts[host].storage, WEB))

    def close(self) -> None:
        for host in self.hosts:
            with contextlib.suppress(AdminError):
                host.storage.cut_power()


def opened(host: Host) -> VmDisks:
    """As soon as the one who had them is dead."""
    return open_disks(host, handed_over=True)


def test_it_takes_a_tenth_of_the_commands_of_a_new_file(site: Site) -> None:
    pair = Pair(site)
    in_place = pair.commands(RECLAIMED)
    assert pair.read(1) == RECLAIMED
    pair.home.files.remove(record_path(pair.home))
    new = pair.commands(OFFERED)
    assert pair.read(1) == OFFERED
    assert in_place <= 12
    assert new > 60
    pair.close()


@pytest.mark.parametrize("left", [b'{"session": "x"}', b"x" * 512, b"x" * 700, b""])
def test_whatever_stands_there_is_replaced(site: Site, left: bytes) -> None:
    pair = Pair(site)
    pair.home.files.replace(record_path(pair.home), left)
    for record in (OFFERED, COMMITTED):
        write_record(pair.home, record)
        assert pair.read(1) == pair.read(0) == record
    pair.close()


def test_a_record_that_is_longer_than_a_sector_is_a_new_file(site: Site) -> None:
    pair = Pair(site)
    long = msgspec.structs.replace(OFFERED, session="5" * 600)
    for record in (long, COMMITTED, long):
        write_record(pair.home, record)
        assert pair.read(1) == record
    pair.close()


def test_wherever_the_host_dies_it_is_the_old_record_or_the_new_one(site: Site) -> None:
    pair = Pair(site)
    count = pair.commands(RECLAIMED)
    pair.close()
    seen = []
    for left in range(count + 1):
        pair = Pair(site)
        pair.fuses[0].left = left
        with contextlib.suppress(Died):
            write_record(pair.home, COMMITTED)
        Side(pair.hosts[0], pair.fuses[0]).die()
        pair.disks.abandon()
        seen.append(pair.read(1))
        disks = opened(pair.hosts[1])
        assert pair.read(1) == seen[-1], "after its journal was replayed as well"
        write_record(disks.home, RECLAIMED)
        assert pair.read(2) == RECLAIMED
        disks.close()
        pair.close()
    assert seen == sorted(seen, key=lambda record: record == COMMITTED), "from some command on it is the new one"
    assert set(seen) == {OFFERED, COMMITTED}


def test_wherever_the_host_stands_still_it_does_not_cover_what_was_written_meanwhile(site: Site) -> None:
    """esx2 takes it for dead, and commits; or cannot, because the LUN is reserved."""
    pair = Pair(site)
    count = pair.commands(OFFERED)
    pair.close()
    ends = []
    for left in range(count):
        pair = Pair(site)
        side, (_, two, _), fuse = Side(pair.hosts[0], pair.fuses[0]), pair.hosts, pair.fuses[0]
        taken: list[VmDisks] = []

        def nap(side: Side = side, two: Host = two, taken: list[VmDisks] = taken) -> None:
            side.sleep()
            with contextlib.suppress(AdminError):
                disks = opened(two)
                write_record(disks.home, COMMITTED)
                taken.append(disks)
            pass_time(two.clock, 20 * SECOND)
            side.wake()

        fuse.left, fuse.nap = left, nap
        try:
            write_record(pair.home, RECLAIMED)
            wrote = True
        except AdminError:
            wrote = False
        assert wrote != bool(taken), "both have written it, or none has"
        assert pair.read(2) == (RECLAIMED if wrote else COMMITTED)
        ends.append(wrote)
        pair.close()
    assert {True, False} == set(ends)


def test_the_volume_is_whole_afterwards(site: Site) -> None:
    pair = Pair(site)
    for record in (COMMITTED, OFFERED, RECLAIMED):
        write_record(pair.home, record)
    assert pair.disks.close() == []
    mounted = pair.hosts[0].storage.mounted("san1")
    assert isinstance(mounted, MountedVmfs)
    assert check(mounted.lun).errors == []
    pair.close()
