"""A digest of all of a virtual machine: what source and destination compare at the moment it changes hands.

::

    ppn       0      1      2      3   ...                vCPU, devices, balloon, page states
            +------+------+------+------+                      │ msgpack
    page    | XXH3 |  0   | XXH3 | XXH3 |  128 bits each       │
            +------+------+------+------+                      v
               └── pages of zeros: 0, unread ─┐          name, length, bytes; ...
                                              v                │
                            XXH3 of the whole row ──────> XXH3 of everything

A page that was hashed and not written since need not be hashed again: most of the work is done while the machine runs,
and at the end only what the last round has left. Pages that travel as they are were hashed by the session that carries
them, at the source as they left and at the destination as they came: these hashes are taken (``moved``). Where frames
are, and what the host has shared or swapped out, does not count: the digest is of what the guest can see, and of what
is behind its pages as a snapshot says it.

XXH3 finds every accident and no malice; the stream is protected against that by its session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import AdminError
from vilab.memory.managed_pmap import BALLOONED, UNTOUCHED, ManagedPmap
from vilab.migration.page_hashes import PageHashes
from vilab.migration.page_source import contents, frames_of, states_of
from vilab.migration.page_stream import PageBatch, zero_rows
from vilab.protocols import ReadableBytes

Numbers = npt.NDArray[np.int64]


class MemoryDigest:
    """Hashes of a guest's pages, each as of when it was last looked at.

    Whoever has it says which pages are written (``written``); in the beginning all are. All hashes have one seed: that
    of the first ones that a session has made, which are the same on both sides; without a session 0.
    """

    def __init__(self, pmap: ManagedPmap) -> None:
        self._pmap = pmap
        self._hashes = np.zeros((pmap.pages, 16), np.uint8)
        self._stale = np.ones(pmap.pages, np.bool_)
        self._seed: int | None = None
        self._hash_of_zeros = np.zeros(2, np.uint64)

    @property
    def stale_pages(self) -> int:
        """Have to be hashed before there is a digest."""
        return int(np.count_nonzero(self._stale))

    def written(self, ppns: Numbers) -> None:
        """What is known of these pages is not true any more."""
        self._stale[ppns] = True

    def look(self, ppns: Numbers) -> None:
        """Hash these pages if they are stale: they were just read or written, and are at hand."""
        self._hash(ppns[self._stale[ppns]])

    def moved(self, batch: PageBatch, hashes: PageHashes | None) -> None:
        """These pages have just left, or come: they are now what the batch says. ``hashes``: of its body, if a session
        has made them; without them the pages are hashed where they are."""
        raw, zero, delta = (np.frombuffer(n, "<u4").astype(np.int64) for n in (batch.raw, batch.zero, batch.delta))
        self._hashes[zero], self._stale[zero] = 0, False
        if hashes is not None and len(raw):
            self._begin(hashes.seed)
        if hashes is not None and hashes.seed == self._seed:
            found = np.frombuffer(hashes.data, np.uint64, 2 * len(raw)).reshape(-1, 2)
            empty = (found == self._hash_of_zeros).all(axis=1)
            self._hashes.view(np.uint64)[raw] = np.where(empty[:, None], np.uint64(0), found)
            self._stale[raw] = False
        else:
            delta = np.concatenate([delta, raw])
        self._stale[delta] = True
        self._hash(delta)

    def digest(self) -> bytes:
        """16 bytes for all of memory, of this moment."""
        self._hash(np.flatnonzero(self._stale))
        return xxhash.xxh3_128_digest(self._hashes.tobytes())

    def differing(self, others: ReadableBytes) -> Numbers:
        """The pages whose hashes are not those of another side's ``hashes``."""
        there = np.frombuffer(others, np.uint8).reshape(-1, 16)
        return np.flatnonzero((self._hashes != there).any(axis=1))

    def hashes(self) -> bytes:
        """16 bytes a page, after ``digest``: to find out which pages differ."""
        return self._hashes.tobytes()

    def _begin(self, seed: int) -> None:
        if self._seed is None:
            self._seed = seed
            self._hash_of_zeros = np.frombuffer(xxhash.xxh3_128_digest(bytes(PAGE_BYTES), seed), np.uint64)

    def _hash(self, ppns: Numbers) -> None:
        if not len(ppns):
            return
        pmap = self._pmap
        self._stale[ppns] = False
        self._hashes[ppns] = 0
        states = states_of(pmap, ppns)
        ppns = ppns[(states != UNTOUCHED) & (states != BALLOONED)]
        memory, rows = pmap.memory.bytes.reshape(-1, PAGE_BYTES), frames_of(pmap, ppns)
        away = rows < 0
        if away.any():
            self._hash_rows(ppns[away], contents(pmap, ppns[away]), np.arange(np.count_nonzero(away)))
            ppns, rows = ppns[~away], rows[~away]
        self._hash_rows(ppns, memory, rows)

    def _hash_rows(self, ppns: Numbers, memory: npt.NDArray[np.uint8], rows: Numbers) -> None:
        full = ~zero_rows(memory.view(np.uint64), rows)
        if not full.any():
            return
        self._begin(0)
        ppns, starts = ppns[full], (rows[full] << PAGE_SHIFT).tolist()
        view = memoryview(memory.reshape(-1))  # type: ignore[arg-type]
        page_hash, seed = xxhash.xxh3_128_digest, self._seed or 0
        found = b"".join([page_hash(view[start : start + PAGE_BYTES], seed) for start in starts])
        self._hashes[ppns] = np.frombuffer(found, np.uint8).reshape(-1, 16)


def state_digest(memory: MemoryDigest, parts: Mapping[str, Any]) -> dict[str, bytes]:
    """Of each part and of ``memory``, 16 bytes each: short enough to be sent, and to say what it is that differs.

    Parameters
    ----------
    parts : by name, whatever msgpack can hold: the records of ``save_state``, that of the machine without its memory.
        In what order the entries of a dictionary stand does not count.
    """
    return {**{name: _digest_of(part) for name, part in parts.items()}, "memory": memory.digest()}


def compare(vm: str, source: str, destination: str, sent: Mapping[str, bytes], here: Mapping[str, bytes]) -> None:
    """Is what arrived what was sent?

    Raises
    ------
    AdminError : it is not; the sentence says which parts.
    """
    names = sorted({*sent, *here})
    wrong = [name for name in names if sent.get(name) != here.get(name)]
    if wrong:
        raise AdminError(
            f"{vm} was not resumed on {destination}: its {' and '.join(wrong)} there and on {source} are not the same. "
            f"It goes on on {source}; move it again, and look at the network between the two if that fails as well."
        )


def _digest_of(part: Any) -> bytes:
    plain = msgspec.to_builtins(
        part, builtin_types=(bytes, bytearray, memoryview), str_keys=True, order="deterministic"
    )
    return xxhash.xxh3_128_digest(msgspec.msgpack.encode(plain))
