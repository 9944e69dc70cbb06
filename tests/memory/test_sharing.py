"""Page sharing: equal pages are kept once, nobody sees another byte, and the counts add up."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.sharing_guests import Guests
from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Mpn, Ppn
from vilab.errors import VmmBug
from vilab.events import encode
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.memory_events import FalseMatch, HintDropped, HintStored, PageShared, SharedFrameLeft, SharingBroken
from vilab.memory.page_state import PageState

VMS, PAGES = 3, 6
ZEROS = b""


def scan(guests: Guests, *pages: tuple[int, int]) -> int:
    vm_ids, ppns = (np.array(part, np.int64) for part in zip(*pages, strict=True))
    return guests.sharing.scan(vm_ids, ppns)


def everything(guests: Guests) -> list[tuple[int, int]]:
    return [(vm, ppn) for vm, pmap in guests.pmaps.items() for ppn in range(pmap.pages)]


def first_byte(page: memoryview) -> int:
    """A hash that many different pages have in common."""
    return page[0]


def spread_first_byte(page: memoryview) -> int:
    return page[0] * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF


HASHING = (xxhash.xxh3_64_intdigest, first_byte, spread_first_byte)

PAGE = st.tuples(st.integers(1, VMS), st.integers(0, PAGES - 1))
CONTENT = st.sampled_from([ZEROS, b"a", b"aa", b"ab", b"b", b"b" * 4096, b"\0" * 4095 + b"c", b"\0\1"])
STEP = st.one_of(
    st.tuples(st.just("write"), PAGE, CONTENT),
    st.tuples(st.just("write"), PAGE, CONTENT),
    st.tuples(st.just("poke"), PAGE, st.integers(0, 255)),
    st.tuples(st.just("scan"), st.lists(PAGE, min_size=1, max_size=20)),
    st.tuples(st.just("scan all")),
    st.tuples(st.just("lose"), PAGE),
    st.tuples(st.just("watch"), PAGE),
    st.tuples(st.just("try"), PAGE),
    st.tuples(st.just("power off"), st.integers(1, VMS)),
)


def do(guests: Guests, model: dict[tuple[int, int], bytes], step: tuple) -> None:
    """One step, and what it means for what the guests must see."""
    match step:
        case ("write", (vm, ppn), content):
            guests.fill(vm, ppn, content)
            model[vm, ppn] = content.ljust(PAGE_BYTES, b"\0")
        case ("poke", (vm, ppn), byte):
            guests.pmaps[vm].write((ppn << PAGE_SHIFT) + 100, bytes([byte]))
            old = model.get((vm, ppn), bytes(PAGE_BYTES))
            model[vm, ppn] = old[:100] + bytes([byte]) + old[101:]
        case ("scan", pages):
            scan(guests, *pages)
        case ("scan all",):
            scan(guests, *everything(guests))
        case ("lose", (vm, ppn)) if guests.pmaps[vm].frame(ppn) is not None:
            guests.lose(vm, ppn)
            model.pop((vm, ppn), None)
        case ("watch", (vm, ppn)):
            guests.pmaps[vm].watch(ppn)
        case ("try", (vm, ppn)):
            private = guests.pmaps[vm].state_of(ppn) is PageState.PRIVATE
            shared = guests.sharing.try_share(guests.pmaps[vm], Ppn(ppn))
            assert shared is (private and guests.pmaps[vm].state_of(ppn) is PageState.SHARED)
        case ("power off", vm):
            for ppn in range(PAGES):
                if guests.pmaps[vm].frame(ppn) is not None:
                    guests.lose(vm, ppn)
                model.pop((vm, ppn), None)


@given(st.lists(STEP, max_size=40), st.sampled_from(HASHING))
@settings(deadline=None, max_examples=150)
def test_guests_see_what_they_wrote_and_frames_are_counted(steps: list[tuple], hash_page: Callable[[memoryview], int]):
    guests = Guests(VMS, PAGES, hash_page=hash_page)
    model: dict[tuple[int, int], bytes] = {}
    for step in steps:
        watched = {page for page in everything(guests) if guests.pmaps[page[0]].state[page[1]] & 0x80}
        do(guests, model, step)
        if step[0] in ("scan", "scan all", "try"):
            now = {page for page in everything(guests) if guests.pmaps[page[0]].state[page[1]] & 0x80}
            assert now == watched
        guests.check()
        for vm, ppn in everything(guests):
            assert guests.content(vm, ppn) == model.get((vm, ppn), bytes(PAGE_BYTES))
    if hash_page is xxhash.xxh3_64_intdigest:
        assert not guests.log.of(FalseMatch)


@given(st.lists(STEP, max_size=25), st.sampled_from(HASHING))
@settings(deadline=None, max_examples=150)
def test_many_pages_at_once_are_as_one_after_another(steps: list[tuple], hash_page: Callable[[memoryview], int]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vilab.memory.sharing.FEW_PAGES", 0)  # Together as often as possible.
        compare_together_and_apart(steps, hash_page)


def compare_together_and_apart(steps: list[tuple], hash_page: Callable[[memoryview], int]) -> None:
    together, apart, logged = (Guests(VMS, PAGES, hash_page=hash_page) for _ in range(3))
    logged.sharing.log_hints = True
    for step in steps:
        do(together, {}, step)
        do(logged, {}, step)
        if step[0].startswith("scan"):
            for page in step[1] if step[0] == "scan" else everything(apart):
                scan(apart, page)
        else:
            do(apart, {}, step)
    for other in (apart, logged):
        assert together.sharing.counts() == other.sharing.counts()
        assert together.sharing.table.hinted_pages() == other.sharing.table.hinted_pages()
        for vm, pmap in together.pmaps.items():
            assert list(pmap.mpn_of) == list(other.pmaps[vm].mpn_of)
            assert pmap.state == other.pmaps[vm].state
        hints = (HintStored, HintDropped)
        assert [encode(e) for e in together.log.events] == [
            encode(e) for e in other.log.events if not isinstance(e, hints)
        ]


@pytest.mark.parametrize("seed", [1, 2])
def test_with_buckets_full_of_old_hints_too(seed: int):
    together, apart = Guests(2, 200), Guests(2, 200)
    lot = random.Random(seed)
    for _ in range(4):
        for vm, ppn in everything(together):
            if lot.random() < 0.7:
                content = struct.pack("<I", lot.randrange(400 if lot.random() < 0.3 else 1 << 32))
                together.fill(vm, ppn, content)
                apart.fill(vm, ppn, content)
        pages = [(lot.randrange(1, 3), lot.randrange(200)) for _ in range(600)]
        scan(together, *pages)
        for page in pages:
            scan(apart, page)
        assert together.sharing.counts() == apart.sharing.counts()
        assert together.sharing.table.hinted_pages() == apart.sharing.table.hinted_pages()
        assert [list(pmap.mpn_of) for pmap in together.pmaps.values()] == [
            list(pmap.mpn_of) for pmap in apart.pmaps.values()
        ]
    together.check()
    counts = together.sharing.counts()
    assert min(counts.evicted_hints, counts.stale_hints, counts.shared_frames, counts.copies) > 0


def test_a_first_page_leaves_a_hint_and_stays_writable():
    guests = Guests(2, 4)
    guests.fill(1, 0, b"same")
    assert scan(guests, (1, 0)) == 0
    assert guests.pmaps[1].state_of(0) is PageState.PRIVATE
    assert list(guests.sharing.table.hinted_pages().values()) == [(1, 0)]
    scan(guests, (1, 0))
    assert guests.sharing.counts().hints == 1
    assert not guests.log.events


def test_the_second_page_promotes_the_first():
    guests = Guests(2, 4)
    guests.fill(1, 0, b"same")
    guests.fill(2, 3, b"same")
    first, second = guests.pmaps[1].frame(0), guests.pmaps[2].frame(3)
    guests.now_ns = 7
    assert scan(guests, (1, 0), (2, 3)) == 2
    assert guests.log.events == [PageShared(7, 2, 3, second, first, 2, (1, 0))]
    assert guests.pmaps[1].frame(0) == guests.pmaps[2].frame(3) == first
    counts = guests.sharing.counts()
    assert (counts.shared_pages, counts.shared_frames, counts.saved_frames, counts.hints) == (2, 1, 1, 0)


def test_a_hint_whose_page_has_changed_is_replaced():
    guests = Guests(2, 4)
    guests.fill(1, 0, b"same")
    scan(guests, (1, 0))
    guests.fill(1, 0, b"other")
    guests.fill(2, 0, b"same")
    assert scan(guests, (2, 0)) == 0
    assert guests.sharing.counts().stale_hints == 1
    assert list(guests.sharing.table.hinted_pages().values()) == [(2, 0)]
    guests.fill(2, 1, b"same")
    assert scan(guests, (2, 1)) == 2
    guests.check()


def test_hints_of_a_vm_that_is_gone_are_worth_nothing():
    guests = Guests(2, 4)
    guests.fill(1, 0, b"same")
    guests.fill(2, 0, b"same")
    scan(guests, (1, 0))
    guests.lose(1, 0)
    del guests.pmaps[1]
    assert scan(guests, (2, 0)) == 0
    guests.check()


def test_same_hash_and_other_content_is_not_shared():
    guests = Guests(1, 4, hash_page=lambda page: 42)
    guests.fill(1, 0, b"one")
    guests.fill(1, 1, b"two")
    guests.fill(1, 2, b"one")
    assert scan(guests, (1, 0), (1, 1), (1, 2), (1, 1)) == 2
    assert guests.sharing.counts().false_matches == 2
    frame = guests.pmaps[1].frame(0)
    assert guests.log.of(FalseMatch) == [FalseMatch(0, 1, 1, frame, 42)] * 2
    assert guests.pmaps[1].state_of(1) is PageState.PRIVATE
    assert guests.content(1, 1).startswith(b"two")
    guests.check()


def test_a_store_gets_a_copy_and_the_last_page_owns_the_frame_again():
    guests = Guests(1, 4)
    for ppn in range(3):
        guests.fill(1, ppn, b"same")
    scan(guests, (1, 0), (1, 1), (1, 2))
    frame = guests.pmaps[1].frame(0)
    for ppn in (0, 1, 2):
        guests.pmaps[1].write(ppn << PAGE_SHIFT, b"X")
        guests.check()
    broken = guests.log.of(SharingBroken)
    assert [(event.ppn, event.from_mpn, event.sharers) for event in broken] == [
        (0, frame, 2), (1, frame, 1), (2, frame, 0)
    ]  # fmt: skip
    assert [event.mpn == frame for event in broken] == [False, False, True]
    counts = guests.sharing.counts()
    assert (counts.broken, counts.copies, counts.shared_pages) == (3, 2, 0)
    assert [guests.content(1, ppn)[:4] for ppn in range(3)] == [b"Xame"] * 3


def test_a_shared_page_that_is_lost_leaves_and_the_last_one_frees_the_frame():
    guests = Guests(1, 4)
    guests.fill(1, 0, b"same")
    guests.fill(1, 1, b"same")
    scan(guests, (1, 0), (1, 1))
    frame = guests.pmaps[1].frame(0)
    guests.lose(1, 0)
    guests.check()
    guests.lose(1, 1)
    guests.check()
    assert guests.log.of(SharedFrameLeft) == [SharedFrameLeft(0, frame, 1), SharedFrameLeft(0, frame, 0)]
    assert guests.frames.free_frames == guests.frames.frames


def test_a_page_that_is_watched_stays_watched_on_its_shared_frame():
    guests = Guests(1, 4)
    for ppn in range(3):
        guests.fill(1, ppn, b"same")
    for ppn in (0, 1):
        guests.pmaps[1].watch(ppn)
    scan(guests, (1, 0), (1, 1), (1, 2))
    assert guests.sharing.shared_pages == 3
    assert [guests.pmaps[1].mappable(ppn) is None for ppn in range(3)] == [True, True, False]
    assert guests.pmaps[1].stop_watching(1)


def test_zero_pages_are_counted():
    guests = Guests(1, 6)
    for ppn in range(4):
        guests.fill(1, ppn, ZEROS)
    guests.fill(1, 4, b"a")
    guests.fill(1, 5, b"a")
    scan(guests, *everything(guests))
    counts = guests.sharing.counts()
    assert (counts.shared_pages, counts.zero_pages) == (6, 4)


def test_try_share_joins_but_leaves_no_hint():
    guests = Guests(1, 4)
    for ppn in range(3):
        guests.fill(1, ppn, b"same")
    assert not guests.sharing.try_share(guests.pmaps[1], Ppn(0))
    assert guests.sharing.counts().hints == 0
    scan(guests, (1, 0))
    assert guests.sharing.try_share(guests.pmaps[1], Ppn(1))
    assert guests.sharing.try_share(guests.pmaps[1], Ppn(2))
    assert not guests.sharing.try_share(guests.pmaps[1], Ppn(2))
    assert not guests.sharing.try_share(guests.pmaps[1], Ppn(3))
    guests.check()


def test_a_write_to_a_shared_frame_past_the_pmap_is_noticed():
    guests = Guests(1, 2)
    guests.fill(1, 0, b"same")
    guests.fill(1, 1, b"same")
    scan(guests, (1, 0), (1, 1))
    guests.memory.write(guests.pmaps[1].mpn_of[0] << PAGE_SHIFT, b"?")
    guests.lose(1, 0)
    with pytest.raises(VmmBug, match="somebody has written to it"):
        guests.lose(1, 1)


def test_a_frame_taken_from_under_the_copy_is_noticed():
    guests = Guests(1, 4)
    guests.fill(1, 0, b"same")
    guests.fill(1, 1, b"same")
    scan(guests, (1, 0), (1, 1))

    def greedy(pmap: ManagedPmap, ppn: Ppn) -> Mpn:
        guests.lose(1, ppn)
        return guests.frames.take_private(1, ppn)

    guests.sharing._take_frame = greedy
    with pytest.raises(VmmBug, match="is UNTOUCHED: look at who took it"):
        guests.sharing.break_sharing(guests.pmaps[1], Ppn(0))


def test_leaving_a_private_frame_as_a_shared_one_is_refused():
    guests = Guests(1, 2)
    guests.fill(1, 0, b"x")
    with pytest.raises(VmmBug, match="not shared"):
        guests.sharing.leave(guests.pmaps[1].mpn_of[0])


def test_when_others_leave_while_a_frame_is_looked_for_the_old_one_is_freed():
    guests = Guests(1, 4)
    guests.fill(1, 0, b"same")
    guests.fill(1, 1, b"same")
    scan(guests, (1, 0), (1, 1))

    def reclaiming(pmap: ManagedPmap, ppn: Ppn) -> Mpn:
        guests.lose(1, 1)
        return guests.frames.take_private(1, ppn, zeroed=False)

    guests.sharing._take_frame = reclaiming
    guests.pmaps[1].write(0, b"S")
    assert guests.content(1, 0).startswith(b"Same")
    guests.check()


def test_hints_are_reported_where_asked_for():
    guests = Guests(2, 2)
    guests.sharing.log_hints = True
    guests.fill(1, 0, b"same")
    scan(guests, (1, 0))
    guests.fill(1, 0, b"other")
    guests.fill(2, 0, b"same")
    scan(guests, (2, 0))
    page_hash = next(iter(guests.sharing.table.hinted_pages()))
    assert guests.log.events == [
        HintStored(0, 1, 0, page_hash), HintDropped(0, 1, 0, page_hash), HintStored(0, 2, 0, page_hash)
    ]  # fmt: skip
