"""Exercise of lesson 04: where a guest's address really leads. The judge: a guest that runs under nested paging.

::

    machine memory of the run ──read(mpa)──> nested_walk(gva, cr3, ncr3, read) ──> mpa, or whose tables said no
                                                      = the monitor's own records of the same guest?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import msgspec

from vilab.course import exercise_steps as steps
from vilab.course.exercise_guest import BASE, GuestMachine
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.errors import GuestFault
from vilab.events import EventLog
from vilab.guests import load
from vilab.vmm.engine_svm import SvmEngine
from vilab.vmm.vm import VirtualMachine
from vilab.vmm.walk import CR4_PSE, walk
from vilab.x86 import paging as pg
from vilab.x86.assemble import assemble

PAGE_FAULT, NESTED_PAGE_FAULT = "page fault", "nested page fault"
Read = Callable[[int], int]
NestedWalk = Callable[[int, int, int, Read], "int | str"]


class _Place(msgspec.Struct, frozen=True):
    gva: int
    answer: int | str


class _Tables:
    """The memory of a guest that has run, and where some of its addresses lead."""

    def __init__(self, vm: VirtualMachine) -> None:
        engine = vm.engine
        assert isinstance(engine, SvmEngine)
        v = engine.vcpu
        self.cr3, self.ncr3 = v.cr3 & pg.FRAME_MASK, engine.nested.root_mpn << 12
        self.memory = vm.machine_memory.read(0, vm.machine_memory.size_bytes)
        kinds: dict[str, list[_Place]] = {"": [], PAGE_FAULT: [], NESTED_PAGE_FAULT: []}
        for gva in _addresses(engine):
            answer = _answer(engine, gva)
            kinds[answer if isinstance(answer, str) else ""].append(_Place(gva, answer))
        vm.close()
        some = [_spread(found, most) for found, most in zip(kinds.values(), (24, 6, 6), strict=True)]
        # Four that lead somewhere, then one of each other kind, and so on.
        self.places = [
            place for n in range(6) for place in (*some[0][4 * n : 4 * n + 4], *some[1][n : n + 1], *some[2][n : n + 1])
        ]

    def read(self, mpa: int) -> int:
        return int.from_bytes(self.memory[mpa : mpa + 4], "little")


def _spread(places: Sequence[_Place], most: int) -> Sequence[_Place]:
    return places[:: max(1, len(places) // most)][:most]


def _addresses(engine: SvmEngine) -> Iterator[int]:
    """One address of every page that the guest's tables speak of, and some of regions that they do not have."""
    v = engine.vcpu
    for index in range(1024):
        pde = v.pmap.read_u32((v.cr3 & pg.FRAME_MASK) + 4 * index)
        if pde & pg.PRESENT:
            yield from (index << 22 | page << 12 | page * 0x35 % 0xFF0 for page in range(1024))
        elif index % 64 == 7:
            yield index << 22 | 0x123


def _answer(engine: SvmEngine, gva: int) -> int | str:
    """What the processor makes of a read by the guest's kernel, by the monitor's own records."""
    v, entry = engine.vcpu, engine.nested.entry
    directory_at = (v.cr3 & pg.FRAME_MASK) + (gva >> 22 << 2)
    if not entry(directory_at):
        return NESTED_PAGE_FAULT
    pde = v.pmap.read_u32(directory_at)
    large = bool(pde & pg.LARGE and v.cr4 & CR4_PSE)
    if pde & pg.PRESENT and not large and not entry(pde & pg.FRAME_MASK):
        return NESTED_PAGE_FAULT
    try:
        gpa = walk(v.pmap, v.cr0, v.cr3, v.cr4, gva, write=False, user=False, set_bits=False).gpa
    except GuestFault:
        return PAGE_FAULT
    there = entry(gpa)
    return there & pg.FRAME_MASK | gva & 0xFFF if there & pg.PRESENT else NESTED_PAGE_FAULT


LARGE_PAGES = f"""
    mov dword ptr [0x200000], 0x83          # 0 to 4 MB: one page
    mov dword ptr [0x200004], 0x000001      # 4 to 8 MB: a table at 0
    mov dword ptr [0x200c00], 0x400083      # 3 GB: the page of 4 to 8 MB, where there is no memory
    mov dword ptr [0x200c04], 0x83          # 3 GB + 4 MB: the first again
    mov eax, cr4; or eax, {CR4_PSE}; mov cr4, eax
    mov eax, 0x200000; mov cr3, eax
    mov eax, cr0; or eax, 0x80000000; mov cr0, eax
    mov ecx, [0x300000]; mov ecx, [0xc0423456]
    hlt
"""


