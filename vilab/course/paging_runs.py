"""The runs of lesson 5: a small guest that does everything one can do with page tables, and a real kernel that forks.

::

    way            the CPU walks               how the VMM hears of a change
    all            shadow tables               every store to a table faults
    lazy           shadow tables               INVLPG and loads of CR3 drop entries
    prevalidate    shadow tables               INVLPG and loads of CR3 compare entries
    hardware       shadow tables, under AMD-V  as under all
    nested         the guest's and nested      it need not
    bare           the guest's                 there is none

    08048  the program   -> 00200         the tables of ``TOUR``: directory 00101, the program's table 00103,
    0804a  page a        -> 00202         seen by the kernel at c0101000 and c0103000;
    0804b  page b        -> 00203         the child's: directory 00110, table 00111
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vilab.course.runs import Run, machine, run_typed
from vilab.events import EventLog, TrueFault
from vilab.vmm.translation_path import path
from vilab.vmm.vm import VirtualMachine

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "all": ("bt", {"trace": "all"}),
    "lazy": ("bt", {"trace": "lazy"}),
    "prevalidate": ("bt", {"trace": "prevalidate"}),
    "hardware": ("svm", {"paging": "shadow", "trace": "all"}),
    "nested": ("svm", {}),
    "bare": ("bare", {}),
}
NAMES = {
    "all": "shadow, all traced", "lazy": "shadow, lazy", "prevalidate": "shadow, prevalidated",
    "hardware": "AMD-V, shadow", "nested": "AMD-V, nested", "bare": "no VMM",
}  # fmt: skip

PAGE_A, PAGE_B = 0x0804_A000, 0x0804_B000

TOUR = """\
gate_81:                                # map pages a and b: P RW U
    mov  dword ptr [0xc0103128], 0x00202007
    mov  dword ptr [0xc010312c], 0x00203007
    iretd
gate_82:                                # b shall be another page
    mov  dword ptr [0xc010312c], 0x00204007
    iretd
gate_83:
    invlpg [0x0804b000]
    iretd
gate_84:                                # fork: a table for the child, page a read-only for both
    mov  eax, [0xc0103120]
    mov  [0xc0111120], eax
    mov  eax, [0xc0103128]
    and  eax, 0xfffffffd
    mov  [0xc0103128], eax
    mov  [0xc0111128], eax
    mov  eax, [0xc0101c00]
    mov  [0xc0110c00], eax
    mov  dword ptr [0xc0110080], 0x00111007
    mov  eax, 0x00110000
    mov  cr3, eax                       # the child runs
    iretd
gate_85:
    mov  eax, 0x00101000
    mov  cr3, eax                       # the parent runs
    iretd
gate_0e:                                # copy on write: a page of its own for the child
    mov  eax, [0xc0202000]
    mov  [0xc0205000], eax
    mov  dword ptr [0xc0111128], 0x00205007
    invlpg [0x0804a000]
    add  esp, 4
    iretd
gate_8f:
program:
    int  0x81
    mov  eax, [0x0804a000]
    mov  [0x0804b000], eax
    mov  [0x0804a000], eax
    int  0x82
    mov  eax, [0x0804b000]
    int  0x83
    mov  eax, [0x0804b000]
    int  0x84
    mov  eax, [0x0804a000]
    mov  [0x0804a000], eax
    int  0x85
    mov  eax, [0x0804a000]
    int  0x8f
"""
"""The kernel's services are gates: 81 maps, 82 changes, 83 flushes, 84 forks, 85 goes back, 8f ends the run."""


def tour(way: str) -> Run:
    """The small guest, one of ``WAYS``."""
    return of_text(TOUR, way)


def of_text(text: str, way: str) -> Run:
    """What a student types, one of ``WAYS``."""
    engine, options = WAYS[way]
    return run_typed(text, engine, **options)


def fork(way: str, pages: int = 3, limit: int = 6000) -> Run:
    """The teaching kernel has just created a process, which is about to store into pages that it shares."""
    engine, options = WAYS[way]

    def make(name: str, log: EventLog) -> VirtualMachine:
        return machine("forkwait", name, log, append=f"2 {pages}", **(options if name == engine else {}))

    def skip(vm: VirtualMachine) -> None:
        scout = true_fault_times(make, vm.engine.name)
        vm.engine.run(scout[FAULTS_BEFORE + pages] - LEAD_NS)

    return Run(make, engine, limit, skip)


FAULTS_BEFORE, LEAD_NS = 3, 8000
"""The first program faults on its stack, code and data, then on each page; its child begins that long before."""


def true_fault_times(make: Callable[[str, EventLog], VirtualMachine], engine: str) -> list[int]:
    """When a whole run takes its true faults."""
    log, times = EventLog(), list[int]()
    log.listen(lambda event: times.append(event.at_ns) if isinstance(event, TrueFault) else None)
    vm = make(engine, log)
    vm.engine.run()
    vm.close()
    return times


def compare(runs: Mapping[str, Run]) -> str:
    """What keeping the tables has cost in whole runs, in columns."""
    rows = [["", *(NAMES[way] for way in runs)]]
    moments = {}
    for way, run in runs.items():
        here = run.position
        run.seek(0)
        start = counts_of(run)
        run.seek(run.total)
        moments[way] = {name: count - start[name] for name, count in counts_of(run).items()}
        run.seek(here)
    rows += [[name, *(f"{each[name]:,}" for each in moments.values())] for name in next(iter(moments.values()))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join((row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))))
        for row in rows
    )


def counts_of(run: Run) -> dict[str, int]:
    """Faults by kind, and what loads of CR3 have cost, up to where the machine stands."""
    engine = run.vm.engine
    policy = getattr(getattr(engine, "shadow", None), "policy", None)
    return {
        "true faults": engine.true_faults, "hidden faults": engine.hidden_faults, "trace faults": engine.trace_faults,
        "entries dropped": policy.dropped_entries if policy else 0,
        "entries compared": policy.validated_entries if policy else 0,
    }  # fmt: skip


def where(run: Run, gva: int) -> str:
    """The way of an address now: every entry, and where it ends."""
    return path(run.vm, gva).describe()
