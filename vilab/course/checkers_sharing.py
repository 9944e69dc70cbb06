"""Exercises of lesson 09: the search for equal pages, and what makes two clones differ. The judges: the host's own
search on the same pages in the same order, and the tables of the running clones.

::

    9a   candidate after candidate ──> hint, shared, different, nothing     PageSharing, with its log of hints
    9b   two clones ──> ppn to tables, program, other                       every address of both, walked
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, MutableMapping, Sequence
from functools import cache, partial
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from vilab.addresses import PAGE_BYTES
from vilab.course import memory_runs as runs
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.events import EventLog
from vilab.host.hosted_vm import HostedVm
from vilab.machine.memory import MachineMemory
from vilab.memory.client import MemoryConfig
from vilab.memory.manager import MemoryManager
from vilab.memory.memory_events import FalseMatch, HintStored, PageShared
from vilab.memory.page_state import PageState
from vilab.memory.sharing import PageSharing
from vilab.vmm import translation_path as tp
from vilab.x86 import paging as pg

HINT, SHARED, DIFFERENT, NOTHING = "hint", "shared", "different", "nothing"
TABLES, PROGRAM, OTHER = "tables", "program", "other"

Page = tuple[int, int]
"""(VM id, ppn)"""
Read = Callable[[int, int], bytes]
HashPage = Callable[[bytes], int]
Consider = Callable[[MutableMapping[object, object], int, int, Read, HashPage], object]

# 9a --------------------------------------------------------------------------------------------------------------


_ALL_BITS, _SPREAD = (1 << 64) - 1, 0x9E37_79B9_7F4A_7C15
"""An odd number: different hashes stay different."""


class Search(msgspec.Struct, frozen=True):
    """Pages, and what happens: a candidate, or a page that gets new content before the next one.

    ``hash_bits``: how much of the hash is used; few bits give pages that only seem to be equal.
    """

    what: str
    pages: dict[Page, bytes]
    happens: tuple[Page | tuple[Page, bytes], ...]
    hash_bits: int = 64

    def hash_page(self, content: bytes | memoryview) -> int:
        """Few bits are spread over all 64: the host's table looks at the upper ones first."""
        return (xxhash.xxh3_64_intdigest(content) & (1 << self.hash_bits) - 1) * _SPREAD & _ALL_BITS


def _page(text: str) -> bytes:
    return text.encode().ljust(PAGE_BYTES, b"\0")


A, B = _page("a"), _page("b")
FIRST_SEARCHES = (
    Search("two equal pages", {(1, 0): A, (2, 7): A, (1, 3): B}, ((1, 0), (1, 3), (2, 7))),
    Search("the same page twice", {(1, 0): A, (2, 7): B}, ((1, 0), (1, 0), (2, 7), (2, 7))),
    Search("a third one joins", {(1, 0): A, (2, 7): A, (2, 8): A}, ((1, 0), (2, 7), (2, 8))),
    Search("a hint that is written to", {(1, 0): A, (2, 7): A, (2, 8): A}, ((1, 0), ((1, 0), B), (2, 7), (2, 8))),
)


@cache
def guest_pages(count: int = 60) -> tuple[bytes, ...]:
    """Pages of a booted guest."""
    host = runs.new_host(32)
    pmap = runs.power_on(host, "vm1", 16).client.pmap
    host.run_for(runs.HALF_SECOND_NS)
    pages = tuple(pmap.page(ppn) for ppn in range(pmap.pages) if pmap.state_of(ppn) is PageState.PRIVATE)
    host.close()
    return pages[:count]


def other_searches(seed: int = 9, count: int = 6) -> tuple[Search, ...]:
    """Two guests with pages of a real one, at other addresses, some written to on the way; some with a poor hash."""
    rng = random.Random(seed)
    contents, made = guest_pages(), []
    for number in range(count):
        pages = {(vm, at * 3 + vm): rng.choice(contents[:24]) for vm in (1, 2) for at in range(30)}
        happens: list[Page | tuple[Page, bytes]] = []
        for step in range(120):
            page = rng.choice(list(pages))
            happens.append(page if rng.random() < 0.8 else (page, rng.choice((*contents[:24], _page(f"new {step}")))))
        made.append(Search(f"a guest's pages, {number}", pages, tuple(happens), 64 if number % 2 else 6))
    return tuple(made)


class Outcome(msgspec.Struct, frozen=True):
    """``index`` of what happened in ``happens``; the host's word for it."""

    index: int
    word: str


