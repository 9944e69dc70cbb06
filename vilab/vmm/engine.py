"""What all engines share: the loop between processor, clock and devices, and its end.

::

    run ──> due timers ──> interrupt? deliver ──> how far may the processor go? ──> enter ──> why did it come back? ─┐
     ^                                            (to the next timer)                                               │
     └───────────────────────────────────────────────────────────────────────────────────────────────────────────┘

The processor stops before the block that would pass the next timer; from there ``run`` goes on instruction by
instruction. So a timer's interrupt is taken at the first instruction boundary at or after its time, wherever blocks
begin and end, and a stepped run and an unstepped one log the same events.

Below it: ``engine_time``, ``engine_platform`` (what the guest finds around its processor), ``engine_delivery``
(interrupts, exceptions), and beside each other ``engine_steps`` (instruction by instruction) and ``engine_state``.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from vilab.clock import NEVER_NS
from vilab.events import Halted, RunEnded
from vilab.machine.exits import Stop
from vilab.vmm.engine_state import EngineRecords
from vilab.vmm.engine_steps import EngineSteps
from vilab.vmm.records import GPR_NAMES, Ended
from vilab.vmm.vcpu import Vcpu

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

SLICE_BYTES = 20_000_000
"""At least this often the processor comes back to Python, so that the run can be stopped from the keyboard."""


class Engine(EngineSteps, EngineRecords):
    """One way of running a guest. Subclasses define how control is gained and given back."""

    name = "engine"
    kernel_ring = 0
    """The ring that the guest's kernel really runs in."""

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self.cpu.handler = self
        self.halted = False
        self._paused = False
        self.stop_eip: int | None = None
        self.vcpu: Vcpu
        self.publish_apic_id()

    def start(self) -> None:
        """Put the guest's first state into place."""
        raise NotImplementedError

    def count_instructions(self, limit: int) -> None:
        """Count guest instructions exactly, and end the run after this many."""
        self.cpu.count_instructions(limit)

    # The loop ----------------------------------------------------------------------------------------------------

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

    # Halt, and the end -------------------------------------------------------------------------------------------

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
