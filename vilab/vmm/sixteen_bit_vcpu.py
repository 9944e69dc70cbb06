"""The vCPU of a deprivileged guest in 16-bit code: what the guest set, and what the CPU holds instead.

::

                          what the guest set                what the CPU holds
    real mode             CR0.PE 0, CPL 0                   EFLAGS.VM 1, CPL 3, IOPL 0
    all six segments      the CPU's own, hidden parts too   the same
    IF IOPL TF            a word of the monitor's           IF 1, IOPL 0, TF 0

    16-bit protected      CPL 0, CS and SS in fields        CPL 1, the same CS and SS one ring out
    IF IOPL TF            a word of the monitor's           IF 1, IOPL 0, TF 0
"""

from __future__ import annotations

from vilab.machine.registers import CS, SS
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.real_mode import CR0_PE
from vilab.vmm.vcpu import BIG, HiddenSegment
from vilab.x86.flags import IF, IOPL, TF, VM

KEPT_FLAGS = IF | IOPL | TF


class SixteenBitVcpu(DeprivilegedVcpu):
    """To be put before an engine's vCPU. ``sixteen``: real mode, or a kernel's 16-bit code."""

    sixteen = False
    _virtual_8086 = False

    @property
    def single_steps_16(self) -> bool:
        """Does the guest want a trap after the next instruction?"""
        return bool(self._words[self.flag_word] & TF)

    def eflags(self) -> int:
        if not self.sixteen:
            return super().eflags()
        return self.cpu.eflags() & ~(KEPT_FLAGS | VM) | self._words[self.flag_word] & KEPT_FLAGS

    def set_eflags(self, value: int) -> None:
        if not self.sixteen:
            super().set_eflags(value)
            return
        self._words[self.flag_word] = value & KEPT_FLAGS
        self.cpu.set_eflags(value & ~(KEPT_FLAGS | VM) | IF | (VM if self._virtual_8086 else 0))

    def segment(self, index: int) -> HiddenSegment:
        return self.cpu.segment(index) if self._virtual_8086 and index <= 5 else super().segment(index)

    def set_segment(self, index: int, selector: int, base: int, limit: int, flags: int) -> None:
        if self._virtual_8086 and index <= 5:
            self.cpu.set_segment(index, selector, base, limit, flags)
        else:
            super().set_segment(index, selector, base, limit, flags)

    def set_mode(self, cpl: int, eflags: int) -> None:
        if self._virtual_8086:
            self._segments[CS], self._segments[SS] = self.cpu.segment(CS), self.cpu.segment(SS)
        elif self._cpl == 3:
            self._segments[CS], self._segments[SS] = self.cpu.segment(CS), self.cpu.segment(SS)
            self._cpl = cpl
        real = not self.cr0 & CR0_PE
        self._virtual_8086 = real
        self.sixteen = cpl != 3 and (real or not self._segments[CS][3] & BIG)
        super().set_mode(cpl, eflags)

    def load_code_and_stack(self) -> None:
        self.cpu.intercept_machine_reads(self._virtual_8086)
        if self._virtual_8086:
            for index in (CS, SS):
                self.cpu.set_segment(index, *self._segments[index])
            self.cpu.update_mode(3)
        elif self.sixteen:
            DeprivilegedVcpu.load_code_and_stack(self)
        else:
            super().load_code_and_stack()

    def set_cr(self, number: int, value: int) -> None:
        if number != 0 or not (value ^ self.cr0) & CR0_PE:
            super().set_cr(number, value)
            return
        eflags = self.eflags()
        super().set_cr(0, value)
        self.set_mode(self._cpl, eflags)
