"""Exercises of lesson 08: three addresses, and what accesses cost. The judges: a running guest's tables, and the
memory manager at work.

::

    8a   gva ──> guest's tables ──> gpa ──> pmap ──> mpa          translation_path, on guests that run
    8b   states of pages, and accesses ──> frames, bytes, disk    the same accesses, made on a host
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from vilab.addresses import PAGE_BYTES, Ppn
from vilab.course import memory_runs as runs
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.machine.memory import MachineMemory
from vilab.memory.client import MemoryClient, MemoryConfig
from vilab.memory.manager import FLOOR_PAGES, MemoryManager
from vilab.memory.page_state import PageState
from vilab.vmm import translation_path as tp

PAGE_FAULT, NO_FRAME = "page fault", "no frame"
UNTOUCHED, PRIVATE, SHARED, BALLOONED, SWAPPED = "untouched", "private", "shared", "ballooned", "swapped"

MachineAddress = Callable[[int, int, Callable[[int], int], Mapping[int, int]], object]
Page = tuple[str, int]
"""(name of the guest, ppn)"""
Cost = Callable[[Mapping[Page, str], Mapping[Page, int], Sequence[tuple[Page, bool]]], object]

# 8a --------------------------------------------------------------------------------------------------------------


class Lesson(msgspec.Struct, frozen=True):
    """One guest in the middle of a program."""

    what: str
    make: Callable[[], Host]


def _pressed() -> Host:
    """On a machine that is too small: some of the program's pages are on disk."""
    host = runs.new_host(24 + 2)
    host.memory.reclaimer.ballooning = False
    vm = runs.power_on(host, "vm1", 16, "checksum 2800 0 16 10 1")
    host.memory.reclaimer.page_out(vm.client, 0)
    runs.in_program(
        vm.vm, lambda: host.run_for(runs.MILLISECOND_NS), lambda: vm.client.pmap.count(PageState.PRIVATE) > 700
    )
    host.memory.reclaimer.page_out(vm.client, 300)
    return host


GUESTS = {
    "filling": Lesson("a program that fills memory", lambda: runs.caught_in_program(frames=400)),
    "paged out": Lesson("a program, after 300 pages were paged out", _pressed),
}


class AddressCase(msgspec.Struct, frozen=True):
    """``due``: the machine address, or one of the two words."""

    gva: int
    gpa: int | None
    due: int | str


class Walked(msgspec.Struct):
    """A guest as the student's function sees it."""

    cr3: int
    words: Mapping[int, int]
    pmap: Mapping[int, int]
    cases: tuple[AddressCase, ...]

    def read(self, gpa: int) -> int:
        if gpa % 4:
            raise WrongAnswer(f"read({gpa:#x}): entries lie at multiples of 4.")
        return self.words.get(gpa, 0)


@cache
def walked(guest: str) -> Walked:
    """Addresses of all kinds, and where they lead."""
    host = GUESTS[guest].make()
    hosted = host.vms["vm1"]
    vm, pmap = hosted.vm, hosted.client.pmap
    rng = random.Random(8)
    mapped = runs.mapped(vm)
    kernel = [0xC0000000 + (ppn << 12) for ppn in range(0, pmap.pages, 37)]
    wanted = rng.sample(mapped, min(40, len(mapped))) + rng.sample(kernel, 30)
    wanted += [mapped[0] - 0x1000, mapped[-1] + 0x1000, 0x40000000, 0x08C00000]
    gone = [gva for gva in mapped if tp.path(vm, gva).mpn is None]
    wanted += gone[:10]
    cases = [_case(vm_path) for vm_path in (tp.path(vm, gva | rng.randrange(PAGE_BYTES)) for gva in wanted)]
    words = _table_words(hosted)
    frames = {ppn: mpn for ppn, mpn in enumerate(pmap.mpn_of) if mpn >= 0}
    made = Walked(vm.engine.vcpu.cr3, words, frames, tuple(cases))
    host.close()
    return made


def _case(found: tp.Path) -> AddressCase:
    due = PAGE_FAULT if found.gpa is None else found.meant
    return AddressCase(found.gva, found.gpa, NO_FRAME if due is None else due)


