"""Figure 2 of the paper in small: a guest with a balloon in it against one that was configured smaller.

::

    configured    | 5 MB |                      its kernel never knew more
    ballooned     | 5 MB | balloon: 3 MB |      its kernel sized its tables for 8 MB
    paged         | 5 MB | swap file     |      no balloon: the host chooses, at random

Work: ``filecache`` reads blocks of files, some much more often than others; what is not in the guest's cache comes from
its disk. Before, a program has touched all of memory and ended, and the host has taken back what it wants.
Then the cache warms up, and then reads are timed, by the guest's own clock.

The balloon is set by hand; whom the host pages instead may hold as much machine memory as the one that was configured
smaller. Source: Waldspurger 2002, figure 2 and section 3.2. MODEL: 4 to 7 of 8 MB stand for 128 to 224 of 256 MB.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from vilab.course.feedback import columns
from vilab.course.reclaim_runs import QUANTUM_NS, SECOND
from vilab.errors import VmmBug
from vilab.guests.load import load
from vilab.host.host import Host
from vilab.memory.client import MB_PAGES, MemoryConfig

FULL_MB = 8
SIZES_MB = (4, 5, 6, 7)
BLOCKS, SKEW, SEED = 2_400, 2, 7
WARM, READS = 2_000, 1_200
DISK_MB, SWAP_BLOCKS, HZ = 11, 256, 64
LEFT_FREE_PAGES = 420
RECLAIM_SECONDS, MOST_SECONDS = 6, 100
PAPER_PERCENT = {4: 4.4, 5: 1.8, 6: 2.2, 7: 1.4}
"""Overhead of ballooning at half, five eighths, six and seven eighths of the memory."""


class Timed(msgspec.Struct, frozen=True):
    """One run: ``ns`` for ``READS`` reads; ``held_pages`` of machine memory when they ended."""

    ns: int
    hits: int
    misses: int
    held_pages: int
    ballooned_pages: int
    swapped_in: int

    @property
    def reads_a_second(self) -> float:
        return READS / (self.ns / 1e9)


@cache
def timed(size_mb: int, how: str) -> Timed:
    """Takes some seconds. ``how``: ``configured``, ``ballooned`` or ``paged``."""
    host = Host(64, quantum_ns=QUANTUM_NS)
    memory = host.memory
    config = MemoryConfig(size_mb if how == "configured" else FULL_MB)
    image = load("kernel-memory", memory_bytes=config.size_mb << 20, append=f"hz={HZ} swap={SWAP_BLOCKS}")
    vm = host.power_on("vm", image, config, ramdisk_bytes=DISK_MB << 20)
    vm.console.type(f"checksum {(config.size_mb << 8) - LEFT_FREE_PAGES} 1 1 1 1 0")
    if how == "ballooned":
        memory.set_balloon(vm.client, (FULL_MB - size_mb) * MB_PAGES)
    most_pages = timed(size_mb, "configured").held_pages if how == "paged" else config.max_pages

    def second() -> None:
        for _ in range(SECOND // QUANTUM_NS):
            host.run_for(QUANTUM_NS)
            if how == "paged":
                memory.reclaimer.page_out(vm.client, max(0, memory.charged_pages(vm.client) - most_pages))

    try:
        for _ in range(RECLAIM_SECONDS):
            second()
        vm.console.type(f"filecache {READS} {BLOCKS} {SKEW} {SEED} {WARM}")
        for _ in range(MOST_SECONDS):
            second()
            if "ticks of" in vm.console.said:
                break
        found = re.search(r"(\d+) hits, (\d+) misses, 0 wrong\nfilecache: (\d+) ticks of (\d+)", vm.console.said)
        if found is None:
            raise VmmBug(f"filecache has not come to its end: {vm.console.said[-200:]}")
        hits, misses, ticks, hz = map(int, found.groups())
        client = vm.client
        return Timed(
            ticks * SECOND // hz, hits, misses, memory.charged_pages(client), client.balloon.locked_pages,
            client.swapped_in,
        )  # fmt: skip
    finally:
        host.close()


def overhead_percent(size_mb: int, how: str = "ballooned") -> float:
    """How much slower than the guest that was configured so small."""
    return 100 * (timed(size_mb, how).ns / timed(size_mb, "configured").ns - 1)


def table_text(sizes_mb: tuple[int, ...] = SIZES_MB) -> str:
    """Reads a second; what ballooning costs, and what the paper had at the same part of the memory."""
    rows = [("MB of 8", "configured so small", "ballooned", "slower by", "the paper", "paged by the host", "slower by")]
    for size_mb in sizes_mb:
        ways = {how: timed(size_mb, how).reads_a_second for how in ("configured", "ballooned", "paged")}
        rows.append((
            str(size_mb), f"{ways['configured']:.0f} reads/s", f"{ways['ballooned']:.0f} reads/s",
            f"{overhead_percent(size_mb):.1f} %", f"{PAPER_PERCENT[size_mb]} %", f"{ways['paged']:.0f} reads/s",
            f"{overhead_percent(size_mb, 'paged'):.1f} %",
        ))  # fmt: skip
    return "\n".join(columns(rows))
