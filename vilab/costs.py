"""What an event costs, in nanoseconds of virtual time and in cycles of the machine that the papers measured.

Every entry is a primitive (a trap, a callout, an entry, an exit); nothing here is the result of a workload. Source:
Adams and Agesen, ASPLOS 2006, section 3.3, figure 4 and table 1, measured on a 3.8 GHz Pentium 4 672. A ``CostModel``
is a plain value: copy it with ``msgspec.structs.replace`` and run with other figures.
"""

from __future__ import annotations

import msgspec

PENTIUM_4_672_HZ = 3_800_000_000


class CostModel(msgspec.Struct, frozen=True):
    """Cycles per event. ``cycles_per_second`` turns them into virtual time.

    trap : a privileged instruction that faults, is emulated and resumed (2030: ``rdtsc`` under trap-and-emulate).
    callout : leaving the translation cache for the monitor and returning (1254: ``rdtsc`` as a callout).
    in_cache : a privileged instruction rewritten inside the cache (216); charged by execution, listed for the lessons.
    vm_exit, vm_entry : one world switch of hardware assist each way (1931, 2409).
    port_access : IN or OUT on the bare machine (3209: ``in`` from port 0x80, figure 4, native): the bus is slow.
    hidden_fault : MODEL: a trap; the paper gives no figure of its own for filling one shadow entry.
    trace_fault : MODEL: a trap; a store to a traced page is emulated and what it changes is followed.
    hypercall : MODEL: INT through a gate into ring 0 and IRET back: what a divide error costs natively (889, figure 4).
    update_entry : MODEL: checking one entry of a batch of page-table updates, taken as an in-cache sequence.
    interrupt : MODEL: delivering an interrupt or exception into a guest, taken as a trap.
    tsc_per_us : what the guest's time-stamp counter counts in a microsecond of virtual time: 1000 is 1 GHz.
    """

    name: str = "Pentium 4 672"
    cycles_per_second: int = PENTIUM_4_672_HZ
    trap: int = 2030
    callout: int = 1254
    in_cache: int = 216
    vm_exit: int = 1931
    vm_entry: int = 2409
    port_access: int = 3209
    hidden_fault: int = 2030
    trace_fault: int = 2030
    hypercall: int = 889
    update_entry: int = 216
    interrupt: int = 2030
    translate_instruction: int = 2300
    code_ns_per_byte: int = 1
    tsc_per_us: int = 1000

    def ns(self, cycles: int) -> int:
        """Whole nanoseconds for a number of cycles, rounded up."""
        return -(-cycles * 1_000_000_000 // self.cycles_per_second)


DEFAULT_COSTS = CostModel()
