"""What an event costs, in nanoseconds of virtual time and in cycles of the machine that the papers measured.

Every entry is a primitive (a trap, a callout, an entry, an exit); nothing here is the result of a workload. Source:
Adams and Agesen, ASPLOS 2006, section 3.3, figure 4 and table 1, measured on a 3.8 GHz Pentium 4 672. A ``CostModel``
is a plain value: copy it with ``msgspec.structs.replace`` and run with other figures.
"""

from __future__ import annotations

import msgspec

PENTIUM_4_672_HZ = 3_800_000_000


class NativeCosts(msgspec.Struct, frozen=True):
    """Cycles of single operations on the bare machine, where nothing intervenes.

    syscall : the way into the kernel and out again (242). page_fault : #PF, handler, IRET (1093).
    divide_error : the same for #DE (889). call_return : a pair (11). task_priority : a write of CR8 (150).
    mask_interrupts : CLI (60, section 3.2). store : to a page-table entry, unchanged (1). store_absent,
    store_present : the same, present to not present (4) and back (5). A port access is ``CostModel.port_access``.
    Source: figure 4 and its appendix, the column "native".
    """

    syscall: int = 242
    page_fault: int = 1093
    divide_error: int = 889
    call_return: int = 11
    task_priority: int = 150
    mask_interrupts: int = 60
    store: int = 1
    store_absent: int = 4
    store_present: int = 5


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
    simulate : MODEL: a store that was found guilty of hitting traces, translated anew so that it no longer faults. The
        paper has no figure for it beside the result; it is taken as an in-cache sequence. Our cache leaves it to the
        monitor, as a callout.
    monitor_work : what the monitor itself does at a trap: a trap less the processor's part (2030 - 889).
    vmcb_read, vmcb_write : one field of the control block (178, 171). vmcb_reads, vmcb_writes : how many an exit takes
        ("a typical exit needs about ten", section 4.3); MODEL: one write, EIP. vmcb_injection : more writes where an
        exception is given to the guest: vector and error code.
    code_bytes_per_cycle : MODEL: plain code; a two-byte store takes a cycle (figure 4, ptemod, native).
    validate_entry : MODEL: comparing one page-table entry with what it was: two loads.
    native : single operations without a VMM.
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
    simulate: int = 216
    monitor_work: int = 1141
    vmcb_read: int = 178
    vmcb_write: int = 171
    vmcb_reads: int = 10
    vmcb_writes: int = 1
    vmcb_injection: int = 2
    code_bytes_per_cycle: int = 2
    validate_entry: int = 2
    interrupt: int = 2030
    translate_instruction: int = 2300
    code_ns_per_byte: int = 1
    tsc_per_us: int = 1000
    native: NativeCosts = NativeCosts()

    def ns(self, cycles: int) -> int:
        """Whole nanoseconds for a number of cycles, rounded up."""
        return -(-cycles * 1_000_000_000 // self.cycles_per_second)

    @property
    def exit(self) -> int:
        """A #VMEXIT from the guest's last instruction to its next: both switches, the block, and the monitor's work."""
        block = self.vmcb_reads * self.vmcb_read + self.vmcb_writes * self.vmcb_write
        return self.vm_exit + block + self.monitor_work + self.vm_entry


DEFAULT_COSTS = CostModel()
