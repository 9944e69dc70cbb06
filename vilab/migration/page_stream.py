"""Pages as bytes: a small record that says which they are, and buffers with what is in them.

::

    record   raw: 17 18 19 40     zero: 20 21 22     delta: 3 41      runs: 9 bytes      check
    body     | page 17 | page 18 | page 19 | page 40 | runs | changed bytes |
               └── one buffer: their machine frames are neighbours; nothing is copied

    raw     all 4096 bytes                     the page may be sent while it is written: it is dirty again then
    zero    nothing
    delta   what has changed since it was last sent (``page_delta``), of content that was copied before

``kind`` is what may be used: ``raw``; ``zero``: and pages of zeros; ``delta``: and those, and deltas. Within a batch
pages have no order, no page is in it twice, and the receiver judges all of it before it writes anything. A page that
has no frame and was never written has nothing to send: it is a zero page in any case. Delta needs the same past on both
sides: ``check`` is of what the pages have to be afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import AdminError, VmmBug
from vilab.migration import page_delta
from vilab.migration.sent_pages import SentPages
from vilab.protocols import ReadableBytes

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
Kind = Literal["raw", "zero", "delta"]

MOST_PAGES = 65536
"""In one batch."""
ZERO_PAGE = memoryview(bytes(PAGE_BYTES))
"""What ``decode`` puts for a page of zeros: it may be recognised by identity."""
_WORDS = PAGE_BYTES // 8
_TOGETHER = 8
"""Rows that are fewer than so many on average in a piece are copied: to hash and to send each apart costs more."""
_FEW = 256
"""So few pages are looked at as a whole."""


class PageBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Page numbers are 4 bytes each, little-endian. ``runs_bytes``: how much of the body is runs of deltas.

    ``check``: XXH3 of the pages that came as deltas, as they have to be; its seed is that of their numbers.
    """

    raw: bytes = b""
    zero: bytes = b""
    delta: bytes = b""
    runs_bytes: int = 0
    check: int = 0

    @property
    def pages(self) -> int:
        return (len(self.raw) + len(self.zero) + len(self.delta)) // 4

    @property
    def raw_pages(self) -> int:
        return len(self.raw) // 4

    @property
    def zero_pages(self) -> int:
        return len(self.zero) // 4

    @property
    def delta_pages(self) -> int:
        return len(self.delta) // 4


class JudgedBatch:
    """A batch that fits: its numbers are those of pages, each once, and the body has what it needs.

    ``content``: of the raw pages, shape (pages, 4096), where they have arrived. Deltas are judged as far as can be
    without what was there before.
    """

    def __init__(
        self, raw: Numbers, content: Bytes, zero: Numbers, delta: Numbers, runs: page_delta.Runs | None, check: int
    ) -> None:
        self.raw, self.content, self.zero, self.delta = raw, content, zero, delta
        self._runs, self._check = runs, check

    def changed(self, before: Bytes) -> Bytes:
        """The pages that came as deltas.

        Parameters
        ----------
        before : what they are, shape (delta pages, 4096), C-contiguous; overwritten.

        Raises
        ------
        AdminError : the source had sent something else before.
        """
        if self._runs is not None:
            self._runs.apply(before)
            if _check_of(self.delta, before) != self._check:
                raise AdminError(
                    f"{len(self.delta)} pages came as what has changed in them, and do not become what the source has: "
                    "source and destination differ in what was sent before. Begin the migration again, without delta "
                    "compression if it happens twice."
                )
        return before


# Sending -------------------------------------------------------------------------------------------------------------


def encode(
    ppns: Sequence[int] | Numbers,
    content_of: Callable[[int], ReadableBytes],
    kind: Kind = "zero",
    cache: SentPages | None = None,
) -> tuple[PageBatch, list[ReadableBytes]]:
    """Pages from anywhere, copied once. ``content_of``: a page's 4096 bytes. See ``page_source`` for a guest's."""
    numbers = np.asarray(ppns, np.int64)
    gathered = np.empty((len(numbers), PAGE_BYTES), np.uint8)
    for row, ppn in enumerate(numbers.tolist()):
        gathered[row] = np.frombuffer(content_of(ppn), np.uint8)
    return encode_rows(numbers, np.arange(len(numbers)), gathered, kind, cache)


