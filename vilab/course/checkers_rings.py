"""Exercises of lesson 01: who traps, and what a monitor does about it. The judge is the processor.

``check_traps``      the student's rule against every instruction run at every CPL and IOPL
``check_emulate``    the student's ``emulate`` inside the trap-and-emulate monitor, in step with the same guest on the
                     bare machine
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from vilab.course import exercise_steps as steps
from vilab.course.exercise_guest import BASE, SCRATCH, GuestMachine
from vilab.course.exercise_student import call, yes_or_no
from vilab.course.feedback import Feedback, WrongAnswer, right
from vilab.errors import GuestFault
from vilab.events import Emulated, EventLog, ExceptionDelivered
from vilab.vmm.engine_trap import TrapEngine
from vilab.vmm.records import GPR_NAMES, Registers, StepRecord
from vilab.vmm.vm import VirtualMachine
from vilab.x86.assemble import assemble
from vilab.x86.decode import Instruction
from vilab.x86.flags import IOPL_SHIFT

# Who traps? ----------------------------------------------------------------------------------------------------------

INSTRUCTIONS = (
    "cli", "sti", "hlt", "popf", "pushf", "mov eax, cr3", "mov cr3, eax", "mov eax, cs", "lgdt [ebx]", "sgdt [ebx]",
    "add eax, ecx", "mov eax, [ebx]",
)  # fmt: skip
"""Those that the exercise names."""

MORE_INSTRUCTIONS = (
    "lidt [ebx]", "sidt [ebx]", "lmsw ax", "smsw ax", "lldt ax", "sldt ax", "str ax", "clts", "invlpg [ebx]", "wbinvd",
    "mov eax, cr0", "mov eax, dr7", "rdmsr", "push cs", "push ebp", "call ebx", "xchg eax, [ebx]",
)  # fmt: skip
"""Others, for which the same rule holds."""


@cache
def _run_once(instruction: str, cpl: int, iopl: int) -> tuple[StepRecord, Registers]:
    """The instruction on the bare machine: the step, and the registers before it."""
    vm = GuestMachine(
        assemble(instruction, BASE).code, cpl=cpl, eflags=iopl << IOPL_SHIFT,
        gpr={"ebx": BASE + SCRATCH, "ecx": 0x10}, log=EventLog(keep=True),
    )  # fmt: skip
    before = vm.engine.guest_registers()
    record = next(steps.walk(vm, 1))
    vm.close()
    return record, before


def trapped(record: StepRecord) -> bool:
    return any(isinstance(event, ExceptionDelivered) and event.vector == 13 for event in record.events)


def check_traps(
    traps: Callable[[str, int, int], bool], cpls: Sequence[int] = (0, 1, 3), iopls: Sequence[int] = (0,),
    instructions: Sequence[str] = INSTRUCTIONS,
) -> Feedback:  # fmt: skip
    """``traps(instruction, cpl, iopl)``: does it raise #GP there? Asked for every combination.

    Raises ``WrongAnswer`` at the first that the processor answers otherwise.
    """
    cases = [(i, cpl, iopl) for i in instructions for cpl in cpls for iopl in iopls]
    for instruction, cpl, iopl in cases:
        words = f"traps({instruction!r}, {cpl}, {iopl})"
        said = yes_or_no(call(traps, instruction, cpl, iopl, said=words), words)
        record, before = _run_once(instruction, cpl, iopl)
        if said != trapped(record):
            names = ["EIP", "ring", *steps.differences(before, record.guest, ("EAX", "ESP", "EFLAGS", "CR3"))]
            raise WrongAnswer(
                f"{words} returned {said}, but the processor {'raises #GP' if not said else 'runs it without a trap'}.",
                (*steps.lines([record]), *steps.table({"before": before, "after": record.guest}, names)),
            )
    return right(f"{len(cases)} cases, each as the processor does it.")


# A monitor's emulate -------------------------------------------------------------------------------------------------

REFLECT = "reflect"
"""What ``emulate`` returns when the trap is not the monitor's to hide: the guest gets its #GP."""

EMULATED = frozenset(("cli", "sti", "hlt", "mov from cr", "mov to cr"))


class Guest(msgspec.Struct):
    """What the guest has set, for the student to change.

    gpr : ``{"eax": ..., "ecx": ..., ...}``. eip, eflags, cpl, cr2, cr3 : numbers; IF is bit 9 of ``eflags``.
    halted : True puts the vCPU to sleep.
    """

    gpr: dict[str, int]
    eip: int
    eflags: int
    cpl: int
    cr2: int
    cr3: int
    halted: bool = False


Emulate = Callable[[Guest, Instruction], str | None]


def _is_theirs(i: Instruction) -> bool:
    """CR0 and CR4 change how everything else works: they stay with the VMM."""
    return i.op in EMULATED and (i.op in ("cli", "sti", "hlt") or i.reg in (2, 3))


