"""Binary translation: the guest's kernel runs as fragments from the cache at ring 1, its programs directly at ring 3.

::

    ring 3   guest program            as it is
    ring 1   translated kernel        ── INT3 in the cache ──> continuation: translate the target, chain
                                                          ├──> callout: emulate, go on behind
                                                          └──> miss: look the target up, fill the table
    ring 0   the VMM

The guest's EIP is a field here while translated code runs; the CPU's EIP is in the cache. ``TranslationCache`` knows
which guest instruction each place belongs to, so faults are precise, and a processor that was stopped inside the
translation of one instruction is walked to its end before anybody looks at the guest.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from vilab.addresses import PAGE_SHIFT
from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, AdminError, GuestFault, GuestStopped, VmmBug
from vilab.events import CacheFlushed, CalloutTaken, FragmentChained, UnitRetranslated, UnitTranslated
from vilab.machine.cpu import Stop
from vilab.machine.registers import CS, ECX, ESP, SS
from vilab.vmm import emulate, segments
from vilab.vmm.adaptive import GUILTY_AFTER_TRAPS, Adaptive
from vilab.vmm.code_pages import CodePages
from vilab.vmm.fragment_callouts import SEGMENT_LOADS, FragmentCallouts
from vilab.vmm.monitor import CACHE, JUMP_TABLE, RETURN_TABLE, WORD_FLAGS, WORD_SPILL, WORD_TARGET
from vilab.vmm.simulate import simulate, store_address
from vilab.vmm.translating import TranslatingEngine
from vilab.vmm.translation_cache import TranslationCache
from vilab.vmm.translator import (
    SPILL_AT,
    STUB,
    SUPERBLOCK_INSTRUCTIONS,
    UNIT_INSTRUCTIONS,
    Mode,
    Translator,
    inhibits_interrupts,
    jump_prelude,
    return_prelude,
)
from vilab.vmm.unit import IDENT, Callout, Continuation, Miss, Unit
from vilab.vmm.vcpu import DeprivilegedVcpu
from vilab.vmm.walk import walk
from vilab.x86 import encode as e
from vilab.x86.decode import REP
from vilab.x86.flags import AC, DF, ID, IF, IOPL, NT, RF, STATUS, TF, VIF, VIP, VM

if TYPE_CHECKING:
    from vilab.vmm.engine import EngineState
    from vilab.vmm.vm import VirtualMachine
    from vilab.x86.decode import Instruction

DEFAULT_CACHE_BYTES = 8 << 20
PAPER_RETURN_ENTRIES = 256
RETURNS, JUMPS = 0, 1
RING_1_CODE = 0x00CFBB00
"""Flat code of DPL 1: what the CPU's CS holds while fragments run."""
STORE_SPILL = e.store_reg(SPILL_AT, ECX)
BIG = 1 << 22
NOT_PLAIN = TF | IOPL | NT | VM | RF
PLAIN_FLAGS = STATUS | IF | DF | AC | ID | VIF | VIP
PLAIN = frozenset(("rdtsc", "cpuid"))
"""Callouts that cannot fault and change neither mode nor memory: the fragment goes on."""
TABLE_LOADS = frozenset(("lgdt", "lldt"))


class TranslatedVcpu(DeprivilegedVcpu):
    """The guest's EIP is kept here; in ring 3 it follows the CPU's after every exit.

    TF of the guest's kernel is virtual as IF is: a trap after each instruction of ours would be of no use to it.
    """

    _eip = 0
    kept_flags = IF | IOPL | TF

    @property
    def single_steps(self) -> bool:
        """Does the guest's kernel want a trap after the next instruction?"""
        return self._cpl != 3 and bool(self._words[self.flag_word] & TF)

    def eflags(self) -> int:
        real = self.cpu.eflags()
        if self._cpl == 3:
            return real
        return real & ~self.kept_flags | self._words[self.flag_word] & self.kept_flags

    def set_eflags(self, value: int) -> None:
        self._words[self.flag_word] = value & self.kept_flags
        self.cpu.set_eflags(value if self._cpl == 3 else value & ~self.kept_flags | IF)

    @property
    def eip(self) -> int:
        return self._eip

    @eip.setter
    def eip(self, value: int) -> None:
        self._eip = value

    def load_code_and_stack(self) -> None:
        if self._cpl == 3:
            super().load_code_and_stack()
            return
        selector, base, limit, flags = self._segments[SS]
        self.cpu.set_segment(CS, self._segments[CS][0] & ~3 | 1, 0, 0xFFFFFFFF, RING_1_CODE)
        self.cpu.set_segment(SS, selector & ~3 | 1, base, limit, flags & ~(3 << 13) | 1 << 13)
        self.cpu.update_mode(1)


