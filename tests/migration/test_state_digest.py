"""The digest of a machine: anything that the guest could see changes it, where its frames are does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.migration.page_guests import Guest
from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.guests.load import load
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.client import MemoryConfig
from vilab.memory.page_state import PageState
from vilab.migration.page_hashes import PageHashes, hashes_of, hashes_of_body
from vilab.migration.page_source import encode_pages, store_pages
from vilab.migration.state_digest import MemoryDigest, compare, state_digest
from vilab.vmm.vm import MONITOR_WINDOW, QuietConsole

PAGES = 8


def guest(order: list[int] | None = None) -> Guest:
    """Page 0 never written, 1 of zeros, the others full; 6 and 7 equal."""
    made = Guest(PAGES, order or list(range(2 * PAGES)))
    made.fill(1, b"")
    for ppn in range(2, PAGES):
        made.fill(ppn, bytes([ppn]) * PAGE_BYTES)
    made.fill(6, b"equal"), made.fill(7, b"equal")
    return made


def digest_of(one: Guest) -> bytes:
    return MemoryDigest(one.pmap).digest()


def slowly(content: bytes) -> bytes:
    """The picture of ``state_digest``, page by page."""
    row = b""
    for at in range(0, len(content), PAGE_BYTES):
        page = content[at : at + PAGE_BYTES]
        row += xxhash.xxh3_128_digest(page) if any(page) else bytes(16)
    return xxhash.xxh3_128_digest(row)


@given(st.permutations(range(2 * PAGES)))
@settings(max_examples=30)
def test_it_does_not_depend_on_frames(order):
    assert digest_of(guest(list(order))) == digest_of(guest()) == slowly(guest().pmap.content())


def test_it_does_not_depend_on_what_the_host_shares_swaps_out_or_watches():
    one = guest()
    before = digest_of(one)
    one.share(6, 7)
    one.swap_out(3)
    one.pmap.watch(4)
    one.pmap.trace_writes()
    assert digest_of(one) == before
    assert one.pmap.state_of(3) is PageState.SWAPPED
    assert one.touched == []


@given(st.integers(0, PAGES - 1), st.integers(0, PAGE_BYTES - 1), st.integers(1, 255))
def test_one_bit_anywhere_changes_it_and_back_again_is_the_same(ppn, at, flip):
    one = guest()
    incremental = MemoryDigest(one.pmap)
    before = incremental.digest()
    old = one.pmap.page(ppn)[at]
    seen = []
    for byte in (old ^ flip, old):
        one.pmap.write(ppn * PAGE_BYTES + at, bytes([byte]))
        incremental.written(np.array([ppn]))
        assert incremental.stale_pages == 1
        seen.append(incremental.digest())
        assert seen[-1] == digest_of(one)
    assert seen[0] != before == seen[1]


def test_pages_that_change_places_change_it():
    one, other = guest(), guest()
    other.fill(2, b"\3" * PAGE_BYTES), other.fill(3, b"\2" * PAGE_BYTES)
    assert digest_of(one) != digest_of(other)
    shifted = Guest(PAGES)
    shifted.fill(1, b"x")
    plain = Guest(PAGES)
    plain.fill(2, b"x")
    assert digest_of(shifted) != digest_of(plain)


STEP = st.one_of(
    st.tuples(st.just("fill"), st.integers(0, PAGES - 1), st.sampled_from([b"", b"a", b"b", b"\0" * 4095 + b"c"])),
    st.tuples(st.just("swap out"), st.integers(0, PAGES - 1)),
    st.tuples(st.just("balloon"), st.integers(0, PAGES - 1)),
    st.tuples(st.just("look"), st.sets(st.integers(0, PAGES - 1)).map(sorted)),
    st.tuples(st.just("digest")),
)


@given(st.lists(STEP, max_size=30))
def test_hashing_as_the_machine_runs_has_the_result_of_hashing_it_all_at_the_end(steps):
    one = guest()
    incremental = MemoryDigest(one.pmap)
    for step in [*steps, ("digest",)]:
        match step:
            case ("fill", ppn, content):
                one.fill(ppn, content)
                incremental.written(np.array([ppn]))
            case ("swap out", ppn) if one.pmap.state_of(ppn) is PageState.PRIVATE:
                one.swap_out(ppn)  # the guest does not see it, and nobody says that it was written
            case ("balloon", ppn) if one.pmap.state_of(ppn) in (PageState.PRIVATE, PageState.UNTOUCHED):
                one.balloon(ppn)
                incremental.written(np.array([ppn]))
            case ("look", ppns):
                incremental.look(np.array(ppns, np.int64))
            case ("digest",):
                assert incremental.digest() == slowly(one.pmap.content())
                assert incremental.stale_pages == 0


def test_only_what_was_written_is_read_again():
    one = guest()
    incremental = MemoryDigest(one.pmap)
    before = incremental.digest()
    one.pmap.write(2 * PAGE_BYTES, b"not told"), one.pmap.write(3 * PAGE_BYTES, b"told")
    incremental.written(np.array([3]))
    after = incremental.digest()
    assert before != after != digest_of(one)
    incremental.written(np.array([2]))
    assert incremental.digest() == digest_of(one)


def test_the_pages_that_differ_can_be_found():
    one, other = guest(), guest()
    other.fill(1, b"x"), other.fill(5, b"y")
    here, there = MemoryDigest(one.pmap), MemoryDigest(other.pmap)
    assert here.digest() != there.digest()
    assert here.differing(there.hashes()).tolist() == [1, 5]


# A whole machine -----------------------------------------------------------------------------------------------------


def digests(hosted: HostedVm) -> dict[str, bytes]:
    state = hosted.vm.save_state(memory=False)
    parts = {
        "vCPU": state.engine, "devices": state.devices,
        "balloon": hosted.client.balloon.save_state(), "page states": hosted.client.pmap.save_state(),
    }  # fmt: skip
    return state_digest(MemoryDigest(hosted.client.pmap), parts)


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_a_machine_that_was_resumed_elsewhere_has_the_digest_of_the_original(tmp_path: Path, engine: str) -> None:
    hosts = [Host(64, swap_directory=tmp_path, name=name, quantum_ns=50_000_000) for name in ("esx1", "esx2")]
    other = hosts[1].memory.admit("other", MemoryConfig(4), 16 * 4096)
    other.pmap.write(0, b"so that frames are others")
    image = load(
        "kernel-memory", memory_bytes=16 << 20, append="hz=10", reserved=MONITOR_WINDOW if engine == "bt" else None
    )
    vm = hosts[0].power_on("vm1", image, MemoryConfig(16), engine=engine, console=QuietConsole(b"checksum 100 3\n"))
    hosts[0].run_for(400_000_000)
    before = digests(vm)
    assert sorted(before) == ["balloon", "devices", "memory", "page states", "vCPU"]
    moved = hosts[1].resume(vm.snapshot())
    assert list(moved.client.pmap.mpn_of) != list(vm.client.pmap.mpn_of)
    compare("vm1", "esx1", "esx2", before, digests(moved))
    hosts[1].run_for(50_000_000)
    with pytest.raises(AdminError, match=r"not resumed on esx2: its .*vCPU there and on esx1 are not the same"):
        compare("vm1", "esx1", "esx2", before, digests(moved))
    for host in hosts:
        host.close()


def leaves(state, path=()):
    """Every number, text and truth in a record, and the way there."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, (*path, key))
    elif isinstance(state, list):
        for index, value in enumerate(state):
            yield from leaves(value, (*path, index))
    elif isinstance(state, (bool, int, bytes)):
        yield path, state


