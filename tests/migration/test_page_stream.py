"""Batches of pages: what goes in comes out, and what does not fit is refused before anything is written."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.migration.page_guests import Guest
from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import AdminError, VmmBug
from vilab.memory.page_state import PageState
from vilab.migration import page_stream
from vilab.migration.page_source import encode_pages, store_pages
from vilab.migration.page_stream import PageBatch, decode, encode, zero_rows
from vilab.migration.sent_pages import SentPages

PAGES = 12
CONTENT = st.sampled_from([b"", b"a", b"\0" * 4095 + b"z", b"\0" * 2049 + b"m", bytes(range(256)) * 16, b"\1" * 4096])


def numbers(*ppns: int) -> bytes:
    return np.array(ppns, "<u4").tobytes()


def full(content: bytes) -> bytes:
    return content.ljust(PAGE_BYTES, b"\0")


def random_pages(count: int, seed: int = 1) -> dict[int, bytes]:
    rng = random.Random(seed)
    return {ppn: rng.randbytes(PAGE_BYTES) for ppn in range(count)}


class Receiver:
    """A destination that is a dictionary."""

    def __init__(self, content: dict[int, bytes] | None = None) -> None:
        self.content = dict(content or {})
        self.puts: list[int] = []

    def put(self, ppn: int, content: memoryview) -> None:
        assert len(content) == PAGE_BYTES
        self.puts.append(ppn)
        self.content[ppn] = bytes(content)

    def page_of(self, ppn: int) -> bytes:
        return self.content.get(ppn, bytes(PAGE_BYTES))

    def take(self, batch: PageBatch, body: bytes, pages: int = PAGES) -> int:
        return decode(batch, body, self.put, self.page_of, pages)


def travel(batch: PageBatch, parts: list) -> tuple[PageBatch, bytes]:
    """What arrives: the record was bytes, the buffers are one."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=PageBatch), b"".join(parts)


@given(st.dictionaries(st.integers(0, PAGES - 1), CONTENT), st.sampled_from(["raw", "zero"]))
def test_what_goes_in_comes_out(content, kind):
    pages = {ppn: full(each) for ppn, each in content.items()}
    receiver = Receiver(dict.fromkeys(range(PAGES), b"old!" * 1024))
    batch, parts = encode(list(pages), pages.__getitem__, kind)
    assert receiver.take(*travel(batch, parts)) == len(pages)
    assert {ppn: receiver.content[ppn] for ppn in pages} == pages
    assert sorted(receiver.puts) == sorted(pages)
    zeros = sum(not any(each) for each in pages.values())
    assert (batch.zero_pages, batch.raw_pages) == ((0, len(pages)) if kind == "raw" else (zeros, len(pages) - zeros))


def test_a_zero_page_replaces_what_was_there():
    receiver = Receiver({3: b"x" * PAGE_BYTES})
    receiver.take(*travel(*encode([3], lambda _: bytes(PAGE_BYTES))))
    assert receiver.content[3] == bytes(PAGE_BYTES)


@given(st.integers(0, PAGE_BYTES - 1), st.integers(1, 255), st.integers(0, 150))
def test_one_byte_anywhere_makes_a_page_no_zero_page(at, byte, row):
    memory = np.zeros((151, PAGE_BYTES), np.uint8)
    memory[row, at] = byte
    rows = np.arange(151)
    assert np.flatnonzero(~zero_rows(memory.view(np.uint64), rows)).tolist() == [row]
    assert np.flatnonzero(~zero_rows(memory.view(np.uint64), rows[::-1])).tolist() == [150 - row]


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
@example([0, 2, 1, 3, 4, 5], {1})
def test_zero_pages_are_found_in_whatever_order_their_frames_are(rows, full_rows):
    memory = np.zeros((6, PAGE_BYTES), np.uint8)
    memory[list(full_rows), 1000] = 1
    assert zero_rows(memory.view(np.uint64), np.array(rows)).tolist() == [row not in full_rows for row in rows]


