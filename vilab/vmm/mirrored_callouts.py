"""Callouts of mirrored code: the instructions that the monitor does itself, the short way or the full way.

::

    INT3 at a CALLOUT ──> known to machine code? ──> ``native_callouts``, which never comes here
                      ──> seldom anything else?  ──> ``mirrored_fast``
                      ──> otherwise              ──> ``emulate``; what it found out is remembered for both
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.errors import GuestFault
from vilab.events import CalloutTaken
from vilab.machine.native_callouts import CELLS, ENTRIES, LANDING_ENTRIES, SHADOW
from vilab.machine.registers import CS
from vilab.vmm.mirror import CALLOUT, START
from vilab.vmm.mirror_treatment import EMULATED, IN_PLACE
from vilab.vmm.mirrored_code import DEFAULT_CACHE_BYTES, MirroredCode
from vilab.vmm.mirrored_fast import NATIVE, FastCallouts, loaded_segment
from vilab.vmm.walk import walk
from vilab.x86.decode import Instruction, decode

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine


class MirroredCallouts(MirroredCode):
    """Part of ``MirroredEngine``. ``_done``: the last one was carried out, and a single-step trap may follow."""

    def __init__(
        self, vm: VirtualMachine, cache_bytes: int = DEFAULT_CACHE_BYTES, smc: str = "precise", trace: str = "all"
    ) -> None:
        super().__init__(vm, cache_bytes, smc, trace)
        self._fast = FastCallouts(self.vcpu)
        self._cells = self._native.cells if self._native is not None else memoryview(bytearray(8 * CELLS)).cast("q")
        self._shadow_bytes = -1
        self._done = False
        self._wants_place = False

    @property
    def _shadow_bytes(self) -> int:
        """How many bytes had been executed when an interrupt shadow began. It is kept where native code finds it."""
        shadow: int = self._cells[SHADOW]
        return shadow

    @_shadow_bytes.setter
    def _shadow_bytes(self, executed_bytes: int) -> None:
        self._cells[SHADOW] = executed_bytes

    def in_interrupt_shadow(self) -> bool:
        """After STI or a load of SS the next instruction comes first: nothing has been executed since."""
        if self.vcpu.cpl == 3:
            return super().in_interrupt_shadow()
        return self.cpu.executed_bytes == self._shadow_bytes

    def enter_interrupt_shadow(self) -> None:
        if self.vcpu.cpl == 3:
            super().enter_interrupt_shadow()
        else:
            self._shadow_bytes = self.cpu.executed_bytes

    def inject(self, fault: GuestFault, software: bool = False, counted: bool = True) -> None:
        self._shadow_bytes = -1
        super().inject(fault, software, counted)

    def _callout(self, linear: int, instruction: Instruction, how: int) -> None:
        cpu, v = self.cpu, self.vcpu
        if v.eip == self.stop_eip:
            cpu.uncount_instruction()
            cpu.count_code(-1)
            self.returned()
            return
        if instruction.address != v.eip:  # the same page through another base of CS
            instruction = decode(instruction.code, v.eip)
        op = instruction.op or ("undefined" if how == EMULATED else "in place")
        self.exits[op] += 1
        if self.log.active:
            self.log.emit(CalloutTaken(self.now_ns(), v.eip, self.mirror.place(linear), op, self.costs.callout))
        self.charge(self.costs.callout)
        if how == IN_PLACE:
            cpu.uncount_instruction()
            cpu.count_code(-1)
            self._wants_place = True
            return
        if v.cpl == 0 and not self.log.active:
            native = NATIVE.get(instruction.code)
            if native is not None and self._native is not None:
                self._native.table[v.eip & ENTRIES - 1] = v.eip << 8 | native
                self._native_at[linear] = v.eip & ENTRIES - 1
            if self._do_fast(instruction):
                return
        self._carry_out(instruction)

    def _do_fast(self, instruction: Instruction) -> bool:
        try:
            done = self._fast.do(instruction)
        except GuestFault:
            return False  # it will fault the full way
        if done:
            self._done = True
            if instruction.op == "iret":
                self._landed()
            elif (index := loaded_segment(instruction)) is not None:
                self._keep_segment(index)
        return done

    def _carry_out(self, instruction: Instruction) -> None:
        """Emulate the instruction at EIP, of which one byte has been counted."""
        cpu, v = self.cpu, self.vcpu
        shadowed = cpu.executed_bytes - 1 == self._shadow_bytes
        self._done = self._emulate(instruction)
        if self._done and instruction.inhibits_interrupts:
            self._done = instruction.op == "sti"
            if not shadowed:
                self._shadow_bytes = cpu.executed_bytes
        if v.eip != instruction.end:
            self._watch_landing()
        if self._done and v.cpl == 0:
            self._remember(instruction)

    def _remember(self, instruction: Instruction) -> None:
        """What has just been done the full way may be done the short way the next time."""
        op = instruction.op
        if op == "iret":
            self._fast.keep(CS)
            self._landed()
        elif (index := loaded_segment(instruction)) is not None:
            self._keep_segment(index)

    def _landed(self) -> None:
        """By IRET within ring 0."""
        self._watch_landing()
        v = self.vcpu
        if v.code_from is None:
            self._fast.keep(CS)
        if v.code_from is not None:
            self._show(v.code_from[2])
        if self._native is not None and self.mirror.mark(v.pc) in (START, CALLOUT):
            self._native.landings[v.eip & LANDING_ENTRIES - 1] = v.eip + 1

    def _keep_segment(self, index: int) -> None:
        at = self._fast.keep(index)
        if at is not None:
            self._show(at)

    def _show(self, gva: int) -> None:
        """Let the shadow tables have a page that the processor itself would never touch: native code looks there."""
        v = self.vcpu
        if self.shadow.is_monitor(gva) or self.shadow.has(gva):
            return
        try:
            mapping = walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=False, user=False)
        except GuestFault:
            return
        self.shadow.fill(gva, mapping, self.machine_page(mapping.gpa, False), False)
