"""Instruction by instruction: to the next timer, for a debugger, and whatever must be done before one.

::

    step_instruction ──> step_to_instruction: timers, interrupts, halt ──> log it ──┐
    walk_to_limit ──────────────────────────────────────────────────────────────────┴──> step_raw ──> step_through
                                           the processor's step, again after each hidden fault  <──────────┘

A stepped run and an unstepped one log the same events.
"""

from __future__ import annotations

from collections.abc import Callable

from vilab.errors import GuestFault
from vilab.events import InstructionRetired
from vilab.machine.exits import Stop
from vilab.vmm.engine_delivery import EngineDelivery
from vilab.x86.flags import TF

NEAR_NS = 1 << 20


class EngineSteps(EngineDelivery):
    """Part of every engine."""

    halted: bool

    def prepare(self) -> bool:
        """Timers, interrupts, halt. False: something happened, look again; the processor may not run yet."""
        raise NotImplementedError

    def processor_halted(self) -> None:
        """The processor itself has executed HLT."""
        raise NotImplementedError

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
