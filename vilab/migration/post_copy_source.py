"""Post-copy, the side that the machine has left: what is asked for goes first, the rest by itself.

::

    ready ──begin──> pushing ──PostAllHere──> moved
      │                 └── cut, or the other has failed ──> failed: it must not run here again
      └── given up: it runs on here

    in which order     asked  >  the neighbours of what was asked last, on both sides  >  ...
                              ... 38 39 [40] 41 42 ...      the bubble grows until another page is asked for

Who touches a page soon touches its neighbours: they are on their way before they are missed.

MODEL: Hines et al. let several bubbles grow at once; here the last page that was asked for has the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.errors import AdminError, VmmBug
from vilab.memory.managed_pmap import ManagedPmap
from vilab.migration import post_copy_messages as say
from vilab.migration.page_source import encode_pages
from vilab.migration.page_stream import Kind
from vilab.protocols import ReadableBytes

Numbers = npt.NDArray[np.int64]
Send = Callable[[msgspec.Struct, Sequence[ReadableBytes]], None]
Phase = Literal["ready", "pushing", "moved", "failed", "given up"]

BATCH_PAGES = 16
"""Pushed at once: a page that is asked for waits for what is on the wire before it."""


class PostCopySource:
    """Parameters
    ----------
    pmap : the machine stands still, and does so until this is over.
    missing : the pages that the destination does not have, or not as they are.
    send : a message with its body, to the other host, in order. The body is machine memory itself.
    kind : ``zero`` or ``raw``.
    """

    def __init__(
        self, vm: str, source: str, destination: str, session: str, pmap: ManagedPmap, missing: Numbers, send: Send,
        kind: Kind = "zero", batch_pages: int = BATCH_PAGES,
    ) -> None:  # fmt: skip
        if kind == "delta":
            raise VmmBug("After post-copy has begun there is nothing that a delta could be of.")
        self.vm, self.source, self.destination, self.session = vm, source, destination, session
        self.phase: Phase = "ready"
        self.why = ""
        """How it has ended, in a sentence."""
        self.asked_pages = self.pushed_pages = 0
        self._pmap, self._send, self._kind, self._batch_pages = pmap, send, kind, batch_pages
        self._unsent = np.zeros(pmap.pages, np.bool_)
        self._unsent[missing] = True
        self._asked: list[Numbers] = []
        self._pivot = 0

    @property
    def over(self) -> bool:
        return self.phase not in ("ready", "pushing")

    @property
    def left_pages(self) -> int:
        return int(np.count_nonzero(self._unsent))

    def begin(self) -> None:
        """From now on this host has not got the machine any more, and the other one not yet."""
        if self.phase != "ready":
            raise VmmBug(f"Post-copy of {self.vm} was to begin while it is {self.phase}.")
        self.phase = "pushing"
        self._send(say.PostBegin(self.session, say.pack_missing(np.flatnonzero(self._unsent), self._pmap.pages)), ())

    def pump(self, room_bytes: int) -> None:
        """There is room for so many bytes on the wire: asked pages go even if there is none."""
        while self.phase == "pushing" and self._asked:
            ppns = self._asked.pop(0)
            ppns = ppns[self._unsent[ppns]]
            self.asked_pages += len(ppns)
            self._send_pages(ppns)
        while self.phase == "pushing" and room_bytes > 0 and len(ppns := self._bubble()):
            self.pushed_pages += len(ppns)
            room_bytes -= self._send_pages(ppns)

    def received(self, message: msgspec.Struct) -> None:
        """A message of the destination's."""
        if self.over:
            return
        try:
            self._take(message)
        except AdminError as error:
            self._send(say.PostFailed(self.session, str(error)), ())
            self.lost(str(error))

    def lost(self, why: str) -> None:
        """The connection has ended, or cannot be trusted any more; ``why``: a sentence."""
        if self.phase == "ready":
            self.phase, self.why = "given up", f"{self.vm} runs on on {self.source}. {why}"
        elif self.phase == "pushing":
            self.phase = "failed"
            self.why = (
                f"{self.vm} is off on {self.source}: it had gone on on {self.destination}, and {self.left_pages} pages "
                f"of its memory had not left yet. {why} Look at {self.destination}: if it is off there, too, power it "
                "on again; its disk is as after a power cut."
            )

    def _take(self, message: msgspec.Struct) -> None:
        match message:
            case say.PostMessage() if message.session != self.session:
                raise AdminError(f"{self.destination} speaks of another migration than that of {self.vm}.")
            case say.PostFailed():
                self.lost(message.why)
            case say.PostNeed() if self.phase == "pushing":
                ppns = np.unique(say.unpack_needed(message.ppns, self._pmap.pages))
                if len(ppns):
                    self._asked.append(ppns)
                    self._pivot = int(ppns[-1])
            case say.PostAllHere() if self.phase == "pushing":
                self.phase, self.why = "moved", f"{self.vm} has moved to {self.destination}."
            case _:
                raise AdminError(
                    f"{self.destination} said {type(message).__name__}, which has no place while {self.vm} is on its "
                    f"way from {self.source}: {say.DISAGREE}"
                )

    def _bubble(self) -> Numbers:
        """The pages next to the one that was asked for last."""
        unsent = np.flatnonzero(self._unsent)
        at = int(np.searchsorted(unsent, self._pivot))
        first = max(0, min(at - self._batch_pages // 2, len(unsent) - self._batch_pages))
        return unsent[first : first + self._batch_pages]

    def _send_pages(self, ppns: Numbers) -> int:
        if not len(ppns):
            return 0
        self._unsent[ppns] = False
        batch, body = encode_pages(self._pmap, ppns, self._kind)
        self._send(say.PostPages(self.session, batch), body)
        return 4 * len(ppns) + sum(memoryview(part).nbytes for part in body)
