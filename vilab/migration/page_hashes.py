"""The hashes of what a frame carries: one for each page, good for the frame's tag and for the machine's digest.

::

    body     | page 17 | page 18 | page 40 | runs of deltas, and so on |
                  │         │         │          │         └ the last piece may be shorter
    hashes      16 B      16 B      16 B       16 B         XXH3 of 128 bits, seeded from the session's key
                  └─────────┴────┬────┴──────────┘
    frame tag = HMAC-SHA256(header, message, all of them)         digest of memory: page 17 is 16 B, page 18 ...

So a page is read once on its way, by each side: where it is hashed, it is in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

import msgspec
import xxhash

from vilab.addresses import PAGE_BYTES
from vilab.protocols import ReadableBytes

HASH_BYTES = 16
_AT_ONCE_BYTES = 1 << 20
_PIECES = [slice(at, at + PAGE_BYTES) for at in range(0, _AT_ONCE_BYTES, PAGE_BYTES)]


class PageHashes(msgspec.Struct, frozen=True):
    """``data``: 16 bytes for every 4096 of a body."""

    seed: int
    data: bytes


def hashes_of(parts: Iterable[memoryview], seed: int) -> bytes:
    """Of pieces of 4096 bytes each, from the beginning of every part; what is left at its end is a piece."""
    found: list[bytes] = []
    for part in parts:
        for at in range(0, len(part), _AT_ONCE_BYTES):
            some = part[at : at + _AT_ONCE_BYTES]
            pieces = map(some.__getitem__, _PIECES[: -(-len(some) // PAGE_BYTES)])
            found += map(xxhash.xxh3_128_digest, pieces, repeat(seed))
    return b"".join(found)


def hashes_of_body(parts: Sequence[ReadableBytes], seed: int) -> bytes:
    """Of a body in parts of any size: the pieces are those of the whole."""
    views = [memoryview(part).cast("B") for part in parts]
    whole = 0
    while whole < len(views) and not len(views[whole]) % PAGE_BYTES:
        whole += 1
    found = hashes_of(views[:whole], seed)
    rest = views[whole:]
    return found + hashes_of([memoryview(b"".join(rest))] if len(rest) > 1 else rest, seed)
