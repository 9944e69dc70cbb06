"""Software against hardware: the paper's nanobenchmarks, by counting.

::

    counts of one operation (``comparison_counts``)   x   cost of each event (``costs``)   =   cycles

    native     software         mirrored            hardware            nested     para
    bare       bt               bt, the other way   svm, shadow tables  svm        hypercalls, ring 1
               the paper's      to place code       the paper's
               software VMM                         hardware VMM

Adams and Agesen, ASPLOS 2006, section 6.3 and figure 4, measured these cycles; here no measured result goes in, only
what primitives cost, and the order of each row has to come out.

What counts as native: an operation costs what the paper's native column says where the processor does it itself. A
kernel in ring 1 has nothing privileged done by the processor, and translated code replaces calls and returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import msgspec

from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.errors import VECTOR_NAMES
from vilab.vmm import comparison_counts as counting
from vilab.vmm.comparison_counts import (
    BARE,
    CODE_BYTES,
    DROPPED,
    HIDDEN,
    LOADS,
    MIRRORED,
    NESTED,
    PARA,
    SHADOW,
    TRACE,
    TRANSLATION,
    TRUE,
    UPDATED,
    VALIDATED,
    Counts,
    Way,
)

COLUMNS: dict[str, Way] = {
    "native": BARE, "software": TRANSLATION, "mirrored": MIRRORED, "hardware": SHADOW, "nested": NESTED, "para": PARA,
}  # fmt: skip

FAULTS = frozenset(("#PF", "exception 0e", "npf"))
"""Counted by kind, as hidden, trace and true faults."""
NO_EXIT = frozenset(("interrupt", UPDATED, VALIDATED, LOADS, DROPPED, CODE_BYTES, HIDDEN, TRUE, TRACE)) | FAULTS
EXCEPTIONS = frozenset(VECTOR_NAMES.values())


class Operation(msgspec.Struct, frozen=True):
    """A row. ``guest``: its name in the ``nano`` guest. ``native``: the cost that the paper's native column has.

    ``ring``: the outermost ring in which the processor does it itself. ``order``: what the paper found.
    """

    name: str
    guest: str
    native: str
    order: str
    ring: int = 0
    empty: str = "empty"
    rounds: int = counting.ROUNDS
    what: str = ""


OPERATIONS: tuple[Operation, ...] = (
    Operation("syscall", "syscall", "syscall", "native ~ hardware << software", empty="empty-user",
              what="INT 80h from ring 3, and IRET"),
    Operation("in", "in", "", "software < native <= hardware", what="IN from port 80h"),
    Operation("cr8wr", "mask", "mask_interrupts", "software < native <= hardware",
              what="MODEL: a 32-bit guest has no CR8; CLI, the other write that decides which interrupts come"),
    Operation("call/ret", "call-ret", "call_return", "native ~ hardware << software", ring=1, what="a pair"),
    Operation("pgfault", "pgfault", "page_fault", "native < software < hardware", what="a true fault, handler, IRET"),
    Operation("divzero", "divzero", "divide_error", "native ~ hardware << software", what="#DE, handler, IRET"),
    Operation("ptemod", "ptemod", "store", "native << software << hardware", ring=1,
              what="a page-table entry is given the value that it has"),
    Operation("ptemod P->NP", "ptemod-clear", "store_absent", "native < software << hardware", ring=1,
              rounds=counting.TABLE_ROUNDS, what="present to not present"),
    Operation("ptemod NP->P", "ptemod-set", "store_present", "native << software < hardware", ring=1,
              rounds=counting.TABLE_ROUNDS, what="not present to present"),
    Operation("tprwr", "tpr", "task_priority", "", what="the task priority in the local APIC's memory"),
)  # fmt: skip
"""In the paper's order; the last row is not in the paper."""

PAPER: dict[str, tuple[int, int, int]] = {
    "syscall": (242, 2308, 246), "in": (3209, 216, 15826), "cr8wr": (150, 35, 177), "call/ret": (11, 51, 11),
    "pgfault": (1093, 3927, 11242), "divzero": (889, 3223, 1014), "ptemod": (1, 391, 12733),
    "ptemod P->NP": (4, 17, 9154), "ptemod NP->P": (5, 2121, 17020),
}  # fmt: skip
"""Figure 4 and its appendix: native, software VMM, hardware VMM, in cycles. Only to be shown beside ours."""

ENOUGH_TO_ADAPT = 50


class Cell(msgspec.Struct, frozen=True):
    """``parts`` adds up to ``cycles``: event -> cycles. ``counts``: what they were made from."""

    cycles: float
    parts: dict[str, float]
    counts: Counts


class Row(msgspec.Struct, frozen=True):
    """``cells`` by column; one that no engine offers is absent. ``holds``: the order came out, ``None``: unasked."""

    operation: str
    what: str
    order: str
    cells: dict[str, Cell]
    paper: tuple[int, int, int] | None
    holds: bool | None


def event_cost(way: Way, reason: str, costs: CostModel) -> int:
    """Cycles of one exit, by its reason in the engine's counters."""
    if reason == TRUE:
        return costs.exit + costs.vmcb_injection * costs.vmcb_write if way.engine == "svm" else costs.trap
    if reason in (HIDDEN, TRACE):
        if way.engine == "svm":
            return costs.exit
        return costs.hidden_fault if reason == HIDDEN else costs.trace_fault
    if reason == UPDATED:
        return costs.update_entry
    if reason == VALIDATED:
        return costs.validate_entry
    if reason in NO_EXIT:
        return 0
    if way.engine == "svm":
        return costs.exit
    if reason.startswith("hypercall "):
        return costs.hypercall
    if reason == "simulate":
        return costs.simulate
    if way.engine in ("trap", "para") or reason.startswith("int ") or reason in EXCEPTIONS:
        return costs.trap
    return costs.callout