def test_neighbouring_frames_are_one_buffer_of_machine_memory_itself():
    guest = Guest(PAGES, order=[4, 5, 6, 0, 1, 9, 8, 7, 2, 3, 10, 11])
    for ppn, content in random_pages(8).items():
        guest.fill(ppn, content)
    batch, parts = encode_pages(guest.pmap, range(8))
    assert [len(part) >> PAGE_SHIFT for part in parts] == [2, 3 + 3]  # frames 0-1 and 4-9
    before = bytes(parts[0])
    guest.memory.bytes[0] ^= 1
    assert bytes(parts[0]) != before
    receiver = Receiver()
    receiver.take(*travel(batch, parts))
    assert receiver.content == {ppn: guest.pmap.page(ppn) for ppn in range(8)}


def test_scattered_frames_are_copied_into_one_buffer():
    guest = Guest(PAGES, order=[4, 8, 6, 0, 2, 10, 1, 3, 5, 7, 9, 11])
    for ppn, content in random_pages(6).items():
        guest.fill(ppn, content)
    content = {ppn: guest.pmap.page(ppn) for ppn in range(6)}
    batch, parts = encode_pages(guest.pmap, range(6))
    assert [len(part) >> PAGE_SHIFT for part in parts] == [6]
    guest.memory.bytes[:] = 0
    receiver = Receiver()
    receiver.take(*travel(batch, parts))
    assert receiver.content == content


def test_a_copy_is_of_the_moment_it_was_made():
    guest = Guest(PAGES)
    guest.fill(2, b"before")
    batch, parts = encode_pages(guest.pmap, [2], copy=True)
    guest.fill(2, b"after")
    receiver = Receiver()
    receiver.take(*travel(batch, parts))
    assert receiver.content[2] == full(b"before")


HOSTILE = [
    ("list of page numbers is cut off", PageBatch(raw=numbers(1)[:3]), b""),
    ("list of page numbers is cut off", PageBatch(zero=numbers(1) + b"\0"), b""),
    ("has page 0xc, and the virtual machine has 0xc pages", PageBatch(raw=numbers(1, PAGES)), bytes(2 * PAGE_BYTES)),
    ("has page 0xffffffff", PageBatch(zero=numbers(0xFFFFFFFF)), b""),
    ("has page 0xc,", PageBatch(delta=numbers(PAGES), runs_bytes=1), b"\0"),
    ("page 0x1 is in it twice", PageBatch(raw=numbers(1, 1)), bytes(2 * PAGE_BYTES)),
    ("page 0x1 is in it twice", PageBatch(raw=numbers(1), zero=numbers(2, 1)), bytes(PAGE_BYTES)),
    ("page 0x1 is in it twice", PageBatch(zero=numbers(1), delta=numbers(1), runs_bytes=1), b"\0"),
    ("take 8192 bytes, and 4096 came", PageBatch(raw=numbers(1, 2)), bytes(PAGE_BYTES)),
    ("take 4096 bytes, and 4097 came", PageBatch(raw=numbers(1)), bytes(PAGE_BYTES + 1)),
    ("take 0 bytes, and 1 came", PageBatch(zero=numbers(1)), b"\0"),
    ("names 2 bytes of runs, and 1 bytes", PageBatch(delta=numbers(1), runs_bytes=2), b"\0"),
    ("names -1 bytes of runs", PageBatch(delta=numbers(1), runs_bytes=-1), b"\0"),
    ("names 1 bytes of runs, and 0 bytes", PageBatch(raw=numbers(1), runs_bytes=1), bytes(PAGE_BYTES)),
    ("do not hold the runs that they name", PageBatch(delta=numbers(1)), b""),
    ("do not become what the source has", PageBatch(delta=numbers(1), runs_bytes=1), b"\0"),
]


@pytest.mark.parametrize(("why", "batch", "body"), HOSTILE)
def test_what_does_not_fit_is_refused_and_nothing_is_written(why, batch, body):
    receiver = Receiver()
    with pytest.raises(AdminError, match=why):
        receiver.take(batch, body)
    assert receiver.puts == []
    guest = Guest(PAGES)
    guest.fill(2, b"mine")
    before = guest.pmap.content(), bytes(guest.pmap.state)
    with pytest.raises(AdminError, match=why):
        store_pages(guest.pmap, batch, body)
    assert (guest.pmap.content(), bytes(guest.pmap.state)) == before


