"""gva -> gpa -> mpa at this moment: what the guest's tables say, and what the processor's own walk would find.

::

                 guest's tables                pmap
    gva ────> directory ──> table ────> gpa ─ ─ ─ ─ ─> mpa         what the guest means
     │
     ├──────> shadow directory ──> shadow table ─────> mpa         bt, trap, para, svm with shadow paging
     │
     └─> gpa ─> nested directory ─> nested table ────> mpa         svm: what the CPU walks behind the guest's tables

Looking changes nothing: no Accessed or Dirty bit is set, no entry is filled, no time passes. ``Path.expect`` says
what the next access would come to, as far as tables tell: the processor's TLB may remember more.

MODEL: the tables are read as the processor would, by their bits; a shadow entry never leads anywhere that the guest's
tables do not, once the guest has done what makes a change count (INVLPG, a load of CR3). Until then it may: ``stale``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from vilab.addresses import PAGE_OFFSET_MASK, PAGE_SHIFT
from vilab.vmm.nested_paging import NestedTables
from vilab.vmm.shadow_paging import ShadowTables
from vilab.vmm.walk import CR0_PG, CR0_WP, CR4_PSE
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

Read = Callable[[int], int]

GUEST, SHADOW, NESTED = "guest", "shadow", "nested"
DIRECTORY, TABLE = "directory", "table"

NOTHING, HIDDEN, TRACE, TRUE = "nothing", "hidden fault", "trace fault", "true fault"
"""What an access may come to."""


class Entry(msgspec.Struct, frozen=True):
    """One entry of the way. ``table``: where its table lies, a gpa for the guest's tables, else a machine address."""

    side: str
    level: str
    table: int
    index: int
    value: int

    @property
    def at(self) -> int:
        """Where the entry lies."""
        return self.table + pg.ENTRY_BYTES * self.index

    @property
    def present(self) -> bool:
        return bool(self.value & pg.PRESENT)

    @property
    def bits(self) -> str:
        """``P RW U A D``"""
        return (pg.PDE(self.value) if self.level == DIRECTORY else pg.PTE(self.value)).flags

    def __str__(self) -> str:
        what = self.bits or "not present"
        return f"{self.side} {self.level} at {self.table:08x}, entry {self.index:03x}: {self.value:08x} {what}"


class Walk(msgspec.Struct, frozen=True):
    """One address through one pair of tables. ``result``: where it leads, ``None`` where an entry is missing.

    ``writable`` and ``user`` are what both levels allow together. Without paging there are no entries.
    """

    side: str
    address: int
    entries: tuple[Entry, ...]
    result: int | None
    writable: bool
    user: bool
    large: bool = False
    why: str = ""

    def allows(self, write: bool, user: bool, wp: bool = True) -> bool:
        """``wp``: read-only pages are so for a supervisor, too."""
        if self.result is None or (user and not self.user):
            return False
        return self.writable or not write or not (user or wp)


class Path(msgspec.Struct, frozen=True):
    """Everything about one gva. ``mpn``: the frame that the pmap has behind ``gpa``; ``traced``: stores there fault.

    ``shadow`` or ``nested`` is what the VMM has put there for the processor; neither on the bare machine.
    ``to_tables``: under nested paging, the walks that find the guest's own tables. ``wp``: the guest's CR0.WP.
    """

    engine: str
    gva: int
    guest: Walk
    gpa: int | None
    mpn: int | None
    shadow: Walk | None = None
    nested: Walk | None = None
    to_tables: tuple[Walk, ...] = ()
    traced: bool = False
    wp: bool = False

    @property
    def mpa(self) -> int | None:
        """Where a load comes to now without any fault; ``None`` if it faults first."""
        if self.shadow is not None:
            return self.shadow.result
        if self.nested is not None:
            return self.nested.result
        return self.meant

    @property
    def meant(self) -> int | None:
        """Where the guest's tables and the pmap lead."""
        return None if self.gpa is None or self.mpn is None else self.mpn << PAGE_SHIFT | self.gpa & PAGE_OFFSET_MASK

    @property
    def stale(self) -> bool:
        """The shadow leads somewhere, and the guest's tables do not lead there, or no longer allow so much."""
        shadow = self.shadow
        if shadow is None or shadow.result is None:
            return False
        supervisor_may = not self.wp and not shadow.user  # with CR0.WP = 0 it writes to read-only pages
        more = (shadow.writable and not self.guest.writable and not supervisor_may) or (
            shadow.user and not self.guest.user
        )
        return shadow.result != self.meant or more

    @property
    def reads(self) -> tuple[Entry, ...]:
        """Every entry that the processor reads for one access, in order."""
        if self.shadow is not None:
            return self.shadow.entries
        if self.nested is None:
            return self.guest.entries
        found: list[Entry] = []
        for number, entry in enumerate(self.guest.entries):
            found += (*self.to_tables[number].entries, entry)
        return (*found, *self.nested.entries)

    def expect(self, write: bool, user: bool) -> str:
        """The first thing that an access comes to: ``NOTHING``, ``HIDDEN``, ``TRACE`` or ``TRUE``."""
        allowed = self.guest.allows(write, user, self.wp)
        if self.shadow is not None:
            if self.shadow.allows(write, user):
                return NOTHING
            if not allowed:
                return TRUE
            return TRACE if write and self.traced else HIDDEN
        if self.nested is not None and not all(walk.allows(True, True) for walk in self.to_tables):
            return HIDDEN  # walking the guest's tables sets Accessed bits in them: it counts as a write
        if not allowed:
            return TRUE
        return NOTHING if self.nested is None or self.nested.allows(write, True) else HIDDEN

    def describe(self) -> str:
        """The way, an entry a line."""
        gpa, mpa = (("–" if a is None else f"{a:08x}") for a in (self.gpa, self.mpa))
        lines = [str(entry) for entry in self.guest.entries]
        for walk in (self.shadow, self.nested):
            lines += [] if walk is None else [str(entry) for entry in walk.entries]
        return "\n".join((*lines, f"gva {self.gva:08x} -> gpa {gpa} -> mpa {mpa}"))


