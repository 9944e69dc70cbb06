"""The figures of lesson 6: what was counted, what it costs, and what would be if an event cost something else.

::

    counts of real runs (vmm.comparison)  x  a CostModel, the paper's or the reader's own
                        │
                        ├── table_text     every operation under every engine, the paper's cycles beside ours
                        ├── made_of        one cell, event by event
                        ├── forkwait_text  what it is worth for processes that come and go
                        └── with_exit      the same costs, but for what an exit costs
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.course.feedback import columns as aligned
from vilab.view.bars import write
from vilab.view.turning import Way as Line
from vilab.view.turning import turning_point
from vilab.vmm import comparison
from vilab.vmm.comparison import COLUMNS, OPERATIONS, PAPER, Cell, Operation, Row
from vilab.vmm.comparison_counts import SHADOW

PAPER_COLUMNS = ("native", "software", "hardware")
PAPER_FORKWAIT = {"software": 6.1, "hardware": 17.7}
"""Times native, on the Pentium 4: 36.95 s and 106.4 s over 6.02 s (section 6.2)."""

HOW = {
    "native": "no VMM", "software": "bt, packed", "mirrored": "bt, mirrored", "hardware": "svm, shadow tables",
    "nested": "svm, nested tables", "para": "hypercalls, ring 1",
}  # fmt: skip
"""Column -> what runs there."""


def operation(name: str) -> Operation:
    return next(each for each in OPERATIONS if each.name == name)


def assist() -> str:
    """The column that the paper calls hardware, where this vilab has it; else its successor with nested tables."""
    return "hardware" if SHADOW.exists else "nested"


def paper_of(name: str, column: str) -> int | None:
    """Cycles in figure 4 of the paper; ``None`` where it has none."""
    if name not in PAPER or column not in PAPER_COLUMNS:
        return None
    return PAPER[name][PAPER_COLUMNS.index(column)]


def table_text(costs: CostModel = DEFAULT_COSTS) -> str:
    """An operation a line: our cycles, and in brackets the paper's; at the end the paper's order, and if it holds
    (*so far*: one of its columns is not there to be judged)."""
    names = list(comparison.columns())
    rows: list[tuple[str, ...]] = [("", *names, "the paper's order")]
    for row in comparison.table(costs):
        cells = [_cell(row, name) for name in names]
        held = {True: "holds", False: "DOES NOT HOLD", None: "not asked"}[row.holds]
        if row.holds and not all(name in names for name in PAPER_COLUMNS):
            held += " so far"
        rows.append((row.operation, *cells, f"{row.order}: {held}" if row.order else "-"))
    return "\n".join(aligned(rows))


def _cell(row: Row, column: str) -> str:
    paper = paper_of(row.operation, column)
    return write(row.cells[column].cycles) + (f" ({paper:,})" if paper is not None else "")


def cell(name: str, column: str, costs: CostModel = DEFAULT_COSTS) -> Cell:
    return comparison.cell(COLUMNS[column], operation(name), costs)


def made_of(name: str, column: str, costs: CostModel = DEFAULT_COSTS) -> str:
    """One cell, a line for each part: how often, at how many cycles."""
    found = cell(name, column, costs)
    rows = [(f"{name} under {column}", "", "", "")]
    for reason, cycles in found.parts.items():
        count = found.counts.get(reason)
        how = "" if count is None else f"{write(count)} x {write(cycles / count)}"
        rows.append(("", reason, how, write(cycles)))
    rows.append(("", "together", "", write(found.cycles)))
    return "\n".join(aligned(rows))


def forkwait_text(costs: CostModel = DEFAULT_COSTS, most: int = 4) -> str:
    """Times native for a process that is created, dies, and is waited for; and the dearest kinds of event."""
    rows: list[tuple[str, ...]] = [("", "times native", "the paper", "cycles of one process, the dearest first")]
    for name, found in comparison.forkwait(costs).items():
        dearest = sorted(found.parts.items(), key=lambda part: -part[1])[:most]
        measured = PAPER_FORKWAIT.get(name)
        paper = f"{measured:.1f}" if measured else "-"
        words = ", ".join(f"{write(cycles)} {reason}" for reason, cycles in dearest)
        rows.append((name, f"{found.slowdown:.1f}", paper, words))
    return "\n".join(aligned(rows))


def with_exit(costs: CostModel, cycles: int) -> CostModel:
    """The same, but for an exit of hardware assist: ``cycles`` from the guest's last instruction to its next."""
    return msgspec.structs.replace(
        costs, vm_exit=cycles, vm_entry=0, vmcb_reads=0, vmcb_writes=0, vmcb_injection=0, monitor_work=0
    )


def exit_lines(workload: str = "forkwait", costs: CostModel = DEFAULT_COSTS) -> list[Line]:
    """Times native over the cost of an exit: software first, then whatever has exits. ``workload``: or an operation."""
    free, dear = (_slowdowns(workload, with_exit(costs, cycles)) for cycles in (0, 1000))
    names = [name for name in ("software", "hardware", "nested") if name in free]
    return [Line(name, free[name], (dear[name] - free[name]) / 1000) for name in names]


def _slowdowns(workload: str, costs: CostModel) -> Mapping[str, float]:
    if workload == "forkwait":
        return {name: found.slowdown for name, found in comparison.forkwait(costs).items()}
    row = comparison.row(operation(workload), costs)
    native = row.cells["native"].cycles
    return {name: each.cycles / native for name, each in row.cells.items()}


def turning_text(costs: CostModel = DEFAULT_COSTS) -> str:
    """For every operation and for forkwait: the exit that software and hardware assist are equally dear with."""
    rows: list[tuple[str, ...]] = [("", "exits a round", "software is cheaper if an exit costs more than")]
    for name in (*(each.name for each in OPERATIONS), "forkwait"):
        lines = {each.name: each for each in exit_lines(name, costs)}
        assisted = lines["hardware"]
        x = turning_point(lines["software"], assisted)
        words = f"{x:,.0f} cycles" if x is not None else "-"
        rows.append((name, f"{exits(name):g}", words))
    return "\n".join(aligned(rows))


def exits(workload: str) -> float:
    """Exits of hardware assist a round: what the cost of an exit is multiplied with."""
    lines = {each.name: each for each in exit_lines(workload)}
    line = lines["hardware"]
    if workload == "forkwait":
        return round(line.events * comparison.forkwait()["native"].cycles, 2)
    return round(line.events * cell(workload, "native").cycles, 2)
