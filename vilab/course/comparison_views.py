"""The pictures of lesson 6. Needs Jupyter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.course.comparison_figures import HOW, assist, cell, exit_lines, operation, paper_of
from vilab.course.placement_figures import GUESTS, WAYS, Placed, placed
from vilab.view.bars import Bar, Bars, BarsTrack, Part, write
from vilab.view.frame import Cell, Panel, Row
from vilab.view.playback import Ask
from vilab.view.predict import Prediction, measured
from vilab.view.turning import TurningTrack, turning_point
from vilab.view.widget import Player
from vilab.vmm import comparison
from vilab.vmm.comparison import OPERATIONS, PAPER

Cycles = dict[str, float]
_WITHOUT_CHANGE = ("software", "mirrored", "hardware", "nested")
"""The monitors that run an unchanged guest."""


def operations(question: str, costs: CostModel = DEFAULT_COSTS, ask: bool = True) -> Player:
    """The nine operations of the paper, one after another, in cycles of ``costs``."""
    names = [(name, HOW[name]) for name in comparison.columns()]
    shown = [each.name for each in OPERATIONS if each.name in PAPER]
    track = BarsTrack(question, [partial(_operation, name, costs) for name in shown], names, _first(shown[0]))
    asked: Ask | None = (lambda at: _who_is_cheaper(shown[at], costs)) if ask else None
    return Player(track, asked)


def _first(name: str) -> str:
    return f"Nothing has been compared yet. Press Step for {name}."


def _operation(name: str, costs: CostModel) -> Bars:
    op = operation(name)
    cells = {column: cell(name, column, costs) for column in comparison.columns()}
    cycles = {column: each.cycles for column, each in cells.items()}
    least = min(cycles[column] for column in _WITHOUT_CHANGE if column in cycles)
    bars = tuple(
        Bar(
            column, _parts(each.parts), HOW[column], paper_of(name, column),
            best=column in _WITHOUT_CHANGE and each.cycles == least,
        )
        for column, each in cells.items()
    )  # fmt: skip
    panels = tuple(_panel(name, column, costs) for column in ("software", assist()))
    return Bars(name, op.what.removeprefix("MODEL: "), "cycles", bars, _say(name, cycles, op.order), "least", panels)


def _parts(parts: dict[str, float]) -> tuple[Part, ...]:
    """The processor's own work, then what the monitor adds; code that became shorter is taken off."""
    own = parts.get("native", 0.0)
    added = sum(cycles for reason, cycles in parts.items() if reason != "native")
    if added < 0:
        own, added = own + added, 0.0
    return Part(own, "host"), Part(added, "vmm")


def _panel(name: str, column: str, costs: CostModel) -> Panel:
    found = cell(name, column, costs)
    rows = []
    for reason, cycles in found.parts.items():
        count = found.counts.get(reason)
        how = "" if count is None else f"{write(count)} × {write(cycles / count)}"
        rows.append(Row((Cell(reason), Cell(how, "r"), Cell(write(cycles), "r"))))
    head = (Cell("event"), Cell("how often × cycles", "r"), Cell("cycles", "r"))
    return Panel(f"{column.capitalize()}: made of", head, tuple(rows), empty="nothing at all")


def _say(name: str, cycles: Cycles, order: str) -> str:
    unchanged = {column: cycles[column] for column in _WITHOUT_CHANGE if column in cycles}
    least = min(unchanged.values())
    who = [column for column, value in unchanged.items() if value == least]
    words = f"`{name}`: **{' and '.join(who)}** {'is' if len(who) == 1 else 'are'} cheapest, {_cycles(least)}"
    native = cycles["native"]
    if least < native:
        words += f", and cheaper than the bare machine ({write(native)})"
    elif least <= native * 1.2:
        words += ", what the bare machine needs"
    else:
        words += f"; the bare machine needs {write(native)}"
    present = [word for word in order.split() if word in ("native", "software", "hardware")]
    there = [word for word in present if word in cycles]
    holds = comparison.order_holds(order, cycles)
    tail = f"`{order}`" if len(there) == len(present) else f"`{order}`, as far as {' and '.join(there)} go,"
    return f"{words}. The paper's order {tail} {'holds' if holds else 'does not hold'}."


