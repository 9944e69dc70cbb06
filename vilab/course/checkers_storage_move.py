"""Exercise 20a: the bytes that each method copies, round by round. The judge: real moves of a machine's disk.

::

    squares, writes ──> bytes of each round        StorageVmotion, with these writes at these moments

A write's moment counts in squares of its round, so that the answer does not depend on anybody's speed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeGuard

import msgspec

from vilab.course.exercise_student import call, name_of
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.storage_move_machine import METHODS, MOST_ROUNDS, NEW, OPTIONS, SECTOR, SQUARE, disk_of, machine
from vilab.errors import AdminError
from vilab.events import Event
from vilab.migration.storage_vmotion import MethodName, StorageVmotion
from vilab.migration.storage_vmotion_events import StorageRoundBegan


class Write(msgspec.Struct, frozen=True):
    """In round ``round``, when ``after`` squares of that round have been copied (or all of them, if it has fewer)."""

    round: int
    after: int
    sector: int
    sectors: int


class Workload(msgspec.Struct, frozen=True):
    """A disk of so many squares of 64 KB, all of them in use, and what the guest writes."""

    what: str
    squares: int
    writes: tuple[Write, ...]


@cache
def workload(seed: int) -> Workload:
    """One of three kinds of guests."""
    rng = random.Random(seed)
    squares, kind = rng.randrange(12, 25), ("one place", "a log", "anywhere")[seed % 3]
    sectors, writes, at = squares * SQUARE // SECTOR, list[Write](), rng.randrange(squares * 64)
    hot = rng.randrange(sectors - 400)
    for number in range(1, MOST_ROUNDS + 2):
        for _ in range(max(2, 14 - 3 * number) if kind != "a log" else 4):
            after = rng.randrange(0 if number == 1 else 1, squares + 1)
            count = rng.randrange(1, 33) if kind != "a log" else rng.randrange(64, 200)
            first = rng.randrange(sectors - count)
            if kind == "one place":
                first = hot + rng.randrange(300)
            elif kind == "a log":
                first, at = at % (sectors - count), at + count
            writes.append(Write(number, after, first, count))
    return Workload(f"a guest that writes {'to ' if kind == 'one place' else ''}{kind}", squares, tuple(writes))


@cache
def copied(seed: int, method: MethodName) -> tuple[int, ...]:
    """Bytes of each round of a real move, the last one while the guest stands still."""
    given, rounds, todo = workload(seed), dict[int, int](), {1: 0}
    with machine(given.squares * SQUARE) as (_, host, vm):
        disk, pending, rng = disk_of(vm), list(given.writes), random.Random(seed)
        host.log.listen(lambda event: todo.update({event.number: event.todo_bytes}) if _begins(event) else None)
        todo[1] = given.squares * SQUARE
        move = StorageVmotion(host, vm, NEW, method, OPTIONS)
        copier = move.copier
        while vm.merge is not None:
            number, done = max(1, copier.number), copier.round_bytes
            for each in [each for each in pending if each.round == number]:
                if method == "snapshot" or each.after * SQUARE <= done or done == todo[number]:
                    disk.write(each.sector * SECTOR, rng.randbytes(each.sectors * SECTOR))
                    pending.remove(each)
            vm.merge_step()
            rounds[copier.number] = copier.round_bytes
        if move.state != "moved":
            raise AdminError(move.why)
    return tuple(size for _, size in sorted(rounds.items()))


def _begins(event: Event) -> TypeGuard[StorageRoundBegan]:
    return isinstance(event, StorageRoundBegan)


Rounds = Callable[[int, Sequence[Write]], object]


def check_rounds(changed: Rounds, snapshot: Rounds, seeds: Sequence[int] = (1, 2, 3)) -> Feedback:
    """``changed(squares, writes)``, ``snapshot(squares, writes)``: bytes of each round, the last one's at the end."""
    for seed in seeds:
        for function, method in ((changed, METHODS[0]), (snapshot, METHODS[1])):
            given, due = workload(seed), copied(seed, method)
            words = f"{name_of(function)}({given.squares}, writes) for {given.what}"
            found = call(function, given.squares, given.writes, said=words)
            if not isinstance(found, list | tuple) or list(found) != list(due):
                raise WrongAnswer(f"{words} is not what a real move has copied.", _beside(found, due))
    return right(f"{2 * len(seeds)} moves, each round to the byte.")


def _beside(found: object, due: Sequence[int]) -> tuple[str, ...]:
    yours = [str(each) for each in found] if isinstance(found, list | tuple) else [f"{found!r:.40}"]
    rows = [("round", "yours", "the move")]
    for at in range(max(len(yours), len(due))):
        theirs = f"{due[at]:,}" if at < len(due) else "-"
        rows.append((str(at + 1), yours[at] if at < len(yours) else "-", theirs))
    return columns(rows)
