"""AMD-V with shadow page tables: the same guests and output, and an exit for all that has to do with page tables."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vmm.images import bundled
from vilab.errors import AdminError
from vilab.vmm.svm_shadow import SvmShadowEngine

SESSION = b"isprime 49\nforkwait 8\ntoucher 12 3\ncow\nworkers 3 2000\nfault\ndivzero\npoweroff\n"
POLICIES = ("all", "lazy", "prevalidate")


def shell(engine: str, **options: Any) -> tuple[str, Any]:
    vm, console = bundled("shell", engine, SESSION, engine_options=options)
    ended = vm.engine.run(until_ns=60_000_000_000)
    assert ended is not None
    assert ended.reason == "powered_off"
    return console.output.decode(), vm.engine


@pytest.mark.parametrize("trace", POLICIES)
def test_the_serial_output_is_that_of_the_bare_machine(trace: str):
    output, engine = shell("svm", paging="shadow", trace=trace)
    assert output == shell("bare")[0]
    assert isinstance(engine, SvmShadowEngine)
    exits = engine.exits
    assert exits["npf"] == 0
    assert exits["cr3 write"] > 10
    assert exits["exception 0e"] >= engine.hidden_faults + engine.trace_faults
    assert (engine.trace_faults > 0) == (trace == "all")


def test_true_faults_are_as_many_as_under_nested_paging():
    assert shell("svm", paging="shadow")[1].true_faults == shell("svm")[1].true_faults


def test_a_state_goes_on_with_empty_shadow_tables():
    vm, console = bundled("shell", "svm", SESSION, engine_options={"paging": "shadow"})
    vm.engine.run(until_ns=3_000_000)
    vm.load_state(vm.save_state())
    vm.engine.run(until_ns=60_000_000_000)
    assert console.output.decode() == shell("svm", paging="shadow")[0]


def test_the_guest_reads_its_own_control_registers():
    vm, _ = bundled("shell", "svm", SESSION, engine_options={"paging": "shadow"})
    vm.engine.run(until_ns=5_000_000)
    engine = vm.engine
    assert isinstance(engine, SvmShadowEngine)
    assert engine.vcpu.cr3 != vm.cpu.cr(3) == engine.shadow.root_mpn << 12


def test_no_other_paging():
    with pytest.raises(AdminError, match="nested and shadow"):
        bundled("isprime", "svm", engine_options={"paging": "paravirtual"})