def _cycles(value: float) -> str:
    return f"{write(value)} cycle" + ("" if write(value) == "1" else "s")


def _who_is_cheaper(name: str, costs: CostModel) -> Prediction:
    other = assist()

    def cycles() -> tuple[float, float, float]:
        native, software, assisted = (cell(name, column, costs).cycles for column in ("native", "software", other))
        return native, software, assisted

    def right() -> int:
        native, software, assisted = cycles()
        if software < assisted:
            return 0 if software < native else 1
        return 2 if assisted <= 1.2 * native else 3

    def why() -> str:
        native, software, assisted = cycles()
        return f"Native {write(native)}, software {write(software)}, {other} {write(assisted)} cycles."

    return Prediction(
        f"`{name}`: {operation(name).what.removeprefix('MODEL: ')}. Binary translation (software) or hardware assist "
        f"({HOW[other]}): which is cheaper?",
        (
            "Software, and cheaper than even the bare machine.",
            "Software, but dearer than the bare machine.",
            "Hardware assist, at about what the bare machine needs.",
            "Hardware assist, but clearly dearer than the bare machine.",
        ),
        right,
        why,
    )


def exit_cost(
    question: str, workload: str = "forkwait", costs: CostModel = DEFAULT_COSTS, step: int = 500, most: int = 10_000
) -> Player:
    """Software against hardware assist over the cost of an exit. ``workload``: ``forkwait`` or an operation."""
    lines = exit_lines(workload, costs)
    track = TurningTrack(question, lines, "times native", "one exit", step, most)
    x = turning_point(lines[0], lines[1])
    return Player(track, {0: _where_it_turns(x)}.get if x is not None else None)


def _where_it_turns(x: float) -> Prediction:
    return measured(
        "From which cost of an exit on is software the cheaper one?",
        ("below 1,000 cycles", "1,000 to 4,000", "4,000 to 8,000", "above 8,000"),
        (1000, 4000, 8000),
        lambda: x,
        lambda cycles: f"Both cost the same at {cycles:,.0f} cycles.",
    )


MEASURES: tuple[tuple[str, str, Callable[[Placed], int], str], ...] = (
    ("executed", "code that the processor ran", lambda p: p.executed_bytes, "bytes"),
    ("where to?", "the monitor was asked where the translation goes on", lambda p: p.finding, "times"),
    ("callouts", "the monitor was asked to do something", lambda p: p.callouts, "times"),
)


def placements(question: str, guests: Sequence[str] = tuple(GUESTS)) -> Player:
    """Packed against mirrored, guest by guest and measure by measure."""
    scenes = [partial(_placement, guest, at) for guest in guests for at in range(len(MEASURES))]
    names = [("bare", "no VMM"), ("packed", "the paper's"), ("mirrored", "the other way")]
    return Player(BarsTrack(question, scenes, names, f"Nothing has run yet. Press Step for {GUESTS[guests[0]][2]}."))


def _placement(guest: str, at: int) -> Bars:
    name, what, measure, unit = MEASURES[at]
    values = {way: measure(placed(guest, way)) for way in WAYS if way != "bare" or not at}
    least = min(value for way, value in values.items() if way != "bare")
    bars = tuple(
        Bar(way, (Part(value, "host" if way == "bare" else "vmm"),), best=way != "bare" and value == least)
        for way, value in values.items()
    )
    both = ", ".join(f"{way} {write(value)}" for way, value in values.items())
    ahead = [way for way, value in values.items() if way != "bare" and value == least]
    who = f"**{ahead[0]}** needs less" if len(ahead) == 1 else "they are equal"
    return Bars(name, f"{GUESTS[guest][2]}: {what}", unit, bars, f"{GUESTS[guest][2]}, {what}: {both}; {who}.")
