"""The teaching kernel's file cache: hits and misses against a model, and who has to go first."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest

from tests.vmm.memory_guest import ENGINES, SMALL_PAGES, Guest


def chosen_blocks(reads: int, blocks: int, skew: int, seed: int) -> list[int]:
    """What ``filecache`` reads: xorshift, Marsaglia 2003; block = blocks * u ** skew."""
    x = seed * 2654435761 & 0xFFFFFFFF | 1
    result = []
    for _ in range(reads):
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        u = power = x >> 16
        for _ in range(skew - 1):
            power = power * u >> 16
        result.append(power * blocks >> 16)
    return result


def lru_misses(blocks: list[int], most: int) -> int:
    cache: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for block in blocks:
        if block not in cache:
            misses += 1
            if len(cache) == most:
                cache.popitem(last=False)
        cache[block] = None
        cache.move_to_end(block)
    return misses


@pytest.mark.parametrize("engine", ENGINES)
def test_files_that_fit_are_read_from_the_disk_once(engine: str) -> None:
    wanted = chosen_blocks(300, 100, 2, 5)
    misses = len(set(wanted))
    output = Guest("swap=100 init=filecache 300 100 2 5", engine).run()
    assert f"300 reads of 100 blocks, {300 - misses} hits, {misses} misses, 0 wrong" in output


def test_files_that_do_not_fit_go_in_the_order_of_their_last_use() -> None:
    """Hits are those of an LRU cache of all frames that are free, but for the few that the cache leaves."""
    quiet = Guest("init=memory")
    quiet.run()
    free = quiet.counters()["free_pages"]
    reads, blocks = 3000, 1300
    found = re.search(
        r"(\d+) hits, (\d+) misses, 0 wrong", Guest(f"swap=100 init=filecache {reads} {blocks} 1 5").run()
    )
    assert found
    hits, misses = int(found[1]), int(found[2])
    assert hits + misses == reads
    wanted = chosen_blocks(reads, blocks, 1, 5)
    assert misses > len(set(wanted))
    fitting = [most for most in range(1, SMALL_PAGES) if lru_misses(wanted, most) == misses]
    assert fitting
    assert free - 24 <= fitting[-1]
    assert fitting[0] <= free - 8


def test_warm_reads_do_not_count() -> None:
    output = Guest("swap=100 init=filecache 50 60 1 5 4000").run()
    assert "filecache: 50 reads of 60 blocks, 50 hits, 0 misses, 0 wrong\n" in output


def test_files_that_there_are_not_are_refused() -> None:
    output = Guest("init=filecache 100 5000 1").run()
    assert "filecache: the disk has no 5000 blocks of files" in output
    assert "filecache has ended with status 1" in output


def test_programs_push_the_cache_out_before_any_of_them_is_paged_out() -> None:
    guest = Guest("swap=100 init=together checksum 500 6 30 30 + filecache 100000 1500 1 + memory 1")
    guest.run_until(lambda: guest.output.count("ticks_a_second") >= 2 and "round 2 ok" in guest.output)
    now = guest.counters()
    assert now["cache_drops"] > 0
    assert now["page_outs"] == 0
    assert now["cached_pages"] + 500 < SMALL_PAGES
    assert now["cache_wrong"] == 0
