"""From steps of the machine to beats of the picture.

A step of the machine is one guest instruction. Where the VMM had to act for it, the picture wants to stop twice: where
control leaves the guest, and after the VMM's work. So one step gives one beat or more::

    step      cli                              mov eax,1
    beat      cli  ▼ trap   | vIF <- 0         mov eax,1
    lane      guest kernel  | VMM              guest kernel
    machine   before cli    | after cli        after mov          (``position``: where the machine stands)

While the trap is on screen the machine still stands before the instruction, as a real one would.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.events import (
    CalloutTaken,
    Event,
    ExceptionDelivered,
    HiddenFault,
    InstructionRetired,
    InterruptDelivered,
    TraceFault,
    TrapTaken,
    TrueFault,
    UnitTranslated,
    VmExit,
)
from vilab.view import silence
from vilab.view.words import instruction
from vilab.vmm.records import Registers, StepRecord

GUEST, VMM = "guest", "vmm"

_ENTRY_KINDS: dict[type[Event], str] = {
    TrapTaken: "trap",
    VmExit: "exit",
    CalloutTaken: "callout",
    UnitTranslated: "translate",
    HiddenFault: "hidden_fault",
    TraceFault: "trace_fault",
    TrueFault: "true_fault",
}
NESTED_PAGE_FAULT = 0x400
"""The #VMEXIT code of a missing nested entry: a hidden fault like any other."""

_CALLOUTS_ON_THE_WAY = ("chain", "ret_miss", "indirect_miss", "miss")


class Beat(msgspec.Struct, frozen=True):
    """One stop of the picture.

    step : index into the records of the instruction that it belongs to.
    position : of the machine while it is shown.
    actor : ``guest`` or ``vmm``.
    cpl, ring : the guest's ring and the one that the CPU is in; for the VMM, the guest's that it works for.
    kind : of the event that ends it (``trap``...), ``error`` for a wrong answer, empty for none.
    events : what was logged in it.
    leaves : control goes from the guest to the VMM at its end.
    at_ns : virtual time at its end.
    finding : what a critical instruction answered.
    """

    step: int
    position: int
    actor: str
    cpl: int
    ring: int
    kind: str
    events: tuple[Event, ...]
    leaves: bool
    at_ns: int
    finding: silence.Finding | None = None

    @property
    def wrong(self) -> bool:
        return self.finding is not None and not self.finding.right


def truths_before(
    records: Sequence[StepRecord], step: int, start: tuple[Registers, Registers]
) -> tuple[Registers, Registers]:
    """What the guest set and what the CPU holds, before the step with index ``step``."""
    return (records[step - 1].guest, records[step - 1].cpu) if step else start


def beats_of(
    records: Sequence[StepRecord],
    start: tuple[Registers, Registers],
    descriptor: silence.ReadDescriptor | None = None,
    engine: str = "trap",
) -> list[Beat]:
    """All beats of a run, in order. ``start`` is the pair (guest, cpu) of registers before the first step."""
    beats: list[Beat] = []
    for step, record in enumerate(records):
        guest, cpu = truths_before(records, step, start)
        beats.extend(_beats_of_step(step, record, silence.judge(record, guest, cpu, descriptor), engine))
    return beats


def whole_steps(
    records: Sequence[StepRecord],
    start: tuple[Registers, Registers],
    descriptor: silence.ReadDescriptor | None = None,
) -> list[Beat]:
    """One beat a step, for pictures in which the VMM has no lane of its own."""
    beats = []
    for step, record in enumerate(records):
        guest, cpu = truths_before(records, step, start)
        finding = silence.judge(record, guest, cpu, descriptor)
        kinds = [_ENTRY_KINDS[type(event)] for event in record.events if type(event) in _ENTRY_KINDS]
        kind = "error" if finding and not finding.right else _loudest(kinds, record)
        beats.append(
            Beat(
                step,
                step + 1,
                GUEST,
                record.cpl,
                record.cpu_cpl,
                kind,
                record.events,
                False,
                record.virtual_ns,
                finding,
            )
        )
    return beats


def _loudest(kinds: Sequence[str], record: StepRecord) -> str:
    """The one glyph of a whole step. A callout that was made to translate is a translation."""
    own = any(isinstance(event, CalloutTaken) and event.reason not in _CALLOUTS_ON_THE_WAY for event in record.events)
    callout = ("callout", "translate") if own else ("translate", "callout")
    for kind in ("trap", "exit", *callout, "true_fault", "trace_fault", "hidden_fault"):
        if kind in kinds:
            return kind
    return ""


