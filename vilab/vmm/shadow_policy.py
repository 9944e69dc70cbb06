"""How shadow tables keep up with the guest's: three policies, each of which loses somewhere.

==============  ===========================  ============================  =====================================
policy          a store to a guest table     INVLPG                        CR3 load
==============  ===========================  ============================  =====================================
``all``         faults, and is followed      nothing to do                 nothing to do
``lazy``        goes unnoticed               drops the entry               drops all but global entries: hidden
                                                                           faults bring them back one by one
``prevalidate`` goes unnoticed               compares the entry            compares every table of the address
                                                                           space with what it was
==============  ===========================  ============================  =====================================

Adams and Agesen 2006, section 2.4: tracing costs a fault a store; without it there are either many hidden faults or an
expensive validation of the tables at every context switch. All three are right, because the processor promises no more:
a changed entry counts from INVLPG or a load of CR3 on, and one that was not present counts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from vilab.addresses import PAGE_SHIFT
from vilab.errors import AdminError
from vilab.vmm.shadow_table import SMALL, TABLE, Words
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.vmm.shadow_paging import ShadowTables
    from vilab.vmm.shadow_table import Root, ShadowTable


class TracePolicy(Protocol):
    """``dropped_entries`` and ``validated_entries`` count what loads of CR3 have cost."""

    name: str
    loads: int
    dropped_entries: int
    validated_entries: int

    def linked(self, root: Root, table: ShadowTable) -> None:
        """The guest's directory leads to that table from now on."""
        ...

    def loaded(self, root: Root) -> None: ...

    def flushed(self, root: Root) -> None:
        """As by a change of CR4.PGE: global entries, too."""
        ...

    def invalidated(self, root: Root, gva: int) -> None: ...

    def counts(self) -> tuple[int, int, int]: ...

    def set_counts(self, counts: tuple[int, int, int]) -> None: ...


class _Policy:
    name = ""

    def __init__(self, shadow: ShadowTables) -> None:
        self._shadow = shadow
        self.loads = self.dropped_entries = self.validated_entries = 0

    def linked(self, root: Root, table: ShadowTable) -> None:
        return

    def counts(self) -> tuple[int, int, int]:
        return self.loads, self.dropped_entries, self.validated_entries

    def set_counts(self, counts: tuple[int, int, int]) -> None:
        self.loads, self.dropped_entries, self.validated_entries = counts


class TraceAll(_Policy):
    """Every guest table that has a shadow is read-only for the guest."""

    name = "all"

    def linked(self, root: Root, table: ShadowTable) -> None:
        self._shadow.trace(root.name, TABLE)
        if not table.is_large:
            self._shadow.trace(table.ppn, TABLE)

    def loaded(self, root: Root) -> None:
        self.loads += 1

    def flushed(self, root: Root) -> None:
        return

    def invalidated(self, root: Root, gva: int) -> None:
        return


class Lazy(_Policy):
    """The shadow is a TLB."""

    name = "lazy"

    def linked(self, root: Root, table: ShadowTable) -> None:
        if not table.is_large and len(table.links) > 1:
            self._shadow.drop_local(table)  # nobody has looked at it in this address space

    def loaded(self, root: Root) -> None:
        self.loads += 1
        self._shadow.follow_directories(root)
        for table in root.tables.values():
            if not table.is_large:
                self.dropped_entries += self._shadow.drop_local(table)

    def flushed(self, root: Root) -> None:
        self._shadow.follow_directories(root)
        for table in root.tables.values():
            if not table.is_large:
                self._shadow.drop_all(table)

    def invalidated(self, root: Root, gva: int) -> None:
        self._shadow.follow_directories(root)
        self._shadow.drop_entry(root, gva)


class Prevalidate(_Policy):
    """Before an address space is used, its shadow is made to agree with it. Whoever asks for it empties the TLB."""

    name = "prevalidate"

    def linked(self, root: Root, table: ShadowTable) -> None:
        if table.is_large:
            return
        if table.snapshot is None:
            table.snapshot = self._guest_entries(table)
        else:
            self._validate_table(table)

    def loaded(self, root: Root) -> None:
        self.loads += 1
        self._validate(root)

    def flushed(self, root: Root) -> None:
        self._validate(root)

    def _validate(self, root: Root) -> None:
        shadow = self._shadow
        shadow.follow_directories(root)
        for table in list(root.tables.values()):
            if table.key[0] == SMALL:
                self._validate_table(table)

    def _validate_table(self, table: ShadowTable) -> None:
        self.validated_entries += pg.ENTRIES
        page = self._shadow.guest_page(table.ppn)
        if page == table.page:
            return
        now = np.frombuffer(page, np.uint32).copy()
        changed = np.nonzero(now != table.snapshot)[0]
        if len(changed):
            table.snapshot = now
            for index in changed:
                self._shadow.follow(table, int(index), flush=False)
        table.page = page

    def _guest_entries(self, table: ShadowTable) -> Words:
        return np.frombuffer(self._shadow.guest_page(table.ppn), np.uint32).copy()

    def invalidated(self, root: Root, gva: int) -> None:
        shadow = self._shadow
        shadow.follow_directories(root)
        table = root.tables.get(gva >> 22)
        if table is not None and not table.is_large:
            shadow.follow(table, gva >> PAGE_SHIFT & 0x3FF, flush=False)


POLICIES: dict[str, type[TraceAll] | type[Lazy] | type[Prevalidate]] = {
    "all": TraceAll, "lazy": Lazy, "prevalidate": Prevalidate,
}  # fmt: skip


def policy_named(name: str, shadow: ShadowTables) -> TracePolicy:
    """Raises ``AdminError`` for a name that is none."""
    if name not in POLICIES:
        raise AdminError(f"There is no trace policy {name!r}; there are {', '.join(POLICIES)}.")
    return POLICIES[name](shadow)
