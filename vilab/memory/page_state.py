"""What can be behind a guest's page, and what a machine frame can be used for.

::

                      first access                 another page has the same content
        UNTOUCHED ───────────────────> PRIVATE ────────────────────────────────────> SHARED
                                       │ ^ ^ ^                                         │ │
             the balloon takes it      │ │ │ └──────── a store: a copy of its own ─────┘ │
        BALLOONED <────────────────────┤ │ └──── swapped in                              │
             └── given back, accessed ─│─┘         │                                     │
                                       └────────> SWAPPED <──────────── (the copy) ──────┘
                                     host swapping

Only PRIVATE and SHARED have a frame. Waldspurger 2002, sections 2 to 4.
"""

from __future__ import annotations

from enum import IntEnum


class PageState(IntEnum):
    """Of a guest's page. With ``SAMPLED`` added its next access is awaited, with ``TRACED`` its next write."""

    UNTOUCHED = 0
    """Zero on demand: never accessed, no frame."""
    PRIVATE = 1
    SHARED = 2
    """Read-only; a store gets a copy."""
    BALLOONED = 3
    """The guest's own balloon driver has it: no frame."""
    SWAPPED = 4
    """In the swap file."""


SAMPLED = 0x80
"""In a page's state byte: its mappings were dropped, and the next access counts as a touch."""
TRACED = 0x40
"""Its mappings are read-only, and the next write is noted: see ``dirty_log``."""
FLAGS = SAMPLED | TRACED


class FrameUse(IntEnum):
    """Of a machine frame."""

    FREE = 0
    OVERHEAD = 1
    """A monitor's: translation cache, shadow or nested tables."""
    PRIVATE = 2
    """One page of one guest."""
    SHARED = 3
    """Any number of pages of any guests, all reading."""
