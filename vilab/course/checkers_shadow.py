"""Exercises of lesson 05: what a shadow entry is made of, and whose a page fault is. The judge: the monitor at work.

::

    a kernel creates processes under translation
      ├─ its shadow tables, looked at again and again ──> shadow_entry(pde, pte, pmap, traced) = what is there?
      └─ every page fault that the CPU takes ───────────> kind_of_fault(error_code, pde, pte, traced) = what came of it?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import msgspec

from vilab.course.exercise_student import call, whole_number
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.paging_runs import TOUR
from vilab.course.runs import machine
from vilab.course.small_guest import SmallGuest, assemble_typed
from vilab.vmm import translation_path as tp
from vilab.vmm.deprivileged import DeprivilegedEngine
from vilab.vmm.vm import VirtualMachine
from vilab.x86 import paging as pg

HIDDEN_FAULT, TRACE_FAULT, TRUE_FAULT = tp.HIDDEN, tp.TRACE, tp.TRUE
KINDS = (HIDDEN_FAULT, TRACE_FAULT, TRUE_FAULT)

ShadowEntry = Callable[[int, int, Mapping[int, int], frozenset[int]], int]
KindOfFault = Callable[[int, int, int, bool], str]

SLICE_NS = 50_000
MOST_OF_A_KIND = 4

RIGHTS = """\
mov eax, cr0
or eax, 0x10000
mov cr0, eax
mov dword ptr [0xc0103128], 0x00202007
mov eax, [0x0804a000]
mov [0x0804a000], eax
mov dword ptr [0xc0103128], 0x00202003
mov eax, [0x0804a000]
mov dword ptr [0xc0101080], 0x00103005
mov eax, [0x0804a000]
mov eax, [0x08048000]
mov [0x0804a000], eax
mov dword ptr [0xc0101080], 0x00103003
mov dword ptr [0xc010312c], 0x00103007
mov eax, [0x0804b000]
mov [0x0804b1f0], eax
mov dword ptr [0xc0103130], 0x00204045
mov eax, [0x0804c000]
ret
gate_0e:
add esp, 4
add dword ptr [esp], 5
iretd
"""
"""Rights of the directory and the table differ; a table is mapped into its own window; D is there before A."""

GUESTS = {"forkwait": "a kernel that creates processes", "tour": "the guest of the lesson", "rights": "odd rights"}


class EntryCase(msgspec.Struct, frozen=True):
    """What the monitor made of a guest's entry."""

    gva: int
    pde: int
    pte: int
    mpn: int
    traced: bool
    entry: int


class FaultCase(msgspec.Struct, frozen=True):
    """A page fault, the guest's entries as it found them, and what came of it."""

    gva: int
    error_code: int
    pde: int
    pte: int
    traced: bool
    kind: str


def _machine(guest: str) -> VirtualMachine:
    if guest == "forkwait":
        return machine("forkwait", "bt", append="2 8")
    return SmallGuest(assemble_typed(TOUR if guest == "tour" else RIGHTS), "bt")


def _engine(vm: VirtualMachine) -> DeprivilegedEngine:
    assert isinstance(vm.engine, DeprivilegedEngine)
    return vm.engine


@cache
def entry_cases(guest: str) -> tuple[EntryCase, ...]:
    """Some of each kind, from looking at the tables again and again while the guest runs."""
    vm = _machine(guest)
    engine, kinds = _engine(vm), dict[tuple[int, ...], list[EntryCase]]()
    ever: set[int] = set()
    step = SLICE_NS if guest == "forkwait" else 200
    try:
        while engine.ended is None:
            engine.run(engine.now_ns() + step)
            for case in _looked_at(vm, engine, ever):
                kind = (case.pde & 7, case.pte & 0x67, int(case.traced))
                here = kinds.setdefault(kind, [])
                if len(here) < MOST_OF_A_KIND and case not in here:
                    here.append(case)
    finally:
        vm.close()
    return tuple(case for kind in sorted(kinds) for case in kinds[kind])


def _looked_at(vm: VirtualMachine, engine: DeprivilegedEngine, ever: set[int]) -> list[EntryCase]:
    """Every page of the address space in use that has a shadow entry, or whose guest entry forbids to have one.

    Without pages that were watched before: there the shadow allows less than it could until the next store.
    """
    if not engine.shadow.paging:
        return []
    words, traced = vm.machine_memory.words, engine.shadow.traced
    ever.update(traced)
    found = []
    for index, table in engine.shadow.root.tables.items():
        if table.is_large or index >= 0x3C0:
            continue
        pde = vm.pmap.read_u32((engine.shadow.root.name << 12) + 4 * index)
        for page in range(pg.ENTRIES):
            pte = vm.pmap.read_u32((table.ppn << 12) + 4 * page)
            ppn = pte >> 12
            mpn = vm.pmap.frame(ppn) if pte else None
            if mpn is None or (ppn in ever and ppn not in traced):
                continue
            entry = words[table.at + page] & ~pg.AVAILABLE
            if not entry & pg.PRESENT and pte & pg.PRESENT and pte & pg.ACCESSED:
                continue  # not yet
            if not entry & pg.WRITABLE:
                entry &= ~pg.DIRTY  # it says nothing where nobody can store
            found.append(EntryCase(index << 22 | page << 12, pde, pte, mpn, ppn in traced, entry))
    return found


