"""One round of pages after the other, as far as the wire and the round's limit have room.

::

    pages of the round, in their order    [17] [03] [40] | [21] [08] ...        a batch at a time
                                            │    └─ written again since: left to the next round (``peek``)
                                            └─ encoded, sent; hashed once, for the frame and for the digest

    limit        round_bytes never exceed limit x time since the round began
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.memory.dirty_log import DirtyLog
from vilab.memory.managed_pmap import ManagedPmap
from vilab.migration.messages import Pages, RoundEnd
from vilab.migration.migration_events import RoundSent
from vilab.migration.options import BATCH_PAGES, MigrationOptions
from vilab.migration.page_hashes import PageHashes
from vilab.migration.page_source import encode_pages
from vilab.migration.sent_pages import SentPages
from vilab.migration.state_digest import MemoryDigest
from vilab.protocols import ReadableBytes

Numbers = npt.NDArray[np.int64]
Send = Callable[[msgspec.Struct, Sequence[ReadableBytes]], PageHashes | None]
FRAME_BYTES = 64
"""MODEL: what a message costs on the wire beside its body."""


class RoundSender:
    """Parameters
    ----------
    memory : hashes of the pages, brought up to date as they are sent.
    """

    def __init__(
        self, pmap: ManagedPmap, memory: MemoryDigest, session: str, send: Send, options: MigrationOptions
    ) -> None:
        self._pmap, self._memory, self._session, self._send = pmap, memory, session, send
        self.options = options
        self._cache = SentPages(pmap.pages, options.cache_bytes) if options.kind == "delta" else None
        self.number = self.sent_bytes = 0
        """``sent_bytes``: of all rounds."""
        self.began_ns = self.round_bytes = self.sent_pages = 0
        self.ended = False
        """All was sent, and the other host is asked whether it has it."""
        self._todo: Numbers = np.zeros(0, np.int64)
        self._at = self._limit = self._zeros = self._skipped = 0

    @property
    def left_pages(self) -> int:
        return len(self._todo) - self._at

    @property
    def percent(self) -> float:
        return 100 * self._at / len(self._todo) if len(self._todo) else 0.0

    def open(self, pages: Numbers, limit_bytes_per_s: int, now_ns: int) -> None:
        """The next round."""
        self.number += 1
        self._todo = self._in_order(pages)
        self._at = self.round_bytes = self.sent_pages = self._zeros = self._skipped = 0
        self._limit, self.began_ns, self.ended = limit_bytes_per_s, now_ns, False

    def _in_order(self, pages: Numbers) -> Numbers:
        seed, run = self.options.order_seed, self.options.order_run_pages
        if seed is None:
            return pages
        random = np.random.default_rng([seed, self.number])
        if run == 1:
            return random.permutation(pages)
        places = random.permutation(int(pages.max(initial=0)) // run + 1)
        return pages[np.argsort(places[pages // run], kind="stable")]

    def pump(self, room_bytes: int, log: DirtyLog | None, now_ns: int) -> bool:
        """There is room for so many bytes. ``log``: of a machine that runs. True: this was the end of the round."""
        if self._limit:
            allowed = self._limit * (now_ns - self.began_ns) // 1_000_000_000 - self.round_bytes
            room_bytes = min(room_bytes, allowed)
        while room_bytes > 0 and self.left_pages:
            room_bytes -= self._send_batch(log)
        if self.left_pages or self.ended:
            return False
        self.ended = True
        self._send(RoundEnd(self._session, self.number), ())
        return True

    def _send_batch(self, log: DirtyLog | None) -> int:
        most = min(self.options.batch_pages, BATCH_PAGES) if self._limit else self.options.batch_pages
        batch = self._todo[self._at : self._at + most]
        self._at += len(batch)
        if log is not None and self.options.peek:
            again = log.is_dirty(batch)
            self._skipped += int(again.sum())
            batch = batch[~again]
        copy = log is not None and self.options.copies
        record, body = encode_pages(self._pmap, batch, self.options.kind, self._cache, copy=copy)
        numbers = len(record.raw) + len(record.zero) + len(record.delta)
        size = FRAME_BYTES + numbers + sum(memoryview(part).nbytes for part in body)
        self._memory.moved(record, self._send(Pages(self._session, record), body))
        self.sent_pages += len(batch)
        self._zeros += record.zero_pages
        self.round_bytes += size
        self.sent_bytes += size
        return size

    def report(self, vm: str, log: DirtyLog | None, now_ns: int) -> RoundSent:
        """The other host has it all. Without a ``log`` the machine stood still."""
        return RoundSent(
            now_ns, vm, self.number, self.sent_pages, self._zeros, self._skipped, self.round_bytes,
            now_ns - self.began_ns, 0 if log is None else log.dirty_pages, 0 if log is None else log.traces,
            log is None,
        )  # fmt: skip
