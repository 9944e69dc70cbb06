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

from typing import TYPE_CHECKING, Any

import numpy as np

from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, GuestFault, VmmBug
from vilab.machine.exits import Stop
from vilab.machine.registers import ECX
from vilab.vmm.in_cache import SPILL_AT
from vilab.vmm.monitor import CACHE, WORD_SPILL
from vilab.vmm.packed_callouts import PackedCallouts
from vilab.vmm.unit import Callout, Continuation, Miss
from vilab.x86 import encode as e
from vilab.x86.flags import TF

if TYPE_CHECKING:
    from vilab.vmm.engine_state import EngineState
    from vilab.x86.decode import Instruction

STORE_SPILL = e.store_reg(SPILL_AT, ECX)


class TranslationEngine(PackedCallouts):
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
            returns = self._fast.take_count()
            if returns:
                self.exits["iret"] += returns
        if self._settle_down() and self.vcpu.cpl == 3 and self.vcpu.eflags() & TF:
            self.inject(GuestFault(1))
        return reason

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

    def was_counted(self) -> bool:
        return self.vcpu.cpl != 3 or super().was_counted()

    def will_be_counted_again(self) -> bool:
        return super().was_counted() and (self.vcpu.cpl == 3 or self.cache.is_boundary(self.cpu.eip))

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
