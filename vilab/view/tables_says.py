"""The text twin of the page tables: which fault it was, and what became of both entries.

The order of the questions: did a fault come of it, were the tables switched or an entry forgotten, did the guest write
to its tables and who noticed, and only then what the instruction did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from vilab.events import Event, ExceptionDelivered, HiddenFault, RunEnded, TraceFault, TrueFault
from vilab.view import says, tables
from vilab.view.tables import Change, Moment
from vilab.view.words import hex4, hex8, instruction
from vilab.vmm import translation_path as tp
from vilab.vmm.records import Registers, StepRecord
from vilab.x86 import paging as pg

E = TypeVar("E", bound=Event)
_SET_BY_CPU = pg.ACCESSED | pg.DIRTY


def say(record: StepRecord, guest: Registers, before: Moment, now: Moment, found: Sequence[Change]) -> str:
    """What has just happened. ``found``: the entries on screen that have changed."""
    parts = [_first(record, guest, before, now, found), _ended(record.events)]
    return " ".join(part for part in parts if part)


def _first(record: StepRecord, guest: Registers, before: Moment, now: Moment, found: Sequence[Change]) -> str:
    name = f"`{instruction(record.mnemonic, record.operands)}`"
    true, trace = _last(record.events, TrueFault), _last(record.events, TraceFault)
    hidden = [event for event in record.events if isinstance(event, HiddenFault)]
    if true is not None:
        return _true(name, record, true)
    if trace is not None:
        return f"{name} stores into a watched page: a **trace fault**. {_followed(found)}"
    if hidden:
        return _hidden(name, record, hidden, now, found)
    if is_switch(record):
        return _switch(name, before, now, found)
    if record.mnemonic == "invlpg":
        return _invlpg(name, now, found)
    mine = [each for each in found if each.side == tp.GUEST]
    for change in mine:
        if (change.old ^ change.new) & ~_SET_BY_CPU or change.old & ~change.new:
            return _unnoticed(name, change, now)
    if mine:
        done = _from_to(mine[0])
        return f"{name} finds its way without a fault. The CPU itself sets A and D in the guest's entry: {done}."
    stale = _uses_stale(record, now)
    if stale:
        if not now.path.stale:
            return f"{name} goes through the **stale** entry: no fault, and nobody sets A or D in the guest's."
        return f"{name} goes through the **stale** entry, to {hex8(now.path.mpa)}: no fault, and the old page."
    effect = says.effect(record, guest)
    if record.mnemonic == "int" and record.cpl == 3:
        return f"{name} enters the guest's kernel{effect}."
    if "[" in record.operands:
        return f"{name} finds its way without a fault{effect}."
    return f"{name}{effect}. No page table is asked for anything new."


def is_switch(record: StepRecord) -> bool:
    """Has the step loaded CR3?"""
    return record.mnemonic == "mov" and record.operands.startswith("cr3")


def _true(name: str, record: StepRecord, event: TrueFault) -> str:
    why = pg.describe_error(event.error_code)
    delivered = _last(record.events, ExceptionDelivered)
    then = f": the guest's handler at `{hex8(delivered.handler)}` runs next" if delivered else ""
    return (
        f"{name} is forbidden by the guest's own tables (#PF {hex4(event.error_code)}: {why}). A **true fault**{then}."
    )


def _hidden(name: str, record: StepRecord, faults: Sequence[HiddenFault], now: Moment, found: Sequence[Change]) -> str:
    event = faults[-1]
    more = f", {len(faults)} of them" if len(faults) > 1 else ""
    mine = next((each for each in found if each.side == tp.GUEST and (each.old ^ each.new) & ~_SET_BY_CPU), None)
    stored = "" if mine is None else f" Then its store changes the guest's own entry, {_from_to(mine)}."
    if now.path.nested is not None:
        return (
            f"{name} needs gpa `{hex8(event.gva)}`, which the nested tables do not allow yet: exit 400, "
            f"a **hidden fault**{more}. The VMM enters frame {event.mpn:05x}.{stored}"
        )
    entry = next((each for each in found if each.side == tp.SHADOW and each.gva == event.gva & ~0xFFF), None)
    what = f"frame {event.mpn:05x} is entered" if entry is None else f"the entry becomes **{hex8(entry.new)}**"
    reason = "finds no shadow entry" if not event.error_code & pg.ERROR_PRESENT else "finds the shadow entry too narrow"
    if stored:
        return f"{name} {reason}; the guest allows it: a **hidden fault**{more}.{stored}"
    page = hex8(event.gva & ~0xFFF)
    return f"{name} {reason}; the guest allows it: a **hidden fault**{more}. For page `{page}` {what}.{stored}"


def _followed(found: Sequence[Change]) -> str:
    mine = next((each for each in found if each.side == tp.GUEST), None)
    theirs = next((each for each in found if each.side == tp.SHADOW), None)
    if mine is None:
        return "The VMM does it, and sees which entries it has changed."
    words = f"The VMM does it, {_from_to(mine)}"
    if theirs is None:
        return f"{words}. The shadow has no entry for it, and needs none."
    if not theirs.new & pg.PRESENT:
        return f"{words}, and **drops the shadow entry** {hex8(theirs.old)}."
    return f"{words}, and the **shadow follows**, {_from_to(theirs)}."


def _switch(name: str, before: Moment, now: Moment, found: Sequence[Change]) -> str:
    counts, was = now.counts, before.counts
    to = "the same address space" if before.cr3 == now.cr3 else f"another address space, directory {hex8(now.cr3)}"
    dropped, validated = counts.dropped - was.dropped, counts.validated - was.validated
    if now.path.shadow is None:
        who = "The CPU" if now.path.nested is None else "No exit: the CPU"
        return f"{name} loads {to}. {who} does it alone."
    if dropped:
        are = "entry is" if dropped == 1 else "entries are"
        what = f"**{dropped} shadow {are} dropped**, and come back one hidden fault at a time"
    elif validated:
        what = f"the VMM compares **{validated:,} entries** of the guest's tables with what they were"
    else:
        what = "there is nothing to do, as far as the shadow goes"
    return f"{name} loads {to}; {what}."


def _invlpg(name: str, now: Moment, found: Sequence[Change]) -> str:
    theirs = next((each for each in found if each.side == tp.SHADOW), None)
    if now.path.shadow is None:
        return f"{name} makes the CPU forget its own copy. No VMM is asked."
    if theirs is None:
        return f"{name}: the shadow is in line with the guest's entry already."
    if not theirs.new & pg.PRESENT:
        return f"{name}: now the change counts. The VMM **drops the shadow entry** {hex8(theirs.old)}."
    return f"{name}: now the change counts. The VMM brings the shadow entry into line, {_from_to(theirs)}."


def _unnoticed(name: str, mine: Change, now: Moment) -> str:
    words = f"{name} changes the guest's entry, {_from_to(mine)}"
    slot = now.at(mine.gva)
    if now.path.shadow is None:
        return f"{words}. Nobody has to notice: the CPU walks this table itself."
    if slot is not None and slot.relation == tables.STALE:
        return f"{words}. Nobody notices: the shadow entry is **stale** until INVLPG or a load of CR3."
    return f"{words}. Nobody notices, and nobody has to: the shadow has no entry for it."


def _uses_stale(record: StepRecord, now: Moment) -> bool:
    return now.slot.relation == tables.STALE and f"0x{now.focus:x}" in record.operands


def _from_to(change: Change) -> str:
    return f"{hex8(change.old) if change.old else 'nothing'} → {hex8(change.new) if change.new else 'nothing'}"


def _ended(events: Sequence[Event]) -> str:
    ended = _last(events, RunEnded)
    return "" if ended is None else ended.sentence


def _last(events: Sequence[Event], kind: type[E]) -> E | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)