@given(st.data())
@settings(max_examples=200)
def test_anything_at_all_is_a_batch_or_refused_with_a_sentence(data):
    lists = st.one_of(st.lists(st.integers(0, PAGES + 1), max_size=4).map(lambda n: numbers(*n)), st.binary(max_size=9))
    batch = PageBatch(
        raw=data.draw(lists), zero=data.draw(lists), delta=data.draw(lists),
        runs_bytes=data.draw(st.integers(-2, 12)), check=data.draw(st.integers(0, 2**64 - 1)),
    )  # fmt: skip
    body = bytes(len(batch.raw) // 4 * PAGE_BYTES) + data.draw(st.binary(max_size=12))
    receiver = Receiver()
    try:
        count = receiver.take(batch, body)
    except AdminError:
        assert receiver.puts == []
    else:
        assert count == batch.pages == len(set(receiver.puts))
        assert set(receiver.puts) <= set(range(PAGES))


def test_a_record_of_another_kind_is_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"raw": b"", "flags": 1}), type=PageBatch)


def test_too_many_pages_in_one_batch_are_refused(monkeypatch):
    monkeypatch.setattr(page_stream, "MOST_PAGES", 2)
    with pytest.raises(AdminError, match="it has 3 pages, and at most 2"):
        Receiver().take(PageBatch(zero=numbers(1, 2, 3)), b"")
    with pytest.raises(VmmBug):
        encode([1, 2, 3], lambda _: bytes(PAGE_BYTES))


def test_a_cache_goes_with_deltas_and_only_with_them():
    for kind, cache in (("delta", None), ("raw", SentPages(PAGES, 1 << 16))):
        with pytest.raises(VmmBug):
            encode([1], lambda _: bytes(PAGE_BYTES), kind, cache)


FEW = 4
PPN = st.integers(0, FEW - 1)
STEP = st.one_of(
    st.tuples(st.just("fill"), PPN, CONTENT),
    st.tuples(st.just("fill"), PPN, CONTENT),
    st.tuples(st.just("poke"), PPN, st.integers(0, PAGE_BYTES - 1)),
    st.tuples(st.just("swap out"), PPN),
    st.tuples(st.just("balloon"), PPN),
    st.tuples(st.just("watch"), PPN),
    st.tuples(st.just("trace"), st.booleans()),
    st.tuples(st.just("share"), PPN, PPN),
    st.tuples(st.just("send"), st.sets(PPN, min_size=1)),
    st.tuples(st.just("swap out there"), PPN),
    st.tuples(st.just("balloon there"), PPN),
    st.tuples(st.just("share there"), PPN, PPN),
)


def do(source: Guest, destination: Guest, step: tuple) -> set[int]:
    """Returns the pages that have to be sent again."""
    pmap = source.pmap
    match step:
        case ("fill", ppn, content):
            source.fill(ppn, content)
        case ("poke", ppn, at):
            pmap.write((ppn << PAGE_SHIFT) + at, bytes([pmap.page(ppn)[at] ^ 0x5A]))
        case ("swap out", ppn) if pmap.state_of(ppn) is PageState.PRIVATE:
            source.swap_out(ppn)
        case ("balloon", ppn) if pmap.state_of(ppn) in (PageState.PRIVATE, PageState.UNTOUCHED):
            source.balloon(ppn)
        case ("trace", there):
            (destination if there else source).pmap.trace_writes()
            return set()
        case ("watch", ppn):
            pmap.watch(ppn)
            return set()
        case ("share" | "share there", one, other) if one != other:
            guest = source if step[0] == "share" else destination
            states = {guest.pmap.state_of(one), guest.pmap.state_of(other)}
            if states == {PageState.PRIVATE} and guest.pmap.page(one) == guest.pmap.page(other):
                guest.share(one, other)
            return set()
        case ("swap out there", ppn) if destination.pmap.state_of(ppn) is PageState.PRIVATE:
            destination.swap_out(ppn)
            return set()
        case ("balloon there", ppn) if destination.pmap.state_of(ppn) is PageState.UNTOUCHED:
            destination.balloon(ppn)
            return set()
        case _:
            return set()
    return {step[1]}


@given(st.lists(STEP, max_size=50), st.permutations(range(3 * FEW)), st.sampled_from(["raw", "zero", "delta"]),
       st.sampled_from([1, 3, FEW]), st.booleans())  # fmt: skip
