"""The runs behind the lessons: each function builds a guest, runs it under an engine and gives something to step.

==============================  ===============================================================================
``ring_demo(engine)``           a program asks for a system call, and the kernel looks at its own interrupt flag
``run_typed(text, engine)``     what a student types
``run_program(name, engine)``   a bundled program, from its first instruction or from a place in it
``boot(engine, name)``          a bundled program run at full speed, for its figures
==============================  ===============================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from vilab.course.small_guest import SmallGuest, assemble_typed, touch_pages
from vilab.errors import GuestStopped
from vilab.events import (
    CalloutTaken,
    Event,
    EventLog,
    ExceptionDelivered,
    PortRead,
    PortWritten,
    TrapTaken,
    VmExit,
)
from vilab.guests.load import load
from vilab.vmm.packed_code import PAPER_RETURN_ENTRIES
from vilab.vmm.records import StepRecord
from vilab.vmm.stepping import Skip, Stepper, run_until_eip
from vilab.vmm.vm import MONITOR_WINDOW, QuietConsole, VirtualMachine

RING_DEMO = """\
gate_80:
    cli
    mov  ebx, cr3
    pushf
    pop  edx
    test dh, 2
    jnz  still_on
    inc  eax
still_on:
program:
    int  0x80
"""
"""Bit 1 of DH is bit 9 of EFLAGS: IF. The kernel has just cleared it, and counts in EAX how often it found it clear."""

TYPED_STEPS = 400
"""As many instructions of a typed text are recorded: a loop without an end ends there."""

NESTED_PAGE_FAULT = 0x400
ON_THE_WAY = ("chain", "miss", "ret_miss", "indirect_miss")
"""Callouts that only find the next fragment."""


class Run(Stepper):
    """A stepper that can be built again: ``again()`` is the same guest, and ``again("bare")`` on another engine."""

    def __init__(
        self, make: Callable[[str, EventLog], VirtualMachine], engine: str, limit: int, skip: Skip | None = None
    ) -> None:
        self._make_for = make
        self._skip = skip
        super().__init__(lambda log: make(engine, log), limit, skip)

    def _record(self) -> None:
        if isinstance(self.vm, SmallGuest):
            touch_pages(self.vm)
        super()._record()

    def again(self, engine: str | None = None) -> Run:
        """A second machine with the same guest, at its start."""
        return Run(self._make_for, engine or self.engine, self.limit, self._skip)


def run_typed(text: str, engine: str, limit: int = TYPED_STEPS, **options: object) -> Run:
    """A text in Intel syntax as a guest (``small_guest`` says where everything is), to be stepped under ``engine``.

    ``AdminError`` names the line that cannot be assembled.
    """
    code = assemble_typed(text)
    return Run(lambda name, log: SmallGuest(code, name, log, **(options if name == engine else {})), engine, limit)


def ring_demo(engine: str) -> Run:
    """A program in ring 3 does ``int 0x80``; the kernel turns interrupts off and then asks whether they are off."""
    return run_typed(RING_DEMO, engine)


def run_program(
    name: str, engine: str, limit: int = 2000, start: int | None = None, written: str = "", append: str = "",
    **options: Any,
) -> Run:  # fmt: skip
    """A bundled program, recorded from its first instruction, from the first time that EIP is ``start``, or from when
    it has just written ``written`` on its serial line."""

    def make(name_of_engine: str, log: EventLog) -> VirtualMachine:
        return machine(name, name_of_engine, log, append=append, **(options if name_of_engine == engine else {}))

    skip = until_written(written) if written else run_until_eip(start) if start is not None else None
    return Run(make, engine, limit, skip)


def until_written(text: str, slice_ns: int = 500) -> Skip:
    """Skip to when ``text`` has been written on the serial line, or to the end of the run."""
    wanted = text.encode()

    def skip(vm: VirtualMachine) -> None:
        console = vm.console
        assert isinstance(console, QuietConsole)
        while wanted not in console.output and vm.engine.run(vm.engine.now_ns() + slice_ns) is None:
            pass

    return skip


def machine(
    name: str, engine: str, log: EventLog | None = None, typed: bytes = b"", append: str = "", **options: object
) -> VirtualMachine:
    """A virtual machine with a bundled program, 16 MB, and a serial line on which ``typed`` has been typed."""
    memory_bytes = 16 << 20
    reserved = None if engine in ("bare", "svm") else MONITOR_WINDOW
    image = load(name, memory_bytes=memory_bytes, append=append, reserved=reserved)
    if engine == "bt" and options.get("placement") != "mirrored":
        options.setdefault("return_entries", PAPER_RETURN_ENTRIES)
    return VirtualMachine(
        image, engine, memory_bytes, console=QuietConsole(typed), log=log, engine_options=options,
    )  # fmt: skip


def left_the_guest(run: Run) -> list[str]:
    """The instructions of a run for whose sake control left the guest, in order; page faults do not count."""
    return [
        f"{record.mnemonic} {record.operands}".strip()
        for record in run.records
        if any(_for_its_sake(event, record) or _went_through_it(event, run.engine) for event in record.events)
    ]


def _for_its_sake(event: Event, record: StepRecord) -> bool:
    """Not that of the HLT behind the last line, which ends a run."""
    return is_way_to_the_vmm(event) and (not isinstance(event, CalloutTaken) or event.eip == record.eip)


def _went_through_it(event: Event, engine: str) -> bool:
    """With a VMM in ring 0, ports and the guest's own interrupt gates are reached through it, logged or not."""
    return engine in ("trap", "bt") and isinstance(event, PortRead | PortWritten | ExceptionDelivered)


