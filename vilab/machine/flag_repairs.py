"""Flags that the processor has lost track of in the middle of an instruction, put right.

The processor keeps its arithmetic flags lazily: the last operation (``cc_op``), its operand (``cc_src``), its result.
Now and then it puts them together in ``cc_src`` and, where an instruction faults, forgets that it has::

    in a counted run    before each call of the instruction hook       ``_take_flags_apart``
    RCL, RCR, SETcc     before they store, and the store may fault     ``_flags_of_faulting_store``

Then ``cc_op`` has to say ``CC_OP_EFLAGS``.
"""

from __future__ import annotations

from vilab.errors import GuestFault
from vilab.machine import native
from vilab.machine.context import CC_OP_EFLAGS
from vilab.machine.counted_instructions import CountedInstructions
from vilab.machine.exits import VMEXIT_BASE, ExitHandler
from vilab.machine.prefixes import PREFIXES
from vilab.machine.registers import ARITHMETIC_FLAGS, EFLAGS_DF

_SHIFTS = frozenset((0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3))
CC_OP_FIRST = 2
"""The first operation of the lazy flags: a byte, then a word, a dword, a qword, then those of the next."""
MEMORY_FAULTS = frozenset((14, 0x14E, 0x500))
"""#PF, its #VMEXIT, and that of a nested page fault."""
_UNWOUND = frozenset((0, 5, 10, 11, 12, 13, 14, 17, 0x500))
"""Faults that come in the middle of an instruction: the processor goes back to what it was at its start."""


class FlagRepairs(CountedInstructions):
    """Part of the processor."""

    handler: ExitHandler | None

    def _flags_of_counted_run(self) -> None:
        # What the instruction hook has left in EFLAGS is still there, mixed with what is true.
        self.q[self.Q_EFLAGS] &= ~(ARITHMETIC_FLAGS | EFLAGS_DF)
        self.q[self.Q_EFLAGS] = self.eflags()

    def _take_flags_apart(self, number: int) -> None:
        # Before it calls the instruction hook, the processor puts its flags together in ``cc_src``. Where it has to go
        # back to the start of an instruction afterwards, it takes that for the operand that was there before. What the
        # flags say of the result tells which it is. (At the start of a block it does so only behind a store that has
        # changed its own block; and there the hook may not have been called at all, if there is nothing to fetch.)
        operation, source = self.d[self.D_CC_OP], self.q[self.Q_CC_SRC]
        unwound = (number in _UNWOUND and not self.is_software_interrupt) or number >= VMEXIT_BASE
        hooked = self.pc != self._cells[native.BLOCK] or self.counted_at == self.pc
        if unwound and hooked and not source & ~ARITHMETIC_FLAGS:
            bits = (8, 16, 32, 64)[operation - CC_OP_FIRST & 3]
            result = self.q[self.Q_CC_SRC - 1] & (1 << bits) - 1
            zero, sign, even = result == 0, result >> bits - 1, not (result & 0xFF).bit_count() & 1
            if source & 0xC4 == zero << 6 | sign << 7 | even << 2:
                self.d[self.D_CC_OP] = CC_OP_EFLAGS
        self.q[self.Q_EFLAGS] &= ~(ARITHMETIC_FLAGS | EFLAGS_DF)

    def _flags_of_faulting_store(self) -> None:
        # RCL, RCR and SETcc put the flags together in ``cc_src`` before they touch memory. Where that faults, the
        # processor takes them for an operand afterwards.
        if self.q[self.Q_CC_SRC] & ~ARITHMETIC_FLAGS:
            return
        read, at = self.handler.read_code, self.pc  # type: ignore[union-attr]
        try:
            while (opcode := read(at, 1)[0]) in PREFIXES and at < self.pc + 15:
                at += 1
            if (opcode in _SHIFTS and read(at + 1, 1)[0] >> 4 & 3 == 1) or (
                opcode == 0x0F and read(at + 1, 1)[0] >> 4 == 9
            ):
                self.d[self.D_CC_OP] = CC_OP_EFLAGS
        except GuestFault:
            return
