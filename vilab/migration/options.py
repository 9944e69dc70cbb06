"""How a machine is to be moved: what the administrator, or the lesson, has chosen."""

from __future__ import annotations

from typing import Literal

import msgspec

from vilab.migration.page_stream import Kind
from vilab.migration.termination import NelsonPolicy, PreCopyPolicy

BATCH_PAGES = 64
"""Also where a round has a limit, so that it is sent evenly."""
PATIENCE_NS = 10_000_000_000
MOST_MIGRATIONS = 2
"""At a time, of one host (VI3)."""


class MigrationOptions(msgspec.Struct, frozen=True):
    """``policy``: when to stop the machine. ``kind``: ``raw`` pages, without those of zeros (``zero``), or also as what
    has changed (``delta``). ``order_seed``: of the order in which a round's pages are sent; ``None``: ascending.
    ``order_run_pages``: neighbours that stay together in that order. ``peek``: pages that were written again before
    their turn are left to the next round. ``cache_bytes``: for what was sent, with ``delta``. ``stun_after``: write
    faults of one process in a round, after which it is made to wait (see ``writers``; 0: it is not). ``post_copy``:
    what is left when it is stopped is sent while it runs there already. ``copies``: a page of a machine that runs is
    copied when it is sent; if not, ``send`` has copied what has not left before the machine runs on. ``patience_ns``:
    so long the other host may say nothing before it is given up. ``verify``: when the machine stands still, both hosts
    read all of its memory again before they compare, and not only what was written: a write that nobody has noticed, or
    a page that went wrong after it was checked, is found. It costs downtime."""

    policy: PreCopyPolicy = NelsonPolicy()
    kind: Kind = "zero"
    tracking: Literal["traces", "dirty_bits"] = "traces"
    order_seed: int | None = 1
    order_run_pages: int = 1
    peek: bool = True
    batch_pages: int = BATCH_PAGES
    copies: bool = True
    cache_bytes: int = 64 << 20
    stun_after: int = 0
    post_copy: bool = False
    patience_ns: int = PATIENCE_NS
    verify: bool = False


DEFAULT = MigrationOptions()