def path(vm: VirtualMachine, gva: int) -> Path:
    """The way of one guest virtual address, under any engine."""
    engine = vm.engine
    v, pmap, words = engine.vcpu, vm.pmap, vm.machine_memory.words
    cr0 = v.cr0
    guest = two_levels(GUEST, pmap.look_u32, v.cr3, gva, bool(v.cr4 & CR4_PSE), bool(cr0 & CR0_PG))
    gpa = guest.result
    mpn = None if gpa is None else pmap.frame(gpa >> PAGE_SHIFT)

    def machine(at: int) -> int:
        return words[at >> 2]

    tables = getattr(engine, "shadow", None)
    if isinstance(tables, ShadowTables):
        shadow = two_levels(SHADOW, machine, tables.root_mpn << PAGE_SHIFT, gva)
        traced = gpa is not None and gpa >> PAGE_SHIFT in tables.traced
        return Path(engine.name, gva, guest, gpa, mpn, shadow=shadow, traced=traced, wp=bool(cr0 & CR0_WP))
    nested = getattr(engine, "nested", None)
    if not isinstance(nested, NestedTables):
        return Path(engine.name, gva, guest, gpa, mpn, wp=bool(cr0 & CR0_WP))
    root = nested.root_mpn << PAGE_SHIFT
    to_tables = tuple(two_levels(NESTED, machine, root, entry.at) for entry in guest.entries)
    last = Walk(NESTED, 0, (), None, False, False) if gpa is None else two_levels(NESTED, machine, root, gpa)
    return Path(
        engine.name, gva, guest, gpa, mpn, nested=last, to_tables=to_tables, wp=bool(cr0 & CR0_WP)
    )  # fmt: skip


def two_levels(side: str, read: Read, root: int, address: int, large_pages: bool = False, paging: bool = True) -> Walk:
    """``address`` through the directory at ``root``. ``read``: the dword at an address of the tables' own space."""
    if not paging:
        return Walk(side, address, (), address, True, True, True)
    directory = root & pg.FRAME_MASK
    index = pg.directory_index(address)
    pde = Entry(side, DIRECTORY, directory, index, read(directory + pg.ENTRY_BYTES * index))
    if not pde.present:
        return Walk(side, address, (pde,), None, False, False, why="no page table")
    rights = pde.value
    if large_pages and rights & pg.LARGE:
        writable, user = bool(rights & pg.WRITABLE), bool(rights & pg.USER)
        if rights & pg.LARGE_RESERVED:
            return Walk(side, address, (pde,), None, writable, user, True, "reserved bit in a 4 MB entry")
        result = rights & pg.LARGE_FRAME_MASK | address & (pg.LARGE_BYTES - 1)
        return Walk(side, address, (pde,), result, writable, user, True)
    table, index = pde.value & pg.FRAME_MASK, pg.table_index(address)
    pte = Entry(side, TABLE, table, index, read(table + pg.ENTRY_BYTES * index))
    rights &= pte.value
    writable, user = bool(rights & pg.WRITABLE), bool(rights & pg.USER)
    if not pte.present:
        return Walk(side, address, (pde, pte), None, writable, user, why="page not present")
    result = pte.value & pg.FRAME_MASK | address & PAGE_OFFSET_MASK
    return Walk(side, address, (pde, pte), result, writable, user)
