"""The checkers of lesson 13: right answers written another way pass, typical mistakes are shown."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vilab.course import checkers_snapshots as snapshots
from vilab.course.checkers_snapshots import RedoLog
from vilab.course.feedback import Feedback, WrongAnswer

ALL_CHAINS = ((0, 1), (1, 2), (3, 3), (8, 4))


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


def lookup(base: bytes, deltas: Sequence[bytes], sector: int) -> bytes:
    found = base[512 * sector :][:512]
    for delta in deltas:
        _, directory, entries = struct.unpack_from("<3I", delta, 16)
        tables = struct.unpack_from(f"<{entries}I", delta, 512 * directory)
        table = tables[sector >> 12]
        (grain,) = struct.unpack_from("<I", delta, 512 * table + 4 * (sector & 4095)) if table else (0,)
        found = delta[512 * grain :][:512] if grain else found
    return found


def choose(logs: Sequence[RedoLog], wanted_bytes: int) -> int | None:
    below: list[frozenset[int] | None] = [None, *(log.sectors for log in logs)]
    frees = [
        log.own_bytes + 512 * (len(log.sectors) if under is None else len(log.sectors & under))
        for log, under in zip(logs, below, strict=False)
    ]
    enough = [(len(logs[at].sectors), at) for at, freed in enumerate(frees) if freed >= wanted_bytes]
    return min(enough)[1] if enough else None


def test_the_lookup_through_the_chain() -> None:
    assert snapshots.check_lookup(lookup, ALL_CHAINS).right


def test_asking_the_oldest_first_is_shown() -> None:
    assert (
        "the guest reads"
        in wrong(
            snapshots.check_lookup, lambda base, deltas, sector: lookup(base, deltas[::-1], sector), ALL_CHAINS
        ).sentence
    )


def test_forgetting_the_redo_logs_is_shown() -> None:
    wrong(snapshots.check_lookup, lambda base, _, sector: base[512 * sector :][:512])


@pytest.mark.parametrize("answer", [None, 7, "bytes"])
def test_a_lookup_that_gives_no_bytes_is_a_sentence(answer: object) -> None:
    assert "512 bytes are wanted" in wrong(snapshots.check_lookup, lambda *_: answer).sentence


def test_the_snapshot_to_delete() -> None:
    assert snapshots.check_choose(choose, range(1, 20)).right
    assert any(snapshots.full_datastore(seed).best is None for seed in range(1, 20))


@pytest.mark.parametrize("mistake", [
    lambda logs, wanted: 0,
    lambda logs, wanted: min(range(len(logs)), key=lambda at: len(logs[at].sectors)),
    lambda logs, wanted: choose([RedoLog(log.sectors, 0) for log in logs], wanted),
])  # fmt: skip
def test_what_is_forgotten_is_shown_beside_what_every_deletion_does(mistake: Callable[..., Any]) -> None:
    feedback = wrong(snapshots.check_choose, mistake, range(1, 20))
    assert feedback.trace[0].split() == ["redo", "log", "holds", "frees", "copies"]
