"""The vmkernel's memory manager: one machine's frames, the pages of several guests.

::

                         every tick                                     a guest needs a page
              ┌──────────────┴──────────────┐                                    │
      free memory ──> state ──> targets ──> balloon, page out, block      page_needed ──> frame
              high soft hard low   │                                             │
                     shares, tax, working sets                     zeroed, copied, or from the swap file

Frames are taken back only between the slices of the guest that loses them: in the middle of an exit a monitor may hold
the address of one. Where a guest in its slice needs the last ones, it is paused, and goes on when there are more.
Waldspurger 2002, sections 2 to 6.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Mpn, Ppn
from vilab.errors import AdminError, GuestStopped, VmmBug
from vilab.events import EventLog
from vilab.machine.memory import MachineMemory
from vilab.memory import memory_events as events
from vilab.memory import sampling
from vilab.memory.admission import PowerOn, Room, admit
from vilab.memory.balloon import BalloonServer, BalloonState
from vilab.memory.client import MB_PAGES, MemoryClient, MemoryConfig
from vilab.memory.compact import make_run
from vilab.memory.frame_table import FrameTable
from vilab.memory.free_states import aim_free_pages
from vilab.memory.managed_pmap import ManagedPmap, PmapState
from vilab.memory.page_state import PageState
from vilab.memory.reclaim import Reclaimer
from vilab.memory.scanner import Scanner
from vilab.memory.sharing import PageSharing
from vilab.memory.swap_file import SEEK_NS, SwapFile

FLOOR_PAGES = 256
"""With fewer free frames than this the guest that asks is paused: enough for what one exit can need."""
ZERO_PAGE = bytes(PAGE_BYTES)
MOST_IDS = 65_535
"""Two bytes in the frame table; 0 is nobody."""


class MemoryManager:
    """All of a machine's memory.

    Parameters
    ----------
    reserved_mb : what the vmkernel keeps for itself.
    swap_directory : where .vswp files go.
    swap_room_pages : how much there is for them; ``None``: as much as the disk has free.
    seed : of every random choice.
    """

    def __init__(
        self, memory: MachineMemory, swap_directory: Path, *, reserved_mb: int = 0, seed: int = 0,
        log: EventLog | None = None, swap_room_pages: int | None = None, page_in_ns: int = SEEK_NS,
    ) -> None:  # fmt: skip
        self.memory = memory
        self.log = log if log is not None else EventLog()
        self.frames = FrameTable(memory, reserved_mb * MB_PAGES)
        self.reserved_pages = reserved_mb * MB_PAGES
        self.swap_directory, self.swap_room_pages = swap_directory, swap_room_pages
        self.page_in_ns = page_in_ns
        self.now_ns = 0
        self.seed = seed
        self.clients: dict[int, MemoryClient] = {}
        self.pmaps: dict[int, ManagedPmap] = {}
        self.sharing = PageSharing(self.frames, self.pmaps, self._copy_frame, self.log, lambda: self.now_ns)
        self.scanner = Scanner(self.sharing, self.pmaps, seed)
        self.reclaimer = Reclaimer(self, seed)
        self.running: int | None = None
        """The VM whose slice it is."""
        self.pause: Callable[[], None] | None = None
        """Ends its slice at the next instruction boundary."""
        self._next_id = 1
        self._kept: list[Mpn] = []

    # Power on and off --------------------------------------------------------------------------------------------

    @property
    def total_pages(self) -> int:
        return self.frames.frames - self.reserved_pages

    @property
    def free_pages(self) -> int:
        return self.frames.free_frames

    def unreserved_pages(self) -> int:
        """What nobody has been promised."""
        promised = sum(c.config.min_pages + len(c.overhead) for c in self.clients.values())
        return self.total_pages - promised

    def swap_room(self, directory: Path | None = None) -> int:
        """Pages that there is still disk space for. Raises ``AdminError`` where there is no such directory."""
        if self.swap_room_pages is None:
            where = directory or self.swap_directory
            try:
                return shutil.disk_usage(where).free // PAGE_BYTES
            except (OSError, ValueError) as error:
                raise AdminError(
                    f"No swap file can be made in {where} ({getattr(error, 'strerror', None) or error}): look at the "
                    "directory, or name another one."
                ) from None
        return self.swap_room_pages - sum(c.swap.pages for c in self.clients.values())

    def admit(
        self, name: str, config: MemoryConfig, overhead_bytes: int, swap_path: Path | None = None
    ) -> MemoryClient:
        """Set aside what a VM was promised, and give it an empty pmap. Raises ``AdminError`` with what is short."""
        config.check(name)
        pages, overhead_pages = config.size_mb * MB_PAGES, -(-overhead_bytes // PAGE_BYTES)
        vm_id = self._free_id()
        path = swap_path or self.swap_directory / f"{_as_file_name(name)}-{vm_id}.vswp"
        room = Room(self.unreserved_pages(), str(path.parent), self.swap_room(path.parent))
        needed = admit(PowerOn(name, pages, config.min_pages, config.max_pages, overhead_pages), room)
        swap = SwapFile(path, needed.swap_pages, name)
        try:
            self.reclaimer.make_room(overhead_pages)
            overhead = self._take_overhead(vm_id, overhead_pages)
        except AdminError:
            swap.close()
            raise
        self._next_id = vm_id % MOST_IDS + 1
        pmap = ManagedPmap(self.memory, vm_id, pages, self)
        sampler = sampling.new_sampler(pages, self.seed + vm_id)
        client = MemoryClient(vm_id, name, config, pmap, BalloonServer(vm_id, pages), sampler, swap, overhead)
        client.balloon.connect(self.release, self._reclaimed_by_guest, self.log, lambda: self.now_ns)
        self.clients[vm_id], self.pmaps[vm_id] = client, pmap
        self.reclaimer.rebalance("power on")
        return client

    def _free_id(self) -> int:
        """Numbers go round, so that one is not soon met again; those that are in use are passed over."""
        vm_id = self._next_id
        while vm_id in self.clients:
            vm_id = vm_id % MOST_IDS + 1
        return vm_id

    def _take_overhead(self, vm_id: int, count: int) -> range:
        try:
            return self.frames.take_overhead(vm_id, count)
        except AdminError:
            first, moved = make_run(self, count)
            if self.log.active:
                self.log.emit(events.MemoryCompacted(self.now_ns, first, count, moved))
            return self.frames.settle_overhead(vm_id, first, count)

    def restore(self, client: MemoryClient, pages: PmapState, balloon: BalloonState) -> None:
        """Behind each page what was there in the snapshot, as far as that is more than there is now."""
        pmap = client.pmap
        for ppn, state in enumerate(pages.states):
            if pmap.state_of(ppn) is not PageState.UNTOUCHED:
                if state == PageState.BALLOONED:
                    self.release(pmap, Ppn(ppn), PageState.BALLOONED)
            elif state == PageState.PRIVATE:
                self.page_needed(pmap, Ppn(ppn), False)
            elif state == PageState.BALLOONED:
                pmap.mark(ppn, PageState.BALLOONED)
        client.balloon.load_state(balloon)

    def power_off(self, client: MemoryClient) -> None:
        """Everything it had is free."""
        client.pmap.listeners.clear()
        for ppn in client.pmap.forget_private(self.frames.leave_private):
            self.release(client.pmap, Ppn(ppn), PageState.UNTOUCHED)
        self.frames.give_back_overhead(client.overhead)
        client.swap.close()
        del self.clients[client.vm_id], self.pmaps[client.vm_id]
        self.reclaimer.rebalance("power off")

    def set_balloon(self, client: MemoryClient, pages: int | None) -> None:
        """The balloon's target by hand; ``None`` gives it back to the policy."""
        client.balloon_by_hand = pages
        self.reclaimer.set_balloons()

    def configure(self, client: MemoryClient, config: MemoryConfig) -> None:
        """Other shares or limits from now on. The reservation may grow only as far as memory is unreserved."""
        config.check(client.name)
        more = config.min_pages - client.config.min_pages
        if more > self.unreserved_pages():
            raise AdminError(
                f"{client.name} cannot get a reservation of {config.reservation_mb} MB: "
                f"{self.unreserved_pages() // MB_PAGES} MB of the machine are unreserved."
            )
        client.config = config
        self.reclaimer.rebalance("configuration")

    @property
    def kept_pages(self) -> int:
        """What the vmkernel has taken for itself later."""
        return len(self._kept)

    def keep(self, pages: int) -> int:
        """So many pages are to be the vmkernel's own, beside what was from the beginning; how many are now.

        It takes free ones, down to the floor: what is missing can be asked for again when more are free.
        """
        before = len(self._kept)
        while len(self._kept) < pages and self.free_pages > FLOOR_PAGES:
            self._kept.append(self.frames.take_own())
        while len(self._kept) > max(0, pages):
            self.frames.give_back_own(self._kept.pop())
        self.reserved_pages += len(self._kept) - before
        if len(self._kept) != before:
            self.reclaimer.rebalance("pressure")
        return len(self._kept)

    # A page is needed --------------------------------------------------------------------------------------------

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        """``PageSupply``: give the page a frame, or a frame of its own."""
        state = pmap.state_of(ppn)
        if state is PageState.SHARED:
            self.sharing.break_sharing(pmap, ppn)
        elif state is PageState.SWAPPED:
            self._page_in(pmap, ppn)
        else:
            if state is PageState.BALLOONED:
                self.clients[pmap.vm_id].balloon.popped(ppn)
            pmap.give(ppn, self.take_frame(pmap, ppn), PageState.PRIVATE)

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        """``PageSupply``: nothing is reclaimed for it, and the floor stays free."""
        count = max(0, min(len(ppns), self.frames.free_frames - FLOOR_PAGES))
        pmap.give_many(ppns[:count], self.frames.take_many(pmap.vm_id, ppns[:count]))
        return count

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        """``PageSupply``."""
        sampling.note_touch(self.clients[pmap.vm_id].sampler, ppn)

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        """``PageSupply``."""
        if pmap.state_of(ppn) is PageState.SWAPPED:
            return self.clients[pmap.vm_id].swap.read(ppn)
        return ZERO_PAGE

    def take_frame(self, pmap: ManagedPmap, ppn: Ppn, zeroed: bool = True) -> Mpn:
        """A frame for a page of this guest's."""
        if self.frames.free_frames <= FLOOR_PAGES:
            if self.running is None:
                self.reclaimer.make_room(FLOOR_PAGES + 1)
            elif self.pause is not None:
                self.pause()
            if not self.frames.free_frames:
                self.reclaimer.make_room(1, sparing=self.running)
            if not self.frames.free_frames:
                raise GuestStopped(
                    f"{self.clients[pmap.vm_id].name} was stopped: the machine has no page left to give it, and nobody "
                    "else has one that could be taken."
                )
        return self.frames.take_private(pmap.vm_id, ppn, zeroed)

    def _copy_frame(self, pmap: ManagedPmap, ppn: Ppn) -> Mpn:
        return self.take_frame(pmap, ppn, zeroed=False)

    def _page_in(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        client = self.clients[pmap.vm_id]
        data = client.swap.read(ppn)
        mpn = self.take_frame(pmap, ppn, zeroed=False)
        self.memory.write(mpn << PAGE_SHIFT, data)
        slot = client.swap.slot_of(ppn)
        client.swap.free(ppn)
        pmap.give(ppn, mpn, PageState.PRIVATE)
        client.swapped_in += 1
        if pmap.on_wait is not None:
            pmap.on_wait(self.page_in_ns)
        if pmap.device_reads:
            client.double_paged += 1
        if self.log.active and slot is not None:
            self.log.emit(events.PageSwappedIn(self.now_ns, client.vm_id, ppn, slot, pmap.device_reads))
            if pmap.device_reads:
                self.log.emit(events.DoublePaged(self.now_ns, client.vm_id, ppn))

    # A page is given up ------------------------------------------------------------------------------------------

    def release(self, pmap: ManagedPmap, ppn: Ppn, state: PageState) -> None:
        """The page loses what is behind it and becomes ``state``, which has no frame."""
        was = pmap.state_of(ppn)
        if was is PageState.SWAPPED:
            self.clients[pmap.vm_id].swap.free(ppn)
            pmap.mark(ppn, state)
        elif was is PageState.SHARED:
            self.sharing.leave(pmap.take_away(ppn, state))
        elif was is PageState.PRIVATE:
            self.frames.leave(pmap.take_away(ppn, state))
        else:
            pmap.mark(ppn, state)

    def swap_out(self, client: MemoryClient, ppn: Ppn) -> bool:
        """Put a private page into the swap file, or share it if that is possible. True: a frame is free.

        In the middle of a slice nothing is shared: the other page might be the running guest's.
        """
        pmap = client.pmap
        if pmap.state_of(ppn) is not PageState.PRIVATE:
            return False
        if self.running is None and self.sharing.try_share(pmap, ppn):
            return True
        if not client.swap.has_room():
            return False
        mpn = pmap.mpn_of[ppn]
        slot = client.swap.write(ppn, self.memory.read(mpn << PAGE_SHIFT, PAGE_BYTES))
        self.frames.leave(pmap.take_away(ppn, PageState.SWAPPED))
        client.swapped_out += 1
        if self.log.active:
            self.log.emit(events.PageSwappedOut(self.now_ns, client.vm_id, ppn, slot))
        return True

    def page_out(self, client: MemoryClient, pages: int) -> int:
        """Take so many random pages; how many it were. Where the disk refuses, the VM is stopped and keeps the rest."""
        try:
            return self.reclaimer.page_out(client, pages)
        except GuestStopped as stopped:
            client.failed = str(stopped)
            return 0

    def _reclaimed_by_guest(self, sentence: str) -> None:
        raise GuestStopped(sentence)

    # Time --------------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> None:
        """Virtual time has come so far; no guest is in its slice."""
        if self.running is not None:
            raise VmmBug("The memory manager was called in the middle of a guest's slice.")
        by_ns, self.now_ns = now_ns - self.now_ns, now_ns
        self.scanner.ran(by_ns)
        self.reclaimer.tick(by_ns)

    def vm_ran(self, client: MemoryClient, by_ns: int) -> None:
        """A VM has run for so long. MODEL: of virtual time, halted or not; the paper counts execution only."""
        sampler = client.sampler
        sampled, touched = sampler.drawn, sampler.touched
        left = list(sampler.untouched)
        sample = sampling.ran(sampler, by_ns)
        if sample is None:
            return
        for ppn in left:
            client.pmap.stop_watching(ppn)
        self.watch_sample(client, sample)
        if self.log.active:
            slow, fast, _ = sampling.estimates(sampler)
            active = sampling.active_pages(sampler)
            self.log.emit(events.WorkingSetSampled(self.now_ns, client.vm_id, sampled, touched, slow, fast, active))

    def watch_sample(self, client: MemoryClient, sample: Sequence[int]) -> None:
        """Drop the mappings of the pages whose next access counts."""
        for ppn in sample:
            client.pmap.watch(ppn)

    def start_sampling(self, client: MemoryClient) -> None:
        """The guest is about to run. What was put into its memory until now was no access of its own."""
        self.watch_sample(client, sampling.open_period(client.sampler))

    # Figures -----------------------------------------------------------------------------------------------------

    def charged_pages(self, client: MemoryClient) -> int:
        """Machine memory that a VM stands for: its own frames, and its part of the shared ones."""
        private = client.pmap.count(PageState.PRIVATE)
        shared = client.pmap.count(PageState.SHARED)
        pages, frames = self.sharing.shared_pages, self.sharing.shared_frames
        return private + (shared * frames // pages if pages else 0)

    def aim_free_pages(self) -> int:
        """Free memory that targets are computed for: clearly above the threshold of ``high``."""
        return aim_free_pages(self.total_pages)

    def check(self) -> None:
        """Every frame has one owner, or is shared by as many as it says. Raises ``VmmBug``; takes a while."""
        on_frame: dict[int, int] = {}
        for client in self.clients.values():
            for mpn in client.pmap.mpn_of:
                if mpn >= 0:
                    on_frame[mpn] = on_frame.get(mpn, 0) + 1
            if client.pmap.count(PageState.SWAPPED) != client.swap.used_pages:
                raise VmmBug(f"{client.name} has other pages in its swap file than its pmap says.")
            if client.pmap.count(PageState.BALLOONED) != client.balloon.locked_pages:
                raise VmmBug(f"{client.name} has other pages in its balloon than its pmap says.")
        for mpn, pages in on_frame.items():
            if self.frames.sharers(mpn) != pages:
                raise VmmBug(f"Frame {mpn:#x} is used by {pages} pages, but the frame table says otherwise.")
        used = int(np.count_nonzero(self.frames.use))
        overhead = self.reserved_pages + sum(len(client.overhead) for client in self.clients.values())
        if used != len(on_frame) + overhead or self.frames.frames - used != self.free_pages:
            raise VmmBug(f"{used} frames are in use, but {len(on_frame)} pages' and {overhead} of overhead are known.")


def _as_file_name(name: str) -> str:
    """As VI3 writes such names: ``%2f`` for a slash."""
    return re.sub(r"[/\\%\0]", lambda found: f"%{ord(found[0]):02x}", name)
