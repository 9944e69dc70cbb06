"""The guest's own page tables, walked as the processor would.

::

    CR3 ──> directory[gva 31-22] ──> table[gva 21-12] ──> page + gva 11-0
                      └─ PS, CR4.PSE ────────────────────> 4 MB page + gva 21-0
"""

from __future__ import annotations

from typing import NamedTuple

from vilab.errors import GuestFault
from vilab.memory.pmap import Pmap
from vilab.x86 import paging as pg

CR0_WP = 1 << 16
CR0_PG = 1 << 31
CR4_PSE = 1 << 4


class Mapping(NamedTuple):
    """Where a gva leads: its gpa, and what both levels together allow. ``dirty``: D is set in the last level.

    ``entry`` is the last level's, ``pde`` the first's; ``large``: they are one, or there is no paging (both are 0).
    """

    gpa: int
    writable: bool
    user: bool
    dirty: bool
    entry: int
    pde: int = 0
    large: bool = False


def walk(
    pmap: Pmap, cr0: int, cr3: int, cr4: int, gva: int, *, write: bool, user: bool, set_bits: bool = True
) -> Mapping:
    """Translate a guest virtual address for one access, setting Accessed and Dirty like the processor.

    Parameters
    ----------
    write, user : the kind of access; supervisor writes ignore a missing W only while CR0.WP is 0.
    set_bits : False looks without leaving a trace (for views).

    Raises
    ------
    GuestFault : #PF with the error code that the processor would push.
    """
    if not cr0 & CR0_PG:
        return Mapping(gva, True, True, True, 0, 0, True)
    kind = (pg.ERROR_WRITE if write else 0) | (pg.ERROR_USER if user else 0)
    pde_at = (cr3 & pg.FRAME_MASK) + (gva >> 22 << 2)
    read = pmap.read_u32 if set_bits else pmap.look_u32
    pde = read(pde_at)
    if not pde & pg.PRESENT:
        raise GuestFault(14, kind, gva, "no page table")
    large = bool(pde & pg.LARGE and cr4 & CR4_PSE)
    if large:
        last_at, last, both = pde_at, pde, pde
        gpa = pde & pg.LARGE_FRAME_MASK | gva & (pg.LARGE_BYTES - 1)
        if pde & pg.LARGE_RESERVED:
            raise GuestFault(14, kind | pg.ERROR_PRESENT | pg.ERROR_RESERVED, gva, "reserved bit in a 4 MB entry")
    else:
        if set_bits and not pde & pg.ACCESSED:
            pde |= pg.ACCESSED  # it has been used, whatever the second level says
            pmap.write_u32(pde_at, pde)
        last_at = (pde & pg.FRAME_MASK) + (gva >> 10 & 0xFFC)
        last = read(last_at)
        if not last & pg.PRESENT:
            raise GuestFault(14, kind, gva, "page not present")
        both = pde & last
        gpa = last & pg.FRAME_MASK | gva & 0xFFF
    if user and not both & pg.USER:
        raise GuestFault(14, kind | pg.ERROR_PRESENT, gva, "supervisor's page")
    writable = bool(both & pg.WRITABLE)
    if write and not writable and (user or cr0 & CR0_WP):
        raise GuestFault(14, kind | pg.ERROR_PRESENT, gva, "read-only page")
    if set_bits:
        want = last | pg.ACCESSED | (pg.DIRTY if write else 0)
        if want != last:
            pmap.write_u32(last_at, want)
            last = want
    return Mapping(gpa, writable, bool(both & pg.USER), bool(last & pg.DIRTY), last, last if large else pde, large)
