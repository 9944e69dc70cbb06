"""Post-copy: the machine runs at the destination before its memory is there.

::

    source                                                   destination
    (the machine is stunned; its state has been sent, its files are handed over)
    PostBegin    which pages are still here         ──>      the machine runs; these pages have no frame
    PostPages    pages, by and by                   ──>      HERE
                                                    <──      PostNeed: the machine waits for these
    PostPages    these, before all others           ──>      HERE; it goes on
    ...
                                                    <──      PostAllHere: the source may forget the machine
    PostFailed   either: the machine is off

    a page at the destination     MISSING ──touched──> ASKED ──arrives──> HERE
                                     └───────arrives unasked───────────────┘

Downtime is that of the state alone, whatever the machine writes, and each page is sent once. The price: a touched page
takes a round trip, and from ``PostBegin`` on neither side alone has the machine. If the connection is cut then, it is
off, on both hosts, and its disk is as after a power cut. Pages that pre-copy has brought and that were not written
since are HERE from the beginning.

Sources: Hines, Deshpande, Gopalan 2009, "Post-copy live migration of virtual machines" (demand paging, active push,
bubbling); Zayas 1987, "Attacking the process migration bottleneck" (copy on reference).
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.errors import AdminError
from vilab.migration.page_stream import PageBatch

Numbers = npt.NDArray[np.int64]

MOST_ASKED = 256
"""Pages in one ``PostNeed``."""
DISAGREE = "the agents of both hosts do not agree; look at their versions."


class PostMessage(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """``session``: of the migration."""

    session: str


class PostBegin(PostMessage, frozen=True, tag=True):
    """``missing``: a bit for each page, that of page 0 first (the highest of the first byte)."""

    missing: bytes


class PostPages(PostMessage, frozen=True, tag=True):
    batch: PageBatch


class PostNeed(PostMessage, frozen=True, tag=True):
    """``ppns``: 4 bytes each, little-endian."""

    ppns: bytes


class PostAllHere(PostMessage, frozen=True, tag=True):
    """Nothing is needed of the source any more."""


class PostFailed(PostMessage, frozen=True, tag=True):
    why: str


def pack_missing(missing: Numbers, pages: int) -> bytes:
    """``missing``: numbers of pages."""
    bits = np.zeros(pages, np.bool_)
    bits[missing] = True
    return np.packbits(bits).tobytes()


def unpack_missing(packed: bytes, pages: int) -> npt.NDArray[np.bool_]:
    """Of each page. Raises ``AdminError``: those are the bits of another machine."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.bool_)
    if len(packed) != -(-pages // 8) or bits[pages:].any():
        raise AdminError(f"The source names missing pages of a machine that has not {pages} pages: {DISAGREE}")
    return bits[:pages]


def pack_needed(ppns: Numbers) -> bytes:
    return ppns.astype("<u4").tobytes()


def unpack_needed(packed: bytes, pages: int) -> Numbers:
    """Raises ``AdminError``: no list of pages."""
    if len(packed) % 4 or len(packed) > 4 * MOST_ASKED:
        raise AdminError(
            f"The destination asks for pages in {len(packed)} bytes, which is no list of up to {MOST_ASKED}: {DISAGREE}"
        )
    ppns = np.frombuffer(packed, "<u4").astype(np.int64)
    if len(ppns) and ppns.max() >= pages:
        raise AdminError(f"The destination asks for page {ppns.max():#x} of a machine of {pages:#x} pages: {DISAGREE}")
    return ppns