class TranslationEngine(TranslatingEngine):
    """The monitor of a translated guest.

    Parameters
    ----------
    cache_bytes : size of the translation cache.
    return_entries : of the table where returns look up their target: 256, indexed by the low byte of the return address
        as in the paper, or 65536, indexed by its low half.
    smc, trace : see ``TranslatingEngine``.
    superblocks : units go on past a conditional jump, where it is not taken, up to 48 instructions, and are chained
        to what is there already, be it in the middle of one; otherwise they end after 12 or with control flow, and an
        exit is chained when it is taken, as in the paper.
    ahead : so many more units at most are translated with one, where it calls or jumps and where its call returns to,
        and are chained to it. For superblocks.
    guilty_after : trace faults until an instruction is simulated; 0: never. See ``adaptive``.
    """

    name = "bt"

    def __init__(
        self,
        vm: VirtualMachine,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        return_entries: int = 65536,
        smc: str = "precise",
        trace: str = "all",
        superblocks: bool = False,
        ahead: int = 0,
        guilty_after: int = GUILTY_AFTER_TRAPS,
    ) -> None:
        super().__init__(vm, smc, trace)
        self.vcpu: TranslatedVcpu
        if return_entries not in (PAPER_RETURN_ENTRIES, 65536):
            raise AdminError(f"The return table has 256 entries (as in the paper) or 65536, not {return_entries}.")
        self._return_mask = return_entries - 1
        pages = max(return_entries >> 10, 1)
        first = self.monitor.map(RETURN_TABLE, pages) << 10
        self.returns = memoryview(vm.machine_memory.words)[first : first + return_entries]
        self.jumps = memoryview(vm.machine_memory.words)[(m := self.monitor.map(JUMP_TABLE, 64) << 10) : m + 65536]
        self.words = memoryview(vm.machine_memory.words)[(m := self.monitor.words_mpn << 10) : m + 1024]
        most = SUPERBLOCK_INSTRUCTIONS if superblocks else UNIT_INSTRUCTIONS
        self.cache = TranslationCache(vm.cpu, self.monitor, cache_bytes, most)
        self.adaptive = Adaptive(guilty_after)
        self._superblocks = superblocks
        self._ahead = ahead if superblocks else 0
        self._is_ahead = False
        self.translator = Translator(
            self._fetch, self.cache.new_stub, return_entries, self.adaptive.misses, superblocks
        )
        self.pages = CodePages(self)
        self._fast = FragmentCallouts(self, superblocks)
        self._mode = self._mode_of_key = Mode(0, 0, True)
        self._mode_key: tuple[int, ...] = ()
        self._choose_maps()
        self._fault_at: int | None = None
        self._settled = self._done = False
        self._shadow_bytes = -1
        self._make_tables()

    def make_vcpu(self) -> DeprivilegedVcpu:
        return TranslatedVcpu(self.cpu, self.vm.pmap, self.monitor.flag_word)

    def count_instructions(self, limit: int) -> None:
        self.cpu.count_instructions(limit, CACHE, self.cache.marks.ctypes.data, self.cache.size_bytes)

    # The cache ---------------------------------------------------------------------------------------------------

    def _make_tables(self) -> None:
        """Both tables lead to a miss until something is known."""
        for table, view in ((RETURNS, self.returns), (JUMPS, self.jumps)):
            stub = self.cache.new_stub()
            self.cache.exits[stub] = Miss(table, popped=False)
            view[:] = memoryview(stub.to_bytes(4, "little") * len(view)).cast("I")
        self._misses = (self.returns[0], self.jumps[0])

    def _clear_tables(self) -> None:
        for view, miss in zip((self.returns, self.jumps), self._misses, strict=True):
            view[:] = memoryview(miss.to_bytes(4, "little") * len(view)).cast("I")

    def flush_cache(self, why: str) -> None:
        """Empty it. The processor must not be inside a fragment that is still needed."""
        lost = self.cache.flush()
        self.pages.forget()
        self.adaptive.forget()
        self._fast.forget()
        self._make_tables()
        self._choose_maps()
        if self.log.active:
            self.log.emit(CacheFlushed(self.now_ns(), lost, why))

    def _mode_now(self) -> Mode:
        v = self.vcpu
        cs, ss = v.code_and_stack()
        kept = self.words[WORD_FLAGS] & (IOPL | TF)
        key = cs[0], cs[1], ss[1], ss[3] & BIG, v.cpl, kept
        if key != self._mode_key:
            flat = ss[1] == 0 and bool(ss[3] & BIG)
            self._mode_key = key
            self._mode_of_key = Mode(cs[0], cs[1], flat and v.cpl == 0 and not kept, flat)
        return self._mode_of_key

    def _choose_mode(self) -> None:
        """Raises ``GuestStopped`` for 16-bit code."""
        v = self.vcpu
        if not v.code_and_stack()[0][3] & BIG:
            raise GuestStopped(f"The guest runs 16-bit code at {v.eip:08x}, which the translator does not support.")
        mode = self._mode_now()
        if mode is not self._mode:
            if mode != self._mode:
                self._clear_tables()
                self._fast.forget()
            self._mode = mode
            self._choose_maps()

    def _choose_maps(self) -> None:
        self._units = self.cache.units.setdefault(self._mode, {})
        self._inside = self.cache.inside.setdefault(self._mode, {})

    def _fetch(self, linear: int, size_bytes: int) -> bytes:
        if self._is_ahead:
            return self.pages.read_ahead(linear, size_bytes)
        return self.vcpu.read(linear, size_bytes)

    def unit_for(self, eip: int, falls_from: Continuation | None = None, returned_to: bool = False) -> Unit:
        """The fragment for a guest address, translated if need be. Raises ``GuestFault`` if it cannot be fetched.

        ``falls_from``: the exit whose place it may take. ``returned_to``: by a RET that did not find it; in superblocks
        the prelude that the next one needs stands right before the fragment.
        """
        unit = self._units.get(eip)
        if unit is not None:
            return unit
        if not self.cache.has_room():
            self.flush_cache("full")
            falls_from = None
        unit = self._new_unit(eip, falls_from, returned_to)
        if self._ahead:
            self._is_ahead = True
            try:
                self._translate_ahead(unit)
            finally:
                self._is_ahead = False
        return unit

    def _new_unit(self, eip: int, falls_from: Continuation | None, returned_to: bool) -> Unit:
        cache = self.cache
        at = cache.top
        if falls_from is not None and falls_from.stub + len(STUB) == at:
            at = falls_from.stub
        else:
            falls_from = None
        prelude, miss = return_prelude(eip, at, None) if returned_to and self._superblocks else (b"", 0)
        unit, code, callouts = self.translator.translate(eip, at + len(prelude), self._mode)
        if prelude:
            cache.write(at, prelude)
            cache.exits[miss] = Miss(RETURNS, popped=True)
            unit.preludes[RETURNS] = at
        if falls_from is not None:
            del cache.exits[at]
            if len(code) < len(STUB):  # the stub may have to come back
                code = code.ljust(len(STUB), b"\xcc")
                unit.end = unit.start + len(STUB)
            unit.falls_from = falls_from
            falls_from.to = unit
        cache.add(unit, code, callouts, self._mode)
        self.pages.add(unit, self._mode.cs_base)
        count = len(unit.lines)
        self.units_translated += 1
        self.guest_instructions += count
        self.ident += [line[2] for line in unit.lines].count(IDENT)
        if self.log.active:
            self.log.emit(UnitTranslated(self.now_ns(), eip, unit.source, unit.start, code, tuple(unit.lines)))
        self.charge(self.costs.translate_instruction * count)
        if self._superblocks:
            cache.add_inside(unit, self._inside)
            for exit_ in unit.continuations:
                self._chain_to_known(exit_, is_fresh=True)
        return unit

    def _chain_to_known(self, exit_: Continuation, is_fresh: bool) -> int | None:
        """Chain an exit to the code for its target, if there is some, be it in the middle of a fragment.

        Returns the place; ``None``: it has to be translated. Superblocks only.
        """
        unit = self._units.get(exit_.target)
        if unit is not None:
            place = unit.start
        else:
            found = self._inside.get(exit_.target)
            if found is None or not found[0].valid or found[0].forwarded is not None:
                return None
            unit, place = found
        self._chain(exit_, unit, "jump", place, is_fresh)
        return place

    def _translate_ahead(self, first: Unit) -> None:
        """Where ``first`` is sure to lead if it runs to its end: what it calls, and where that returns to.

        Only code whose pages the guest has used: a translation leaves no Accessed bit of its own.
        """
        work, left = [first], self._ahead
        while work and left:
            unit = work.pop()
            if unit.calls and unit.end_eip not in self._units and (made := self._new_ahead(unit.end_eip, True)):
                left -= 1
                work.append(made)
                index = made.eip & self._return_mask
                if self.returns[index] == self._misses[RETURNS]:
                    self.returns[index] = made.preludes[RETURNS]
            exit_ = unit.continuations[-1] if left and unit.continuations else None
            if exit_ is None or exit_.to is not None or exit_.kind not in ("call", "jump"):
                continue
            if self._chain_to_known(exit_, is_fresh=True) is None and (made := self._new_ahead(exit_.target, False)):
                left -= 1
                work.append(made)
                self._chain_to_known(exit_, is_fresh=True)

    def _new_ahead(self, eip: int, returned_to: bool) -> Unit | None:
        if eip == self.stop_eip or not self.cache.has_room():
            return None
        try:
            return self._new_unit(eip, None, returned_to)
        except GuestFault:
            return None

    # Entering guest code -----------------------------------------------------------------------------------------

    def start(self) -> None:
        super().start()
        self._choose_mode()

    def enter(self) -> Stop:
        if not self._aim():
            return Stop.STOPPED
        if self.creep():
            return Stop.STEPPED
        if self.vcpu.single_steps:
            if self.clock.next_ns() > self.now_ns():  # translating takes time, and something may have become due
                self.step_raw()
            return Stop.STEPPED
        if not self.log.active and self.costs.code_ns_per_byte == 1:
            self.cpu.read_time_natively(
                self.costs.ns(self.costs.callout), self.costs.tsc_per_us,
                CACHE, self.cache.size_bytes, self.cache.marks.ctypes.data,
            )  # fmt: skip
        try:
            reason = self.cpu.run()
        finally:
            reads = self.cpu.take_native_reads()
            if reads:
                self.exits["rdtsc"] += reads
            self.exits["iret"] += self._fast.take_count()
        if self._settle_down() and self.vcpu.cpl == 3 and self.vcpu.eflags() & TF:
            self.inject(GuestFault(1))
        return reason

    def _aim(self) -> bool:
        """Point the CPU at the code for the guest's EIP. False: the run is over."""
        v = self.vcpu
        if v.cpl != 3 and self.cache.guest_at.get(self.cpu.eip, -1) == v.eip:
            unit = self.cache.unit_at[self.cpu.eip]
            if unit.valid and unit.mode == self._mode == self._mode_now():
                return True  # it stands on the translation of that instruction already
        while self.ended is None:
            if v.cpl == 3:
                self.cpu.eip = v.eip
                return True
            if v.eip == self.stop_eip:
                self.returned()
                return False
            try:
                self._choose_mode()
                self.cpu.eip = self.unit_for(v.eip).start
                return True
            except GuestFault as fault:
                self.inject(fault, counted=False)
            except GuestStopped as stopped:
                self.end("unsupported", str(stopped), good=False)
        return False

    def _settle_down(self) -> bool:
        """After the processor stopped: finish opened stores, walk to a guest boundary, learn the guest's EIP.

        True: a store to a traced page was done here, by a step of its own.
        """
        done = False
        while True:
            opened = len(self._open)
            if opened:
                hidden = self.hidden_faults
                done = self.cpu.step(self.vcpu.single_steps) is Stop.STEPPED
                if self.hidden_faults != hidden and self.ended is None:
                    continue  # its other page, or its other operand, had to be filled in: the store is still to come
            if len(self._open) == opened and self._walk_to_boundary():
                break
        if self._open:
            pages, self._open = self._open, []
            self.stores_done(pages)
        return done

    def _walk_to_boundary(self) -> bool:
        """False: on the way came a store to a traced page."""
        cpu, v = self.cpu, self.vcpu
        opened = len(self._open)
        while self.ended is None:
            if self._settled:
                self._settled = False
                return True
            if v.cpl == 3:
                v.eip = cpu.eip
                return True
            guest = self.cache.guest_at.get(cpu.eip)
            if guest is not None:
                v.eip = guest
                return True
            if v.single_steps:
                # The trap comes before the next instruction is even looked at.
                exit_ = self.cache.exits.get(cpu.eip)
                if type(exit_) is Continuation:
                    v.eip = exit_.target
                    return True
            cpu.step()
            if len(self._open) > opened:
                return False
        return True

    def look_in_port_hook(self) -> None:
        super().look_in_port_hook()
        self.vcpu.eip = self.cpu.eip if self.vcpu.cpl == 3 else self.cache.guest_at.get(self.cpu.eip, self.vcpu.eip)

    def step_raw(self) -> None:
        if not self._aim():
            return
        traced = self.vcpu.single_steps or (self.vcpu.cpl == 3 and bool(self.vcpu.eflags() & TF))
        self._done = False
        reason = self.step_through(self._step_settled)
        if reason is Stop.COUNTED:
            self.end("limit", f"{self.cpu.instructions:,} guest instructions have been executed.")
        elif traced and (reason is Stop.STEPPED or self._done) and self.ended is None and not self.halted:
            self.inject(GuestFault(1))

    def _step_settled(self) -> Stop:
        if not self._aim():
            return Stop.STOPPED
        reason = self.cpu.step(self.vcpu.single_steps)
        return Stop.STEPPED if self._settle_down() else reason

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        if self.cache.contains(linear):
            return self.cache.read(linear, size_bytes)
        return super().read_code(linear, size_bytes)

    def in_interrupt_shadow(self) -> bool:
        """After STI or a load of SS the next instruction comes first.

        In the cache, its place tells. After a callout that led elsewhere: nothing has been executed since.
        """
        if self.vcpu.cpl == 3:
            return super().in_interrupt_shadow()
        at = self.cpu.eip
        if at in self.cache.shadows and self.cache.guest_at.get(at) == self.vcpu.eip:
            return True
        return self.cpu.executed_bytes == self._shadow_bytes

    def enter_interrupt_shadow(self) -> None:
        if self.vcpu.cpl == 3:
            super().enter_interrupt_shadow()
        else:
            self._shadow_bytes = self.cpu.executed_bytes

    # Exits -------------------------------------------------------------------------------------------------------

    def on_exception(self, number: int) -> bool:
        cpu, v = self.cpu, self.vcpu
        if v.cpl == 3:
            v.eip = cpu.eip
            if number == 14 and not self._open and self.fetched_ahead(cpu.cr(2), cpu.error_code):
                return False
            self._from_ring_3(number)
        elif cpu.is_software_interrupt:
            where = self.cache.exits.get(cpu.eip - 1)
            if where is None:
                raise VmmBug(f"The cache has an INT3 at {cpu.eip - 1:08x} that nobody put there.")
            if type(where) is Callout:
                self._callout(where)
            elif type(where) is Miss:
                self._miss(where)
            else:
                self._continue(where)  # type: ignore[arg-type]
        else:
            hidden = not self._fault_in_cache(number)
            if hidden and not v.single_steps:
                return self.ended is None and not self._open  # on in the middle of a template, perhaps
        if self.halted or v.single_steps or self._interrupt_comes_first():
            self._settled = not self._open  # the guest's EIP is known, and what stands there must not be touched yet
            return False
        return self.ended is None and not self._open

    def _resume(self) -> None:
        """The guest's EIP was changed: aim the CPU at it. Not before a single-step trap or an interrupt that is due."""
        if self.ended is None and not self.vcpu.single_steps and not self._interrupt_comes_first():
            self._aim()

    def inject(self, fault: GuestFault, software: bool = False, counted: bool = True) -> None:
        self._shadow_bytes = -1
        if self._fault_at is not None:
            self._undo_spill(self._fault_at)
            self._fault_at = None
        super().inject(fault, software, counted)

    def _undo_spill(self, address: int) -> None:
        start = self.cache.line_start(address)
        if start is not None and address >= start + len(STORE_SPILL) and self.cache.read(start, 7) == STORE_SPILL:
            self.cpu.gpr[ECX] = self.words[WORD_SPILL]

    def _fault_in_cache(self, number: int) -> bool:
        """True: the fault is the guest's, and its handler runs next. False: the guest will not know of it."""
        cpu, v = self.cpu, self.vcpu
        at = cpu.eip
        start = at if at in self.cache.guest_at else self.cache.line_start(at)
        if start is None:
            raise VmmBug(f"A fault ({VECTOR_NAMES.get(number, number)}) at {at:08x}, outside every fragment.")
        v.eip = self.cache.guest_at[start]
        self._fault_at = at
        if number == 14:
            self.exits["#PF"] += 1
            faults = self.true_faults
            self.page_fault(cpu.cr(2), cpu.error_code)
            true = self.true_faults != faults
            if true:
                self._resume()
        else:
            true = True
            self.exits[VECTOR_NAMES.get(number, str(number))] += 1
            error = cpu.error_code & 0xFFFF if number in VECTORS_WITH_ERROR_CODE else None
            self.inject(GuestFault(number, error))
            self._resume()
        self._fault_at = None
        return true

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
        if inhibits_interrupts(i) and self._done:
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

    def _chain(self, exit_: Continuation, unit: Unit, how: str, place: int, is_fresh: bool = False) -> None:
        """``place``: where in the unit. ``is_fresh``: the exit's fragment has not run yet."""
        if exit_.to is None:
            self._patch(exit_, unit, place, is_fresh)
        self.chained += 1
        if self.log.active:
            self.log.emit(FragmentChained(self.now_ns(), exit_.patch_at, place, exit_.target, how))

    def _patch(self, exit_: Continuation, unit: Unit, place: int, is_fresh: bool) -> None:
        if exit_.condition >= 0:
            code = e.jcc(exit_.condition, exit_.patch_at, place)
        else:
            code = e.jmp(exit_.patch_at, place)
            self.cache.exits.pop(exit_.stub, None)
        self.cache.write(exit_.patch_at, code, is_fresh)
        exit_.to = unit
        unit.incoming.append(exit_)

    def unlink(self, exit_: Continuation) -> None:
        """Turn a chained exit back into a continuation."""
        if exit_.condition >= 0:
            self.cache.write(exit_.patch_at, e.jcc(exit_.condition, exit_.patch_at, exit_.stub))
        else:
            self.cache.write(exit_.stub, STUB)
            self.cache.exits[exit_.stub] = exit_
        exit_.to = None

    def drop_unit(self, unit: Unit) -> None:
        """Make a unit unreachable. Code that is inside it may run to the end of its current instruction."""
        unit.valid = False
        self.invalidated += 1
        self._fast.drop(unit)
        for exit_ in unit.incoming:
            if exit_.unit.valid or exit_.unit is unit:
                self.unlink(exit_)
        unit.incoming.clear()
        for continuation in unit.continuations:
            if continuation.to is not None and continuation in continuation.to.incoming:
                continuation.to.incoming.remove(continuation)
        if unit.falls_from is not None and unit.falls_from.unit.valid:
            self.cache.unmark(unit.start)
            self.unlink(unit.falls_from)
        for table, at in unit.preludes.items():
            view, index = (
                (self.returns, unit.eip & self._return_mask) if table == RETURNS else (self.jumps, unit.eip & 0xFFFF)
            )
            if view[index] == at:
                view[index] = self._misses[table]
        for units in self.cache.units.values():
            if units.get(unit.eip) is unit:
                del units[unit.eip]

    def was_counted(self) -> bool:
        return self.vcpu.cpl != 3 or super().was_counted()

    def will_be_counted_again(self) -> bool:
        return super().was_counted() and (self.vcpu.cpl == 3 or self.cache.is_boundary(self.cpu.eip))

    # Stores to traced pages --------------------------------------------------------------------------------------

    def storing_instruction(self) -> Instruction | None:
        if self.vcpu.cpl == 3:
            return super().storing_instruction()
        at = self.cpu.eip
        stores = self.cache.stores
        if at not in stores:
            instruction = super().storing_instruction() if at in self.cache.guest_at else None
            if instruction is not None and self.cache.read(at, instruction.size) != instruction.code:
                instruction = None
            stores[at] = instruction
        return stores[at]

    def skip(self, size_bytes: int) -> None:
        super().skip(size_bytes)
        cpu, v = self.cpu, self.vcpu
        if v.cpl == 3:
            cpu.eip = v.eip
            return
        unit = self.cache.unit_at.get(cpu.eip)
        if unit is not None and unit.valid:
            cpu.eip += size_bytes
        else:
            self._resume()

    def settle_stores(self) -> None:
        return  # ``_settle_down`` does

    def stores_done(self, ppns: list[int]) -> None:
        super().stores_done(ppns)
        self.pages.close(ppns)

    def address_space_loaded(self) -> None:
        super().address_space_loaded()
        self.pages.address_space_loaded()

    def address_space_changed(self) -> None:
        super().address_space_changed()
        self.pages.check_mappings()

    def page_invalidated(self, gva: int) -> None:
        super().page_invalidated(gva)
        self.pages.page_invalidated(gva)

    def how_next(self) -> tuple[str, int]:
        if self.vcpu.cpl == 3:
            return "native", 3
        emulated = type(self.cache.exits.get(self.cpu.eip)) is Callout
        return ("emulated" if emulated else "translated"), 1

    def before_step(self) -> bool:
        return self._aim()

    def tc_address(self) -> int | None:
        return None if self.vcpu.cpl == 3 else self.cpu.eip

    def save_caches(self) -> dict[str, object]:
        cache, pages = self.cache, self.pages
        return super().save_caches() | {
            "cache": (
                cache.top,
                cache.bottom,
                cache.units,
                cache.inside,
                cache.exits,
                cache.guest_at,
                cache.unit_at,
                cache.shadows,
                cache.stores,
                cache.flushes,
            ),
            "marks": cache.marks.tobytes(),
            "pages": pages.contents(),
            "counts": (self.units_translated, self.guest_instructions, self.ident, self.chained, self.invalidated),
            "adaptive": self.adaptive.contents(),
            "mode": self._mode,
            "misses": self._misses,
            "eip": self.cpu.eip,
        }

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        cache, pages = self.cache, self.pages
        self._fast.forget()
        (cache.top, cache.bottom, cache.units, cache.inside, cache.exits, cache.guest_at, cache.unit_at, cache.shadows,
         cache.stores, cache.flushes) = saved["cache"]  # fmt: skip
        cache.marks[:] = np.frombuffer(saved["marks"], dtype=np.uint8)
        pages.set_contents(saved["pages"])
        self.adaptive.set_contents(saved["adaptive"])
        self.units_translated, self.guest_instructions, self.ident, self.chained, self.invalidated = saved["counts"]
        self._mode, self._misses = saved["mode"], saved["misses"]
        self._choose_maps()
        self.cpu.eip = saved["eip"]

    def load_state(self, state: EngineState) -> None:
        self.flush_cache("state loaded")
        self._open, self._fault_at, self._settled, self._shadow_bytes = [], None, False, -1
        super().load_state(state)
