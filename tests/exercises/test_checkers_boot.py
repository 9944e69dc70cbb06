"""The checkers of lessons 06 and 07: right answers written otherwise pass, and a mistake is shown where it matters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vilab.costs import CostModel
from vilab.course import checkers_boot as boot
from vilab.course import checkers_comparison as comparison
from vilab.course.feedback import Feedback, WrongAnswer

ALL_RUNS = comparison.FIRST_RUNS + comparison.OTHER_RUNS
ALL_WORK = comparison.FIRST_WORK + comparison.OTHER_WORK
MODELS = (comparison.DEFAULT_COSTS, comparison.CHEAP)


def cycles(counts: Mapping[str, float], costs: CostModel) -> float:
    total = 0.0
    for reason, count in counts.items():
        if reason == "code bytes":
            total += count / costs.code_bytes_per_cycle
        elif reason == "hidden faults":
            total += count * costs.hidden_fault
        elif reason == "trace faults":
            total += count * costs.trace_fault
        elif reason == "simulate":
            total += count * costs.simulate
        elif reason in comparison.TRAPS:
            total += count * costs.trap
        elif reason not in comparison.FREE:
            total += count * costs.callout
    return total


def turning_exit(cycles_at: Callable[[float], tuple[float, float]]) -> float | None:
    """By halving, where the instructor's answer divides."""

    def gap(x: float) -> float:
        software, assisted = cycles_at(x)
        return assisted - software

    low, high = 0.0, 1e6
    if gap(low) * gap(high) > 0:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if gap(low) * gap(middle) > 0 else (low, middle)
    return high


def dominating(lines: list[str], from_ns: int, to_ns: int) -> tuple[str, int]:
    events = [event for event in map(json.loads, lines) if from_ns <= event["at_ns"] < to_ns]
    counts = Counter(event["reason"] for event in events if event["event"] in ("VmExit", "CalloutTaken"))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[0] if counts else ("", 0)


def who(cpuid: Callable[[int], Any], port: Callable[[int, int, int], Any]) -> str | None:
    _, _, features, _ = cpuid(1)
    if features & 1 << 31:
        _, *words = cpuid(0x4000_0000)
        return "".join(chr(word >> shift & 0xFF) for word in words for shift in (0, 8, 16, 24)).replace("\0", "")
    _, ebx, _, _ = port(0x564D_5868, 10, 0x5658)
    return "VMwareVMware" if ebx == 0x564D_5868 else None


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


def test_right_answers_pass_all_cases() -> None:
    assert comparison.check_cycles(cycles, ALL_RUNS, MODELS).right
    assert comparison.check_turning_exit(turning_exit, ALL_WORK, MODELS).right
    assert boot.check_dominating(dominating, boot.FIRST_WINDOWS + boot.OTHER_WINDOWS).right
    assert boot.check_who(who).right
    assert boot.check_who(who, boot.others()).right


def test_who_prices_a_trap_as_a_callout_sees_the_events() -> None:
    feedback = wrong(comparison.check_cycles, lambda counts, costs: sum(counts.values()) * costs.callout, ("syscall",))
    assert "the events come to 3,28" in feedback.sentence
    assert any(line.startswith("int 80") and "2,030" in line for line in feedback.trace)


def test_figures_learnt_by_heart_fail_with_other_costs() -> None:
    def by_heart(counts: Mapping[str, float], _: CostModel) -> float:
        return cycles(counts, comparison.DEFAULT_COSTS)

    assert comparison.check_cycles(by_heart, ALL_RUNS).right
    assert "costs of the cheap" in wrong(comparison.check_cycles, by_heart, ALL_RUNS, MODELS).sentence


def test_an_exit_at_which_they_differ_is_shown_with_both_costs() -> None:
    feedback = wrong(comparison.check_turning_exit, lambda _: 4340.0, ("in",))
    assert "they cost the same nearby" in feedback.sentence
    assert any(line.startswith("4,340") for line in feedback.trace)


def test_a_turn_is_neither_to_be_invented_nor_overlooked() -> None:
    assert "no exit at which" in wrong(comparison.check_turning_exit, lambda _: 1254.0, ("syscall",)).sentence
    assert "there is one" in wrong(comparison.check_turning_exit, lambda _: None, ("in",)).sentence


@pytest.mark.parametrize("answer", [None, "many", True])
def test_what_is_no_number_is_a_sentence(answer: Any) -> None:
    assert "a number is wanted" in wrong(comparison.check_cycles, lambda *_: answer).sentence


def test_who_forgets_the_end_of_the_window_is_shown_the_counts() -> None:
    feedback = wrong(boot.check_dominating, lambda lines, a, _: dominating(lines, a, 1 << 60))
    assert "100000" in feedback.sentence
    assert feedback.trace[0].startswith("reason")


def test_who_looks_for_exits_only_fails_with_the_translators_log() -> None:
    def exits_only(lines: list[str], from_ns: int, to_ns: int) -> tuple[str, int]:
        return dominating([line for line in lines if "CalloutTaken" not in line], from_ns, to_ns)

    assert boot.check_dominating(exits_only).right
    assert "log of bt" in wrong(boot.check_dominating, exits_only, boot.OTHER_WINDOWS).sentence


def test_who_trusts_the_leaf_without_the_bit_is_shown_the_machine_that_lies() -> None:
    def trusts(cpuid: Callable[[int], Any], port: Callable[..., Any]) -> str | None:
        words = cpuid(0x4000_0000)[1:]
        return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0").decode("latin-1") or None

    assert boot.check_who(trusts).right
    feedback = wrong(boot.check_who, trusts, boot.others())
    assert "no monitor" in feedback.sentence
    assert any(line.startswith("cpuid 40000000") for line in feedback.trace)


def test_who_knows_vmware_only_is_told_of_another_monitor() -> None:
    def vmware(_: Any, port: Callable[[int, int, int], Any]) -> str | None:
        return "VMwareVMware" if port(0x564D_5868, 10, 0x5658)[1] == 0x564D_5868 else None

    assert boot.check_who(vmware).right
    assert "KVMKVMKVM" in wrong(boot.check_who, vmware, boot.others()).sentence


def test_machines_answer_the_backdoor_only_to_the_magic_words() -> None:
    def sloppy(_: Any, port: Callable[[int, int, int], Any]) -> str | None:
        return "VMwareVMware" if port(0, 10, 0x5658)[1] == 0x564D_5868 else None

    assert "on vilab, bt" in wrong(boot.check_who, sloppy).sentence.lower()
