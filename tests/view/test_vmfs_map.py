"""The map of a volume tells what is on it. The judges: debugvmfs and fsck.vmfs, on the same bytes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.tools import require_tool
from vilab.course.volume_runs import BIG, DB, UUIDS, VMX, WEB, lock_in_bytes, volume, volume_story
from vilab.errors import AdminError
from vilab.storage.vmfs.layout import MIB, uuid_text
from vilab.view import vmfs_run as do
from vilab.view.vmfs_frame import FREE, HELD, STALE, UNUSED, capture
from vilab.view.vmfs_map import VmfsMapTrack
from vilab.view.vmfs_map_says import spans

PACKAGE = "the Debian package vmfs-tools"


def debugvmfs(image: Path, *words: object) -> str:
    command = [require_tool("debugvmfs", PACKAGE), str(image), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or words[0] == "show_heartbeats", done.stderr  # there it is how many there are
    return done.stdout


@pytest.mark.interop
@pytest.mark.parametrize("position", [6, 9, 12, 14])
def test_every_block_is_where_debugvmfs_finds_it(position: int, tmp_path: Path) -> None:
    run = volume_story()
    moment = run.moment(position)
    image = run.disk.save(tmp_path / "volume.img")
    assert "Total errors: 0" in debugvmfs(image, "check_vol_bitmaps")
    for path in (DB, WEB, BIG):
        file = moment.volume.file(path)
        if file is None:
            continue
        theirs = []
        for megabyte in range(file.size_bytes // MIB):
            # it takes offsets in hexadecimal
            block = int(debugvmfs(image, "get_file_block", path, f"{megabyte * MIB:x}"), 16)
            if block:
                assert block & 7 == 1, "no file block"
                theirs.append(block >> 6)
        assert theirs == list(file.blocks)


@pytest.mark.interop
def test_heartbeats_are_those_that_debugvmfs_shows(tmp_path: Path) -> None:
    run = volume_story()
    moment = run.moment(8)
    shown = debugvmfs(run.disk.save(tmp_path / "volume.img"), "show_heartbeats")
    theirs = re.findall(r"Sequence : (0x\w+)\n.*\n.*UUID\s*: (\S+)", shown)
    live = [slot for slot in moment.volume.slots if slot.live]
    assert [(f"{slot.seq:#010x}", uuid_text(UUIDS[slot.host])) for slot in live] == theirs


def test_what_is_used_has_an_owner_and_what_is_free_has_none() -> None:
    run = volume_story()
    for position in range(run.total + 1):
        moment = run.moment(position).volume
        for block, (used, owner) in enumerate(zip(moment.used, moment.owners, strict=True)):
            assert used == (owner != UNUSED), (position, block, owner)
    run.go(run.total)


def test_the_sentence_says_what_the_bytes_have_become() -> None:
    run = volume_story()
    track = VmfsMapTrack(run, "?")
    words = [track.describe(position) for position in range(run.total + 1)]
    free = [run.moment(position).volume.free_blocks for position in range(run.total + 1)]
    assert free[4] == free[3]
    assert "No block of data is taken" in words[4]
    assert free[4] - free[5] == 3
    assert "3 blocks, 27 to 29" in words[5]
    assert free[5] - free[6] == 1
    assert "60 blocks of it are a hole" in words[6]
    assert free[10] == free[9]
    assert "no block is taken, no lock, no journal" in words[10]
    assert run.moment(12).volume.file(DB) is None
    assert free[12] - free[11] == 16
    assert "not one sector of its data was written" in words[12]
    big = run.moment(14).volume.file(BIG)
    assert big is not None
    assert (big.pointer_blocks, len(big.blocks)) == ((0,), 1)
    assert "pointer block 0" in words[14]


def test_deleted_data_are_still_on_the_lun_and_gone_when_the_block_is_another_files() -> None:
    run = volume([do.mount("esx1"), do.create("esx1", "/a", 8), do.write("/a", 0, 2), do.close("/a"),
                  do.remove("esx1", "/a"), do.create("esx1", "/b", 8), do.write("/b", 0.5, 0.25)])  # fmt: skip
    blocks = run.moment(3).volume.file("/a")
    assert blocks is not None
    first = blocks.blocks[0]

    def content() -> bytes:
        return run.disk.read(17 * MIB + first * MIB, MIB)

    before = content()
    assert before.count(0) < MIB
    run.go(5)
    assert content() == before
    last = run.moment(7).volume.file("/b")
    assert last is not None
    assert last.blocks == (first,)
    assert content()[: MIB // 2] == bytes(MIB // 2)
    assert before[:1024] not in content()


def test_a_lock_is_free_held_or_stale_as_its_slot_says() -> None:
    run = volume([do.mount("esx1"), do.create("esx1", VMX), do.close(VMX), do.create("esx1", DB, 4)])
    assert [run.moment(at).volume.file(VMX).lock for at in (2, 3)] == [HELD, FREE]  # type: ignore[union-attr]
    run.go(4)
    run.host("esx1").member.leave()  # the lock of DB stays behind
    found = capture(run.disk, {uuid: host for host, uuid in UUIDS.items()}).file(DB)
    assert found is not None
    assert (found.lock, found.owner, found.slot) == (STALE, "esx1", 0)


def test_going_back_shows_what_was_recorded() -> None:
    track = VmfsMapTrack(volume_story(), "?")
    first = track.picture(5).stage
    last = track.picture(9).stage
    assert first != last
    assert track.picture(5).stage == first
    assert ">W<" not in first.under
    assert last.under.count(">W<") == 24 + 1, "a square a block, and its letter beside its name"
    assert {track.picture(at).stage.height for at in range(10)} == {first.height}


def test_a_full_volume_is_a_sentence_and_the_picture_stays() -> None:
    run = volume([do.mount("esx1"), do.create("esx1", "/a", 300), do.write("/a", 0, 225), do.write("/a", 225, 10)])
    track = VmfsMapTrack(run, "?")
    assert run.moment(3).volume.free_blocks == 4
    with pytest.raises(AdminError, match="The volume is full"):
        track.go(4)
    assert "225 blocks" in track.describe(3)


def test_runs_of_numbers_are_written_short() -> None:
    assert spans([25, 26, 27, 65]) == "25 to 27, 65"
    assert spans([1, 3, 5, 7, 9, 11]) == "1, 3, 5 and 3 more pieces"


def test_the_sectors_of_a_lock_agree() -> None:
    words = lock_in_bytes()
    assert len(re.findall(r"4c2b0e44e15a0b7c31f0000c295a0001", words)) == 2
    assert "0x0c  hb_pos      0x300000" in words