def changed(state, path, value):
    if not path:
        return value
    copy = dict(state) if isinstance(state, dict) else list(state)
    copy[path[0]] = changed(state[path[0]], path[1:], value)
    return copy


def test_anything_in_a_record_changes_its_digest_and_no_other():
    host = Host(32, quantum_ns=50_000_000)
    image = load("kernel-memory", memory_bytes=16 << 20)
    vm = host.power_on("vm1", image, MemoryConfig(16), console=QuietConsole(b""))
    host.run_for(100_000_000)
    memory = MemoryDigest(vm.client.pmap)
    state = vm.vm.save_state(memory=False)
    parts = {"vCPU": msgspec.to_builtins(state.engine, builtin_types=(bytes,)),
             "devices": msgspec.to_builtins(state.devices, builtin_types=(bytes,))}  # fmt: skip
    before = state_digest(memory, parts)
    tried = 0
    for name, part in parts.items():
        for path, value in leaves(part):
            other = (not value) if isinstance(value, bool) else value + (1 if isinstance(value, int) else b"\0")
            after = state_digest(memory, {**parts, name: changed(part, path, other)})
            assert {part for part in before if before[part] != after[part]} == {name}, path
            tried += 1
    assert tried > 100
    host.close()


def test_a_part_that_only_one_side_has_is_a_difference():
    with pytest.raises(AdminError, match=r"its balloon and vCPU there and on a are not the same"):
        compare("vm", "a", "b", {"vCPU": b"1", "memory": b"2"}, {"balloon": b"3", "memory": b"2"})