def _table_words(hosted: HostedVm) -> dict[int, int]:
    """Every entry of the tables of the address space in use, by gpa."""
    pmap = hosted.client.pmap
    root = hosted.vm.engine.vcpu.cr3 & ~0xFFF
    words = _page_words(pmap.page(root >> 12), root)
    for entry in list(words.values()):
        if entry & 1 and not entry & 0x80:
            words |= _page_words(pmap.page(entry >> 12), entry & ~0xFFF)
    return words


def _page_words(page: bytes, at: int) -> dict[int, int]:
    return {at + 4 * index: int(value) for index, value in enumerate(np.frombuffer(page, "<u4")) if value}


def check_machine_address(machine_address: MachineAddress, guests: Sequence[str] = ("filling",)) -> Feedback:
    """``machine_address(gva, cr3, read, pmap)``: the mpa, ``PAGE_FAULT`` or ``NO_FRAME``."""
    count = 0
    for guest in guests:
        lesson = walked(guest)
        for case in lesson.cases:
            said = f"machine_address({case.gva:#010x}, {lesson.cr3:#010x}, read, pmap)"
            answer = call(machine_address, case.gva, lesson.cr3, lesson.read, lesson.pmap, said=said)
            if answer != case.due or isinstance(answer, bool):
                raise WrongAnswer(f"{said} gave {_word(answer)}; it is {_word(case.due)}.", _way(case, lesson, guest))
            count += 1
    return right(f"{count} addresses, each as the running guest has it.")


def _word(value: object) -> str:
    return f"{value:08x}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def _way(case: AddressCase, lesson: Walked, guest: str) -> tuple[str, ...]:
    at = (lesson.cr3 & ~0xFFF) + 4 * (case.gva >> 22)
    pde = lesson.read(at)
    rows = [("guest", GUESTS[guest].what), ("directory entry", f"{pde:08x} at {at:08x}")]
    if pde & 1 and not pde & 0x80:
        at = (pde & ~0xFFF) + 4 * (case.gva >> 12 & 0x3FF)
        rows.append(("table entry", f"{lesson.read(at):08x} at {at:08x}"))
    if case.gpa is not None:
        rows.append(("gpa", f"{case.gpa:08x}"))
        mpn = lesson.pmap.get(case.gpa >> 12)
        rows.append(("pmap", f"{case.gpa >> 12:05x} -> {'nothing' if mpn is None else f'{mpn:05x}'}"))
    return columns(rows)


# 8b --------------------------------------------------------------------------------------------------------------


class Trace(msgspec.Struct, frozen=True):
    """``states``: of every page; ``frames``: of each shared one, a number that those on one frame have in common."""

    what: str
    states: Mapping[Page, str]
    frames: Mapping[Page, int]
    accesses: tuple[tuple[Page, bool], ...]


class Bill(msgspec.Struct, frozen=True):
    """What accesses cost: frames taken, bytes filled with zeros or copied, pages read from disk."""

    frames: int
    bytes: int
    disk: int


FIRST_TRACES = (
    Trace("one page, read twice and written", {("vm1", 1): UNTOUCHED}, {},
          ((("vm1", 1), False), (("vm1", 1), False), (("vm1", 1), True))),
    Trace("a page on disk", {("vm1", 1): SWAPPED, ("vm1", 2): PRIVATE}, {},
          ((("vm1", 1), False), (("vm1", 1), True), (("vm1", 2), True))),
    Trace("two readers, one writes", {("vm1", 1): SHARED, ("vm2", 5): SHARED}, {("vm1", 1): 1, ("vm2", 5): 1},
          ((("vm1", 1), False), (("vm1", 1), True), (("vm1", 1), True))),
)  # fmt: skip


