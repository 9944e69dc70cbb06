"""Exercise of lesson 03: when a store traps, when it is a callout, when it runs. The judge is the translator's log.

::

    hits       does the store hit a traced page?     1 1 1 0 1 1 ...
    the log    of a guest that stores like that      trap trap trap plain trap trap ...

The guest is a loop with one store. A rotating word of 32 bits decides in each round where it goes: to the kernel's page
table or to a page that nobody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from vilab.course.adaptation_figures import ELSEWHERE, ENTRY
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.runs import run_typed
from vilab.events import CalloutTaken, TraceFault
from vilab.vmm.records import StepRecord

Pattern = tuple[tuple[int, int], ...]
"""(word, rounds): in round ``n`` the n-th bit from the top of the rotating word decides; 1 is a hit."""

EVERY = 0xFFFF_FFFF
FIRST_PATTERNS: tuple[Pattern, ...] = (((EVERY, 12),), ((0xAAAA_AAAA, 24),))
OTHER_PATTERNS: tuple[Pattern, ...] = (
    ((0x0010_0400, 200),), ((EVERY, 9), (0, 511), (EVERY, 1), (0, 20)),
    ((EVERY, 8), (0, 512), (EVERY, 10)), ((EVERY, 7), (0, 530), (EVERY, 4)),
)  # fmt: skip
LOOP_STEPS = 8
SHOWN = 12

Adapt = Callable[[Sequence[bool]], Sequence[str]]


def _text(pattern: Pattern) -> str:
    parts = [f"mov esi, {word:#x}\nmov ecx, {rounds}\ncall round" for word, rounds in pattern]
    loop = (
        "round: rol esi, 1\nsbb ebx, ebx\n"
        f"and ebx, {(ENTRY - ELSEWHERE) & 0xFFFFFFFF:#x}\nadd ebx, {ELSEWHERE:#x}\n"
        "mov eax, [ebx]\nstore: mov [ebx], eax\ndec ecx\njnz round\nret\nend:"
    )
    return "\n".join([*parts, "jmp end", loop])


def hits_of(pattern: Pattern) -> list[bool]:
    """Store after store: does it hit the traced page?"""
    return [bool(word << (n % 32) & 0x8000_0000) for word, rounds in pattern for n in range(rounds)]


@cache
def _recorded(pattern: Pattern) -> tuple[tuple[str, StepRecord], ...]:
    rounds = sum(each for _, each in pattern)
    run = run_typed(_text(pattern), "bt", LOOP_STEPS * rounds + 40)
    run.seek(run.total)
    stores = [r for r in run.records if r.mnemonic == "mov" and r.operands.replace(" ", "").endswith("[ebx],eax")]
    return tuple((_what(record), record) for record in stores)


def _what(record: StepRecord) -> str:
    for event in record.events:
        if isinstance(event, TraceFault):
            return "trap"
        if isinstance(event, CalloutTaken) and event.reason == "simulate":
            return "callout"
    return "plain"


def check_adapt(adapt: Adapt, patterns: Sequence[Pattern] = FIRST_PATTERNS) -> Feedback:
    """``adapt(hits)``: of each store of one instruction, in order: ``trap``, ``callout`` or ``plain``.

    Raises ``WrongAnswer`` at the first that the translator's log says otherwise.
    """
    count = 0
    for pattern in patterns:
        hits, recorded = hits_of(pattern), _recorded(pattern)
        words = f"adapt({len(hits)} stores, {sum(hits)} of them hits)"
        said = call(adapt, list(hits), said=words)
        if not isinstance(said, list | tuple) or len(said) != len(hits):
            raise WrongAnswer(f"{words} returned {str(said)[:60]}; a list of {len(hits)} words is wanted.")
        for at, (answer, (due, _)) in enumerate(zip(said, recorded, strict=True)):
            if answer != due:
                rows = [("store", "step", "hits", "yours", "the log")]
                rows += [
                    (str(n), str(recorded[n][1].index), "yes" if hits[n] else "no", str(said[n]), recorded[n][0])
                    for n in range(max(0, at + 1 - SHOWN), at + 1)
                ]
                raise WrongAnswer(f"{words}: store {at} is a {due}, yours is {answer!r}.", columns(rows))
        count += len(hits)
    return right(f"{count} stores, each as the translator's log has it.")
