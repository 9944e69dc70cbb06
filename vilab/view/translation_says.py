"""The text twin of the translation picture: one whole step, and what translating it cost or saved."""

from __future__ import annotations

from collections.abc import Sequence

from vilab.events import (
    CacheFlushed,
    CalloutTaken,
    Emulated,
    Event,
    ExceptionDelivered,
    FragmentChained,
    InterruptDelivered,
    RunEnded,
    TraceFault,
    TrapTaken,
    UnitInvalidated,
    UnitRetranslated,
    UnitTranslated,
)
from vilab.view import says
from vilab.view.beats import Beat
from vilab.view.translation import Pair
from vilab.view.words import counted, hex8, instruction
from vilab.vmm.records import Registers, StepRecord

ON_THE_WAY = {
    "ret_miss": "the return address is not in the cache's table",
    "indirect_miss": "the target is not in the cache's table",
    "chain": "this exit has no link yet",
}


def say(beat: Beat, record: StepRecord, guest: Registers, pair: Pair | None) -> str:
    """What has just happened. ``pair`` is the row that has run, ``None`` for code that runs directly."""
    again = _anew(record.events)
    parts = [
        _first(record, guest, pair), again or _translated(record.events), _dropped(record.events),
        _ended(record.events),
    ]  # fmt: skip
    return " ".join(part for part in parts if part)


def _first(record: StepRecord, guest: Registers, pair: Pair | None) -> str:
    name = instruction(record.mnemonic, record.operands)
    effect = says.effect(record, guest)
    interrupt = _one(record.events, InterruptDelivered)
    if isinstance(interrupt, InterruptDelivered):
        return f"The VMM delivers interrupt `{interrupt.vector:02x}`: the guest's handler begins with `{name}`{effect}."
    callout = _own_callout(record)
    if callout is not None:
        done = _one(record.events, Emulated)
        what = f", which does **{says.arrow(done.effect)}**" if isinstance(done, Emulated) else ""
        delivered = _one(record.events, ExceptionDelivered)
        if isinstance(delivered, ExceptionDelivered):
            what = f", which enters the guest's handler at `{hex8(delivered.handler)}`"
        if callout.reason == "simulate":
            return f"`{name}` has hit traced pages too often: in its place the cache **calls the VMM**, which stores."
        return f"`{name}` cannot run here: the cache **calls the VMM**{what} and comes back."
    trap = _one(record.events, TrapTaken)
    if isinstance(trap, TrapTaken):
        return f"`{name}` **traps** to the VMM: {trap.why or 'a fault'}."
    traced = _one(record.events, TraceFault)
    if isinstance(traced, TraceFault) and traced.eip == record.eip:
        return f"`{name}` hits the traced page at `{hex8(traced.gva & ~0xFFF)}`: it **faults**, and the VMM does it."
    if pair is None:
        where = "user code: it **runs directly**, untranslated" if record.cpu_cpl == 3 else "not in the cache"
        return f"`{name}` is {where}{effect}."
    if pair.kind == "in_cache":
        return (
            f"`{name}` needs no call: it is now {counted(len(pair.lines), 'instruction')}, "
            f"**{pair.tc_bytes} bytes in the cache**{effect}."
        )
    if pair.kind == "control":
        miss = next(
            (ON_THE_WAY[e.reason] for e in record.events if isinstance(e, CalloutTaken) and e.reason in ON_THE_WAY), ""
        )
        if miss:
            return f"`{name}`{effect}. In the cache {miss}, so the **VMM is called**."
        if pair.label == "chained":
            return f"`{name}`{effect}. In the cache it **{pair.aside}**: the VMM is not called."
        return f"`{name}`{effect}: {pair.label}."
    return f"`{name}` is **identical** in the cache, at `{hex8(record.tc_address)}`{effect}."


def _own_callout(record: StepRecord) -> CalloutTaken | None:
    calls = (event for event in record.events if isinstance(event, CalloutTaken))
    return next((call for call in calls if call.reason not in ON_THE_WAY and call.eip == record.eip), None)


def _translated(events: Sequence[Event]) -> str:
    units = [event for event in events if isinstance(event, UnitTranslated)]
    chained = [event for event in events if isinstance(event, FragmentChained)]
    words = ""
    if units:
        unit = units[-1]
        same = sum(1 for row in unit.lines if row[2] == "ident")
        count = counted(len(unit.lines), "instruction")
        words = f"{count} from `{hex8(unit.eip)}` are translated, {same} of them identical."
    if chained:
        words += f" The exit is **chained** to `{hex8(chained[-1].to_tc_address)}`."
    return words.strip()


def _anew(events: Sequence[Event]) -> str:
    anew = _one(events, UnitRetranslated)
    if not isinstance(anew, UnitRetranslated):
        return ""
    why = {"guilty": "That was once too often", "innocent": "It has not for long"}.get(anew.why, "It is a device")
    return (
        f"{why}: the unit at `{hex8(anew.eip)}` is **translated anew**, and the old fragment jumps to "
        f"`{hex8(anew.to_tc_address)}`."
    )


def _dropped(events: Sequence[Event]) -> str:
    dropped = [event for event in events if isinstance(event, UnitInvalidated)]
    flushed = _one(events, CacheFlushed)
    if isinstance(flushed, CacheFlushed):
        return f"The whole cache is **emptied** ({flushed.why}): {counted(flushed.units, 'unit')} are lost."
    if dropped:
        because = "a store hit their code" if any(isinstance(event, TraceFault) for event in events) else dropped[0].why
        return f"**{counted(len(dropped), 'fragment')} dropped**: {because}."
    return ""


def _ended(events: Sequence[Event]) -> str:
    ended = _one(events, RunEnded)
    return ended.sentence if isinstance(ended, RunEnded) else ""


def _one(events: Sequence[Event], kind: type[Event]) -> Event | None:
    return next((event for event in events if isinstance(event, kind)), None)
