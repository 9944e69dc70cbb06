"""The tables under a picture: two truths, registers and flags, and the log.

::

    Two truths                what the guest set    what the CPU holds
      CPL                                     0  !=  1
      IF                                      0  !=  1               <- the row of this step has a wash
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.errors import VECTOR_NAMES
from vilab.events import (
    AddressSpaceSwitched,
    CalloutTaken,
    ExceptionDelivered,
    HiddenFault,
    InterruptDelivered,
    TraceFault,
    TrapTaken,
    TrueFault,
    UnitTranslated,
    VmExit,
)
from vilab.view.beats import NESTED_PAGE_FAULT, VMM, Beat, truths_before
from vilab.view.frame import Cell, Panel, Row
from vilab.view.says import flag_changes
from vilab.view.words import grouped, hex4, hex8, instruction
from vilab.vmm.records import GPR_NAMES, Registers, StepRecord
from vilab.x86 import flags

LOG_ROWS = 60
"""Rows of the log that are sent: eight are seen, the rest by scrolling."""

_FLAGS_SHOWN = (("CF", flags.CF), ("PF", flags.PF), ("ZF", flags.ZF), ("SF", flags.SF), ("IF", flags.IF),
                ("DF", flags.DF), ("OF", flags.OF))  # fmt: skip


def truths_at(
    beats: Sequence[Beat], records: Sequence[StepRecord], position: int, start: tuple[Registers, Registers]
) -> tuple[Registers, Registers]:
    """The pair (guest, cpu) while beat ``position`` is shown."""
    return truths_before(records, beats[position - 1].position, start) if position else start


def two_truths(
    beats: Sequence[Beat], records: Sequence[StepRecord], position: int, start: tuple[Registers, Registers]
) -> Panel:
    """What the guest set beside what the CPU holds, row by row."""
    guest, cpu = truths_at(beats, records, position, start)
    before, cpu_before = truths_at(beats, records, position - 1, start) if position else (guest, cpu)
    beat = beats[position - 1] if position else None
    finding = beat.finding if beat else None

    def values(which: Registers) -> list[tuple[str, str]]:
        return [
            ("CPL", str(which.cpl)),
            ("IF", str(int(bool(which.eflags & flags.IF)))),
            ("IDTR base", hex8(which.idtr_base)),
            ("CR3", hex8(which.cr3)),
        ]

    rows = []
    differ = False
    old = {name: (mine, theirs) for (name, mine), (_, theirs) in zip(values(before), values(cpu_before), strict=True)}
    for (name, mine), (_, theirs) in zip(values(guest), values(cpu), strict=True):
        if finding is not None and finding.dropped and finding.what == name:
            mine, theirs = finding.due, finding.got  # what it had just tried to set
        differ = differ or mine != theirs
        changed = (mine, theirs) != old[name]
        matters = finding is not None and not finding.right and finding.what == name and mine != theirs
        rows.append(_truth(name, mine, theirs, "bad" if matters else "now" if changed else ""))
    if finding is not None and finding.what not in dict(values(guest)) and not finding.got_word:
        rows.append(_truth(finding.what, finding.due, finding.got, "" if finding.right else "bad"))
    if finding is not None and finding.got_word:
        rows.append(_truth("top of stack", finding.due_word, finding.got_word, "" if finding.right else "bad"))
    if cpu.nested_cr3 is not None:
        blank = Cell("")
        rows.append(Row((Cell("nested CR3"), blank, blank, Cell(hex8(cpu.nested_cr3), "mono c-host"))))
    title = (
        "Two truths" if differ else "One truth" if cpu.nested_cr3 is None else "One truth, and one page table below it"
    )
    head = (Cell(""), Cell("what the guest set", "c-guest"), Cell(""), Cell("what the CPU holds", "c-host"))
    return Panel(title, head, tuple(rows))


def _truth(name: str, mine: str, theirs: str, mark: str) -> Row:
    sign = Cell("=", "ne") if mine == theirs else Cell("≠", "ne")
    return Row((Cell(name), Cell(mine, "mono c-guest"), sign, Cell(theirs, "mono c-host")), mark)


def registers(
    beats: Sequence[Beat], records: Sequence[StepRecord], position: int, start: tuple[Registers, Registers]
) -> Panel:
    """The guest's registers: what this step changed reads ``old`` and ``new`` and has a wash."""
    guest, _ = truths_at(beats, records, position, start)
    before = truths_at(beats, records, position - 1, start)[0] if position else guest
    rows = [
        _register(name.upper(), old, new)
        for name, old, new in zip((*GPR_NAMES, "eip"), (*before.gpr, before.eip), (*guest.gpr, guest.eip), strict=True)
    ]
    changed = flag_changes(before.eflags, guest.eflags)
    names = [name for name, mask in _FLAGS_SHOWN if guest.eflags & mask]
    was = ", ".join(f"{name} {old} → {new}" for name, old, new in changed)
    rows.append(
        Row(
            (Cell("flags"), Cell(was, "mono soft"), Cell(" ".join(names) or "none set", "mono c-guest")),
            "now" if changed else "",
        )
    )
    return Panel("Registers", (Cell(""), Cell("before"), Cell("now", "c-guest")), tuple(rows))


