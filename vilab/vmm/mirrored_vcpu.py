"""The vCPU of a guest whose kernel runs in mirrors: EIP and the interrupt flag are the processor's own.

::

                          what the guest set                what the CPU holds
    EIP                   the same
    flags, IF, IOPL       the same                          (the processor has no interrupts of its own, and the monitor
                                                            emulates whatever looks at IOPL)
    TF                    a word of the monitor's           0
    CS in rings 0 to 2    0008, base                        0009, base + bias of the mirrors
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES, PAGE_OFFSET_MASK, PAGE_SHIFT
from vilab.machine import native_callouts
from vilab.machine.registers import CS
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.vcpu import HiddenSegment
from vilab.x86.flags import IF, TF
from vilab.x86.paging import PRESENT

if TYPE_CHECKING:
    from vilab.vmm.shadow_paging import ShadowTables

UNSIGNED = (1 << 64) - 1
NOTHING = memoryview(bytes(8 * native_callouts.ENTRIES)).cast("q")
NO_SEGMENTS = NOTHING[: native_callouts.SEGMENT_CELLS]
NO_LANDINGS = NOTHING[: native_callouts.LANDING_ENTRIES]


class MirroredVcpu(DeprivilegedVcpu):
    """``bias``: the distance from the guest's code to its mirrors.

    ``native``: the tables of ``native_callouts``, if there are any. ``code_from``: hidden part of CS,
    the descriptor that it was loaded from, and where that lies.
    """

    bias = 0
    sixteen = False
    _gdtr = (0, 0)
    native: native_callouts.Tables | None = None
    shadow: ShadowTables | None = None
    code_from: tuple[HiddenSegment, int, int] | None = None

    @property
    def gdtr(self) -> tuple[int, int]:
        return self._gdtr

    @gdtr.setter
    def gdtr(self, value: tuple[int, int]) -> None:
        if value != self._gdtr:
            self._gdtr = value
            self.forget_segments()

    @property
    def pc(self) -> int:
        """EIP as a linear address."""
        base = self.cpu.segment_base(CS) if self._cpl == 3 or self.sixteen else self._segments[CS][1]
        return self.cpu.q[self.cpu.Q_EIP] + base & 0xFFFFFFFF

    def read(self, gva: int, size_bytes: int, user: bool = False) -> bytes:
        """Memory at a linear address; where the shadow tables have it, as the processor itself would get it."""
        gva &= 0xFFFFFFFF
        offset = gva & PAGE_OFFSET_MASK
        if self.shadow is not None and not user and offset + size_bytes <= PAGE_BYTES:
            table = self.shadow.root.tables.get(gva >> 22)
            if table is not None:
                entry = self._words[table.at + (gva >> PAGE_SHIFT & 0x3FF)]
                at = entry & ~PAGE_OFFSET_MASK | offset
                if entry & PRESENT and at + size_bytes <= self.cpu.memory.size_bytes:
                    return bytes(self.cpu.memory.view[at : at + size_bytes])
        return super().read(gva, size_bytes, user)

    @property
    def interrupts_enabled(self) -> bool:
        if self.sixteen:
            return super().interrupts_enabled
        return bool(self.cpu.q[self.cpu.Q_EFLAGS] & IF)

    @property
    def single_steps(self) -> bool:
        """Does the guest's kernel want a trap after the next instruction?"""
        return self._cpl != 3 and bool(self._words[self.flag_word] & TF)

    def eflags(self) -> int:
        real = self.cpu.eflags()
        return real if self._cpl == 3 else real & ~TF | self._words[self.flag_word] & TF

    def set_eflags(self, value: int) -> None:
        self._words[self.flag_word] = value & TF
        self.cpu.set_eflags(value if self._cpl == 3 else value & ~TF)

    def set_mode(self, cpl: int, eflags: int) -> None:
        if self.native is not None:
            self.native.cells[native_callouts.RING_0] = 0
        super().set_mode(cpl, eflags)

    def load_code_and_stack(self) -> None:
        super().load_code_and_stack()
        if self._cpl != 3:
            self.load_mirrored_code(self.bias)

    def load_mirrored_code(self, bias: int) -> None:
        """The CPU's CS with this bias; 0 to run code where it stands."""
        selector, _, limit, flags = self.cpu.segment(CS)
        base = self._segments[CS][1] + bias
        self.cpu.set_segment(CS, selector, base & UNSIGNED, limit, flags)
        if self.native is not None:
            cells = self.native.cells
            cells[native_callouts.RING_0] = self._cpl == 0
            cells[native_callouts.SELECTOR] = self._segments[CS][0]
            self.tell_descriptor()
            if cells[native_callouts.CS_BASE] != base and bias:
                cells[native_callouts.CS_BASE] = base
                self.forget_native()

    def tell_descriptor(self) -> None:
        """Native code may return within this segment as long as its descriptor is what it was."""
        if self.native is not None:
            known = self.code_from is not None and self.code_from[0] == self._segments[CS]
            descriptor, at = self.code_from[1:] if known and self.code_from is not None else (0, 0)
            self.native.cells[native_callouts.DESCRIPTOR] = descriptor
            self.native.cells[native_callouts.LOADED_FROM] = at

    def tell_segment(self, index: int, hidden: HiddenSegment, raw: bytes, at: int) -> None:
        """Native code may load this selector again as long as its descriptor, at a linear address, is what it was."""
        if self.native is None:
            return
        selector, base, limit, flags = hidden
        first = (index * native_callouts.SLOTS + (selector >> 3) % native_callouts.SLOTS) * native_callouts.SLOT_CELLS
        limit_and_flags = int.from_bytes((flags << 32 | limit).to_bytes(8, "little"), "little", signed=True)
        slot = selector + 1, base, limit_and_flags, int.from_bytes(raw, "little", signed=True), at if raw else 0
        for number, value in enumerate(slot):
            self.native.segments[first + number] = value

    def forget_segments(self) -> None:
        """No descriptor is known any more."""
        self.code_from = None
        self.tell_descriptor()
        if self.native is not None:
            self.native.segments[:] = NO_SEGMENTS

    def forget_native(self) -> None:
        """What stands for callouts in the table was made for another base, or is not sure any more."""
        if self.native is not None:
            self.native.table[:] = NOTHING
        self.forget_landings()

    def forget_landings(self) -> None:
        """Code was dropped; other instructions may take its place."""
        if self.native is not None:
            self.native.landings[:] = NO_LANDINGS
