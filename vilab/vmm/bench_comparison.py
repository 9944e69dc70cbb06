"""``vilab bench comparison``: software against hardware, by counting. Nothing here depends on how fast the host is.

::

    table       an operation a row, an engine a column, in cycles, the paper's beside them
    forkwait    slowdown of process creation under each engine
    policies    three ways to keep shadow tables up to date, three workloads
    units       how long translation units are, and how much of them is IDENT
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.errors import AdminError, VmmBug
from vilab.guests import debian
from vilab.guests.image import LoadedImage
from vilab.guests.load import load
from vilab.vmm import comparison, comparison_counts, comparison_policies
from vilab.vmm.vm import MONITOR_WINDOW, QuietConsole, VirtualMachine

PARTS = ("table", "forkwait", "policies", "units")
PAPER_FORKWAIT = {"software": 6.1, "hardware": 17.7}
"""Slowdowns on the Pentium 4 (section 6.2)."""
PAPER_UNITS = {"isprime": "14 instructions in 4 units, 10 IDENT", "cap": 12}
"""Section 3.2: a unit ends after 12 instructions or with control flow."""

KERNEL_BYTES = 8 << 20
LINUX_UP, LINUX_STEP_NS, LINUX_LIMIT_NS = b"Run /init", 50_000_000, 60_000_000_000


def bench_comparison(costs: CostModel = DEFAULT_COSTS, only: Sequence[str] = (), quick: bool = False) -> dict[str, Any]:
    """Everything, or the parts that ``only`` names, as plain values (half a minute; less with ``quick``, which leaves
    out Linux).

    Raises
    ------
    AdminError : ``only`` names a part that does not exist.
    """
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        raise AdminError(f"There is no part {unknown[0]!r} in comparison; there are {', '.join(PARTS)}.")
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "table": lambda: _table(costs), "forkwait": lambda: _forkwait(costs), "policies": lambda: _policies(costs),
        "units": lambda: _units(quick),
    }  # fmt: skip
    found: dict[str, Any] = {name: make() for name, make in makers.items() if not only or name in only}
    return found | {"costs": msgspec.to_builtins(costs)}


def _table(costs: CostModel) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for row in comparison.table(costs):
        cells = {
            name: {"cycles": cell.cycles, "parts": cell.parts, "counts": cell.counts}
            for name, cell in row.cells.items()
        }
        paper = dict(zip(("native", "software", "hardware"), row.paper, strict=True)) if row.paper else None
        rows[row.operation] = {
            "what": row.what, "order": row.order, "holds": row.holds,
            "judged": [name for name in row.order.split()[::2] if name in cells], "cells": cells, "paper": paper,
        }  # fmt: skip
    rows["ptemod"]["warm_up"] = comparison_counts.warm_up(comparison_counts.TRANSLATION, "ptemod")
    return rows


def _forkwait(costs: CostModel) -> dict[str, Any]:
    found = comparison.forkwait(costs)
    entries: dict[str, Any] = {
        name: msgspec.to_builtins(macro) | {"paper": PAPER_FORKWAIT.get(name)} for name, macro in found.items()
    }
    if "hardware" in found:
        entries["ratio"] = {
            "hardware to software": found["hardware"].slowdown / found["software"].slowdown,
            "paper": PAPER_FORKWAIT["hardware"] / PAPER_FORKWAIT["software"],
        }
    return entries


def _policies(costs: CostModel) -> dict[str, Any]:
    found = comparison_policies.outcomes(costs)
    return {"outcomes": msgspec.to_builtins(found), "loses": comparison_policies.losers(found)}


def _units(quick: bool) -> dict[str, Any]:
    kernel = load("forkwait", memory_bytes=KERNEL_BYTES, append="10 4")
    entries: dict[str, Any] = {"teaching kernel": unit_figures(kernel, KERNEL_BYTES), "paper": PAPER_UNITS}
    if quick:
        return entries
    try:
        found = debian.find()
    except AdminError as error:
        return entries | {"debian": None, "why": str(error)}
    image = load(
        str(found.kernel), memory_bytes=debian.MEMORY_BYTES, append=debian.COMMAND_LINE,
        initrd=found.initrd.read_bytes(), reserved=MONITOR_WINDOW,
    )  # fmt: skip
    return entries | {"debian": unit_figures(image, debian.MEMORY_BYTES, LINUX_UP)}


def unit_figures(image: LoadedImage, memory_bytes: int, until: bytes | None = None) -> dict[str, float]:
    """Units of a run under translation: to its end, or until the serial line has said something."""
    console = QuietConsole()
    vm = VirtualMachine(image, "bt", memory_bytes, console=console)
    try:
        at_ns = 0
        while True:
            at_ns = at_ns + LINUX_STEP_NS if until is not None else LINUX_LIMIT_NS
            ended = vm.engine.run(until_ns=at_ns)
            if ended is not None or (until is not None and until in console.output):
                break
            if at_ns >= LINUX_LIMIT_NS:
                raise VmmBug(f"{image.name} has not come as far as expected.")
        counted: Any = vm.engine.statistics()["translation"]
        units, instructions, ident = counted["units"], counted["guest_instructions"], counted["ident"]
        return {
            "units": units, "instructions": instructions, "mean_unit": instructions / units,
            "ident_share": ident / instructions,
        }  # fmt: skip
    finally:
        vm.close()


# For people ----------------------------------------------------------------------------------------------------------


def text(found: Mapping[str, Any]) -> str:
    """The figures in columns."""
    shown = {
        "table": _table_text, "forkwait": _forkwait_text, "policies": _policies_text, "units": _units_text,
        "costs": _costs_text,
    }  # fmt: skip
    return "\n\n".join(show(found[name]) for name, show in shown.items() if name in found)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _cycles(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _table_text(rows: Mapping[str, Any]) -> str:
    names = list(next(iter(rows.values()))["cells"])
    lines = [["cycles", *names, "| paper: native", "software", "hardware", "order"]]
    for operation, row in rows.items():
        paper = row["paper"] or {}
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "-"}[row["holds"]]
        if row["holds"] and (absent := [name for name in row["order"].split()[::2] if name not in names]):
            verdict += f" without {' and '.join(absent)}"
        lines.append([
            operation, *(_cycles(row["cells"][name]["cycles"]) for name in names),
            *(_cycles(paper.get(name)) for name in ("native", "software", "hardware")), verdict,
        ])  # fmt: skip
    return _columns(lines)


def _forkwait_text(entries: Mapping[str, Any]) -> str:
    lines = [["forkwait", "cycles", "slowdown", "paper"]]
    for name, entry in entries.items():
        if name != "ratio":
            paper = "-" if entry["paper"] is None else f"{entry['paper']:.1f}"
            lines.append([name, _cycles(entry["cycles"]), f"{entry['slowdown']:.2f}", paper])
    if "ratio" in entries:
        ratio = entries["ratio"]
        lines.append(["hardware to software", "", f"{ratio['hardware to software']:.2f}", f"{ratio['paper']:.1f}"])
    return _columns(lines)


def _policies_text(entries: Mapping[str, Any]) -> str:
    lines = [["workload", "policy", *comparison_policies.SHOWN, "cycles", "to the best"]]
    for each in entries["outcomes"]:
        counts = (f"{each['counts'][name]:,.0f}" for name in comparison_policies.SHOWN)
        lines.append([each["workload"], each["policy"], *counts, _cycles(each["cycles"]), f"{each['ratio']:.2f}"])
    return _columns(lines)


def _units_text(entries: Mapping[str, Any]) -> str:
    lines = [["translation units", "units", "instructions", "mean", "IDENT"]]
    for name in ("teaching kernel", "debian"):
        each = entries.get(name)
        if each:
            lines.append([
                name, _cycles(each["units"]), _cycles(each["instructions"]), f"{each['mean_unit']:.2f}",
                f"{100 * each['ident_share']:.1f} %",
            ])  # fmt: skip
    lines.append(["paper: isPrime(49)", "4", "14", "3.50", "71.4 %"])
    return _columns(lines)


def _costs_text(costs: Mapping[str, Any]) -> str:
    """Everything that went in; ``vilab.costs`` says where it comes from."""
    flat = {**costs, **{f"native {name}": cycles for name, cycles in costs["native"].items()}}
    lines = [[name.replace("_", " "), f"{cycles:,}"] for name, cycles in flat.items() if isinstance(cycles, int)]
    return _columns([["cost", "cycles"], *lines])
