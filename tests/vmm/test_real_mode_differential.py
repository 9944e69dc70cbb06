"""Random 16-bit programs, in and out of protected mode: the same registers, flags and memory as on the bare machine."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.vmm import real_mode_machine
from tests.vmm.real_mode_machine import Machine, differences
from tests.vmm.real_mode_programs import Case, random_case

CASES = 200


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return real_mode_machine.world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def bare(world: bytes) -> Machine:
    return Machine("bare", world)


def compare(bare: Machine, other: Machine, case: Case, stepped: bool = False) -> list[str]:
    bare.load(case)
    other.load(case)
    return differences(bare.run(case), other.run_stepped(case) if stepped else other.run(case))


def explain(bare: Machine, other: Machine, case: Case) -> str:
    """After which instruction the two part."""
    low, high = 0, case.limit
    while low < high:
        middle = (low + high) // 2
        if compare(bare, other, _shortened(case, middle)):
            high = middle
        else:
            low = middle + 1
    found = compare(bare, other, _shortened(case, low))
    return f"{case}: after {low} instructions\n" + "\n".join(found)


def _shortened(case: Case, limit: int) -> Case:
    return msgspec.structs.replace(
        case, limit=limit, interrupt_at=case.interrupt_at if case.interrupt_at < limit else 0
    )


@pytest.mark.parametrize("stepped", [False, True], ids=["run", "stepped"])
@pytest.mark.parametrize("engine", ["bt", "mirrored", "svm"])
def test_random_programs_end_as_on_the_bare_machine(bare: Machine, world: bytes, engine: str, stepped: bool):
    rng, other = random.Random(20061021), Machine(engine, world)
    for _ in range(CASES // 3 if stepped else CASES):
        case = random_case(rng)
        if compare(bare, other, case, stepped):
            pytest.fail(explain(bare, other, case))


def test_the_programs_go_everywhere(bare: Machine, world: bytes):
    """Otherwise the test above would show nothing."""
    rng, translated = random.Random(20061021), Machine("bt", world)
    for _ in range(60):
        case = random_case(rng)
        translated.load(case)
        translated.run(case)
    engine = translated.vm.engine
    for reason in ("jmp far", "mov to cr", "lmsw", "iret", "int", "cli", "popf", "pushf", "smsw", "sgdt", "#UD", "#DE",
                   "interrupt", "lar", "str", "int 03"):  # fmt: skip
        assert engine.exits[reason], reason
    assert engine.statistics()["translation"]["units"]  # type: ignore[index]


def test_the_judge_can_fail(bare: Machine, world: bytes):
    other, case = Machine("bt", world), Case(1, 150)
    assert not compare(bare, other, case)
    deliver = other.vm.engine.deliver_software
    other.vm.engine.deliver_software = lambda vector: deliver(vector ^ 1)  # type: ignore[method-assign]
    execute = other.vm.engine._emulate_16  # type: ignore[attr-defined]
    other.vm.engine._emulate_16 = lambda i: None if i.op == "pushf" else execute(i)  # type: ignore[attr-defined]
    rng = random.Random(5)
    assert any(compare(bare, other, random_case(rng)) for _ in range(10))