def outcomes(search: Search) -> tuple[list[Outcome], set[int]]:
    """By the host's own search. The second: stores that were left out, as their page was shared by then."""
    with tempfile.TemporaryDirectory(prefix="vilab-") as directory:
        log = EventLog(keep=True)
        manager = MemoryManager(MachineMemory(8 << 20), Path(directory))
        manager.sharing = PageSharing(
            manager.frames, manager.pmaps, lambda pmap, ppn: manager.take_frame(pmap, ppn, zeroed=False), log,
            lambda: 0, search.hash_page, log_hints=True,
        )  # fmt: skip
        clients = {vm: manager.admit(f"vm{vm}", MemoryConfig(1), PAGE_BYTES) for vm in (1, 2)}
        for (vm, ppn), content in search.pages.items():
            clients[vm].pmap.write(ppn << 12, content)
        found: list[Outcome] = []
        left_out: set[int] = set()
        for index, what in enumerate(search.happens):
            (vm, ppn), new = _split(what)
            shared = clients[vm].pmap.state_of(ppn) is PageState.SHARED
            if shared:
                left_out.add(index)
            elif new is not None:
                clients[vm].pmap.write(ppn << 12, new)
            else:
                before = len(log.events)
                manager.sharing.scan(np.array([vm]), np.array([ppn]))
                found.append(Outcome(index, _word(log.events[before:])))
        for client in clients.values():
            client.swap.close()
        return found, left_out


def _split(what: Page | tuple[Page, bytes]) -> tuple[Page, bytes | None]:
    first, second = what
    return ((first, second), None) if isinstance(first, int) and isinstance(second, int) else what  # type: ignore[return-value]


def _word(events: Sequence[object]) -> str:
    for kind, word in ((PageShared, SHARED), (FalseMatch, DIFFERENT), (HintStored, HINT)):
        if any(isinstance(event, kind) for event in events):
            return word
    return NOTHING


def check_consider(consider: Consider, searches: Sequence[Search] = FIRST_SEARCHES) -> Feedback:
    """``consider(table, vm, ppn, page, page_hash)``: one of ``HINT``, ``SHARED``, ``DIFFERENT``, ``NOTHING``."""
    return right(f"{sum(map(partial(_searched, consider), searches))} pages, each as the host's own search takes it.")


def _searched(consider: Consider, search: Search) -> int:
    """How many candidates there were. Raises ``WrongAnswer``."""
    due, left_out = outcomes(search)
    words = {outcome.index: outcome.word for outcome in due}
    content, table = dict(search.pages), dict[object, object]()
    said: list[str] = []

    def page(vm: int, ppn: int) -> bytes:
        return content[vm, ppn]

    def page_hash(data: bytes) -> int:
        return search.hash_page(data)

    for index, what in enumerate(search.happens):
        (vm, ppn), new = _split(what)
        if index in left_out:
            continue
        if new is not None:
            content[vm, ppn] = new
            said.append(f"store to vm {vm} page {ppn:x}")
            continue
        sentence = f"consider(table, {vm}, {ppn}, page, page_hash)"
        answer = call(consider, table, vm, ppn, page, page_hash, said=sentence)
        said.append(f"vm {vm} page {ppn:x}: {words[index]}, yours {answer!r}")
        if answer != words[index]:
            raise WrongAnswer(
                f"{sentence} gave {answer!r}; the host says {words[index]!r} ({_why(words[index])}).",
                (search.what, *said[-6:]),
            )
    return len(due)


def _why(word: str) -> str:
    return {
        HINT: "nobody has this content now, so it is noted",
        SHARED: "the bytes are equal, and one frame is enough",
        DIFFERENT: "the hash is the same, the bytes are not",
        NOTHING: "the page met its own hint",
    }[word]


# 9b --------------------------------------------------------------------------------------------------------------


class Clone:
    """A guest that stands still, to be looked at. ``cr3``: of the program that it is in."""

    def __init__(self, hosted: HostedVm) -> None:
        pmap = hosted.client.pmap
        self.pages, self.cr3 = pmap.pages, hosted.vm.engine.vcpu.cr3
        self._contents = {ppn: pmap.page(ppn) for ppn in range(pmap.pages) if pmap.state_of(ppn) != PageState.UNTOUCHED}

    def page(self, ppn: int) -> bytes:
        """The 4096 bytes of a page."""
        return self._contents.get(ppn, bytes(PAGE_BYTES))

    def read(self, gpa: int) -> int:
        """The 32-bit word at a guest physical address."""
        page = self.page(gpa >> 12)
        return int.from_bytes(page[gpa & 0xFFC : (gpa & 0xFFC) + 4], "little")


WhyDifferent = Callable[[Clone, Clone], object]

