"""A run of the machine played as page tables: guest's beside shadow's or nested, a step of the machine a step here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.events import (
    AddressSpaceSwitched,
    ExceptionDelivered,
    HiddenFault,
    TraceFault,
    TrueFault,
)
from vilab.view import tables, tables_draw, tables_says
from vilab.view.beats import GUEST, Beat, ends_in_fault, truths_before
from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.run_track import RunTrack
from vilab.view.timeline import timeline
from vilab.view.words import hex8
from vilab.vmm.records import StepRecord
from vilab.vmm.stepping import Stepper

OF_THE_MMU = (HiddenFault, TraceFault, TrueFault, AddressSpaceSwitched, ExceptionDelivered)


def kind_of(record: StepRecord) -> str:
    """The one mark of a step on the time line."""
    if ends_in_fault(record.events):
        return "error"
    for event, kind in ((TrueFault, "true_fault"), (TraceFault, "trace_fault"), (HiddenFault, "hidden_fault")):
        if any(isinstance(each, event) for each in record.events):
            return kind
    return "space" if tables_says.is_switch(record) else ""


class TablesTrack(RunTrack):
    """Page tables (``tables``).

    Parameters
    ----------
    run : a stepper; its machine is asked for its tables at every position.
    gva : the page that is followed at first; ``None``: the one of the first page fault that is not in kernel space.
    show : panels: ``walk``, ``log``, ``truths``, ``registers``.
    brief : only steps with a fault, a load of CR3, or a change of an entry on screen; for long runs.
    """

    def __init__(
        self, run: Stepper, question: str, show: Sequence[str] = ("walk", "log"), gva: int | None = None,
        brief: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(run, question, show)
        self._stepper = run
        self._gva = first_page(run) if gva is None else gva
        self._pinned: int | None = None
        self._brief = brief
        self._history = tables.TablesHistory(run, self._gva)

    def make_beats(self, records: Sequence[StepRecord]) -> list[Beat]:
        return [
            Beat(
                step, step + 1, GUEST, record.cpl, record.cpu_cpl, kind_of(record),
                tuple(each for each in record.events if isinstance(each, OF_THE_MMU)), False, record.virtual_ns,
            )
            for step, record in enumerate(records)
            if not self._brief or kind_of(record) or self._history.changes(step + 1)
        ]  # fmt: skip

    def _machine_at(self, position: int) -> int:
        """The step of the machine that a position shows."""
        return self.beats[position - 1].position if position else 0

    def scene(self, position: int) -> tables.TablesScene:
        words = self.sentence(position)
        return tables.scene(self._history, self._machine_at(position), position, self.total, self.run.engine, words)

    def sentence(self, position: int) -> str:
        if not position:
            return self.nothing_yet()
        records, at = self.run.records, self._machine_at(position)
        guest, _ = truths_before(records, at - 1, self.start)
        before, now = self._history.at(at - 1), self._history.at(at)
        return tables_says.say(records[at - 1], guest, before, now, self._history.changes(at))

    def open(self, row: int) -> None:
        """Follow the page of a row from now on; the same row again lets the picture choose."""
        slots = self._history.at(self._machine_at(self._at)).slots
        if not 0 <= row < len(slots):
            return
        self._pinned = None if slots[row].gva == self._pinned else slots[row].gva
        gva = self._gva if self._pinned is None else self._pinned
        self._history = tables.TablesHistory(self._stepper, gva, follow=self._pinned is None)

    def go(self, position: int) -> None:
        super().go(position)
        self._at = position

    _at = 0

    def panels(self, position: int) -> tuple[Panel, ...]:
        made: dict[str, Callable[[], Panel]] = {"walk": lambda: self._walk(position)}
        return tuple(made[name]() if name in made else self._usual(name, position) for name in self.show)

    def _usual(self, name: str, position: int) -> Panel:
        shown, self.show = self.show, (name,)
        try:
            return super().panels(position)[0]
        finally:
            self.show = shown

    def _walk(self, position: int) -> Panel:
        """Every entry that the CPU reads for the followed page, in order."""
        path = self._history.at(self._machine_at(position)).path
        rows = [
            Row((
                Cell(f"{entry.side} {entry.level}", "c-guest" if entry.side == "guest" else "c-vmm"),
                Cell(hex8(entry.at), "mono soft"), Cell(hex8(entry.value), "mono"),
            ))
            for entry in path.reads
        ]  # fmt: skip
        head = (Cell(f"for {hex8(path.gva)}"), Cell("lies at"), Cell("says"))
        return Panel("CPU's walk", head, tuple(rows), empty="Paging is off.")

    def picture(self, position: int) -> Picture:
        scene = self.scene(position)
        return Picture(
            position, scene.total, self.when(position), scene.say, self.value_text(position), tables_draw.draw(scene),
            timeline(self.marks(position), position, scene.total), self.panels(position), self.is_fault(position),
        )  # fmt: skip


def first_page(run: Stepper) -> int:
    """The page of the first fault that is no kernel's, or else of the first instruction."""
    for record in run.records:
        for event in record.events:
            if isinstance(event, HiddenFault | TrueFault) and event.gva < 0xC000_0000 and run.engine != "svm":
                return event.gva & ~0xFFF
    return run.start.eip & ~0xFFF
