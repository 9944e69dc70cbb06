"""What the memory manager reports: the events of ``vilab/memory/``."""

from __future__ import annotations

from vilab.events import Event


class PageShared(Event, frozen=True, tag=True):
    """A page's content was there already: its frame ``from_mpn`` was freed and it reads ``mpn`` with the others.

    ``promoted`` is (VM id, ppn) of the page that had a hint and a frame of its own until now, which is ``mpn``.
    ``sharers``: pages on the frame, this one included.
    """

    vm: int
    ppn: int
    from_mpn: int
    mpn: int
    sharers: int
    promoted: tuple[int, int] | None = None


class SharingBroken(Event, frozen=True, tag=True):
    """A store to a shared page: it got the copy ``mpn``, or, as the last one on ``from_mpn``, that frame itself.

    ``sharers``: pages that stay on ``from_mpn``.
    """

    vm: int
    ppn: int
    from_mpn: int
    mpn: int
    sharers: int


class SharedFrameLeft(Event, frozen=True, tag=True):
    """A page that was ballooned, swapped out or powered off has left a shared frame. 0 ``sharers``: it is free."""

    mpn: int
    sharers: int


class FalseMatch(Event, frozen=True, tag=True):
    """Same hash, other content than frame ``mpn``: the page is not shared."""

    vm: int
    ppn: int
    mpn: int
    page_hash: int


class HintStored(Event, frozen=True, tag=True):
    """Nobody has this content: the page is noted, and may still be written. Only where hints are asked for."""

    vm: int
    ppn: int
    page_hash: int


class HintDropped(Event, frozen=True, tag=True):
    """The hinted page has changed or gone. ``vm`` and ``ppn`` are of the hint. Only where hints are asked for."""

    vm: int
    ppn: int
    page_hash: int


class BalloonTargetSet(Event, frozen=True, tag=True):
    """The host wants so many pages in the balloon; ``asked_pages`` may be more than a balloon takes."""

    vm: int
    target_pages: int
    asked_pages: int


class BalloonLocked(Event, frozen=True, tag=True):
    """The guest's driver has given ``pages`` in one call, ``refused`` others were not taken; ``locked_pages`` are in
    the balloon now."""

    vm: int
    pages: int
    refused: int
    locked_pages: int


class BalloonUnlocked(Event, frozen=True, tag=True):
    """The guest's driver has taken ``pages`` back in one call."""

    vm: int
    pages: int
    refused: int
    locked_pages: int


class BalloonPopped(Event, frozen=True, tag=True):
    """The guest has touched a page in the balloon: it got one, and its driver will have to start again."""

    vm: int
    ppn: int


class BalloonReset(Event, frozen=True, tag=True):
    """The driver has started (again): the ``released_pages`` that were in the balloon are the guest's."""

    vm: int
    released_pages: int
    capabilities: int


class BalloonLied(Event, frozen=True, tag=True):
    """The driver has said what cannot be. Nothing was changed."""

    vm: int
    sentence: str


# The memory manager ----------------------------------------------------------------------------------------------


class FreeStateChanged(Event, frozen=True, tag=True):
    """Free memory has crossed a threshold: ``high``, ``soft``, ``hard``, ``low``."""

    was: str
    state: str
    free_pages: int
    total_pages: int


class TargetsComputed(Event, frozen=True, tag=True):
    """Memory was allocated anew. For each VM: (vm, target, charged, active), in pages."""

    why: str
    targets: tuple[tuple[int, int, int, int], ...]


class WorkingSetSampled(Event, frozen=True, tag=True):
    """A sampling period is over: so many of the sampled pages were touched; the estimates are fractions."""

    vm: int
    sampled: int
    touched: int
    slow: float
    fast: float
    active_pages: int


class PageSwappedOut(Event, frozen=True, tag=True):
    """A page went to the host's swap file."""

    vm: int
    ppn: int
    slot: int


class PageSwappedIn(Event, frozen=True, tag=True):
    """A page came back from the host's swap file. ``for_device``: a device wanted to read it."""

    vm: int
    ppn: int
    slot: int
    for_device: bool


class DoublePaged(Event, frozen=True, tag=True):
    """The guest writes a page to its own swap that the host had swapped out: read from one disk to be written to
    another. Waldspurger 2002, section 3.1."""

    vm: int
    ppn: int


class VmBlocked(Event, frozen=True, tag=True):
    """Memory is low and the VM is above its target: it does not run."""

    vm: int
    charged_pages: int
    target_pages: int


class VmUnblocked(Event, frozen=True, tag=True):
    """It runs again."""

    vm: int


class MemoryCompacted(Event, frozen=True, tag=True):
    """Pages were moved so that so many adjacent frames came free for a monitor."""

    first_mpn: int
    frames: int
    moved_pages: int