PAIRS = {
    "seeds": ("checksum 60 0 16 0 1", "checksum 60 0 16 0 2", "the same program with another seed"),
    "sizes": ("checksum 40 0 16 0 1", "checksum 90 0 16 0 1", "a program with less and with more memory"),
    "programs": ("checksum 60 0 16 0 7", "zeros 700 0 0", "two programs"),
}


@cache
def pair(name: str) -> tuple[Clone, Clone, dict[int, str]]:
    """Two clones in the middle of a program each, and why their pages differ."""
    host = runs.new_host(64)
    first = runs.power_on(host, "vm1", 16)
    runs.run_until_said(host, "vm1", "shell>")
    second = host.resume(first.snapshot(), "vm2")
    for vm, line in zip((first, second), PAIRS[name][:2], strict=True):
        vm.console.type(line)
    host.run_for(runs.HALF_SECOND_NS // 5)
    clones = []
    for vm in (first, second):
        runs.in_program(vm.vm, lambda: host.run_for(runs.MILLISECOND_NS), partial(_has_memory, vm))
        clones.append((Clone(vm), _roles(vm)))
    (one, roles), (other, more) = clones
    host.close()
    found = {}
    for ppn in range(one.pages):
        if one.page(ppn) != other.page(ppn):
            both = {roles.get(ppn, OTHER), more.get(ppn, OTHER)}
            found[ppn] = next(role for role in (TABLES, PROGRAM, OTHER) if role in both)
    return one, other, found


def _has_memory(vm: HostedVm) -> bool:
    return len(runs.mapped(vm.vm)) > 6


def _roles(vm: HostedVm) -> dict[int, str]:
    """What pages are to the program that the guest is in: by walking every address of it."""
    roles = {}
    for gva in runs.mapped(vm.vm):
        found = tp.path(vm.vm, gva)
        if found.gpa is not None and found.guest.user:
            roles[found.gpa >> 12] = PROGRAM
    for index in range(0xC0000000 >> 22):
        entry = vm.vm.pmap.read_u32((vm.vm.engine.vcpu.cr3 & pg.FRAME_MASK) + 4 * index)
        if entry & pg.PRESENT and not entry & pg.LARGE:
            roles[entry >> 12] = TABLES
    roles[vm.vm.engine.vcpu.cr3 >> 12] = TABLES
    return roles


def check_why_different(why_different: WhyDifferent, pairs: Sequence[str] = ("seeds",)) -> Feedback:
    """``why_different(one, other)``: ppn to ``TABLES``, ``PROGRAM`` or ``OTHER``, for the pages that differ."""
    count = 0
    for name in pairs:
        one, other, due = pair(name)
        answer = call(why_different, one, other, said="why_different(one, other)", steps=4_000_000)
        if not isinstance(answer, dict):
            raise WrongAnswer(f"why_different(one, other) gave {answer!r}; a dict from ppn to a word is wanted.")
        for ppn in sorted({*due, *answer}, key=repr):
            if answer.get(ppn) != due.get(ppn):
                raise WrongAnswer(_difference(ppn, answer, due), _look(ppn, one, other, name))
        count += len(due)
    return right(f"{count} pages that differ, each with what it is.")


def _difference(ppn: object, answer: dict[object, object], due: dict[int, str]) -> str:
    if ppn not in due:
        return (
            f"Page {ppn!r} is in your answer ({answer[ppn]!r}), but it is the same in both."
            if isinstance(ppn, int)
            else (f"{ppn!r} is in your answer; page numbers are wanted.")
        )
    assert isinstance(ppn, int)
    if ppn not in answer:
        return f"Page {ppn:05x} differs ({due[ppn]}), and is not in your answer."
    return f"Page {ppn:05x} is {due[ppn]!r}; you say {answer[ppn]!r}."


def _look(ppn: object, one: Clone, other: Clone, name: str) -> tuple[str, ...]:
    if not isinstance(ppn, int) or not 0 <= ppn < one.pages:
        return (PAIRS[name][2],)
    first, second = one.page(ppn), other.page(ppn)
    at = next((at for at in range(0, PAGE_BYTES, 4) if first[at : at + 4] != second[at : at + 4]), 0)
    words = [f"{int.from_bytes(page[at : at + 4], 'little'):08x}" for page in (first, second)]
    directories = f"{one.cr3 >> 12:05x} and {other.cr3 >> 12:05x}"
    return columns([("clones", PAIRS[name][2]), ("first difference", f"byte {at:03x}: {words[0]} and {words[1]}"),
                    ("directories", directories)])  # fmt: skip
