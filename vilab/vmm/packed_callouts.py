"""Where a fragment calls out: instructions that the monitor does itself, and the way on from one fragment to another.

::

    INT3 ──> callout       emulate, the short way where nothing can go wrong; go on behind
         ──> continuation  the target's fragment, chained to from now on
         ──> miss          a return or an indirect jump whose target its table did not have
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from vilab.addresses import PAGE_SHIFT
from vilab.errors import GuestFault
from vilab.events import CalloutTaken, UnitRetranslated
from vilab.machine.registers import ECX, ESP
from vilab.vmm import emulate, segments
from vilab.vmm.fragment_callouts import SEGMENT_LOADS
from vilab.vmm.in_cache import jump_prelude, return_prelude
from vilab.vmm.monitor import WORD_SPILL, WORD_TARGET
from vilab.vmm.packed_code import RETURNS, PackedCode
from vilab.vmm.simulate import simulate, store_address
from vilab.vmm.translator import STUB
from vilab.vmm.unit import Callout, Continuation, Miss, Unit
from vilab.vmm.walk import walk
from vilab.x86 import encode as e
from vilab.x86.decode import REP
from vilab.x86.flags import AC, DF, ID, IF, IOPL, NT, RF, STATUS, TF, VIF, VIP, VM

if TYPE_CHECKING:
    from vilab.x86.decode import Instruction

NOT_PLAIN = TF | IOPL | NT | VM | RF
PLAIN_FLAGS = STATUS | IF | DF | AC | ID | VIF | VIP
PLAIN = frozenset(("rdtsc", "cpuid"))
"""Callouts that cannot fault and change neither mode nor memory: the fragment goes on."""
TABLE_LOADS = frozenset(("lgdt", "lldt"))


class PackedCallouts(PackedCode):
    """Part of ``TranslationEngine``."""

    def _callout(self, callout: Callout) -> None:
        cpu, v = self.cpu, self.vcpu
        i = callout.instruction
        at = cpu.eip - 1
        v.eip = i.address
        op = "simulate" if callout.simulated else i.op or "undefined"
        self.exits[op] += 1
        if self.log.active:
            self.log.emit(CalloutTaken(self.now_ns(), i.address, at, op, self.costs.callout))
        self.charge(self.costs.callout)
        if callout.simulated:
            self._simulate(callout)
            return
        if op in PLAIN and not self.log.active:
            self._done = True
            emulate.execute(v, i, self)
            return
        if callout.popped:
            cpu.gpr[ESP] = cpu.gpr[ESP] - 4 & 0xFFFFFFFF
        if op == "iret" and self._returns_plainly(i):
            self._done = True
            if v.eip == i.end and not callout.ends and callout.unit.valid:
                self._fast.returned(callout.unit, i.end)
            else:
                self._resume()
            return
        if op in SEGMENT_LOADS and callout.unit.valid and self._loads_plainly(i):
            self._done = True
            return
        self._done = self._emulate(i)
        if self.ended is not None or self.halted:
            return
        if op in TABLE_LOADS:
            self._fast.forget()
        elif op in SEGMENT_LOADS and self._done and self._mode.simple:
            self._fast.loaded_segment(i)
        if i.inhibits_interrupts and self._done:
            self._done = i.op == "sti"
            if at not in self.cache.shadows:
                self._shadow_bytes = cpu.executed_bytes
        if v.eip == i.end and not callout.ends and callout.unit.valid and v.cpl != 3 and self._mode_now() == self._mode:
            return  # the CPU's EIP is right behind the INT3
        self._resume()

    def _returns_plainly(self, i: Instruction) -> bool:
        """IRET within the kernel that changes nothing but EIP, ESP and plain flags: done here. False: not such a one.

        (Kernels use it to serialize the processor after they have changed code.)
        """
        v, cpu = self.vcpu, self.cpu
        if not self._mode.simple or i.prefixes or cpu.q[cpu.Q_EFLAGS] & NT:
            return False
        cs = v.code_and_stack()[0]
        esp = cpu.gpr[ESP] & 0xFFFFFFFF
        try:
            eip, selector, flags = struct.unpack("<III", v.read(esp, 12))
            if selector & 0xFFFF != cs[0] or flags & NOT_PLAIN:
                return False
            low, high, at = segments.fetch(v, cs[0])
        except GuestFault:
            return False
        if segments.hidden(cs[0], low, high) != cs:
            return False
        self._fast.saw_code_segment(cs[0], low, high, at)
        if self.log.active:
            return False
        cpu.gpr[ESP] = esp + 12 & 0xFFFFFFFF
        v.set_eflags(flags & PLAIN_FLAGS)
        v.eip = eip
        return True

    def _loads_plainly(self, i: Instruction) -> bool:
        """A data segment that is loaded with what it was loaded with before: done here. False: not such a one."""
        if self.log.active or not self._mode.simple:
            return False
        try:
            return self._fast.load_segment(i)
        except GuestFault:
            return False  # it will fault the full way

    def _simulate(self, callout: Callout) -> None:
        """A store that used to fault on traced pages."""
        v, i = self.vcpu, callout.instruction
        self._done = True
        user = v.cpl == 3
        try:
            gva = store_address(v, i)
            gpa = walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=True, user=user).gpa
            if gpa >= v.pmap.size_bytes:
                # A device's registers: only the processor itself can get there.
                self.adaptive.acquit(v.pc)
                self._retranslate(callout.unit, "device")
                self._resume()
                return
            hit = gpa >> PAGE_SHIFT in self.shadow.traced
            simulate(v, i, gva, gpa)
        except GuestFault as fault:
            self.inject(fault)
            self._resume()
            return
        address = v.pc
        v.eip = i.end
        if self.adaptive.stored(address, hit) and callout.unit.valid:
            self._retranslate(callout.unit, "innocent")
            self._resume()
        elif not callout.unit.valid:
            self._resume()

    def _retranslate(self, unit: Unit, why: str) -> None:
        """Another fragment for the same guest code, because what is known of its instructions has changed.

        The old fragment's first bytes become a jump to it, so whatever leads to the old one need not be found.
        """
        old = self._units.get(unit.eip)
        if old is not unit:
            return
        del self._units[unit.eip]
        flushes = self.cache.flushes
        try:
            new = self.unit_for(unit.eip)
        except GuestFault:
            self._units[unit.eip] = unit
            return
        if self.cache.flushes != flushes:
            return
        for exit_ in [each for each in unit.incoming if each.target != unit.eip]:
            unit.incoming.remove(exit_)
            self.unlink(exit_)
        unit.forwarded = (new, self.cache.read(unit.start, len(STUB)))
        for address in range(unit.start, unit.start + len(STUB)):
            self.cache.unmark(address)
        self.cache.write(unit.start, e.jmp(unit.start, new.start))
        if self.log.active:
            self.log.emit(UnitRetranslated(self.now_ns(), unit.eip, unit.start, new.start, why))

    def do_store(self, instruction: Instruction, gva: int, gpa: int) -> bool:
        at, address, ring = self.cpu.eip, self.vcpu.pc, self.vcpu.cpl
        if not super().do_store(instruction, gva, gpa):
            return False
        if ring != 3 and not instruction.prefixes & REP and self.adaptive.trapped(address):
            unit = self.cache.unit_at.get(at)
            if unit is not None and unit.valid:
                self._retranslate(unit, "guilty")
                self._resume()
        return True

    def _miss(self, miss: Miss) -> None:
        cpu, v = self.cpu, self.vcpu
        if miss.table == RETURNS:
            try:
                target = cpu.gpr[ECX] if miss.popped else self._peek_return()
            except GuestFault:
                # The processor has read the return address, though the guest has nothing there: it is the monitor's.
                self.monitor_address_used(cpu.gpr[ESP])
                return
            if not miss.popped:
                cpu.gpr[ESP] = cpu.gpr[ESP] + 4 & 0xFFFFFFFF
            reason = "ret_miss"
        else:
            target = self.words[WORD_TARGET]
            reason = "indirect_miss"
        cpu.gpr[ECX] = self.words[WORD_SPILL]
        self.exits[reason] += 1
        if self.log.active:
            self.log.emit(CalloutTaken(self.now_ns(), target, cpu.eip - 1, reason, self.costs.callout))
        self.charge(self.costs.callout)
        v.eip = target
        if miss.table == RETURNS and self._superblocks and not self._interrupt_comes_first() and v.eip != self.stop_eip:
            with contextlib.suppress(GuestFault):  # it comes again in a moment
                self.unit_for(target, returned_to=True)
        self._resume()
        if v.eip == target and v.cpl != 3 and self.ended is None and target in self._units:
            self._enter_table(miss.table, self._units[target])

    def _peek_return(self) -> int:
        return self.vcpu.read_u32(self.cpu.gpr[ESP])

    def _enter_table(self, table: int, unit: Unit) -> None:
        at = unit.preludes.get(table)
        if at is None:
            make = return_prelude if table == RETURNS else jump_prelude
            size = len(make(unit.eip, 0, 0)[0])
            at = self.cache.new_code(size)
            code, miss = make(unit.eip, at, unit.start)
            self.cache.write(at, code)
            self.cache.exits[miss] = Miss(table, popped=table == RETURNS)
            unit.preludes[table] = at
        if table == RETURNS:
            self.returns[unit.eip & self._return_mask] = at
        else:
            self.jumps[unit.eip & 0xFFFF] = at

    def _continue(self, exit_: Continuation) -> None:
        """A continuation was reached: translate its target and chain to it."""
        v = self.vcpu
        v.eip = exit_.target
        if v.single_steps or self._interrupt_comes_first():
            self._done = True
            return
        self.exits["chain"] += 1
        if self.log.active:
            self.log.emit(CalloutTaken(self.now_ns(), exit_.target, exit_.stub, "chain", self.costs.callout))
        self.charge(self.costs.callout)
        if self._superblocks and exit_.unit.valid:
            place = self._chain_to_known(exit_, is_fresh=False)
            if place is not None:
                self.cpu.eip = place
                return
        flushes = self.cache.flushes
        elide = exit_ if exit_.kind == "fall" and exit_.unit.valid else None
        try:
            unit = self.unit_for(exit_.target, elide)
        except GuestFault as fault:
            self.inject(fault, counted=False)
            self._resume()
            return
        self.cpu.eip = unit.start
        if self.cache.flushes != flushes or not exit_.unit.valid:
            return
        self._chain(exit_, unit, "fall_through" if unit.falls_from is exit_ else "jump", unit.start)
