"""16-bit code of a deprivileged guest: real mode on the processor's virtual-8086 mode, 16-bit protected mode by steps.

::

    guest                          real CPU
    real mode                      virtual-8086, ring 3, IOPL 0: CLI STI PUSHF POPF INT IRET HLT LGDT MOV CR ... trap
       │  ^                                                       segment loads and far jumps run directly
       │  └── MOV CR0, PE <- 0
       └───── MOV CR0, PE <- 1
       v
    16-bit protected mode          ring 1, the guest's own CS: one step an instruction; what is sensitive is emulated
       │
       └───── far jump ──────────> 32-bit code: the engine's usual way (``super()`` here)

In real mode everything that the guest must not do by itself traps, except SGDT, SIDT and SMSW, which have intercepts
of their own (``Cpu.intercept_machine_reads``). A base or a limit that was loaded in protected mode stays in the segment
register ("unreal" mode): the hidden parts are the guest's own, and virtual-8086 mode changes them only when it loads.

The short way between the two modes is a few dozen instructions and would not be worth a translator: it is stepped.
MODEL: ring 1 and ring 2 are as ring 3 to virtual-8086 mode; the pages of a guest without paging are everybody's.
Source: Intel SDM volume 3, chapter 21; section 9.9 for the ways in and out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, GuestFault, GuestStopped
from vilab.events import Emulated, TrapTaken
from vilab.machine.exits import VMEXIT_BASE, Stop
from vilab.machine.registers import HF_INHIBIT_IRQ
from vilab.vmm import emulate
from vilab.vmm.deprivileged import DeprivilegedEngine
from vilab.vmm.engine import Engine
from vilab.vmm.real_mode import CR0_PE, is_real
from vilab.vmm.sixteen_bit_vcpu import SixteenBitVcpu
from vilab.x86.decode import Instruction, Kind, Truncated, decode

if TYPE_CHECKING:
    from vilab.vmm.engine_state import EngineState

TRAPLESS = frozenset(("int", "int3", "into", "int1", "hlt"))
"""After these no single-step trap comes."""
EMULATED_KINDS = frozenset((Kind.SENSITIVE, Kind.FAR, Kind.UNDEFINED))
STEPPED = frozenset(("in", "out", "ins", "outs", "cpuid"))
"""Of 16-bit protected mode: sensitive, but the processor does them with a hook."""


class SixteenBitEngine(DeprivilegedEngine):
    """To be put before an engine's class: takes over while the guest runs 16-bit code or is in real mode."""

    vcpu: SixteenBitVcpu
    _emulated = False

    @property
    def sixteen(self) -> bool:
        return self.vcpu.sixteen

    # Running -----------------------------------------------------------------------------------------------------

    def enter(self) -> Stop:
        v = self.vcpu
        if not v.sixteen:
            return super().enter()
        self.cpu.eip = v.eip
        if not is_real(v) or v.single_steps_16:
            return self._enter_by_steps()
        if self.creep():
            return Stop.STEPPED
        reason = self.cpu.run()
        self.settle_stores()
        return reason

    def _enter_by_steps(self) -> Stop:
        """Until the mode changes, or something is due."""
        v = self.vcpu
        while v.sixteen and self.ended is None and not self.halted:
            if self.clock.next_ns() <= self.now_ns() or (self.pending and self.interrupts_enabled()):
                break
            if is_real(v) and not v.single_steps_16:
                break
            self.step_raw()
        return Stop.STEPPED

    def settle_stores(self) -> None:
        if not self.sixteen:
            super().settle_stores()
            return
        traced = bool(self._open) and self.vcpu.single_steps_16
        done = self.step_stores()
        if self.sixteen:
            self.vcpu.eip = self.cpu.eip
        if done and traced and self.ended is None:
            self.inject(GuestFault(1))
            self._aim_16()

    def step_raw(self) -> None:
        v = self.vcpu
        if not v.sixteen:
            super().step_raw()
            return
        self.cpu.eip = v.eip
        traced = v.single_steps_16
        self._emulated = False
        reason = self.step_through(self._step_16)
        if reason is Stop.COUNTED:
            self.end("limit", f"{self.cpu.instructions:,} guest instructions have been executed.")
        elif traced and (reason is Stop.STEPPED or self._emulated) and self.ended is None and not self.halted:
            self.inject(GuestFault(1))
            self._aim_16()

    def _step_16(self) -> Stop:
        v = self.vcpu
        if not v.sixteen:
            return Stop.STOPPED
        if not is_real(v):
            if self.shadow.is_monitor(v.pc):
                self.monitor_address_used(v.pc)
                return Stop.STOPPED
            instruction = self._sensitive_instruction()
            if instruction is not None:
                if not self.cpu.count_instruction():
                    return Stop.COUNTED
                self.charge(self.costs.callout)
                self.exits[instruction.op or "#UD"] += 1
                self._emulate_16(instruction)
                self._aim_16()
                return Stop.STOPPED
        reason = self.cpu.step(v.single_steps_16)
        if v.sixteen:
            v.eip = self.cpu.eip
        return reason

    def _sensitive_instruction(self) -> Instruction | None:
        """In 16-bit protected mode: the next instruction, if the processor may not do it for the guest."""
        instruction = self._instruction_16()
        if instruction is None or instruction.kind not in EMULATED_KINDS or instruction.op in STEPPED:
            return None
        return instruction

    def _instruction_16(self) -> Instruction | None:
        v = self.vcpu
        try:
            return decode(v.fetch(), v.eip, v.code_bits)
        except (GuestFault, Truncated):
            return None

    def _aim_16(self) -> None:
        """The vCPU's EIP was changed: the CPU's follows, where they are one."""
        if self.sixteen:
            self.cpu.eip = self.vcpu.eip

    # Exits -------------------------------------------------------------------------------------------------------

    def on_exception(self, number: int) -> bool:
        v = self.vcpu
        directly = v.sixteen
        if not directly:
            go_on = super().on_exception(number)
            self._aim_16()
            return go_on and not v.sixteen
        v.eip = self.cpu.eip
        if number == 14 and not self._open and self.fetched_ahead(self.cpu.cr(2), self.cpu.error_code):
            return False
        mode, cpl = v.cr0 & CR0_PE, v.cpl
        self._exit_16(number)
        self._aim_16()
        if v.cpl != cpl:
            self.ring_changed()
        if not v.sixteen or v.cr0 & CR0_PE != mode or v.single_steps_16:
            return False
        return self.ended is None and not self.halted and not self._open

    def _exit_16(self, number: int) -> None:
        cpu, v = self.cpu, self.vcpu
        if cpu.is_software_interrupt:
            self.exits[f"int {number:02x}"] += 1
            self.charge(self.costs.trap)
            self._emulated = False
            self.deliver_software(number)
            return
        if number == 14:
            self.exits["#PF"] += 1
            self.page_fault(cpu.cr(2), cpu.error_code)
            return
        instruction = self._instruction_16()
        mine = instruction is not None and instruction.kind in (Kind.SENSITIVE, Kind.FAR)
        if instruction is not None and mine and (number == 13 or number >= VMEXIT_BASE):
            self.exits[instruction.op] += 1
            self.charge(self.costs.trap)
            if self.log.active:
                why = "virtual-8086 mode" if number == 13 else "reads the machine"
                self.log.emit(
                    TrapTaken(self.now_ns(), v.eip, v.cpl, 13, 0, instruction.code, why, True, self.costs.trap)
                )
            self._emulate_16(instruction)
            return
        undefined = instruction is not None and instruction.kind is Kind.UNDEFINED and instruction.op != "too long"
        if number == 13 and undefined:
            number = 6  # of two reasons to fault the processor has looked at the ring first
        self.exits[VECTOR_NAMES.get(number, str(number))] += 1
        error = cpu.error_code & 0xFFFF if number in VECTORS_WITH_ERROR_CODE else None
        self.inject(GuestFault(number, error))

    def _emulate_16(self, instruction: Instruction) -> None:
        """Do it for the guest; a fault of its own is the guest's."""
        v = self.vcpu
        eip, cpl = v.eip, v.cpl
        shadowed = self.in_interrupt_shadow()
        try:
            effect = emulate.execute(v, instruction, self)
        except GuestFault as fault:
            self.inject(fault)
            return
        except GuestStopped as stopped:
            self.end("unsupported", str(stopped), good=False)
            return
        self._emulated = instruction.op not in TRAPLESS or (instruction.op == "into" and v.eip == instruction.end)
        self.cpu.d[self.cpu.D_HFLAGS] &= ~HF_INHIBIT_IRQ
        if instruction.inhibits_interrupts and not shadowed:
            self.enter_interrupt_shadow()
        if self.log.active:
            self.log.emit(Emulated(self.now_ns(), eip, instruction.code, effect))
        if not v.sixteen or v.cpl != cpl:
            self.ring_changed()

    # What the engine's own class would answer for its own kind of code --------------------------------------------

    def look_in_port_hook(self) -> None:
        if self.sixteen:
            Engine.look_in_port_hook(self)
            self.vcpu.eip = self.cpu.eip
        else:
            super().look_in_port_hook()

    def in_interrupt_shadow(self) -> bool:
        return Engine.in_interrupt_shadow(self) if self.sixteen else super().in_interrupt_shadow()

    def enter_interrupt_shadow(self) -> None:
        if self.sixteen:
            Engine.enter_interrupt_shadow(self)
        else:
            super().enter_interrupt_shadow()

    def was_counted(self) -> bool:
        return Engine.was_counted(self) if self.sixteen else super().was_counted()

    def will_be_counted_again(self) -> bool:
        return Engine.was_counted(self) if self.sixteen else super().will_be_counted_again()

    def storing_instruction(self) -> Instruction | None:
        return None if self.sixteen else super().storing_instruction()

    def before_step(self) -> bool:
        return self.ended is None if self.sixteen else super().before_step()

    def how_next(self) -> tuple[str, int]:
        if not self.sixteen:
            return super().how_next()
        if is_real(self.vcpu):
            return "native", 3
        return ("emulated" if self._sensitive_instruction() is not None else "native"), 1

    def tc_address(self) -> int | None:
        return None if self.sixteen else super().tc_address()

    def load_state(self, state: EngineState) -> None:
        super().load_state(state)
        self._aim_16()