def random_traces(seed: int = 8, count: int = 12) -> tuple[Trace, ...]:
    """Three guests, pages of every state, and sixty accesses to them."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        names = [(f"vm{vm}", ppn) for vm in (1, 2, 3) for ppn in range(6)]
        states = {page: rng.choice((UNTOUCHED, PRIVATE, SHARED, SHARED, BALLOONED, SWAPPED)) for page in names}
        shared = [page for page in names if states[page] == SHARED]
        if len(shared) < 4:
            continue
        groups = rng.randint(1, len(shared) // 2)
        frames = {page: at % groups for at, page in enumerate(shared)}
        accesses = tuple((rng.choice(names), rng.random() < 0.5) for _ in range(60))
        made.append(Trace(f"random accesses, {number}", states, frames, accesses))
    return tuple(made)


def bills(trace: Trace) -> list[Bill]:
    """The bill after each access, from a memory manager that serves them."""
    with tempfile.TemporaryDirectory(prefix="vilab-") as directory:
        manager = MemoryManager(MachineMemory(12 << 20), Path(directory))
        names = sorted({name for name, _ in trace.states})
        clients = {name: manager.admit(name, MemoryConfig(1), PAGE_BYTES) for name in names}
        for client in clients.values():
            for ppn in range(client.pmap.pages):
                client.pmap.stop_watching(ppn)
        for page in trace.states:
            _bring(manager, clients[page[0]], page, trace)
        assert manager.free_pages > FLOOR_PAGES
        for (name, ppn), state in trace.states.items():
            assert clients[name].pmap.state_of(ppn).name.lower() == state, (name, ppn, state)
        found, frames, moved, disk = [], 0, 0, 0
        for (name, ppn), write in trace.accesses:
            client = clients[name]
            free, before, paged_in = manager.free_pages, client.pmap.state_of(ppn), client.swapped_in
            client.pmap.resolve(ppn, write)
            taken, read = free - manager.free_pages, client.swapped_in - paged_in
            frames, disk = frames + taken, disk + read
            # A frame that was not filled from disk was zeroed, or copied.
            moved += PAGE_BYTES * (taken - read) if before is not PageState.PRIVATE else 0
            found.append(Bill(frames, moved, disk))
        for client in list(clients.values()):
            client.swap.close()
        return found


def _bring(manager: MemoryManager, client: MemoryClient, page: Page, trace: Trace) -> None:
    """Into its state, by what brings pages there."""
    state, ppn, pmap = trace.states[page], page[1], client.pmap
    if state == UNTOUCHED:
        return
    mark = f"{page} alone" if state != SHARED else f"frame {trace.frames[page]}"
    pmap.write(ppn << 12, mark.encode().ljust(PAGE_BYTES, b"."))
    if state == SHARED:
        manager.sharing.scan(np.array([client.vm_id]), np.array([ppn]))
    elif state == SWAPPED:
        assert manager.swap_out(client, Ppn(ppn))
    elif state == BALLOONED:
        manager.release(pmap, Ppn(ppn), PageState.BALLOONED)
        client.balloon.state.locked_pages += 1


def check_cost(cost: Cost, traces: Sequence[Trace] = FIRST_TRACES) -> Feedback:
    """``cost(states, frames, accesses)``: (frames taken, bytes zeroed or copied, pages read from disk)."""
    for trace in traces:
        due = bills(trace)
        for upto in range(1, len(trace.accesses) + 1):
            part = trace.accesses[:upto]
            said = f"cost(states, frames, {upto} access{'es' if upto > 1 else ''})"
            answer = call(cost, dict(trace.states), dict(trace.frames), list(part), said=said)
            wanted = due[upto - 1]
            if answer != (wanted.frames, wanted.bytes, wanted.disk):
                raise WrongAnswer(
                    f"{said} gave {answer!r}; on a host it is {(wanted.frames, wanted.bytes, wanted.disk)}.",
                    _accesses(trace, part, due),
                )
    return right(f"{sum(len(trace.accesses) for trace in traces)} accesses, each as a host pays for it.")


def _accesses(trace: Trace, part: Sequence[tuple[Page, bool]], due: Sequence[Bill]) -> tuple[str, ...]:
    """The last access, all before it to the same page or frame, and the bill."""
    last, _ = part[-1]
    frame = trace.frames.get(last)
    rows = [("access", "page", "state at first", "frames", "bytes", "disk")]
    for at, (page, write) in enumerate(part):
        if page == last or (frame is not None and trace.frames.get(page) == frame):
            bill, word = due[at], f"{'store to' if write else 'read of'} {page[0]}"
            others = sum(1 for each in trace.frames.values() if each == frame) - 1
            shared = f" with {others} more" if page in trace.frames else ""
            state = trace.states[page] + shared
            rows.append((word, f"{page[1]:05x}", state, str(bill.frames), str(bill.bytes), str(bill.disk)))
    return columns([(trace.what,), *rows])
