"""The same program of page-table edits and accesses under several MMUs, and the first thing that differs.

::

    choices ──> proper steps ──┬──> model (what the manual says) ──┐
                               ├──> bare (the judge) ──────────────┼──> memory, A and D bits, faults ──> differences
                               └──> bt, svm, ... ──────────────────┘

Compared is all of guest memory, in which the guest's own handler has recorded every exception (vector, error code,
CR2, EIP, registers) in order, and the registers at the end. The programs are such that the outcome cannot depend on
what a TLB holds (``differential_paging_model``), so there are no accepted differences. Time is not compared.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from vilab.devices.pic import reset_state
from vilab.guests.image import LoadedImage
from vilab.machine.memory import Bytes
from vilab.vmm import differential_paging_guest as g
from vilab.vmm.differential_code.choice import Choice
from vilab.vmm.differential_machine import StandInPorts
from vilab.vmm.differential_paging_code import HEAD_BYTES, KINDS, Step, assemble, proper_steps
from vilab.vmm.differential_paging_model import Model
from vilab.vmm.engine_state import EngineState
from vilab.vmm.records import GPR_NAMES
from vilab.vmm.shadow_policy import POLICIES
from vilab.vmm.vm import VirtualMachine, VmState

Mmu = tuple[str, dict[str, Any]]
"""An engine and its options."""

BT_MMUS: tuple[Mmu, ...] = tuple(("bt", {"trace": policy}) for policy in POLICIES)
MMUS: tuple[Mmu, ...] = (BT_MMUS[0], ("svm", {}))
TIME_LIMIT_NS = 200_000_000
_RECORD = struct.Struct("<12I")


def all_mmus() -> tuple[Mmu, ...]:
    """Shadow tables under each trace policy; nested tables; under hardware assist shadow tables too."""
    return *BT_MMUS, ("svm", {}), *(("svm", {"paging": "shadow", "trace": trace}) for trace in POLICIES)


class PagingCase(msgspec.Struct, frozen=True):
    """One program. ``rounds``: how often it is run through, so that the same instruction meets a page table again.

    ``large``: it begins with CR4.PSE set.
    """

    choices: tuple[Choice, ...]
    rounds: int = 1
    large: bool = False


class PagingOutcome(msgspec.Struct):
    """Where a run stands. ``records``: exceptions as the guest's handler saw them."""

    ended: str
    registers: dict[str, int]
    memory: Bytes
    records: list[tuple[int, ...]]


class PagingMachine:
    """A virtual machine that is used again and again."""

    def __init__(self, mmu: Mmu) -> None:
        self.name, options = mmu
        image = LoadedImage(
            name="differential", kind="flat", segments=(), zeroed=(), entry=g.PROGRAM, gpr={}, esp=g.KERNEL_STACK,
            gdt_base=g.GDT, gdt_limit=0x2F, cs=g.KERNEL_CS, ds=g.KERNEL_SS,
        )  # fmt: skip
        self.vm = VirtualMachine(image, self.name, g.MEMORY_BYTES, engine_options=dict(options))
        self.vm.pc = StandInPorts(self.vm)  # type: ignore[assignment]
        start = self.vm.pmap.mpn_of[0] << 12
        self._memory = self.vm.machine_memory.bytes[start : start + g.MEMORY_BYTES]

    def run(self, program: bytes) -> PagingOutcome:
        """Start again, run to the end."""
        vm = self.vm
        self._memory[:] = np.frombuffer(g.empty_world(), dtype=np.uint8)
        self._memory[g.PROGRAM : g.PROGRAM + len(program)] = np.frombuffer(program, dtype=np.uint8)
        vm.cpu.forget_code()
        engine = EngineState(g.start_state(), 0, 0, False, None)
        vm.load_state(VmState(self.name, engine, reset_state(), b""), memory=False)  # type: ignore[arg-type]
        ended = vm.engine.run(until_ns=TIME_LIMIT_NS)
        v = vm.engine.vcpu
        registers = {name: v.gpr[i] & 0xFFFFFFFF for i, name in enumerate(GPR_NAMES)}
        registers |= {name: getattr(v, name) for name in ("eip", "cr0", "cr2", "cr3", "cr4", "cpl")}
        registers["eflags"] = v.eflags()
        memory = self._memory.copy()
        return PagingOutcome(ended.reason if ended is not None else "time", registers, memory, _records(memory))


