"""A guest's pages, into batches and out of them.

::

    source        pmap ──> machine frames, by number ──────────> encode ──> record, buffers
                       └─> swapped out: read, side by side ──┘
    destination   record, body ──> judge ──> frames that are there: all at once
                                         └─> others: one by one, through the pmap, which finds frames for them

Nothing changes at the source: a page that is watched stays so, one that is swapped out stays where it is. At the
destination a page of zeros that has no frame gets none.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT, Ppn
from vilab.memory.managed_pmap import BALLOONED, PRIVATE, UNTOUCHED, ManagedPmap
from vilab.memory.page_state import FLAGS
from vilab.migration.page_stream import Kind, PageBatch, encode_rows, judge
from vilab.migration.sent_pages import SentPages
from vilab.protocols import ReadableBytes

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_STATE = np.uint8(~FLAGS & 0xFF)


def encode_pages(
    pmap: ManagedPmap,
    ppns: Sequence[int] | Numbers,
    kind: Kind = "zero",
    cache: SentPages | None = None,
    copy: bool = False,
) -> tuple[PageBatch, list[ReadableBytes]]:
    """A batch of a guest's pages.

    Parameters
    ----------
    ppns : different ones.
    copy : the bytes are those of this moment, even if the guest runs before they have left. Else the buffers are
        machine memory itself. Deltas are always of a copy.
    """
    numbers = np.asarray(ppns, np.int64)
    mpns, zeros, away = frames_of(pmap, numbers), None, False
    framed = mpns >= 0
    if not framed.all():
        states = states_of(pmap, numbers)
        nothing = (states == UNTOUCHED) | (states == BALLOONED)
        away = bool((~framed & ~nothing).any())
        zeros, numbers, mpns = numbers[nothing], numbers[~nothing], mpns[~nothing]
    memory = pmap.memory.bytes.reshape(-1, PAGE_BYTES)
    if away or copy:
        memory, mpns = contents(pmap, numbers), np.arange(len(numbers))
    return encode_rows(numbers, mpns, memory, kind, cache, zeros)


def store_pages(pmap: ManagedPmap, batch: PageBatch, body: ReadableBytes) -> int:
    """Write a batch into a guest that does not run; listeners of its pmap hear of it. Returns how many pages it had.

    Raises
    ------
    AdminError : the batch does not fit; nothing was written.
    """
    judged = judge(batch, body, pmap.pages)
    changed = judged.changed(contents(pmap, judged.delta))
    write_pages(pmap, judged.raw, judged.content)
    if len(changed):
        write_pages(pmap, judged.delta, changed)
    zero = judged.zero
    states = states_of(pmap, zero)
    zero = zero[(states != UNTOUCHED) & (states != BALLOONED)]
    if len(zero):
        write_pages(pmap, zero, np.broadcast_to(np.zeros(PAGE_BYTES, np.uint8), (len(zero), PAGE_BYTES)))
    return batch.pages


def write_pages(pmap: ManagedPmap, ppns: Numbers, content: Bytes) -> None:
    """Write whole pages: shape (pages, 4096). Nothing else may use the pmap meanwhile."""
    # Those that may be written where they are go first: finding a frame for another may take theirs away.
    states = np.frombuffer(pmap.state, np.uint8)[ppns]
    at_once = states == PRIVATE  # neither watched nor traced
    known = ppns[at_once]
    new = np.flatnonzero(states == UNTOUCHED)
    at_once[new[: pmap.supply.pages_needed(pmap, ppns[new])]] = True
    if at_once.any():
        memory, all_of_them = pmap.memory.bytes.reshape(-1, PAGE_BYTES), bool(at_once.all())
        memory[frames_of(pmap, ppns if all_of_them else ppns[at_once])] = content if all_of_them else content[at_once]
        for listener in pmap.listeners:
            for ppn in known.tolist():
                listener.page_content_changed(Ppn(ppn), 0, PAGE_BYTES)
    for row in np.flatnonzero(~at_once).tolist():
        pmap.write(int(ppns[row]) << PAGE_SHIFT, content[row].tobytes())


def frames_of(pmap: ManagedPmap, ppns: Numbers) -> Numbers:
    """The machine frame of each page, -1 for none."""
    assert isinstance(pmap.mpn_of, array)
    return np.frombuffer(pmap.mpn_of, np.int32)[ppns].astype(np.int64)


def states_of(pmap: ManagedPmap, ppns: Numbers) -> Bytes:
    """The ``PageState`` of each page."""
    return np.frombuffer(pmap.state, np.uint8)[ppns] & _STATE


def contents(pmap: ManagedPmap, ppns: Numbers) -> Bytes:
    """A copy of these pages, wherever they are: shape (pages, 4096). Nothing changes."""
    mpns = frames_of(pmap, ppns)
    there = mpns >= 0
    if there.all():
        return pmap.memory.bytes.reshape(-1, PAGE_BYTES)[mpns]
    found = np.zeros((len(ppns), PAGE_BYTES), np.uint8)
    found[there] = pmap.memory.bytes.reshape(-1, PAGE_BYTES)[mpns[there]]
    for row in np.flatnonzero(~there).tolist():
        found[row] = np.frombuffer(pmap.page(int(ppns[row])), np.uint8)
    return found
