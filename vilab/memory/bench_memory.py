"""What managing memory costs: samples for ``vilab bench memory``.

::

    scan       random pages of a large memory:  choose ─ frame ─ hash ─ look up ─ leave a hint
    raw        the same pages, the hash alone:                   hash

``ScanWork`` holds one large memory of different pages, really there: a page that was never written would be read from
the one page of zeros that the system keeps in the processor's cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Mpn, Ppn
from vilab.errors import VmmBug
from vilab.events import EventLog
from vilab.machine.memory import MachineMemory
from vilab.memory.client import MemoryConfig
from vilab.memory.frame_table import FrameTable
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.manager import MemoryManager
from vilab.memory.page_state import PageState
from vilab.memory.sampling import RandomPages
from vilab.memory.scanner import random_ppns
from vilab.memory.sharing import BATCH_PAGES, PageSharing

Clock = Callable[[], float]

MANAGED_BYTES = 4 << 30
VM_ID = 1


class ScanWork:
    """One guest that has all of a machine's memory, no two pages equal.

    Parameters
    ----------
    clock : seconds.
    """

    def __init__(self, size_bytes: int, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self.pages = size_bytes >> PAGE_SHIFT
        self.memory = MachineMemory(size_bytes)
        words = self.memory.bytes.view(np.uint64).reshape(self.pages, PAGE_BYTES // 8)
        words[:, 100] = np.arange(1, self.pages + 1)
        self.frames = FrameTable(self.memory)
        self.pmap = ManagedPmap(self.memory, VM_ID, self.pages, _NoSupply())
        for ppn in range(self.pages):
            self.pmap.give(ppn, self.frames.take_private(VM_ID, ppn, zeroed=False), PageState.PRIVATE)
        self.random = RandomPages(2002)
        self.sharing = PageSharing(self.frames, {VM_ID: self.pmap}, _no_frame, EventLog(), int)
        self._scan_everything()

    def _scan_everything(self) -> None:
        self.sharing.scan(np.full(self.pages, VM_ID), np.arange(self.pages))

    def scan_rate(self, pages: int, again: bool = False) -> float:
        """Pages per second, chosen, hashed and looked up: with an empty table, or after everything has been scanned."""
        self.sharing.table.drop_hints()
        if again:
            self._scan_everything()
        before = self.sharing.counts().scanned
        started = self.clock()
        for batch in range(0, pages, BATCH_PAGES):
            count = min(BATCH_PAGES, pages - batch)
            ppns = random_ppns(self.random, np.full(count, self.pages))
            self.sharing.scan(np.full(count, VM_ID), ppns)
        seconds = self.clock() - started
        counts = self.sharing.counts()
        if counts.scanned - before != pages or counts.shared_pages:
            raise VmmBug(f"{counts.scanned - before} of {pages} pages were scanned, {counts.shared_pages} shared.")
        return pages / seconds

    def raw_rate(self, pages: int) -> float:
        """Pages per second that XXH3 alone hashes, random ones, a call for each."""
        return self._hash_rate((random_ppns(self.random, np.full(pages, self.pages)) << PAGE_SHIFT).tolist())

    def raw_rate_in_order(self, pages: int) -> float:
        """The same, from the beginning of memory on: what the processor fetches ahead."""
        return self._hash_rate(list(range(0, min(pages, self.pages) << PAGE_SHIFT, PAGE_BYTES)))

    def _hash_rate(self, starts: list[int]) -> float:
        view, hash_page = self.memory.view, xxhash.xxh3_64_intdigest
        started = self.clock()
        for start in starts:
            hash_page(view[start : start + PAGE_BYTES])
        return len(starts) / (self.clock() - started)


def overhead_bytes(size_bytes: int = MANAGED_BYTES) -> dict[str, int]:
    """What the arrays take that manage so much machine memory under as much guest memory, none of it in use yet: none
    of them grows. (The list of freed frames does, by 4 bytes for each, when a frame has no other use for its 13.)"""
    memory = MachineMemory(size_bytes)
    frames = FrameTable(memory)
    pmap = ManagedPmap(memory, VM_ID, size_bytes >> PAGE_SHIFT, _NoSupply())
    sharing = PageSharing(frames, {VM_ID: pmap}, _no_frame, EventLog(), int)
    return {
        "sharing_table": sharing.table.size_bytes(),
        "frame_table": frames.size_bytes(),
        "allocator": frames.frames,
        "pmap": pmap.size_of_maps(),
    }


def cow_break_us(pages: int, clock: Clock = time.perf_counter) -> float:
    """Microseconds a page: a store to a page that shares its frame, until it has its own copy."""
    memory = MachineMemory(2 * pages << PAGE_SHIFT)
    memory.bytes[:] = 0  # The system finds its own pages for them now and not while it is measured.
    frames = FrameTable(memory)
    supply = _CopySupply(frames)
    pmaps = {vm_id: ManagedPmap(memory, vm_id, pages, supply) for vm_id in (1, 2)}
    sharing = supply.sharing = PageSharing(frames, pmaps, supply.take_frame, EventLog(), int)
    for vm_id, pmap in pmaps.items():
        for ppn in range(pages):
            mpn = frames.take_private(vm_id, ppn, zeroed=False)
            memory.words[(mpn << PAGE_SHIFT) >> 2] = ppn + 1
            pmap.give(ppn, mpn, PageState.PRIVATE)
        sharing.scan(np.full(pages, vm_id), np.arange(pages))
    pmap = pmaps[2]
    started = clock()
    for ppn in range(pages):
        pmap.resolve(ppn, True)
    seconds = clock() - started
    copies = sharing.counts().copies
    if copies < pages // 2 or sharing.shared_pages != copies:
        raise VmmBug(f"{copies} of {pages} pages were copied, and {sharing.shared_pages} stayed shared.")
    return 1e6 * seconds / copies


def copy_us(pages: int, clock: Clock = time.perf_counter) -> float:
    """Microseconds a page: copying 4096 bytes, and nothing else."""
    memory = MachineMemory(2 * pages << PAGE_SHIFT).bytes
    size = pages << PAGE_SHIFT
    memory[:] = 1
    started = clock()
    for start in range(0, size, PAGE_BYTES):
        memory[size + start : size + start + PAGE_BYTES] = memory[start : start + PAGE_BYTES]
    return 1e6 * (clock() - started) / pages


class _NoSupply:
    """Every page has its frame."""

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        raise VmmBug(f"Page {ppn:#x} has no frame.")

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        return 0

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        raise VmmBug(f"Page {ppn:#x} is not watched.")

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        return bytes(PAGE_BYTES)


class _CopySupply(_NoSupply):
    """Shared pages get copies."""

    sharing: PageSharing

    def __init__(self, frames: FrameTable) -> None:
        self._frames = frames

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        self.sharing.break_sharing(pmap, ppn)

    def take_frame(self, pmap: ManagedPmap, ppn: Ppn) -> Mpn:
        return self._frames.take_private(pmap.vm_id, ppn, zeroed=False)


def _no_frame(pmap: ManagedPmap, ppn: Ppn) -> Mpn:
    raise VmmBug(f"Page {ppn:#x} wants a copy.")


def page_in_us(pages: int, folder: Path, clock: Clock = time.perf_counter) -> float:
    """Microseconds to fault a page in from the swap file: frame, read, checksum, pmap. The disk's own time is the
    file cache's: what a real disk would take is virtual time."""
    manager = MemoryManager(MachineMemory(2 * pages << PAGE_SHIFT), folder)
    size_mb = pages * PAGE_BYTES >> 20
    client = manager.admit("bench", MemoryConfig(size_mb), 1 << 20)
    random = np.random.default_rng(1)
    for ppn in range(pages):
        client.pmap.write(ppn << PAGE_SHIFT, random.bytes(PAGE_BYTES))
    gone = manager.page_out(client, pages)
    started = clock()
    for ppn in range(pages):
        client.pmap.resolve(ppn, False)
    seconds = clock() - started
    came = client.swapped_in
    manager.power_off(client)
    if came != gone or came < pages // 2:
        raise VmmBug(f"{gone} of {pages} pages were paged out, and {came} came back.")
    return 1e6 * seconds / came


def read_file_us(pages: int, folder: Path, clock: Clock = time.perf_counter) -> float:
    """Microseconds a page: reading 4096 bytes from a file, and nothing else."""
    with (folder / "pages").open("w+b", buffering=0) as file:
        file.write(np.random.default_rng(1).bytes(pages * PAGE_BYTES))
        started = clock()
        for page in range(pages):
            file.seek(page * PAGE_BYTES)
            file.read(PAGE_BYTES)
        return 1e6 * (clock() - started) / pages
