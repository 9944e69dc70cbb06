"""Exercise 19a: the gentlest limits that keep two promises. The judge: Clark's rule on a trace, page by page.

::

    choose(attempt, total_s, downtime_ms) ──> (least, most) in Mbit/s, or None: no limits can do it
              │
              └─ attempt(least, most) ──> total_s, downtime_ms, rounds: the machine of the trace, moved

    least    as small as can be: most of the time somebody else uses the network, too        one step of 50 more passes
    most     then as small as can be, too                                                     one step of 50 more passes
    attempts at most 24, of 210
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from vilab.course.converge_paper import LINK_MBIT, MS, RESUME_MS, SECOND, AtPaperSize
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.migration.dirty_traces import workload
from vilab.migration.precopy_model import Setting, migrate
from vilab.migration.rate_control import MBIT, RateLimits
from vilab.migration.termination import ClarkPolicy

STEP_MBIT, MOST_ATTEMPTS = 50, 24
GRID = range(STEP_MBIT, LINK_MBIT + 1, STEP_MBIT)


class Attempt(msgspec.Struct, frozen=True):
    """What a move with these limits comes to."""

    total_s: float
    downtime_ms: float
    rounds: int


class Case(msgspec.Struct, frozen=True):
    """A machine, and what was promised to its owner."""

    machine: str
    total_s: float
    downtime_ms: float
    seed: int = 1

    @property
    def promise(self) -> str:
        return f"{self.machine} in at most {self.total_s:g} s, stopped for at most {self.downtime_ms:g} ms"

    def kept(self, found: Attempt) -> bool:
        return found.total_s <= self.total_s and found.downtime_ms <= self.downtime_ms


FIRST_CASES = (
    Case("quake", 4, 55), Case("specweb", 40, 600), Case("kernel-compile", 60, 400), Case("constant-writer", 60, 900),
)  # fmt: skip
OTHER_CASES = (
    Case("static-web", 25, 250), Case("specweb", 80, 1500, seed=2), Case("quake", 13, 60, seed=3),
    Case("kernel-compile", 15, 250, seed=2), Case("constant-writer", 30, 5000), Case("specweb", 5, 600),
)  # fmt: skip

Choose = Callable[[Callable[[int, int], Attempt], float, float], object]


@cache
def attempt(machine: str, seed: int, least: int, most: int) -> Attempt:
    """The move of the trace, at the paper's size, over Gigabit Ethernet."""
    trace = workload(machine, seed)
    rule = AtPaperSize(ClarkPolicy(RateLimits(least * MBIT, most * MBIT)), trace.divisor)
    setting = Setting(trace.scaled(LINK_MBIT * MBIT), resume_ns=RESUME_MS.get(machine, 0) * MS)
    outcome = migrate(rule, trace, setting)
    return Attempt(outcome.total_ns / SECOND, outcome.downtime_ns / MS, len(outcome.rounds))


def least_possible(case: Case) -> int | None:
    """The smallest least limit with which both promises can be kept, if most is as much as the link carries."""
    return next((n for n in GRID if case.kept(attempt(case.machine, case.seed, n, LINK_MBIT))), None)


def most_possible(case: Case, least: int) -> int | None:
    """Then the smallest most."""
    return next((n for n in GRID if n >= least and case.kept(attempt(case.machine, case.seed, least, n))), None)


class Attempts:
    """What the student calls; counted."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.made: list[tuple[int, int, Attempt]] = []

    def __call__(self, least: int, most: int) -> Attempt:
        tracing = sys.gettrace()
        sys.settrace(None)  # the student's budget is of the student's lines
        try:
            _limits((least, most), f"attempt({least!r}, {most!r})")
            if len(self.made) == MOST_ATTEMPTS:
                raise WrongAnswer(
                    f"{self.case.promise}: that was attempt {MOST_ATTEMPTS + 1}; {MOST_ATTEMPTS} have to do. Halve "
                    "what is left, and look for one limit at a time.",
                    self.shown(),
                )
            found = attempt(self.case.machine, self.case.seed, least, most)
            self.made.append((least, most, found))
            return found
        finally:
            sys.settrace(tracing)

    def shown(self) -> tuple[str, ...]:
        return _shown(self.made)


def check_choose(choose: Choose, cases: Sequence[Case] = FIRST_CASES) -> Feedback:
    """Each case with a choice of its own."""
    used = [_check(choose, case) for case in cases]
    return right(f"{len(cases)} promises kept as gently as can be, with at most {max(used)} attempts each.")


def _check(choose: Choose, case: Case) -> int:
    attempts = Attempts(case)
    words = f"choose(attempt, {case.total_s:g}, {case.downtime_ms:g}) for {case.machine}"
    answer = call(choose, attempts, case.total_s, case.downtime_ms, said=words)
    gentlest = least_possible(case)
    if answer is None:
        if gentlest is not None:
            found = attempt(case.machine, case.seed, gentlest, LINK_MBIT)
            raise WrongAnswer(f"{words} gave None, but it can be done.", _shown([(gentlest, LINK_MBIT, found)]))
        return len(attempts.made)
    least, most = _limits(answer, words)
    found = attempt(case.machine, case.seed, least, most)
    row = [(least, most, found)]
    if not case.kept(found):
        never = " No limits can do it: the answer is None." if gentlest is None else ""
        raise WrongAnswer(
            f"{words} gave ({least}, {most}): that takes {found.total_s:.1f} s and stops the machine for "
            f"{found.downtime_ms:.0f} ms.{never}", _shown(row),
        )  # fmt: skip
    if gentlest is not None and least > gentlest + STEP_MBIT:
        row.append((gentlest, LINK_MBIT, attempt(case.machine, case.seed, gentlest, LINK_MBIT)))
        raise WrongAnswer(
            f"{words} gave ({least}, {most}): both promises can be kept with a smaller least limit.", _shown(row)
        )
    smallest = most_possible(case, least)
    if smallest is not None and most > smallest + STEP_MBIT:
        row.append((least, smallest, attempt(case.machine, case.seed, least, smallest)))
        raise WrongAnswer(f"{words} gave ({least}, {most}): with {least} a smaller most limit is enough.", _shown(row))
    return len(attempts.made)


def _limits(answer: object, words: str) -> tuple[int, int]:
    """``WrongAnswer`` for what are no limits."""
    wanted = f"two whole multiples of {STEP_MBIT} are wanted, least and most, from {STEP_MBIT} to {LINK_MBIT}"
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswer(f"{words}: {wanted}, not {answer!r:.40}.")
    least, most = answer
    if not all(isinstance(n, int) and not isinstance(n, bool) and n in GRID for n in (least, most)):
        raise WrongAnswer(f"{words}: {wanted}, not {answer!r:.40}.")
    if least > most:
        raise WrongAnswer(f"{words}: the least limit, {least}, is above the most, {most}.")
    return least, most


def _shown(made: Sequence[tuple[int, int, Attempt]]) -> tuple[str, ...]:
    rows = [("least", "most", "in all", "stopped", "rounds")]
    rows += [
        (str(low), str(high), f"{found.total_s:.1f} s", f"{found.downtime_ms:.0f} ms", str(found.rounds))
        for low, high, found in made
    ]
    return columns(rows)
