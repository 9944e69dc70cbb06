"""Exercises of lesson 06: cycles from counts, and the exit at which the order turns. The comparison itself is judge.

::

    cycles(counts, costs)          the counts of a real run under binary translation, priced
    turning_exit(cycles_at)        the exit at which software and hardware assist cost the same
                                   cycles_at(x) = (software, assisted), x being the cost of one exit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import msgspec

from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.course.comparison_figures import exit_lines, operation
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.view.turning import Way as Line
from vilab.view.turning import turning_point
from vilab.vmm import comparison
from vilab.vmm import comparison_counts as counting
from vilab.vmm.comparison_counts import CODE_BYTES, TRANSLATION

FREE = ("interrupt", "#PF", "loads of CR3", "dropped entries", "validated entries", "updated entries")
"""Counted beside the events; they cost nothing here, or are counted again as a kind of fault."""
TRAPS = ("int 80", "#DE", "true faults")

FIRST_RUNS = ("in", "syscall", "divzero", "pgfault")
OTHER_RUNS = ("cr8wr", "call/ret", "ptemod", "ptemod NP->P", "tprwr", "forkwait")
CHEAP = CostModel(name="cheap", trap=300, callout=90, simulate=40, code_bytes_per_cycle=4)

FIRST_WORK = ("in", "syscall")
OTHER_WORK = ("tprwr", "call/ret", "pgfault", "forkwait")
MOST_ABSENT = 100_000.0

Cycles = Callable[[Mapping[str, float], CostModel], float]
TurningExit = Callable[[Callable[[float], tuple[float, float]]], "float | None"]


@cache
def _counts(run: str) -> tuple[tuple[str, float], ...]:
    if run == "forkwait":
        return tuple(counting.forkwait(TRANSLATION).items())
    op = operation(run)
    return tuple(counting.nano(TRANSLATION, op.guest, op.rounds, op.empty).items())


def counts_of(run: str) -> dict[str, float]:
    """What one operation (or one process of ``forkwait``) caused under binary translation: reason -> how often."""
    return dict(_counts(run))


def _due(run: str, costs: CostModel) -> dict[str, float]:
    counts = counts_of(run)
    parts = {"code": counts.get(CODE_BYTES, 0) / costs.code_bytes_per_cycle}
    return parts | comparison.events(TRANSLATION, counts, costs)


def check_cycles(
    cycles: Cycles, runs: Sequence[str] = FIRST_RUNS, costs: Sequence[CostModel] = (DEFAULT_COSTS,)
) -> Feedback:
    """``cycles(counts, costs)``: what these events come to. Raises ``WrongAnswer`` at the first that is more than one
    cycle off."""
    for model in costs:
        for run in runs:
            counts = counts_of(run)
            words = f"cycles({len(counts)} counts of {run}, costs of the {model.name})"
            said = _number(call(cycles, dict(counts), model, said=words), words)
            due = _due(run, model)
            if abs(said - sum(due.values())) > 1:
                rows = [("event", "how often", "cycles"), ("code bytes", f"{counts.get(CODE_BYTES, 0):g}",
                         f"{due['code']:,.1f}")]  # fmt: skip
                rows += [(n, f"{counts[n]:g}", f"{due.get(n, 0):,.1f}") for n in counts if n != CODE_BYTES]
                raise WrongAnswer(
                    f"{words} is {said:,.1f}; the events come to {sum(due.values()):,.1f} cycles.", columns(rows)
                )
    return right(f"{len(runs) * len(costs)} runs, priced event by event as the comparison prices them.")


def _number(value: object, words: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongAnswer(f"{words} returned {str(value)[:60]}; a number is wanted.")
    return float(value)


def _pair(workload: str, costs: CostModel) -> tuple[Line, Line]:
    lines = {line.name: line for line in exit_lines(workload, costs)}
    return lines["software"], lines["hardware"]


def cycles_at(workload: str, costs: CostModel = DEFAULT_COSTS) -> Callable[[float], tuple[float, float]]:
    """What the workload costs under software and under hardware assist, in times native, for each cost of an exit."""
    software, assisted = _pair(workload, costs)
    return lambda exit_cycles: (software.at(exit_cycles), assisted.at(exit_cycles))


def check_turning_exit(
    turning_exit: TurningExit, workloads: Sequence[str] = FIRST_WORK, costs: Sequence[CostModel] = (DEFAULT_COSTS,)
) -> Feedback:
    """``turning_exit(cycles_at)``: the exit with which both cost the same, or ``None`` if there is no such exit.

    Raises ``WrongAnswer`` where they do not, at the cost that was returned.
    """
    for model in costs:
        for workload in workloads:
            at = cycles_at(workload, model)
            words = f"turning_exit of {workload} (costs of the {model.name})"
            said = call(turning_exit, at, said=words)
            due = turning_point(*_pair(workload, model))
            if said is None and due is None:
                continue
            number = MOST_ABSENT if said is None else _number(said, words)
            if due is None or said is None or abs(number - due) > 1:
                missing = "there is no exit at which both cost the same" if due is None else "they cost the same nearby"
                raise WrongAnswer(f"{words} is {said}; {missing if said is not None else 'but there is one'}.",
                                  _shown(at, number, due))  # fmt: skip
    return right(f"{len(workloads) * len(costs)} cases: software and hardware assist cost the same there, or nowhere.")


def _shown(at: Callable[[float], tuple[float, float]], said: float, due: float | None) -> tuple[str, ...]:
    rows = [("an exit costs", "software", "hardware assist")]
    for x in sorted({0.0, said, *(() if due is None else (due / 2, due * 2))}):
        software, assisted = at(x)
        rows.append((f"{x:,.0f}", f"{software:.4f}", f"{assisted:.4f}"))
    return columns(rows)


CORE_2 = msgspec.structs.replace(DEFAULT_COSTS, name="Core 2 Duo", vm_exit=1186, vm_entry=937)
"""Source: Adams and Agesen 2006, table 1; what is not in it is left."""
