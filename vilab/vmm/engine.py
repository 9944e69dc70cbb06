"""What all engines share: the loop between processor, clock and devices, and exact interrupts.

::

    run ──> due timers ──> interrupt? deliver ──> how far may the processor go? ──> enter ──> why did it come back? ─┐
     ^                                            (to the next timer)                                               │
     └───────────────────────────────────────────────────────────────────────────────────────────────────────────┘

The processor stops before the block that would pass the next timer; from there ``run`` goes on instruction by
instruction. So a timer's interrupt is taken at the first instruction boundary at or after its time, wherever blocks
begin and end, and a stepped run and an unstepped one log the same events.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from vilab.addresses import PAGE_BYTES
from vilab.clock import NEVER_NS, Timer
from vilab.errors import GuestFault, GuestStopped
from vilab.events import (
    ExceptionDelivered,
    Halted,
    InstructionRetired,
    InterruptDelivered,
    RunEnded,
    TrueFault,
)
from vilab.machine.exits import Stop
from vilab.machine.registers import CS, HF_INHIBIT_IRQ
from vilab.vmm import deliver
from vilab.vmm.engine_platform import EnginePlatform
from vilab.vmm.engine_time import SETTLE_NS
from vilab.vmm.records import GPR_NAMES, Ended, Registers
from vilab.vmm.vcpu import Vcpu, VcpuState, cpu_registers
from vilab.x86.decode import disassemble
from vilab.x86.flags import IF, TF

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

SLICE_BYTES = 20_000_000
"""At least this often the processor comes back to Python, so that the run can be stopped from the keyboard."""

NEAR_NS = 1 << 20
MOST_EXCEPTIONS = 2000
DR6_BS = 1 << 14


class EngineState(msgspec.Struct):
    """Of the loop: time, halt, and an interrupt on its way. The vCPU's own record is ``vcpu``.

    ``pending``: an interrupt waits for IF (``None``: if the controllers say so); ``interrupt_shadow``: not before the
    next instruction is done.
    """

    vcpu: VcpuState
    executed_bytes: int
    offset_ns: int
    halted: bool
    settle_at_ns: int | None
    owed_ns: int = 0
    owed_at_ns: int | None = None
    pending: bool | None = None
    interrupt_shadow: bool = False


class Engine(EnginePlatform):
    """One way of running a guest. Subclasses define how control is gained and given back."""

    name = "engine"
    kernel_ring = 0
    """The ring that the guest's kernel really runs in."""

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self.cpu.handler = self
        self.hidden_faults = self.true_faults = self.trace_faults = 0
        self.halted = False
        self.pending = False
        self._settle_timer: Timer | None = None
        self._paused = False
        self._exceptions, self._last_exception_bytes = 0, -1
        self.stop_eip: int | None = None
        self.vcpu: Vcpu
        self.publish_apic_id()

    # Halt -------------------------------------------------------------------------------------------------------------

    def halt(self) -> None:
        if self.stop_eip is not None and self.vcpu.eip == self.stop_eip + 1:
            # The loader put this HLT where the image returns to: it is not the guest's and does not count.
            self.vcpu.eip = self.stop_eip
            self.cpu.set_executed_bytes(self.cpu.executed_bytes - 1)
            self.cpu.uncount_instruction()
            self.returned()
            return
        if self.log.active:
            self.log.emit(Halted(self.sync_clock(), self.vcpu.eip))
        self.halted = True

    def returned(self) -> None:
        """The guest has reached the address where it was told to return."""
        register = self.vm.image.returns_register
        answer = ""
        if register is not None:
            answer = f" with {register.upper()} = {self.vcpu.gpr[GPR_NAMES.index(register)] & 0xFFFFFFFF}"
        self.end("returned", f"{self.vm.image.name} has returned{answer}.")

    def processor_halted(self) -> None:
        """The processor itself has executed HLT."""
        self.halt()
        if self.halted:
            self.exits["hlt"] += 1

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

    def count_instructions(self, limit: int) -> None:
        """Count guest instructions exactly, and end the run after this many."""
        self.cpu.count_instructions(limit)

    # The loop ----------------------------------------------------------------------------------------------------

    def look_in_port_hook(self) -> None:
        """Bring the vCPU up to date in the middle of a block, EIP on the instruction that accesses a port."""
        self.cpu.look()

    def end(self, reason: str, sentence: str, good: bool = True) -> None:
        """The run is over; the processor stops at the next opportunity."""
        if self.ended is None:
            self.ended = Ended(reason, sentence, good)
            if self.cpu.in_port_hook:
                self.look_in_port_hook()
            if self.log.active:
                self.log.emit(RunEnded(self.sync_clock(), self.vcpu.eip, reason, sentence))
            self.cpu.set_limit(0)
            if self._in_port_access or self.cpu.running:
                self.cpu.stop()

    def start(self) -> None:
        """Put the guest's first state into place."""
        raise NotImplementedError

    def run(self, until_ns: int = NEVER_NS) -> Ended | None:
        """Run until the guest ends, or until virtual time reaches ``until_ns``."""
        if until_ns < NEVER_NS:
            self.clock.at(until_ns, lambda: None)
        # Looking for cycles among hundreds of thousands of translations would take a tenth of the time.
        self._paused = False
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._run(until_ns)
        finally:
            if collecting:
                gc.enable()

    def _run(self, until_ns: int) -> Ended | None:
        while self.ended is None:
            if self.sync_clock() >= until_ns or self._paused:
                break
            if not self.prepare():
                continue
            reason = self.enter()
            if reason is Stop.HALTED:
                self.processor_halted()
            elif reason is Stop.LIMIT:
                self.walk_to_limit()
            elif reason is Stop.COUNTED:
                self.end("limit", f"{self.cpu.instructions:,} guest instructions have been executed.")
        return self.ended

    def pause(self) -> None:
        """Leave ``run`` at the next instruction boundary: the host has something to do before the guest goes on."""
        self._paused = True
        self.clock.at(self.now_ns(), lambda: None)
        self.set_limit()

    def prepare(self) -> bool:
        """Timers, interrupts, halt. False: something happened, look again; the processor may not run yet."""
        self.clock.run_due()
        if self.pending and self.interrupts_enabled():
            if self.in_interrupt_shadow() and not self.halted:
                self.step_raw()
                return False
            self.halted = False
            self.deliver_interrupt()
            return False
        if self.halted:
            self.wait()
            return False
        self.slice_end = self.cpu.executed_bytes + SLICE_BYTES
        self.set_limit()
        return True

    def wait(self) -> None:
        """Halted: jump to the next timer."""
        if not self.interrupts_enabled():
            self.end("halted", "The guest has halted with interrupts off: nothing can wake it.", good=False)
            return
        if self.vm.poll_input():
            return
        if self.vm.pc.interrupts.all_masked():
            self.end("halted", "The guest has halted with every interrupt masked: nothing can wake it.", good=False)
            return
        at_ns = self.clock.next_ns()
        if at_ns >= NEVER_NS:
            self.end("halted", "The guest has halted and nothing will wake it.", good=True)
            return
        self.vm.pace(at_ns)
        if at_ns > self.clock.now_ns:
            self.offset_ns += at_ns - self.clock.now_ns
            self.clock.now_ns = at_ns

    def enter(self) -> Stop:
        """Run the processor until it comes back."""
        return self.cpu.run()

    def walk_to_limit(self) -> None:
        """Instruction by instruction to the first boundary at or after the limit."""
        while self.ended is None and not self.halted:
            at_ns = self.clock.next_ns()
            # Further away than any block: it was only the end of a slice.
            if (
                at_ns - self.now_ns() > NEAR_NS
                or self.now_ns() >= at_ns
                or (self.pending and self.interrupts_enabled())
            ):
                return
            self.step_raw()

    def step_raw(self) -> None:
        """One guest instruction, with the exits that it causes, without looking at timers."""
        traced = bool(self.vcpu.eflags() & TF)
        reason = self.step_through(self.cpu.step)
        if reason is Stop.STEPPED and traced and self.ended is None:
            self.inject(GuestFault(1))
        elif reason is Stop.HALTED:
            self.processor_halted()
        elif reason is Stop.COUNTED:
            self.end("limit", f"{self.cpu.instructions:,} guest instructions have been executed.")

    def step_through(self, step: Callable[[], Stop]) -> Stop:
        """Step until the instruction is done: again after each hidden fault, unless something has become due."""
        while True:
            hidden = self.hidden_faults
            reason = step()
            if reason is not Stop.STOPPED or self.hidden_faults == hidden or self.ended is not None:
                return reason
            if self.clock.next_ns() <= self.now_ns():
                return reason

    # Stepping ----------------------------------------------------------------------------------------------------

    def step_instruction(self) -> bool:
        """One guest instruction as ``run`` would execute it, with what is due before it. False: the run is over."""
        if not self.step_to_instruction():
            return False
        if self.log.wants_instructions:
            self._log_instruction()
        self.step_raw()
        return True

    def step_to_instruction(self) -> bool:
        """Whatever is due before the next instruction, and the processor standing on it. False: the run is over."""
        while self.ended is None:
            self.sync_clock()
            due = self.clock.next_ns() <= self.clock.now_ns or self.halted
            interrupted = self.pending and self.interrupts_enabled() and not self.in_interrupt_shadow()
            if (due or interrupted) and not self.prepare():
                continue
            # Getting there (translating, say) takes time too, and something may have become due meanwhile.
            if self.before_step() and self.clock.next_ns() > self.now_ns():
                break
        return self.ended is None

    def before_step(self) -> bool:
        """Bring the processor to the next instruction. False: something else happened."""
        return True

    def tc_address(self) -> int | None:
        """Where in the translation cache the next instruction runs."""
        return None

    def _log_instruction(self) -> None:
        v = self.vcpu
        try:
            code = v.fetch()
        except GuestFault:
            code = b""
        how, cpu_cpl = self.how_next()
        self.log.emit(InstructionRetired(self.sync_clock(), v.eip, v.cpl, cpu_cpl, code, how))

    def how_next(self) -> tuple[str, int]:
        """How the next instruction will run, and in which real ring."""
        return "native", self.cpu.cpl

    # State -------------------------------------------------------------------------------------------------------

    def save_state(self) -> EngineState:
        timer = self._settle_timer
        return EngineState(
            self.vcpu.save_state(), self.cpu.executed_bytes, self.offset_ns, self.halted,
            timer.at_ns if timer is not None and timer.action is not None else None,
            self._owed_ns, self._owed_timer.at_ns if self._owed_timer is not None else None,
            self.pending, self.in_interrupt_shadow(),
        )  # fmt: skip

    def load_state(self, state: EngineState) -> None:
        self.cpu.set_executed_bytes(state.executed_bytes)
        self.offset_ns = state.offset_ns
        self.halted = state.halted
        self.ended = None
        self.publish_apic_id()
        self.vcpu.load_state(state.vcpu)
        self.ring_changed()
        if state.interrupt_shadow:
            self.enter_interrupt_shadow()
        self._set_pending(self.vm.pc.interrupts.pending() if state.pending is None else state.pending)
        self._settle_timer = None
        if state.settle_at_ns is not None:
            self._settle_timer = self.clock.at(state.settle_at_ns, self._settle)
        self._owed_ns, self._owed_timer = state.owed_ns, None
        if state.owed_at_ns is not None:
            self._owed_timer = self.clock.at(state.owed_at_ns, self.pay_port_accesses)

    def save_caches(self) -> dict[str, object]:
        """Everything beside the state that a rewind needs to go on exactly as the run did; see ``checkpoint``."""
        return {
            "exits": self.exits,
            "faults": (self.hidden_faults, self.true_faults, self.trace_faults),
            "counted": self.cpu.instructions,
        }

    def load_caches(self, saved: dict[str, Any]) -> None:
        self.exits = saved["exits"]
        self.hidden_faults, self.true_faults, self.trace_faults = saved["faults"]
        self.cpu.set_instructions(saved["counted"])

    def guest_registers(self) -> Registers:
        """What the guest set."""
        return self.vcpu.registers()

    def cpu_registers(self) -> Registers:
        """What the CPU holds."""
        return cpu_registers(self.cpu, self.cpu.eip, self.vcpu.registers().stack_top)

    def statistics(self) -> dict[str, object]:
        """The engine's part of ``--stats json``."""
        return {
            "executed_bytes": self.cpu.executed_bytes,
            "virtual_ns": self.now_ns(),
            "exits": {reason: self.exits[reason] for reason in sorted(self.exits)},
            "mmu": {
                "hidden_faults": self.hidden_faults,
                "true_faults": self.true_faults,
                "trace_faults": self.trace_faults,
            },
        }
