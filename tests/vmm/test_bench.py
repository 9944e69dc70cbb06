"""The benchmark's output has its shape; its figures are never judged."""

from __future__ import annotations

import json

import pytest

from vilab.cli import main
from vilab.errors import AdminError
from vilab.vmm import bench_processor
from vilab.vmm.bench import ENTRIES, bench_vmm
from vilab.vmm.bench_guests import PER_ROUND, cpuid_image
from vilab.vmm.bench_measure import paired
from vilab.vmm.vm import VirtualMachine

NAMES = (
    "ring3_bt", "kernel_bt", "call_ret_bt", "cli_sti_bt", "cli_sti_trap", "svm_exits", "block_hook",
    "block_hook_registers", "block_hook_loads", "translate", "exit_roundtrip", "boot_kernel_bt", "start",
)  # fmt: skip
KEYS = {"value", "unit", "baseline", "ratio", "median_of"}


def test_every_promised_entry_is_measured() -> None:
    assert tuple(ENTRIES) == NAMES


def test_json_output_is_one_object_with_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "vmm", "--json", "--quick", "--differential", "3"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {*NAMES, "differential"}
    for name, entry in figures.items():
        assert entry.keys() >= KEYS, name
        assert min(entry["value"], entry["baseline"]) > 0, name
        assert entry["ratio"] == pytest.approx(entry["value"] / entry["baseline"]), name
        assert entry["unit"], name
        assert entry["median_of"] >= 1, name
    assert figures["differential"]["baseline"] == 3


def test_table_for_people_has_a_line_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "vmm", "--quick", "--only", "kernel_bt,block_hook"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["what", "kernel_bt", "block_hook"]


def test_unknown_entry_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(AdminError, match="kernel_bt"):
        bench_vmm(only=["kernel"])


def test_figure_is_the_pair_with_the_median_ratio() -> None:
    values, bases = iter((10.0, 90.0, 30.0)), iter((10.0, 30.0, 15.0))  # ratios 1, 3, 2
    figure = paired(lambda: next(values), lambda: next(bases), "per second", 3)
    assert (figure.value, figure.baseline, figure.ratio, figure.median_of) == (30.0, 15.0, 2.0, 3)


def test_first_of_a_pair_changes() -> None:
    order: list[str] = []

    def sample(who: str) -> float:
        order.append(who)
        return 1.0

    paired(lambda: sample("subject"), lambda: sample("baseline"), "per second", 3)
    assert order == ["baseline", "subject", "subject", "baseline", "baseline", "subject"]


@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
def test_cpuid_loop_asks_once_a_round(engine: str) -> None:
    vm = VirtualMachine(cpuid_image(7), engine, 4 << 20)
    asked: list[int] = []
    answer = vm.cpuid
    vm.cpuid = lambda leaf, subleaf: asked.append(leaf) or answer(leaf, subleaf)  # type: ignore[method-assign,func-returns-value]
    ended = vm.engine.run()
    vm.close()
    assert ended is not None
    assert ended.reason == "returned"
    assert asked == [0] * 7


@pytest.mark.parametrize("name", sorted(PER_ROUND))
def test_rounds_have_the_instructions_that_rates_assume(name: str) -> None:
    from tests.vmm.images import bundled

    counts = []
    for rounds in (10, 30):
        vm, _ = bundled(name, "bare", append=str(rounds), count_instructions=100_000)
        vm.engine.run()
        counts.append(vm.cpu.instructions)
        vm.close()
    each = 4 if name == "bench-cli-sti" else PER_ROUND[name]  # a pair is CLI, STI, DEC, JNZ
    assert counts[1] - counts[0] == 20 * each


@pytest.mark.parametrize("name", sorted(bench_processor.LOOPS))
@pytest.mark.parametrize("block_hook", [True, False])
def test_processor_loops_end(name: str, block_hook: bool) -> None:
    assert bench_processor.loop_rate(name, block_hook, 10) > 0
