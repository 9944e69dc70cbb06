"""Deltas of pages, and what the source remembers for them: right, or found to be wrong, but never wrong in silence."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.migration.page_guests import Guest
from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.migration import page_delta
from vilab.migration.page_source import encode_pages, store_pages
from vilab.migration.page_stream import PageBatch
from vilab.migration.sent_pages import SentPages

PAGES = 8

EDIT = st.tuples(
    st.integers(0, 3), st.integers(0, PAGE_BYTES - 1), st.sampled_from([1, 2, 7, 64, 127, 128, 129, 500, 4096])
)


def some_pages(count: int, seed: int = 3) -> np.ndarray:
    return np.frombuffer(random.Random(seed).randbytes(count * PAGE_BYTES), np.uint8).reshape(-1, PAGE_BYTES)


def edited(old: np.ndarray, edits: list[tuple[int, int, int]]) -> np.ndarray:
    new = old.copy()
    for page, at, size in edits:
        new[page % len(old), at : at + size] ^= 0x5A
    return new


def expanded(old: np.ndarray, runs: bytes, literals: bytes) -> np.ndarray:
    found = old.copy()
    page_delta.judge(len(old), np.frombuffer(runs, np.uint8), np.frombuffer(literals, np.uint8)).apply(found)
    return found


def by_hand(old: bytes, pages: int, runs: bytes, literals: bytes) -> bytes:
    """The picture of ``page_delta``, a byte at a time."""
    numbers, at = [], 0
    while at < len(runs):
        if runs[at] < 0x80:
            numbers.append(runs[at])
            at += 1
        else:
            assert runs[at + 1] < 0x80
            numbers.append((runs[at] & 0x7F) << 7 | runs[at + 1])
            at += 2
    found, pairs, used = bytearray(old), iter(numbers[pages:]), 0
    for page in range(pages):
        place = page * PAGE_BYTES
        for _ in range(numbers[page]):
            place += next(pairs)
            for _ in range(next(pairs)):
                found[place] ^= literals[used]
                place, used = place + 1, used + 1
    assert next(pairs, None) is None
    assert used == len(literals)
    return bytes(found)


# The coding ----------------------------------------------------------------------------------------------------------


@given(st.lists(EDIT, max_size=20), st.integers(1, 4))
@settings(max_examples=200)
def test_what_has_changed_comes_back_whatever_it_is(edits, count):
    old = some_pages(count)
    new = edited(old, edits)
    small, runs, literals = page_delta.compress(old, new)
    before, after = np.ascontiguousarray(old[small]), new[small]
    assert expanded(before, runs, literals).tobytes() == after.tobytes()
    assert by_hand(before.tobytes(), int(small.sum()), runs, literals) == after.tobytes()
    for page in np.flatnonzero(~small):
        assert np.count_nonzero(old[page] != new[page]) > page_delta.MOST_DELTA_BYTES // 3
    for page in np.flatnonzero(small):
        assert np.count_nonzero(old[page] != new[page]) <= page_delta.MOST_DELTA_BYTES


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, PAGE_BYTES - 1)), max_size=300))
@settings(max_examples=50)
def test_scattered_bytes_come_back(places):
    old = some_pages(4)
    new = edited(old, [(page, at, 1) for page, at in places])
    small, runs, literals = page_delta.compress(old, new)
    assert small.all()
    assert expanded(old, runs, literals).tobytes() == new.tobytes()


def test_a_page_that_did_not_change_takes_one_byte():
    old = some_pages(3)
    small, runs, literals = page_delta.compress(old, old.copy())
    assert small.all()
    assert (runs, literals) == (b"\0\0\0", b"")


def test_64_bytes_take_68_and_gaps_shorter_than_a_run_costs_are_part_of_one():
    old = some_pages(1)
    _, runs, literals = page_delta.compress(old, edited(old, [(0, 100, 64)]))
    assert (list(runs), len(literals)) == ([1, 100, 64], 64)
    _, runs, literals = page_delta.compress(old, edited(old, [(0, 200, 1), (0, 204, 1), (0, 209, 1)]))
    assert list(runs) == [2, 0x81, 200 - 128, 5, 4, 1]
    assert list(literals) == [0x5A, 0, 0, 0, 0x5A, 0x5A]


def test_a_run_does_not_go_on_from_the_end_of_a_page_to_the_next():
    old = some_pages(2)
    new = edited(old, [(0, PAGE_BYTES - 1, 1), (1, 0, 1)])
    _, runs, literals = page_delta.compress(old, new)
    assert list(runs) == [1, 1, 0x80 | 4095 >> 7, 4095 & 0x7F, 1, 0, 1]
    assert expanded(old, runs, literals).tobytes() == new.tobytes()


def test_a_delta_is_as_large_as_was_reckoned_and_no_larger_than_allowed():
    old = some_pages(4)
    many = [(3, 5 * n, 1) for n in range(200)]
    new = edited(old, [(0, 0, 900), (1, 5, 300), (1, 600, 300), (2, 0, 10), *many])
    sizes = [len(runs) + len(literals) for _, runs, literals in
             (page_delta.compress(old[page : page + 1], new[page : page + 1]) for page in range(4))]  # fmt: skip
    for most in range(min(sizes), max(sizes) + 2):
        small, runs, literals = page_delta.compress(old, new, most)
        assert small.tolist() == [size <= most for size in sizes]
        assert len(runs) + len(literals) == sum(size for size in sizes if size <= most)


def test_a_page_of_other_content_is_sent_as_it_is():
    old = some_pages(3)
    new = old.copy()
    new[1] = some_pages(1, seed=9)[0]
    small, _, _ = page_delta.compress(old, new)
    assert small.tolist() == [True, False, True]


HOSTILE = [
    ("do not hold the runs", 2, b"\0", b""),
    ("do not hold the runs", 1, b"\1", b""),
    ("do not hold the runs", 1, b"\1\0", b""),
    ("do not hold the runs", 1, b"\0\0\1", b"a"),
    ("do not hold the runs", 2, b"\1\0\1", b"a"),
    ("cut off or too large", 1, b"\1\0\x80", b""),
    ("cut off or too large", 1, b"\1\0\xff\xff\xff\x01", b""),
    ("empty or leaves the page", 1, b"\1\0\0", b""),
    ("empty or leaves the page", 1, b"\1\xa0\0\1", b"a"),  # 4096, 1
    ("empty or leaves the page", 1, b"\1\1\xa0\0", bytes(4096)),
    ("empty or leaves the page", 1, b"\2\0\x9f\x7f\0\2", bytes(4097)),  # 4095 and 2
    ("empty or leaves the page", 2, b"\1\2" + b"\0\1" + b"\xa0\0\1\0\1", b"abc"),
    ("need 2 changed bytes, and 1 came", 1, b"\1\0\2", b"a"),
    ("need 2 changed bytes, and 3 came", 1, b"\1\0\2", b"abc"),
]


@pytest.mark.parametrize(("why", "pages", "runs", "literals"), HOSTILE)
def test_runs_that_are_none_are_refused(why, pages, runs, literals):
    with pytest.raises(AdminError, match=why):
        expanded(some_pages(pages), runs, literals)


@given(st.integers(0, 3), st.lists(st.sampled_from([0, 1, 2, 3, 0x7F, 0x80, 0x81, 0xA0, 0xFF]), max_size=14).map(bytes),
       st.integers(0, 8).map(bytes))  # fmt: skip
@settings(max_examples=500)
def test_any_bytes_are_runs_inside_of_their_pages_or_refused(pages, runs, literals):
    try:
        found = page_delta.judge(pages, np.frombuffer(runs, np.uint8), np.frombuffer(literals, np.uint8))
    except AdminError:
        return
    old = np.zeros((pages, PAGE_BYTES), np.uint8)
    found.apply(old)
    assert old.tobytes() == by_hand(bytes(pages * PAGE_BYTES), pages, runs, literals)


# What was sent before ------------------------------------------------------------------------------------------------


def cached(cache: SentPages, pages: int = PAGES) -> dict[int, int]:
    """ppn -> first byte."""
    slots = cache._slot_of[:pages]
    return {ppn: int(cache._content[slot, 0]) for ppn, slot in enumerate(slots.tolist()) if slot >= 0}


def content(*firsts: int) -> np.ndarray:
    found = np.zeros((len(firsts), PAGE_BYTES), np.uint8)
    found[:, 0] = firsts
    return found


STEP = st.one_of(
    st.tuples(st.just("remember"), st.sets(st.integers(0, PAGES - 1), min_size=1).map(sorted)),
    st.tuples(st.just("forget"), st.sets(st.integers(0, PAGES - 1)).map(sorted)),
)


@given(st.integers(1, PAGES), st.sampled_from(["random", "lru"]), st.lists(STEP, max_size=30))
def test_it_holds_what_was_sent_last_and_no_more_than_it_may(slots, replacement, steps):
    cache = SentPages(PAGES, slots * PAGE_BYTES + 100, replacement)
    sent: dict[int, int] = {}
    for number, (what, ppns) in enumerate(steps):
        array = np.array(ppns, np.int64)
        if what == "remember":
            cache.remember(array, content(*[number] * len(ppns)))
            sent.update(dict.fromkeys(ppns, number))
            assert len(cached(cache).keys() & set(ppns)) == min(slots, len(ppns))
        else:
            cache.forget(array)
            for ppn in ppns:
                sent.pop(ppn, None)
            assert not cached(cache).keys() & set(ppns)
        held = cached(cache)
        assert len(cache) == len(held) <= slots
        assert held.items() <= sent.items()
        found = cache.find(np.arange(PAGES))
        assert {ppn for ppn in range(PAGES) if found[ppn] >= 0} == held.keys()


def test_the_page_that_was_sent_longest_ago_goes_first():
    cache = SentPages(PAGES, 3 * PAGE_BYTES, "lru")
    for ppn in (1, 2, 3):
        cache.remember(np.array([ppn]), content(ppn))
    cache.remember(np.array([1]), content(9))
    cache.remember(np.array([4, 5]), content(4, 5))
    assert cached(cache) == {1: 9, 4: 4, 5: 5}


def test_by_lot_every_page_may_go_and_the_same_seed_does_the_same():
    gone = set()
    for seed in range(40):
        twice = []
        for _ in range(2):
            cache = SentPages(PAGES, 4 * PAGE_BYTES, "random", seed)
            cache.remember(np.arange(4), content(0, 1, 2, 3))
            cache.remember(np.array([7]), content(7))
            twice.append(cached(cache))
        assert twice[0] == twice[1]
        gone |= set(range(4)) - twice[0].keys()
    assert gone == {0, 1, 2, 3}


def test_a_cache_for_less_than_a_page_is_refused():
    with pytest.raises(AdminError, match="holds no page"):
        SentPages(PAGES, PAGE_BYTES - 1)


# Both sides ----------------------------------------------------------------------------------------------------------


def pair() -> tuple[Guest, Guest, SentPages]:
    source, destination = Guest(PAGES), Guest(PAGES, list(range(PAGES))[::-1])
    for ppn in range(PAGES):
        source.fill(ppn, random.Random(ppn).randbytes(PAGE_BYTES))
    return source, destination, SentPages(PAGES, PAGES * PAGE_BYTES)


def send(source: Guest, destination: Guest, cache: SentPages, ppns) -> PageBatch:
    batch, parts = encode_pages(source.pmap, ppns, "delta", cache)
    wire = msgspec.msgpack.encode(batch)
    store_pages(destination.pmap, msgspec.msgpack.decode(wire, type=PageBatch), b"".join(parts))
    return batch


def test_pages_sent_again_are_deltas_and_arrive():
    source, destination, cache = pair()
    assert send(source, destination, cache, range(PAGES)).raw_pages == PAGES
    source.pmap.write(5 * PAGE_BYTES + 10, b"changed")
    source.fill(6, b"")
    source.fill(7, random.Random(77).randbytes(PAGE_BYTES))
    batch = send(source, destination, cache, range(4, PAGES))
    assert (batch.delta_pages, batch.zero_pages, batch.raw_pages) == (2, 1, 1)
    assert destination.pmap.content() == source.pmap.content()
    source.pmap.write(7 * PAGE_BYTES, b"again")
    assert send(source, destination, cache, [7]).delta_pages == 1
    assert destination.pmap.content() == source.pmap.content()


def test_a_page_that_was_zero_in_between_is_not_a_delta_of_what_it_was_before():
    source, destination, cache = pair()
    source.fill(6, b"this")
    send(source, destination, cache, range(PAGES))
    source.fill(6, b"")
    assert send(source, destination, cache, [6]).zero_pages == 1
    source.fill(6, b"that")
    assert send(source, destination, cache, [6]).raw_pages == 1
    assert destination.pmap.content() == source.pmap.content()


def test_a_delta_is_of_what_was_sent_last_however_often_a_page_is_sent():
    source, destination, cache = pair()
    send(source, destination, cache, range(PAGES))
    for number in range(1, 6):
        for ppn in range(4):
            source.pmap.write(ppn * PAGE_BYTES + 100 * number, bytes([number]) * 50)
        assert send(source, destination, cache, range(4)).delta_pages == 4
        assert destination.pmap.content() == source.pmap.content()


@pytest.mark.parametrize("at", [0, 10, 2000, PAGE_BYTES - 1])
def test_a_destination_that_has_something_else_says_so_and_writes_nothing(at):
    source, destination, cache = pair()
    send(source, destination, cache, range(PAGES))
    destination.pmap.write(5 * PAGE_BYTES + at, bytes([destination.pmap.page(5)[at] ^ 0x80]))
    for ppn in (4, 5, 6):
        source.pmap.write(ppn * PAGE_BYTES + 10, b"changed")
    source.fill(3, random.Random(33).randbytes(PAGE_BYTES))
    before = destination.pmap.content()
    with pytest.raises(AdminError, match="differ in what was sent before"):
        send(source, destination, cache, range(3, 7))
    assert destination.pmap.content() == before


def test_deltas_that_change_places_are_found():
    source, destination, cache = pair()
    source.fill(2, b"twins"), source.fill(3, b"twins")
    send(source, destination, cache, range(PAGES))
    source.fill(2, b"twin a"), source.fill(3, b"twin b")
    batch, parts = encode_pages(source.pmap, [2, 3], "delta", cache)
    swapped = msgspec.structs.replace(batch, delta=batch.delta[4:] + batch.delta[:4])
    with pytest.raises(AdminError, match="differ in what was sent before"):
        store_pages(destination.pmap, swapped, b"".join(parts))


def test_what_the_guest_writes_after_a_batch_was_made_does_not_spoil_the_next_delta():
    source, destination, cache = pair()
    batch, parts = encode_pages(source.pmap, range(PAGES), "delta", cache)
    source.pmap.write(PAGE_BYTES, b"while the batch waits")
    store_pages(destination.pmap, batch, b"".join(parts))
    source.pmap.write(PAGE_BYTES + 3000, b"and later")
    assert send(source, destination, cache, [1]).delta_pages == 1
    assert destination.pmap.content() == source.pmap.content()
