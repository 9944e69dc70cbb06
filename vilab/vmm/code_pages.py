"""Which pages the translations were made from, and when they go stale.

::

    store by the guest ──#PF on the traced page──> the monitor does it ──┐
    write by a device or the host ──pmap─────────────────────────────────┼──> bytes of code changed? drop those units
    store to a table that maps code ──#PF, too──┐
    CR3, INVLPG: does the guest's PDE differ? ──┴──> does the vpn still lead to the same ppn? no: drop its units

The tables that map code are traced whatever the policy for other tables is; there are few, and they change seldom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import GuestFault
from vilab.events import UnitInvalidated
from vilab.memory.pmap import NO_FRAMES, Frames
from vilab.vmm.shadow_table import CODE_MAP, seen
from vilab.vmm.unit import Unit
from vilab.vmm.walk import Mapping, walk
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.vmm.packed_code import PackedCode


def _is_accessed(mapping: Mapping) -> bool:
    """Where the guest has cleared Accessed, the next fetch must set it again."""
    return not mapping.entry or bool(mapping.entry & mapping.pde & pg.ACCESSED)


class CodePages:
    """Units by the physical page they were read from and by the linear page they were read through."""

    def __init__(self, engine: PackedCode) -> None:
        self._engine = engine
        self._shadow = engine.shadow
        self.by_ppn: dict[int, list[tuple[Unit, int, bytes]]] = {}
        self.by_vpn: dict[int, int] = {}  # vpn -> ppn
        self._code: dict[int, bytearray] = {}  # ppn -> a 1 for each byte that was translated
        self._vpns_at: dict[int, dict[int, None]] = {}  # directory index -> vpns with code
        self._pdes: dict[int, int] = {}  # directory index -> the guest's PDE when they were read through it
        self._maps: dict[int, dict[int, None]] = {}  # ppn of a table that maps code -> directory indexes
        engine.vm.pmap.listeners.append(self)

    def forget(self) -> None:
        """The cache was flushed."""
        for ppn in self.by_ppn:
            self._shadow.untrace(ppn)
        for ppn in self._maps:
            self._shadow.untrace(ppn, CODE_MAP)
        for table in (self.by_ppn, self.by_vpn, self._code, self._vpns_at, self._pdes, self._maps):
            table.clear()

    def contents(self) -> tuple[Any, ...]:
        """For checkpoints."""
        return self.by_ppn, self.by_vpn, self._code, self._vpns_at, self._pdes, self._maps

    def set_contents(self, contents: tuple[Any, ...]) -> None:
        self.by_ppn, self.by_vpn, self._code, self._vpns_at, self._pdes, self._maps = contents

    def add(self, unit: Unit, cs_base: int) -> None:
        """Watch the pages of a new unit."""
        linear = unit.eip + cs_base & 0xFFFFFFFF
        source, at = unit.source, 0
        while at < len(source):
            here = linear + at & 0xFFFFFFFF
            offset = here & (PAGE_BYTES - 1)
            part = source[at : at + PAGE_BYTES - offset]
            vpn = here >> PAGE_SHIFT
            ppn = self._watch(vpn)
            unit.pages.append((vpn, ppn))
            entries = self.by_ppn.get(ppn)
            if entries is None:
                self.by_ppn[ppn], self._code[ppn] = [], bytearray(PAGE_BYTES)
                entries = self.by_ppn[ppn]
                self._shadow.trace(ppn)
            entries.append((unit, offset, part))
            self._code[ppn][offset : offset + len(part)] = b"\1" * len(part)
            at += len(part)

    def read_ahead(self, linear: int, size_bytes: int) -> bytes:
        """Code that nobody has asked for yet, within a page.

        Raises ``GuestFault`` where it cannot be read, or not without leaving an Accessed bit or getting the page.
        """
        mapping = self._look(linear)
        pmap = self._engine.vm.pmap
        if not _is_accessed(mapping) or pmap.mappable(mapping.gpa >> PAGE_SHIFT) is None:
            raise GuestFault(14, 0, linear, "not used yet")
        return pmap.read(mapping.gpa, size_bytes)

    def _watch(self, vpn: int) -> int:
        """The ppn behind a page with code, whose mapping is watched from now on."""
        mapping = self._look(vpn << PAGE_SHIFT)
        ppn = mapping.gpa >> PAGE_SHIFT
        was = self.by_vpn.get(vpn)
        if was is not None and was != ppn:
            self._unmapped(vpn)
            was = None
        if was is None:
            self.by_vpn[vpn] = ppn
            index = vpn >> 10
            self._vpns_at.setdefault(index, {})[vpn] = None
            self._trust(index, mapping.pde, mapping.large)
        return ppn

    def _trust(self, index: int, pde: int, large: bool) -> None:
        """This PDE leads to the code; the table behind it must not change unseen."""
        self._pdes[index] = seen(pde)
        if not large:
            self._maps.setdefault(pde >> PAGE_SHIFT, {})[index] = None
            self._shadow.trace(pde >> PAGE_SHIFT, CODE_MAP)

    def _look(self, linear: int) -> Mapping:
        v = self._engine.vcpu
        return walk(v.pmap, v.cr0, v.cr3, v.cr4, linear, write=False, user=False, set_bits=False)

    # Contents ----------------------------------------------------------------------------------------------------

    def close(self, opened: list[int]) -> None:
        """Stores to traced pages have been done by the processor itself: drop what they changed."""
        for ppn in opened:
            self._changed(ppn, 0, PAGE_BYTES)

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """Somebody else wrote there: the monitor for the guest, a device, the host."""
        self._changed(ppn, offset, size_bytes)

    def page_unmapped(self, ppn: Ppn) -> None:
        self._code.pop(ppn, None)
        for unit, _, _ in self.by_ppn.pop(ppn, ()):
            self._drop(unit, "unmapped")
        self._shadow.untrace(ppn)

    def page_write_protected(self, ppn: Ppn) -> None:
        return

    def all_write_protected(self) -> None:
        return

    def harvest(self) -> Frames:
        return NO_FRAMES

    def stop_harvest(self) -> None:
        return

    def page_watched(self, ppn: Ppn) -> None:
        """MODEL: translations are run without a look at the page they were made from: that is no access."""

    def _changed(self, ppn: int, offset: int, size_bytes: int) -> None:
        if ppn in self._maps:
            self._map_changed(ppn)
        code = self._code.get(ppn)
        if code is None or 1 not in code[offset : offset + size_bytes]:
            return
        if self._engine.smc == "flush":
            self._engine.flush_cache("write")
            return
        page = self._engine.vm.pmap.read(ppn << PAGE_SHIFT, PAGE_BYTES)
        kept = []
        end = offset + size_bytes
        entries = self.by_ppn[ppn]
        for entry in entries:
            unit, at, part = entry
            if at >= end or at + len(part) <= offset or page[at : at + len(part)] == part:
                if unit.valid:
                    kept.append(entry)
            elif unit.valid:
                self._drop(unit, "write")
        if len(kept) != len(entries):
            self._keep(ppn, kept)

    def _keep(self, ppn: int, kept: list[tuple[Unit, int, bytes]]) -> None:
        if kept:
            self.by_ppn[ppn] = kept
            code = self._code[ppn] = bytearray(PAGE_BYTES)
            for _, at, part in kept:
                code[at : at + len(part)] = b"\1" * len(part)
        else:
            self.by_ppn.pop(ppn, None)
            self._code.pop(ppn, None)
            self._shadow.untrace(ppn)

    # Mappings ----------------------------------------------------------------------------------------------------

    def address_space_loaded(self) -> None:
        """CR3: the directory may be another one, or have changed."""
        v = self._engine.vcpu
        if v.cr0 >> 31:
            directory, read = v.cr3 & pg.FRAME_MASK, v.pmap.read_u32
            for index, pde in list(self._pdes.items()):
                if seen(read(directory + 4 * index)) != pde:
                    self._check(index)

    def page_invalidated(self, gva: int) -> None:
        """INVLPG: it forgets directory entries, too."""
        self.address_space_loaded()

    def check_mappings(self) -> None:
        """Paging works otherwise from now on."""
        for index in list(self._vpns_at):
            self._check(index)

    def _map_changed(self, table_ppn: int) -> None:
        """A table that maps code was stored to, or was one once."""
        for index in list(self._maps[table_ppn]):
            self._check(index)

    def _check(self, index: int) -> None:
        """Do the pages with code in these 4 MB still lead where they led?"""
        mapping = None
        for vpn in list(self._vpns_at.get(index, ())):
            ppn = self.by_vpn[vpn]
            try:
                mapping = self._look(vpn << PAGE_SHIFT)
                if mapping.gpa >> PAGE_SHIFT == ppn and _is_accessed(mapping):
                    continue
            except GuestFault:
                pass
            self._unmapped(vpn)
        for ppn in [ppn for ppn, indexes in self._maps.items() if index in indexes]:
            del self._maps[ppn][index]
            if not self._maps[ppn]:
                del self._maps[ppn]
                self._shadow.untrace(ppn, CODE_MAP)
        self._pdes.pop(index, None)
        if self._vpns_at.get(index) and mapping is not None:
            self._trust(index, mapping.pde, mapping.large)

    def _unmapped(self, vpn: int) -> None:
        """The linear page leads elsewhere now: what was read through it goes."""
        ppn = self.by_vpn.pop(vpn)
        vpns = self._vpns_at[vpn >> 10]
        del vpns[vpn]
        if not vpns:
            del self._vpns_at[vpn >> 10]
        kept = []
        for entry in self.by_ppn.get(ppn, ()):
            if entry[0].valid and (vpn, ppn) in entry[0].pages:
                self._drop(entry[0], "remap")
            elif entry[0].valid:
                kept.append(entry)
        self._keep(ppn, kept)

    def _drop(self, unit: Unit, why: str) -> None:
        if unit.valid:
            self._engine.drop_unit(unit)
            log = self._engine.log
            if log.active:
                log.emit(UnitInvalidated(self._engine.now_ns(), unit.eip, unit.start, why))
