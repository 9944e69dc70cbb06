"""AMD-V with shadow page tables: what the first processors with hardware assist offered.

::

    guest mode   MOV CR0, CR3, CR4, INVLPG ──#VMEXIT──> the guest's own registers; shadow tables follow
                 #PF ──────────────────────#VMEXIT──> hidden, trace or true fault (``shadow_faults``)
    VMCB         np_enable 0, CR3 = shadow root, CR0.PG and CR0.WP always 1

The guest's kernel runs in ring 0 as it is, and nothing of the monitor lies in its address space. Everything that has to
do with page tables exits: the hardware column of Adams and Agesen 2006. A guest without paging runs on flat shadow
tables, in real mode too (paged real mode: PE 0, PG 1, which only a VMRUN allows).

A task switch loads CR3 from the guest's TSS, and would put the guest on tables of its own::

    JMP or CALL to a TSS, IRET with NT ──> old TSS ──TR──> the dark: 4 MB that no shadow directory maps ──#PF──> emulate
    CALL through a gate to an inner ring ──────^

On hardware that is an exit ("task switch"); this processor has no such intercept. So its TR leads into the dark, every
transfer that needs the task register faults there, and ``far`` does it or says that it cannot. Once the guest has a use
for the dark, another 4 MB take its place.
MODEL: such a fault is the processor's own work: no exit, no cost.
MODEL: CR0 and CR4 reads exit always; a VMM could let them be while the guest's values are the real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_OFFSET_MASK, PAGE_SHIFT
from vilab.events import VmExit
from vilab.machine.cpu import Cpu
from vilab.machine.exits import VMEXIT_BASE
from vilab.machine.registers import EDI, ES
from vilab.memory.pmap import Pmap
from vilab.vmm import svm_exits as codes
from vilab.vmm import vmcb
from vilab.vmm.engine_svm import SvmEngine
from vilab.vmm.operands import address_in, linear
from vilab.vmm.records import Registers
from vilab.vmm.shadow_faults import ShadowFaults
from vilab.vmm.shadow_paging import ShadowTables
from vilab.vmm.simulate import MOVS, STOS
from vilab.vmm.svm_guest_code import MAX_BYTES
from vilab.vmm.svm_memory import SvmVcpu
from vilab.vmm.vcpu import (
    CR0_TRANSLATION,
    CR4_PGE,
    CR4_TRANSLATION,
    TR,
    TSS_BUSY,
    HiddenSegment,
    VcpuState,
    cpu_registers,
)
from vilab.x86 import paging as pg
from vilab.x86.descriptors import TSS32_BYTES

if TYPE_CHECKING:
    from vilab.addresses import Ppn
    from vilab.vmm.vm import VirtualMachine

SHADOW_INTERCEPTS = (
    "exception 0e", "cr0 read", "cr0 write", "cr3 read", "cr3 write", "cr4 read", "cr4 write", "invlpg",
)  # fmt: skip
CR0_TASK_BITS = 0xE
CR0_ALWAYS = 1 << 31 | 1 << 16
"""PG and WP, whatever the guest has set: shadow entries say what it may do."""
CR4_OF_GUEST = 1 << 2 | 1 << 3 | 1 << 9 | 1 << 10
"""TSD DE OSFXSR OSXMMEXCPT. The others are about page tables."""
PAGE_FAULT = codes.EXCEPTION_BASE + 14
TASK_FLAGS = 0x8900
"""A 32-bit TSS that is present."""
USES_TASK = frozenset(("jmp far", "call far", "iret"))


class SvmShadowVcpu(SvmVcpu):
    """CR0, CR3, CR4 and TR as the guest set them are kept here; all else is the processor's.

    ``dark`` : linear address of 4 MB that no shadow directory maps; the processor's TR leads there.
    """

    cr0 = 0x11
    cr3 = 0
    cr4 = 0

    def __init__(self, cpu: Cpu, pmap: Pmap) -> None:
        super().__init__(cpu, pmap)
        self._task: HiddenSegment = (0, 0, 0, 0)
        self.dark = 0

    def segment(self, index: int) -> HiddenSegment:
        return self._task if index == TR else super().segment(index)

    def set_segment(self, index: int, selector: int, base: int, limit: int, flags: int) -> None:
        if index != TR:
            super().set_segment(index, selector, base, limit, flags)
            return
        self._task = selector, base, limit, flags | TSS_BUSY if flags else 0
        super().set_segment(TR, selector, self.dark, TSS32_BYTES - 1, TASK_FLAGS)

    def move_dark(self, address: int) -> None:
        """The processor's TR leads there from now on."""
        self.dark = address
        self.set_segment(TR, *self._task)

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
            if (self.cpu.cr(0) ^ (value | CR0_ALWAYS)) & ~CR0_TASK_BITS:
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
        vm.pmap.listeners.remove(self.nested)  # they stay empty
        self.shadow = ShadowTables(vm.cpu, vm.machine_memory, self.frames, vm.pmap, trace)
        self.vcpu: SvmShadowVcpu = SvmShadowVcpu(vm.cpu, vm.pmap)
        self.vcpu.mmu = self
        self.vcpu.dark = self.shadow.unlinked_slot(-1) << pg.LARGE_SHIFT

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
        if number == VMEXIT_BASE + PAGE_FAULT and not self._entering:
            gva = self._exit_words[2] & 0xFFFFFFFF
            if gva >> pg.LARGE_SHIFT == self.vcpu.dark >> pg.LARGE_SHIFT and self._in_the_dark(gva):
                return self.ended is None and not self._open
            self.pay_port_accesses()
            if not self._open and self.fetched_ahead(gva, self.cpu.error_code):
                return False
        return super().on_exception(number) and not self._open

    def _in_the_dark(self, gva: int) -> bool:
        """A fault there: is it a transfer that needs the task register? Then it is done. Else the guest moves in."""
        v = self.vcpu
        fetched = v.pc <= gva < v.pc + MAX_BYTES
        instruction = self.instruction() if gva - v.dark < TSS32_BYTES and not fetched else None
        if instruction is not None and instruction.op in USES_TASK:
            self.pay_port_accesses()
            self.as_processor(instruction)
            return True
        v.move_dark(self.shadow.unlinked_slot(v.dark >> pg.LARGE_SHIFT) << pg.LARGE_SHIFT)
        return False

    def exception_exit(self, vector: int, error_code: int, address: int) -> None:
        if vector == 14:
            self.page_fault(address & 0xFFFFFFFF, error_code)
        else:
            super().exception_exit(vector, error_code, address)

    def _mmio_exit(self, gpa: int, error_code: int) -> None:
        """On hardware: a page fault at an entry that is never filled, and an instruction to emulate."""
        if not self.log.active:
            return
        at_ns = self.now_ns()
        self.look_in_port_hook()
        v, i, gva, code = self.vcpu, self.instruction(), gpa, b""
        if i is not None:
            code = i.code
            if i.memory is not None:
                gva = linear(v, i)
            elif i.opcode in STOS or (i.opcode in MOVS and error_code & pg.ERROR_WRITE):
                gva = address_in(v, ES, v.gpr[EDI])
        info1 = error_code | (pg.ERROR_USER if v.cpl == 3 else 0)
        words = self._exit_words
        words[0], words[1], words[2] = PAGE_FAULT, info1, gva
        reason = codes.EXITS[PAGE_FAULT].reason
        self.log.emit(VmExit(at_ns, v.eip, v.cpl, PAGE_FAULT, reason, info1, gva, code, self._cycles))

    def page_content_changed(self, ppn: Ppn, offset: int, size_bytes: int) -> None:
        """The processor may have executed what stood there: which pages it has, shadow tables do not tell."""
        mpn = self.vm.pmap.frame(ppn)
        if mpn is not None and not self.vcpu.is_writing:
            self.cpu.code_changed_at((mpn << PAGE_SHIFT) + offset, size_bytes)

    def _look(self, gva: int, size_bytes: int, user: bool) -> bytes:
        """Through the shadow tables: the guest may have changed its own and told nobody yet."""
        words = self._memory.words
        entry = words[self.shadow.root.at + (gva >> pg.LARGE_SHIFT)]
        if entry & pg.PRESENT:
            entry = words[entry >> PAGE_SHIFT << 10 | gva >> PAGE_SHIFT & 0x3FF]
            if entry & pg.PRESENT and entry & pg.FRAME_MASK < self._memory.size_bytes:
                return self._memory.read(entry & pg.FRAME_MASK | gva & PAGE_OFFSET_MASK, size_bytes)
        return super()._look(gva, size_bytes, user)

    def read_vmcb(self) -> vmcb.Values:
        values = super().read_vmcb()
        real = {f"cr{number}": self.cpu.cr(number) for number in (0, 3, 4)}
        vmcb.put(self._block, real)
        return values | real

    def cpu_registers(self) -> Registers:
        return cpu_registers(self.cpu, self.cpu.eip, self.vcpu.registers().stack_top)

    def hidden_fault_cost(self) -> int:
        return 0  # the exit has been charged

    def trace_fault_cost(self) -> int:
        return 0

    def save_caches(self) -> dict[str, object]:
        return super().save_caches() | {"dark": self.vcpu.dark}

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        self.vcpu.move_dark(saved["dark"])

    def statistics(self) -> dict[str, object]:
        found = super().statistics()
        del found["nested"]
        return found


__all__ = ["SHADOW_INTERCEPTS", "SvmShadowEngine", "SvmShadowVcpu"]
