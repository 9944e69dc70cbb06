"""Content-based page sharing: pages that are equal are kept once.

::

    candidate: a random PRIVATE page ──> hash ──> the table
                                                     │
         ┌───────────────────┬───────────────────────┴────────────┐
    shared frame         hint: page q had it                    nothing
         │                   │                                    │
         │              rehash q ── not the same now ──> the hint becomes the candidate's
         │                   │
    compare all 4096 bytes   compare all 4096 bytes ── different: false match, the page is not shared
         │                   │
         │                   q read-only, its frame shared
         └─────────┬─────────┘
       candidate reads that frame; its own is free

A hint is not write-protected: its page costs no fault, and may change at any time. A store to a shared page gets a
copy (``break_sharing``); the last page on a frame just owns it again. No table leads from a shared frame to its entry:
its content cannot change, so its hash finds it. The table knows no hash of 0: such a page has 1.

Many candidates at once have the result of one after another. Whoever only leaves a hint, or finds its own, touches
nothing but its bucket of the table: of these, the first in each bucket are done together, then those that are first
now, and so on. Whoever meets another page is not, and holds up those behind it in its bucket; all of them follow at
the end, in order.

Source: Waldspurger 2002, sections 4.1 to 4.3.
MODEL: XXH3 with 64 bits instead of the paper's hash; no page is excluded for good after a false match.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Mpn, Ppn
from vilab.errors import VmmBug
from vilab.events import EventLog
from vilab.memory.frame_table import FrameTable
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.memory_events import (
    FalseMatch,
    HintDropped,
    HintStored,
    PageShared,
    SharedFrameLeft,
    SharingBroken,
)
from vilab.memory.page_state import FLAGS, FrameUse, PageState
from vilab.memory.sharing_table import NOWHERE, EntryKind, SharingTable

BATCH_PAGES = 16384
FEW_PAGES = 32
"""So few are done sooner one by one."""

HashPage = Callable[[memoryview], int]
"""4096 bytes to 64 bits."""
Numbers = npt.NDArray[np.int64]


class SharingCounts(msgspec.Struct, frozen=True):
    """``shared_pages``: guest pages on shared frames; ``saved_frames``: what that saves; ``zero_pages``: those of them
    that are all zeros. The rest since the beginning, ``hints`` excepted."""

    shared_pages: int
    shared_frames: int
    saved_frames: int
    zero_pages: int
    hints: int
    scanned: int
    """Candidates that were PRIVATE when it was their turn."""
    stale_hints: int
    """Hints met whose page had changed or gone."""
    evicted_hints: int
    false_matches: int
    broken: int
    """Stores to shared pages; ``copies`` of them had to copy."""
    copies: int


class PageSharing:
    """Finds equal pages of all guests of a host, and keeps them apart again.

    Parameters
    ----------
    pmaps : by VM id; whoever is not in it any more is not shared with.
    take_frame : a private frame for the copy that a page is about to get, its content is of no importance. It may take
        memory from whomever it likes, but not that page.
    hash_page : for tests of collisions.
    log_hints : also emit ``HintStored`` and ``HintDropped``: one candidate at a time then, so it is slow.
    """

    def __init__(
        self,
        frames: FrameTable,
        pmaps: Mapping[int, ManagedPmap],
        take_frame: Callable[[ManagedPmap, Ppn], Mpn],
        log: EventLog,
        now: Callable[[], int],
        hash_page: HashPage = xxhash.xxh3_64_intdigest,
        log_hints: bool = False,
    ) -> None:
        self.table = SharingTable(frames.frames)
        self.log_hints = log_hints
        self.shared_pages = 0
        self._frames, self._pmaps, self._take_frame = frames, pmaps, take_frame
        self._log, self._now, self._hash = log, now, hash_page
        self._memory = frames.memory
        self._zero_hash = hash_page(memoryview(bytes(PAGE_BYTES))) or 1
        self._scanned = self._stale = self._false = self._broken = self._copies = 0

    # Figures -------------------------------------------------------------------------------------------------------

    @property
    def shared_frames(self) -> int:
        return self.table.shared

    def zero_frame(self) -> int:
        """The shared frame of zeros; -1 where there is none."""
        slot = self.table.find(self._zero_hash)
        if slot == NOWHERE:
            return -1
        kind, _, mpn = self.table.entry(slot)
        return mpn if kind == EntryKind.SHARED and not self._memory.frame(mpn).any() else -1

    def zero_pages(self) -> int:
        """Pages on the shared frame of zeros."""
        mpn = self.zero_frame()
        return self._frames.sharers(mpn) if mpn >= 0 else 0

    def counts(self) -> SharingCounts:
        pages, frames = self.shared_pages, self.shared_frames
        return SharingCounts(
            pages, frames, pages - frames, self.zero_pages(), self.table.hints, self._scanned, self._stale,
            self.table.evicted, self._false, self._broken, self._copies,
        )  # fmt: skip

    # Looking for equal pages ---------------------------------------------------------------------------------------

    def scan(self, vm_ids: Numbers, ppns: Numbers) -> int:
        """Try to share each of these pages, in this order. Those that are not PRIVATE are passed over.

        Returns how many pages are shared that were not (hinted ones among them).
        """
        before = self.shared_pages
        for start in range(0, len(ppns), BATCH_PAGES):
            self._scan_batch(vm_ids[start : start + BATCH_PAGES], ppns[start : start + BATCH_PAGES])
        return self.shared_pages - before

    def try_share(self, pmap: ManagedPmap, ppn: Ppn) -> bool:
        """For a page that is about to be swapped out: is there a page that it can share with? It leaves no hint."""
        if pmap.state_of(ppn) is not PageState.PRIVATE:
            return False
        return self._consider(pmap.vm_id, ppn, self._hash_of(pmap.mpn_of[ppn]), leave_hint=False)

    def _scan_batch(self, vm_ids: Numbers, ppns: Numbers) -> None:
        mpns = self._private_frames(vm_ids, ppns)
        private = mpns >= 0
        if not private.all():
            vm_ids, ppns, mpns = vm_ids[private], ppns[private], mpns[private]
        if not len(mpns):
            return
        hashes = self._hashes_of(mpns)
        together = not (self.log_hints and self._log.active)
        while together:
            rest = self.table.leave_hints(hashes, vm_ids, ppns)
            self._scanned += len(hashes) - len(rest)
            together = FEW_PAGES < len(rest) <= len(hashes) * 3 // 4
            vm_ids, ppns, hashes = vm_ids[rest], ppns[rest], hashes[rest]
        for vm_id, ppn, page_hash in zip(vm_ids.tolist(), ppns.tolist(), hashes.tolist(), strict=True):
            self._consider(vm_id, ppn, page_hash, leave_hint=True)

    def _private_frames(self, vm_ids: Numbers, ppns: Numbers) -> Numbers:
        """The frame of each page that is PRIVATE, -1 for others."""
        found = np.empty(len(ppns), np.int64)
        its: npt.NDArray[np.bool_] | slice
        for vm_id in (present := np.flatnonzero(np.bincount(vm_ids)).tolist()):
            its = vm_ids == vm_id if len(present) > 1 else slice(None)
            pmap, pages = self._pmaps[vm_id], ppns[its]
            assert isinstance(pmap.mpn_of, array)
            states, mpns = np.frombuffer(pmap.state, np.uint8), np.frombuffer(pmap.mpn_of, np.int32)
            found[its] = np.where(states[pages] | FLAGS == PageState.PRIVATE | FLAGS, mpns[pages], -1)
        return found

    def _hashes_of(self, mpns: Numbers) -> npt.NDArray[np.uint64]:
        view, page_hash = self._memory.view, self._hash
        starts = (mpns << PAGE_SHIFT).tolist()
        hashes = np.array([page_hash(view[start : start + PAGE_BYTES]) for start in starts], np.uint64)
        return np.maximum(hashes, np.uint64(1))

    def _hash_of(self, mpn: int) -> int:
        return self._hash(self._memory.view[mpn << PAGE_SHIFT : (mpn + 1) << PAGE_SHIFT]) or 1

    # One candidate -------------------------------------------------------------------------------------------------

    def _consider(self, vm_id: int, ppn: int, page_hash: int, leave_hint: bool) -> bool:
        """True: the page is shared now."""
        pmap, table = self._pmaps[vm_id], self.table
        if pmap.state_of(ppn) is not PageState.PRIVATE:
            return False
        self._scanned += 1
        slot = table.find(page_hash)
        if slot == NOWHERE:
            if leave_hint and table.put_hint(page_hash, vm_id, ppn):
                self._say_hint(HintStored, vm_id, ppn, page_hash)
            return False
        kind, hinted_vm, number = table.entry(slot)
        hinted: tuple[int, int] | None = None
        target = number
        if kind == EntryKind.HINT:
            if (hinted_vm, number) == (vm_id, ppn):
                return False
            hinted, target = (hinted_vm, number), self._frame_of_hint(hinted_vm, number, page_hash)
            if target < 0:
                self._replace_hint(slot, hinted, vm_id, ppn, page_hash, leave_hint)
                return False
        if not self._same_content(pmap.mpn_of[ppn], target):
            self._false += 1
            if self._log.active:
                self._log.emit(FalseMatch(self._now(), vm_id, ppn, target, page_hash))
            return False
        if hinted is not None:
            self._pmaps[hinted_vm].share(number)
            self._frames.make_shared(target)
            table.promote(slot, target)
            self.shared_pages += 1
        self._join(pmap, ppn, target, hinted)
        return True

    def _frame_of_hint(self, vm_id: int, ppn: int, page_hash: int) -> int:
        """The frame of the hinted page if it still has that hash, else -1."""
        pmap = self._pmaps.get(vm_id)
        if pmap is None or ppn >= pmap.pages or pmap.state_of(ppn) is not PageState.PRIVATE:
            return -1
        mpn = pmap.mpn_of[ppn]
        return mpn if self._hash_of(mpn) == page_hash else -1

    def _replace_hint(
        self, slot: int, hinted: tuple[int, int], vm_id: int, ppn: int, page_hash: int, leave_hint: bool
    ) -> None:
        self._stale += 1
        self._say_hint(HintDropped, *hinted, page_hash)
        if leave_hint:
            self.table.hint_instead(slot, vm_id, ppn)
            self._say_hint(HintStored, vm_id, ppn, page_hash)
        else:
            self.table.drop_hint(slot)

    def _same_content(self, one: int, other: int) -> bool:
        memory = self._memory
        return memory.read(one << PAGE_SHIFT, PAGE_BYTES) == memory.read(other << PAGE_SHIFT, PAGE_BYTES)

    def _join(self, pmap: ManagedPmap, ppn: int, target: int, promoted: tuple[int, int] | None) -> None:
        own = pmap.move(ppn, target, PageState.SHARED)
        self._frames.leave(own)
        self._frames.join(target)
        self.shared_pages += 1
        if self._log.active:
            sharers = self._frames.sharers(target)
            self._log.emit(PageShared(self._now(), pmap.vm_id, ppn, own, target, sharers, promoted))

    # Apart again ---------------------------------------------------------------------------------------------------

    def break_sharing(self, pmap: ManagedPmap, ppn: Ppn) -> bool:
        """There is a store to a SHARED page: make it PRIVATE. True: it was copied."""
        mpn = pmap.mpn_of[ppn]
        self._expect_on(pmap, ppn, mpn)
        copy = mpn
        if self._frames.sharers(mpn) > 1:
            copy = self._take_frame(pmap, ppn)
            self._expect_on(pmap, ppn, mpn)
        self._broken += 1
        self.shared_pages -= 1
        if copy == mpn:
            self.table.drop_shared(self._hash_of(mpn), mpn)
            self._frames.make_private(mpn, pmap.vm_id, ppn)
            pmap.own(ppn)
        else:
            self._copies += 1
            # Before the mapping goes: where others left while the frame was looked for, the old one may be freed.
            self._memory.bytes[copy << PAGE_SHIFT : (copy + 1) << PAGE_SHIFT] = self._memory.frame(mpn)
            pmap.move(ppn, copy, PageState.PRIVATE)
            self._leave(mpn)
        if self._log.active:
            stay = self._frames.sharers(mpn) if copy != mpn else 0
            self._log.emit(SharingBroken(self._now(), pmap.vm_id, ppn, mpn, copy, stay))
        return copy != mpn

    def leave(self, mpn: int) -> bool:
        """A page on a shared frame has lost it (``take_away``): ballooned, swapped out, powered off. True: the frame is
        free."""
        if self._frames.use[mpn] != FrameUse.SHARED:
            raise VmmBug(f"A page leaves frame {mpn:#x} as a shared one, but it is not shared.")
        self.shared_pages -= 1
        last = self._leave(mpn)
        if self._log.active:
            self._log.emit(SharedFrameLeft(self._now(), mpn, 0 if last else self._frames.sharers(mpn)))
        return last

    def _leave(self, mpn: int) -> bool:
        if self._frames.sharers(mpn) == 1:
            self.table.drop_shared(self._hash_of(mpn), mpn)
        return self._frames.leave(mpn)

    def move_frame(self, mpn: int) -> Mpn:
        """Put a shared frame's pages on another frame, since this one is wanted (``FrameTable.withdraw``)."""
        page_hash = self._hash_of(mpn)
        on = [(pmap, Ppn(ppn)) for pmap in self._pmaps.values() for ppn in pmap.pages_on(mpn)]
        new = self._frames.take_private(on[0][0].vm_id, on[0][1], zeroed=False)
        self._frames.copy(mpn, new)
        self.table.move_shared(page_hash, mpn, new)
        for pmap, ppn in on:
            pmap.move(ppn, new, PageState.SHARED)
        self._frames.move_shared(mpn, new)
        return new

    def _expect_on(self, pmap: ManagedPmap, ppn: int, mpn: int) -> None:
        if pmap.state_of(ppn) is not PageState.SHARED or pmap.mpn_of[ppn] != mpn:
            raise VmmBug(
                f"Page {ppn:#x} of virtual machine {pmap.vm_id} is to get a copy, but it is "
                f"{pmap.state_of(ppn).name}: look at who took it while a frame was looked for."
            )

    def _say_hint(self, kind: type[HintStored] | type[HintDropped], vm_id: int, ppn: int, page_hash: int) -> None:
        if self.log_hints and self._log.active:
            self._log.emit(kind(self._now(), vm_id, ppn, page_hash))
