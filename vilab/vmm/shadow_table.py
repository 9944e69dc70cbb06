"""One shadow page table, and one shadow directory: the records that ``shadow_paging`` keeps.

::

    guest directory (ppn) ──> Root: 1024 shadow PDEs ──> ShadowTable: 1024 shadow PTEs ──> mpa
                                                          key: what of the guest it stands for
    key   (SMALL, page of the guest's table, W and U of the guest's PDE)
          (LARGE, gpa of a 4 MB page, W, U and D of the guest's PDE)

Two guest directories that lead to the same guest table (a kernel's part of every process, mostly) share its shadow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vilab.vmm.walk import Mapping
from vilab.x86 import paging as pg

SMALL, LARGE = 0, 1
CODE, TABLE, CODE_MAP = 1, 2, 4
"""Why a page is traced: code was translated from it, it holds a page table, it holds a table that maps code."""

Key = tuple[int, int, int]
Words = npt.NDArray[np.uint32]
RIGHTS = pg.WRITABLE | pg.USER
PDE_SEEN = pg.FRAME_MASK | pg.LARGE | pg.ACCESSED | RIGHTS | pg.PRESENT
"""What of a PDE a link rests on; of a large one D, too."""
FLAT = RIGHTS | pg.DIRTY


class ShadowTable:
    """``at``: its first dword in machine memory. ``links``: the (root, directory index) that lead here.

    ``swept``: a bit for each entry that was stored to since the table was last used; a kernel that clears the page
    does not use it as a table any more. ``snapshot``: the guest's entries as the shadow's were made from them
    (prevalidation only); ``page``: the guest's whole table when they all agreed with it, ``None`` since one was filled.
    """

    __slots__ = ("at", "key", "links", "page", "snapshot", "swept")

    def __init__(self, key: Key, at: int) -> None:
        self.key = key
        self.at = at
        self.links: dict[tuple[Root, int], None] = {}
        self.swept = 0
        self.snapshot: Words | None = None
        self.page: bytes | None = None

    @property
    def is_large(self) -> bool:
        return self.key[0] == LARGE

    @property
    def ppn(self) -> int:
        """The page that the guest's table lies in."""
        return self.key[1] >> 12

    def __repr__(self) -> str:
        kind, base, flags = self.key
        return f"<ShadowTable of {'4 MB page' if kind else 'table'} {base:08x}, rights {flags:x}, at dword {self.at:x}>"


class Root:
    """A shadow directory. ``name``: the guest directory's ppn, -1 without paging. ``pdes``: as they were linked;
    ``page``: the whole directory when they all agreed with it, ``None`` since one was linked."""

    __slots__ = ("at", "name", "page", "pdes", "tables")

    def __init__(self, name: int, at: int) -> None:
        self.name = name
        self.at = at
        self.tables: dict[int, ShadowTable] = {}
        self.pdes: dict[int, int] = {}
        self.page: bytes | None = None

    @property
    def mpn(self) -> int:
        return self.at >> 10

    def __repr__(self) -> str:
        return f"<Root of directory page {self.name:x}, {len(self.tables)} tables>"


def key_of(gva: int, mapping: Mapping) -> Key:
    """What stands behind the 4 MB around ``gva``."""
    if mapping.large:
        pde = mapping.entry or FLAT
        return LARGE, mapping.gpa & pg.LARGE_FRAME_MASK, pde & (RIGHTS | pg.DIRTY)
    return SMALL, mapping.pde & pg.FRAME_MASK, mapping.pde & RIGHTS


def seen(pde: int) -> int:
    """The part of a guest PDE that must not change under a link."""
    return pde & (PDE_SEEN | pg.DIRTY if pde & pg.LARGE else PDE_SEEN)
