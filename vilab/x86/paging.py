"""Two-level 32-bit paging: how an address is split, and what an entry says.

::

     31          22 21          12 11           0
    +--------------+--------------+--------------+
    |  directory   |    table     |    offset    |      CR3 -> PDE -> PTE -> page of 4 KB
    +--------------+--------------+--------------+
     31          22 21                           0
    +--------------+-----------------------------+
    |  directory   |           offset            |      CR3 -> PDE with PS -> page of 4 MB (CR4.PSE)
    +--------------+-----------------------------+

     31                       12 11    9  8   7   6   5   4   3   2   1   0
    +---------------------------+-------+---+---+---+---+---+---+---+---+---+
    |  page frame               | free  | G |PAT| D | A |PCD|PWT| U | W | P |  PTE
    |  page table               | free  | 0 |PS0| - | A |PCD|PWT| U | W | P |  PDE
    |  4 MB frame (31-22)   0   | free  | G |PS1| D | A |PCD|PWT| U | W | P |  PDE with PS; bit 12 is PAT
    +---------------------------+-------+---+---+---+---+---+---+---+---+---+

U and W of both levels are combined with *and*. The processor sets A and D itself.

Error code of #PF::

     4   3    2   1   0
    |I |RSVD| U | W | P |   P 0: not present, 1: protection.  W write.  U at CPL 3.  RSVD reserved bit.  I fetch.

Source: Intel SDM volume 3, sections 4.3 and 4.7.
"""

from __future__ import annotations

import msgspec

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
WRITE_THROUGH = 1 << 3
CACHE_DISABLE = 1 << 4
ACCESSED = 1 << 5
DIRTY = 1 << 6
LARGE = 1 << 7
"""PS in a PDE."""
PAT = 1 << 7
"""In a PTE; in a large PDE it is ``LARGE_PAT``."""
GLOBAL = 1 << 8
AVAILABLE = 7 << 9
LARGE_PAT = 1 << 12

ENTRIES = 1024
ENTRY_BYTES = 4
LARGE_SHIFT = 22
LARGE_BYTES = 1 << LARGE_SHIFT
FRAME_MASK = 0xFFFF_F000
LARGE_FRAME_MASK = 0xFFC0_0000
LARGE_RESERVED = 1 << 21
"""Reserved in a large PDE. Bits 20 to 13 hold physical address bits 39 to 32 (PSE-36), reserved where not supported."""

ERROR_PRESENT = 1 << 0
ERROR_WRITE = 1 << 1
ERROR_USER = 1 << 2
ERROR_RESERVED = 1 << 3
ERROR_FETCH = 1 << 4

ERROR_BITS: tuple[tuple[str, int, str, str], ...] = (
    ("P", ERROR_PRESENT, "protection", "not present"),
    ("W", ERROR_WRITE, "write", "read"),
    ("U", ERROR_USER, "in ring 3", "as supervisor"),
    ("RSVD", ERROR_RESERVED, "reserved bit set", ""),
    ("I", ERROR_FETCH, "instruction fetch", ""),
)
"""(name, mask, meaning when set, meaning when clear)"""

FLAG_NAMES: tuple[tuple[str, int], ...] = (
    ("P", PRESENT), ("RW", WRITABLE), ("U", USER), ("PWT", WRITE_THROUGH), ("PCD", CACHE_DISABLE), ("A", ACCESSED),
    ("D", DIRTY), ("PS", LARGE), ("G", GLOBAL),
)  # fmt: skip


def directory_index(linear: int) -> int:
    """Bits 31 to 22."""
    return linear >> 22


def table_index(linear: int) -> int:
    """Bits 21 to 12."""
    return linear >> 12 & 0x3FF


def describe_error(error_code: int) -> str:
    """``not present, write, in ring 3``"""
    words = [on if error_code & mask else off for _, mask, on, off in ERROR_BITS]
    return ", ".join(word for word in words if word)


class _Entry(msgspec.Struct, frozen=True):
    """What both levels have in common. ``value`` is the 32-bit entry."""

    value: int

    @property
    def present(self) -> bool:
        return bool(self.value & PRESENT)

    @property
    def writable(self) -> bool:
        return bool(self.value & WRITABLE)

    @property
    def user(self) -> bool:
        return bool(self.value & USER)

    @property
    def accessed(self) -> bool:
        return bool(self.value & ACCESSED)

    @property
    def dirty(self) -> bool:
        return bool(self.value & DIRTY)

    @property
    def global_(self) -> bool:
        return bool(self.value & GLOBAL)

    @property
    def frame(self) -> int:
        """Number of the 4 KB frame that is pointed to."""
        return self.value >> 12

    @property
    def flags(self) -> str:
        """``P RW U A D``; U and RW are left out where they are 0."""
        return " ".join(name for name, mask in FLAG_NAMES if self.value & mask)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} 0x{self.value:08x} {self.flags or 'not present'}>"


class PTE(_Entry, frozen=True):
    """Page-table entry: ``<PTE 0x00301067 P RW U A D>``."""

    @classmethod
    def build(cls, frame: int, flags: int) -> PTE:
        """``frame`` is a frame number, ``flags`` a sum of the constants above."""
        return cls((frame << 12 | flags) & 0xFFFF_FFFF)

    @property
    def flags(self) -> str:
        names = (("PAT", mask) if mask == PAT else (name, mask) for name, mask in FLAG_NAMES)
        return " ".join(name for name, mask in names if self.value & mask)


class PDE(_Entry, frozen=True):
    """Page-directory entry: a page table, or with PS a page of 4 MB."""

    @classmethod
    def build(cls, frame: int, flags: int) -> PDE:
        """``frame`` is a 4 KB frame number; with ``LARGE`` in ``flags`` a multiple of 1024."""
        return cls((frame << 12 | flags) & 0xFFFF_FFFF)

    @property
    def large(self) -> bool:
        return bool(self.value & LARGE)

    @property
    def large_base(self) -> int:
        """Physical address of the 4 MB page."""
        return self.value & LARGE_FRAME_MASK

    def small(self, index: int) -> PTE:
        """The PTE that would map 4 KB page ``index`` (0 to 1023) of this 4 MB page alike."""
        flags = self.value & 0xFFF & ~LARGE | (PAT if self.value & LARGE_PAT else 0)
        return PTE(self.large_base | index << 12 | flags)
