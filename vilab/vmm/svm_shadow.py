"""AMD-V with shadow page tables: what the first processors with hardware assist offered.

::

    guest mode   MOV CR0, CR3, CR4, INVLPG ──#VMEXIT──> the guest's own registers; shadow tables follow
                 #PF ──────────────────────#VMEXIT──> hidden, trace or true fault (``shadow_faults``)
    VMCB         np_enable 0, CR3 = shadow root, CR0.PG and CR0.WP always 1

The guest's kernel runs in ring 0 as it is, and nothing of the monitor lies in its address space. Everything that has to
do with page tables exits: the hardware column of Adams and Agesen 2006. A guest without paging runs on flat shadow
tables, in real mode too (paged real mode: PE 0, PG 1, which only a VMRUN allows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vilab.addresses import PAGE_SHIFT
from vilab.machine.cpu import VMEXIT_BASE
from vilab.vmm import svm_exits as codes
from vilab.vmm import vmcb
from vilab.vmm.engine_svm import SvmEngine, SvmVcpu
from vilab.vmm.shadow_faults import ShadowFaults
from vilab.vmm.shadow_paging import ShadowTables
from vilab.vmm.vcpu import CR0_TRANSLATION, CR4_PGE, CR4_TRANSLATION, VcpuState

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.vmm.vm import VirtualMachine

SHADOW_INTERCEPTS = (
    "exception 0e", "cr0 read", "cr0 write", "cr3 read", "cr3 write", "cr4 read", "cr4 write", "invlpg",
)  # fmt: skip
CR0_PE = 1
CR0_ALWAYS = 1 << 31 | 1 << 16
"""PG and WP, whatever the guest has set: shadow entries say what it may do."""
CR4_OF_GUEST = 1 << 2 | 1 << 3 | 1 << 9 | 1 << 10
"""TSD DE OSFXSR OSXMMEXCPT. The others are about page tables."""
PAGE_FAULT = codes.EXCEPTION_BASE + 14


class SvmShadowVcpu(SvmVcpu):
    """CR0, CR3 and CR4 as the guest set them are kept here; all else is the processor's."""

    cr0 = 0x11
    cr3 = 0
    cr4 = 0

    def set_cr(self, number: int, value: int) -> None:
        mmu = self.mmu
        assert mmu is not None
        if number == 2:
            self.cpu.set_cr2(value)
        elif number == 3:
            self.cr3 = value
            mmu.address_space_loaded()
        elif number == 0:
            changed = value ^ self.cr0
            self.cr0 = value
            if changed & CR0_PE:
                self.cpu.set_cr(0, value | CR0_ALWAYS)
            else:
                self.cpu.set_cr0_task_bits(value)
            if changed & CR0_TRANSLATION:
                mmu.address_space_changed()
        else:
            changed = value ^ self.cr4
            self.cr4 = value
            if changed & CR4_OF_GUEST:
                self.cpu.set_cr(4, value & CR4_OF_GUEST)
            if changed & CR4_TRANSLATION:
                mmu.address_space_changed()
            elif changed & CR4_PGE:
                mmu.global_pages_changed()


class SvmShadowEngine(ShadowFaults, SvmEngine):
    """VMRUN without nested paging.

    Parameters
    ----------
    intercepts : as for ``SvmEngine``. trace : how the shadow keeps up; see ``shadow_policy``.
    """

    def __init__(self, vm: VirtualMachine, intercepts: Sequence[str] = (), trace: str = "all") -> None:
        super().__init__(vm, intercepts=(*SHADOW_INTERCEPTS, *(i for i in intercepts if i not in SHADOW_INTERCEPTS)))
        self.shadow = ShadowTables(vm.cpu, vm.machine_memory, self.frames, vm.pmap, trace)
        self.vcpu: SvmShadowVcpu = SvmShadowVcpu(vm.cpu, vm.pmap)
        self.vcpu.mmu = self

    def control_area(self) -> vmcb.Values:
        return super().control_area() | {"np_enable": 0, "n_cr3": 0}

    def state_area(self, state: VcpuState) -> vmcb.Values:
        v = self.vcpu
        v.cr0, v.cr3, v.cr4 = state.cr0, state.cr3, state.cr4
        self.shadow.load(v.cr0, v.cr3, v.cr4)
        return super().state_area(state) | {
            "cr0": state.cr0 | CR0_ALWAYS,
            "cr3": self.shadow.root_mpn << PAGE_SHIFT,
            "cr4": state.cr4 & CR4_OF_GUEST,
        }

    def on_exception(self, number: int) -> bool:
        if number == VMEXIT_BASE + PAGE_FAULT and not self._entering and not self._open:
            self.pay_port_accesses()
            if self.fetched_ahead(self._exit_words[2] & 0xFFFFFFFF, self.cpu.error_code):
                return False
        return super().on_exception(number) and not self._open

    def exception_exit(self, vector: int, error_code: int, address: int) -> None:
        if vector == 14:
            self.page_fault(address & 0xFFFFFFFF, error_code)
        else:
            super().exception_exit(vector, error_code, address)

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """The processor may have executed what stood there: which pages it has, shadow tables do not tell."""
        mpn = self.vm.pmap.frame(ppn)
        if mpn is not None and not self.vcpu.is_writing:
            self.cpu.code_changed_at((mpn << PAGE_SHIFT) + offset, size_bytes)

    def hidden_fault_cost(self) -> int:
        return 0  # the exit has been charged

    def trace_fault_cost(self) -> int:
        return 0


__all__ = ["SHADOW_INTERCEPTS", "SvmShadowEngine", "SvmShadowVcpu"]
