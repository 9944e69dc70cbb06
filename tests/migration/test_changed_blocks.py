"""Changed blocks, beside a set of bytes; and a copier that would lose a write if a bit were cleared too late."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.events import Event
from vilab.host.hosted_disk import HostedDisk
from vilab.migration.changed_blocks import ChangedBlocks
from vilab.migration.storage_copy import PIECE_BYTES, Copier, CopyOptions, Pair, nonzero_runs
from vilab.migration.storage_copy_method import CopyMethod
from vilab.migration.storage_vmotion_events import StorageBytesCopied, StorageRoundCopied
from vilab.storage.block import MemoryDisk

SIZE, GRAIN = 100_352, 4096  # 24 grains and a half


@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 20_000), st.booleans()), max_size=30))
def test_a_grain_is_marked_if_a_byte_of_it_was_written_since_it_was_cleared(ops: list[tuple[int, int, bool]]) -> None:
    changed, model = ChangedBlocks(SIZE, GRAIN), set[int]()
    for offset, size, clear in ops:
        size = min(size, SIZE - offset)
        grains = {
            byte // GRAIN for byte in (*range(offset, offset + size, GRAIN), *((offset + size - 1,) * (size > 0)))
        }
        if clear:
            offset, size = offset // GRAIN * GRAIN, GRAIN
            changed.clear(offset, min(size, SIZE - offset))
            model.discard(offset // GRAIN)
        else:
            changed.mark(offset, size)
            model |= grains
    assert {n for n in range(len(changed.bits)) if changed.bits[n]} == model
    runs = list(changed.runs(3 * GRAIN))
    assert sum(size for _, size in runs) == changed.changed_bytes
    assert [n for offset, size in runs for n in range(offset // GRAIN, -(-(offset + size) // GRAIN))] == sorted(model)
    assert all(size <= 3 * GRAIN and offset + size <= SIZE for offset, size in runs)
    assert all((n * GRAIN in changed) == (n in model) for n in range(len(changed.bits)))


def test_runs_are_those_of_the_moment_at_which_they_were_asked_for() -> None:
    changed = ChangedBlocks(SIZE, GRAIN)
    changed.mark(0, 2 * GRAIN)
    runs = changed.runs(GRAIN)
    assert next(runs) == (0, GRAIN)
    changed.clear(0, 2 * GRAIN)
    changed.mark(5 * GRAIN, 1)
    assert list(runs) == [(GRAIN, GRAIN)]
    assert list(changed.runs(GRAIN)) == [(5 * GRAIN, GRAIN)]


@given(st.binary(max_size=40), st.integers(0, 3))
def test_zeros_are_left_out_and_nothing_else(patch: bytes, at: int) -> None:
    data = bytearray(3 * PIECE_BYTES + 512)
    first = min(at * PIECE_BYTES, len(data) - len(patch))
    data[first : first + len(patch)] = patch
    copied = bytearray(len(data))
    for offset, size in nonzero_runs(bytes(data)):
        copied[offset : offset + size] = data[offset : offset + size]
    assert copied == data
    assert sum(size for _, size in nonzero_runs(bytes(data))) <= 2 * PIECE_BYTES


def fenced(sentence: str) -> None:
    raise AssertionError(sentence)


def a_copy(size: int, options: CopyOptions, seed: int = 1) -> tuple[CopyMethod, MemoryDisk, MemoryDisk, list[Event]]:
    content = random.Random(seed).randbytes(size)
    source, target = MemoryDisk(content), MemoryDisk(size)
    events: list[Event] = []
    copier = Copier("web", options, events.append, lambda: 0)
    copier.pairs = [Pair("scsi0:0", HostedDisk(source, fenced), HostedDisk(target, fenced))]
    return CopyMethod(copier), source, target, events


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_whatever_is_written_between_steps_both_sides_are_the_same_at_the_end(data: Any) -> None:
    size = data.draw(st.integers(1, 1600)) * 512
    options = CopyOptions(step_bytes=data.draw(st.sampled_from([512, 65_536, 200_000])), little_bytes=65_536)
    method, source, target, _ = a_copy(size, options)
    guest = method.copier.pairs[0].source
    writes = data.draw(st.lists(st.tuples(st.integers(0, size // 512 - 1), st.integers(1, 300), st.booleans())))
    for _ in method.steps():
        if writes:
            first, sectors, unmaps = writes.pop()
            length = 512 * min(sectors, size // 512 - first)
            if unmaps:
                guest.unmap(512 * first, length)
            else:
                guest.write(512 * first, bytes([len(writes) % 255 + 1]) * length)
    method.last()
    method.end()
    assert source.content == target.content
    assert guest.watchers == []


def test_a_write_in_front_of_the_copier_is_copied_once_and_one_behind_it_again() -> None:
    method, source, target, events = a_copy(16 * 65_536, CopyOptions(step_bytes=65_536, little_bytes=0))
    guest, steps = method.copier.pairs[0].source, method.steps()
    for _ in range(4):
        next(steps)
    guest.write(10 * 65_536, b"a" * 512)
    guest.write(2 * 65_536, b"b" * 512)
    assert sum(1 for _ in steps) == 12 + 1
    assert method.last() == 0
    copied = [event.offset_bytes // 65_536 for event in events if isinstance(event, StorageBytesCopied)]
    assert copied == [*range(16), 2]
    assert source.content == target.content


def test_a_guest_that_writes_faster_than_is_copied_stands_still_for_the_rest() -> None:
    method, source, target, events = a_copy(64 * 65_536, CopyOptions(step_bytes=65_536, little_bytes=65_536))
    guest, lot = method.copier.pairs[0].source, random.Random(3)
    for _ in method.steps():
        for _ in range(3):
            guest.write(lot.randrange(64) * 65_536, lot.randbytes(512))
    rounds = [event for event in events if isinstance(event, StorageRoundCopied)]
    assert len(rounds) <= 8
    assert rounds[-1].changed_bytes >= rounds[-2].changed_bytes or len(rounds) == 8
    assert method.last() == rounds[-1].changed_bytes
    assert source.content == target.content


def test_a_write_that_failed_in_the_middle_counts_as_one() -> None:
    class Failing(MemoryDisk):
        def write(self, offset_bytes: int, data: Any) -> None:
            super().write(offset_bytes, bytes(data)[:512])
            raise OSError("the cable")

    changed = ChangedBlocks(SIZE, GRAIN)
    disk = HostedDisk(Failing(SIZE), fenced)
    disk.watchers.append(changed.mark)
    with pytest.raises(OSError, match="the cable"):
        disk.write(0, b"x" * 1024)
    assert 0 in changed
