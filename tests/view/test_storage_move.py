"""A Storage VMotion as steps, as a picture and as words, from events made by hand."""

from __future__ import annotations

import re

import pytest

from tests.view import storage_move_samples as samples
from tests.view.storage_move_samples import SQUARE, K
from vilab.errors import AdminError
from vilab.migration.storage_vmotion_events import StorageBytesCopied, StorageRoundBegan
from vilab.view.storage_move_run import StorageMoveRun
from vilab.view.storage_move_says import kilobytes
from vilab.view.storage_move_track import StorageMoveTrack

LITERAL = re.compile(r"#[0-9a-f]{3,6}\b|rgb\(|(?<!-)\bfill:(?!none|var)|stroke:(?!none|var)")


def track(name: str = "changed blocks") -> StorageMoveTrack:
    return StorageMoveTrack(samples.ALL[name](), "What is copied?")


def kinds(name: str) -> list[str]:
    return [step.kind for step in StorageMoveRun(samples.ALL[name]()).steps]


def position_of(found: StorageMoveTrack, number: int) -> list[int]:
    """Where something is copied in this round."""
    return [
        at
        for at, step in enumerate(found.run.steps, 1)
        if step.kind == "copied" and step.seen.rounds[-1].number == number
    ]


def test_a_step_is_a_piece_a_file_or_the_switch() -> None:
    ends = ["folder", "folder", "switched", "folder", "folder", "folder", "moved"]
    assert kinds("changed blocks") == ["folder"] * 3 + ["copied"] * 6 + ends
    assert kinds("snapshot") == ["folder"] * 4 + ["copied"] * 4 + ["folder"] + ["copied"] * 2 + ends
    assert kinds("given up") == ["folder"] * 3 + ["copied", "folder", "folder", "failed", "folder"]


def test_the_events_of_a_step_lead_to_the_same_step() -> None:
    """Who stops the same move after so many events has seen just that much."""
    for name, make in samples.ALL.items():
        events, run = make(), StorageMoveRun(make())
        for at, step in enumerate(run.steps, 1):
            cut = StorageMoveRun(events[: step.events])
            if step.kind == "copied" and step.seen.rounds[-1].left_bytes is None:
                continue  # a piece is over when something else comes
            assert cut.steps[-1].seen == step.seen, (name, at)


def test_what_is_written_behind_the_copy_is_old_and_what_is_ahead_is_not() -> None:
    found = track()
    first, second, *_ = position_of(found, 1)
    assert (found.run.at(first).there, found.run.at(first).old) == ({0}, frozenset())
    assert (found.run.at(second).there, found.run.at(second).old) == ({0, 1}, {0})
    assert found.run.at(position_of(found, 1)[-1]).old == {0}
    assert "part of it behind the copy, part ahead of it. Round 1: 64 KB copied" in found.describe(second)
    assert "1 more square has to go again" in found.describe(second)
    last = found.run.at(position_of(found, 3)[-1])
    assert last.same
    assert [each.copied_bytes for each in last.rounds] == [4 * SQUARE, SQUARE, SQUARE]


def test_with_redo_logs_everything_written_waits_in_them() -> None:
    found = track("snapshot")
    end = found.run.at(position_of(found, 1)[-1])
    assert end.old == {0, 3}
    assert [(log.name, log.held, log.copied) for log in end.redo_logs] == [("web-000001.vmdk", {0, 3}, frozenset())]
    second = found.run.at(position_of(found, 2)[-1])
    assert second.old == frozenset()
    assert [(log.held, log.copied) for log in second.redo_logs] == [({0, 3}, {0, 3}), (frozenset(), frozenset())]
    last = found.run.at(position_of(found, 3)[-1])
    assert last.redo_logs[1].copied == {0}
    assert [each.copied_bytes for each in last.rounds] == [4 * SQUARE, 8 * K, 4 * K]
    assert "out of web-000002.vmdk" in found.describe(position_of(found, 3)[-1])


