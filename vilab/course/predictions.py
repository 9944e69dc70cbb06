"""Questions about the step that comes next, made from the running machine.

::

    run, before a step ──> which kind of step is it? ──> question and options
                                                              │ a choice arrives
    a second machine, run as far and one step further ──> what it did ──> right option and reason

The second machine is built when the choice has arrived and not before, so the answer is nowhere until then. Whether
the step was *right* is judged by a third machine: the same guest on the bare processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.course.runs import NESTED_PAGE_FAULT, ON_THE_WAY, Run, is_way_to_the_vmm
from vilab.events import CalloutTaken, TrapTaken, UnitTranslated, VmExit
from vilab.view.predict import Prediction
from vilab.view.words import counted, instruction
from vilab.vmm.records import GPR_NAMES, Registers, Steppable, StepRecord
from vilab.x86.critical import CRITICAL
from vilab.x86.decode import Kind, decode
from vilab.x86.privileged import PRIVILEGED_OPS

CRITICAL_OPS = frozenset(row.instructions()[-1].op for row in CRITICAL)


class Outcome(msgspec.Struct, frozen=True):
    """What a step did. ``record``, ``bare``: of the second machine and of the bare one (``None``: no such step)."""

    record: StepRecord
    bare: StepRecord | None

    @property
    def left(self) -> bool:
        """Control went to the VMM because of the instruction itself."""
        return any(is_way_to_the_vmm(event) for event in self.record.events)

    @property
    def helped(self) -> bool:
        return not any(isinstance(event, TrapTaken) and not event.handled for event in self.record.events)

    @property
    def right(self) -> bool:
        """The guest is left with what the bare machine would have given it."""
        return self.bare is not None and _seen(self.record.guest) == _seen(self.bare.guest)


def _seen(registers: Registers) -> tuple[object, ...]:
    """What the guest's own code can tell apart."""
    r = registers
    return r.gpr, r.eip, r.eflags, r.cpl, r.selectors, r.stack_top


def outcome(run: Run, position: int) -> Outcome:
    """Run a second machine, and the bare one, to one step behind ``position``."""
    second = run.again()
    second.seek(position + 1)
    bare = run.again("bare")
    bare.seek(position + 1)
    same = position < bare.total and bare.records[position].eip == second.records[position].eip
    return Outcome(second.records[position], bare.records[position] if same else None)


def _is_first(run: Steppable, record: StepRecord) -> bool:
    """An instruction is asked about once: where it comes for the first time."""
    op = _op(record)
    return not any(each.mnemonic == record.mnemonic and _op(each) == op for each in run.records[: record.index - 1])


def _op(record: StepRecord) -> str:
    found = decode(record.code, record.eip)
    return found.op if found.kind is not Kind.IDENT else ""


# Lessons 1 and 2: does it trap, and does anybody notice? -------------------------------------------------------------

TRAPS, RUNS_RIGHT, RUNS_WRONG, DIES = range(4)


def will_it_trap(run: Steppable, record: StepRecord) -> Prediction | None:
    """Before the first of each privileged or critical instruction of a kernel."""
    op = _op(record)
    if record.cpl != 0 or not isinstance(run, Run) or not _is_first(run, record):
        return None
    if op not in PRIVILEGED_OPS and op not in CRITICAL_OPS:
        return None
    at, name = record.index - 1, instruction(record.mnemonic, record.operands)
    found: list[Outcome] = []

    def right() -> int:
        found.append(outcome(run, at))
        if found[0].left:
            return TRAPS if found[0].helped else DIES
        return RUNS_RIGHT if found[0].right else RUNS_WRONG

    return Prediction(
        f"The guest's kernel is about to execute `{name}`. It believes that it is in ring 0. What happens?",
        (
            "Control goes to the VMM, which does it for the guest.",
            "It runs as it is, and the kernel gets what a machine of its own would give.",
            "It runs as it is, and the kernel gets something else. Nobody notices.",
            "It traps, and nobody is there to help: the kernel is dead.",
        ),
        right,
        lambda: _why(name, found[0]),
    )