def _records(memory: Bytes) -> list[tuple[int, ...]]:
    count = (int(memory[g.NEXT_RECORD : g.NEXT_RECORD + 4].view(np.uint32)[0]) - g.RECORDS) // g.RECORD_BYTES
    count = max(0, min(count, g.MOST_RECORDS))
    return [_RECORD.unpack_from(memory.data, g.RECORDS + i * g.RECORD_BYTES) for i in range(count)]


def _show(record: tuple[int, ...] | None) -> str:
    if record is None:
        return "no further exception"
    vector, error, eip, cs, flags, *_, cr2, ebx, ecx, esi, edi = record
    where = f"vector {vector:x} error {error:x} cr2 {cr2:08x} at {cs:x}:{eip:08x}"
    return f"{where} flags {flags:x} ebx {ebx:08x} ecx {ecx:08x} esi {esi:08x} edi {edi:08x}"


def differences(one: PagingOutcome, other: PagingOutcome) -> list[str]:
    """Everything that differs, a line each; empty if the outcomes are the same."""
    found = []
    if one.ended != other.ended:
        found.append(f"ended: {one.ended} / {other.ended}")
    for number in range(max(len(one.records), len(other.records))):
        a, b = (o.records[number] if number < len(o.records) else None for o in (one, other))
        if a != b:
            found.append(f"exception {number}: {_show(a)} / {_show(b)}")
            break
    for name, value in one.registers.items():
        if value != other.registers[name]:
            found.append(f"{name}: {value:08x} / {other.registers[name]:08x}")
    if not np.array_equal(one.memory, other.memory):
        x, y = one.memory.view(np.uint32), other.memory.view(np.uint32)
        for at in np.flatnonzero(x != y)[:12]:
            if not g.RECORDS <= at * 4 < g.RECORDS + 0x4000:
                found.append(f"memory {at * 4:06x}: {x[at]:08x} / {y[at]:08x}")
    return found


def model_differences(model: Model, bare: PagingOutcome) -> list[str]:
    """Where the judge itself is not what the manual says."""
    found = []
    seen = [(r[0], r[1], r[7] if r[0] == 14 else 0) for r in bare.records if r[0] != g.RETURN_VECTOR]
    for number in range(max(len(seen), len(model.faults))):
        a, b = (faults[number] if number < len(faults) else None for faults in (model.faults, seen))
        if a != b:
            show = ["none" if f is None else f"vector {f[0]:x} error {f[1]:x} cr2 {f[2]:08x}" for f in (a, b)]
            found.append(f"fault {number}: {show[0]} / {show[1]}")
            break
    for frame, content in model.frames.items():
        real = bare.memory[frame << 12 : (frame + 1) << 12].tobytes()
        if real != content:
            at = next(at for at in range(0, 4096, 4) if real[at : at + 4] != content[at : at + 4])
            found.append(f"frame {frame:x} at {at:03x}: {content[at : at + 4].hex()} / {real[at : at + 4].hex()}")
    return found


