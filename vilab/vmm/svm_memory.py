"""The guest's memory under AMD-V: the processor's TLB, and its translations of code that is not there any more.

::

    guest                    INVLPG, MOV CR (where they exit) ──────────> the processor's TLB
    nested tables            an entry allows less than before ──────────> TLB_CONTROL, the processor's TLB
    host, devices, sharing   a page's bytes or frame change (``pmap``) ─> code_changed_at

MODEL: one TLB without ASIDs. TLB_CONTROL is set when nested entries have become less, and the processor's TLB is
flushed at once instead of at the next VMRUN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.memory.pmap import NO_FRAMES, Frames
from vilab.vmm import vmcb
from vilab.vmm.native_vcpu import NativeVcpu
from vilab.vmm.nested_paging import NestedTables
from vilab.vmm.own_reads import OwnReads
from vilab.x86 import paging as pg

if TYPE_CHECKING:
    from vilab.addresses import Ppn

TLB_CONTROL = vmcb.FIELD["tlb_control"].offset


class SvmVcpu(NativeVcpu):
    """Knows its own stores (pushes, mostly) from those of devices and of the host.

    MODEL: a store of an emulated instruction or of a delivery into code that has been executed is not noticed.
    """

    is_writing = False

    def write(self, gva: int, data: bytes, user: bool = False) -> None:
        before, self.is_writing = self.is_writing, True
        try:
            super().write(gva, data, user)
        finally:
            self.is_writing = before


class SvmMemory(OwnReads):
    """Part of ``SvmEngine``."""

    vcpu: SvmVcpu
    nested: NestedTables
    tlb_flushes: int
    _block: memoryview

    # What an intercepted INVLPG or MOV CR does to the TLB (not intercepted, the processor does it) -----------------

    def address_space_loaded(self) -> None:
        """CR3 may be loaded without an exit, so nothing is said of it here either."""

    def address_space_changed(self) -> None:
        """The processor has flushed its TLB when it was given the register."""

    def global_pages_changed(self) -> None:
        return

    def page_invalidated(self, gva: int) -> None:
        self.cpu.flush_tlb()

    # The TLB, and code that has been executed --------------------------------------------------------------------

    def _flush_tlb(self) -> None:
        self.tlb_flushes += 1
        self._block[TLB_CONTROL] = vmcb.TLB_FLUSH_ALL
        self.cpu.flush_tlb()

    def page_unmapped(self, ppn: Ppn) -> None:
        """What was executed from the frame must not be met in it when it is another page's."""
        mpn = self.vm.pmap.frame(ppn)
        if mpn is not None:
            self.cpu.code_changed_at(mpn << PAGE_SHIFT, PAGE_BYTES)

    def page_watched(self, ppn: Ppn) -> None:
        """With its entry goes what tells that the page may have been executed (``page_content_changed``)."""
        self.page_unmapped(ppn)

    def page_write_protected(self, ppn: Ppn) -> None:
        """The nested tables hear of it themselves."""

    def all_write_protected(self) -> None:
        """So they do of this."""

    def harvest(self) -> Frames:
        return NO_FRAMES

    def stop_harvest(self) -> None:
        return

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """The processor keeps translations of its own of code that it has executed: they may be of these bytes."""
        entry = self.nested.entry(ppn << PAGE_SHIFT)
        if entry & pg.PRESENT and not self.vcpu.is_writing:
            self.cpu.code_changed_at((entry & pg.FRAME_MASK) + offset, size_bytes)