@pytest.mark.parametrize("name", samples.ALL)
def test_bytes_in_words_are_the_bytes_of_the_events(name: str) -> None:
    found = track(name)
    copied = {at: sum(size for _, size in found.run.at(at).now_copied) for at in range(1, found.total + 1)}
    for at, size in copied.items():
        if size:
            assert f"{kilobytes(size)} copied".replace("\xa0", " ") in found.describe(at)
    assert sum(copied.values()) == found.run.at(found.total).copied_bytes


def test_the_names_that_decide_are_told_when_they_come() -> None:
    found = track()
    words = [found.describe(at) for at in range(found.total + 1)]
    assert words[1].startswith("web.vmx.copying is written into the old folder")
    assert words[2].startswith("web.vmx.moving is the configuration in the new folder")
    at = next(at for at, each in enumerate(words) if "web.vmx.switching becomes the record's name" in each)
    assert words[at + 1] == "web.vmx.moving becomes web.vmx: one renaming, at nfs1."
    assert words[at + 3] == "web.vmx is removed from san1."
    assert words[at + 5] == "web.vmx.switching is removed from san1. Nothing is left in san1."
    assert (
        words[at + 6] == "It has moved. 384 KB were copied, 1.50 times the disk; the guest has written 12 KB meanwhile."
    )


def test_a_move_that_was_given_up_ends_with_its_reason() -> None:
    found = track("given up")
    words = [found.describe(at) for at in range(found.total + 1)]
    assert words[5].startswith("The guest has written 4 KB. web.vmx.staying becomes the record's name")
    assert words[6] == "web.vmdk and web.vmx.moving are removed from nfs1."
    assert words[7].endswith("there is no space left on nfs1.")
    assert found.picture(7).fault
    assert (found.run.at(6).again, found.run.at(7).again) == ({0}, frozenset())
    assert words[8] == "web.vmx.staying is removed from san1."


@pytest.mark.parametrize("name", samples.ALL)
def test_every_picture_has_its_twin_one_height_and_no_colour_of_its_own(name: str) -> None:
    found = track(name)
    pictures = [found.picture(at) for at in range(found.total + 1)]
    assert len({picture.stage.height for picture in pictures}) == 1
    for at, picture in enumerate(pictures):
        drawn = picture.stage.under + picture.stage.over
        assert not LITERAL.search(drawn), at
        assert found.describe(at) in picture.stage.label
    assert len({picture.stage.over for picture in pictures}) > len(pictures) // 2


def test_a_picture_holds_nothing_of_what_is_to_come() -> None:
    found = track()
    for at in range(found.total):
        drawn = found.picture(at).stage
        later = set(found.run.at(found.total).destination) - set(found.run.at(at).destination)
        for name in later - {"web.vmdk"}:
            assert f">{name}<" not in drawn.over + drawn.under.replace(">web.vmx<", "", 1)


def test_the_next_step_of_the_same_kind() -> None:
    found = track()
    first, *_ = position_of(found, 1)
    assert found.next_like(first, 1) == first + 1
    assert found.next_like(position_of(found, 1)[-1], 1) is None
    assert found.next_like(1, 1) == 2


def test_other_files_of_the_folder_are_no_squares() -> None:
    events = samples.changed_blocks()
    at = next(at for at, event in enumerate(events) if isinstance(event, StorageRoundBegan))
    nvram = StorageBytesCopied(0, "web", "web.nvram", 0, 0, 8 * K, 8 * K)
    run = StorageMoveRun([*events[:at], nvram, *events[at:]])
    assert [step.seen for step in run.steps] == [step.seen for step in StorageMoveRun(events).steps]


def test_what_cannot_be_drawn_is_refused_in_a_sentence() -> None:
    with pytest.raises(AdminError, match="no Storage VMotion in these events"):
        StorageMoveRun([samples.wrote(0, 0)])
    with pytest.raises(AdminError, match="cannot be drawn: it has 1 disk and 4,160 KB, and one disk of 4,096 KB"):
        StorageMoveRun(samples.began("snapshot", 65))
    assert StorageMoveTrack(samples.began("snapshot", 64), "?").picture(3).stage.height
