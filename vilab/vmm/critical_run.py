"""The critical instructions, run for real: each snippet as a small guest of its own, under each engine.

::

    critical_environment ──> a guest's kernel: tables, task segment, stack ──> VirtualMachine(engine)
                                                                                     │ a few steps
    expected: worked out from those tables                    answer: what the guest is left with
                         └──────────────── equal? ────────────────┘

Nothing here knows which engine ought to be right. Source of the list: Robin and Irvine, USENIX Security 2000.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.addresses import PAGE_BYTES
from vilab.errors import GuestFault
from vilab.events import CalloutTaken, Event, EventLog, ExceptionDelivered, TrapTaken, VmExit
from vilab.guests.image import LoadedImage
from vilab.vmm.records import Registers
from vilab.vmm.vm import VirtualMachine
from vilab.x86.critical import CRITICAL, After, CriticalInstruction
from vilab.x86.critical_environment import (
    CODE,
    CODE_SELECTOR,
    DATA_SELECTOR,
    MEMORY_BYTES,
    SYSTEM_CALL_VECTOR,
    CriticalEnvironment,
    critical_environment,
)

ENGINES = ("deprivileged", "trap", "bt", "svm")
"""The columns of the table."""

MOST_STEPS = 8
"""No snippet has that many instructions; one that does not arrive is stopped here."""

AFTERWARDS = b"\x90" * 16
"""What stands behind a snippet: a load of SS takes the next instruction along in the same step."""

GENERAL_PROTECTION = 13
NESTED_PAGE_FAULT = 0x400
"""Exit code of a missing entry in the nested tables, which any instruction may meet (AMD APM volume 2, appendix C)."""


class Answer(msgspec.Struct, frozen=True):
    """One instruction under one engine.

    value : what the guest is left with. right : it is what a machine of its own would have given.
    way : how the critical instruction was carried out: ``ran`` as it is, ``trap``, ``in cache``, ``callout``, ``exit``.
    after : the guest's view at the end. guest, cpu : the two truths at the end. events : what was logged.
    """

    engine: str
    value: str
    right: bool
    way: str
    after: After
    guest: Registers
    cpu: Registers
    events: tuple[Event, ...]


class CriticalRow(msgspec.Struct, frozen=True):
    """One instruction under several engines, by the engine's name."""

    instruction: CriticalInstruction
    expected: str
    answers: dict[str, Answer]


def critical_table(
    engines: Sequence[str] = ENGINES, instructions: Sequence[CriticalInstruction] = CRITICAL
) -> list[CriticalRow]:
    """Run every instruction under every engine, each in a fresh virtual machine."""
    environment = critical_environment()
    return [
        CriticalRow(row, row.expected(environment), {engine: run_critical(row, engine) for engine in engines})
        for row in instructions
    ]


def count_right(rows: Sequence[CriticalRow]) -> dict[str, int]:
    """Right answers by engine."""
    return {engine: sum(row.answers[engine].right for row in rows) for engine in rows[0].answers} if rows else {}


def critical_machine(row: CriticalInstruction, engine: str, log: EventLog | None = None) -> VirtualMachine:
    """A virtual machine that stands before the snippet of ``row``, in the environment of the table."""
    environment = critical_environment()
    vm = VirtualMachine(_image(row, environment), engine, MEMORY_BYTES, log=log)
    state = vm.save_state()
    v = state.engine.vcpu
    v.segments = list(environment.segments())
    v.gdtr, v.idtr = environment.gdtr, environment.idtr
    v.cr0 = environment.cr0
    v.eflags = environment.eflags(row.interrupts)
    vm.load_state(state)
    return vm


def run_critical(row: CriticalInstruction, engine: str) -> Answer:
    """Run one snippet under one engine, up to its end, to where it transfers control, or to a fault."""
    environment = critical_environment()
    log = EventLog(keep=True)
    vm = critical_machine(row, engine, log)
    try:
        log.events.clear()
        critical = row.instructions(CODE)[-1].address
        behind = range(CODE + len(row.snippet), CODE + PAGE_BYTES)
        for _ in range(MOST_STEPS):
            eip = vm.engine.vcpu.eip
            if eip in behind or eip in environment.stops or _fault(log.events) is not None:
                break
            if not vm.engine.step_instruction():
                break
        after = _after(vm, _fault(log.events))
        value = row.answer(after)
        return Answer(
            engine=engine, value=value, right=value == row.expected(environment),
            way=_way(log.events, critical, engine), after=after,
            guest=vm.engine.guest_registers(), cpu=vm.engine.cpu_registers(), events=tuple(log.events),
        )  # fmt: skip
    finally:
        vm.close()


def _image(row: CriticalInstruction, environment: CriticalEnvironment) -> LoadedImage:
    return LoadedImage(
        name=row.name, kind="flat", segments=(*environment.memory, (CODE, row.snippet + AFTERWARDS)), zeroed=(),
        entry=environment.eip, gpr={}, esp=environment.esp, gdt_base=environment.gdtr[0],
        gdt_limit=environment.gdtr[1], cs=CODE_SELECTOR, ds=DATA_SELECTOR,
    )  # fmt: skip


def _after(vm: VirtualMachine, fault: int | None) -> After:
    guest = vm.engine.guest_registers()
    try:
        stack = vm.engine.vcpu.read(guest.gpr[4], 8)
    except GuestFault:
        stack = bytes(8)
    return After(guest.gpr, guest.eip, guest.eflags, guest.selectors, stack, fault)


def _fault(events: Sequence[Event]) -> int | None:
    """The vector of an exception that ended the snippet."""
    for event in events:
        if isinstance(event, TrapTaken) and not event.handled:
            # INT n in ring 1 meets a gate of the machine's own table, open to ring 0 only: #GP (Intel SDM, INT n).
            return GENERAL_PROTECTION if event.vector == SYSTEM_CALL_VECTOR else event.vector
        if isinstance(event, ExceptionDelivered) and event.vector != SYSTEM_CALL_VECTOR:
            return event.vector
    return None


def _way(events: Sequence[Event], critical: int, engine: str) -> str:
    """How control went on the critical instruction. Finding the next fragment is no callout of the instruction's."""
    for event in events:
        if isinstance(event, TrapTaken) and event.eip == critical:
            return "trap"
        if isinstance(event, VmExit) and event.eip == critical and event.exit_code < NESTED_PAGE_FAULT:
            return "exit"
        if isinstance(event, CalloutTaken) and event.eip == critical and event.reason not in ("chain", "miss"):
            return "callout"
    return "in cache" if engine == "bt" else "ran"