def events(way: Way, counts: Mapping[str, float], costs: CostModel) -> dict[str, float]:
    """Cycles by reason. On the bare machine there are no exits, and under nested paging a true fault is none."""
    if way == BARE:
        return {}
    parts = {}
    for reason, count in counts.items():
        if reason == TRUE and way.engine == "svm" and not counts.get("exception 0e"):
            continue
        cycles = count * event_cost(way, reason, costs)
        if cycles:
            parts[reason] = cycles
    return parts


def native_cycles(way: Way, operation: Operation, counts: Mapping[str, float], costs: CostModel) -> int:
    """What the processor itself spends on the operation; 0 where a monitor does it in its place."""
    cycles = costs.port_access if not operation.native else int(getattr(costs.native, operation.native))
    if way == BARE:
        return cycles
    if way.engine == "svm":
        replaced = counts.get(operation.guest, 0) or counts.get(TRACE, 0) or _device(counts)
        return 0 if replaced else cycles
    if operation.ring == 0:
        return 0 if operation.guest != "tpr" or _device(counts) else cycles
    return 0 if way == TRANSLATION and operation.guest == "call-ret" else cycles


def _device(counts: Mapping[str, float]) -> float:
    return sum(count for reason, count in counts.items() if reason.startswith("mmio"))


def cell(way: Way, operation: Operation, costs: CostModel = DEFAULT_COSTS) -> Cell:
    """One operation under one engine."""
    counts, bare = (counting.nano(each, operation.guest, operation.rounds, operation.empty) for each in (way, BARE))
    parts: dict[str, float] = {"native": native_cycles(way, operation, counts, costs)}
    parts["more code"] = (counts.get(CODE_BYTES, 0) - bare.get(CODE_BYTES, 0)) / costs.code_bytes_per_cycle
    parts |= events(way, counts, costs)
    parts = {name: cycles for name, cycles in parts.items() if cycles}
    return Cell(sum(parts.values()), parts, counts)


def order_holds(order: str, cycles: Mapping[str, float]) -> bool | None:
    """Does ``native ~ hardware << software`` describe them? ``~`` within a fifth, ``<<`` at least twice.

    Columns that are absent are left out; ``None`` if fewer than two are there.
    """
    words = order.split()
    names = [(name, relation) for name, relation in zip(words[::2], ["", *words[1::2]], strict=True) if name in cycles]
    if len(names) < 2:
        return None
    tests = {
        "~": lambda a, b: abs(a - b) <= a / 5, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
        "<<": lambda a, b: 2 * a <= b,
    }  # fmt: skip
    return all(tests[relation](cycles[left], cycles[name]) for (left, _), (name, relation) in pairwise(names))


def columns(chosen: Mapping[str, Way] = COLUMNS) -> dict[str, Way]:
    """Those whose engine exists."""
    return {name: way for name, way in chosen.items() if way.exists}


def row(operation: Operation, costs: CostModel = DEFAULT_COSTS, chosen: Mapping[str, Way] = COLUMNS) -> Row:
    """One operation under every engine."""
    cells = {name: cell(way, operation, costs) for name, way in columns(chosen).items()}
    cycles = {name: each.cycles for name, each in cells.items()}
    holds = order_holds(operation.order, cycles) if operation.order else None
    return Row(operation.name, operation.what, operation.order, cells, PAPER.get(operation.name), holds)


def table(costs: CostModel = DEFAULT_COSTS, chosen: Mapping[str, Way] = COLUMNS) -> list[Row]:
    """All rows. Counting is done once; another cost model costs nothing."""
    return [row(operation, costs, chosen) for operation in OPERATIONS]


class Macro(msgspec.Struct, frozen=True):
    """A workload under one engine, one round of it. ``slowdown``: its cycles over native ones."""

    cycles: float
    slowdown: float
    parts: dict[str, float]
    counts: Counts


def forkwait(
    costs: CostModel = DEFAULT_COSTS, chosen: Mapping[str, Way] = COLUMNS, pages: int = 16
) -> dict[str, Macro]:
    """Creating a process, and waiting for its end; the paper has 6.1 for software and 17.7 for hardware."""
    found = {name: counting.forkwait(way, pages=pages) for name, way in columns(chosen).items()}
    bare = counting.forkwait(BARE, pages=pages)
    native = {
        "system calls": bare.get("int 80", 0) * costs.native.syscall,
        "page faults": bare.get(TRUE, 0) * costs.native.page_fault,
        "ports": (bare.get("in", 0) + bare.get("out", 0)) * costs.port_access,
    }
    result: dict[str, Macro] = {}
    total = sum(native.values()) + bare[CODE_BYTES] / costs.code_bytes_per_cycle
    for name, way in columns(chosen).items():
        counts = found[name]
        parts = {"code": counts[CODE_BYTES] / costs.code_bytes_per_cycle}
        if way == BARE or way.engine == "svm":
            parts |= {each: cycles for each, cycles in native.items() if way == BARE or each != "ports"}
        parts |= events(way, counts, costs)
        cycles = sum(parts.values())
        result[name] = Macro(cycles, cycles / total, parts, counts)
    return result
