"""What is typed becomes a guest that does the same under every engine that is right."""

from __future__ import annotations

import pytest

from vilab.course.runs import RING_DEMO, left_the_guest, ring_demo, run_typed
from vilab.course.small_guest import KERNEL, PROGRAM, assemble_typed
from vilab.errors import AdminError

EAX = 0


def eax(text: str, engine: str) -> int:
    return run_typed(text, engine).records[-1].guest.gpr[EAX]


@pytest.mark.parametrize(("engine", "found_it_clear"), [("bare", 1), ("bt", 1), ("svm", 1), ("trap", 0)])
def test_the_kernel_of_the_ring_demo_is_misled_only_under_trap_and_emulate(engine: str, found_it_clear: int) -> None:
    run = ring_demo(engine)
    assert run.records[0].eip == PROGRAM
    assert run.records[1].eip == KERNEL
    assert run.records[-1].guest.gpr[EAX] == found_it_clear
    assert run.ending == f"The code has returned with EAX = {found_it_clear}."


def test_no_page_fault_of_the_vmm_stands_in_the_way_of_the_ring_demo() -> None:
    for engine in ("trap", "bt", "svm"):
        names = {type(event).__name__ for record in ring_demo(engine).records for event in record.events}
        assert names.isdisjoint({"HiddenFault", "TraceFault", "TrueFault"}), engine


def test_what_leaves_the_guest_depends_on_the_engine() -> None:
    assert left_the_guest(ring_demo("trap")) == ["int 0x80", "cli", "mov ebx, cr3"]
    assert left_the_guest(ring_demo("bt")) == ["int 0x80", "mov ebx, cr3"]
    assert left_the_guest(ring_demo("svm")) == []


def test_without_a_program_the_run_begins_in_the_kernel_and_ends_behind_its_last_line() -> None:
    run = run_typed("mov eax, 7\nnop", "bare")
    assert [record.eip for record in run.records] == [KERNEL, KERNEL + 5]
    assert run.ending == "The code has returned with EAX = 7."


def test_ret_ends_the_run_too() -> None:
    assert run_typed("mov eax, 3\nret\nmov eax, 4", "bt").ending == "The code has returned with EAX = 3."


def test_a_gate_is_a_label() -> None:
    text = "int 0x2a\njmp done\ngate_2a: mov eax, 5\niret\ndone: nop"
    assert {engine: eax(text, engine) for engine in ("bare", "bt", "svm", "trap")} == dict.fromkeys(
        ("bare", "bt", "svm", "trap"), 5
    )


def test_a_fault_of_the_guest_goes_to_a_handler_that_halts() -> None:
    run = run_typed("xor ecx, ecx\ndiv ecx", "bt")
    assert run.records[-1].mnemonic == "hlt"
    assert "interrupts off" in run.ending


def test_a_guest_that_waits_for_nothing_comes_to_an_end() -> None:
    for engine in ("bare", "bt", "svm", "trap"):
        assert "every interrupt masked" in run_typed("hlt", engine).ending


def test_an_endless_loop_is_cut_off() -> None:
    run = run_typed("again: jmp again", "bt", limit=50)
    assert run.total == 50
    assert run.ending == "The recording ends after 50 steps."


def test_a_run_goes_back_and_is_the_same_again() -> None:
    run = ring_demo("bt")
    records = list(run.records)
    run.seek(run.total)
    run.seek(2)
    assert run.step() == records[2]
    assert run.again().records == records


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nop\npusf", "Line 2"),
        ("nop\nprogram:\nnop\nmov eax, [", "Line 4"),
        ("", "nothing to run"),
        ("# only a comment", "nothing to run"),
        ("times 5000 nop", "does not fit"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence_with_its_line(text: str, words: str) -> None:
    with pytest.raises(AdminError, match=words) as refused:
        run_typed(text, "bt")
    assert "\n" not in str(refused.value)


def test_both_parts_stand_where_they_belong() -> None:
    code = assemble_typed(RING_DEMO)
    assert code.program is not None
    assert (code.kernel.address, code.program.address) == (KERNEL, PROGRAM)
    assert code.gates == {0x80: KERNEL}
