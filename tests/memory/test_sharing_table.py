"""The hash table of page sharing: what is put in is found, hints make room, shared frames never do."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.errors import VmmBug
from vilab.memory.sharing_table import ENTRY_BYTES, NOWHERE, WAYS, EntryKind, SharingTable

HASHES = st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=200, unique=True)


@given(HASHES)
@settings(deadline=None)
def test_what_is_in_the_table_is_found_one_by_one_and_together(hashes: list[int]):
    table = SharingTable(1000)
    model: dict[int, tuple[int, int]] = {}
    for at, one in enumerate(hashes):
        assert table.find(one) == NOWHERE
        assert table.put_hint(one, 1 + at % 0xFFFF, at)
        model[one] = (1 + at % 0xFFFF, at)
    found = table.find_many(np.array(hashes, np.uint64)).tolist()
    assert found == [table.find(one) for one in hashes]
    left = table.hinted_pages()
    assert left.items() <= model.items()
    assert len(left) == table.hints == len(model) - table.evicted
    for one, slot in zip(hashes, found, strict=True):
        assert (slot != NOWHERE) == (one in left)
        if one in left:
            assert table.entry(slot) == (EntryKind.HINT, *model[one])
    absent = [one ^ 1 for one in hashes if one ^ 1 not in model and one != 1]
    assert (table.find_many(np.array(absent, np.uint64)) == NOWHERE).all()


@given(st.integers(1, 300), st.integers(0, WAYS), st.integers(0, 99))
@settings(deadline=None)
def test_in_a_full_bucket_hints_go_and_shared_frames_stay(arrivals: int, shared: int, seed: int):
    table = SharingTable(1)  # one bucket
    assert table.slots == WAYS
    hashes = random.Random(seed).sample(range(1, 2**62), arrivals + shared)
    for mpn, one in enumerate(hashes[:shared]):
        assert table.put_hint(one, 1, mpn)
        table.promote(table.find(one), mpn)
    room = WAYS - shared
    for at, one in enumerate(hashes[shared:]):
        assert table.put_hint(one, 1, 100 + at) is (room > 0)
        assert (table.find(one) != NOWHERE) is (room > 0)
    assert table.shared_frames() == dict(enumerate(hashes[:shared]))
    assert table.hints == len(table.hinted_pages()) == min(arrivals, room)
    assert table.evicted == (max(0, arrivals - room) if room else 0)


@given(HASHES)
@settings(deadline=None)
def test_hints_put_together_are_where_they_would_be_one_by_one(hashes: list[int]):
    table, other = SharingTable(64), SharingTable(64)
    for one in hashes:
        other.put_hint(one, 3, one & 0xFFFF)
    rest = np.array(hashes, np.uint64)
    while len(rest):
        left = table.leave_hints(rest, np.full(len(rest), 3), (rest & np.uint64(0xFFFF)).astype(np.int64))
        assert len(left) < len(rest)
        rest = rest[left]
    assert table.hinted_pages() == other.hinted_pages()
    assert (table.hints, table.evicted) == (other.hints, other.evicted)
    assert table.find_many(np.array(hashes, np.uint64)).tolist() == [other.find(one) for one in hashes]


def test_what_concerns_another_page_is_left_to_the_caller():
    table = SharingTable(1 << 16)
    known, shared, own, new = (at << 56 | 1 for at in range(1, 5))
    table.put_hint(known, 1, 10)
    table.put_hint(shared, 1, 11)
    table.promote(table.find(shared), 5)
    table.put_hint(own, 1, 12)
    hashes = np.array([known, shared, own, new, new, new + 1], np.uint64)
    left = table.leave_hints(hashes, np.full(6, 1), np.array([20, 21, 12, 23, 24, 25]))
    # The last two have to wait for the one before them in their bucket.
    assert left.tolist() == [0, 1, 4, 5]
    assert table.hinted_pages() == {known: (1, 10), own: (1, 12), new: (1, 23)}


def test_when_hints_are_dropped_shared_frames_stay():
    table = SharingTable(100)
    for one in range(1, 20):
        table.put_hint(one << 58, 1, one)
    table.promote(table.find(3 << 58), 77)
    table.drop_hints()
    assert table.hints == len(table.hinted_pages()) == 0
    assert table.shared_frames() == {77: 3 << 58}
    assert table.shared == 1


def test_the_largest_numbers_fit():
    table = SharingTable(100)
    table.put_hint(2**64 - 1, 0xFFFF, 0xFFFF_FFFF)
    slot = table.find(2**64 - 1)
    assert table.entry(slot) == (EntryKind.HINT, 0xFFFF, 0xFFFF_FFFF)
    table.promote(slot, 0xFFFF_FFFF)
    assert table.entry(slot) == (EntryKind.SHARED, 0, 0xFFFF_FFFF)


def test_entries_that_are_not_what_they_should_be_are_refused():
    table = SharingTable(100)
    table.put_hint(5, 1, 7)
    slot = table.find(5)
    with pytest.raises(VmmBug, match="not in the hash table"):
        table.drop_shared(5, 7)
    table.promote(slot, 9)
    for one in (lambda: table.promote(slot, 9), lambda: table.drop_hint(slot), lambda: table.hint_instead(slot, 1, 1)):
        with pytest.raises(VmmBug, match="holds SHARED, not HINT"):
            one()
    with pytest.raises(VmmBug, match="0x8 is not in the hash table"):
        table.drop_shared(5, 8)
    table.drop_shared(5, 9)
    assert table.find(5) == NOWHERE


def test_three_entries_of_16_bytes_for_two_frames():
    table = SharingTable(1 << 16)
    assert table.size_bytes() == table.slots * ENTRY_BYTES == 24 << 16