def test_one_byte_of_memory_is_said_to_be_memory():
    one, other = guest(), guest()
    other.pmap.write(5 * PAGE_BYTES, b"x")
    sent, here = (state_digest(MemoryDigest(each.pmap), {"vCPU": {"eax": 1}}) for each in (one, other))
    with pytest.raises(AdminError, match=r"its memory there and on a are not the same"):
        compare("vm", "a", "b", sent, here)


def test_the_order_of_a_dictionary_is_no_difference():
    memory = MemoryDigest(guest().pmap)
    assert state_digest(memory, {"disks": {1: "a", 0: "b"}}) == state_digest(memory, {"disks": {0: "b", 1: "a"}})


# What a session has hashed on the way --------------------------------------------------------------------------------


def carried(source: Guest, destination: Guest, kind: str, seed: int) -> tuple[MemoryDigest, MemoryDigest]:
    """All pages go across in two batches. Both sides take the hashes of the session."""
    here, there = MemoryDigest(source.pmap), MemoryDigest(destination.pmap)
    for ppns in ([6, 2, 0, 4], [1, 3, 5, 7]):
        batch, parts = encode_pages(source.pmap, ppns, kind, copy=True)
        body = b"".join(parts)
        hashes = PageHashes(seed, hashes_of_body(parts, seed))
        assert hashes.data == hashes_of([memoryview(body)], seed)
        store_pages(destination.pmap, batch, body)
        here.moved(batch, hashes)
        there.moved(batch, hashes)
    return here, there


@pytest.mark.parametrize("kind", ["raw", "zero"])
def test_hashes_of_a_session_are_those_of_the_pages(kind):
    """Also where a page of zeros travels as 4096 bytes: afterwards one that is looked at again is the same."""
    source, destination = guest(), Guest(PAGES, list(range(2 * PAGES)))
    here, there = carried(source, destination, kind, 77)
    assert (here.stale_pages, there.stale_pages) == (0, 0)
    before = here.digest()
    assert before == there.digest() != digest_of(source)
    for memory in (here, there):
        memory.written(np.arange(PAGES))
        assert memory.digest() == before


def test_what_is_written_afterwards_is_hashed_where_it_is():
    source, destination = guest(), Guest(PAGES, list(range(2 * PAGES)))
    here, there = carried(source, destination, "zero", 77)
    source.fill(3, b"other")
    here.written(np.array([3]))
    assert here.digest() != there.digest()
    assert here.differing(there.hashes()).tolist() == [3]
    destination.fill(3, b"other")
    there.written(np.array([3]))
    assert here.digest() == there.digest()


def test_hashes_that_are_not_of_the_same_key_are_not_taken():
    """A second session's say nothing here, nor does no session at all: the pages are hashed where they are."""
    source, destination = guest(), Guest(PAGES, list(range(2 * PAGES)))
    here, there = carried(source, destination, "zero", 77)
    before = here.digest()
    batch, parts = encode_pages(source.pmap, [2, 3], "raw")
    for hashes in (PageHashes(78, hashes_of_body(parts, 78)), None):
        there.moved(batch, hashes)
        assert there.digest() == before


@given(st.lists(st.integers(0, 9000), max_size=5), st.integers(0, 2**64 - 1))
def test_hashes_of_a_body_do_not_depend_on_its_parts(sizes, seed):
    body = np.random.default_rng(len(sizes)).bytes(sum(sizes))
    parts = [body[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
    by_hand = [xxhash.xxh3_128_digest(body[at : at + PAGE_BYTES], seed) for at in range(0, len(body), PAGE_BYTES)]
    assert hashes_of_body(parts, seed) == b"".join(by_hand)
