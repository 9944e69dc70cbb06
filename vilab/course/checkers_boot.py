"""Exercises of lesson 07: what dominates a log of exits, and who is there. The judges are real logs and real answers.

::

    dominating(lines, from_ns, to_ns)     lines of JSON, as ``vilab run --events FILE`` writes them
    who(cpuid, port)                      questions to the machine, answered as it answered a guest
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial

import msgspec

from vilab.course import exercise_steps as steps
from vilab.course.exercise_guest import BASE, GuestMachine
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.runs import machine
from vilab.devices.backdoor import GETVERSION, MAGIC, PORT
from vilab.events import CalloutTaken, EventLog, VmExit, encode
from vilab.vmm.cpuid import HYPERVISOR, HYPERVISOR_LEAF, TIMING_LEAF
from vilab.x86.assemble import assemble

Registers = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""
Dominating = Callable[[list[str], int, int], tuple[str, int]]
Who = Callable[[Callable[[int], Registers], Callable[[int, int, int], Registers]], "str | None"]

FIRST_WINDOWS = (("svm", 0, 1 << 60), ("svm", 0, 100_000))
OTHER_WINDOWS = (("svm", 500_000, 20_000_000), ("svm", 25_000_000, 25_000_001), ("bt", 0, 1 << 60), ("bt", 0, 60_000))


@cache
def _log(engine: str) -> tuple[tuple[str, int, str], ...]:
    """(line, virtual time, reason of an exit or nothing) of the teaching kernel's run to its end."""
    log = EventLog(keep=True)
    vm = machine("shell", engine, log, typed=b"exit\n")
    vm.engine.run()
    vm.close()
    kinds = (VmExit, CalloutTaken)
    return tuple((encode(e).decode(), e.at_ns, e.reason if isinstance(e, kinds) else "") for e in log.events)


def log_lines(engine: str) -> list[str]:
    """A log of the teaching kernel under ``svm`` or ``bt``, a JSON object a line."""
    return [line for line, _, _ in _log(engine)]


def check_dominating(dominating: Dominating, windows: Sequence[tuple[str, int, int]] = FIRST_WINDOWS) -> Feedback:
    """``dominating(lines, from_ns, to_ns)``: the most frequent reason among exits (``VmExit``) and callouts
    (``CalloutTaken``) from one virtual time up to, but without, another, and how often; of equals the first in the
    alphabet; ``("", 0)`` if there is none."""
    for engine, first, last in windows:
        counts = Counter(reason for _, at, reason in _log(engine) if reason and first <= at < last)
        due = min(((-count, reason) for reason, count in counts.items()), default=(0, ""))
        words = f"dominating(log of {engine}, {first}, {last})"
        said = call(dominating, log_lines(engine), first, last, said=words, steps=400_000)
        if not isinstance(said, tuple | list) or tuple(said) != (due[1], -due[0]):
            rows = [("reason", "how often"), *((n, str(c)) for n, c in sorted(counts.items(), key=lambda x: -x[1])[:6])]
            raise WrongAnswer(f"{words} is {str(said)[:60]}; {(due[1], -due[0])} is right.", columns(rows))
    return right(f"{len(windows)} windows of two logs.")


class Surroundings(msgspec.Struct, frozen=True):
    """A machine as its guest sees it. ``beyond``: what an unknown leaf gives."""

    name: str
    leaves: dict[int, Registers]
    backdoor: Registers | None
    due: str | None
    beyond: Registers = (0, 0, 0, 0)


@cache
def surroundings(engine: str) -> Surroundings:
    """As a guest has really found it under an engine."""
    ask = partial(_asked, engine)
    leaves = {leaf: ask(f"mov eax, {leaf}; cpuid", 2) for leaf in (0, 1, HYPERVISOR_LEAF, TIMING_LEAF)}
    text = f"mov eax, {MAGIC}; xor ebx, ebx; mov ecx, {GETVERSION}; mov edx, {PORT}; in eax, dx"
    answer = ask(text, 5)
    found = answer if answer[1] == MAGIC else None
    return Surroundings(f"vilab, {engine}", leaves, found, None if engine == "bare" else "VMwareVMware")


def _asked(engine: str, text: str, count: int) -> Registers:
    vm = GuestMachine(assemble(text, BASE).code, engine, log=EventLog(keep=True))
    record = list(steps.walk(vm, count))[-1]
    vm.close()
    eax, ecx, edx, ebx = record.guest.gpr[:4]
    return eax, ebx, ecx, edx


def _named(name: str, hypervisor: bool = True, leaf: bytes = b"", port: Registers | None = None) -> Surroundings:
    """A machine with another monitor, or none; its first leaves are those of a bare one here."""
    leaves = dict(surroundings("bare").leaves)
    eax, ebx, ecx, edx = leaves[1]
    leaves[1] = (eax, ebx, ecx | HYPERVISOR if hypervisor else ecx, edx)
    words = [int.from_bytes(leaf.ljust(12, b"\0")[at : at + 4], "little") for at in (0, 4, 8)]
    leaves[HYPERVISOR_LEAF] = (HYPERVISOR_LEAF + 1, words[0], words[1], words[2])
    due = leaf.rstrip(b"\0").decode() if hypervisor else "VMwareVMware" if port else None
    return Surroundings(name, leaves, port, due)


@cache
def others() -> tuple[Surroundings, ...]:
    """Names as the monitors' own sources have them (Linux, arch/x86); leaves beyond the last, as Intel answers them."""
    return (
        _named("KVM", leaf=b"KVMKVMKVM"),
        _named("Hyper-V", leaf=b"Microsoft Hv"),
        _named("Xen", leaf=b"XenVMMXenVMM"),
        _named("no monitor, and the last basic leaf beyond the last", False, b"\x40\x0f\x02\x7f\1\2\3\4\5\6\7\xff"),
        _named("an old VMware without the bit", False, b"", (6, MAGIC, 4, PORT)),
    )


def check_who(who: Who, machines: Sequence[Surroundings] | None = None) -> Feedback:
    """``who(cpuid, port)``: the name that the monitor gives itself, or ``None``.

    Raises ``WrongAnswer`` with the questions that were asked and their answers.
    """
    machines = machines if machines is not None else [surroundings(engine) for engine in ("bare", "bt", "svm")]
    for each in machines:
        asked: list[tuple[str, ...]] = [("question", "EAX", "EBX", "ECX", "EDX")]
        said = call(who, partial(_cpuid, each, asked), partial(_port, each, asked), said=f"who on {each.name}")
        if said != each.due:
            raise WrongAnswer(f"On {each.name} who gives {said!r}; {each.due!r} is right.", columns(asked[:10]))
    return right(f"{len(machines)} machines, each known by what it says of itself.")


def _cpuid(machine_: Surroundings, asked: list[tuple[str, ...]], leaf: int) -> Registers:
    answer = machine_.leaves.get(leaf, machine_.beyond)
    asked.append((f"cpuid {leaf:x}", *(f"{word:08x}" for word in answer)))
    return answer


def _port(machine_: Surroundings, asked: list[tuple[str, ...]], eax: int, ecx: int, edx: int) -> Registers:
    right_words = eax == MAGIC and ecx & 0xFFFF == GETVERSION and edx & 0xFFFF == PORT
    there = machine_.backdoor if right_words else None
    answer = there or (0xFFFF_FFFF, 0, ecx, edx)
    asked.append((f"port {edx & 0xFFFF:x}, {eax:08x}", *(f"{word:08x}" for word in answer)))
    return answer
