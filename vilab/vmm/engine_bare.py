"""No VMM: the guest's kernel runs in ring 0 of the processor, with the same devices. The baseline of every comparison.

What this processor leaves out, delivery through the IDT, is done here by ``deliver.py`` and counts as the processor's
own work: it costs nothing.

MODEL: RDTSC would read the clock of the computer that all this runs on. It is intercepted and answers from virtual
time, so that a bare run is the same every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, GuestFault, VmmBug
from vilab.machine.exits import VMEXIT_BASE
from vilab.machine.intercept import EXIT_RDTSC, EXIT_RDTSCP
from vilab.machine.registers import HF_INHIBIT_IRQ
from vilab.vmm import emulate
from vilab.vmm.executed_code import ExecutedCode
from vilab.vmm.native_vcpu import NativeVcpu
from vilab.vmm.own_reads import OwnReads
from vilab.vmm.vcpu import VcpuState
from vilab.x86.decode import decode
from vilab.x86.flags import TF

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine


KEPT_MSRS = (
    *range(0x174, 0x177), *range(0x200, 0x210), *range(0x250, 0x270), 0x277, 0x2FF, *range(0xC0000081, 0xC0000085),
    0xC0000103,
)  # fmt: skip
"""SYSENTER, memory types, PAT, SYSCALL, TSC_AUX: what this processor keeps of a WRMSR."""


class BareVcpu(NativeVcpu):
    """The debug registers and MSRs too are the processor's own: nobody intercepts them."""

    def save_state(self) -> VcpuState:
        self.debug = self.cpu.debug_registers()
        values = {index: self.cpu.msr(index) for index in KEPT_MSRS}
        self.msrs = {index: value for index, value in values.items() if value}
        return super().save_state()

    def load_state(self, state: VcpuState) -> None:
        super().load_state(state)
        self.cpu.set_debug_registers(state.debug)
        for index in KEPT_MSRS:
            value = state.msrs.get(index, 0)
            if value != self.cpu.msr(index):
                self.cpu.set_msr(index, value)


class BareEngine(OwnReads):
    """The processor is the guest's alone."""

    name = "bare"
    has_backdoor = False
    kernel_ring = 0

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self.vcpu = BareVcpu(vm.cpu, vm.pmap)
        self.executed_code = ExecutedCode(vm.cpu, self.vcpu)

    def start(self) -> None:
        self.vcpu.load_state(self.vm.initial_state())
        self.cpu.intercept_rdtsc()

    def exit_cycles_of_read(self) -> None:
        return None

    def on_exception(self, number: int) -> bool:
        software = self.cpu.is_software_interrupt
        if number >= VMEXIT_BASE:
            self._read_time(number - VMEXIT_BASE)
            return self.ended is None
        self.exits[f"int {number:02x}" if software else VECTOR_NAMES.get(number, str(number))] += 1
        if software:
            self.deliver_software(number)
        else:
            error = self.cpu.error_code & 0xFFFF if number in VECTORS_WITH_ERROR_CODE else None
            if number == 14:
                self.inject(GuestFault(14, error, self.cpu.cr(2)), counted=self.was_counted())
            else:
                self.inject(GuestFault(number, error))
        return self.ended is None

    def _read_time(self, exit_code: int) -> None:
        if exit_code not in (EXIT_RDTSC, EXIT_RDTSCP):
            raise VmmBug(f"The bare processor took #VMEXIT {exit_code:#x} without a VMCB.")
        self.exits["rdtsc"] += 1
        traced = bool(self.vcpu.eflags() & TF)
        try:
            instruction = decode(self.vcpu.fetch(), self.vcpu.eip, self.vcpu.code_bits)
            emulate.execute(self.vcpu, instruction, self)
            self.cpu.set_executed_bytes(self.cpu.executed_bytes + instruction.size)
            self.cpu.d[self.cpu.D_HFLAGS] &= ~HF_INHIBIT_IRQ  # a shadow of STI covers one instruction, and this was it
            if traced:
                self.inject(GuestFault(1))
        except GuestFault as fault:
            self.inject(fault)