def is_way_to_the_vmm(event: Event) -> bool:
    """A trap, a callout or an exit for the sake of an instruction; finding the next fragment or a page is none."""
    if isinstance(event, CalloutTaken):
        return event.reason not in ON_THE_WAY
    if isinstance(event, VmExit):
        return event.exit_code < NESTED_PAGE_FAULT
    return isinstance(event, TrapTaken) and event.vector != 14


class Figures(msgspec.Struct, frozen=True):
    """What a whole run came to. ``serial``: what the guest wrote. ``exits``: how often the VMM was entered, and why."""

    engine: str
    name: str
    ending: str
    good: bool
    serial: str
    virtual_ns: int
    exits: dict[str, int]
    mmu: dict[str, int]
    translation: dict[str, int]

    def describe(self) -> str:
        """Three or four lines."""
        lines = [f"{self.name} under {self.engine}: {self.ending}", f"virtual time {self.virtual_ns / 1000:,.0f} µs"]
        if self.exits and self.engine not in ("bare", "deprivileged"):
            most = Counter(self.exits).most_common(6)
            total = sum(self.exits.values())
            lines.append(f"{total:,} exits to the VMM, most often: " + ", ".join(f"{n:,} {why}" for why, n in most))
        if self.translation:
            lines.append(", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in self.translation.items()))
        return "\n".join(lines)


def boot(engine: str, name: str = "shell", typed: str = "exit\n", append: str = "", **options: object) -> Figures:
    """Run a bundled program to its end at full speed. ``typed`` is what a person would type at its serial line."""
    vm = machine(name, engine, None, typed.encode(), append, **options)
    try:
        try:
            ended = vm.engine.run()
        except GuestStopped as stopped:
            vm.engine.end("stopped", str(stopped), good=False)
            ended = vm.engine.ended
        assert ended is not None
        figures: dict[str, Any] = vm.engine.statistics()
        assert isinstance(vm.console, QuietConsole)
        return Figures(
            engine, name, ended.sentence, ended.good, vm.console.output.decode("ascii", "replace"),
            figures["virtual_ns"], figures["exits"], figures["mmu"], figures.get("translation", {}),
        )  # fmt: skip
    finally:
        vm.close()


def last_lines(figures: Figures, count: int = 6) -> str:
    """The end of what the guest wrote on its serial line."""
    return "\n".join(figures.serial.rstrip().splitlines()[-count:])


def compare(figures: Sequence[Figures]) -> str:
    """Several runs of one program in columns: virtual time, and the work of the VMM."""
    rows = [["", *(each.engine for each in figures)]]
    rows.append(["virtual time, µs", *(f"{each.virtual_ns / 1000:,.0f}" for each in figures)])
    rows.append(["exits to the VMM", *(_exits(each) for each in figures)])
    rows.append(["hidden page faults", *(f"{each.mmu['hidden_faults']:,}" for each in figures)])
    same = len({each.serial for each in figures}) == 1
    rows.append(["serial output", *("the same" if same else f"{len(each.serial)} bytes" for each in figures)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        row[0].ljust(widths[0]) + "  " + "  ".join(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def _exits(figures: Figures) -> str:
    return "no VMM" if figures.engine == "bare" else f"{sum(figures.exits.values()):,}"


def first_difference(one: Figures, other: Figures) -> str:
    """The first line of serial output in which two runs of one program differ."""
    for number, (a, b) in enumerate(zip_longest(one.serial.splitlines(), other.serial.splitlines(), fillvalue="")):
        if a != b:
            width = max(len(one.engine), len(other.engine))
            return f"line {number + 1}\n  {one.engine:{width}}  {a}\n  {other.engine:{width}}  {b}"
    return "There is none."
