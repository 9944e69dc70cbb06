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

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.memory.pmap import NO_FRAMES, Frames

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
        v = self._vcpu
        if self._in_ring_3 is None or not v.cr0 & CR0_PG:  # without paging every page is ring 3's
            concerned = not v.is_writing
        else:
            concerned = self._reached(ppn)
        if concerned:
            self._forget(ppn, offset, size_bytes)

    def page_unmapped(self, ppn: Ppn) -> None:
        """What was executed from the frame must not be met in it when it is another page's."""
        self._forget(ppn, 0, PAGE_BYTES)

    def page_write_protected(self, ppn: Ppn) -> None:
        return

    def all_write_protected(self) -> None:
        return

    def harvest(self) -> Frames:
        return NO_FRAMES

    def stop_harvest(self) -> None:
        return

    def page_watched(self, ppn: Ppn) -> None:
        return

    def _reached(self, ppn: Ppn) -> bool:
        pages = self._in_ring_3
        return pages is None or (ppn < len(pages) and bool(pages[ppn]))

    def _forget(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        mpn = self._vcpu.pmap.frame(ppn)
        if mpn is not None:
            self._cpu.code_changed_at((mpn << PAGE_SHIFT) + offset, size_bytes)
