"""How fast the engines are: what ``vilab bench vmm`` measures.

=====================  ==========================================================  =====================================
entry                  value                                                       baseline
=====================  ==========================================================  =====================================
ring3_bt               guest code in ring 3 under bt                               the same on the bare processor
kernel_bt              kernel code, loads, stores and branches, under bt           bare
call_ret_bt            kernel code, calls and returns, under bt                    bare
cli_sti_bt             pairs of CLI and STI under bt                               under trap
cli_sti_trap           pairs of CLI and STI under trap                             bare
svm_exits              #VMEXIT per second: a loop around CPUID under svm           callouts of the same loop under bt
block_hook             a mixed loop on the processor with the block hook           without
block_hook_registers   the same, registers only                                    without
block_hook_loads       the same, loads only                                        without
translate              guest instructions translated per second, all included      capstone's disassembly alone
exit_roundtrip         one callout of bt (CPUID), there and back                   an exit with an empty handler
boot_kernel_bt         the teaching kernel from power-on to its prompt under bt    bare
start                  ``vilab run isprime`` as a program                          Python with ``import vilab``
differential           random cases that ended the same under bt as bare           cases run
differential_paging    random page-table programs, the same under every MMU        programs run
hostile                hostile guests that reached nothing, under every engine     guests run
=====================  ==========================================================  =====================================

Both sides of an entry are measured in one process, in turn, with the same preemption (``bench_guests``); the figure is
the pair with the median ratio (``bench_measure``). ``differential`` is there only when it is asked for,
``differential_paging`` and ``hostile`` only when they are also named.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vilab.errors import AdminError, VmmBug
from vilab.vmm import bench_guests as guests
from vilab.vmm import bench_processor as processor
from vilab.vmm.bench_measure import Figure, paired

RATE, PAIRS, SECONDS = "million instructions/s", "thousand pairs/s", "s"
DIFFERENTIAL_SEED = 2006


class Amount(msgspec.Struct, frozen=True):
    """How much is measured. ``rounds`` of work are multiplied by ``work``."""

    pairs: int
    work: float

    def rounds(self, full: int) -> int:
        return max(1, int(full * self.work))


FULL, QUICK = Amount(11, 1.0), Amount(1, 0.001)


def _against_bare(name: str, rounds: int) -> Callable[[Amount], Figure]:
    def measure(amount: Amount) -> Figure:
        n = amount.rounds(rounds)
        one = guests.rate
        return paired(lambda: one(name, "bt", n) / 1e6, lambda: one(name, "bare", n) / 1e6, RATE, amount.pairs)

    return measure


def _cli_sti(subject: tuple[str, int], baseline: tuple[str, int]) -> Callable[[Amount], Figure]:
    def one(engine: str, rounds: int) -> float:
        return guests.rate("bench-cli-sti", engine, rounds) / 1e3

    def measure(amount: Amount) -> Figure:
        (way, rounds), (other, others) = subject, baseline
        return paired(
            lambda: one(way, amount.rounds(rounds)), lambda: one(other, amount.rounds(others)), PAIRS, amount.pairs
        )

    return measure


def _svm_exits(amount: Amount) -> Figure:
    n = amount.rounds(10_000)
    return paired(lambda: guests.cpuid_rate("svm", n), lambda: guests.cpuid_rate("bt", n), "exits/s", amount.pairs)


def _block_hook(loop: str, rounds: int) -> Callable[[Amount], Figure]:
    def measure(amount: Amount) -> Figure:
        n = amount.rounds(rounds)
        one = processor.loop_rate
        return paired(lambda: one(loop, True, n) / 1e6, lambda: one(loop, False, n) / 1e6, RATE, amount.pairs)

    return measure


def _translate(amount: Amount) -> Figure:
    work = processor.Translations()
    try:
        return paired(work.translate, work.disassemble, "instructions/s", amount.pairs)
    finally:
        work.close()


def _exit_roundtrip(amount: Amount) -> Figure:
    n = amount.rounds(20_000)
    return paired(
        lambda: 1e6 / guests.cpuid_rate("bt", n), lambda: processor.exit_us(amount.rounds(50_000)), "us", amount.pairs
    )


def _boot(amount: Amount) -> Figure:
    return paired(lambda: guests.boot_seconds("bt"), lambda: guests.boot_seconds("bare"), SECONDS, amount.pairs)


def _start(amount: Amount) -> Figure:
    run = [sys.executable, "-m", "vilab.cli", "run", "isprime"]
    empty = [sys.executable, "-c", "import vilab"]
    return paired(lambda: _program_seconds(run), lambda: _program_seconds(empty), SECONDS, min(amount.pairs, 5))


def _program_seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise VmmBug(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")
    return seconds


ENTRIES: dict[str, Callable[[Amount], Figure]] = {
    "ring3_bt": _against_bare("bench-ring3", 1_000_000),
    "kernel_bt": _against_bare("bench-ring0-mixed", 1_000_000),
    "call_ret_bt": _against_bare("bench-call-ret", 1_000_000),
    "cli_sti_bt": _cli_sti(("bt", 500_000), ("trap", 5_000)),
    "cli_sti_trap": _cli_sti(("trap", 5_000), ("bare", 1_000_000)),
    "svm_exits": _svm_exits,
    "block_hook": _block_hook("mixed", 2_000_000),
    "block_hook_registers": _block_hook("registers", 50_000_000),
    "block_hook_loads": _block_hook("loads", 20_000_000),
    "translate": _translate,
    "exit_roundtrip": _exit_roundtrip,
    "boot_kernel_bt": _boot,
    "start": _start,
}
"""In the order of the output."""

COMPARED = ("differential", "differential_paging", "hostile")


def bench_vmm(
    quick: bool = False, differential: int = 0, seed: int = DIFFERENTIAL_SEED, only: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Measure everything, or what ``only`` names (about two minutes for all).

    Parameters
    ----------
    quick : as little work as shows that it works; the figures mean nothing.
    differential : number of random cases to compare between bt and the bare processor; 0 leaves the entry out.
        Of page-table programs if ``only`` says ``differential_paging``, of hostile guests if it says ``hostile``.
    seed : of these cases.

    Returns entry -> value, unit, baseline, ratio, median_of; ``differential`` also has the counts of its run.

    Raises
    ------
    AdminError : ``only`` names an entry that does not exist.
    """
    unknown = [name for name in only if name not in ENTRIES and name not in COMPARED]
    if unknown:
        raise AdminError(f"There is no entry {unknown[0]!r} in vmm; there are {', '.join((*ENTRIES, *COMPARED))}.")
    amount = QUICK if quick else FULL
    figures = {
        name: msgspec.to_builtins(measure(amount)) for name, measure in ENTRIES.items() if not only or name in only
    }
    if differential and "differential_paging" in only:
        figures["differential_paging"] = compare_paging(differential, seed)
    if differential and "hostile" in only:
        figures["hostile"] = attack(differential, seed)
    if differential and (not only or "differential" in only):
        figures["differential"] = compare(differential, seed)
    return figures


