"""Page faults of a guest on shadow tables: what they were, and what is done about them.

::

    #PF ──> the guest's own tables ──forbid it──> true fault: the guest's handler runs
                     └──allow it──> traced page and a store? ──> trace fault: do the store, see what it has changed
                                    └─ no ──> hidden fault: fill the shadow entry, go on

This is the same wherever the guest's kernel runs: in ring 1, from a translation cache, or in guest mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_BYTES, PAGE_OFFSET_MASK, PAGE_SHIFT
from vilab.errors import GuestFault
from vilab.events import AddressSpaceSwitched, HiddenFault, TraceFault
from vilab.machine.exits import Stop
from vilab.machine.registers import ECX, HF_INHIBIT_IRQ
from vilab.vmm.engine import Engine
from vilab.vmm.shadow_paging import ShadowTables
from vilab.vmm.simulate import can_simulate, simulate
from vilab.vmm.vcpu import CR4_PGE
from vilab.vmm.walk import Mapping, walk
from vilab.x86 import paging as pg
from vilab.x86.decode import REP, Instruction, Truncated, decode

if TYPE_CHECKING:
    from vilab.vmm.engine_state import EngineState
    from vilab.vmm.vm import VirtualMachine

MOST_ITERATIONS = 64
"""Of a repeated store that are done at once, so that time does not jump far."""
SWEEPING = 64
"""A repeated store of so many iterations to a page table clears the page for another use."""


class ShadowFaults(Engine):
    """Part of every engine with shadow tables.

    Comes before the class that says how control is gained, and passes ``options`` on to that.
    """

    shadow: ShadowTables

    def __init__(self, vm: VirtualMachine, **options: Any) -> None:
        super().__init__(vm, **options)
        self._open: list[int] = []  # traced pages that a store is let through to: ppns
        self._stepping = False
        self._creeping_at: int | None = None

    # Address translation -----------------------------------------------------------------------------------------

    def address_space_loaded(self) -> None:
        if self.log.active:
            self.log.emit(AddressSpaceSwitched(self.now_ns(), self.vcpu.cr3))
        v = self.vcpu
        self.shadow.load(v.cr0, v.cr3, v.cr4)

    def address_space_changed(self) -> None:
        v = self.vcpu
        self.shadow.flush()
        self.shadow.load(v.cr0, v.cr3, v.cr4)

    def global_pages_changed(self) -> None:
        self.shadow.global_pages = bool(self.vcpu.cr4 & CR4_PGE)
        self.shadow.flush_tlb()

    def page_invalidated(self, gva: int) -> None:
        self.shadow.invalidate(gva)

    def machine_page(self, gpa: int, for_write: bool) -> int:
        """mpa of the page behind a gpa; where there is no memory, an address that belongs to nobody."""
        mpn = self.vm.pmap.resolve(gpa >> PAGE_SHIFT, for_write)
        if mpn is not None:
            return mpn << PAGE_SHIFT
        return gpa if gpa >= self.cpu.memory.size_bytes else gpa + (1 << 31)

    def page_fault(self, gva: int, error_code: int) -> None:
        """Hidden, trace or true fault. The vCPU's EIP is on the instruction."""
        v = self.vcpu
        # Whose access it was the processor says: in ring 3 it reads descriptors as a supervisor, and a kernel that
        # nobody translates may be in ring 3 without anybody knowing (IRET does not trap).
        write, user = bool(error_code & pg.ERROR_WRITE), bool(error_code & pg.ERROR_USER)
        try:
            mapping = walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=write, user=user)
        except GuestFault as fault:
            self.inject(fault, counted=self.was_counted())
            return
        ppn = mapping.gpa >> PAGE_SHIFT
        if write and ppn in self.shadow.traced and not self.shadow.is_monitor(gva):
            self._trace_fault(gva, ppn, mapping)
            return
        if self.will_be_counted_again():
            self.cpu.uncount_instruction()
        if self.shadow.is_monitor(gva):
            self.monitor_address_used(gva)
            return
        mpa = self.machine_page(mapping.gpa, write)
        self.shadow.fill(gva, mapping, mpa, write)
        self.hidden_faults += 1
        if self.log.active:
            self.log.emit(HiddenFault(self.now_ns(), gva, error_code, ppn, mpa >> PAGE_SHIFT))
        self.charge(self.hidden_fault_cost())

    def hidden_fault_cost(self) -> int:
        """Cycles, beside what getting to the monitor costs."""
        return self.costs.hidden_fault

    def trace_fault_cost(self) -> int:
        return self.costs.trace_fault

    def monitor_address_used(self, gva: int) -> None:
        """The guest has mapped something where the monitor lives, and uses it."""
        self.end(
            "conflict",
            f"The guest uses linear address {gva:08x}, which the monitor keeps for itself (f0000000 to f2ffffff); "
            "run it with --engine svm, which has no such range.",
            good=False,
        )

    # Stores to traced pages --------------------------------------------------------------------------------------

    def _trace_fault(self, gva: int, ppn: int, mapping: Mapping) -> None:
        self.trace_faults += 1
        if self.log.active:
            self.log.emit(TraceFault(self.now_ns(), gva, self.vcpu.eip, ppn))
        self.charge(self.trace_fault_cost())
        instruction = self.storing_instruction()
        if instruction is not None:
            if instruction.prefixes & REP and self.vcpu.gpr[ECX] >= SWEEPING and ppn in self.shadow.traced:
                self.shadow.forget_table(ppn)
            if self.do_store(instruction, gva, mapping.gpa):
                return
        if self.will_be_counted_again():
            self.cpu.uncount_instruction()
        self.shadow.fill(gva, mapping, self.machine_page(mapping.gpa, True), True)
        self.shadow.open_once(gva)
        self._open = [*self._open, ppn]

    def storing_instruction(self) -> Instruction | None:
        """The one at the guest's EIP, if it is a plain store, can be read and runs as it stands there."""
        v = self.vcpu
        try:
            instruction = decode(v.fetch(), v.eip, v.code_bits)
        except (GuestFault, Truncated):
            return None
        return instruction if can_simulate(instruction) else None

    def do_store(self, instruction: Instruction, gva: int, gpa: int) -> bool:
        """Do a plain store for the guest. False: it has to be let through."""
        v = self.vcpu
        if v.traps_each:
            return False
        try:
            times = simulate(v, instruction, gva, gpa, self._most_iterations(instruction, gpa))
        except GuestFault:
            return False  # another operand faults first; the processor says which
        self.cpu.count_code(instruction.size, times or 1)
        self.skip(0 if times else instruction.size)
        self.cpu.d[self.cpu.D_HFLAGS] &= ~HF_INHIBIT_IRQ
        return True

    def _most_iterations(self, instruction: Instruction, gpa: int) -> int:
        """Of a repeated store that may be done at once: one where it might change its own bytes."""
        v = self.vcpu
        if not instruction.prefixes & REP or v.gpr[ECX] & 0xFFFFFFFF <= 1:
            return 1
        own = walk(v.pmap, v.cr0, v.cr3, v.cr4, v.pc, write=False, user=False, set_bits=False).gpa
        if own >> PAGE_SHIFT == gpa >> PAGE_SHIFT:
            return 1
        return min(self.cpu.instructions_left() + 1, MOST_ITERATIONS)

    def skip(self, size_bytes: int) -> None:
        """The instruction at EIP has been done (0 bytes: one iteration of it)."""
        self.vcpu.eip = self.vcpu.eip + size_bytes & 0xFFFFFFFF

    def settle_stores(self) -> None:
        """Step what was let through, then see what it has changed. The guest's own trap flag holds for it, too."""
        traced = bool(self._open) and self.vcpu.traps_each
        if self.step_stores() and traced and self.ended is None:
            self.inject(GuestFault(1))

    def step_stores(self) -> bool:
        """True: an instruction that was let through is done."""
        reason = Stop.STOPPED
        while self._open and self.ended is None:
            opened, hidden = len(self._open), self.hidden_faults
            reason = self.cpu.step()
            if len(self._open) == opened and self.hidden_faults == hidden:
                break
        if self._open:
            pages, self._open = self._open, []
            self.stores_done(pages)
        return reason is Stop.STEPPED

    def stores_done(self, ppns: list[int]) -> None:
        """Stores to traced pages have been let through: protect the pages again, follow what was changed."""
        for ppn in ppns:
            if ppn in self.shadow.traced:
                self.shadow.protect(ppn)
                self.shadow.follow_page(ppn)

    def fetched_ahead(self, gva: int, error_code: int) -> bool:
        """A page fault that must not be taken yet: it belongs to a later instruction, or a timer is due before it.

        Of code that it runs directly the processor fetches a whole block before it runs any of it, and where that goes
        on into a missing page, it faults at the block's start. Then what comes before is stepped (``creep``), so that
        the fault is taken where it belongs, in a stepped run and in an unstepped one.
        """
        v = self.vcpu
        pc, user = v.pc, v.cpl == 3
        room = PAGE_BYTES - (pc & PAGE_OFFSET_MASK)
        if self._stepping or gva - pc not in (0, room) or error_code & pg.ERROR_WRITE or self.was_counted():
            return False
        if gva == pc:
            interrupted = self.pending and self.interrupts_enabled() and not self.in_interrupt_shadow()
            return interrupted or self.clock.next_ns() <= self.now_ns()
        try:
            decode(v.read(pc, min(room, 15), user), v.eip, v.code_bits)
        except (GuestFault, Truncated):
            return False
        self._creeping_at = pc - 1
        return True

    def enter(self) -> Stop:
        if self.creep():
            return Stop.STEPPED
        reason = super().enter()
        self.settle_stores()
        return reason

    def creep(self) -> bool:
        """One step towards the end of the page. False: no more to do."""
        pc, last = self.vcpu.pc, self._creeping_at
        if last is None or pc <= last or pc - 1 >> PAGE_SHIFT != last >> PAGE_SHIFT:
            self._creeping_at = None
            return False
        self._creeping_at = pc
        if self.clock.next_ns() > self.now_ns():
            self.step_raw()
        return True

    def step_through(self, step: Callable[[], Stop]) -> Stop:
        self._stepping = True
        try:
            reason = super().step_through(step)
        finally:
            self._stepping = False
        self.settle_stores()
        return reason

    def will_be_counted_again(self) -> bool:
        """The faulting instruction has been counted, and will begin again from its start."""
        return self.was_counted()

    def save_caches(self) -> dict[str, object]:
        return super().save_caches() | {"shadow": self.shadow.contents()}

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        self.shadow.set_contents(saved["shadow"])

    def load_state(self, state: EngineState) -> None:
        self._creeping_at = None
        self._open = []
        self.shadow.flush()
        super().load_state(state)
