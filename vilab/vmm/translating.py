"""What both placements of translated code share: ring 3 runs directly, what must be emulated is, code is watched.

::

    ring 3 ── INT n, fault, RDTSC ──> monitor ──> the guest's handler, or on
    ring 1 ── placement: ``engine_bt`` (packed: fragments in a cache), ``engine_mirrored`` (pages beside the guest's)
           ── store to a traced page ──> let that one store through, then see which translations it has changed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, AdminError, GuestFault, GuestStopped
from vilab.events import Emulated
from vilab.vmm import emulate
from vilab.vmm.deprivileged import DeprivilegedEngine
from vilab.x86.decode import Instruction, Kind, Truncated, decode
from vilab.x86.flags import TF

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine

TRAPLESS = frozenset(("int", "int3", "into", "int1", "hlt"))
"""After these no single-step trap comes."""
USER_TRAPS = frozenset(("rdtsc",))


class TranslatingEngine(DeprivilegedEngine):
    """Parameters
    ----------
    smc : what a store to translated code costs: ``precise`` drops the units whose bytes changed, ``flush`` everything
        (as Embra did).
    trace : how shadow tables keep up with the guest's; see ``shadow_policy``.
    """

    name = "bt"
    kernel_runs_directly = False

    def __init__(self, vm: VirtualMachine, smc: str = "precise", trace: str = "all") -> None:
        if smc not in ("precise", "flush"):
            raise AdminError(f"There is no policy {smc!r} for self-modifying code; there are precise and flush.")
        super().__init__(vm, trace)
        self.smc = smc
        self.units_translated = self.guest_instructions = self.ident = self.chained = self.invalidated = 0

    def _resume(self) -> None:
        """The guest's EIP was changed: aim the CPU at it."""
        raise NotImplementedError

    def _interrupt_comes_first(self) -> bool:
        """Before the next instruction is even fetched."""
        return self.pending and self.interrupts_enabled() and not self.in_interrupt_shadow()

    def _from_ring_3(self, number: int) -> None:
        cpu = self.cpu
        if cpu.is_software_interrupt:
            self.exits[f"int {number:02x}"] += 1
            self.charge(self.costs.trap)
            self.deliver_software(number)
        elif number == 14:
            self.exits["#PF"] += 1
            self.page_fault(cpu.cr(2), cpu.error_code)
        else:
            self._trap_in_ring_3(number)
        self._resume()

    def _trap_in_ring_3(self, number: int) -> None:
        v = self.vcpu
        error = self.cpu.error_code & 0xFFFF if number in VECTORS_WITH_ERROR_CODE else None
        self.exits[VECTOR_NAMES.get(number, str(number))] += 1
        if number in (10, 11, 12, 13):
            try:
                instruction = decode(v.fetch(), v.eip, v.code_bits)
            except (GuestFault, Truncated):
                instruction = None
            if instruction is not None and (
                instruction.op in USER_TRAPS or instruction.kind is Kind.FAR or instruction.op in emulate.SEGMENT_LOADS
            ):
                # Through a gate or a segment that the monitor had hidden: the guest's tables decide.
                traced = v.eflags() & TF
                if self._emulate(instruction) and traced:
                    self.inject(GuestFault(1))
                return
        self.inject(GuestFault(number, error))

    def _emulate(self, instruction: Instruction) -> bool:
        """False: it faulted. True: done, and a single-step trap may follow."""
        v = self.vcpu
        eip, cpl = v.eip, v.cpl
        try:
            effect = emulate.execute(v, instruction, self)
        except GuestFault as fault:
            self.inject(fault)
            return False
        except GuestStopped as stopped:
            self.end("unsupported", str(stopped), good=False)
            return False
        if self.log.active:
            self.log.emit(Emulated(self.now_ns(), eip, instruction.code, effect))
        if v.cpl != cpl:
            self.ring_changed()
        return instruction.op not in TRAPLESS or (instruction.op == "into" and v.eip == instruction.end)

    def statistics(self) -> dict[str, object]:
        return super().statistics() | {
            "translation": {
                "units": self.units_translated,
                "guest_instructions": self.guest_instructions,
                "ident": self.ident,
                "fragments": self.units_translated,
                "chained": self.chained,
                "invalidated": self.invalidated,
            }
        }
