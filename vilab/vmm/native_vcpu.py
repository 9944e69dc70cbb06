"""A virtual CPU that the processor itself holds: under hardware assist, and on the bare machine."""

from __future__ import annotations

from vilab.vmm.vcpu import (
    TR,
    TSS_BUSY,
    HiddenSegment,
    Vcpu,
)


class NativeVcpu(Vcpu):
    """The processor itself holds what the guest set."""

    @property
    def cpl(self) -> int:
        return self.cpu.cpl

    def eflags(self) -> int:
        return self.cpu.eflags()

    def set_eflags(self, value: int) -> None:
        self.cpu.set_eflags(value)

    def segment(self, index: int) -> HiddenSegment:
        selector, base, limit, flags = self.cpu.segment(index)
        return selector, base, limit, flags | TSS_BUSY if flags and index == TR else flags

    def set_segment(self, index: int, selector: int, base: int, limit: int, flags: int) -> None:
        # The processor keeps its task register's type without the busy bit, and gives up (all of it) where it has one.
        self.cpu.set_segment(index, selector, base, limit, flags & ~TSS_BUSY if index == TR else flags)

    def set_mode(self, cpl: int, eflags: int) -> None:
        self.cpu.set_eflags(eflags)
        self.cpu.update_mode(cpl)

    def set_cr(self, number: int, value: int) -> None:
        if number == 2:
            self.cpu.set_cr2(value)
        else:
            self.cpu.set_cr(number, value)

    cr0 = property(lambda self: self.cpu.cr(0))
    cr2 = property(lambda self: self.cpu.cr(2), lambda self, value: self.cpu.set_cr2(value))
    cr3 = property(lambda self: self.cpu.cr(3))
    cr4 = property(lambda self: self.cpu.cr(4))
    gdtr = property(lambda self: self.cpu.table("gdtr"), lambda self, value: self.cpu.set_table("gdtr", *value))
    idtr = property(lambda self: self.cpu.table("idtr"), lambda self, value: self.cpu.set_table("idtr", *value))
