"""Binary translation with mirrored code: EIP is the guest's own, and jumps, calls and returns run as they stand.

::

    ring 3   guest program            as it is
    ring 1   mirrors of its kernel    ── INT3 in a mirror ──┬──> not discovered: copy what comes, go on
                                                            ├──> sensitive: emulate it, go on behind
                                                            └──> odd: one step of the guest's own bytes, go on
    ring 0   the VMM

The paper's cache (``engine_bt``) pays for each indirect branch, because code lies elsewhere than the guest believes.
Here the segment's base hides that. What the mirrors hold, and where they lie, is in ``mirror`` and
``mirror_discovery``. This placement is not in the papers; that is what makes it worth comparing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_BYTES, PAGE_SHIFT
from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, AdminError, GuestFault, GuestStopped
from vilab.events import CacheFlushed, CalloutTaken, UnitInvalidated, UnitTranslated
from vilab.machine.cpu import CS, Stop
from vilab.machine.native_callouts import CELLS, DONE, ENTRIES, KINDS, LANDING_ENTRIES, SHADOW
from vilab.vmm.mirror import BIASES, CALLOUT, INSIDE, LARGE_SHIFT, LINEAR, START, UNKNOWN, Mirror
from vilab.vmm.mirror_discovery import Discovery, Piece
from vilab.vmm.mirror_treatment import EMULATED, IN_PLACE
from vilab.vmm.mirror_units import MirroredPages, MirroredUnit
from vilab.vmm.mirrored_fast import NATIVE, FastCallouts, loaded_segment
from vilab.vmm.mirrored_vcpu import MirroredVcpu
from vilab.vmm.translating import TranslatingEngine
from vilab.vmm.translator import inhibits_interrupts
from vilab.vmm.unit import Unit
from vilab.vmm.vcpu import BIG, DeprivilegedVcpu
from vilab.vmm.walk import walk
from vilab.x86.decode import Instruction, Truncated, decode
from vilab.x86.flags import TF

if TYPE_CHECKING:
    from vilab.vmm.engine import EngineState
    from vilab.vmm.vm import VirtualMachine

DEFAULT_CACHE_BYTES = 16 << 20
BREAKPOINT = 3


class MirroredEngine(TranslatingEngine):
    """The monitor of a guest whose kernel runs in mirrors.

    Parameters
    ----------
    cache_bytes : most machine memory for mirrors.
    smc, trace : see ``TranslatingEngine``.
    """

    name = "bt"

    def __init__(
        self, vm: VirtualMachine, cache_bytes: int = DEFAULT_CACHE_BYTES, smc: str = "precise", trace: str = "all"
    ) -> None:
        if cache_bytes < 2 * PAGE_BYTES:
            raise AdminError(f"Mirrors need at least two pages, {2 * PAGE_BYTES} bytes, not {cache_bytes}.")
        super().__init__(vm, smc, trace)
        self.vcpu: MirroredVcpu
        self.mirror = Mirror(vm.cpu, vm.machine_memory, self.frames, self.shadow, cache_bytes >> PAGE_SHIFT)
        self.vcpu.bias, self.vcpu.shadow = self.mirror.bias, self.shadow
        self.pages = MirroredPages(self)  # type: ignore[arg-type]
        self._callouts: dict[int, tuple[Instruction, int]] = {}  # by the guest's linear address
        self._native = self.vcpu.native = vm.cpu.prepare_native_callouts()
        self._fast = FastCallouts(self.vcpu)
        self._discovery = Discovery(self.mirror, self.vcpu.read, vm.cpu.is_native)
        self._stores: dict[int, Instruction | None] = {}  # what stands at a linear address that stores to traced pages
        self._native_at: dict[int, int] = {}  # a callout's linear address -> its entry in the native table
        self._cells = self._native.cells if self._native is not None else memoryview(bytearray(8 * CELLS)).cast("q")
        self._shadow_bytes = -1
        self._done = False
        self._wants_place = self._in_place = False

    def make_vcpu(self) -> DeprivilegedVcpu:
        return MirroredVcpu(self.cpu, self.vm.pmap, self.monitor.flag_word)

    @property
    def _shadow_bytes(self) -> int:
        """How many bytes had been executed when an interrupt shadow began. It is kept where native code finds it."""
        shadow: int = self._cells[SHADOW]
        return shadow

    @_shadow_bytes.setter
    def _shadow_bytes(self, executed_bytes: int) -> None:
        self._cells[SHADOW] = executed_bytes

    def flag_address(self) -> int:
        return 0

    def ring_changed(self) -> None:
        super().ring_changed()
        self._watch_landing()

    def _watch_landing(self) -> None:
        """EIP has changed. Into the middle of an instruction? Then its page is discovered anew."""
        v = self.vcpu
        if v.cpl == 3 or self.mirror.mark(v.pc) != INSIDE:
            return
        vpn = v.pc >> PAGE_SHIFT
        for unit, _, _ in list(self.pages.by_ppn.get(self.pages.by_vpn.get(vpn, -1), ())):
            if unit.valid and any(seen == vpn for seen, _ in unit.pages):
                self.drop_unit(unit)
                if self.log.active:
                    self.log.emit(UnitInvalidated(self.now_ns(), unit.eip, unit.start, "overlap"))

    def _resume(self) -> None:
        return  # EIP is the CPU's own

    # Mirrors -----------------------------------------------------------------------------------------------------

    def flush_cache(self, why: str) -> None:
        """Drop all mirrors."""
        lost = self.mirror.drop_all()
        self.pages.forget()
        self._callouts.clear()
        self._forget_native()
        self._stores.clear()
        if self.log.active:
            self.log.emit(CacheFlushed(self.now_ns(), lost, why))

    def drop_unit(self, unit: Unit) -> None:
        """The guest's bytes have changed: undiscover them."""
        unit.valid = False
        self.invalidated += 1
        self._stores.clear()
        self.vcpu.forget_landings()
        for at in self.mirror.erase(self.mirror.linear(unit.start), unit.end - unit.start):
            del self._callouts[at]
            entry = self._native_at.pop(at, None)
            if entry is not None and self._native is not None:
                self._native.table[entry] = 0

    def _forget_native(self) -> None:
        self._native_at.clear()
        self.vcpu.forget_native()

    def monitor_address_used(self, gva: int) -> None:
        if self.mirror.contains(gva):
            self._move(self.vcpu.pc if self.vcpu.cpl != 3 else None, gva)
        else:
            super().monitor_address_used(gva)

    def _move(self, linear: int | None, wanted: int | None = None) -> None:
        """Mirrors go where the guest has nothing, at best for all code that was discovered so far."""
        chunks = {vpn << PAGE_SHIFT >> LARGE_SHIFT for vpn in self.mirror.pages}
        if linear is not None:
            chunks.add(linear >> LARGE_SHIFT)
        self.flush_cache("moved")
        taken = None if wanted is None else wanted >> LARGE_SHIFT

        def fits(chunk: int, bias: int) -> bool:
            there = (chunk << LARGE_SHIFT) + bias
            return there >> LARGE_SHIFT != taken and self._is_free(chunk << LARGE_SHIFT, bias)

        for bias in BIASES:
            if all(fits(chunk, bias) for chunk in chunks):
                break
        else:
            one = None if linear is None else linear >> LARGE_SHIFT
            bias = next((b for b in BIASES if one is None or fits(one, b)), 0)
            if not bias:
                self.end("conflict", "The guest leaves no room in its linear address space for a mirror of its code; "
                         "run it with --placement packed.", good=False)  # fmt: skip
                return
        self.mirror.bias = self.vcpu.bias = bias
        if self.vcpu.cpl != 3:
            self.vcpu.load_code_and_stack()

    def _is_free(self, linear: int, bias: int) -> bool:
        """Has the guest nothing where the mirror of this page, and the page behind it, would lie?"""
        if not self.mirror.can_lie(linear, bias):
            return False
        v = self.vcpu
        there = (linear & ~(PAGE_BYTES - 1)) + bias
        if not v.cr0 >> 31:
            return there >= self.vm.memory_bytes
        for at in (there, there + PAGE_BYTES):
            try:
                walk(v.pmap, v.cr0, v.cr3, v.cr4, at, write=False, user=False, set_bits=False)
            except GuestFault:
                continue
            return False
        return True

    def _discover(self, linear: int) -> None:
        """The code at CS:EIP, which is at ``linear``, and where it leads within its page. Raises ``GuestFault``."""
        v = self.vcpu
        cs_base = v.segment(CS)[1]
        if not v.segment(CS)[3] & BIG:
            raise GuestStopped(f"The guest runs 16-bit code at {v.eip:08x}, which the translator does not support.")
        vpn = linear >> PAGE_SHIFT
        v.read(linear, 1)
        if vpn not in self.mirror.pages:
            if not self.mirror.has_room():
                self.flush_cache("full")
            if not self._is_free(linear, self.mirror.bias):
                self._move(linear)
                if self.ended is not None:
                    return
        self.mirror.forget_block(linear)
        self.exits["discovery"] += 1
        listening = self.log.active
        if listening:
            place = self.mirror.place(linear)
            self.log.emit(CalloutTaken(self.now_ns(), self.vcpu.eip, place, "discovery", self.costs.callout))
        ppn = self.pages.watch(linear)
        stop = None if self.stop_eip is None else self.stop_eip + cs_base & LINEAR
        pieces = self._discovery.page(linear, cs_base, stop)
        for at, instruction, how in self._discovery.callouts:
            self._callouts[at] = instruction, how
        count, bias = 0, self.mirror.bias
        for piece in pieces:
            unit = MirroredUnit(
                piece.linear - cs_base & LINEAR, piece.linear + bias, piece.source, piece.mirrored_bytes
            )
            self.pages.add_piece(unit, piece, ppn)
            count += piece.instructions
            if listening:
                self._log_unit(unit, piece, cs_base)
        self.units_translated += len(pieces)
        self.guest_instructions += count
        self.ident += count - len(self._discovery.callouts)
        self.charge(self.costs.callout + self.costs.translate_instruction * count)

    def _log_unit(self, unit: MirroredUnit, piece: Piece, cs_base: int) -> None:
        unit.lines = self._discovery.lines(piece, cs_base)
        code = self.mirror.read(piece.linear, piece.mirrored_bytes)
        self.log.emit(UnitTranslated(self.now_ns(), unit.eip, unit.source, unit.start, code, tuple(unit.lines)))

    # Entering guest code -----------------------------------------------------------------------------------------

    def enter(self) -> Stop:
        v = self.vcpu
        if not self._aim():
            return Stop.STOPPED
        if v.cpl == 3:
            if self.creep():
                return Stop.STEPPED
        elif v.single_steps:
            if self.clock.next_ns() > self.now_ns():  # discovery takes time, and something may have become due
                self.step_raw()
            return Stop.STEPPED
        try:
            if self._native is not None and not self.log.active and self.costs.code_ns_per_byte == 1:
                self.cpu.call_out_natively(self.costs.ns(self.costs.callout), self.costs.tsc_per_us)
            reason = self.cpu.run()
        finally:
            self._take_native_counts()
        if self._settle_down() and v.cpl == 3 and v.eflags() & TF:
            self.inject(GuestFault(1))
        if reason is Stop.COUNTED:
            self._aim()
        return reason

    def _take_native_counts(self) -> None:
        self.cpu.take_native_reads()
        cells = self._cells
        for at, op in enumerate(KINDS, DONE):
            if cells[at]:
                self.exits[op] += cells[at]
                cells[at] = 0

    def _aim(self) -> bool:
        """Let there be code at EIP. False: the run is over."""
        v = self.vcpu
        while self.ended is None:
            if v.cpl == 3:
                return True
            linear = v.pc
            self._watch_landing()
            if self.mirror.mark(linear) != UNKNOWN:
                return True
            if v.eip == self.stop_eip:
                self.returned()
                return False
            try:
                self._discover(linear)
            except GuestFault as fault:
                self.inject(fault, counted=False)
            except GuestStopped as stopped:
                self.end("unsupported", str(stopped), good=False)
        return False

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

    def before_step(self) -> bool:
        return self._aim()

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        if self.vcpu.cpl != 3 and not self._in_place:
            linear = self.mirror.linear(linear)
        return super().read_code(linear, size_bytes)

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

    # Exits -------------------------------------------------------------------------------------------------------

    def on_exception(self, number: int) -> bool:
        cpu, v = self.cpu, self.vcpu
        if v.cpl == 3:
            if number == 14 and not self._open and self.fetched_ahead(cpu.cr(2), cpu.error_code):
                return False
            self._from_ring_3(number)
        elif cpu.is_software_interrupt and number == BREAKPOINT and not self._in_place:
            v.eip = v.eip - 1 & LINEAR
            linear = v.pc
            called = self._callouts.get(linear)
            if called is not None:
                self._callout(linear, *called)
            else:
                cpu.uncount_instruction()
                cpu.count_code(-1)
                if not self._came_upon(linear):
                    return False
        elif number == 14:
            gva = cpu.cr(2)
            if gva == cpu.pc and not cpu.error_code and not self._in_place:
                if not self._came_upon(v.pc):
                    return False
            else:
                self.exits["#PF"] += 1
                self.page_fault(gva, cpu.error_code)
        else:
            self._fault_in_ring_1(number)
        return not (self.ended is not None or self._open or self.halted or self._wants_place or v.single_steps)

    def _came_upon(self, linear: int) -> bool:
        """The processor wants to run what is not discovered yet. False: something else comes first."""
        if self.clock.next_ns() <= self.now_ns() or self._interrupt_comes_first() or self.vcpu.single_steps:
            return False
        if self.mirror.mark(linear) != UNKNOWN:
            self.mirror.forget_block(linear)
            return True
        return self._aim()

    def _fault_in_ring_1(self, number: int) -> None:
        cpu = self.cpu
        if cpu.is_software_interrupt:  # in the middle of what was discovered as another instruction
            self.exits[f"int {number:02x}"] += 1
            self.deliver_software(number)
            return
        if self.mirror.mark(self.vcpu.pc) == INSIDE and not self._in_place:
            # A return or an indirect jump has led here, and the instruction must not run as it is.
            cpu.uncount_instruction()
            self._watch_landing()
            return
        self.exits[VECTOR_NAMES.get(number, str(number))] += 1
        error = cpu.error_code & 0xFFFF if number in VECTORS_WITH_ERROR_CODE else None
        self.inject(GuestFault(number, error))

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

    def _carry_out(self, instruction: Instruction) -> None:
        """Emulate the instruction at EIP, of which one byte has been counted."""
        cpu, v = self.cpu, self.vcpu
        shadowed = cpu.executed_bytes - 1 == self._shadow_bytes
        self._done = self._emulate(instruction)
        if self._done and inhibits_interrupts(instruction):
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

    def inject(self, fault: GuestFault, software: bool = False, counted: bool = True) -> None:
        self._shadow_bytes = -1
        super().inject(fault, software, counted)

    # Stores to traced pages, mappings ----------------------------------------------------------------------------

    def storing_instruction(self) -> Instruction | None:
        v = self.vcpu
        if v.cpl == 3 or self._in_place:
            return super().storing_instruction()
        linear = v.pc
        if linear not in self._stores:
            self._stores[linear] = super().storing_instruction()
        return self._stores[linear]

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

    # For views and checkpoints -----------------------------------------------------------------------------------

    def how_next(self) -> tuple[str, int]:
        if self.vcpu.cpl == 3:
            return "native", 3
        return ("emulated" if self.mirror.mark(self.vcpu.pc) == CALLOUT else "translated"), 1

    def tc_address(self) -> int | None:
        return None if self.vcpu.cpl == 3 else self.mirror.place(self.vcpu.pc)

    def save_caches(self) -> dict[str, object]:
        return super().save_caches() | {
            "mirror": self.mirror.contents(),
            "callouts": self._callouts,
            "pages": self.pages.contents(),
            "counts": (self.units_translated, self.guest_instructions, self.ident, self.chained, self.invalidated),
        }

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        self.mirror.set_contents(saved["mirror"])
        self._callouts = saved["callouts"]
        self.pages.set_contents(saved["pages"])
        self.units_translated, self.guest_instructions, self.ident, self.chained, self.invalidated = saved["counts"]
        self.vcpu.bias = self.mirror.bias
        self._forget_native()
        self._fast.forget()
        if self.vcpu.cpl != 3:
            self.vcpu.load_code_and_stack()

    def load_state(self, state: EngineState) -> None:
        self.flush_cache("state loaded")
        self._fast.forget()
        self._wants_place = self._in_place = False
        self._shadow_bytes = -1
        super().load_state(state)
