"""Interrupts and exceptions on their way to the guest, the same for all engines.

::

    device ──> interrupt controllers ──interrupt_changed──> pending ──(IF, no shadow)──> deliver_interrupt ──┐
    instruction ──fault──> inject ────────────────────────────────────────────────────────────────────────────┼─> IDT
    INT n ──> deliver_software ───────────────────────────────────────────────────────────────────────────────┘

What happens at the guest's IDT is in ``deliver``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.addresses import PAGE_BYTES
from vilab.clock import Timer
from vilab.errors import GuestFault, GuestStopped
from vilab.events import ExceptionDelivered, InterruptDelivered, TrueFault
from vilab.machine.registers import CS, HF_INHIBIT_IRQ
from vilab.vmm import deliver
from vilab.vmm.engine_platform import EnginePlatform
from vilab.vmm.engine_time import SETTLE_NS
from vilab.x86.decode import disassemble
from vilab.x86.flags import IF

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

MOST_EXCEPTIONS = 2000
DR6_BS = 1 << 14


class EngineDelivery(EnginePlatform):
    """Part of every engine."""

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self.hidden_faults = self.true_faults = self.trace_faults = 0
        self.pending = False
        self._settle_timer: Timer | None = None
        self._exceptions, self._last_exception_bytes = 0, -1

    # Interrupts --------------------------------------------------------------------------------------------------

    def interrupt_changed(self, high: bool) -> None:
        """The interrupt controllers' output. See ``SETTLE_NS`` for why a port access delays the rising edge."""
        if high and self._in_port_access:
            if self._settle_timer is None or self._settle_timer.action is None:
                self._settle_timer = self.clock.at(self.clock.now_ns + SETTLE_NS, self._settle)
        else:
            self._set_pending(high)

    def _settle(self) -> None:
        self._settle_timer = None
        self._set_pending(self.vm.pc.interrupts.pending())

    def _set_pending(self, pending: bool) -> None:
        self.pending = pending
        self.cpu.set_interrupt_pending(pending, self.flag_address())

    def flag_address(self) -> int:
        """Host address of the byte with the virtual interrupt flag; 0 where the processor's own counts."""
        return 0

    def interrupts_enabled(self) -> bool:
        return bool(self.vcpu.eflags() & IF)

    def in_interrupt_shadow(self) -> bool:
        """Just after STI or a load of SS: the next instruction comes first."""
        return bool(self.cpu.d[self.cpu.D_HFLAGS] & HF_INHIBIT_IRQ)

    def enter_interrupt_shadow(self) -> None:
        self.cpu.d[self.cpu.D_HFLAGS] |= HF_INHIBIT_IRQ

    def deliver_interrupt(self) -> None:
        self.sync_clock()
        vector = self.vm.pc.interrupts.acknowledge()
        self.exits["interrupt"] += 1
        eip = self.vcpu.eip
        self.before_delivery()
        try:
            deliver.deliver(self.vcpu, vector, external=True)
        except GuestFault as fault:
            self.inject(fault, counted=False)
            return
        if self.log.active:
            self.log.emit(InterruptDelivered(self.clock.now_ns, vector, eip, self.vcpu.eip))
        self.charge(self.interrupt_cost())
        self.ring_changed()

    def interrupt_cost(self) -> int:
        return 0

    def before_delivery(self) -> None:
        """The vCPU's record must be complete."""

    def ring_changed(self) -> None:
        """CPL, CS or EIP was changed by the monitor: prepare the processor for it."""

    # Exceptions --------------------------------------------------------------------------------------------------

    def inject(self, fault: GuestFault, software: bool = False, counted: bool = True) -> None:
        """Give the guest an exception that is its own. ``counted``: it belongs to an instruction that was counted."""
        eip = self.vcpu.eip
        if self._is_stuck():
            self.end("stuck", f"The guest's exception handlers fault without end at {eip:08x}.", good=False)
            return
        if counted and fault.vector != 1:
            self.cpu.uncount_instruction()
        if fault.vector == 14:
            self.true_faults += 1
            if self.log.active:
                self.log.emit(TrueFault(self.now_ns(), fault.address or 0, fault.error_code or 0, eip))
        elif fault.vector == 1:
            self.vcpu.debug[6] |= DR6_BS  # a single step; whatever else raises #DB goes another way
        try:
            delivered = deliver.inject(self.vcpu, fault, software=software)
        except GuestStopped as stopped:
            self.end("triple_fault" if "Triple" in str(stopped) else "unsupported", str(stopped), good=False)
            return
        if self.log.active:
            self.log.emit(
                ExceptionDelivered(
                    self.now_ns(), delivered.vector, delivered.error_code, eip, self.vcpu.eip, delivered.why
                )
            )
        self.ring_changed()

    def _is_stuck(self) -> bool:
        """Thousands of exceptions and not one instruction between them: nothing else would end such a run."""
        executed = self.cpu.executed_bytes
        self._exceptions = self._exceptions + 1 if executed == self._last_exception_bytes else 0
        self._last_exception_bytes = executed
        return self._exceptions >= MOST_EXCEPTIONS

    def was_counted(self) -> bool:
        """After a page fault in a counted run: has the instruction been counted? Not if it could not be fetched."""
        return self.cpu.counted_at == self.cpu.pc

    def deliver_software(self, vector: int) -> None:
        """INT n, with EIP behind the instruction. A fault on the way belongs to the instruction itself."""
        v = self.vcpu
        behind = v.eip
        try:
            deliver.deliver(v, vector, software=True)
        except GuestFault as fault:
            v.eip = behind - self._software_length(behind, vector) & 0xFFFFFFFF
            self.inject(fault)
            return
        except GuestStopped as stopped:
            self.end("unsupported", str(stopped), good=False)
            return
        if self.log.active:
            self.log.emit(ExceptionDelivered(self.now_ns(), vector, None, behind, v.eip))
        self.ring_changed()

    def _software_length(self, behind: int, vector: int) -> int:
        """How long the INT was that ends there: the processor says where its block began."""
        v = self.vcpu
        base, user = v.segment(CS)[1], v.cpl == 3
        end = behind + base & 0xFFFFFFFF
        at = self.cpu.block_start
        if 0 < end - at <= PAGE_BYTES:
            code = v.read(at, end - at, user)
            for instruction in disassemble(code, at, v.code_bits):
                if instruction.end == end:
                    return instruction.size
        last = v.read(end - 1 & 0xFFFFFFFF, 1, user)[0]
        return 1 if (vector, last) in ((3, 0xCC), (4, 0xCE)) else 2

    def on_exception(self, number: int) -> bool:
        raise NotImplementedError
