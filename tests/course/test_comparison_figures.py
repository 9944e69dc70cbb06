"""Lesson 6: its figures come from the comparison's counts, and follow the cost model that they are given."""

from __future__ import annotations

from collections import Counter

import pytest

from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.course import comparison_figures as figures
from vilab.course import comparison_views as views
from vilab.course import placement_figures as placement
from vilab.view.turning import turning_point
from vilab.vmm import comparison
from vilab.vmm.comparison_counts import BARE, run


def test_the_table_has_every_operation_and_every_engine_that_there_is():
    lines = figures.table_text().splitlines()
    assert lines[0].split()[: len(comparison.columns())] == list(comparison.columns())
    assert [line.split("  ")[0] for line in lines[1:]] == [each.name for each in comparison.OPERATIONS]
    assert "DOES NOT HOLD" not in figures.table_text()


def test_the_table_follows_the_readers_costs():
    free_trap = CostModel(trap=0, callout=0)
    assert "DOES NOT HOLD" in figures.table_text(free_trap)
    assert figures.cell("syscall", "software", free_trap).cycles < figures.cell("syscall", "software").cycles


@pytest.mark.parametrize("column", ["software", "nested", "para"])
def test_the_parts_of_a_cell_add_up_to_it(column: str):
    text = figures.made_of("in", column)
    *parts, total = [line.split("  ")[-1] for line in text.splitlines()[1:]]
    assert sum(float(part.replace(",", "")) for part in parts) == pytest.approx(float(total.replace(",", "")), abs=1)


def test_an_exit_costs_what_was_asked_for():
    assert figures.with_exit(DEFAULT_COSTS, 400).exit == 400
    assert figures.cell("in", "nested", figures.with_exit(DEFAULT_COSTS, 400)).cycles == 400


def test_where_the_order_turns_both_really_cost_the_same():
    lines = {line.name: line for line in figures.exit_lines("in")}
    x = turning_point(lines["software"], lines[figures.assist()])
    assert x is not None
    row = comparison.row(figures.operation("in"), figures.with_exit(DEFAULT_COSTS, round(x)))
    assert row.cells["software"].cycles == pytest.approx(row.cells[figures.assist()].cycles, abs=1)


def test_the_exits_of_an_operation_are_those_that_were_counted():
    assert figures.exits("in") == 1
    assert figures.exits("syscall") == 0


def test_a_prediction_is_right_by_the_counts():
    view = views.operations("Who?")
    view.step()
    assert "right" in view.answer(3).splitlines()[-1]
    view.step()
    view.step()
    assert "right" in view.answer(1).splitlines()[-1]
    assert (
        views.operations("Who?", figures.with_exit(DEFAULT_COSTS, 1), ask=False)
        .seek(2)
        .startswith(f"in: {figures.assist()}")
    )


def test_packed_code_looks_for_its_way_and_mirrored_code_never_does():
    for guest in placement.GUESTS:
        packed, mirrored = placement.placed(guest, "packed"), placement.placed(guest, "mirrored")
        assert packed.finding > packed.return_misses > 0
        assert mirrored.finding == 0
        assert packed.executed_bytes > mirrored.executed_bytes
    assert placement.placed("flags", "packed").callouts < placement.placed("flags", "mirrored").callouts


def test_placements_are_counted_as_the_comparison_counts():
    bare = placement.placed("calls", "bare").executed_bytes
    other = Counter(run(BARE, "nano", "call-ret 2000"))["code bytes"]
    assert bare == pytest.approx(other, rel=0.05)
    assert len(placement.placements_text().splitlines()) == 1 + 3 * len(placement.GUESTS)


def test_the_papers_hardware_exits_for_what_cannot_be_translated_away():
    found = comparison.forkwait(DEFAULT_COSTS)
    hardware, software = found["hardware"], found["software"]
    assert hardware.counts["trace faults"] > 10 * software.counts["trace faults"]
    reasons = ("trace faults", "hidden faults", "true faults", "invlpg", "cr3 write")
    caused = sum(hardware.counts[reason] for reason in reasons)
    assert figures.exits("forkwait") == pytest.approx(caused, rel=0.05)


def test_a_free_exit_leaves_what_the_guest_does_itself():
    free = comparison.forkwait(figures.with_exit(DEFAULT_COSTS, 0))["hardware"]
    assert free.slowdown == pytest.approx(1, abs=0.01)