@settings(max_examples=150)
def test_a_guest_arrives_whatever_state_its_pages_are_in(steps, order, kind, slots, copy):
    source, destination = Guest(FEW, order), Guest(FEW, order[::-1])
    cache = SentPages(FEW, slots * PAGE_BYTES) if kind == "delta" else None
    dirty = set(range(FEW))
    for step in [*steps, ("send", set(range(FEW)))]:
        if step[0] != "send":
            dirty |= do(source, destination, step)
            continue
        states, touched = bytes(source.pmap.state), list(source.touched)
        batch, parts = encode_pages(source.pmap, sorted(step[1] & dirty), kind, cache, copy)
        assert (bytes(source.pmap.state), source.touched) == (states, touched)
        assert store_pages(destination.pmap, *travel(batch, parts)) == len(step[1] & dirty) == batch.pages
        dirty -= step[1]
    assert not dirty
    assert destination.pmap.content() == source.pmap.content()


def test_zero_pages_get_no_frame_at_the_destination():
    source, destination = Guest(PAGES), Guest(PAGES)
    for ppn in range(PAGES):
        source.fill(ppn, b"")
    store_pages(destination.pmap, *travel(*encode_pages(source.pmap, range(PAGES))))
    assert destination.pmap.count(PageState.UNTOUCHED) == PAGES


def test_pages_never_written_are_not_sent_even_where_zero_pages_are():
    source = Guest(PAGES)
    source.fill(1, b"")
    batch, parts = encode_pages(source.pmap, range(3), "raw")
    assert (batch.raw, batch.zero, len(b"".join(parts))) == (numbers(1), numbers(0, 2), PAGE_BYTES)


def test_listeners_at_the_destination_hear_of_every_page_with_a_frame():
    heard = []

    class Listener:
        def page_unmapped(self, ppn): ...
        def page_write_protected(self, ppn): ...
        def all_write_protected(self): ...
        def page_watched(self, ppn): ...
        def page_content_changed(self, ppn, offset, size_bytes):
            heard.append((ppn, offset, size_bytes))

    source, destination = Guest(PAGES), Guest(PAGES)
    source.fill(1, b"a"), source.fill(2, b"b"), source.fill(3, b"")
    destination.fill(1, b"old"), destination.fill(3, b"old")
    destination.pmap.listeners.append(Listener())
    store_pages(destination.pmap, *travel(*encode_pages(source.pmap, [1, 2, 3, 4])))
    assert sorted(heard) == [(1, 0, PAGE_BYTES), (2, 0, PAGE_BYTES), (3, 0, PAGE_BYTES)]


def test_a_page_that_others_share_at_the_destination_gets_a_frame_of_its_own():
    source, destination = Guest(PAGES), Guest(PAGES, list(range(2 * PAGES)))
    destination.fill(1, b"equal"), destination.fill(2, b"equal")
    destination.share(1, 2)
    source.fill(1, b"other")
    store_pages(destination.pmap, *travel(*encode_pages(source.pmap, [1])))
    assert (destination.pmap.page(1), destination.pmap.page(2)) == (full(b"other"), full(b"equal"))


def test_pages_that_share_a_frame_at_the_source_are_all_sent():
    source, destination = Guest(PAGES), Guest(PAGES)
    for ppn in range(4):
        source.fill(ppn, b"equal")
    source.share(0, 1), source.share(2, 3)
    batch, parts = encode_pages(source.pmap, range(4))
    assert len(b"".join(parts)) == 4 * PAGE_BYTES
    store_pages(destination.pmap, *travel(batch, parts))
    assert destination.pmap.content() == source.pmap.content()


def test_a_page_of_zeros_leaves_a_page_in_the_balloon_where_it_is():
    source, destination = Guest(PAGES), Guest(PAGES)
    destination.balloon(1)
    source.fill(1, b"")
    store_pages(destination.pmap, *travel(*encode_pages(source.pmap, [0, 1])))
    assert (destination.popped, destination.pmap.state_of(1)) == ([], PageState.BALLOONED)


@pytest.mark.parametrize("mark", ["watch", "trace"])
def test_what_is_noted_of_a_page_does_not_make_it_another(mark):
    source = Guest(PAGES)
    source.fill(2, b"x")
    source.balloon(1)
    source.pmap.trace_writes() if mark == "trace" else [source.pmap.watch(ppn) for ppn in range(PAGES)]
    batch, _ = encode_pages(source.pmap, range(3), "raw")
    assert (batch.raw, batch.zero) == (numbers(2), numbers(0, 1))
