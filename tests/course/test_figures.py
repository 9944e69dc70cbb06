"""What the lessons print, against the papers' numbers and against other ways of counting."""

from __future__ import annotations

import pytest

from vilab.course.critical_table import leaks, ways
from vilab.course.hardware_assist import exits_text, nested_walk, vmcb_text, walk_text
from vilab.course.runs import boot, compare, first_difference, run_program, run_typed
from vilab.course.small_guest import GDT, KERNEL, KERNEL_BASE, STACK_PAGE
from vilab.course.translation_figures import never_translated, policies, shares, summary, unit_text, units, units_text
from vilab.errors import AdminError
from vilab.vmm.critical_run import critical_table


def test_is_prime_has_the_numbers_of_the_paper() -> None:
    """Adams and Agesen, ASPLOS 2006, section 3.1."""
    run = run_program("isprime", "bt")
    found = summary(run)
    assert (found.fragments, found.guest_instructions, found.ident, found.retired) == (4, 14, 10, 51)
    assert found.retired == run_program("isprime", "bare").total
    assert never_translated(run).splitlines() == ["00100019  mov eax, 1", "0010001e  ret"]


def test_a_straight_line_is_cut_after_twelve() -> None:
    run = run_program("straight25", "bt")
    assert [len(unit.lines) for unit in units(run)] == [12, 12, 1]
    assert len(units_text(run).splitlines()) == 3


def test_a_unit_is_printed_instruction_by_instruction() -> None:
    unit = units(run_typed("cli\nmov eax, 1\nret", "bt"))[0]
    kinds = [line.split()[2:5] for line in unit_text(unit).splitlines()]
    assert [row[2] for row in unit.lines] == ["in_cache", "ident", "control"]
    assert len(kinds) == 3


def test_flushing_translates_more_and_ends_the_same() -> None:
    text = (
        "mov ecx, 10\nagain: mov byte ptr [patch + 1], cl\npatch: mov al, 0\ncall other\ndec ecx\njnz again\njmp end\n"
        "other: add edx, eax\nret\nend: nop"
    )
    precise, flush = (run_typed(text, "bt", smc=smc) for smc in ("precise", "flush"))
    assert summary(flush).fragments > summary(precise).fragments
    assert flush.records[-1].guest == precise.records[-1].guest == run_typed(text, "bare").records[-1].guest


def test_the_walk_reads_eight_entries_and_ends_where_the_pmap_says() -> None:
    run = run_typed("nop\nnop", "svm")
    for gva in (KERNEL, STACK_PAGE + 0x123, GDT):
        steps = nested_walk(run, gva)
        assert [step.side for step in steps] == ["nested", "nested", "guest"] * 2 + ["nested", "nested"]
        mpn = run.vm.pmap.resolve((gva - KERNEL_BASE) >> 12, False)
        assert mpn is not None
        assert steps[-1].entry >> 12 == mpn
        assert f"mpa {mpn << 12 | gva & 0xFFF:08x}" in walk_text(run, gva)


def test_an_address_that_nobody_maps_is_a_sentence() -> None:
    run = run_typed("nop", "svm")
    with pytest.raises(AdminError, match="own tables do not map"):
        nested_walk(run, 0xC080_0000)
    with pytest.raises(AdminError, match="only svm has a VMCB"):
        nested_walk(run_typed("nop", "bt"), KERNEL)


def test_the_vmcb_shows_the_exit_that_has_just_happened() -> None:
    run = run_typed("mov eax, 1\ncpuid\nnop", "svm")
    assert exits_text(run).split()[:3] == [f"{KERNEL + 5:08x}", "exit", "72"]
    run.seek(2)
    assert vmcb_text(run, ("exitcode",)).split()[:4] == ["070h", "8", "exitcode", "72"]
    assert len(vmcb_text(run).splitlines()) > 40


def test_the_kernel_of_trap_and_emulate_differs_first_where_it_prints_its_ring() -> None:
    good, bad = boot("bt"), boot("trap")
    assert good.good
    assert not bad.good
    assert "interrupts off" in bad.ending
    assert first_difference(good, bad).splitlines()[1:] == ["  bt    boot: ring 0", "  trap  boot: ring 1"]
    assert first_difference(good, good) == "There is none."
    assert "the same" in compare([good, boot("svm")])
    assert f"{good.translation['units']:,} units" in shares(good)
    assert policies({"one": good}).splitlines()[1].split() == ["units", f"{good.translation['units']:,}"]


def test_leaks_and_ways_account_for_every_row() -> None:
    rows = critical_table(("trap", "bt"))
    assert len(leaks(rows, "trap").splitlines()) == 13
    assert leaks(rows, "bt") == ""
    assert sum(int(line.split("(")[1].split(")")[0]) for line in ways(rows, "bt").splitlines()) == 18
