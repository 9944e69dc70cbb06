"""Paravirtual: a kernel that was built for its monitor, and asks instead of trying.

::

    ring 3   guest program     as it is            ── INT n, fault ──> monitor ──> the kernel's handler
    ring 1   guest kernel      as it is, no translation, no critical instruction in it
                               ── int 0x82 ──> hypercall
                               ── IN, OUT ───> trap (what is left of trap and emulate)
                               ── shared page: CLI and STI are stores, CR2 is a load
    ring 0   the VMM

An interrupt is delivered when it comes, if the kernel takes interrupts then. If not, the monitor leaves PENDING in the
shared page, and the kernel calls ``events`` when it takes interrupts again.

MODEL: page tables are shadowed, as for the other engines in ring 1; Xen lets the processor walk the guest's own, which
it validates. Updates come by hypercall, in batches; a store to a table in use is a trace fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vilab.addresses import PAGE_SHIFT
from vilab.errors import GuestFault, GuestStopped
from vilab.events import HypercallTaken
from vilab.machine.registers import DS, EAX, EBX, ECX, ES, ESP
from vilab.vmm import emulate, hypercalls
from vilab.vmm.deprivileged_vcpu import DeprivilegedVcpu
from vilab.vmm.engine_trap import TrapEngine
from vilab.vmm.hypercalls import BAD_ADDRESS, HYPERCALLS, MOST_BYTES, MOST_UPDATES, NO_SUCH_CALL, REFUSED, Hypercall
from vilab.vmm.vcpu import TR, VcpuState
from vilab.x86.decode import Instruction, decode

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

MSR_HELD = 0x4000_0000
"""In the state record only, among the numbers that are left to monitors: an interrupt waits for ``events``."""
COM1 = 0x3F8
STACK_IN_TSS = 4


class ParaVcpu(DeprivilegedVcpu):
    """CR0 and CR2 are also where the kernel can read them without asking."""

    shared = 0
    """First dword of the shared page, once it is known."""

    def set_cr(self, number: int, value: int) -> None:
        super().set_cr(number, value)
        if number == 0:
            self._words[self.shared + hypercalls.WORD_CR0] = self.cr0

    @property
    def cr2(self) -> int:
        return self._cr2

    @cr2.setter
    def cr2(self, value: int) -> None:
        self._cr2 = value & 0xFFFFFFFF
        if self.shared:
            self._words[self.shared + hypercalls.WORD_CR2] = self._cr2


class ParaEngine(TrapEngine):
    """The monitor of a paravirtual kernel."""

    name = "para"

    def __init__(self, vm: VirtualMachine, trace: str = "all") -> None:
        self._held = False
        super().__init__(vm, trace)
        self.updated_entries = 0
        self._sequences = [self._decoded(call.code) for call in HYPERCALLS]
        self._words = vm.machine_memory.words
        self._shared = self.monitor.words_mpn << 10
        self.vcpu.shared = self._shared  # type: ignore[attr-defined]
        self._words[self._shared + hypercalls.WORD_RING] = 0

    def make_vcpu(self) -> DeprivilegedVcpu:
        return ParaVcpu(self.cpu, self.vm.pmap, self.monitor.flag_word)

    @staticmethod
    def _decoded(code: bytes) -> list[Instruction]:
        found: list[Instruction] = []
        at = 0
        while at < len(code):
            found.append(decode(code[at:], 0))
            at += found[-1].size
        return found

    # Interrupts: what waits, and who has to ask ------------------------------------------------------------------

    def interrupts_enabled(self) -> bool:
        return super().interrupts_enabled() and not self._held

    def _set_pending(self, pending: bool) -> None:
        self.pending = pending
        self._look_at_flag()

    def ring_changed(self) -> None:
        super().ring_changed()
        self._look_at_flag()

    def _look_at_flag(self) -> None:
        """Only at exits that every run has: in between, the kernel's stores to its flags are its own affair."""
        self._held = self.pending and not self.vcpu.interrupts_enabled
        self._words[self._shared + hypercalls.WORD_PENDING] = int(self._held)
        self.cpu.set_interrupt_pending(self.pending and not self._held, self.flag_address())

    # Exits -------------------------------------------------------------------------------------------------------

    def on_exception(self, number: int) -> bool:
        v = self.vcpu
        # A kernel that has left ring 1 by an IRET of its own is in ring 3 although nobody was told.
        if number == hypercalls.VECTOR and self.cpu.is_software_interrupt and v.cpl == 0 and self.cpu.cpl == 1:
            self._hypercall()
            self._look_at_flag()
            return self.ended is None and not self.halted and not (self.pending and self.interrupts_enabled())
        going_on = super().on_exception(number)
        if number != 14:
            self._look_at_flag()
        return going_on

    def _hypercall(self) -> None:
        v = self.vcpu
        number = v.gpr[EAX] & 0xFFFFFFFF
        call = HYPERCALLS[number] if number < len(HYPERCALLS) else None
        name = call.name if call is not None else "unknown"
        eip = v.eip
        self.exits[f"hypercall {name}"] += 1
        self.charge(self.costs.hypercall)
        arguments = v.gpr[EBX] & 0xFFFFFFFF, v.gpr[ECX] & 0xFFFFFFFF
        answer = NO_SUCH_CALL if call is None else self._carry_out(call, *arguments)
        if answer is not None:
            v.gpr[EAX] = answer & 0xFFFFFFFF
        if self.log.active:
            self.log.emit(HypercallTaken(self.now_ns(), eip, number, name, *arguments, answer or 0))

    def _carry_out(self, call: Hypercall, first: int, second: int) -> int | None:
        """The answer; ``None``: EAX is the guest's already (after ``iret``)."""
        try:
            if call.name == "iret":
                self._iret(call)
                return None
            if call.code:
                return self._instructions(call, first)
            if call.name == "stack":
                return self._stack(first)
            if call.name == "mmu update":
                return self._mmu_update(first, second)
            if call.name == "console":
                return self._console(first, second)
        except GuestFault as fault:
            return BAD_ADDRESS if fault.vector == 14 else REFUSED
        except GuestStopped:
            return REFUSED
        return 0  # events: what waits is looked at after every hypercall

    def _instructions(self, call: Hypercall, first: int) -> int:
        """As if the kernel, in ring 0, had executed them."""
        v = self.vcpu
        if call.name == "cr3" and self.vm.pmap.resolve(first >> PAGE_SHIFT, False) is None:
            return BAD_ADDRESS
        behind, before = v.eip, [(index, v.segment(index)) for index in (DS, ES)]
        try:
            for instruction in self._sequences[call.number]:
                emulate.execute(v, instruction, self)
        except (GuestFault, GuestStopped):
            if call.name == "segments":
                for index, segment in before:
                    v.set_segment(index, *segment)
            raise
        finally:
            v.eip = behind
        return 0

    def _iret(self, call: Hypercall) -> None:
        v = self.vcpu
        esp, behind = v.gpr[ESP], v.eip
        popped = v.read_u32(esp)
        v.gpr[ESP] = esp + 4 & 0xFFFFFFFF
        try:
            emulate.execute(v, self._sequences[call.number][0], self)
        except (GuestFault, GuestStopped):
            v.gpr[ESP], v.eip = esp, behind
            raise
        v.gpr[EAX] = popped
        self.ring_changed()

    def _stack(self, esp: int) -> int:
        v = self.vcpu
        _, base, limit, flags = v.segment(TR)
        if not flags & 0x8000 or limit < 0x67 or not v.selector(TR):
            return REFUSED
        v.write(base + STACK_IN_TSS, esp.to_bytes(4, "little"))
        return 0

    def _mmu_update(self, at: int, count: int) -> int:
        """How many are done: up to the first that names no memory."""
        v = self.vcpu
        if count > MOST_UPDATES:
            return REFUSED
        raw = v.read(at, 8 * count) if count else b""
        for done in range(count):
            entry = int.from_bytes(raw[8 * done : 8 * done + 4], "little")
            if entry & 3 or self.vm.pmap.resolve(entry >> PAGE_SHIFT, True) is None:
                return done if done else BAD_ADDRESS
            self.charge(self.costs.update_entry)
            self.updated_entries += 1
            v.pmap.write(entry, raw[8 * done + 4 : 8 * done + 8])
        return count

    def _console(self, at: int, size_bytes: int) -> int:
        if size_bytes > MOST_BYTES:
            return REFUSED
        for byte in self.vcpu.read(at, size_bytes) if size_bytes else b"":
            self.port_out(COM1, 1, byte)
        return size_bytes

    # State -------------------------------------------------------------------------------------------------------

    def save_state(self) -> Any:
        state = super().save_state()
        if self._held:
            state.vcpu.msrs[MSR_HELD] = 1
        return state

    def load_state(self, state: Any) -> None:
        saved: VcpuState = state.vcpu
        held = bool(saved.msrs.get(MSR_HELD))
        super().load_state(state)
        self.vcpu.msrs.pop(MSR_HELD, None)
        self._set_held(held)

    def _set_held(self, held: bool) -> None:
        self._held = held
        self._words[self._shared + hypercalls.WORD_PENDING] = int(held)
        self.cpu.set_interrupt_pending(self.pending and not held, self.flag_address())

    def save_caches(self) -> dict[str, object]:
        return super().save_caches() | {"held": self._held, "updated_entries": self.updated_entries}

    def load_caches(self, saved: dict[str, Any]) -> None:
        super().load_caches(saved)
        self.updated_entries = saved["updated_entries"]
        self._set_held(saved["held"])

    def statistics(self) -> dict[str, object]:
        return super().statistics() | {"paravirtual": {"updated_entries": self.updated_entries}}
