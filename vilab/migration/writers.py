"""Processes of the guest that write faster than pages can be sent, and what is done about them.

::

    write faults of a round      CR3 01234000   ||||||||||||||||||||||||||||||||||||||||| 41: stunned
                                 CR3 01250000   |||||
                                 kernel         ||||||||    never stunned: every process runs on it

    stunned: each further first write to a page makes the virtual processor wait ``WAIT_NS`` while that process has it;
             timer interrupts arrive meanwhile, so that the guest's scheduler gives the time to others

Only with write traces: Dirty bits are set without anybody hearing of it. The waits end with the migration.
Source: Clark et al. 2005, section 5.4: a process that has had 40 write faults in a round is stunned.
MODEL: there the guest's kernel, which knows of the migration, takes the process from its run queue. A kernel that
knows of nothing can only be made to wait with the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from vilab.host.hosted_vm import HostedVm

MOST_FAULTS = 40
WAIT_NS = 20_000_000
"""MODEL: two ticks of a guest with 100 Hz."""
AWAKE_NS = 20_000
"""After a wait no other one begins for so long: interrupts that came meanwhile are taken, and the scheduler chooses."""


class WriterWatch:
    """``stunned``: called once for each process, with its CR3 and its faults so far."""

    def __init__(
        self, hosted: HostedVm, stunned: Callable[[int, int], None], most_faults: int = MOST_FAULTS,
        wait_ns: int = WAIT_NS,
    ) -> None:  # fmt: skip
        self._engine, self._say = hosted.vm.engine, stunned
        self.most_faults, self.wait_ns = most_faults, wait_ns
        self.faults: Counter[int] = Counter()
        """Of this round, by CR3."""
        self.stunned: set[int] = set()
        self.waits = 0
        self._free_until_ns = 0

    def new_round(self) -> None:
        """Count anew; who is stunned stays so."""
        self.faults.clear()

    def traced(self, _ppn: int) -> None:
        """The first write to a page in this round, by whoever has the virtual processor."""
        vcpu = self._engine.vcpu
        if vcpu.cpl != 3:
            return
        space = vcpu.cr3
        self.faults[space] += 1
        if self.faults[space] > self.most_faults and space not in self.stunned:
            self.stunned.add(space)
            self._say(space, self.faults[space])
        now_ns = self._engine.now_ns()
        if space in self.stunned and now_ns >= self._free_until_ns:
            self.waits += 1
            self._free_until_ns = now_ns + self.wait_ns + AWAKE_NS
            self._engine.owe_ns(self.wait_ns)
