"""What trap-and-emulate and translation share: ring 1 for the guest's kernel, and a monitor in its address space.

::

    ring 0   the monitor         its tables are what the CPU's GDTR, IDTR, LDTR, TR and CR3 point to
    ring 1   the guest's kernel  directly, or as a translation
    ring 3   the guest's user code
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_SHIFT
from vilab.errors import GuestFault
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.executed_code import ExecutedCode
from vilab.vmm.monitor import Monitor, MonitorFrames
from vilab.vmm.shadow_faults import ShadowFaults
from vilab.vmm.shadow_paging import ShadowTables

if TYPE_CHECKING:
    from vilab.vmm.engine_state import EngineState
    from vilab.vmm.vm import VirtualMachine

CPU_CR0 = 0x80010033
"""What the CPU's CR0 really holds: PG WP NE ET MP PE."""
CPU_CR4 = 0x00000014
"""PSE and TSD: RDTSC traps outside ring 0, so that time is virtual. OSFXSR is the guest's."""


class DeprivilegedEngine(ShadowFaults):
    """The guest's kernel is in ring 1, the VMM has the machine."""

    kernel_ring = 1
    kernel_runs_directly = True
    """As it stands, and not from a translation."""

    def __init__(self, vm: VirtualMachine, trace: str = "all") -> None:
        super().__init__(vm)
        self.frames = MonitorFrames(vm.monitor_frames)
        self.shadow = ShadowTables(vm.cpu, vm.machine_memory, self.frames, vm.pmap, trace)
        self.monitor = Monitor(vm.cpu, vm.machine_memory, self.frames, self.shadow)
        self.vcpu: DeprivilegedVcpu = self.make_vcpu()
        self.vcpu.mmu = self
        pages = None if self.kernel_runs_directly else self.shadow.in_ring_3
        self.executed_code = ExecutedCode(vm.cpu, self.vcpu, pages)

    def make_vcpu(self) -> DeprivilegedVcpu:
        return DeprivilegedVcpu(self.cpu, self.vm.pmap, self.monitor.flag_word)

    def start(self) -> None:
        cpu = self.cpu
        cpu.set_cr(3, self.shadow.root_mpn << PAGE_SHIFT)
        cpu.set_cr(4, CPU_CR4)
        cpu.set_cr(0, CPU_CR0)
        self.monitor.enter_cpu()
        self.vcpu.load_state(self.vm.initial_state())
        self.ring_changed()

    # Interrupt flag ----------------------------------------------------------------------------------------------

    def interrupts_enabled(self) -> bool:
        return self.vcpu.interrupts_enabled

    def flag_address(self) -> int:
        return 0 if self.vcpu.cpl == 3 else self.monitor.flag_address

    def ring_changed(self) -> None:
        self.cpu.set_interrupt_pending(self.pending, self.flag_address())
        if self.vcpu.cpl == 3:
            try:
                self.monitor.copy_tables(self.vcpu)
            except GuestFault:
                self.monitor.forget_tables()  # the guest's table is not mapped: no segment can be loaded from it

    def port_cost(self) -> int:
        return self.costs.callout

    def interrupt_cost(self) -> int:
        return self.costs.interrupt

    def save_caches(self) -> dict[str, object]:
        return super().save_caches() | {"frames": self.frames.used, "tables_seen": self.monitor.tables_seen}

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        self.frames.used = saved["frames"]
        self.monitor.tables_seen = saved["tables_seen"]

    def load_state(self, state: EngineState) -> None:
        self.monitor.forget_tables()
        super().load_state(state)
