"""Post-copy, the side on which the machine runs: a supply of pages that may still have to come.

::

    guest touches a page without a frame ──> page_needed ── MISSING? ── no ──> the memory manager, as ever
                                                              │ yes
                                              PostNeed ──> ask, wait ──> it arrives: written, HERE
                                                              │
                                                         cut: the guest stops, with the reason

    ready ──begin──> running ── nothing missing ──> complete
      │                 └── cut while a page is missing ──> failed: it is powered off
      └── given up: it never ran here

Until it is here a missing page is UNTOUCHED for everybody else: it has no frame, so nothing shares, swaps or hashes
it. What arrives for a page that is here, or was given up by the guest meanwhile (its balloon took it), is dropped: the
guest may have written there.

MODEL: to look at a missing page from outside (a view, a snapshot) brings it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.addresses import Ppn
from vilab.errors import AdminError, GuestStopped, VmmBug
from vilab.memory.managed_pmap import ManagedPmap, PageSupply, PmapState
from vilab.memory.page_state import PageState
from vilab.migration import post_copy_messages as say
from vilab.migration.page_source import write_pages
from vilab.migration.page_stream import PageBatch, judge
from vilab.protocols import ReadableBytes

Numbers = npt.NDArray[np.int64]
Send = Callable[[msgspec.Struct, Sequence[ReadableBytes]], object]
Phase = Literal["ready", "running", "complete", "failed", "given up"]


class HostSupply(PageSupply, Protocol):
    """The memory manager."""

    def release(self, pmap: ManagedPmap, ppn: Ppn, state: PageState) -> None:
        """The page loses what is behind it and becomes ``state``, which has no frame."""
        ...


class PostCopyFigures(msgspec.Struct, frozen=True):
    """``waits``: times that somebody has waited for a page, ``waited_ns`` in all. ``pushed_pages`` came unasked.
    ``dropped_pages``: arrived and were not wanted any more."""

    waits: int = 0
    waited_ns: int = 0
    asked_pages: int = 0
    pushed_pages: int = 0
    dropped_pages: int = 0


class PostCopyDestination:
    """A ``PageSupply`` in front of the host's.

    Parameters
    ----------
    pmap : the machine's; from ``begin`` on this has to be its supply, until ``over``.
    host_supply : where frames come from.
    send : a message to the source.
    wait : lets time pass until something has come from the source, or ``lost`` was called: never for ever.
    stop : called once if the machine must not run any more, with the sentence.
    now : in ns, for the figures.
    """

    def __init__(
        self, vm: str, source: str, destination: str, session: str, pmap: ManagedPmap, host_supply: HostSupply,
        send: Send, wait: Callable[[], None], stop: Callable[[str], None], now: Callable[[], int] = int,
    ) -> None:  # fmt: skip
        self.vm, self.source, self.destination, self.session = vm, source, destination, session
        self.phase: Phase = "ready"
        self.why = ""
        """Why it has failed, in a sentence."""
        self._pmap, self._host = pmap, host_supply
        self._send, self._wait, self._stop, self._now = send, wait, stop, now
        self._missing = np.zeros(pmap.pages, np.bool_)
        self._asked = np.zeros(pmap.pages, np.bool_)
        self._storing = False
        self._waits = self._waited_ns = self._arrived_asked = self._pushed = self._dropped = 0

    @property
    def over(self) -> bool:
        return self.phase not in ("ready", "running")

    @property
    def missing_pages(self) -> int:
        return int(np.count_nonzero(self._missing))

    @property
    def asked_pages(self) -> int:
        """Missing, and on their way."""
        return int(np.count_nonzero(self._asked))

    @property
    def figures(self) -> PostCopyFigures:
        return PostCopyFigures(self._waits, self._waited_ns, self._arrived_asked, self._pushed, self._dropped)

    # The other host --------------------------------------------------------------------------------------------------

    def begin(self, message: say.PostBegin, pages: PmapState) -> PmapState:
        """The machine is this host's, and may run after this.

        Parameters
        ----------
        pages : what was behind each page at the source.

        Returns
        -------
        what is to be behind them here: missing ones have no frame.

        Raises
        ------
        AdminError : the message is another machine's; nothing has changed.
        """
        if self.phase != "ready":
            raise VmmBug(f"Post-copy of {self.vm} was to begin while it is {self.phase}.")
        if self._pmap.on_written is not None:
            raise VmmBug(f"The writes of {self.vm} are being noted: it cannot be on its way from here as well.")
        self._check_session(message)
        missing = say.unpack_missing(message.missing, self._pmap.pages)
        states = np.frombuffer(pages.states, np.uint8).copy()
        if len(states) != self._pmap.pages:
            raise AdminError(
                f"{self.vm} was said to have {self._pmap.pages} pages, and {len(states)} arrived: the state is another "
                "machine's."
            )
        for ppn in np.flatnonzero(missing).tolist():  # whatever pre-copy had brought of them is old
            if self._pmap.state_of(ppn) is not PageState.UNTOUCHED:
                self._host.release(self._pmap, Ppn(ppn), PageState.UNTOUCHED)
        missing &= (states != PageState.UNTOUCHED) & (states != PageState.BALLOONED)
        states[missing] = PageState.UNTOUCHED
        self._missing = missing
        self.phase = "running"
        self._pmap.on_written = self._gave_up
        self._look_whether_complete()
        return PmapState(states.tobytes())

    def received(self, message: msgspec.Struct, body: ReadableBytes = b"") -> None:
        """A message of the source's. One that does not fit ends the machine: what is missing cannot be had any more."""
        if self.phase != "running":
            return
        try:
            self._take(message, body)
        except (AdminError, GuestStopped) as error:
            self.give_up(str(error))

    def give_up(self, why: str) -> None:
        """The machine does not go on here: it cannot, or a person has powered it off."""
        if self.phase == "running":
            self._send(say.PostFailed(self.session, why), ())
            self.lost(why)

    def lost(self, why: str) -> None:
        """The connection has ended, or cannot be trusted any more; ``why``: a sentence."""
        if self.phase == "ready":
            self.phase, self.why = "given up", f"{self.vm} did not begin to run on {self.destination}. {why}"
        elif self.phase == "running":
            self.phase = "failed"
            self.why = (
                f"{self.vm} was powered off on {self.destination}: {self.missing_pages} pages of its memory were still "
                f"on {self.source}. {why} Power it on again; its disk is as after a power cut."
            )
            self._pmap.on_written = None
            self._stop(self.why)

    def _take(self, message: msgspec.Struct, body: ReadableBytes) -> None:
        if isinstance(message, say.PostMessage):
            self._check_session(message)
        match message:
            case say.PostPages():
                self._store(message.batch, body)
            case say.PostFailed():
                self.lost(message.why)
            case _:
                raise AdminError(
                    f"{self.source} said {type(message).__name__}, which has no place while {self.vm} runs on "
                    f"{self.destination}: {say.DISAGREE}"
                )

    def _check_session(self, message: say.PostMessage) -> None:
        if message.session != self.session:
            raise AdminError(f"{self.source} speaks of another migration than that of {self.vm}.")

    def _store(self, batch: PageBatch, body: ReadableBytes) -> None:
        judged = judge(batch, body, self._pmap.pages)
        if len(judged.delta):
            raise AdminError(
                f"{self.source} sent changes of pages that {self.destination} does not have: {say.DISAGREE}"
            )
        wanted = self._missing[judged.raw]
        raw, content = judged.raw[wanted], judged.content[wanted]
        zero = judged.zero[self._missing[judged.zero]]  # without a frame it reads as zeros
        self._storing = True
        try:
            write_pages(self._pmap, raw, content)
        finally:
            self._storing = False
        here = np.concatenate([raw, zero])
        asked = int(np.count_nonzero(self._asked[here]))
        self._arrived_asked += asked
        self._pushed += len(here) - asked
        self._dropped += batch.pages - len(here)
        self._missing[here] = self._asked[here] = False
        self._look_whether_complete()

    def _look_whether_complete(self) -> None:
        if self.phase == "running" and not self._missing.any():
            self.phase = "complete"
            self._pmap.on_written = None
            self._send(say.PostAllHere(self.session), ())

    def _gave_up(self, ppn: int) -> None:
        """The guest's balloon has taken a page: whatever was in it is of no importance."""
        if not self._storing and self._missing[ppn]:
            self._missing[ppn] = self._asked[ppn] = False
            self._look_whether_complete()

    # PageSupply ------------------------------------------------------------------------------------------------------

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        """``PageSupply``. Raises ``GuestStopped``: the page cannot be had any more."""
        if not self._storing and self._missing[ppn]:
            self._fetch(ppn)
            state = pmap.state_of(ppn)
            if state is PageState.PRIVATE or (state is PageState.SHARED and not for_write):
                return
        self._host.page_needed(pmap, ppn, for_write)

    def pages_needed(self, pmap: ManagedPmap, ppns: Numbers) -> int:
        """``PageSupply``."""
        return self._host.pages_needed(pmap, ppns)

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        """``PageSupply``."""
        self._host.page_touched(pmap, ppn)

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        """``PageSupply``; a missing page comes here. Raises ``GuestStopped``: it cannot be had any more."""
        if self._missing[ppn] and not self._storing:
            self._fetch(ppn)
            return pmap.page(ppn)
        return self._host.peek(pmap, ppn)

    def _fetch(self, ppn: int) -> None:
        began_ns = self._now()
        self._waits += 1
        while self._missing[ppn] and self.phase == "running":
            if not self._asked[ppn]:
                self._asked[ppn] = True
                self._send(say.PostNeed(self.session, say.pack_needed(np.array([ppn]))), ())
            self._wait()
        self._waited_ns += self._now() - began_ns
        if self._missing[ppn]:
            raise GuestStopped(self.why)