class StudentEngine(TrapEngine):
    """Trap and emulate, with the student's function for some instructions."""

    def __init__(self, vm: VirtualMachine, emulate: Emulate) -> None:
        super().__init__(vm)
        self._students = emulate

    def _trap(self, number: int) -> None:
        instruction = self.instruction()
        if number == 13 and instruction is not None and _is_theirs(instruction):
            self._ask(instruction)
        else:
            super()._trap(number)

    def _ask(self, i: Instruction) -> None:
        v = self.vcpu
        eip = v.eip
        self.exits[i.op] += 1
        self._log_trap(eip, 13, 0, i.code, self._why(i))
        self.charge(self.costs.trap)
        flags = v.eflags()
        guest = Guest(dict(zip(GPR_NAMES, v.gpr, strict=True)), eip, flags, v.cpl, v.cr2, v.cr3)
        words = f"emulate(guest, {i.text!r})"
        answer = call(self._students, guest, i, said=words)
        if answer == REFLECT:
            self.inject(GuestFault(13, 0, why="reflected"))
            return
        if answer is not None:
            raise WrongAnswer(f"{words} returned {answer!r}; it returns nothing, or REFLECT.")
        self._take_over(guest, flags, words)
        if self.log.active:
            self.log.emit(Emulated(self.now_ns(), eip, i.code, "as emulate() says"))
        if guest.halted:
            self.halt()

    def _take_over(self, guest: Guest, flags: int, words: str) -> None:
        v = self.vcpu
        numbers = {**guest.gpr, "eip": guest.eip, "eflags": guest.eflags, "cr2": guest.cr2, "cr3": guest.cr3}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise WrongAnswer(f"{words} has left {value!r} in {name}, which is a number.")
        if set(guest.gpr) != set(GPR_NAMES):
            raise WrongAnswer(f"{words} has made a register {', '.join(set(guest.gpr) ^ set(GPR_NAMES))} come or go.")
        for index, name in enumerate(GPR_NAMES):
            v.gpr[index] = guest.gpr[name] & 0xFFFFFFFF
        v.eip = guest.eip & 0xFFFFFFFF
        if guest.eflags != flags:
            v.set_eflags(guest.eflags & 0xFFFFFFFF)
        v.cr2 = guest.cr2 & 0xFFFFFFFF
        if guest.cr3 != v.cr3:
            v.set_cr(3, guest.cr3 & 0xFFFFFFFF)


class Program(msgspec.Struct, frozen=True):
    """A guest for ``check_emulate``: assembly text, and the ring that it starts in."""

    text: str
    cpl: int = 0
    eflags: int = 0


KERNEL = Program("mov eax, 0x205000; mov cr3, eax; sti; mov ecx, cr3; cli; hlt")
"""A piece of kernel that uses all of them."""

OTHER_PROGRAMS = (
    Program("mov esi, 0x123000; mov cr3, esi; mov ebp, cr3; xor edi, edi; mov cr3, edi; mov edi, cr3; hlt"),
    Program("stc; cli; sti; setc al; sub ecx, ecx; cli; setz ah; sti; hlt"),
    Program("mov edx, 0xdeadbeef; mov cr2, edx; mov cr3, edx; mov ebx, cr2; mov eax, cr3; cli; hlt", eflags=0x200),
    Program("mov eax, 7; cli", cpl=3, eflags=0x200),
    Program("mov eax, cr3", cpl=3, eflags=0x200),
    Program("hlt", cpl=3, eflags=0x200),
)
"""Other registers, flags that must live, and programs in ring 3."""


def check_emulate(emulate: Emulate, programs: Sequence[Program] = (KERNEL,)) -> Feedback:
    """Run each program under a monitor with the student's ``emulate``, and on the bare machine.

    Raises ``WrongAnswer`` at the first step after which the guest sees a difference.
    """
    count = 0
    for program in programs:
        expected = _bare_steps(program)
        count += len(expected)
        _compare(program, emulate, expected)
    return right(f"{count} steps of {len(programs)} guest{'s' * (len(programs) > 1)}, each as on the bare machine.")


@cache
def _bare_steps(program: Program) -> tuple[StepRecord, ...]:
    vm = _machine(program, None)
    records = tuple(steps.walk(vm, 100))
    vm.close()
    return records


def _machine(program: Program, emulate: Emulate | None) -> VirtualMachine:
    maker = None if emulate is None else (lambda vm: StudentEngine(vm, emulate))
    return GuestMachine(
        assemble(program.text, BASE).code, "bare" if emulate is None else "trap", cpl=program.cpl,
        eflags=program.eflags, log=EventLog(keep=True), make_engine=maker,
    )  # fmt: skip


def _compare(program: Program, emulate: Emulate, expected: Sequence[StepRecord]) -> None:
    vm = _machine(program, emulate)
    before = vm.engine.guest_registers()
    done: list[StepRecord] = []
    try:
        for record in steps.walk(vm, len(expected) + 1):
            done.append(record)
            text = f"{record.mnemonic} {record.operands}".strip()
            if len(done) > len(expected):
                sentence = f"The guest has halted on the bare machine; under yours it goes on with {text}."
                raise WrongAnswer(sentence, steps.lines(done))
            theirs = expected[len(done) - 1].guest
            names = steps.differences(record.guest, theirs)
            if names:
                states = {"before": before, "yours": record.guest, "bare machine": theirs}
                raise WrongAnswer(
                    _difference(text, names, record, theirs, before), (*steps.lines(done), *steps.table(states, names))
                )
            before = record.guest
        if len(done) < len(expected):
            raise WrongAnswer("Your guest stops here; on the bare machine it goes on.", steps.lines(done))
    except WrongAnswer as wrong:
        if wrong.feedback.trace:
            raise
        raise WrongAnswer(wrong.feedback.sentence, steps.lines(done) if done else ()) from None
    finally:
        vm.close()


def _difference(text: str, names: list[str], mine: StepRecord, theirs: Registers, before: Registers) -> str:
    if mine.guest.eip == before.eip:
        hint = "EIP still stands on the instruction, so it would trap again for ever."
    elif mine.cpl == 3 and theirs.cpl == 0:
        hint = "A program in ring 3 may not do that: on the bare machine the guest's own #GP handler runs."
    elif names == ["EFLAGS"]:
        hint = f"The flags differ in {steps.flag_names(mine.guest.eflags ^ theirs.eflags)}."
    else:
        hint = f"{', '.join(names)} differ{'s' * (len(names) == 1)} from the bare machine's."
    return f"After {text} at {mine.eip:08x} the guest sees the difference. {hint}"
