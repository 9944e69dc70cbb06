"""Mirrored code step by step: to the next timer, for a debugger, in place, and where a store is let through.

::

    step ──> _aim ──> mirrored: one step of the processor ──> settle down
                  └─> IN_PLACE: the guest's own bytes, CS with the guest's own base

*Settling down* is what follows a stop of the processor: run in place what asked for it, step the store that a traced
page has let through, then see what it has changed.
"""

from __future__ import annotations

from vilab.errors import GuestFault
from vilab.machine.exits import Stop
from vilab.vmm.mirrored_callouts import MirroredCallouts
from vilab.x86.decode import Instruction, Truncated, decode
from vilab.x86.flags import TF


class MirroredSteps(MirroredCallouts):
    """Part of ``MirroredEngine``."""

    _in_place = False

    def before_step(self) -> bool:
        return self._aim()

    def step_raw(self) -> None:
        if not self._aim():
            return
        v = self.vcpu
        traced = v.single_steps or (v.cpl == 3 and bool(v.eflags() & TF))
        self._done = False
        reason = self.step_through(self._step_settled)
        if reason is Stop.COUNTED:
            self.end("limit", f"{self.cpu.instructions:,} guest instructions have been executed.")
        elif traced and (reason is Stop.STEPPED or self._done) and self.ended is None and not self.halted:
            self.inject(GuestFault(1))

    def _step_settled(self) -> Stop:
        if not self._aim():
            return Stop.STOPPED
        v = self.vcpu
        if v.cpl != 3:
            pushf = self._next_if_pushf() if v.single_steps else None
            if pushf is not None:
                return self._emulate_uncalled(pushf)
        reason = self.cpu.step(v.single_steps)
        in_place = self._wants_place
        if self._settle_down():
            return Stop.STEPPED
        # In place hidden faults have been dealt with already: it has faulted, and is not to be tried again.
        return Stop.INTERRUPT if in_place else reason

    def _next_if_pushf(self) -> Instruction | None:
        """With the virtual TF set, PUSHF must show it."""
        instruction = self._next_instruction()
        return instruction if instruction is not None and instruction.op == "pushf" else None

    def _next_instruction(self) -> Instruction | None:
        try:
            return decode(self.vcpu.fetch(), self.vcpu.eip)
        except (GuestFault, Truncated):
            return None

    def _emulate_uncalled(self, instruction: Instruction) -> Stop:
        """Emulate where no INT3 has asked."""
        if not self.cpu.count_instruction():
            return Stop.COUNTED
        self.cpu.count_code(1)
        self._carry_out(instruction)
        return Stop.STOPPED

    def _settle_down(self) -> bool:
        """After the processor stopped: do what must be done by a step of its own.

        True: an instruction was done here.
        """
        done = False
        if self._wants_place:
            self._wants_place = False
            done = self._run_in_place() is Stop.STEPPED
        while self._open and self.ended is None:
            opened, hidden = len(self._open), self.hidden_faults
            done = self.cpu.step(self.vcpu.single_steps) is Stop.STEPPED
            if len(self._open) == opened and self.hidden_faults == hidden:
                break
        self._close()
        return done

    def _close(self) -> None:
        if self._open:
            gvas, self._open = self._open, []
            self.stores_done(gvas)

    def settle_stores(self) -> None:
        return  # ``_settle_down`` does

    def _run_in_place(self) -> Stop:
        """One instruction of the guest's own bytes, with its own base of CS."""
        v, cpu = self.vcpu, self.cpu
        was = v.pc
        v.load_mirrored_code(0)
        self._in_place = True
        cpu.code_changed(was, 1)
        reason = Stop.STOPPED
        while self.ended is None:
            opened, hidden = len(self._open), self.hidden_faults
            reason = cpu.step(v.single_steps)
            if reason is not Stop.STOPPED or (len(self._open) == opened and self.hidden_faults == hidden):
                break
        self._in_place = False
        v.load_code_and_stack()
        self._close()
        if reason is Stop.STEPPED:
            self._watch_landing()
        return reason
