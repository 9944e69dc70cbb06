"""The checkers of lesson 12: right answers written another way pass, typical mistakes are shown."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vilab.course import checkers_commands as commands
from vilab.course.checkers_commands import READ, WRITE, Command
from vilab.course.feedback import Feedback, WrongAnswer


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


def take_apart(cdb: bytes) -> tuple[str, int, int]:
    what = READ if cdb[0] in (0x08, 0x28, 0xA8, 0x88) else WRITE
    match len(cdb):
        case 6:
            high, low, count = struct.unpack_from(">BHB", cdb, 1)
            return what, (high & 0x1F) << 16 | low, count if count else 256
        case 10:
            first, _, count = struct.unpack_from(">IBH", cdb, 2)
        case 12:
            first, count = struct.unpack_from(">II", cdb, 2)
        case _:
            first, count = struct.unpack_from(">QI", cdb, 2)
    return what, first, count


def safe_after(given: Sequence[Command], name: str) -> int | None:
    flushes = [at for at, each in enumerate(given) if each[0] == commands.FLUSH]
    supers = [at for at, each in enumerate(given) if each[0] == WRITE and each[1] in (0, 8)]
    for at, (what, _, data) in enumerate(given):
        if what == WRITE and len(data) == 24576 and name.encode() + b"\0" in data[4096:8192]:
            superblock = min(each for each in supers if each > at)
            return min(each for each in flushes if each > superblock) + 1
    return None


def test_cdbs_taken_apart() -> None:
    assert commands.check_take_apart(take_apart).right
    assert commands.check_take_apart(take_apart, commands.random_cdbs(7, 60)).right


@pytest.mark.parametrize("mistake", [
    lambda cdb: (*take_apart(cdb)[:2], cdb[4] if len(cdb) == 6 else take_apart(cdb)[2]),  # 0 is 256
    lambda cdb: (READ, *take_apart(cdb)[1:]),
    lambda cdb: (take_apart(cdb)[0], int.from_bytes(cdb[2:6], "big"), take_apart(cdb)[2]),
    lambda cdb: None,
])  # fmt: skip
def test_a_wrong_field_is_shown_with_what_the_disk_was_asked(mistake: Callable[..., Any]) -> None:
    cdbs = (*commands.random_cdbs(7, 60), bytes.fromhex("080000100000"))
    assert "the disk was asked to" in wrong(commands.check_take_apart, mistake, cdbs).sentence


def test_when_a_file_is_safe() -> None:
    assert commands.check_safe_after(safe_after, (commands.FIRST_STORY, commands.OTHER_STORY)).right


@pytest.mark.parametrize("mistake", [
    lambda given, name: len(given),
    lambda given, name: next(at for at, each in enumerate(given, 1) if name.encode() in each[2]),
    lambda given, name: (safe_after(given, name) or 0) - 1,
])  # fmt: skip
def test_a_power_cut_shows_what_is_too_early_or_too_late(mistake: Callable[..., Any]) -> None:
    feedback = wrong(commands.check_safe_after, mistake)
    assert "power cut after each command" in feedback.sentence
    assert any("from here on" in line for line in feedback.trace)
