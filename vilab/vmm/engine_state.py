"""An engine's state as a value, what a rewind needs beside it, and what there is to see of a run.

::

    save_state, load_state      EngineState: enough for any engine to go on from
    save_caches, load_caches    what this engine has built up, so that it goes on exactly as it did (``checkpoint``)
"""

from __future__ import annotations

from typing import Any

import msgspec

from vilab.vmm.engine_delivery import EngineDelivery
from vilab.vmm.records import Registers
from vilab.vmm.vcpu import VcpuState, cpu_registers


class EngineState(msgspec.Struct):
    """Of the loop: time, halt, and an interrupt on its way. The vCPU's own record is ``vcpu``.

    ``pending``: an interrupt waits for IF (``None``: if the controllers say so); ``interrupt_shadow``: not before the
    next instruction is done.
    """

    vcpu: VcpuState
    executed_bytes: int
    offset_ns: int
    halted: bool
    settle_at_ns: int | None
    owed_ns: int = 0
    owed_at_ns: int | None = None
    pending: bool | None = None
    interrupt_shadow: bool = False


class EngineRecords(EngineDelivery):
    """Part of every engine."""

    halted: bool

    def save_state(self) -> EngineState:
        timer, owed, now_ns = self._settle_timer, self._owed_timer, self.clock.now_ns
        waits = timer is not None and timer.action is not None
        return EngineState(
            self.vcpu.save_state(), self.cpu.executed_bytes, self.offset_ns, self.halted,
            max(timer.at_ns, now_ns) if timer is not None and waits else None,  # what is overdue is due now
            self._owed_ns, max(owed.at_ns, now_ns) if owed is not None else None,
            self.pending, self.in_interrupt_shadow(),
        )  # fmt: skip

    def load_state(self, state: EngineState) -> None:
        self.cpu.set_executed_bytes(state.executed_bytes)
        self.offset_ns = state.offset_ns
        self.halted = state.halted
        self.ended = None
        self.publish_apic_id()
        self.vcpu.load_state(state.vcpu)
        self.ring_changed()
        if state.interrupt_shadow:
            self.enter_interrupt_shadow()
        self._set_pending(self.vm.pc.interrupts.pending() if state.pending is None else state.pending)
        self._settle_timer = None
        if state.settle_at_ns is not None:
            self._settle_timer = self.clock.at(state.settle_at_ns, self._settle)
        self._owed_ns, self._owed_timer = state.owed_ns, None
        if state.owed_at_ns is not None:
            self._owed_timer = self.clock.at(state.owed_at_ns, self.pay_port_accesses)

    def save_caches(self) -> dict[str, object]:
        """Everything beside the state that a rewind needs to go on exactly as the run did; see ``checkpoint``."""
        return {
            "exits": self.exits,
            "faults": (self.hidden_faults, self.true_faults, self.trace_faults),
            "counted": self.cpu.instructions,
        }

    def load_caches(self, saved: dict[str, Any]) -> None:
        self.exits = saved["exits"]
        self.hidden_faults, self.true_faults, self.trace_faults = saved["faults"]
        self.cpu.set_instructions(saved["counted"])

    def guest_registers(self) -> Registers:
        """What the guest set."""
        return self.vcpu.registers()

    def cpu_registers(self) -> Registers:
        """What the CPU holds."""
        return cpu_registers(self.cpu, self.cpu.eip, self.vcpu.registers().stack_top)

    def statistics(self) -> dict[str, object]:
        """The engine's part of ``--stats json``."""
        return {
            "executed_bytes": self.cpu.executed_bytes,
            "virtual_ns": self.now_ns(),
            "exits": {reason: self.exits[reason] for reason in sorted(self.exits)},
            "mmu": {
                "hidden_faults": self.hidden_faults,
                "true_faults": self.true_faults,
                "trace_faults": self.trace_faults,
            },
        }
