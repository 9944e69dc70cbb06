"""Questions about page tables, made from the running machine: which fault comes, which entry, how many.

As in ``predictions``, a second machine answers when a choice has arrived, and not before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vilab.course.runs import Run
from vilab.events import HiddenFault, TraceFault, TrueFault
from vilab.view.policies import say
from vilab.view.predict import Prediction
from vilab.view.tables_says import is_switch
from vilab.view.words import hex8, instruction
from vilab.vmm import translation_path as tp
from vilab.vmm.comparison_policies import WORKLOADS, Outcome
from vilab.vmm.records import Steppable, StepRecord
from vilab.vmm.shadow_policy import POLICIES
from vilab.x86 import paging as pg

COMES_TO = (tp.NOTHING, tp.HIDDEN, tp.TRACE, tp.TRUE)
MANY = 3
ABSOLUTE = re.compile(r"\[0x([0-9a-f]+)\]")


def page_faults(run: Steppable, record: StepRecord) -> Prediction | None:
    """Before loads of CR3: how many hidden faults; before first accesses: which entry; before others: which fault."""
    if not isinstance(run, Run):
        return None
    if is_switch(record):
        return _how_many(run, record)
    access = _access(record)
    if access is None:
        return None
    gva, write = access
    path = tp.path(run.vm, gva)
    expected = path.expect(write, record.cpl == 3)
    if _asked_before(run, record, gva, write) or (record.cpl != 3 and not _edits_tables(run, path, write)):
        return None
    if path.shadow is not None and expected == tp.HIDDEN and record.cpl == 3 and not write:
        return _which_entry(run, record, path)
    return _which_fault(run, record, gva, write, path)


def _access(record: StepRecord) -> tuple[int, bool] | None:
    """(gva, is it a store) of an instruction with an absolute operand that touches memory."""
    if record.mnemonic in ("invlpg", "lea"):
        return None
    found = ABSOLUTE.search(record.operands)
    return None if found is None else (int(found[1], 16), found.start() < record.operands.find(","))


def _edits_tables(run: Run, path: tp.Path, write: bool) -> bool:
    """A store to the directory in use, or to one of its tables."""
    if not write or path.gpa is None:
        return False
    cr3 = run.vm.engine.vcpu.cr3 & pg.FRAME_MASK
    entries = [run.vm.pmap.read_u32(cr3 + pg.ENTRY_BYTES * index) for index in range(pg.ENTRIES)]
    tables = {entry & pg.FRAME_MASK for entry in entries if entry & (pg.PRESENT | pg.LARGE) == pg.PRESENT}
    return path.gpa & pg.FRAME_MASK in {cr3, *tables}


def _asked_before(run: Run, record: StepRecord, gva: int, write: bool) -> bool:
    """The same kind of access to the same page, with nothing but such accesses in between."""
    for each in reversed(run.records[: record.index - 1]):
        if each.mnemonic in ("invlpg", "int", "iretd") or is_switch(each):
            return False
        other = _access(each)
        if other is not None and (other[0] >> 12, other[1]) == (gva >> 12, write):
            return True
    return False


def _second(run: Run, position: int) -> Run:
    second = run.again()
    second.seek(position)
    return second


def _which_fault(run: Run, record: StepRecord, gva: int, write: bool, path: tp.Path) -> Prediction:
    name = instruction(record.mnemonic, record.operands)
    found: list[str] = []

    def right() -> int:
        found.append(came_to(_second(run, record.index).records[record.index - 1]))
        return COMES_TO.index(found[0])

    return Prediction(
        f"`{name}` comes next. What does it come to?",
        (
            "No fault: the CPU finds its way.",
            "A hidden fault: the VMM fills an entry, and the guest never knows.",
            "A trace fault: the VMM watches that page.",
            "A true fault: the guest's own handler runs.",
        ),
        right,
        lambda: _because(found[0], path),
    )


def came_to(record: StepRecord) -> str:
    """The weightiest fault of a step."""
    for kind, words in ((TrueFault, tp.TRUE), (TraceFault, tp.TRACE), (HiddenFault, tp.HIDDEN)):
        if any(isinstance(event, kind) for event in record.events):
            return words
    return tp.NOTHING


def _because(what: str, path: tp.Path) -> str:
    if what == tp.TRUE:
        return "The guest's own entry does not allow it, so the guest is told."
    if what == tp.TRACE:
        return f"The guest's page {path.gpa or 0:08x} holds one of its page tables, and the VMM has made it read-only."
    if what == tp.HIDDEN:
        return "The guest's tables allow it, and what the VMM has put there for the CPU does not, yet."
    if path.stale:
        return "The entry that the CPU walks is out of date, but it is there, and nobody has told the VMM."
    return "What the CPU walks allows it already."


def _which_entry(run: Run, record: StepRecord, path: tp.Path) -> Prediction:
    name = instruction(record.mnemonic, record.operands)
    guest = path.guest.entries[-1].value
    frame = 0 if path.mpn is None else path.mpn << 12
    flags = guest & 0xFFF | pg.ACCESSED
    options = [
        guest | pg.ACCESSED,
        frame | flags,
        frame | (flags | pg.DIRTY),
        frame | flags & ~(pg.WRITABLE | pg.DIRTY),
    ]
    options = list(dict.fromkeys(options))
    found: list[int] = []

    def right() -> int:
        second = _second(run, record.index)
        behind = tp.path(second.vm, path.gva).shadow
        assert behind is not None
        found.append(behind.entries[-1].value & ~pg.AVAILABLE)
        return options.index(found[0])

    def why() -> str:
        words = "The frame is the pmap's, a machine address."
        if guest & pg.WRITABLE and not found[0] & pg.WRITABLE:
            words += " W is held back until the first store, so that the VMM can set the guest's D."
        return words

    return Prediction(
        f"`{name}` will be a hidden fault. The guest's entry is `{hex8(guest)}`. What will the shadow entry be?",
        tuple(f"`{hex8(value)}`  {pg.PTE(value).flags}" for value in options), right, why,
    )  # fmt: skip


def _how_many(run: Run, record: StepRecord) -> Prediction:
    found: list[int] = []

    def right() -> int:
        second = _second(run, run.total)
        count = 0
        for each in second.records[record.index :]:
            if is_switch(each) or each.mnemonic == "int":
                break
            count += sum(isinstance(event, HiddenFault) for event in each.events)
        found.append(count)
        return min(count, MANY)

    return Prediction(
        "CR3 is about to be loaded. How many hidden faults come between it and the next system call?",
        ("None.", "One.", "Two.", "Three or more."), right,
        lambda: f"There are {found[0]}: one for each page that is used and has no entry where the CPU looks now.",
    )  # fmt: skip


def policy_questions(found: Sequence[Outcome]) -> Callable[[int], Prediction | None]:
    """Before each workload of a sweep: who loses?"""
    names = list(dict.fromkeys(each.workload for each in found))

    def ask(position: int) -> Prediction | None:
        if position >= len(names):
            return None
        here = [each for each in found if each.workload == names[position]]
        what = next((each.what for each in WORKLOADS if each.name == names[position]), names[position])
        worst = max(here, key=lambda each: each.cycles)

        return Prediction(
            f"{names[position]}: {what}. Which policy costs the most?", tuple(POLICIES),
            lambda: list(POLICIES).index(worst.policy), lambda: say(found, names[position]),
        )  # fmt: skip

    return ask
