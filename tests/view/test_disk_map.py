"""The disk map tells what the files hold. The judge: qemu-img's own map of the same chain, and a list in memory."""

from __future__ import annotations

import json
import random
import subprocess

import pytest

from tests.tools import require_tool
from vilab.errors import AdminError
from vilab.view import disk_run as do
from vilab.view.disk_frame import ABSENT, ZEROS
from vilab.view.disk_map import DiskTrack
from vilab.view.disk_run import BLOCK_BYTES, DiskRun


def letters(run: DiskRun, position: int) -> str:
    return run.moment(position).seen


def test_a_story_reads_as_a_list_in_memory_does() -> None:
    rng = random.Random(13)
    deeds, expected, content, kept = [], [], [ZEROS] * 24, []
    for number in range(40):
        what = rng.choice(("write", "write", "write", "snapshot", "revert", "delete", "delete all"))
        if what == "snapshot" and len(kept) < 6:
            deeds.append(do.snapshot())
            kept.append(list(content))
        elif what == "revert" and kept:
            deeds.append(do.revert())
            content = list(kept[-1])
        elif what == "delete" and kept:
            at = rng.randrange(len(kept))
            deeds.append(do.delete(at + 1))
            del kept[at]
        elif what == "delete all" and kept:
            deeds.append(do.delete_all(do.write("!", 3, 2)))
            content[3:5] = "!!"
            kept.clear()
        else:
            first = rng.randrange(20)
            count = rng.randrange(1, 5)
            deeds.append(do.write(chr(65 + number % 26), first, count))
            content[first : first + count] = chr(65 + number % 26) * count
        expected.append("".join(content))
    run = DiskRun(deeds, blocks=24)
    assert [letters(run, at + 1) for at in range(len(deeds))] == expected
    run.close()


def test_going_back_shows_what_was_recorded() -> None:
    run = DiskRun([do.write("A", 0, 4), do.snapshot(), do.write("B", 2, 4)])
    track = DiskTrack(run, "?")
    first = track.picture(1)
    assert track.picture(3).stage != first.stage
    assert track.picture(1).stage == first.stage
    assert ">B<" not in first.stage.under
    assert ">B<" in track.picture(3).stage.under
    run.close()


def test_the_sentence_says_what_the_files_have_become() -> None:
    run = DiskRun([do.write("A", 0, 8), do.snapshot(), do.write("B", 2, 4), do.read(0, 8), do.revert()])
    track = DiskTrack(run, "?")
    words = [track.describe(at) for at in range(6)]
    moments = run.moments
    grown = moments[3].file_bytes - moments[2].file_bytes
    assert grown == 4 * BLOCK_BYTES
    assert f"4 blocks more in vm-000001, which grows by {grown // 1024} KB" in words[3]
    assert "hidden: 4 blocks" in words[3]
    assert moments[4].pieces == ((0, 0, 2), (1, 2, 4), (0, 6, 2))
    assert "3 pieces in 2 files" in words[4]
    assert "4 blocks written since are thrown away" in words[5]
    assert moments[5].seen == moments[2].seen
    run.close()


def test_the_files_hold_what_qemu_finds_in_them() -> None:
    qemu_img = require_tool("qemu-img", "qemu-utils")
    run = DiskRun([do.write("A", 0, 30), do.snapshot(), do.write("B", 4, 6), do.snapshot(), do.write("D", 8, 6)])
    moment = run.moment(5)
    run.disk.chain.flush()
    answer = subprocess.run(
        [qemu_img, "map", "-U", "--output=json", str(run.disk.top)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    theirs = {}
    for part in json.loads(answer.stdout):
        for at in range(part["start"] // BLOCK_BYTES, (part["start"] + part["length"]) // BLOCK_BYTES):
            theirs[at] = len(moment.links) - 1 - part["depth"]
    assert [theirs[at] for at in range(30)] == list(moment.source[:30])
    assert [link.cells[8] for link in moment.links] == ["A", "B", "D"]
    assert moment.links[2].cells[0] == ABSENT
    run.close()


def test_more_blocks_than_can_be_drawn_are_refused() -> None:
    with pytest.raises(AdminError, match="1 to 64"):
        DiskRun([], blocks=65)
