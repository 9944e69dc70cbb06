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

from vilab.errors import VECTOR_NAMES, VECTORS_WITH_ERROR_CODE, GuestFault
from vilab.machine.exits import Stop
from vilab.machine.native_callouts import DONE, KINDS
from vilab.vmm.mirror import CALLOUT, INSIDE, LINEAR, UNKNOWN
from vilab.vmm.mirrored_steps import MirroredSteps
from vilab.x86.decode import Instruction
from vilab.x86.flags import TF

if TYPE_CHECKING:
    from vilab.vmm.engine_state import EngineState

BREAKPOINT = 3


class MirroredEngine(MirroredSteps):
    """The monitor of a guest whose kernel runs in mirrors.

    Parameters
    ----------
    cache_bytes : most machine memory for mirrors.
    smc, trace : see ``TranslatingEngine``.
    """

    def flag_address(self) -> int:
        return 0

    def ring_changed(self) -> None:
        super().ring_changed()
        self._watch_landing()

    def _resume(self) -> None:
        return  # EIP is the CPU's own

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        if self.vcpu.cpl != 3 and not self._in_place:
            linear = self.mirror.linear(linear)
        return super().read_code(linear, size_bytes)

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
