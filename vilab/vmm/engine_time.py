"""An engine's time: code executed on the processor, and what exits have cost.

::

    now  =  executed bytes * ns a byte  +  offset
                                            ├── charged at an exit, at once
                                            └── owed by port accesses and waits: paid at a boundary that every run has

The processor runs no further than to the next timer (``set_limit``); what is charged brings that nearer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.clock import NEVER_NS, Timer, VirtualClock
from vilab.costs import CostModel
from vilab.machine.exits import UNLIMITED
from vilab.machine.time_cells import OFFSET_NS
from vilab.vmm.records import Ended

if TYPE_CHECKING:
    from vilab.machine.cpu import Cpu
    from vilab.vmm.vm import VirtualMachine

SETTLE_NS = 5000
"""MODEL: an interrupt that an access to a port or to a register in memory raises reaches the processor this much later.
It is longer than any block of code (a page at most), so it does not matter where in its block the access stood."""


class EngineTime:
    """Part of every engine."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.vm = vm
        self.cpu: Cpu = vm.cpu
        self.clock: VirtualClock = vm.clock
        self.costs: CostModel = vm.costs
        self._time = vm.cpu.time
        self._ns_of: dict[int, int] = {}
        self._owed_ns = 0
        self._owed_timer: Timer | None = None
        self.offset_ns = 0
        self.slice_end = UNLIMITED
        self.ended: Ended | None = None

    @property
    def offset_ns(self) -> int:
        """Virtual time beside executed code. It is kept where ``native_time`` finds it."""
        return self._time[OFFSET_NS]

    @offset_ns.setter
    def offset_ns(self, value: int) -> None:
        self._time[OFFSET_NS] = value

    def now_ns(self) -> int:
        return self.cpu.executed_bytes * self.costs.code_ns_per_byte + self._time[OFFSET_NS]

    def sync_clock(self) -> int:
        """Tell the clock what time it is, to the instruction."""
        now = self.now_ns()
        self.clock.now_ns = now
        return now

    def charge(self, cycles: int) -> None:
        """An exit has cost this much."""
        ns = self._ns_of.get(cycles)
        if ns is None:
            ns = self._ns_of[cycles] = self.costs.ns(cycles)
        self._time[OFFSET_NS] += ns
        if self.costs.code_ns_per_byte == 1:
            self.cpu.lower_limit(ns)  # the next timer is that much nearer
        else:
            self.set_limit()

    def charge_port_access(self, cycles: int) -> None:
        """A port access has cost this much.

        It may stand anywhere in a block of code, and time must not jump there. What accesses owe is added at an
        instruction boundary that is the same in every run: an exit, or ``SETTLE_NS`` later.
        """
        self.owe_ns(self.costs.ns(cycles))

    def owe_ns(self, ns: int) -> None:
        """The guest waits this much longer, from the next such boundary on."""
        self._owed_ns += ns
        if self._owed_timer is None:
            self._owed_timer = self.clock.at(self.now_ns() + SETTLE_NS, self.pay_port_accesses)
            self.set_limit()

    def pay_port_accesses(self) -> None:
        """Only at a boundary that every run has."""
        if self._owed_timer is None:
            return
        self._owed_timer.cancel()
        self.offset_ns += self._owed_ns
        self._owed_ns, self._owed_timer = 0, None
        self.sync_clock()
        self.set_limit()

    def set_limit(self) -> None:
        """Let the processor run to the next timer, and no further."""
        if self.ended is not None:
            return
        at_ns = self.clock.next_ns()
        to_timer = -(-(at_ns - self.offset_ns) // self.costs.code_ns_per_byte) if at_ns < NEVER_NS else UNLIMITED
        self.cpu.set_limit(min(to_timer, self.slice_end))
