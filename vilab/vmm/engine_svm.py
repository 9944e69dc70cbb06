"""Hardware assist: AMD-V. The guest has a ring 0 of its own, and the VMM is below it.

::

    host, ring 0            guest mode, rings 0-3                                   VMM
    ┌───────────────┐
    │ clgi          │        guest kernel, CPL 0 ── intercepted instruction ─┐
    │ vmload [vmcb] │        guest user,   CPL 3 ── nested page fault ───────┤
    │ vmrun  [vmcb] │──────>   ^   its own CR3, GDT, IDT: exceptions,        └#VMEXIT──> handle, move EIP ─┐
    └───────────────┘          │   INT n and IRET never leave it                                            │
                               └──────────────────────────────────────────────────────────────── VMRUN ─────┘

The processor does VMRUN, guest mode, intercepts and the nested walk itself. What it leaves out is done here, and
counted as the hardware would; where that departs from hardware says MODEL in::

    SvmEngine ──┬── SvmHandling   svm_handling     what is done at each #VMEXIT
                ├── SvmDevices    svm_devices      ports, registers in memory, interrupts
                ├── SvmMemory     svm_memory       the TLB, and code that has changed
                └── SvmGuestCode  svm_guest_code   the instruction at which the guest has stopped
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import VmmBug
from vilab.machine.exits import UNLIMITED
from vilab.vmm import svm_exits as codes
from vilab.vmm import vmcb
from vilab.vmm.engine_state import EngineState
from vilab.vmm.monitor import MonitorFrames
from vilab.vmm.nested_paging import NestedTables
from vilab.vmm.records import Registers
from vilab.vmm.svm_devices import SvmDevices
from vilab.vmm.svm_handling import SvmHandling
from vilab.vmm.svm_intercepts import with_those_always_set
from vilab.vmm.svm_memory import SvmMemory, SvmVcpu
from vilab.vmm.vcpu import TR, VcpuState, cpu_registers
from vilab.vmm.vmcb_build import refused_because, save_area

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

ENTRY_CODE = bytes.fromhex("0f01dd 0f01da 0f01d8")
"""clgi; vmload; vmrun, all with the VMCB's address in EAX."""

IO_PERMISSION_FRAMES, MSR_PERMISSION_FRAMES = 3, 2
EXIT_CODE = vmcb.FIELD["exitcode"].offset


