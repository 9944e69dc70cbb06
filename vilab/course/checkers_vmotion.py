"""Exercises 18a and 18b: predict a migration, and end one better than the default rule does.

::

    predict(pages, written, bytes_per_s) ──> (rounds, downtime_ns)     judge: the model, page by page, and a real guest
    class Mine: first(pages), next(rounds) ──> NextRound() or Stop()   judge: six workloads, beside the default rule

MODEL: in 18a nothing is left out of a round, as ``peek=False`` has it: a round sends all that is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np

from vilab.course.exercise_student import call, whole_number
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.vmotion_rules import SHOWN
from vilab.course.vmotion_runs import Demonstration
from vilab.errors import AdminError
from vilab.migration.dirty_traces import SECOND_NS, workload
from vilab.migration.migration_events import RoundBegan, RoundSent
from vilab.migration.precopy_model import Outcome, Setting, migrate
from vilab.migration.rate_control import MBIT
from vilab.migration.termination import FixedRounds, NelsonPolicy, NextRound, PreCopyPolicy, Stop
from vilab.migration.working_set import Growth, growth, growth_of_rounds

MS = 1_000_000
Predict = Callable[[int, "Curve", int], object]


# --- 18a -------------------------------------------------------------------------------------------------------------


class Curve(msgspec.Struct, frozen=True):
    """How many different pages a guest has written within so many ns, from any moment on. Called with ns."""

    measured: Growth

    def __call__(self, ns: float) -> int:
        return round(float(np.interp(ns, self.measured.after_ns, self.measured.pages)))

    def describe(self, after_ms: Sequence[int] = (10, 30, 100, 300, 1000, 3000)) -> str:
        rows = [("within", "different pages"), *((f"{ms} ms", str(self(ms * MS))) for ms in after_ms)]
        return "\n".join(columns(rows))


class Case(msgspec.Struct, frozen=True):
    """A workload over a link of a machine of the paper's size; ``guest``: a real one is moved, over that link."""

    name: str
    mbit: int
    seed: int = 1


GUEST = "guest"
FIRST_CASES = (Case("quake", 100), Case("specweb", 500), Case("kernel-compile", 100), Case("constant-writer", 300))
OTHER_CASES = (
    Case("specweb", 100), Case("specweb", 200), Case("kernel-compile", 200), Case("static-web", 500),
    Case("specweb", 700), Case(GUEST, 100),
)  # fmt: skip
MEASURED_MBIT = 40
NEAR, NEAR_NS = 0.1, 3 * MS
"""So far from the truth a predicted downtime may be: the one or the other."""


class Judged(msgspec.Struct, frozen=True):
    """What a student is given, and what has come to pass."""

    pages: int
    curve: Curve
    bytes_per_s: int
    rounds: tuple[RoundSent, ...]
    downtime_ns: int


