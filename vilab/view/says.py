"""The text twin: what has just happened and why, in one or two sentences with the numbers of the picture.

Written in the marks of ``words``. The order of the questions: is the answer wrong, did the run end here, did control
leave the guest, is the VMM at work, and only then what the instruction changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.errors import VECTOR_NAMES
from vilab.events import (
    AddressSpaceSwitched,
    CalloutTaken,
    Emulated,
    Event,
    ExceptionDelivered,
    FragmentChained,
    Halted,
    HiddenFault,
    InterruptDelivered,
    PortRead,
    PortWritten,
    RingChanged,
    RunEnded,
    TraceFault,
    TrapTaken,
    TrueFault,
    UnitInvalidated,
    UnitTranslated,
    VmExit,
)
from vilab.view import silence
from vilab.view.beats import NESTED_PAGE_FAULT, VMM, Beat, ends_in_fault, truths_before
from vilab.view.words import NBSP, counted, hex8, instruction
from vilab.vmm.records import GPR_NAMES, Registers, StepRecord
from vilab.x86 import flags
from vilab.x86.decode import Kind, decode

SHOWN_FLAGS = (
    ("CF", flags.CF), ("PF", flags.PF), ("ZF", flags.ZF), ("SF", flags.SF), ("IF", flags.IF), ("DF", flags.DF),
    ("OF", flags.OF),
)  # fmt: skip


def say(beat: Beat, records: Sequence[StepRecord], start: tuple[Registers, Registers], engine: str) -> str:
    """The sentence for one beat."""
    record = records[beat.step]
    guest, _ = truths_before(records, beat.step, start)
    ended = _find(beat.events, RunEnded)
    if beat.finding is not None and beat.wrong and beat.actor != VMM:
        words = silence.sentence(record, beat.finding)
    elif beat.actor == VMM:
        words = _vmm_at_work(beat, record, guest, engine)
    elif beat.leaves:
        words = _leaving(beat, record, engine)
    else:
        words = _runs(beat, record, guest, engine)
    if isinstance(ended, RunEnded):
        words = f"{words} {ended.sentence}".strip()
    return words


def empty(first_eip: int, what: str = "the first instruction") -> str:
    """Before the first step."""
    return f"**Nothing has run yet.** Press Step to execute {what} at `{hex8(first_eip)}`."


def _find(events: Sequence[Event], kind: type[Event]) -> object | None:
    return next((event for event in events if isinstance(event, kind)), None)


def arrow(words: str) -> str:
    """Events are plain ASCII; pictures may use the sign."""
    return words.replace("<-", "←").replace("->", "→")


def _leaving(beat: Beat, record: StepRecord, engine: str) -> str:
    event = beat.events[0]
    name = instruction(record.mnemonic, record.operands)
    if isinstance(event, ExceptionDelivered):
        name_of = VECTOR_NAMES.get(event.vector, f"vector {event.vector:02x}")
        if record.mnemonic.startswith("int"):
            return _system_call(name, record)
        return f"`{name}` faults with **{name_of}**. The CPU's own IDT belongs to the VMM, so it **traps** there first."
    if isinstance(event, TrapTaken):
        if record.mnemonic == "int" and record.cpl == 3:
            words = _system_call(name, record)
        elif event.vector == 14:
            words = (
                f"`{name}` touches a page that the CPU's page table does not allow: #PF, and **the VMM** looks first."
            )
        else:
            why = event.why or VECTOR_NAMES.get(event.vector, "a fault")
            if why == f"CPL {beat.ring}":
                why = "only ring 0 may do that"
            words = f"`{name}` at ring {beat.ring}: {why}, so the CPU refuses and **traps**."
        if not event.handled and event.vector in VECTOR_NAMES:
            words = (
                f"`{name}` at ring {beat.ring}: {event.why}. The CPU refuses with "
                f"**{VECTOR_NAMES.get(event.vector, 'a fault')}**, and nobody does it for the guest."
            )
        return words
    if isinstance(event, VmExit) and event.exit_code == NESTED_PAGE_FAULT:
        return (
            f"`{name}` needs a guest physical page that has no entry in the nested table yet: **#VMEXIT** 400, "
            "a **hidden fault**."
        )
    if isinstance(event, VmExit):
        return f"`{name}` is intercepted ({event.reason}): **#VMEXIT** {event.exit_code:x} to the VMM, below ring 0."
    if isinstance(event, CalloutTaken):
        return _callout(event, name)
    if isinstance(event, HiddenFault):
        return (
            f"`{name}` touches `{hex8(event.gva)}`. The guest maps it, but the CPU's table has no entry yet: "
            "a **hidden fault**."
        )
    if isinstance(event, TraceFault):
        return f"`{name}` writes to `{hex8(event.gva)}`, a page that the VMM watches: a **trace fault**."
    if isinstance(event, TrueFault):
        return f"`{name}` touches `{hex8(event.gva)}`, which the guest's own tables do not allow: a **true fault**."
    return f"`{name}` leaves the guest."


def _system_call(name: str, record: StepRecord) -> str:
    who = "A program asks for a system call." if record.cpl == 3 else "The kernel calls a gate of its own."
    return f"{who} The CPU's own IDT belongs to the VMM, so `{name}` goes **to the VMM**, not to the guest kernel."


def _callout(event: CalloutTaken, name: str) -> str:
    if event.reason == "chain":
        return f"`{name}` leads to code that the cache has no link to yet, so the cache **calls the VMM**."
    if event.reason == "ret_miss":
        return f"`{name}`: the return address is not in the cache's table, so the cache **calls the VMM**."
    if event.reason in ("indirect_miss", "miss"):
        return f"`{name}`: the target is not in the cache's table, so the cache **calls the VMM**."
    return (
        f"`{name}` cannot run here: in its place the cache **calls the VMM** (callout at `{hex8(event.tc_address)}`)."
    )


def _vmm_at_work(beat: Beat, record: StepRecord, guest: Registers, engine: str) -> str:
    name = instruction(record.mnemonic, record.operands)
    delivered = _find(beat.events, ExceptionDelivered)
    if isinstance(delivered, ExceptionDelivered):
        return _delivery(beat, delivered, record, guest)
    interrupt = _find(beat.events, InterruptDelivered)
    if isinstance(interrupt, InterruptDelivered):
        return (
            f"An interrupt is waiting and the guest's IF is 1: the VMM enters the guest's handler for vector "
            f"`{interrupt.vector:02x}` at `{hex8(interrupt.handler)}`."
        )
    parts = [part for part in (
        _emulation(beat, record, name),
        _memory_work(beat),
        _translation(beat),
    ) if part]  # fmt: skip
    unhandled = next((event for event in beat.events if isinstance(event, TrapTaken) and not event.handled), None)
    if unhandled is not None and not parts:
        return ""
    return " ".join(parts) or f"The VMM has carried out `{name}` and resumes the guest."


def _emulation(beat: Beat, record: StepRecord, name: str) -> str:
    done = _find(beat.events, Emulated)
    if not isinstance(done, Emulated):
        port = next((event for event in beat.events if isinstance(event, (PortRead, PortWritten))), None)
        if isinstance(port, PortRead):
            return f"The VMM asks the device at port `{port.port:x}`, which answers `{port.value:x}`."
        if isinstance(port, PortWritten):
            return f"The VMM gives `{port.value:x}` to the device at port `{port.port:x}`."
        return ""
    now, cpu = record.guest, record.cpu
    if record.mnemonic == "mov" and record.operands.endswith("cr3") and now.cr3 != cpu.cr3:
        return (
            f"The VMM hands out the **guest's CR3**, `{hex8(now.cr3)}`, not the shadow table at `{hex8(cpu.cr3)}` "
            "that the CPU really uses."
        )
    words = f"The VMM does it for the guest: **{arrow(done.effect)}**."
    if "IF" in done.effect and (now.eflags ^ cpu.eflags) & flags.IF:
        words += f" The CPU's own IF stays {int(bool(cpu.eflags & flags.IF))}."
    elif "cr3" in record.operands and now.cr3 != cpu.cr3:
        words += f" The guest's CR3 is `{hex8(now.cr3)}`; the CPU uses the shadow table at `{hex8(cpu.cr3)}`."
    return words


def _delivery(beat: Beat, delivered: ExceptionDelivered, record: StepRecord, guest: Registers) -> str:
    gate = f"{delivered.vector:02x}"
    if record.mnemonic.startswith("int"):
        address = guest.idtr_base + 8 * delivered.vector
        ring = "" if record.cpu.cpl == 3 else f", at ring {record.cpu.cpl}"
        return (
            f"The VMM looks up gate {gate} in the **guest's** IDT at `{hex8(address)}` "
            f"and enters the guest kernel{ring}."
        )
    name = VECTOR_NAMES.get(delivered.vector, f"vector {gate}")
    why = f": {delivered.why}" if delivered.why else ""
    code = "" if delivered.error_code is None else f"({delivered.error_code:04x})"
    mark = "✕ " if ends_in_fault(beat.events) else ""
    return (
        f"**{mark}{name}{code}** at `{hex8(delivered.eip)}` belongs to the guest{why}. Its handler at "
        f"`{hex8(delivered.handler)}` runs next: vector {delivered.vector} of the guest's IDT."
    )


def _memory_work(beat: Beat) -> str:
    fills = [event for event in beat.events if isinstance(event, HiddenFault)]
    if fills:
        filled, count = fills[0], len(fills)
        where = f"ppn {filled.ppn:05x} is machine frame {filled.mpn:05x}"
        if any(isinstance(event, VmExit) for event in beat.events):
            entries = "the nested entry" if count == 1 else f"{count} nested entries"
            return f"The VMM asks its own map: {where}. It **fills {entries}** and the guest never knows."
        more = "" if count == 1 else f" and {count - 1} more"
        return (
            f"The VMM looks into the guest's tables: page {filled.gva >> 12:05x} is {where}. "
            f"It **fills the entry**{more} and the guest never knows."
        )
    traced = _find(beat.events, TraceFault)
    if isinstance(traced, TraceFault):
        dropped = [event for event in beat.events if isinstance(event, UnitInvalidated)]
        if dropped:
            return (
                f"The store hits translated code: the VMM **drops {counted(len(dropped), 'fragment')}** "
                "and lets the store happen."
            )
        return "The VMM carries out the store and keeps its own copy right."
    return ""


def _translation(beat: Beat) -> str:
    units = [event for event in beat.events if isinstance(event, UnitTranslated)]
    chained = [event for event in beat.events if isinstance(event, FragmentChained)]
    words = ""
    if units:
        unit = units[-1]
        identical = sum(1 for row in unit.lines if row[2] == "ident")
        words = (
            f"The VMM translates {counted(len(unit.lines), 'instruction')} from `{hex8(unit.eip)}` into a fragment at "
            f"`{hex8(unit.tc_address)}`, **{identical} of them identical**."
        )
    if chained:
        words += (" It" if units else "The VMM") + (
            f" **chains** the jump to `{hex8(chained[-1].to_tc_address)}`: next time nobody is called."
        )
    return words.strip()


def _runs(beat: Beat, record: StepRecord, guest: Registers, engine: str) -> str:
    name = instruction(record.mnemonic, record.operands)
    extra = " ".join(part for part in (_translation(beat), _memory_work(beat)) if part)
    ring = _find(beat.events, RingChanged)
    delivered = _find(beat.events, ExceptionDelivered)
    if beat.finding is not None and beat.finding.right and beat.finding.got_word:
        bit = f"{beat.finding.what}{NBSP}={NBSP}{beat.finding.got}"
        words = f"`{name}` pushes `{beat.finding.got_word}`: **{bit}**, the truth."
    elif isinstance(delivered, ExceptionDelivered):
        vector = VECTOR_NAMES.get(delivered.vector, f"gate {delivered.vector:02x}")
        words = f"`{name}` goes straight to the guest kernel ({vector}): the IDT in the CPU is the guest's own."
        fault = _find(beat.events, TrueFault)
        if isinstance(fault, TrueFault):
            words = (
                f"`{name}` touches `{hex8(fault.gva)}`, which the guest's own tables do not allow: a **true fault**. "
                "The guest's handler runs next, and no VMM."
            )
    elif isinstance(ring, RingChanged):
        who = "the guest kernel" if ring.to_cpl < 3 else "the guest program"
        words = f"`{name}` goes straight to {who}, ring {ring.to_cpl}: the CPU is not asked to trap."
    elif record.cpl == 0 and is_sensitive(record) and record.how == "translated":
        words = f"`{name}` needs no call: it was **rewritten** in the cache{_at(record)}{effect(record, guest)}."
    elif record.cpl == 0 and is_sensitive(record) and engine == "svm":
        words = f"`{name}` needs **no exit** at the guest's own ring 0{effect(record, guest)}."
    elif record.how == "translated":
        words = f"`{name}` runs in the translation cache{_at(record)}{effect(record, guest)}."
    elif beat.ring == 3 and engine == "bt":
        words = f"`{name}` is user code and **runs directly**, untranslated{effect(record, guest)}."
    else:
        words = f"`{name}` runs on the CPU as it is{effect(record, guest)}."
    if _find(beat.events, Halted):
        words = f"`{name}`: the CPU has nothing to do, and the clock jumps to what is due next."
    switched = _find(beat.events, AddressSpaceSwitched)
    if isinstance(switched, AddressSpaceSwitched):
        words += f" The guest's page directory is now `{hex8(switched.cr3)}`."
    return f"{extra} {words}".strip()


def is_sensitive(record: StepRecord) -> bool:
    """One of the instructions that a VMM has to care about."""
    return bool(record.code) and decode(record.code, record.eip).kind is Kind.SENSITIVE


def _at(record: StepRecord) -> str:
    return "" if record.tc_address is None else f" at `{hex8(record.tc_address)}`"


def effect(record: StepRecord, before: Registers) -> str:
    """What the instruction changed: a register, flags, or the way."""
    after = record.guest
    next_eip = (record.eip + len(record.code)) & 0xFFFF_FFFF
    if record.mnemonic.startswith("j") and record.mnemonic != "jmp":
        if after.eip == next_eip:
            return ": the jump is **not taken**"
        return f": the jump is **taken**, to `{hex8(after.eip)}`"
    if after.eip != next_eip and record.mnemonic.startswith(("jmp", "call", "ret", "iret", "loop")):
        return f" and goes to `{hex8(after.eip)}`"
    changed = [
        f"{name.upper()}{NBSP}={NBSP}`{hex8(new)}`"
        for name, old, new in zip(GPR_NAMES, before.gpr, after.gpr, strict=True)
        if old != new and name != "esp"
    ]
    if changed:
        return ": " + ", ".join(changed[:2])
    if before.gpr[4] != after.gpr[4]:
        if record.mnemonic.startswith("push") and after.stack_top is not None:
            return f": it pushes `{hex8(after.stack_top)}`"
        return f": ESP{NBSP}={NBSP}`{hex8(after.gpr[4])}`"
    bits = flag_changes(before.eflags, after.eflags)
    if bits:
        return ": " + ", ".join(f"{name}{NBSP}={NBSP}{value}" for name, _, value in bits)
    return ""


def flag_changes(before: int, after: int) -> list[tuple[str, int, int]]:
    """(name, old, new) of the flags that differ, IF first."""
    rows = [
        (name, int(bool(before & mask)), int(bool(after & mask)))
        for name, mask in SHOWN_FLAGS
        if (before ^ after) & mask
    ]
    return sorted(rows, key=lambda row: row[0] != "IF")
