"""Steps of a real run, as values and as the lines of a counter-example.

::

    step  eip       instruction    ring  what happened
    1     00100000  cli            0     TrapTaken #GP, CPL 1 > IOPL 0 · Emulated vIF <- 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vilab.course.feedback import columns
from vilab.errors import VECTOR_NAMES, GuestFault
from vilab.events import (
    CalloutTaken,
    Emulated,
    Event,
    ExceptionDelivered,
    FragmentChained,
    Halted,
    RunEnded,
    TrapTaken,
    TrueFault,
    UnitTranslated,
    VmExit,
)
from vilab.vmm.records import GPR_NAMES, Registers, StepRecord
from vilab.vmm.vm import VirtualMachine
from vilab.x86.decode import Truncated, decode
from vilab.x86.flags import BITS, describe, iopl

MOST_SHOWN = 12


def walk(vm: VirtualMachine, limit: int) -> Iterator[StepRecord]:
    """Run at most ``limit`` steps, giving each as it was. HLT is the last: nothing in these guests wakes it.

    The machine must keep its log (``EventLog(keep=True)``).
    """
    engine, log = vm.engine, vm.log
    for index in range(1, limit + 1):
        first = len(log.events)
        if not engine.step_to_instruction():
            return
        v = engine.vcpu
        eip, cpl = v.eip, v.cpl
        how, cpu_cpl = engine.how_next()
        tc_address = engine.tc_address()
        try:
            instruction = decode(v.fetch(), eip)
            code, mnemonic, operands = instruction.code, instruction.mnemonic, instruction.operands
        except (GuestFault, Truncated):
            code, mnemonic, operands = b"", "?", ""
        engine.step_raw()
        yield StepRecord(
            index=index, virtual_ns=engine.now_ns(), eip=eip, code=code, mnemonic=mnemonic, operands=operands, cpl=cpl,
            cpu_cpl=cpu_cpl, how=how, tc_address=tc_address, events=tuple(log.events[first:]),
            guest=engine.guest_registers(), cpu=engine.cpu_registers(),
        )  # fmt: skip
        if engine.halted or engine.ended is not None:
            return


def lines(records: Sequence[StepRecord], most: int = MOST_SHOWN) -> tuple[str, ...]:
    """The last steps of a run, a line each."""
    rows = [("step", "eip", "instruction", "ring", "what happened")]
    if len(records) > most:
        rows.append(("...", "", f"{len(records) - most} steps", "", ""))
    for r in records[-most:]:
        said = " · ".join(word for word in map(event_words, r.events) if word)
        rows.append((str(r.index), f"{r.eip:08x}", f"{r.mnemonic} {r.operands}".strip(), str(r.cpl), said or r.how))
    return columns(rows)


def event_words(event: Event) -> str:
    """An event in a few words; empty for those that explain nothing here."""
    match event:
        case TrapTaken():
            return f"traps: {VECTOR_NAMES.get(event.vector, event.vector)} ({event.why})"
        case Emulated():
            return f"the VMM: {event.effect}"
        case ExceptionDelivered():
            name = VECTOR_NAMES.get(event.vector, f"vector {event.vector:02x}")
            return f"{name} to the guest's handler at {event.handler:08x}"
        case VmExit():
            return f"#VMEXIT {event.exit_code:x} {event.reason}"
        case CalloutTaken():
            return f"callout: {event.reason}"
        case UnitTranslated():
            return f"unit of {len(event.lines)} translated"
        case FragmentChained():
            return "chained" if event.how == "jump" else "falls through"
        case TrueFault():
            return f"page fault at {event.gva:08x}"
        case Halted():
            return "halted"
        case RunEnded():
            return event.sentence
        case _:
            return ""


def register_values(r: Registers) -> dict[str, str]:
    """Every register by name, as it is written."""
    values = {name.upper(): f"{value & 0xFFFFFFFF:08x}" for name, value in zip(GPR_NAMES, r.gpr, strict=True)}
    values |= {"EIP": f"{r.eip:08x}", "EFLAGS": describe(r.eflags), "ring": str(r.cpl)}
    values |= {"CR0": f"{r.cr0:08x}", "CR2": f"{r.cr2:08x}", "CR3": f"{r.cr3:08x}"}
    values["stack top"] = "unreadable" if r.stack_top is None else f"{r.stack_top:08x}"
    return values


def differences(mine: Registers, theirs: Registers, names: Sequence[str] | None = None) -> list[str]:
    """Names of the registers in which two states differ."""
    a, b = register_values(mine), register_values(theirs)
    return [name for name in names or a if a[name] != b[name]]


def table(states: dict[str, Registers], names: Sequence[str]) -> tuple[str, ...]:
    """Some registers of several states side by side: ``{"before": ..., "yours": ..., "the processor": ...}``."""
    shown = {heading: register_values(state) for heading, state in states.items()}
    return columns([("", *shown), *((name, *(shown[heading][name] for heading in shown)) for name in names)])


def flag_names(difference: int) -> str:
    """``IF, IOPL``: which flags a difference of two EFLAGS is made of."""
    names = [name for name, mask, _ in BITS if difference & mask]
    if iopl(difference):
        names.append("IOPL")
    rest = difference & ~sum(mask for _, mask, _ in BITS) & ~(3 << 12)
    if rest:
        names.append(f"reserved bits {rest:08x}")
    return ", ".join(names)