def _beats_of_step(step: int, record: StepRecord, finding: silence.Finding | None, engine: str) -> list[Beat]:
    groups = _split(record, engine)
    beats: list[Beat] = []
    ran = False
    for entry, events in groups:
        first = events[0]
        if entry == "guest":
            ran = True
            beats.append(_guest_beat(step, record, events, finding))
            continue
        if not ran and _is_of_another(record, first):
            ran = True
            beats.append(_guest_beat(step, record, (), finding))
        elif _was_attempted(record, entry, first) and not ran:
            beats.append(Beat(step, step, GUEST, record.cpl, record.cpu_cpl, entry, (first,), True, first.at_ns))
            # What faults for the VMM's own reasons is executed again; what the VMM carries out is done with.
            ran = entry not in ("hidden_fault", "trace_fault")
        beats.append(
            Beat(
                step,
                step + 1,
                VMM,
                record.cpl,
                record.cpu_cpl,
                _vmm_kind(entry, events),
                events,
                False,
                events[-1].at_ns,
            )
        )
    if not ran and record.how != "emulated":
        beats.append(_guest_beat(step, record, (), finding))
    last = beats[-1]
    beats[-1] = msgspec.structs.replace(
        last, at_ns=record.virtual_ns, position=step + 1, finding=finding or last.finding
    )
    for index, beat in enumerate(beats[:-1]):
        beats[index] = msgspec.structs.replace(beat, position=step)
    return beats


def _guest_beat(step: int, record: StepRecord, events: Sequence[Event], finding: silence.Finding | None) -> Beat:
    wrong = (finding and not finding.right) or ends_in_fault(events)
    true_fault = any(isinstance(event, TrueFault) for event in events)
    kind = "error" if wrong else "true_fault" if true_fault else ""
    return Beat(
        step, step + 1, GUEST, record.cpl, record.cpu_cpl, kind, tuple(events), False, record.virtual_ns, finding
    )


def ends_in_fault(events: Sequence[Event]) -> bool:
    """Did a fault come of it that belongs to the guest, or one that nobody handled? Part of the lesson: it is marked.

    Page faults are routine: their mark is another.
    """
    delivered = [event for event in events if isinstance(event, ExceptionDelivered)]
    if delivered:
        return any(event.vector < 32 and event.vector not in (1, 3, 4, 14) for event in delivered)
    return any(isinstance(event, TrapTaken) and not event.handled for event in events)


def _vmm_kind(entry: str, events: Sequence[Event]) -> str:
    """A trap's mark is where control left the guest; what has no such place is marked itself."""
    if ends_in_fault(events):
        return "error"
    return entry if entry in ("translate", "interrupt") else ""


def _is_of_another(record: StepRecord, event: Event) -> bool:
    """Does the entry belong to the instruction behind this one, at which the run ended?"""
    if isinstance(event, CalloutTaken) and event.reason in _CALLOUTS_ON_THE_WAY:
        return False
    return isinstance(event, (CalloutTaken, TrapTaken, VmExit)) and event.eip != record.eip


def _was_attempted(record: StepRecord, entry: str, event: Event) -> bool:
    """Did the guest start on this instruction before the VMM came in?"""
    if entry in ("translate", "interrupt"):
        return False
    if isinstance(event, CalloutTaken) and event.reason in _CALLOUTS_ON_THE_WAY:
        return record.mnemonic.startswith(("j", "call", "ret", "loop"))
    return True


def _split(record: StepRecord, engine: str) -> list[tuple[str, tuple[Event, ...]]]:
    """The events of a step, cut where control enters the VMM: (kind of entry, that event and what followed it).

    Where the IDT in the CPU is the VMM's, an exception that is delivered has trapped, logged or not. Interrupts come
    from the VMM wherever there is one. Hidden faults that follow each other are one piece of work.
    """
    groups: list[tuple[str, list[Event]]] = []
    for event in record.events:
        if isinstance(event, InstructionRetired):
            continue  # says what the record says
        last = groups[-1] if groups else None
        kind = _entry_kind(event, last[0] if last else "", engine)
        if last is not None and (kind is None or _belongs_to(kind, last[0])):
            last[1].append(event)
        else:
            groups.append((kind or "guest", [event]))
    return [(kind, tuple(events)) for kind, events in groups]


def _entry_kind(event: Event, last: str, engine: str) -> str | None:
    """The kind of entry into the VMM that an event is, ``None`` for what only says what happened meanwhile."""
    if isinstance(event, InterruptDelivered):
        return None if engine == "bare" else "interrupt"
    if isinstance(event, ExceptionDelivered):
        return "trap" if engine not in ("svm", "bare") and last in ("", "guest", "translate") else None
    if isinstance(event, TrueFault) and engine in ("svm", "bare"):
        return None  # the guest's own handler runs next, and nobody else
    if isinstance(event, VmExit) and event.exit_code == NESTED_PAGE_FAULT:
        return "hidden_fault"
    return _ENTRY_KINDS.get(type(event))


def _belongs_to(kind: str, entry: str) -> bool:
    """A translation made during a callout is the callout's work; a true fault explains the trap before it."""
    return (kind == "translate" and entry in ("callout", "trap", "translate")) or (
        kind in ("true_fault", "hidden_fault", "trace_fault") and entry in ("trap", "exit", kind)
    )


def label(beat: Beat, record: StepRecord) -> str:
    """The instruction, for a beat of the guest."""
    return instruction(record.mnemonic, record.operands)
