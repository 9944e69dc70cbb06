"""Exercise 19b: who writes too much, and what is left to send once it is stunned. The judge: what watches the write
faults of a machine that moves.

::

    stun(rounds, most) ──> ({CR3: the round in which it was stunned}, [pages dirty at the end of each round])

    a write       CR3, ring, page             only the first one of a round to a page faults
    its process   more than ``most`` faults in a round from ring 3: stunned; that write still happens, no later one of
                  its ring 3 does. The kernel is never stunned, whoever's CR3 it runs on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.host.hosted_vm import HostedVm
from vilab.migration.writers import WriterWatch

SHOWN = 8


class Write(NamedTuple):
    """A store of the guest: in whose address space, in which ring, to which page."""

    cr3: int
    ring: int
    page: int


Rounds = Sequence[Sequence[Write]]
Stun = Callable[[Rounds, int], object]


class Verdict(NamedTuple):
    """``stunned``: CR3 and round, from 1. ``left``: pages dirty at the end of each round. ``faults``: of each round, by
    CR3, from ring 3."""

    stunned: dict[int, int]
    left: list[int]
    faults: list[dict[int, int]]


def judge(rounds: Rounds, most: int) -> Verdict:
    """``WriterWatch`` over the same writes. What it needs of a machine: who has the processor, and that it can wait."""
    vcpu = SimpleNamespace(cpl=0, cr3=0)
    engine = SimpleNamespace(vcpu=vcpu, owe_ns=lambda _ns: None, now_ns=lambda: 0)
    hosted = SimpleNamespace(vm=SimpleNamespace(engine=engine))
    stunned: dict[int, int] = {}
    left: list[int] = []
    faults: list[dict[int, int]] = []

    def heard(cr3: int, _faults: int) -> None:
        stunned[cr3] = len(left) + 1

    watch = WriterWatch(cast(HostedVm, hosted), heard, most)
    for writes in rounds:
        watch.new_round()
        dirty: set[int] = set()
        for write in writes:
            vcpu.cpl, vcpu.cr3 = write.ring, write.cr3
            if (write.ring == 3 and write.cr3 in stunned) or write.page in dirty:
                continue
            watch.traced(write.page)
            dirty.add(write.page)
        left.append(len(dirty))
        faults.append(dict(watch.faults))
    return Verdict(stunned, left, faults)


class _Process(NamedTuple):
    cr3: int
    first: int
    pages: int
    sweeps: bool


def case(seed: int, rounds: int = 4, writes: int = 600) -> tuple[list[list[Write]], int]:
    """A machine made by chance: some processes, one or two of them rogues, and a kernel that runs on all their CR3s."""
    lot = random.Random(seed)
    most = lot.choice((12, 20, 40))
    spaces = lot.sample(range(0x100, 0x4000), lot.randrange(3, 6))
    rogues = lot.randrange(1, 3)
    processes = []
    for at, space in enumerate(spaces):
        pages = lot.randrange(3 * most, 8 * most) if at < rogues else lot.randrange(2, most)
        # Neighbours overlap a little: memory that is shared.
        processes.append(_Process(space << 12, 100 + at * 6 * most, pages, at < rogues))
    made, places = [], dict.fromkeys(spaces, 0)
    for number in range(rounds):
        new: list[Write] = []
        while len(new) < writes:
            process = lot.choice(processes)
            if process.sweeps and number == 0 and process is processes[rogues - 1] and lot.random() < 0.9:
                continue  # the last rogue begins late
            for _ in range(lot.randrange(1, 9)):
                at = places[process.cr3 >> 12] % process.pages if process.sweeps else lot.randrange(process.pages)
                places[process.cr3 >> 12] += 1
                if lot.random() < 0.12:
                    new.append(Write(process.cr3, 0, lot.randrange(60)))
                new.append(Write(process.cr3, 3, process.first + at))
        made.append(new)
    return made, most


FIRST_SEEDS, OTHER_SEEDS = range(1, 7), range(20, 50)


def check_stun(stun: Stun, seeds: Sequence[int] = FIRST_SEEDS) -> Feedback:
    """Each machine twice: as it is, and with nobody stunned."""
    for seed in seeds:
        rounds, most = case(seed)
        _compare(stun, rounds, most, seed)
        _compare(stun, rounds, 100_000, seed)
    rounds, most = case(seeds[0])
    found, free = judge(rounds, most), judge(rounds, 100_000)
    return right(
        f"{len(seeds)} machines. The first one's last round leaves {found.left[-1]} pages instead of {free.left[-1]}."
    )


def _compare(stun: Stun, rounds: Rounds, most: int, seed: int) -> None:
    words = f"stun(rounds, {most}) of machine {seed}"
    given = call(stun, [list(each) for each in rounds], most, said=words)
    due = judge(rounds, most)
    if not isinstance(given, tuple | list) or len(given) != 2 or not isinstance(given[0], Mapping):
        raise WrongAnswer(f"{words} gave {given!r:.60}; a dict and a list are wanted: CR3 to round, pages left.")
    stunned: dict[Any, Any] = dict(given[0])
    for cr3 in sorted({*stunned, *due.stunned}, key=str):
        if stunned.get(cr3) != due.stunned.get(cr3):
            raise WrongAnswer(
                f"{words}: the process with CR3 {_cr3(cr3)} {_when(stunned.get(cr3))}, you say; it "
                f"{_when(due.stunned.get(cr3))}.", _shown(due, most),
            )  # fmt: skip
    left = list(given[1]) if isinstance(given[1], tuple | list) else given[1]
    if left != due.left:
        raise WrongAnswer(f"{words}: pages left are {due.left}, not {left!r:.60}.", _shown(due, most))


def _cr3(value: object) -> str:
    return f"{value:08x}" if isinstance(value, int) else repr(value)


def _when(number: object) -> str:
    return "is never stunned" if number is None else f"is stunned in round {number}"


def _shown(due: Verdict, most: int) -> tuple[str, ...]:
    """Write faults from ring 3, by process and round."""
    spaces = sorted({cr3 for each in due.faults for cr3 in each})[:SHOWN]
    head = ("CR3", *(f"round {n}" for n in range(1, len(due.faults) + 1)), "")
    rows = [head]
    for cr3 in spaces:
        faults = (str(each.get(cr3, 0)) for each in due.faults)
        end = f"more than {most}: {_when(due.stunned[cr3])}" if cr3 in due.stunned else ""
        rows.append((f"{cr3:08x}", *faults, end))
    return columns(rows)
