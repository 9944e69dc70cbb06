"""Machine memory as a grid: 1 MB squares in address order, each of which opens to its 256 pages.

::

    4096 bytes a page, one byte for what it is used for          what the page draws
    FREE PRIVATE SHARED ZERO MONITOR VMKERNEL  (+ OTHER)
          │
          ├─ up to 65,536 pages (256 MB): all of them ─────────> every square shows its pages
          ├─ more: counts by kind and square, 2 bytes each ────> every square is a stack of its kinds
          └─ of the square that is open: 256 bytes and 256 sentences

So a million pages are some 50 KB a frame. ``OTHER`` marks what does not belong to the one virtual machine that is
looked for. The colours are in ``memory_grid.js``.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.memory.client import MB_PAGES
from vilab.memory.page_state import FrameUse, PageState
from vilab.view.memory_frame import MemoryFrame, VmFrame
from vilab.view.words import counted

MOST_PAGES = 65_536
"""As many are sent one by one."""
NAMED = 4
"""So many sharers are listed one by one, more of them by machine."""

Bytes = npt.NDArray[np.uint8]


class Kind(IntEnum):
    """What a frame is used for, as the picture has it."""

    FREE = 0
    PRIVATE = 1
    SHARED = 2
    ZERO = 3
    MONITOR = 4
    VMKERNEL = 5


OTHER = 8
"""Added where the frame is not the looked-for machine's."""

NAMES = {
    Kind.PRIVATE: "private", Kind.SHARED: "shared", Kind.ZERO: "zeros", Kind.MONITOR: "monitors",
    Kind.VMKERNEL: "vmkernel", Kind.FREE: "free",
}  # fmt: skip
"""In the order of the key under the grid; its number there is the key that filters."""


class Open(msgspec.Struct, frozen=True):
    """One square and its pages. ``words``: a sentence for each."""

    square: int
    kinds: Bytes
    words: tuple[str, ...]


def kinds(frame: MemoryFrame, only: str = "") -> Bytes:
    """A ``Kind`` for each machine frame. ``only``: the name of the machine whose frames are looked for."""
    use, owner = frame.use.array(), frame.owner.array()
    found = np.zeros(len(use), np.uint8)
    found[use == FrameUse.PRIVATE] = Kind.PRIVATE
    found[use == FrameUse.SHARED] = Kind.SHARED
    found[use == FrameUse.OVERHEAD] = Kind.VMKERNEL
    found[(use == FrameUse.OVERHEAD) & (owner > 0)] = Kind.MONITOR
    if frame.zero_frame >= 0:
        found[frame.zero_frame] = Kind.ZERO
    vm = frame.vm(only)
    if vm is not None:
        its = owner == vm.vm_id
        its[vm.shared_on.array()] = True
        found[~its] |= OTHER
    return found