def encode_rows(
    ppns: Numbers,
    rows: Numbers,
    memory: Bytes,
    kind: Kind,
    cache: SentPages | None = None,
    nothing: Numbers | None = None,
) -> tuple[PageBatch, list[ReadableBytes]]:
    """Pages that are rows of an array; raw ones are not copied unless there is a cache, or they are scattered.

    Parameters
    ----------
    ppns : different ones. rows : where each is in ``memory``.
    memory : shape (anything, 4096), C-contiguous: machine frames, or a copy.
    nothing : further pages, of which it is known that they are zero.
    """
    if len(ppns) + (0 if nothing is None else len(nothing)) > MOST_PAGES:
        raise VmmBug(f"A batch of {len(ppns)} pages was to be encoded: at most {MOST_PAGES} fit.")
    if (kind == "delta") != (cache is not None):
        raise VmmBug("A cache of sent pages goes with deltas, and only with them.")
    zero = np.zeros(0, np.int64) if nothing is None else nothing
    if kind != "raw":
        empty = zero_rows(memory.view(np.uint64), rows)
        if empty.any():
            zero = np.concatenate([zero, ppns[empty]])
            ppns, rows = ppns[~empty], rows[~empty]
    if cache is not None:
        cache.forget(zero)
        return _encode_deltas(ppns, memory[rows], zero, cache)
    if (rows[1:] < rows[:-1]).any():
        order = np.argsort(rows, kind="stable")
        ppns, rows = ppns[order], rows[order]
    if np.count_nonzero(rows[1:] != rows[:-1] + 1) > len(rows) // _TOGETHER:
        memory, rows = memory[rows], np.arange(len(rows))
    return PageBatch(_packed(ppns), _packed(zero)), joined(rows, memory)


