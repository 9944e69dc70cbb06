"""A virtual CPU whose kernel runs one ring out. There are two truths::

                      what the guest set                what the CPU holds
general registers     the same: the CPU's own
arithmetic flags      the same
IF, IOPL              a word of the monitor's           IF 1, IOPL 0 (in ring 3: the guest's)
CPL                   0                                 1
CS, SS                0008, 0010                        0009, 0011: the same segments, one ring out
DS ES FS GS           the same
GDTR IDTR LDTR TR     fields here                       the monitor's own
CR0 CR3 CR4           fields here                       paging on, shadow tables, WP
"""

from __future__ import annotations

from vilab.machine.cpu import Cpu
from vilab.machine.registers import CS, SS
from vilab.memory.pmap import Pmap
from vilab.vmm.vcpu import (
    CR0_TRANSLATION,
    CR4_OSFXSR,
    CR4_PGE,
    CR4_TRANSLATION,
    DPL_SHIFT,
    LDTR,
    NULL_SEGMENT,
    VIRTUAL_FLAGS,
    HiddenSegment,
    Vcpu,
)
from vilab.x86.flags import IF, TF


class DeprivilegedVcpu(Vcpu):
    """The guest's kernel runs in ring 1 and believes it is ring 0.

    Parameters
    ----------
    flag_word : index into the machine's memory in dwords of the monitor's word that holds IF and IOPL.
    """

    def __init__(self, cpu: Cpu, pmap: Pmap, flag_word: int) -> None:
        super().__init__(cpu, pmap)
        self._words = cpu.memory.words
        self.flag_word = flag_word
        self._segments: list[HiddenSegment] = [NULL_SEGMENT] * 8
        self._cpl = 0
        self.cr0, self.cr2, self.cr3, self.cr4 = 0x11, 0, 0, 0
        self.gdtr = (0, 0)
        self.idtr = (0, 0)

    @property
    def cpl(self) -> int:
        return self._cpl

    @property
    def virtual_flags(self) -> int:
        return self._words[self.flag_word] & VIRTUAL_FLAGS

    @virtual_flags.setter
    def virtual_flags(self, value: int) -> None:
        self._words[self.flag_word] = value & VIRTUAL_FLAGS

    @property
    def interrupts_enabled(self) -> bool:
        return bool((self.cpu.eflags() if self._cpl == 3 else self._words[self.flag_word]) & IF)

    @property
    def traps_each(self) -> bool:
        """Does the guest want a trap after the next instruction?"""
        return bool(self.cpu.q[self.cpu.Q_EFLAGS] & TF or self._words[self.flag_word] & TF)

    def eflags(self) -> int:
        real = self.cpu.eflags()
        if self._cpl == 3:
            return real
        return real & ~VIRTUAL_FLAGS | self._words[self.flag_word] & VIRTUAL_FLAGS

    def set_eflags(self, value: int) -> None:
        self._words[self.flag_word] = value & VIRTUAL_FLAGS
        self.cpu.set_eflags(value if self._cpl == 3 else value & ~VIRTUAL_FLAGS | IF)

    def code_and_stack(self) -> tuple[HiddenSegment, HiddenSegment]:
        """CS and SS of the guest's kernel, while it runs."""
        return self._segments[CS], self._segments[SS]

    def segment(self, index: int) -> HiddenSegment:
        if index >= LDTR or (index in (CS, SS) and self._cpl != 3):
            return self._segments[index]
        return self.cpu.segment(index)

    def set_segment(self, index: int, selector: int, base: int, limit: int, flags: int) -> None:
        if index >= LDTR or (index in (CS, SS) and self._cpl != 3):
            self._segments[index] = (selector, base, limit, flags)
        else:
            self.cpu.set_segment(index, selector, base, limit, flags)

    def set_mode(self, cpl: int, eflags: int) -> None:
        if self._cpl == 3:
            # Ring 3 has loaded CS and SS by itself, perhaps.
            self._segments[CS], self._segments[SS] = self.cpu.segment(CS), self.cpu.segment(SS)
        self._cpl = cpl
        self.set_eflags(eflags)
        self.load_code_and_stack()

    def load_code_and_stack(self) -> None:
        """CS and SS of the CPU from those of the guest, one ring out where the guest is in ring 0."""
        ring = max(self._cpl, 1)
        for index in (CS, SS):
            selector, base, limit, flags = self._segments[index]
            if ring != self._cpl:
                flags = flags & ~(3 << DPL_SHIFT) | ring << DPL_SHIFT
            self.cpu.set_segment(index, selector & ~3 | ring, base, limit, flags)
        self.cpu.update_mode(ring)

    def set_cr(self, number: int, value: int) -> None:
        if number == 2:
            self.cr2 = value
            return
        mmu = self.mmu
        if number == 3:
            self.cr3 = value
            if mmu is not None:
                mmu.address_space_loaded()
            return
        if number == 0:
            changed, translation = value ^ self.cr0, CR0_TRANSLATION
            self.cr0 = value
            self.cpu.set_cr0_task_bits(value)
        else:
            changed, translation = value ^ self.cr4, CR4_TRANSLATION
            if changed & CR4_OSFXSR:
                self.cpu.set_cr(4, self.cpu.cr(4) & ~CR4_OSFXSR | value & CR4_OSFXSR)
            self.cr4 = value
        if mmu is not None:
            if changed & translation:
                mmu.address_space_changed()
            elif number == 4 and changed & CR4_PGE:
                mmu.global_pages_changed()