def _register(name: str, old: int, new: int) -> Row:
    changed = old != new
    cells = (Cell(name), Cell(hex8(old) if changed else "", "mono soft"), Cell(hex8(new), "mono c-guest"))
    return Row(cells, "now" if changed and name != "EIP" else "")


def log_title(engine: str) -> str:
    return {"svm": "Exit log", "bt": "Event log"}.get(engine, "Trap log")


def log(beats: Sequence[Beat], records: Sequence[StepRecord], position: int, engine: str) -> Panel:
    """Every beat so far that has a glyph, newest at the bottom."""
    rows: list[Row] = []
    for at in range(position - 1, -1, -1):
        beat = beats[at]
        if beat.kind:
            rows.append(_log_row(at + 1, beat, records[beat.step], at + 1 == position))
            if len(rows) == LOG_ROWS:
                break
    head = (Cell("step"), Cell(""), Cell("address"), Cell("instruction"), Cell("why"), Cell("cycles", "r"))
    none = "Nothing has left the guest yet." if engine != "bare" else "There is no VMM that anything could go to."
    return Panel(log_title(engine), head, tuple(reversed(rows)), "log", none)


def _log_row(step: int, beat: Beat, record: StepRecord, now: bool) -> Row:
    why, cycles = _reason(beat, record)
    mark = ("bad" if beat.kind == "error" else "now") if now else ""
    cells = (
        Cell(str(step)), Cell("", "", beat.kind), Cell(hex8(record.eip), "mono soft"),
        Cell(instruction(record.mnemonic, record.operands), "mono clip"), Cell(why), Cell(cycles, "mono r"),
    )  # fmt: skip
    return Row(cells, mark, step)


def _reason(beat: Beat, record: StepRecord) -> tuple[str, str]:
    if beat.wrong:
        return "runs; critical", ""
    units = [event for event in beat.events if isinstance(event, UnitTranslated)]
    if beat.kind == "translate" and units:
        same = sum(1 for unit in units for row in unit.lines if row[2] == "ident")
        calls = sum(event.cycles for event in beat.events if isinstance(event, CalloutTaken))
        return f"{sum(len(unit.lines) for unit in units)} translated, {same} identical", grouped(calls) if calls else ""
    fault = next((event for event in beat.events if isinstance(event, ExceptionDelivered)), None)
    if beat.kind == "error" and fault is not None:
        return _exception(fault, record), ""
    for event in beat.events:
        if isinstance(event, TrapTaken) and beat.actor == VMM and not event.handled:
            return "nobody does it", ""
        if isinstance(event, TrapTaken):
            return event.why.replace(" <- ", " ← "), grouped(event.cycles)
        if isinstance(event, VmExit) and event.exit_code == NESTED_PAGE_FAULT:
            return "nested page fault, exit 400", grouped(event.cycles)
        if isinstance(event, VmExit):
            return f"{event.reason}, exit {event.exit_code:x}", grouped(event.cycles)
        if isinstance(event, CalloutTaken):
            return event.reason.replace("_", " "), grouped(event.cycles)
        if isinstance(event, HiddenFault):
            return f"frame {event.mpn:05x}", ""
        if isinstance(event, TraceFault):
            return f"watched page {event.ppn:05x}", ""
        if isinstance(event, TrueFault):
            return f"#PF({hex4(event.error_code)}) at {hex8(event.gva)}", ""
        if isinstance(event, ExceptionDelivered):
            return _exception(event, record), ""
        if isinstance(event, AddressSpaceSwitched):
            return f"directory {hex8(event.cr3)}", ""
        if isinstance(event, InterruptDelivered):
            return f"vector {event.vector:02x}", ""
    return "the VMM acts" if beat.actor == VMM else "", ""


def _exception(event: ExceptionDelivered, record: StepRecord) -> str:
    if record.mnemonic.startswith("int"):
        return "the CPU's IDT is the VMM's"
    code = "" if event.error_code is None else f"({hex4(event.error_code)})"
    return f"{VECTOR_NAMES.get(event.vector, f'vector {event.vector:02x}')}{code} for the guest"
