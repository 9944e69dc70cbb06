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
