"""The table of critical instructions, run. The bare machine is the judge of what is right."""

from __future__ import annotations

import msgspec
import pytest

from vilab.vmm.critical_run import ENGINES, CriticalRow, count_right, critical_table, run_critical
from vilab.x86.critical import CRITICAL, TRAP_BY_THEMSELVES
from vilab.x86.critical_environment import critical_environment


@pytest.fixture(scope="module")
def table() -> list[CriticalRow]:
    return critical_table((*ENGINES, "bare"))


def test_the_bare_machine_agrees_with_what_was_worked_out_from_the_tables(table: list[CriticalRow]) -> None:
    assert {row.instruction.name: row.answers["bare"].value for row in table} == {
        row.name: row.expected(critical_environment()) for row in CRITICAL
    }


def test_none_five_all_and_all_are_right(table: list[CriticalRow]) -> None:
    assert count_right(table) == {"deprivileged": 0, "trap": 5, "bt": 18, "svm": 18, "bare": 18}


def test_trap_and_emulate_is_right_exactly_where_the_instruction_traps(table: list[CriticalRow]) -> None:
    for row in table:
        answer = row.answers["trap"]
        assert answer.right == (answer.way == "trap") == (row.instruction.name in TRAP_BY_THEMSELVES), row.instruction


def test_what_does_not_trap_answers_the_same_with_and_without_a_vmm(table: list[CriticalRow]) -> None:
    for row in table:
        if row.instruction.name not in TRAP_BY_THEMSELVES:
            assert row.answers["trap"].value == row.answers["deprivileged"].value


def test_what_leaks_is_what_the_processor_holds(table: list[CriticalRow]) -> None:
    """The wrong answers are the other truth, not just anything."""
    trap = {row.instruction.name: row.answers["trap"] for row in table}
    assert trap["sgdt [m]"].value == f"{trap['sgdt [m]'].cpu.gdtr_base:08x}"
    assert trap["sidt [m]"].value == f"{trap['sidt [m]'].cpu.idtr_base:08x}"
    assert trap["sldt ax"].value == f"{trap['sldt ax'].cpu.ldtr:04x}"
    assert trap["smsw ax"].value == f"{trap['smsw ax'].cpu.cr0 & 0xFFFF:04x}"
    assert trap["str ax"].value == f"{trap['str ax'].cpu.tr:04x}"
    assert trap["mov eax,cs"].value == trap["push cs"].value == f"{trap['push cs'].cpu.selectors[1]:04x}"


def test_translation_asks_the_vmm_only_where_the_cache_cannot_do_it(table: list[CriticalRow]) -> None:
    in_cache = {row.instruction.name for row in table if row.answers["bt"].way == "in cache"}
    assert {"pushf", "popf", "push cs", "mov eax,cs"} <= in_cache
    assert all(row.answers["bt"].way in ("in cache", "callout") for row in table)


def test_under_hardware_assist_none_of_them_leaves_the_guest(table: list[CriticalRow]) -> None:
    assert {row.answers["svm"].way for row in table} == {"ran"}


def test_the_guest_ends_in_the_bare_machines_state_under_translation_and_svm(table: list[CriticalRow]) -> None:
    for row in table:
        bare = row.answers["bare"].after
        for engine in ("bt", "svm"):
            # After a load of SS the processor takes one more step, a NOP, before it can be looked at.
            after = msgspec.structs.replace(row.answers[engine].after, eip=bare.eip)
            assert after == bare, (row.instruction.name, engine)


def test_a_run_is_the_same_every_time() -> None:
    row = next(row for row in CRITICAL if row.name == "popf")
    assert run_critical(row, "bt") == run_critical(row, "bt")