def stacks(kinds_of_pages: Bytes) -> npt.NDArray[np.uint16]:
    """For each square how many of its pages are of each kind; one column more for those that are another's."""
    column = np.where(kinds_of_pages & OTHER, len(Kind), kinds_of_pages).astype(np.int64)
    squares = -(-len(column) // MB_PAGES)
    at = np.arange(len(column)) // MB_PAGES * (len(Kind) + 1) + column
    return np.bincount(at, minlength=squares * (len(Kind) + 1)).astype(np.uint16).reshape(squares, -1)


def opened(frame: MemoryFrame, square: int, kinds_of_pages: Bytes) -> Open:
    """The pages of a square."""
    first = square * MB_PAGES
    part = kinds_of_pages[first : first + MB_PAGES]
    owner, who = frame.owner.array(), frame.who.array()
    sharers = _sharers(frame, first, len(part))
    words = []
    for at, kind in enumerate(part.tolist()):
        mpn = first + at
        vm = frame.vm_of(int(owner[mpn]))
        words.append(_words(mpn, Kind(kind & ~OTHER), vm, int(who[mpn]), sharers.get(mpn, [])))
    return Open(square, part, tuple(words))


def _sharers(frame: MemoryFrame, first: int, count: int) -> dict[int, list[tuple[str, int]]]:
    """(name, ppn) of each page on the shared frames of a stretch."""
    found: dict[int, list[tuple[str, int]]] = {}
    for vm in frame.vms:
        frames = vm.shared_on.array()
        here = (frames >= first) & (frames < first + count)
        if here.any():
            ppns = np.flatnonzero(vm.states.array() == PageState.SHARED)
            for mpn, ppn in zip(frames[here].tolist(), ppns[here].tolist(), strict=True):
                found.setdefault(mpn, []).append((vm.name, ppn))
    return found


def _words(mpn: int, kind: Kind, vm: VmFrame | None, who: int, sharers: list[tuple[str, int]]) -> str:
    where = f"Frame {mpn:05x}"
    name = "a virtual machine that is off" if vm is None else vm.name
    if kind is Kind.PRIVATE:
        return f"{where}: page {who:05x} of {name}, private."
    if kind is Kind.MONITOR:
        return f"{where}: {name}'s monitor."
    if kind in (Kind.SHARED, Kind.ZERO):
        if len(sharers) <= NAMED:
            named = ", ".join(f"{owner} {ppn:05x}" for owner, ppn in sharers)
        else:
            named = ", ".join(f"{count:,} of {owner}" for owner, count in Counter(vm for vm, _ in sharers).items())
        zeros = "all zeros, " if kind is Kind.ZERO else ""
        return f"{where}: {zeros}shared by {counted(len(sharers), 'page')}: {named}. A store gets a copy."
    return f"{where}: {'free' if kind is Kind.FREE else 'the vmkernel’s own'}."


def totals(kinds_of_pages: Bytes) -> dict[Kind, int]:
    """Pages of each kind, whoever's."""
    counts = np.bincount(kinds_of_pages & ~np.uint8(OTHER), minlength=len(Kind))
    return {kind: int(counts[kind]) for kind in Kind}


class Shape(msgspec.Struct, frozen=True):
    """How squares are laid out in ``width`` by ``height`` units: ``columns`` of ``pitch`` units each."""

    squares: int
    columns: int
    rows: int
    pitch: float
    with_pages: bool


PITCHES_WITH_PAGES = (50.0, 34.0, 18.0)
"""16 times 3, 2 or 1 units for the pages, and 2 between squares."""


def shape(pages: int, width: float, height: float) -> Shape:
    """The largest squares that fit; where pages can be seen, so large that each has a whole number of units."""
    squares = -(-pages // MB_PAGES)
    smaller = [step / 4 for step in range(96, 7, -1)]
    for pitch in (*PITCHES_WITH_PAGES, *smaller):
        with_pages = pitch in PITCHES_WITH_PAGES and pages <= MOST_PAGES
        columns = min(squares, int(width // pitch))
        rows = -(-squares // columns)
        if rows * pitch <= height and (with_pages or pitch in smaller):
            return Shape(squares, columns, rows, pitch, with_pages)
    raise ValueError(f"{squares} squares do not fit into {width} by {height}")


def message(frame: MemoryFrame, form: Shape, square: int | None, only: str, cursor: int) -> dict[str, Any]:
    """What the page draws from; ``bytes`` travel as they are. ``square``: which one is open."""
    found = kinds(frame, only)
    sums = totals(found)
    return {
        "squares": form.squares, "columns": form.columns, "rows": form.rows, "pitch": form.pitch,
        "pages": found.tobytes() if form.with_pages else None,
        "stacks": None if form.with_pages else stacks(found).astype("<u2").tobytes(),
        "open": None if square is None else _open_message(opened(frame, square, found)),
        "key": [[int(kind), name, in_mb(sums[kind])] for kind, name in NAMES.items() if sums[kind] or not kind],
        "cursor": cursor, "only": only, "short": frame.free_pages * 10 < frame.machine_pages,
    }  # fmt: skip


def _open_message(square: Open) -> dict[str, Any]:
    return {"square": square.square, "kinds": square.kinds.tobytes(), "words": list(square.words)}


def in_mb(pages: int) -> str:
    """``0.02``, ``5.6``, ``160``: what a digit more would not tell is left out; less than 0.01 is ``<0.01``."""
    mb = pages / MB_PAGES
    if mb == int(mb) or mb >= 100:
        return f"{mb:,.0f}"
    return f"{mb:.1f}" if mb >= 1 else "<0.01" if mb < 0.005 else f"{mb:.2f}"


def size(pages: int) -> str:
    """``5.6 MB``"""
    return f"{in_mb(pages)} MB"
