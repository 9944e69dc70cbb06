"""Exercises of lesson 02: POPF to the bit, and a program that finds out where it runs. The judge is the processor.

``check_popf``    the student's EFLAGS after POPF against the processor's, ring by ring
``check_pill``    the student's assembly, run on the bare machine and under each monitor
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from vilab.course import exercise_steps as steps
from vilab.course.exercise_guest import BASE, GuestMachine
from vilab.course.exercise_student import call, whole_number
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.errors import VilabError
from vilab.events import EventLog
from vilab.vmm.records import StepRecord
from vilab.vmm.vcpu import VcpuState
from vilab.x86 import flags as f
from vilab.x86.assemble import AssemblyError, assemble
from vilab.x86.encode import push_imm

# POPF ----------------------------------------------------------------------------------------------------------------

POPPABLE = f.DEFINED & ~(f.TF | f.RF | f.VM | f.VIF | f.VIP)
"""What EFLAGS may hold before: TF would stop the guest after each instruction, the others belong to other modes."""

NOTABLE = (f.ONE, f.ONE | f.IF, f.ONE | f.IF | f.IOPL, f.ONE | f.STATUS | f.DF, 0xFFFF_FFFF & ~f.TF)
"""Values to pop that say most."""


def _popf_cases(cpls: Sequence[int], iopls: Sequence[int], seed: int) -> Iterator[tuple[int, int, int]]:
    """(eflags, popped, cpl)"""
    rng = random.Random(seed)
    for cpl in cpls:
        for iopl in iopls:
            for interrupts in (f.IF, 0):
                start = f.ONE | iopl << f.IOPL_SHIFT | interrupts
                for popped in NOTABLE:
                    yield start, popped, cpl
                yield start | rng.getrandbits(32) & POPPABLE & ~(f.IF | f.IOPL), rng.getrandbits(32) & ~f.TF, cpl


def _pop_and_push(eflags: int, popped: int, cpl: int) -> list[StepRecord]:
    """``push popped; popf; pushf; pop eax`` on the bare machine, step by step."""
    code = push_imm(popped) + assemble("popf; pushf; pop eax").code
    vm = GuestMachine(code, cpl=cpl, eflags=eflags, log=EventLog(keep=True))
    try:
        return list(steps.walk(vm, 4))
    finally:
        vm.close()


def check_popf(
    popf: Callable[[int, int, int], int], cpls: Sequence[int] = (0, 3), iopls: Sequence[int] = (0,), seed: int = 1
) -> Feedback:
    """``popf(eflags, popped, cpl)``: EFLAGS afterwards. Asked for notable and random values at each CPL and IOPL.

    Raises ``WrongAnswer`` at the first that the processor answers otherwise.
    """
    count = 0
    for eflags, popped, cpl in _popf_cases(cpls, iopls, seed):
        words = f"popf(0x{eflags:x}, 0x{popped:x}, {cpl})"
        said = whole_number(call(popf, eflags, popped, cpl, said=words), words)
        records = _pop_and_push(eflags, popped, cpl)
        there = records[1].guest.eflags
        if said != there:
            rows = [
                ("EFLAGS before", f.describe(eflags)), ("popped", f"0x{popped:08x}"),
                ("yours", f.describe(said & 0xFFFFFFFF)), ("the processor's", f.describe(there)),
            ]  # fmt: skip
            raise WrongAnswer(
                f"{words} returned 0x{said:x}; in ring {cpl} with IOPL {f.iopl(eflags)} the processor has 0x{there:x}: "
                f"{steps.flag_names((said ^ there) & 0xFFFFFFFF)} differ.",
                (*columns(rows), *steps.lines(records),
                 f"The guest reads {records[3].guest.gpr[0]:08x} with its next pushf; yours would give it {said:08x}."),
            )  # fmt: skip
        count += 1
    return right(f"{count} cases, each as the processor does it.")


# The pill ------------------------------------------------------------------------------------------------------------


class Surroundings(msgspec.Struct, frozen=True):
    """What a pill may find when it starts. Ring 0 as far as the guest knows, flat segments, no paging.

    idt : where the guest's IDT is, ``None``: beside its code. cr0 : as the guest has set it.
    """

    name: str
    base: int = BASE
    eflags: int = 0
    idt: int | None = None
    cr0: int = 0x11
    gpr: Mapping[str, int] = {}


PLAIN = Surroundings("a plain kernel")
OTHERS = (
    Surroundings("a kernel that runs with interrupts on", eflags=f.IF, gpr={"eax": 1, "ecx": 0xFFFFFFFF, "ebx": 3}),
    Surroundings("a kernel whose IDT lies high", idt=0xF800_0000, eflags=f.STATUS),
    Surroundings("a kernel that has set CR0.NE", base=BASE + 0x40000, cr0=0x33, gpr={"eax": 0x80000000, "edx": 7}),
)
MOST_STEPS = 300

NAMES = {
    "bare": "on the bare machine", "trap": "under trap and emulate", "bt": "under binary translation",
    "svm": "under hardware assist",
}  # fmt: skip


class PillMachine(GuestMachine):
    """The guest in its surroundings."""

    def __init__(self, code: bytes, engine: str, around: Surroundings, log: EventLog) -> None:
        self._around = around
        super().__init__(code, engine, eflags=around.eflags, gpr=around.gpr, base=around.base, log=log)

    def initial_state(self) -> VcpuState:
        state = super().initial_state()
        state.cr0 = self._around.cr0
        if self._around.idt is not None:
            state.idtr = (self._around.idt, 0x7FF)
        return state


def take_pill(pill: str, engine: str, around: Surroundings = PLAIN) -> list[StepRecord]:
    """The steps of a pill up to its HLT. ``WrongAnswer``: it cannot be assembled, or does not get there."""
    if not isinstance(pill, str):
        raise WrongAnswer(f"The pill is {type(pill).__name__}; assembly text is wanted.")
    try:
        code = assemble(pill, around.base).code
    except AssemblyError as error:
        raise WrongAnswer(f"The pill cannot be assembled: {error}.") from None
    records: list[StepRecord] = []
    vm = PillMachine(code, engine, around, EventLog(keep=True))
    try:
        for record in steps.walk(vm, MOST_STEPS):
            records.append(record)
        halted = vm.engine.halted and around.base <= vm.engine.vcpu.eip - 1 < around.base + len(code)
    except VilabError as error:
        raise WrongAnswer(f"The pill's run {NAMES[engine]} was stopped: {error}", steps.lines(records)) from None
    finally:
        vm.close()
    if not halted:
        end = (
            f"was still running after {MOST_STEPS} steps"
            if len(records) == MOST_STEPS
            else "did not end in its own hlt"
        )
        raise WrongAnswer(f"In {around.name}, {NAMES[engine]}, the pill {end}.", steps.lines(records))
    return records


def check_pill(
    pill: str, finds: Sequence[str] = ("trap",), passes: Sequence[str] = ("bare",),
    surroundings: Sequence[Surroundings] = (PLAIN,),
) -> Feedback:  # fmt: skip
    """The pill ends with HLT and leaves EAX 1 under the engines of ``finds`` and 0 under those of ``passes``.

    Raises ``WrongAnswer`` with the pill's own steps where it is mistaken.
    """
    for around in surroundings:
        for engine, wanted in (*((e, 0) for e in passes), *((e, 1) for e in finds)):
            records = take_pill(pill, engine, around)
            last = records[-1]
            got = last.guest.gpr[0] & 0xFFFFFFFF
            if got != wanted:
                both = {"the guest set": last.guest, "the CPU holds": last.cpu}
                end = ("At the end:", *steps.table(both, ("EAX", "ring", "CR0", "EFLAGS")))
                raise WrongAnswer(
                    f"In {around.name}, {NAMES[engine]}, EAX is {got:x} at the end and {wanted} was wanted.",
                    (*steps.lines(records), *end),
                )
    ones, zeros = (", ".join(NAMES[engine] for engine in engines) for engines in (finds, passes))
    return right(f"{len(surroundings) * (len(finds) + len(passes))} runs: EAX is 1 {ones} and 0 {zeros}.")
