"""Engines on whose processor RDTSC itself exits, so that it is answered from virtual time.

::

    bare    the interpreter's doing: not an exit, and free       RDTSC counts as executed code
    svm     an intercept: #VMEXIT, emulated, VMRUN               costs what they cost; nothing of it is executed code

Nearly all are answered in machine code (``machine/native_time.py``). Python is asked in a step, with a listener, with
the guest's TF, and while an access waits to be paid: the counter shows what that has cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.machine.exits import Stop
from vilab.vmm.engine import Engine

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine


class OwnReads(Engine):
    """Part of such an engine."""

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self._entered = False

    def exit_cycles_of_read(self) -> int | None:
        """What the exit of a read costs; ``None``: it is none, and the instruction is the processor's own work."""
        raise NotImplementedError

    def enter(self) -> Stop:
        self._entered = True
        self._read_time_natively()
        try:
            return super().enter()
        finally:
            self._entered = False
            reads = self.cpu.take_native_reads()
            if reads:
                self.exits["rdtsc"] += reads

    def _read_time_natively(self) -> None:
        cycles = self.exit_cycles_of_read()
        cost_ns = None if cycles is None else self.costs.ns(cycles)
        unseen = cost_ns is None or not self.log.active
        on = self._entered and self._owed_timer is None and self.costs.code_ns_per_byte == 1 and unseen
        self.cpu.read_own_time_natively(on, cost_ns, self.costs.tsc_per_us)

    def charge_port_access(self, cycles: int) -> None:
        super().charge_port_access(cycles)
        self._read_time_natively()

    def pay_port_accesses(self) -> None:
        super().pay_port_accesses()
        self._read_time_natively()
