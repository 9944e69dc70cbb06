"""Which pages the translations were made from, and when they go stale.

::

    store by the guest ──#PF on the traced page──> step that store ──┐
    write by a device or the host ──pmap──────────────────────────────┼──> bytes changed? drop those units
    CR3, INVLPG ──> does the vpn still lead to the same ppn? no ──────┘──> drop the page's units
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import GuestFault
from vilab.events import UnitInvalidated
from vilab.vmm.unit import Unit
from vilab.vmm.walk import walk

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.vmm.engine_bt import TranslationEngine


class CodePages:
    """Units by the physical page they were read from and by the linear page they were read through."""

    def __init__(self, engine: TranslationEngine) -> None:
        self._engine = engine
        self._shadow = engine.shadow
        self.by_ppn: dict[int, list[tuple[Unit, int, bytes]]] = {}
        self.by_vpn: dict[int, int] = {}  # vpn -> ppn
        # ppn -> the list of its units and its length, a mask of the bytes they were made from, and those bytes
        self._intact: dict[int, tuple[list[tuple[Unit, int, bytes]], int, int, int]] = {}
        engine.vm.pmap.listeners.append(self)

    def forget(self) -> None:
        """The cache was flushed."""
        for ppn in self.by_ppn:
            self._shadow.untrace(ppn)
        self.by_ppn.clear()
        self.by_vpn.clear()

    def add(self, unit: Unit, cs_base: int) -> None:
        """Watch the pages of a new unit."""
        linear = unit.eip + cs_base & 0xFFFFFFFF
        source, at = unit.source, 0
        while at < len(source):
            here = linear + at & 0xFFFFFFFF
            offset = here & (PAGE_BYTES - 1)
            part = source[at : at + PAGE_BYTES - offset]
            vpn = here >> PAGE_SHIFT
            ppn = self._ppn(here)
            if self.by_vpn.get(vpn, ppn) != ppn:
                self._unmapped(vpn)
            unit.pages.append((vpn, ppn))
            self.by_ppn.setdefault(ppn, []).append((unit, offset, part))
            self.by_vpn[vpn] = ppn
            self._shadow.trace(ppn)
            at += len(part)

    def _ppn(self, linear: int) -> int:
        v = self._engine.vcpu
        look = walk(v.pmap, v.cr0, v.cr3, v.cr4, linear, write=False, user=False, set_bits=False)
        return look.gpa >> PAGE_SHIFT

    # Contents ----------------------------------------------------------------------------------------------------

    def close(self, opened: list[int]) -> None:
        """Stores to traced pages have been done: protect the pages again, drop what they changed."""
        for gva in opened:
            try:
                ppn = self._ppn(gva)
            except GuestFault:
                continue
            self._shadow.protect(ppn)
            if ppn not in self.by_ppn:
                continue
            if self._engine.smc == "flush":
                self._engine.flush_cache("write")
            else:
                self._check(ppn)

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """Somebody else wrote there: a device, the host, an emulated instruction."""
        if ppn in self.by_ppn:
            self._check(ppn)

    def page_unmapped(self, ppn: Ppn) -> None:
        for unit, _, _ in self.by_ppn.pop(ppn, ()):
            self._drop(unit, "unmapped")

    def page_write_protected(self, ppn: Ppn) -> None:
        return

    def _check(self, ppn: int) -> None:
        page = self._engine.vm.pmap.read(ppn << PAGE_SHIFT, PAGE_BYTES)
        entries = self.by_ppn[ppn]
        # Data beside code is stored to all the time: if no byte of code has changed since all units were compared, and
        # they are still the same units, then all are intact.
        content = int.from_bytes(page, "little")
        intact = self._intact.get(ppn)
        if intact is not None:
            same_entries, count, code, was = intact
            if same_entries is entries and count == len(entries) and content & code == was:
                return
        kept = []
        code = 0
        for entry in entries:
            unit, offset, part = entry
            if not unit.valid:
                continue
            if page[offset : offset + len(part)] == part:
                kept.append(entry)
                code |= (1 << 8 * len(part)) - 1 << 8 * offset
            else:
                self._drop(unit, "write")
        self._keep(ppn, kept)
        if len(kept) == len(entries):
            self._intact[ppn] = (kept, len(kept), code, content & code)

    def _keep(self, ppn: int, kept: list[tuple[Unit, int, bytes]]) -> None:
        if kept:
            self.by_ppn[ppn] = kept
        else:
            self.by_ppn.pop(ppn, None)
            self._shadow.untrace(ppn)

    # Mappings ----------------------------------------------------------------------------------------------------

    def check_mappings(self, gva: int | None = None) -> None:
        """The guest may have mapped other pages where code was. ``gva``: only there (and its 4 MB, if large)."""
        vpns = list(self.by_vpn) if gva is None else [v for v in self.by_vpn if v >> 10 == gva >> 22]
        for vpn in vpns:
            ppn = self.by_vpn[vpn]
            try:
                if self._ppn(vpn << PAGE_SHIFT) == ppn:
                    continue
            except GuestFault:
                pass
            self._unmapped(vpn)

    def _unmapped(self, vpn: int) -> None:
        """The linear page leads elsewhere now: what was read through it goes."""
        ppn = self.by_vpn.pop(vpn)
        kept = []
        for entry in self.by_ppn.get(ppn, ()):
            if entry[0].valid and (vpn, ppn) in entry[0].pages:
                self._drop(entry[0], "remap")
            elif entry[0].valid:
                kept.append(entry)
        self._keep(ppn, kept)

    def _drop(self, unit: Unit, why: str) -> None:
        if unit.valid:
            for _, ppn in unit.pages:
                self._intact.pop(ppn, None)
            self._engine.drop_unit(unit)
            log = self._engine.log
            if log.active:
                log.emit(UnitInvalidated(self._engine.now_ns(), unit.eip, unit.start, why))