def compare(cases: int, seed: int) -> dict[str, Any]:
    """The random cases of ``differential.run_differential``. A case counts as good when it ended the same, or when what
    differs is listed there as accepted, with its reason."""
    from vilab.vmm.differential import run_differential

    found = run_differential(cases, seed)
    good, run = found["same"] + found["excused"], found["cases"]
    details = ("engine", "seed", "same", "excused", "different", "instructions", "wall_s", "reports")
    figure = Figure(good, "cases", run, good / run, 1)
    entry: dict[str, Any] = msgspec.to_builtins(figure)
    return entry | {key: found[key] for key in details}


def compare_paging(cases: int, seed: int) -> dict[str, Any]:
    """The random programs of ``differential_paging.run_paging_differential`` under every MMU, and by the manual."""
    from vilab.vmm.differential_paging import all_mmus, run_paging_differential

    found = run_paging_differential(cases, seed, all_mmus())
    run = found["cases"]
    figure = Figure(found["same"], "programs", run, found["same"] / run, 1)
    entry: dict[str, Any] = msgspec.to_builtins(figure)
    return entry | {key: found[key] for key in ("seed", "different", "faults", "wall_s", "reports")}


def attack(guests: int, seed: int) -> dict[str, Any]:
    """The hostile guests of ``hostile_watch.run_hostile`` under every engine."""
    from vilab.vmm.differential_paging import all_mmus
    from vilab.vmm.hostile_watch import run_hostile

    mmus = (*all_mmus(), ("bt", {"placement": "mirrored"}), ("trap", {}))
    found = run_hostile(guests, seed, mmus)
    run = found["guests"] * len(mmus)
    good = run - sum(found["broken"].values())
    entry: dict[str, Any] = msgspec.to_builtins(Figure(good, "guests", run, good / run, 1))
    return entry | {key: found[key] for key in ("endings", "broken", "reports")}