@cache
def _tables(guest: str) -> _Tables:
    if guest == "large pages":
        vm: VirtualMachine = GuestMachine(assemble(LARGE_PAGES, BASE).code, "svm", log=EventLog(keep=True))
        list(steps.walk(vm, 40))
    else:
        vm = VirtualMachine(load(guest, memory_bytes=16 << 20), "svm", 16 << 20)
        vm.engine.run(25_000_000)
    return _Tables(vm)


def check_nested_walk(nested_walk: NestedWalk, guests: Sequence[str] = ("shell",), most: int | None = 12) -> Feedback:
    """``nested_walk(gva, cr3, ncr3, read)``: the mpa, or ``PAGE_FAULT``, or ``NESTED_PAGE_FAULT``.

    ``read(mpa)`` gives a dword of machine memory. ``most``: how many addresses of each guest; ``None``: all.
    """
    count = longest = 0
    for guest in guests:
        tables = _tables(guest)
        for place in tables.places[:most]:
            reads: list[int] = []

            def read(mpa: int, tables: _Tables = tables, reads: list[int] = reads) -> int:
                if not isinstance(mpa, int):
                    raise WrongAnswer(f"read({mpa!r}): a machine address is a whole number.")
                if not 0 <= mpa <= len(tables.memory) - 4:
                    raise WrongAnswer(f"read(0x{mpa:x}): the machine's memory ends at 0x{len(tables.memory):x}.")
                reads.append(mpa)
                return tables.read(mpa)

            words = f"nested_walk(0x{place.gva:08x}, 0x{tables.cr3:x}, 0x{tables.ncr3:x}, read)"
            try:
                said = call(nested_walk, place.gva, tables.cr3, tables.ncr3, read, said=words)
            except WrongAnswer as wrong:
                raise WrongAnswer(wrong.feedback.sentence, _walked(tables, place, reads)) from None
            if said != place.answer:
                raise WrongAnswer(
                    f"{words} returned {_named(said)}; the guest's access ends in {_named(place.answer)}.",
                    _walked(tables, place, reads),
                )
            count += 1
            longest = max(longest, len(reads))
    return right(f"{count} addresses, each as the processor translates it; at most {longest} reads of memory for one.")


def _named(answer: object) -> str:
    return f"mpa 0x{answer:08x}" if isinstance(answer, int) else repr(answer)


def _walked(tables: _Tables, place: _Place, reads: Sequence[int]) -> tuple[str, ...]:
    """The walk as the processor does it, a read of memory a line, beside what the student has read."""
    rows = [("the walk", "at gpa", "read(mpa)", "entry", "yours read")]

    def look(what: str, gpa: int | None, mpa: int) -> int:
        entry = tables.read(mpa)
        yours = f"{reads[len(rows) - 1]:08x}" if len(rows) - 1 < len(reads) else "-"
        rows.append((what, "" if gpa is None else f"{gpa:08x}", f"{mpa:08x}", f"{entry:08x}", yours))
        return entry

    def nested(gpa: int) -> int | None:
        directory = look("  nested directory", None, tables.ncr3 + (gpa >> 22) * 4)
        if not directory & pg.PRESENT:
            return None
        entry = look("  nested table", None, (directory & pg.FRAME_MASK) + (gpa >> 12 & 0x3FF) * 4)
        return entry & pg.FRAME_MASK | gpa & 0xFFF if entry & pg.PRESENT else None

    def guest(what: str, gpa: int) -> int | None:
        mpa = nested(gpa)
        return None if mpa is None else look(what, gpa, mpa)

    gva = place.gva
    entry = guest("guest's directory", tables.cr3 + (gva >> 22) * 4)
    if entry is not None and entry & pg.PRESENT:
        if entry & pg.LARGE:
            nested(entry & pg.LARGE_FRAME_MASK | gva & 0x3FFFFF)
        else:
            entry = guest("guest's table", (entry & pg.FRAME_MASK) + (gva >> 12 & 0x3FF) * 4)
            if entry is not None and entry & pg.PRESENT:
                nested(entry & pg.FRAME_MASK | gva & 0xFFF)
    return columns(rows)
