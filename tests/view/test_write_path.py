"""One write through all levels: the steps are the log's events, and the sectors that they name hold the text."""

from __future__ import annotations

from functools import cache

from vilab.course.one_write import OneWrite, table, time_of
from vilab.guests import tinyfs
from vilab.storage.datastore import DatastoreFiles
from vilab.storage.disks.redo_log import SnapshotDisk
from vilab.storage.scsi.request import ScsiCommand
from vilab.storage.vmfs.datastore import VmfsDatastore
from vilab.view.write_path import (
    ADAPTER,
    DISK,
    DRIVER,
    LUN,
    PROGRAM,
    REDO_LOG,
    VOLUME,
    guests_commands,
    hosts_commands,
    sectors,
)  # fmt: skip
from vilab.view.write_path_track import WritePathTrack


@cache
def run() -> OneWrite:
    return OneWrite()


def test_every_command_of_the_log_is_a_step_in_its_order() -> None:
    made = run().stops()
    logged = [(event.nexus, event.cdb) for event in run().events if isinstance(event, ScsiCommand)]
    assert [(stop.nexus, stop.cdb) for stop in made if stop.nexus] == logged
    assert guests_commands(made) == 6
    assert hosts_commands(made) == sum(nexus == "esx1" for nexus, _ in logged)


def test_the_first_command_goes_down_and_comes_back() -> None:
    lanes = [stop.lane for stop in run().stops() if stop.command <= 1]
    below = [VOLUME if lane in (VOLUME, LUN) else lane for lane in lanes]
    once = [lane for at, lane in enumerate(below) if not at or lane != below[at - 1]]
    assert once == [PROGRAM, DRIVER, ADAPTER, VOLUME, REDO_LOG, DISK, ADAPTER, DRIVER]


def test_the_sectors_that_are_named_hold_the_text() -> None:
    here = run()
    first = next(command for command, _ in here.at_the_lun() if command.data_out_bytes)
    lun_write = next(each for each in here.at_the_lun()[0][1] if each.data_out_bytes == first.data_out_bytes)
    sector, _ = sectors(lun_write.cdb)
    assert here.stack.lun.read(sector * 512, 512).startswith(b"Hello, disk")
    volume = tinyfs.read_volume(here.stack.disk.chain)
    assert volume.file("hello").sectors()[0] == int.from_bytes(first.cdb[2:6], "big")
    assert tinyfs.read_content(here.stack.disk.chain, volume.file("hello")).rstrip(b"\n") == b"Hello, disk"


def test_another_host_reads_it_from_the_lun() -> None:
    here = OneWrite()
    here.stack.disk.close()
    here.stack.host.leave()
    from vilab.storage.vmfs.host import Host
    from vilab.storage.vmfs.lun import SharedDisk
    from vilab.storage.vmfs.time import VirtualTime

    second = Host(SharedDisk(here.stack.lun).port("esx2"), bytes(range(16)), VirtualTime(here.stack.clock))
    files = DatastoreFiles(VmfsDatastore(second))
    with SnapshotDisk(files.at("vm/vm-000001.vmdk"), files) as disk:
        volume = tinyfs.read_volume(disk.chain)
        assert tinyfs.read_content(disk.chain, volume.file("hello")).rstrip(b"\n") == b"Hello, disk"


def test_overwriting_needs_no_lock_and_no_journal() -> None:
    last_write = [below for command, below in run().at_the_lun() if command.data_out_bytes == 512][-1]
    assert [each.cdb[0] for each in last_write] == [0x2A]
    grown = run().at_the_lun()[0][1]
    assert [grown[0].cdb[0], grown[-1].cdb[0]] == [0x16, 0x17]


def test_the_questions_are_judged_by_the_run() -> None:
    track = WritePathTrack(run(), "?")
    asked = {at: question for at in range(track.total) if (question := track.ask(at))}
    assert len(asked) == 3
    answers = [question.options[question.right()] for question in asked.values()]
    assert answers == ["4 to 8.", "More than 12.", "It writes the grain tables of the redo log, too."]


def test_pictures_hold_nothing_of_what_comes() -> None:
    track = WritePathTrack(run(), "?")
    early = track.picture(3)
    assert "RESERVE" not in early.stage.over
    assert "RESERVE" in track.picture(5).stage.over
    assert "Fibre" not in table(run())
    assert time_of(run()).startswith("6 commands: the disk had them for")
