"""Code that the processor runs as it stands, and somebody else changes: a device, the host, the monitor itself.

::

    DMA, host ──> pmap ──page_content_changed──> has this page run directly? ──yes──> the processor forgets that code

The processor keeps translations of its own, and only notices stores that it executes. Which pages it may have executed
is known roughly: under translation those that ring 3 could reach, elsewhere all. The monitor's own stores (exception
frames, mostly) are too many to be watched everywhere: they are looked at only on pages of ring 3.

MODEL: a store of the monitor's into code that a kernel runs directly is not noticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_SHIFT

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.machine.cpu import Cpu
    from vilab.vmm.vcpu import Vcpu

CR0_PG = 1 << 31


class ExecutedCode:
    """Listens to the pmap.

    Parameters
    ----------
    in_ring_3 : a byte for each page, nonzero where ring 3 could reach it; ``None`` where kernels run directly too.
    """

    def __init__(self, cpu: Cpu, vcpu: Vcpu, in_ring_3: bytearray | None = None) -> None:
        self._cpu, self._vcpu, self._in_ring_3 = cpu, vcpu, in_ring_3
        vcpu.pmap.listeners.append(self)

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        pages = self._in_ring_3
        if pages is None:
            concerned = not self._vcpu.is_writing
        else:
            # Without paging every page is ring 3's.
            concerned = bool(pages[ppn]) or not (self._vcpu.cr0 & CR0_PG or self._vcpu.is_writing)
        if concerned:
            mpn = self._vcpu.pmap.frame(ppn)
            if mpn is not None:
                self._cpu.code_changed_at((mpn << PAGE_SHIFT) + offset, size_bytes)

    def page_unmapped(self, ppn: Ppn) -> None:
        """The frame goes: whatever was executed from it, another page may be there next."""
        mpn = self._vcpu.pmap.frame(ppn)
        if mpn is not None:
            self._cpu.code_changed_at(mpn << PAGE_SHIFT, 1 << PAGE_SHIFT)

    def page_write_protected(self, ppn: Ppn) -> None:
        return
