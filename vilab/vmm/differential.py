"""The same random program under two engines, and the first thing that differs.

::

    case ──> Program ──> memory ──┬──> bare ──> after exactly n instructions ──> Outcome ──┐
                                  └──> bt, svm ──────────── the same n ───────> Outcome ──┴──> differences

The bare machine is the judge: the same processor, no VMM. Everything that a guest could know is compared (registers
with their hidden parts, flags, memory, recorded faults, what was sent to ports, how many instructions have retired),
but not time: engines differ in that, as they should. An external interrupt comes after a given number of instructions.

Differences that are accepted, and why, are in ``differential_accepted``. Machines are reused, since making one costs
more than a case.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from vilab.addresses import PAGE_OFFSET_MASK
from vilab.errors import GuestFault
from vilab.vmm.differential_accepted import (
    FETCHED_AHEAD,
    LEFT_BEHIND,
    STEPPED_BARE,
    STORES_INTO_ITSELF,
    WRITTEN_BY_MONITOR,
    Parting,
    excuse_at_instruction,
    look,
)
from vilab.vmm.differential_machine import BT_OPTIONS, Case, Machine, Outcome, prepare, random_case
from vilab.vmm.records import GPR_NAMES
from vilab.x86.decode import Truncated, decode

_SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Everything that differs, a line each; empty if the outcomes are the same."""
    found = []

    def say(what: str, a: object, b: object) -> None:
        if a != b:
            show = [f"{x:08x}" if isinstance(x, int) and not isinstance(x, bool) else str(x) for x in (a, b)]
            found.append(f"{what}: {show[0]} / {show[1]}")

    say("ended", one.ended, other.ended)
    say("instructions", one.instructions, other.instructions)
    say("halted", one.halted, other.halted)
    a, b = one.vcpu, other.vcpu
    for i, name in enumerate(GPR_NAMES):
        say(name, a.gpr[i] & 0xFFFFFFFF, b.gpr[i] & 0xFFFFFFFF)
    for name in ("eip", "eflags", "cpl", "cr0", "cr2", "cr3", "cr4", "gdtr", "idtr"):
        say(name, getattr(a, name), getattr(b, name))
    for i, name in enumerate(_SEGMENTS):
        say(name, *("%04x base %08x limit %08x flags %08x" % s.segments[i] for s in (a, b)))  # noqa: UP031
    if one.memory != other.memory:
        for at in range(0, len(one.memory), 4):
            x, y = one.memory[at : at + 4], other.memory[at : at + 4]
            if x != y:
                found.append(f"memory {at:05x}: {x.hex()} / {y.hex()}")
    say("ports", one.ports, other.ports)
    return found