class SvmEngine(SvmHandling, SvmDevices, SvmMemory):
    """VMRUN with nested paging.

    Parameters
    ----------
    intercepts : more reasons to exit, by their names in ``svm_exits.INTERCEPTS``: ``("cr3 write", "invlpg", "pushf")``.

    Raises
    ------
    AdminError : no such intercept, or one that is not handled here.
    """

    name = "svm"
    kernel_ring = 0

    def __init__(self, vm: VirtualMachine, intercepts: Sequence[str] = ()) -> None:
        super().__init__(vm)
        self.intercepts = with_those_always_set(intercepts)
        self.vcpu: SvmVcpu = SvmVcpu(vm.cpu, vm.pmap)
        self.vcpu.mmu = self
        self.frames = MonitorFrames(vm.monitor_frames)
        self._memory = vm.machine_memory
        self.vmcb_mpa = self.frames.run(1) << PAGE_SHIFT
        self._host_save_mpa = self.frames.run(1) << PAGE_SHIFT
        self._entry_mpa = self.frames.run(1) << PAGE_SHIFT
        self._io_map_mpa = self._filled(IO_PERMISSION_FRAMES)
        self._msr_map_mpa = self._filled(MSR_PERMISSION_FRAMES)
        self.tlb_flushes = 0
        self.nested = NestedTables(vm.machine_memory, self.frames, vm.pmap, self._flush_tlb)
        vm.pmap.listeners.append(self)
        self._block = self._memory.view[self.vmcb_mpa : self.vmcb_mpa + vmcb.VMCB_BYTES]
        self._exit_words = self._block[EXIT_CODE : EXIT_CODE + 24].cast("Q")
        self._cycles = self.costs.vm_exit + self.costs.vm_entry

    def exit_cycles_of_read(self) -> int:
        return self._cycles

    def _filled(self, frames: int) -> int:
        """Frames of ones: a permission map that allows nothing."""
        mpa = self.frames.run(frames) << PAGE_SHIFT
        self._memory.write(mpa, b"\xff" * (frames * PAGE_BYTES))
        return mpa

    # Entering ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Build the VMCB and execute VMRUN. The first fetch finds the nested tables empty, and that is far enough."""
        state = self.vm.initial_state()
        values = self.control_area() | self.state_area(state)
        refused = refused_because(values)
        if refused:
            raise VmmBug(f"VMRUN would refuse this VMCB: {'; '.join(refused)}.")
        vmcb.put(self._block, values)
        cpu = self.cpu
        cpu.set_msr(vmcb.MSR_EFER, vmcb.EFER_SVME)
        cpu.set_msr(vmcb.MSR_VM_HSAVE_PA, self._host_save_mpa)
        self._memory.write(self._entry_mpa, ENTRY_CODE)
        for index, value in enumerate(state.gpr):
            cpu.gpr[index] = value
        cpu.set_fpu(state.fpu)
        cpu.gpr[0], cpu.eip = self.vmcb_mpa, self._entry_mpa
        cpu.set_limit(UNLIMITED)
        self._entering = True
        cpu.run()
        self._entering = False
        if not cpu.in_guest_mode:
            raise VmmBug(f"VMRUN has not entered the guest; the processor is at {cpu.eip:08x}.")
        cpu.intercept_task_register()
        self.vcpu.set_segment(TR, *state.segments[TR])
        cpu.set_executed_bytes(0)
        if self._counting is not None:
            cpu.count_instructions(self._counting)

    def count_instructions(self, limit: int) -> None:
        self._counting = limit

    def control_area(self) -> vmcb.Values:
        """What this VMM wants of the processor."""
        return {
            **codes.intercept_words(self.intercepts),
            "iopm_base_pa": self._io_map_mpa,
            "msrpm_base_pa": self._msr_map_mpa,
            "guest_asid": 1,
            "tlb_control": vmcb.TLB_FLUSH_ALL,
            "np_enable": 1,
            "n_cr3": self.nested.root_mpn << PAGE_SHIFT,
        }

    def state_area(self, state: VcpuState) -> vmcb.Values:
        """What VMRUN loads: the guest as it is."""
        return save_area(state)

    # What there is to see ----------------------------------------------------------------------------------------

    def read_vmcb(self) -> vmcb.Values:
        """The block as hardware would have left it, had the guest exited just now; it is brought up to date first."""
        vmcb.put(self._block, save_area(self.vcpu.save_state()))
        vmcb.put(self._block, {"interrupt_shadow": int(self.in_interrupt_shadow())})
        return vmcb.parse(self._block)

    def cpu_registers(self) -> Registers:
        return cpu_registers(
            self.cpu, self.cpu.eip, self.vcpu.registers().stack_top, nested_cr3=self.nested.root_mpn << PAGE_SHIFT
        )

    def statistics(self) -> dict[str, object]:
        found = super().statistics()
        nested = {"pages": sum(1 for _ in self.nested.entries()), "tlb_flushes": self.tlb_flushes}
        return found | {"nested": nested}

    # State -------------------------------------------------------------------------------------------------------

    def load_state(self, state: EngineState) -> None:
        """The processor is in guest mode since ``start``; the guest in it becomes another one."""
        self.nested.clear()
        self.cpu.forget_code()
        super().load_state(state)
        self._left_by_hlt = state.halted

    def save_caches(self) -> dict[str, object]:
        return super().save_caches() | {"frames_used": self.frames.used, "tlb_flushes": self.tlb_flushes}

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        self.frames.used, self.tlb_flushes = saved["frames_used"], saved["tlb_flushes"]