class PagingDifferential:
    """The judge, the model, and the MMUs under test, kept for many cases."""

    def __init__(self, mmus: Sequence[Mmu] = MMUS) -> None:
        self.mmus = tuple(mmus)
        self._machines: dict[str, PagingMachine] = {}
        self.faults = 0
        """That the last program met."""

    def machine(self, mmu: Mmu) -> PagingMachine:
        machine = self._machines.get(str(mmu))
        if machine is None:
            machine = self._machines[str(mmu)] = PagingMachine(mmu)
        return machine

    def drop(self) -> None:
        """Make new machines the next time."""
        for machine in self._machines.values():
            machine.vm.close()
        self._machines.clear()

    def compare(self, case: PagingCase, mmus: Sequence[Mmu] | None = None) -> dict[str, list[str]]:
        """What differs under each MMU (and ``model``) that does not agree with the bare processor."""
        steps, model = proper_steps(case.choices, case.rounds, case.large)
        program, self.faults = assemble(steps, case.rounds), len(model.faults)
        bare = self.machine(("bare", {})).run(program)
        found = {"model": model_differences(model, bare)}
        for mmu in self.mmus if mmus is None else mmus:
            try:
                found[named(mmu)] = differences(bare, self.machine(mmu).run(program))
            except Exception as error:  # a monitor that fails is a difference as any other
                found[named(mmu)] = [f"{type(error).__name__}: {error}"]
                self._machines.pop(str(mmu)).vm.close()
        return {name: lines for name, lines in found.items() if lines}

    def shrink(self, case: PagingCase, name: str) -> PagingCase:
        """A shorter case that still differs under the MMU of that name."""
        mmus = [mmu for mmu in self.mmus if named(mmu) == name]

        def fails(choices: tuple[Choice, ...], rounds: int) -> bool:
            return name in self.compare(PagingCase(choices, rounds, large), mmus)

        choices, rounds, large = case.choices, case.rounds, case.large
        while rounds > 1 and fails(choices, rounds - 1):
            rounds -= 1
        size = max(1, len(choices) // 2)
        while size:
            at = 0
            while at < len(choices):
                shorter = choices[:at] + choices[at + size :]
                if fails(shorter, rounds):
                    choices = shorter
                else:
                    at += size
            size //= 2
        while rounds > 1 and fails(choices, rounds - 1):
            rounds -= 1
        return PagingCase(choices, rounds, large)

    def explain(self, case: PagingCase, name: str) -> str:
        """The shortest such program, step by step, and what differs."""
        case = self.shrink(case, name)
        steps, model = proper_steps(case.choices, case.rounds, case.large)
        mmus = [mmu for mmu in self.mmus if named(mmu) == name]
        found = self.compare(case, mmus).get(name, ["nothing, the second time"])
        judge = "model / bare" if name == "model" else f"bare / {name}"
        faults = ", ".join(f"{v:x}({e:x}) {a:08x}" for v, e, a in model.faults)
        return "\n".join(
            [f"{case}", *_listing(steps), f"faults by the model: {faults}", judge, *("  " + f for f in found)]
        )


def _listing(steps: list[Step]) -> list[str]:
    lines, at = [], g.PROGRAM + 10
    user = False
    for step in steps:
        if step.user != user:
            at += HEAD_BYTES + (22 if step.user else 2)
            user = step.user
        lines.append(f"  {at:05x} ring {3 if step.user else 0}  {step.text}")
        at += HEAD_BYTES + len(step.code)
    return lines


def named(mmu: Mmu) -> str:
    """``bt trace=lazy``"""
    return " ".join([mmu[0], *(f"{key}={value}" for key, value in mmu[1].items())])


def random_paging_case(rng: random.Random) -> PagingCase:
    """Mostly one long program; some short ones again and again."""
    rounds = rng.choice((1, 1, 1, 1, 1, 2, 3, 12))
    most = {1: 45, 2: 25, 3: 20, 12: 8}[rounds]
    count = rng.randint(1, most)
    return PagingCase(
        tuple((rng.randrange(KINDS), rng.getrandbits(72)) for _ in range(count)), rounds, rng.random() < 0.5
    )


def run_paging_differential(
    cases: int = 20_000, seed: int = 2006, mmus: Sequence[Mmu] = MMUS, seconds: float | None = None, reports: int = 5
) -> dict[str, Any]:
    """Compare that many random cases with the bare processor, and that with the model.

    Returns ``cases``, ``same``, ``different`` (by MMU), ``faults`` (exceptions that the guests saw), ``wall_s``,
    and ``reports``.
    """
    rng = random.Random(seed)
    test = PagingDifferential(mmus)
    different = dict.fromkeys(["model", *map(named, mmus)], 0)
    explained: list[str] = []
    done = same = faults = 0
    started = time.perf_counter()
    for _ in range(cases):
        if seconds is not None and time.perf_counter() - started > seconds:
            break
        case = random_paging_case(rng)
        found = test.compare(case)
        done += 1
        same += not found
        faults += test.faults
        for name in found:
            different[name] += 1
            if sum(name + "\n" in text for text in explained) < reports:
                explained.append(f"{name}\n{test.explain(case, name)}")
    test.drop()
    return {
        "seed": seed, "cases": done, "same": same, "different": different, "faults": faults,
        "wall_s": round(time.perf_counter() - started, 3), "reports": explained,
    }  # fmt: skip
