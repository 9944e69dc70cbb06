"""One instruction at a time: the processor's own single step, and where it differs from a run.

::

    step ──TF in hflags──> run ──#DB behind the instruction──> STEPPED
                            └── any other exit first ────────> as from run
    rep movsb, ECX 1 -> 0:   stepped, EIP is behind it; unstepped, the processor comes back once to find ECX empty.
                             So it is put back: a stepped run and an unstepped one execute the same.
"""

from __future__ import annotations

from vilab.machine import native
from vilab.machine.executed_bytes import ExecutedBytes
from vilab.machine.exits import UNLIMITED, ExitHandler, Stop
from vilab.machine.prefixes import PREFIXES, REP_PREFIXES
from vilab.machine.registers import ECX, EFLAGS_TF, HF_CS32, HF_TF

_STRING = frozenset((0x6C, 0x6D, 0x6E, 0x6F, 0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF))
_COMPARING = frozenset((0xA6, 0xA7, 0xAE, 0xAF))


class SingleSteps(ExecutedBytes):
    """Part of the processor."""

    handler: ExitHandler | None
    _stepping: bool

    def run(self) -> Stop:
        """Execute until something needs the caller."""
        raise NotImplementedError

    def step(self, trapping: bool = False) -> Stop:
        """Execute one instruction (one iteration of a repeated one), or take the exit that it causes.

        Returns STEPPED when the instruction ran through; otherwise as ``run``. ``trapping``: a TF of the guest's that
        is not in EFLAGS is set; with TF the processor does not come back to a repeated instruction that is done.
        """
        limit, pending = self._cells[native.LIMIT], self._cells[native.PENDING]
        self._cells[native.LIMIT], self._cells[native.PENDING] = UNLIMITED, 0
        pc, counter, eflags = self.pc, self.gpr[ECX], self.q[self.Q_EFLAGS]
        self._stepping = True
        self.d[self.D_HFLAGS] |= HF_TF
        try:
            reason = self.run()
        finally:
            stepped, self._stepping = not self._stepping, False
            self.d[self.D_HFLAGS] &= ~HF_TF
            self._cells[native.LIMIT], self._cells[native.PENDING] = limit, pending
        if not stepped:
            return reason
        if counter != self.gpr[ECX] and not self.gpr[ECX] & 0xFFFF and not trapping and not eflags & EFLAGS_TF:
            self._come_back_to_repeat(pc)
        return Stop.STEPPED

    def _come_back_to_repeat(self, pc: int) -> None:
        # Unstepped, the processor comes back to a repeated instruction once more to find its counter empty.
        length = self.pc - pc
        if not 1 < length < 16:
            return
        code = self.handler.read_code(pc, length)  # type: ignore[union-attr]
        opcode = next((byte for byte in code if byte not in PREFIXES), 0)
        if opcode not in _STRING or not REP_PREFIXES & set(code):
            return
        if opcode in _COMPARING and bool(self.eflags() & 0x40) != (0xF3 in code):
            return
        sixteen = (0x67 in code[: code.index(opcode)]) == bool(self.d[self.D_HFLAGS] & HF_CS32)
        if sixteen or not self.gpr[ECX] & 0xFFFFFFFF:
            self.q[self.Q_EIP] = self.q[self.Q_EIP] - length & 0xFFFFFFFF