def zero_rows(words: Words, rows: Numbers) -> npt.NDArray[np.bool_]:
    """Which of these rows are all zeros. ``words``: shape (anything, 512)."""
    zero: npt.NDArray[np.bool_] = words[rows, 0] == 0
    candidates = np.flatnonzero(zero)
    if not len(candidates):
        return zero
    candidates = candidates[words[rows[candidates], _WORDS // 2] == 0]
    zero[:] = False
    at = rows[candidates]
    for start in range(0, len(at), _FEW):
        piece = at[start : start + _FEW]
        neighbours = bool((piece[1:] == piece[:-1] + 1).all())
        pages = words[piece[0] : piece[-1] + 1] if neighbours else words[piece]
        zero[candidates[start : start + _FEW]] = np.bitwise_or.reduce(pages, axis=1) == 0
    return zero


def joined(rows: Numbers, memory: Bytes) -> list[ReadableBytes]:
    """These rows as buffers; rows that follow each other are one buffer. Nothing is copied."""
    if not len(rows):
        return []
    view = memoryview(memory.reshape(-1))  # type: ignore[arg-type]
    breaks = np.flatnonzero(rows[1:] != rows[:-1] + 1)
    if len(breaks) == len(rows) - 1:
        return [view[start : start + PAGE_BYTES] for start in (rows << PAGE_SHIFT).tolist()]
    starts = (rows[np.concatenate([[0], breaks + 1])] << PAGE_SHIFT).tolist()
    ends = ((rows[np.concatenate([breaks, [len(rows) - 1]])] + 1) << PAGE_SHIFT).tolist()
    return [view[start:end] for start, end in zip(starts, ends, strict=True)]


def _encode_deltas(
    ppns: Numbers, content: Bytes, zero: Numbers, cache: SentPages
) -> tuple[PageBatch, list[ReadableBytes]]:
    slots = cache.find(ppns)
    again = np.flatnonzero(slots >= 0)
    as_delta = np.zeros(len(ppns), np.bool_)
    runs = literals = b""
    check = 0
    if len(again):
        new = content if len(again) == len(ppns) else content[again]
        small, runs, literals = page_delta.compress(cache.content(slots[again]), new)
        as_delta[again[small]] = True
        if small.any():
            check = _check_of(ppns[as_delta], new if small.all() else new[small])
    cache.remember(ppns, content)
    batch = PageBatch(_packed(ppns[~as_delta]), _packed(zero), _packed(ppns[as_delta]), len(runs), check)
    parts = joined(np.flatnonzero(~as_delta), content)
    return batch, [*parts, *(part for part in (runs, literals) if part)]


def _packed(ppns: Numbers) -> bytes:
    return ppns.astype("<u4").tobytes() if len(ppns) else b""


def _check_of(ppns: Numbers, content: Bytes) -> int:
    return xxhash.xxh3_64_intdigest(memoryview(content.reshape(-1)), xxhash.xxh3_64_intdigest(_packed(ppns)))  # type: ignore[arg-type]


# Receiving -----------------------------------------------------------------------------------------------------------


def judge(batch: PageBatch, body: ReadableBytes, pages: int) -> JudgedBatch:
    """Is that a batch for a guest of so many pages? ``body`` is not copied.

    Raises
    ------
    AdminError : it is not.
    """
    if any(len(numbers) % 4 for numbers in (batch.raw, batch.zero, batch.delta)):
        raise _refused("a list of page numbers is cut off")
    raw, zero, delta = (np.frombuffer(n, "<u4").astype(np.int64) for n in (batch.raw, batch.zero, batch.delta))
    named = np.sort(np.concatenate([raw, zero, delta]))
    if len(named) > MOST_PAGES:
        raise _refused(f"it has {len(named)} pages, and at most {MOST_PAGES} may be together")
    if len(named) and named[-1] >= pages:
        raise _refused(f"it has page {named[-1]:#x}, and the virtual machine has {pages:#x} pages")
    twice = np.flatnonzero(named[1:] == named[:-1])
    if len(twice):
        raise _refused(f"page {named[twice[0]]:#x} is in it twice")
    data = np.frombuffer(body, np.uint8)
    content_bytes = len(raw) << PAGE_SHIFT
    deltas = data[content_bytes:]
    if len(data) < content_bytes or (not len(delta) and len(deltas)):
        raise _refused(f"{len(raw)} whole pages take {content_bytes} bytes, and {len(data)} came")
    if not 0 <= batch.runs_bytes <= len(deltas):
        raise _refused(f"it names {batch.runs_bytes} bytes of runs, and {len(deltas)} bytes of deltas came")
    runs = None
    if len(delta):
        runs = page_delta.judge(len(delta), deltas[: batch.runs_bytes], deltas[batch.runs_bytes :])
    return JudgedBatch(raw, data[:content_bytes].reshape(-1, PAGE_BYTES), zero, delta, runs, batch.check)


def decode(
    batch: PageBatch,
    body: ReadableBytes,
    put: Callable[[int, memoryview], None],
    page_of: Callable[[int], ReadableBytes],
    pages: int,
) -> int:
    """Put every page of a batch; see ``page_source.store`` for a guest's. Returns how many there were.

    Parameters
    ----------
    put : is given a page's number and its 4096 bytes, which are good for the moment. ``page_of``: what it is now.

    Raises
    ------
    AdminError : the batch does not fit; nothing was put.
    """
    judged = judge(batch, body, pages)
    before = np.empty((len(judged.delta), PAGE_BYTES), np.uint8)
    for row, ppn in enumerate(judged.delta.tolist()):
        before[row] = np.frombuffer(page_of(ppn), np.uint8)
    changed = judged.changed(before)
    for ppns, content in ((judged.raw, judged.content), (judged.delta, changed)):
        view = memoryview(content.reshape(-1))  # type: ignore[arg-type]
        for row, ppn in enumerate(ppns.tolist()):
            put(ppn, view[row << PAGE_SHIFT : (row + 1) << PAGE_SHIFT])
    for ppn in judged.zero.tolist():
        put(ppn, ZERO_PAGE)
    return batch.pages


def _refused(why: str) -> AdminError:
    return AdminError(
        f"A batch of pages was refused: {why}. The stream is damaged, or the other host is of another version: look at "
        "the versions of both hosts."
    )
