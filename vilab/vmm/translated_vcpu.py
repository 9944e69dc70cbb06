"""The vCPU of a translated guest: its EIP is a field while the processor's is in the translation cache."""

from __future__ import annotations

from vilab.machine.registers import CS, SS
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.x86.flags import IF, IOPL, TF

RING_1_CODE = 0x00CFBB00
"""Flat code of DPL 1: what the CPU's CS holds while fragments run."""


class TranslatedVcpu(DeprivilegedVcpu):
    """The guest's EIP is kept here; in ring 3 it follows the CPU's after every exit.

    TF of the guest's kernel is virtual as IF is: a trap after each instruction of ours would be of no use to it.
    """

    _eip = 0
    kept_flags = IF | IOPL | TF

    @property
    def single_steps(self) -> bool:
        """Does the guest's kernel want a trap after the next instruction?"""
        return self._cpl != 3 and bool(self._words[self.flag_word] & TF)

    def eflags(self) -> int:
        real = self.cpu.eflags()
        if self._cpl == 3:
            return real
        return real & ~self.kept_flags | self._words[self.flag_word] & self.kept_flags

    def set_eflags(self, value: int) -> None:
        self._words[self.flag_word] = value & self.kept_flags
        self.cpu.set_eflags(value if self._cpl == 3 else value & ~self.kept_flags | IF)

    @property
    def eip(self) -> int:
        return self._eip

    @eip.setter
    def eip(self, value: int) -> None:
        self._eip = value

    def load_code_and_stack(self) -> None:
        if self._cpl == 3:
            super().load_code_and_stack()
            return
        selector, base, limit, flags = self._segments[SS]
        self.cpu.set_segment(CS, self._segments[CS][0] & ~3 | 1, 0, 0xFFFFFFFF, RING_1_CODE)
        self.cpu.set_segment(SS, selector & ~3 | 1, base, limit, flags & ~(3 << 13) | 1 << 13)
        self.cpu.update_mode(1)