class Differential:
    """The judge and the engines under test, kept for many cases. ``options``: of an engine that is not bt."""

    def __init__(self, engine: str = "bt", options: dict[str, Any] | None = None) -> None:
        self.engine, self.options = engine, options or {}
        self._machines: dict[tuple[str, int], Machine] = {}

    def machine(self, engine: str, option: int = 0) -> Machine:
        option = option % len(BT_OPTIONS) if engine == "bt" else 0
        machine = self._machines.get((engine, option))
        if machine is None:
            options = BT_OPTIONS[option] if engine == "bt" else self.options if engine == self.engine else {}
            machine = self._machines[engine, option] = Machine(engine, options)
        return machine

    def drop(self) -> None:
        """Make new machines the next time: an error may have left these in a bad state."""
        for machine in self._machines.values():
            machine.vm.close()
        self._machines.clear()

    def compare(self, case: Case) -> list[str]:
        """Run under both; what differs."""
        _, memory, state = prepare(case)
        outcomes = []
        for engine in ("bare", self.engine):
            machine = self.machine(engine, case.option)
            machine.load(memory, state)
            outcomes.append(machine.run(case))
        return differences(*outcomes)

    # Explaining --------------------------------------------------------------------------------------------------

    def excuse(self, case: Case) -> str | None:
        """The reason from the lists of accepted differences, if the runs part at such an instruction."""
        parting = self.part(case)
        return None if parting is None else self.excuse_parting(parting)

    def excuse_parting(self, parting: Parting) -> str | None:
        reason = excuse_at_instruction(parting, self.engine)
        if reason is not None:
            return reason
        if self._counted_twice(parting.case):
            return STORES_INTO_ITSELF
        if self._fetched_ahead(parting.case):
            return FETCHED_AHEAD
        if self._same_carefully(parting.case, Machine.run):
            return WRITTEN_BY_MONITOR
        return STEPPED_BARE if self._same_carefully(parting.case, Machine.run_stepped) else None

    def _fetched_ahead(self, case: Case) -> bool:
        """Did the bare machine fault at the page behind the one where the other one still runs?"""
        self.compare(case)
        bare, other = (self.machine(name, case.option).vm.engine.vcpu for name in ("bare", self.engine))
        return bare.cr2 != other.cr2 and bare.cr2 == (other.pc | PAGE_OFFSET_MASK) + 1

    def _counted_twice(self, case: Case) -> bool:
        """Is the bare machine where the other is, one instruction later?"""
        _, memory, state = prepare(case)
        outcomes = []
        for name, limit in (("bare", case.limit + 1), (self.engine, case.limit)):
            machine = self.machine(name, case.option)
            machine.load(memory, state)
            outcomes.append(machine.run(msgspec.structs.replace(case, limit=limit)))
        outcomes[0].instructions -= 1
        return not differences(*outcomes)

    def _same_carefully(self, case: Case, run_bare: Callable[[Machine, Case], Outcome]) -> bool:
        _, memory, state = prepare(case)
        outcomes = []
        for name, run in (("bare", run_bare), (self.engine, Machine.run)):
            machine = self.machine(name, case.option)
            machine.load(memory, state)
            machine.write_carefully(True)
            outcomes.append(run(machine, case))
            machine.write_carefully(False)
        return not differences(*outcomes)

    def part(self, case: Case) -> Parting | None:
        """Bisect on the number of instructions. ``None``: the outcomes are the same after all."""
        low, high = 0, case.limit
        while low < high:
            middle = (low + high) // 2
            if self.compare(_shortened(case, middle)):
                high = middle
            else:
                low = middle + 1
        shorter = _shortened(case, low)
        found = self.compare(shorter)
        if not found:
            return None
        _, memory, state = prepare(case)
        bare, lines = self.machine("bare"), []
        parting = Parting(shorter, found)
        for count in range(max(0, low - 8), low):
            bare.load(memory, state)
            bare.run(_shortened(case, count))
            v = bare.vm.engine.vcpu
            parting.cpl, parting.instruction = v.cpl, None
            text = f"{v.eip:08x} ring {v.cpl} "
            try:
                i = decode(v.fetch(), v.eip)
                look(parting, v, i)
                text += f"{i.code.hex():<16} {i.text}"
            except (GuestFault, Truncated) as error:
                text += f"({error})"
            lines.append(f"  {count:4} {text}")
        parting.report = "\n".join(
            [f"after {low} instructions:", *lines, "bare / " + self.engine, *("  " + f for f in found[:20])]
        )
        return parting

    def explain(self, case: Case) -> str:
        """What a failing test prints."""
        parting = self.part(case)
        if parting is None:
            return f"{case}\nno single point of parting found\n" + "\n".join(self.compare(case))
        return f"{case}\n{parting.report}"


def _shortened(case: Case, limit: int) -> Case:
    at = case.interrupt_at if case.interrupt_at < limit else 0
    return msgspec.structs.replace(case, limit=limit, interrupt_at=at)


def run_differential(
    cases: int = 20_000, seed: int = 2006, engine: str = "bt", seconds: float | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare that many random cases with the bare machine.

    Returns counts (``cases``, ``same``, ``excused`` with ``reasons``, ``different``), ``instructions`` executed by
    the bare machine, ``wall_s``, and for up to ten differing cases an explanation. ``seconds`` ends it early.
    """
    rng = random.Random(seed)
    test = Differential(engine, options)
    same = instructions = done = 0
    excused: Counter[str] = Counter()
    different: list[str] = []
    started = time.perf_counter()
    for _ in range(cases):
        if seconds is not None and time.perf_counter() - started > seconds:
            break
        case = random_case(rng)
        done += 1
        found = test.compare(case)
        instructions += test.machine("bare").vm.cpu.instructions
        if not found:
            same += 1
        else:
            parting = test.part(case)
            if parting is not None:
                reason = test.excuse_parting(parting)
            else:
                test.drop()
                reason = None if test.compare(case) else LEFT_BEHIND
            if reason is not None:
                excused[reason] += 1
            elif len(different) < 10:
                different.append(f"{case}\n{parting.report if parting is not None else found}")
    return {
        "engine": engine, "seed": seed, "cases": done, "same": same, "excused": excused.total(),
        "reasons": dict(excused), "different": done - same - excused.total(), "instructions": instructions,
        "wall_s": round(time.perf_counter() - started, 3), "reports": different,
    }  # fmt: skip