def check_shadow_entry(shadow_entry: ShadowEntry, guests: Sequence[str] = ("tour",)) -> Feedback:
    """``shadow_entry(pde, pte, pmap, traced)``: the shadow's entry for a page, 0 for none."""
    count = 0
    for guest in guests:
        for case in entry_cases(guest):
            ppn = case.pte >> 12
            traced = frozenset((ppn, 0x101)) if case.traced else frozenset((0x101,)) - {ppn}
            said = f"shadow_entry({case.pde:#010x}, {case.pte:#010x}, pmap, traced)"
            answer = whole_number(call(shadow_entry, case.pde, case.pte, {ppn: case.mpn}, traced, said=said), said)
            if answer != case.entry:
                raise WrongAnswer(_sentence(said, answer, case), _entry_rows(case, answer, guest))
            count += 1
    return right(f"{count} entries, each as the monitor's shadow tables have it.")


def _sentence(said: str, answer: int, case: EntryCase) -> str:
    mine, due = answer & ~0xFFF, case.entry & ~0xFFF
    if bool(answer & 1) != bool(case.entry & 1):
        what = "there is an entry" if case.entry & 1 else "there is none: only a fault can tell"
        return f"{said} gave {answer:08x}, but in the shadow {what}."
    if mine != due:
        frame, page = case.mpn, case.pte >> 12
        return f"{said} leads to frame {answer >> 12:05x}; the pmap has frame {frame:05x} behind page {page:05x}."
    return f"{said} allows something else than the shadow does: {_flags(answer)}, where {_flags(case.entry)} is due."


def _entry_rows(case: EntryCase, answer: int, guest: str) -> tuple[str, ...]:
    return columns((
        ("guest", GUESTS[guest], ""), ("page", f"{case.gva:08x}", ""), ("its PDE", f"{case.pde:08x}", _flags(case.pde)),
        ("its PTE", f"{case.pte:08x}", _flags(case.pte)),
        ("pmap", f"{case.pte >> 12:05x} -> {case.mpn:05x}", "traced" if case.traced else "not traced"),
        ("shadow's", f"{case.entry:08x}", _flags(case.entry)), ("yours", f"{answer & 0xFFFFFFFF:08x}", _flags(answer)),
    ))  # fmt: skip


def _flags(value: int) -> str:
    return pg.PTE(value & 0x7F).flags or "not present"


@cache
def fault_cases(guest: str) -> tuple[FaultCase, ...]:
    """Some of each kind, from listening in on every page fault of a run."""
    vm = _machine(guest)
    engine, kinds = _engine(vm), dict[tuple[object, ...], list[FaultCase]]()
    usual = engine.page_fault

    def counts() -> tuple[int, int, int]:
        return engine.hidden_faults, engine.trace_faults, engine.true_faults

    def listen(gva: int, error_code: int) -> None:
        before, path = counts(), tp.path(vm, gva)
        usual(gva, error_code)
        after = counts()
        changed = [kind for kind, a, b in zip(KINDS, before, after, strict=True) if b > a]
        unusual = not path.wp and error_code & pg.ERROR_WRITE and not error_code & pg.ERROR_USER
        if len(changed) != 1 or not path.guest.entries or path.guest.large or unusual:
            return
        entries = path.guest.entries
        pte = entries[1].value if len(entries) > 1 else 0
        case = FaultCase(gva, error_code, entries[0].value, pte, path.traced, changed[0])
        here = kinds.setdefault((case.error_code, case.pde & 7, case.pte & 7, case.traced, case.kind), [])
        if len(here) < MOST_OF_A_KIND:
            here.append(case)

    engine.page_fault = listen  # type: ignore[method-assign]
    try:
        engine.run()
    finally:
        vm.close()
    return tuple(case for kind in sorted(kinds, key=repr) for case in kinds[kind])


def check_kind_of_fault(kind_of_fault: KindOfFault, guests: Sequence[str] = ("rights",)) -> Feedback:
    """``kind_of_fault(error_code, pde, pte, traced)``: one of ``KINDS``."""
    count = 0
    for guest in guests:
        for case in fault_cases(guest):
            said = f"kind_of_fault({case.error_code}, {case.pde:#010x}, {case.pte:#010x}, {case.traced})"
            answer = call(kind_of_fault, case.error_code, case.pde, case.pte, case.traced, said=said)
            if answer not in KINDS:
                raise WrongAnswer(f"{said} gave {answer!r}; one of {', '.join(KINDS)} is wanted.")
            if answer != case.kind:
                raise WrongAnswer(f"{said} gave {answer}, but it was a {case.kind}.", _fault_rows(case, guest))
            count += 1
    return right(f"{count} page faults, each as the monitor took it.")


def _fault_rows(case: FaultCase, guest: str) -> tuple[str, ...]:
    came_of_it = {
        HIDDEN_FAULT: "the monitor filled the shadow entry, and the access was repeated",
        TRACE_FAULT: "the monitor did the store, and looked at what it had changed",
        TRUE_FAULT: "the guest's own page-fault handler was entered",
    }
    return columns((
        ("guest", GUESTS[guest], ""), ("address", f"{case.gva:08x}", ""),
        ("error code", f"{case.error_code:04x}", pg.describe_error(case.error_code) + " (as the shadow has it)"),
        ("guest's PDE", f"{case.pde:08x}", _flags(case.pde)), ("guest's PTE", f"{case.pte:08x}", _flags(case.pte)),
        ("page", f"{case.pte >> 12:05x}", "traced" if case.traced else "not traced"),
        ("came of it", "", came_of_it[case.kind]),
    ))  # fmt: skip
