"""The hash table of page sharing: by a page's content to who has it.

::

    hash of a page   | 63 ... 32 |31 ... 3| 2..0 |
                          |                  |
                          v                  v where the search for a hint to evict begins
      bucket = top half * buckets >> 32
          |
          v    frame 0    frame 1    ...   frame 7
       +----------+----------+-----+----------+
       |   hash   |   hash   | ... |   hash   |    64 bytes: one line of the cache
       +----------+----------+-----+----------+
       |   what   |   what   | ... |   what   |    64 bytes, looked at where a hash matches
       +----------+----------+-----+----------+

       16 bytes       hash           what: 63..48   47..32   31..0
       empty frame    0                    0         0        0
       hint frame     of its content       1       VM id     ppn     some page had this content once
       shared frame   of its content       2         0       mpn     all these pages are on this frame

How many pages are on a shared frame stands in the frame table. One hash is in the table once at most;
no page's hash is 0.

Room: three slots for every two frames of the machine, so 24 bytes a frame. With 7 of the frame table, 1 of the
allocator and 5 of a page's pmap, 4 GB of memory under 4 GB of guests cost 0.9 % of it.

Where a bucket is full, a hint makes room: it is only a note, and its page leaves another one when it is next chosen.
A shared frame never goes before its last page does. Overcommitment does not change that: a page has a hint only while
it has a frame, and shared frames are frames too, so what counts is the machine's size and not that of its guests;
hints that have outlived their page's content are what fills buckets up. A page gets on a shared frame by way of a
hint, in the hint's slot, so the one thing that a bucket full of shared frames refuses is another hint.

Source: Waldspurger 2002, section 4.2 (one global table, frames of 16 bytes, hints and shared frames).
MODEL: the paper chains frames and truncates the hash of a hint; here buckets take the place of chains, so that many
hashes are looked up at once, and the room of the links holds whole hashes. The paper stays under 0.5 % of memory.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vilab.errors import VmmBug

WAYS = 8
ENTRY_BYTES = 16
NOWHERE = -1
"""In place of a slot."""

Hashes = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.int64]


class EntryKind(IntEnum):
    EMPTY = 0
    HINT = 1
    SHARED = 2


EMPTY, HINT, SHARED = (int(kind) for kind in EntryKind)


class Entry(NamedTuple):
    """``number``: the mpn of a shared frame (``vm_id`` is 0 then), or the ppn of a hint."""

    kind: EntryKind
    vm_id: int
    number: int


def _pick_table() -> Slots:
    """``[set of slots, start]``: the first slot of the set from ``start`` on, around the end; 8 if it is empty."""
    rows = (
        [next((at & 7 for at in range(start, start + WAYS) if slots >> (at & 7) & 1), WAYS) for start in range(WAYS)]
        for slots in range(1 << WAYS)
    )
    return np.array(list(rows), np.int64)


_PICK = _pick_table()
_FIRST = _PICK[:, 0].copy()


class SharingTable:
    """One for all virtual machines of a host.

    Parameters
    ----------
    frames : of the machine.
    """

    def __init__(self, frames: int) -> None:
        self.buckets = max(1, -(-frames * 3 // (2 * WAYS)))
        self.slots = self.buckets * WAYS
        self._hash, self._what = _lines(self.buckets), _lines(self.buckets)
        self._flat_hash, self._flat_what = self._hash.reshape(-1), self._what.reshape(-1)
        self.hints = 0
        self.shared = 0
        self.evicted = 0
        """Hints that have made room."""

    def size_bytes(self) -> int:
        return self._hash.nbytes + self._what.nbytes

    # Many at once --------------------------------------------------------------------------------------------------

    def find_many(self, hashes: Hashes) -> Slots:
        """The slot of each hash, or ``NOWHERE``."""
        buckets = self._buckets_of(hashes)
        way = _FIRST.take(_set_of(self._hash.take(buckets, 0, mode="clip") == hashes[:, None]))
        return np.where(way < WAYS, buckets * WAYS + way, NOWHERE)

    def leave_hints(self, hashes: Hashes, vm_ids: Slots, ppns: Slots) -> Slots:
        """Store hints of pages as far as that concerns nobody else, as if one page came after another.

        Done are those pages that are the first to come to their bucket, and whose hash is not in the table, or in a
        hint of just that page. Returns where the others are.
        """
        buckets, what = self._buckets_of(hashes), _words(HINT, vm_ids, ppns)
        rows = self._hash.take(buckets, 0, mode="clip")
        way = _FIRST.take(_set_of(rows == hashes[:, None]))
        done = way == WAYS
        known = np.flatnonzero(~done)
        done[known] = self._what[buckets[known], way[known]] == what[known]
        done[_not_first(buckets)] = False
        way[known] = NOWHERE
        new = np.flatnonzero(done & (way == WAYS))
        self._put(buckets[new], _FIRST.take(_set_of(rows == 0))[new], hashes[new], what[new])
        return np.flatnonzero(~done)

    def _put(self, buckets: Slots, way: Slots, hashes: Hashes, what: Hashes) -> None:
        """New hints, each in a bucket of its own, of which ``way`` is the first empty frame, or 8."""
        slots, gone = buckets * WAYS + way, 0
        full = np.flatnonzero(way == WAYS)
        if len(full):
            hints = _set_of(self._what[buckets[full]] >> np.uint64(48) == HINT)
            way[full] = _PICK[hints, hashes[full] & np.uint64(WAYS - 1)]
            slots, fits = buckets * WAYS + way, way < WAYS
            gone = int(np.count_nonzero(fits[full]))
            slots, hashes, what = slots[fits], hashes[fits], what[fits]
        self._flat_hash[slots], self._flat_what[slots] = hashes, what
        self.evicted += gone
        self.hints += len(slots) - gone

    def _buckets_of(self, hashes: Hashes) -> Slots:
        return ((hashes >> np.uint64(32)) * np.uint64(self.buckets) >> np.uint64(32)).view(np.int64)

    def drop_hints(self) -> None:
        """Every page is unknown again but for those that are shared."""
        gone = self._flat_what >> np.uint64(48) == HINT
        self._flat_hash[gone] = self._flat_what[gone] = 0
        self.hints = 0

    # One at a time -------------------------------------------------------------------------------------------------

    def find(self, page_hash: int) -> int:
        """The slot of a hash, or ``NOWHERE``."""
        bucket = (page_hash >> 32) * self.buckets >> 32
        row = self._hash[bucket].tolist()
        return bucket * WAYS + row.index(page_hash) if page_hash in row else NOWHERE

    def entry(self, slot: int) -> Entry:
        what = int(self._flat_what[slot])
        return Entry(EntryKind(what >> 48), what >> 32 & 0xFFFF, what & 0xFFFF_FFFF)

    def put_hint(self, page_hash: int, vm_id: int, ppn: int) -> bool:
        """A hint of a hash that is not in the table. False: the bucket is full of shared frames."""
        bucket = (page_hash >> 32) * self.buckets >> 32
        row = self._hash[bucket].tolist()
        if 0 in row:
            way = row.index(0)
            self.hints += 1
        else:
            hints = sum((what >> 48 == HINT) << at for at, what in enumerate(self._what[bucket].tolist()))
            way = int(_PICK[hints, page_hash & WAYS - 1])
            if way == WAYS:
                return False
            self.evicted += 1
        self._hash[bucket, way], self._what[bucket, way] = page_hash, HINT << 48 | vm_id << 32 | ppn
        return True

    def hint_instead(self, slot: int, vm_id: int, ppn: int) -> None:
        """Another page has the hint's hash now."""
        self._expect(slot, HINT)
        self._flat_what[slot] = HINT << 48 | vm_id << 32 | ppn

    def promote(self, slot: int, mpn: int) -> None:
        """The hint becomes a shared frame."""
        self._expect(slot, HINT)
        self._flat_what[slot] = SHARED << 48 | mpn
        self.hints -= 1
        self.shared += 1

    def drop_hint(self, slot: int) -> None:
        self._expect(slot, HINT)
        self._flat_hash[slot] = self._flat_what[slot] = 0
        self.hints -= 1

    def drop_shared(self, page_hash: int, mpn: int) -> None:
        """The frame is shared no longer."""
        slot = self.find(page_hash)
        if slot == NOWHERE or self.entry(slot) != (SHARED, 0, mpn):
            raise VmmBug(f"Shared frame {mpn:#x} is not in the hash table: somebody has written to it.")
        self._flat_hash[slot] = self._flat_what[slot] = 0
        self.shared -= 1

    def move_shared(self, page_hash: int, old: int, new: int) -> None:
        """What stood in one frame stands in another."""
        slot = self.find(page_hash)
        if slot == NOWHERE or self.entry(slot) != (SHARED, 0, old):
            raise VmmBug(f"Shared frame {old:#x} is not in the hash table: somebody has written to it.")
        self._flat_what[slot] = SHARED << 48 | new

    # To look at ----------------------------------------------------------------------------------------------------

    def shared_frames(self) -> dict[int, int]:
        """mpn to hash, of all shared frames."""
        at = np.flatnonzero(self._flat_what >> np.uint64(48) == SHARED)
        mpns = (self._flat_what[at] & np.uint64(0xFFFF_FFFF)).tolist()
        return dict(zip(mpns, self._flat_hash[at].tolist(), strict=True))

    def hinted_pages(self) -> dict[int, tuple[int, int]]:
        """Hash to (VM id, ppn), of all hints."""
        at = np.flatnonzero(self._flat_what >> np.uint64(48) == HINT)
        what = self._flat_what[at]
        vm_ids, ppns = what >> np.uint64(32) & np.uint64(0xFFFF), what & np.uint64(0xFFFF_FFFF)
        pages = zip(vm_ids.tolist(), ppns.tolist(), strict=True)
        return dict(zip(self._flat_hash[at].tolist(), pages, strict=True))

    def _expect(self, slot: int, kind: int) -> None:
        found = self.entry(slot).kind
        if found != kind:
            raise VmmBug(f"Slot {slot} of the sharing table holds {found.name}, not {EntryKind(kind).name}.")


def _lines(buckets: int) -> Hashes:
    """Zeros, a line of the cache a row."""
    raw = np.zeros((buckets + 1) * WAYS, np.uint64)
    start = -raw.ctypes.data % (WAYS * 8) // 8
    return raw[start : start + buckets * WAYS].reshape(buckets, WAYS)


def _not_first(buckets: Slots) -> Slots:
    """Where a bucket stands that has stood before."""
    bits = len(buckets).bit_length()
    order = np.sort(buckets << bits | np.arange(len(buckets)))
    later: Slots = order[1:][order[1:] >> bits == order[:-1] >> bits] & (1 << bits) - 1
    return later


def _set_of(marks: npt.NDArray[np.bool_]) -> Hashes:
    """Each row's eight marks as the bits of a number. Byte i of a row times 2**(56 - 7 i) is bit 56 + i, and no two of
    the products of this multiplication fall on the same bit."""
    return marks.view("<u8")[:, 0] * np.uint64(0x0102_0408_1020_4080) >> np.uint64(56)


def _words(kind: int, vm_ids: Slots, numbers: Slots) -> Hashes:
    words: Hashes = (vm_ids << 32 | numbers | kind << 48).view(np.uint64)
    return words
