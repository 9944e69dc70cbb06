"""The host's end of a balloon: what the driver in one guest is told, and what is believed of what it says.

::

                     START ──────────> every page in the balloon is the guest's again
                       │
                       v            LOCK                            the guest touches a page in the balloon
       no driver ──> active ─────────────────────> BALLOONED page ──────────────────────────────┐
                       ^  ^   page: frame freed        │                                        v
                       │  └────────────────────────────┘ UNLOCK: untouched, zero on demand    popped: every call is
                       │                                                                      answered RESET
                       └───────────────────────── START ────────────────────────────────────────┘

    target   =  min(what the host asks for, 65 % of the guest's memory)     Mem.CtlMaxPercent, ESX 3
    LOCK     above the target: 6, not needed

The driver belongs to the guest, so it may lie: lock a page twice, unlock what it never locked, name pages beyond
memory. A lie changes nothing, is answered with its status and counted; after ``MOST_LIES`` the VM is stopped.
Waldspurger 2002, section 3.2; statuses as in ``balloon_protocol``.

MODEL: pages are 4 KB only, and nobody rings a doorbell: those capabilities are never granted, and their commands do not
exist. A driver that has not started is told RESET, as after a pop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from vilab.addresses import PAGE_SHIFT, Ppn
from vilab.errors import AdminError, VmmBug
from vilab.events import EventLog
from vilab.memory import memory_events as events
from vilab.memory.balloon_protocol import BATCH_ENTRIES, BATCH_ENTRY_BYTES, Capability, Command, Reply, Status
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.page_state import PageState
from vilab.memory.pmap import Pmap

MAX_PERCENT = 65
"""Mem.CtlMaxPercent."""
MOST_LIES = 64
CAN_DO = Capability.BASIC | Capability.BATCHED

_STATUS_MASK = np.uint64(0xFFF)


class Release(Protocol):
    """The page loses what is behind it and becomes ``state``, which has no frame."""

    def __call__(self, pmap: ManagedPmap, ppn: Ppn, state: PageState, /) -> None: ...


class BalloonState(msgspec.Struct):
    """Which pages are in the balloon says the pmap: those that are BALLOONED.

    ``asked_pages``: what the host last asked for. ``capabilities``: granted to the driver; 0: there is none.
    ``guest_id``: 1 is Linux. ``guest_pages``: what the driver says that its guest has. ``last_lie``: a sentence.
    """

    asked_pages: int = 0
    capabilities: int = 0
    guest_id: int = 0
    guest_pages: int = 0
    locked_pages: int = 0
    reset_wanted: bool = False
    stopped: bool = False
    calls: int = 0
    starts: int = 0
    locked: int = 0
    """Pages taken since power-on; ``unlocked``, ``popped``: given back, and taken back by touching them."""
    unlocked: int = 0
    popped: int = 0
    not_needed: int = 0
    lies: int = 0
    last_lie: str = ""


class BalloonServer:
    """Implements ``BalloonHost`` for one virtual machine.

    Parameters
    ----------
    vm_id : for events and sentences. pages : of the guest.
    capabilities : what is granted to a driver that wants it: ``BASIC``, or ``BASIC | BATCHED``.
    max_percent : of the guest's memory that the balloon may take.
    """

    def __init__(
        self, vm_id: int, pages: int, capabilities: Capability = CAN_DO, max_percent: int = MAX_PERCENT
    ) -> None:
        if capabilities & ~CAN_DO or not capabilities & Capability.BASIC:
            raise AdminError("A balloon can be offered with basic commands, or with basic and batched ones.")
        if not 0 <= max_percent <= 100:
            raise AdminError(f"A balloon cannot take {max_percent} % of a guest's memory: 0 to 100 are possible.")
        self.vm_id, self.pages = vm_id, pages
        self.offered = capabilities
        self.maximum_pages = pages * max_percent // 100
        self.state = BalloonState()
        self._release: Release = _nobody
        self._stop: Callable[[str], None] = _ignore
        self._log = EventLog()
        self._now_ns: Callable[[], int] = int

    def connect(self, release: Release, stop: Callable[[str], None], log: EventLog, now_ns: Callable[[], int]) -> None:
        """``release`` frees a page's frame; ``stop`` is called once with the sentence that ends the VM."""
        self._release, self._stop, self._log, self._now_ns = release, stop, log, now_ns

    # The host ----------------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """A driver has started and is believed: the guest can be asked for pages."""
        return bool(self.state.capabilities) and not self.state.reset_wanted and not self.state.stopped

    @property
    def locked_pages(self) -> int:
        """How many pages are in the balloon."""
        return self.state.locked_pages

    @property
    def target_pages(self) -> int:
        """What the driver is told."""
        return min(self.state.asked_pages, self.maximum_pages)

    def set_target(self, pages: int) -> None:
        """Ask for so many pages in the balloon; the driver hears of it when it next asks, once a second."""
        pages = max(0, pages)
        changed = pages != self.state.asked_pages
        self.state.asked_pages = pages
        if changed and self._log.active:
            self._log.emit(events.BalloonTargetSet(self._now_ns(), self.vm_id, self.target_pages, pages))

    def popped(self, ppn: int) -> None:
        """The guest has touched a page in the balloon, which is about to get a frame."""
        self.state.locked_pages -= 1
        self.state.popped += 1
        self.state.reset_wanted = True
        if self._log.active:
            self._log.emit(events.BalloonPopped(self._now_ns(), self.vm_id, ppn))

    def save_state(self) -> BalloonState:
        return msgspec.structs.replace(self.state)

    def load_state(self, state: BalloonState) -> None:
        """The pmap's states come with it: ``locked_pages`` of them are BALLOONED."""
        self.state = msgspec.structs.replace(state)

    # The driver --------------------------------------------------------------------------------------------------

    def call(self, command: int, first: int, second: int, pmap: Pmap) -> tuple[int, int, int]:
        """``BalloonHost``."""
        if not isinstance(pmap, ManagedPmap):
            raise VmmBug(f"Virtual machine {self.vm_id} has a balloon, but nobody manages its pages.")
        state = self.state
        state.calls += 1
        if state.stopped:
            return Reply(Status.FAILED, first, command).registers()
        told_lies = state.lies
        reply = self._carry_out(command, first, second, pmap)
        if state.lies > told_lies and state.lies > MOST_LIES:
            state.stopped = True
            self._stop(
                f"Virtual machine {self.vm_id} was stopped: its balloon driver has said {state.lies} times what cannot "
                f"be, last that {state.last_lie}. Look at the driver in the guest."
            )
        return reply.registers()

    def _carry_out(self, command: int, first: int, second: int, pmap: ManagedPmap) -> Reply:
        state = self.state
        if command == Command.START:
            return self._start(Capability(first), pmap)
        if command not in _NEEDS or not self.offered & _NEEDS[command]:
            return Reply(Status.COMMAND_INVALID, first, command)
        if state.reset_wanted or not state.capabilities:
            return Reply(Status.RESET, self.target_pages, command)
        if not state.capabilities & _NEEDS[command]:
            return Reply(Status.COMMAND_INVALID, self.target_pages, command)
        if command == Command.GUEST_ID:
            state.guest_id = first
            return Reply(Status.OK, first, command)
        status = Status.OK
        if command == Command.GET_TARGET:
            state.guest_pages = first
        elif command in (Command.LOCK, Command.UNLOCK):
            status = self._pages(pmap, (first,), command == Command.LOCK)[0]
        else:
            status = self._batch(pmap, first, second, command == Command.BATCHED_LOCK)
        return Reply(status, self.target_pages, command)

    def _start(self, wanted: Capability, pmap: ManagedPmap) -> Reply:
        """A driver that starts has no page in its balloon, whatever another one had before."""
        state = self.state
        inside = np.flatnonzero(pmap.states == PageState.BALLOONED)
        for ppn in inside:
            pmap.mark(int(ppn), PageState.UNTOUCHED)
        state.locked_pages, state.reset_wanted = 0, False
        state.starts += 1
        granted = wanted & self.offered
        state.capabilities = int(granted) if granted & Capability.BASIC else 0
        if self._log.active:
            self._log.emit(events.BalloonReset(self._now_ns(), self.vm_id, len(inside), state.capabilities))
        return Reply(Status.STARTED, self.target_pages, state.capabilities)

    def _batch(self, pmap: ManagedPmap, page: int, entries: int, lock: bool) -> Status:
        """Entries in a page of the guest's, which get their statuses there."""
        if page >= self.pages:
            return self._lie(Status.PPN_INVALID, f"its batch is in page {page:#x}, beyond memory")
        if pmap.state_of(page) is PageState.BALLOONED:
            return self._lie(Status.PPN_INVALID, f"its batch is in page {page:#x}, which is in the balloon")
        if entries > BATCH_ENTRIES:
            return self._lie(Status.FAILED, f"a batch has {entries} entries where {BATCH_ENTRIES} fit in a page")
        at = page << PAGE_SHIFT
        batch = np.frombuffer(pmap.read(at, entries * BATCH_ENTRY_BYTES), "<u8")
        ppns = [int(ppn) for ppn in batch >> np.uint64(PAGE_SHIFT)]
        statuses = self._pages(pmap, ppns, lock, pinned=page)
        pmap.write(at, ((batch & ~_STATUS_MASK) | np.array(statuses, np.uint64)).astype("<u8").tobytes())
        return Status.OK

    def _pages(self, pmap: ManagedPmap, ppns: Sequence[int], lock: bool, pinned: int = -1) -> list[Status]:
        """One call's pages, each with its status."""
        one = self._lock if lock else self._unlock
        statuses = [one(pmap, ppn, pinned) for ppn in ppns]
        done = statuses.count(Status.OK)
        if lock:
            self.state.locked += done
        else:
            self.state.unlocked += done
        if self._log.active and statuses:
            kind = events.BalloonLocked if lock else events.BalloonUnlocked
            refused = len(statuses) - done
            self._log.emit(kind(self._now_ns(), self.vm_id, done, refused, self.state.locked_pages))
        return statuses

    def _lock(self, pmap: ManagedPmap, ppn: int, pinned: int) -> Status:
        if ppn >= self.pages:
            return self._lie(Status.PPN_INVALID, f"it locks page {ppn:#x}, beyond memory")
        if pmap.state_of(ppn) is PageState.BALLOONED:
            return self._lie(Status.PPN_LOCKED, f"it locks page {ppn:#x}, which it had locked before")
        if ppn == pinned:
            return self._lie(Status.PPN_PINNED, f"it locks page {ppn:#x}, in which its batch is")
        if self.state.locked_pages >= self.target_pages:
            self.state.not_needed += 1
            return Status.PPN_NOT_NEEDED
        self._release(pmap, Ppn(ppn), PageState.BALLOONED)
        self.state.locked_pages += 1
        return Status.OK

    def _unlock(self, pmap: ManagedPmap, ppn: int, pinned: int) -> Status:
        if ppn >= self.pages:
            return self._lie(Status.PPN_INVALID, f"it unlocks page {ppn:#x}, beyond memory")
        if pmap.state_of(ppn) is not PageState.BALLOONED:
            return self._lie(Status.PPN_UNLOCKED, f"it unlocks page {ppn:#x}, which it has not locked")
        pmap.mark(ppn, PageState.UNTOUCHED)
        self.state.locked_pages -= 1
        return Status.OK

    def _lie(self, status: Status, sentence: str) -> Status:
        self.state.lies += 1
        self.state.last_lie = sentence
        if self._log.active:
            self._log.emit(events.BalloonLied(self._now_ns(), self.vm_id, sentence))
        return status


_NEEDS: dict[int, Capability] = {
    Command.GET_TARGET: Capability.BASIC,
    Command.LOCK: Capability.BASIC,
    Command.UNLOCK: Capability.BASIC,
    Command.GUEST_ID: Capability.BASIC,
    Command.BATCHED_LOCK: Capability.BATCHED,
    Command.BATCHED_UNLOCK: Capability.BATCHED,
}
"""What a driver must have been granted for a command; the others do not exist."""


def _nobody(pmap: ManagedPmap, ppn: Ppn, state: PageState) -> None:
    raise VmmBug(f"The balloon of virtual machine {pmap.vm_id} is connected to no memory manager.")


def _ignore(sentence: str) -> None:
    """Nobody can be told."""