def _why(name: str, found: Outcome) -> str:
    record = found.record
    for event in record.events:
        if isinstance(event, TrapTaken):
            end = "and the VMM carries it out." if event.handled else "and there is no VMM."
            return f"`{name}` is run in ring {record.cpu_cpl}: {event.why}; the CPU traps, {end}"
        if isinstance(event, VmExit) and event.exit_code < NESTED_PAGE_FAULT:
            return f"The VMCB intercepts it: #VMEXIT {event.exit_code:x}, {event.reason}."
        if isinstance(event, CalloutTaken) and event.reason not in ON_THE_WAY:
            return f"The translation calls the VMM in its place: {event.reason}."
    if found.right:
        return f"In ring {record.cpu_cpl} it does not trap, and the bare machine leaves the guest with the same."
    return f"In ring {record.cpu_cpl} it does not trap, and {_difference(found)}."


def _difference(found: Outcome) -> str:
    if found.bare is None:
        return "the bare machine is somewhere else by now"
    mine, due = found.record.guest, found.bare.guest
    if mine.stack_top != due.stack_top and mine.stack_top is not None and due.stack_top is not None:
        return f"the top of the stack is {mine.stack_top:08x}, where the bare machine has {due.stack_top:08x}"
    if mine.eflags != due.eflags:
        return f"EFLAGS is {mine.eflags:08x}, where the bare machine has {due.eflags:08x}"
    for name, have, want in zip(GPR_NAMES, mine.gpr, due.gpr, strict=True):
        if have != want:
            return f"{name.upper()} is {have:08x}, where the bare machine has {want:08x}"
    return "the guest is left with something else than the bare machine would give"


# Lesson 3: what does the translator make of it? ----------------------------------------------------------------------

KINDS = ("ident", "in_cache", "callout", "control")


def how_translated(run: Steppable, record: StepRecord) -> Prediction | None:
    """Before the first of each instruction of a kernel that cannot be copied as it is."""
    if not isinstance(run, Run) or record.tc_address is None or not _op(record) or not _is_first(run, record):
        return None
    at, name = record.index - 1, instruction(record.mnemonic, record.operands)
    found: list[UnitTranslated] = []

    def right() -> int:
        second = run.again()
        second.seek(at + 1)
        found.append(_unit_of(second.records[: at + 1], record.eip))
        return KINDS.index(next(row[2] for row in found[0].lines if row[0] == record.eip))

    def why() -> str:
        unit = found[0]
        length, size = next((row[1], row[4]) for row in unit.lines if row[0] == record.eip)
        same = sum(row[2] == "ident" for row in unit.lines)
        return (
            f"{counted(length, 'byte')} became {size}. The whole unit from `{unit.eip:08x}` has "
            f"{counted(len(unit.lines), 'instruction')}, {same} of them identical."
        )

    return Prediction(
        f"`{name}` at `{record.eip:08x}` comes next. What has the translator put into the cache for it?",
        (
            "The same bytes: identical.",
            "Other code, which does it inside the cache, without the VMM.",
            "A call of the VMM.",
            "A jump whose target is in the cache, or is looked up there.",
        ),
        right,
        why,
    )


def _unit_of(records: Sequence[StepRecord], eip: int) -> UnitTranslated:
    """The newest translation that holds the instruction at ``eip``."""
    units = [event for record in records for event in record.events if isinstance(event, UnitTranslated)]
    return next(unit for unit in reversed(units) if any(row[0] == eip for row in unit.lines))


# Lesson 4: does it exit? ---------------------------------------------------------------------------------------------


def will_it_exit(run: Steppable, record: StepRecord) -> Prediction | None:
    """Before the first of each instruction that some engine has to think about."""
    op = _op(record)
    interesting = op in PRIVILEGED_OPS or op in CRITICAL_OPS or op in ("cpuid", "rdtsc")
    if not isinstance(run, Run) or not interesting or not _is_first(run, record):
        return None
    at, name = record.index - 1, instruction(record.mnemonic, record.operands)
    found: list[Outcome] = []

    def right() -> int:
        found.append(outcome(run, at))
        return 0 if found[0].left else 1

    def why() -> str:
        if found[0].left:
            return _why(name, found[0])
        return f"No bit in the VMCB asks for it: `{name}` runs in the guest's own ring {found[0].record.cpu_cpl}."

    return Prediction(
        f"`{name}` comes next, in ring {record.cpl} of the guest. Does it leave the guest?",
        ("Yes: #VMEXIT.", "No: it runs at full speed."),
        right,
        why,
    )