@cache
def judged(case: Case) -> Judged:
    """Moved once. The curve was measured in another part of the trace than the migration is in."""
    if case.name == GUEST:
        return _guest(case.mbit)
    trace = workload(case.name, case.seed)
    rate = trace.scaled(case.mbit * MBIT)
    outcome = migrate(NelsonPolicy(), trace, Setting(rate, peek=False, seed=case.seed))
    longest_ns = max(each.duration_ns for each in outcome.rounds) + SECOND_NS
    curve = growth(trace, min(longest_ns, 2 * trace.duration_ns), trace.duration_ns // 3, 5 * MS)
    return Judged(trace.pages, Curve(curve), rate, outcome.rounds, outcome.downtime_ns)


def _guest(mbit: int) -> Judged:
    """A guest goes to the other host over a slow link, which gives the curve, and back over this one."""
    there = Demonstration("busy", MEASURED_MBIT, "rounds:1", peek=False)
    there.move()
    curve = growth_of_rounds(there.lab.log.events, "web")[1]
    there.change(mbit, "nelson", peek=False)
    back = there.move()
    pages = next(event.pages for event in back.events if isinstance(event, RoundBegan))
    there.close()
    return Judged(pages, Curve(curve), there.link.bandwidth_bytes_per_s, tuple(back.rounds), back.downtime_ns)


def curve_of(name: str, mbit: int = 100) -> Curve:
    """To look at it."""
    return judged(Case(name, mbit)).curve


def check_predict(predict: Predict, cases: Sequence[Case] = FIRST_CASES) -> Feedback:
    """``predict(pages, written, bytes_per_s)``: rounds while the machine runs, and the downtime in ns.

    Raises ``WrongAnswer``: other rounds, or a downtime that is off by more than a tenth and 3 ms.
    """
    for case in cases:
        truth = judged(case)
        words = f"predict({truth.pages}, written, {truth.bytes_per_s})"
        rounds, downtime_ns = _pair(call(predict, truth.pages, truth.curve, truth.bytes_per_s, said=words), words)
        off_ns = abs(downtime_ns - truth.downtime_ns)
        if rounds != len(truth.rounds) - 1 or off_ns > max(NEAR * truth.downtime_ns, NEAR_NS):
            raise WrongAnswer(
                f"{case.name} over {case.mbit} Mbit/s: yours are {rounds} rounds and {downtime_ns / MS:.1f} ms; it "
                f"took {len(truth.rounds) - 1} and {truth.downtime_ns / MS:.1f} ms.",
                _rounds(truth.rounds),
            )
    return right(f"{len(cases)} migrations, the rounds as they were, the downtimes within {100 * NEAR:.0f} %.")


def _pair(found: object, words: str) -> tuple[int, float]:
    if not isinstance(found, tuple) or len(found) != 2:
        raise WrongAnswer(f"{words} returned {found!r:.60}; a pair is wanted: rounds, downtime in ns.")
    rounds, downtime_ns = found
    if isinstance(downtime_ns, bool) or not isinstance(downtime_ns, int | float):
        raise WrongAnswer(f"{words}: the downtime is {downtime_ns!r:.40}; a number of ns is wanted.")
    return whole_number(rounds, words), downtime_ns


def _rounds(rounds: Sequence[RoundSent]) -> tuple[str, ...]:
    rows = [("round", "sent", "took", "written meanwhile")]
    for each in rounds:
        left = "the machine stands still" if each.stopped else str(each.dirtied_pages)
        rows.append((str(each.number), str(each.sent_pages), f"{each.duration_ns / MS:.1f} ms", left))
    return columns(rows)


# --- 18b -------------------------------------------------------------------------------------------------------------

PRICE = 0.2
"""A millisecond of pre-copy, after the first round, costs so many of standing still."""
CHEAPER, NEVER_DEARER = 0.9, 1.05
"""Beside the default: on average at most the one, on no workload more than the other."""
MOST_TRIED = 15
FIRST_LINKS, OTHER_LINKS = ((500, 1),), ((500, 2), (1000, 1), (1000, 3), (250, 1))
"""Mbit/s to a machine of the paper's size, and the seed of the traces."""


def cost_ms(outcome: Outcome) -> float:
    """Downtime, and a fifth of the time of all rounds after the first."""
    again_ns = sum(each.duration_ns for each in outcome.rounds[1:-1])
    return (outcome.downtime_ns + PRICE * again_ns) / MS


def run_rule(rule: PreCopyPolicy, name: str, mbit: int = 500, seed: int = 1) -> Outcome:
    """One workload, moved by one rule. ``AdminError`` for a rule that never stops, or answers with something else."""
    trace = workload(name, seed)
    return migrate(rule, trace, Setting(trace.scaled(mbit * MBIT), seed=seed))


@cache
def default_cost(name: str, mbit: int = 500, seed: int = 1) -> float:
    return cost_ms(run_rule(NelsonPolicy(), name, mbit, seed))


@cache
def best_cost(name: str, mbit: int = 500, seed: int = 1) -> tuple[float, int]:
    """In hindsight: the best number of rounds for just this run, and what it costs."""
    costs = [(cost_ms(run_rule(FixedRounds(count), name, mbit, seed)), count) for count in range(1, MOST_TRIED + 1)]
    return min(costs)


def costs_text(mbit: int = 500) -> str:
    """What is to be beaten, and what can be had at best."""
    rows = [("", "the default", "the best number of rounds, in hindsight")]
    for name in SHOWN:
        best, count = best_cost(name, mbit)
        rows.append((name, f"{default_cost(name, mbit):7.1f} ms", f"{best:7.1f} ms with {count} rounds"))
    return "\n".join(columns(rows))


class _Asked:
    """The student's rule, behind ``call``: it may crash, and it may not come to an end."""

    name = "yours"

    def __init__(self, rule: Any) -> None:
        self._rule = rule

    def first(self, pages: int) -> NextRound | Stop:
        return self._answer("first", pages, f"first({pages})")

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        return self._answer("next", rounds, f"next(rounds), with {len(rounds)} rounds")

    def _answer(self, name: str, given: object, words: str) -> NextRound | Stop:
        method = getattr(self._rule, name, None)
        if method is None:
            raise WrongAnswer(f"A rule has two methods, first(pages) and next(rounds); yours has no {name}.")
        answer = call(method, given, said=words)
        if not isinstance(answer, NextRound | Stop):
            raise WrongAnswer(f"{words} gave {answer!r:.60}; NextRound() or Stop(why) is wanted.")
        return answer


def check_rule(rule: object, links: Sequence[tuple[int, int]] = FIRST_LINKS) -> Feedback:
    """A rule with ``first(pages)`` and ``next(rounds)``, over six workloads and each of the links.

    Raises ``WrongAnswer``: somewhere dearer than the default by more than a twentieth, or not cheaper by a tenth.
    """
    for mbit, seed in links:
        rows: list[tuple[str, ...]] = [("", "rounds", "downtime", "cost", "the default", "yours to the default")]
        shares = []
        for name in SHOWN:
            try:
                mine = run_rule(_Asked(rule), name, mbit, seed)
            except AdminError as error:
                raise WrongAnswer(f"{name} over {mbit} Mbit/s: {error}") from None
            shares.append(cost_ms(mine) / default_cost(name, mbit, seed))
            rows.append((
                name, str(len(mine.rounds) - 1), f"{mine.downtime_ns / MS:.1f} ms", f"{cost_ms(mine):.1f} ms",
                f"{default_cost(name, mbit, seed):.1f} ms", f"{shares[-1]:.2f}",
            ))  # fmt: skip
        worst = max(range(len(SHOWN)), key=lambda at: shares[at])
        if shares[worst] > NEVER_DEARER:
            raise WrongAnswer(
                f"{SHOWN[worst]} over {mbit} Mbit/s costs {shares[worst]:.2f} times what it does with the default.",
                columns(rows),
            )
        mean = sum(shares) / len(shares)
        if mean > CHEAPER:
            raise WrongAnswer(
                f"Over {mbit} Mbit/s yours costs {mean:.2f} times what the default does, on average; {CHEAPER} is "
                "wanted.",
                columns(rows),
            )
    count = len(links) * len(SHOWN)
    return right(f"{count} migrations: a tenth cheaper than the default on average, or more.")
