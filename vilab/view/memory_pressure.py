"""One slider that presses on a host until it gives: machine memory that the vmkernel takes for itself.

::

    pressure  0 MB ────────────●────────────── 24 MB
                               │ frames are really taken, as far as there are free ones,
                               v and the rest as soon as guests give some back
    high ──> soft: balloons ──> hard: page out ──> low: page out and block ──> ... and back up, with hysteresis

Letting the slider go lets one step of time pass. The guests run on: what they do about it can be seen in their curves.

MODEL: who presses is the vmkernel, with frames of its own (``MemoryTrack.set_pressure``); in life it is the next
virtual machine, or those that are there and wake up. The machine that is left is smaller by these frames, and the
thresholds, which are percentages, with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.memory.client import MB_PAGES
from vilab.view.memory_chart import ChartTrack
from vilab.view.memory_chart_draw import mb
from vilab.view.memory_knobs import Knob
from vilab.view.memory_track import MemoryTrack

PRESSURE = "pressure"


class PressureTrack(ChartTrack):
    """``Turnable``: a chart with the slider.

    Parameters
    ----------
    most_mb : the end of the slider.
    """

    def __init__(self, memory: MemoryTrack, question: str, steps: int, most_mb: int, rows: int = 0) -> None:
        super().__init__(memory, question, steps, rows)
        self.most_mb = most_mb
        self.wanted_mb = memory.newest.pressure_pages / MB_PAGES

    def knobs(self) -> Sequence[Knob]:
        taken = self.memory.newest.pressure_pages
        words = f"{self.wanted_mb:g} MB"
        if self.memory.at_newest and taken < self.wanted_mb * MB_PAGES:
            words += f", {mb(taken)} taken"
        label = "pressure: the vmkernel takes"
        return (Knob(PRESSURE, label, 0, self.most_mb, 1, self.wanted_mb, words, waits=True),)

    def turn(self, name: str, to: float) -> None:
        """Press, and let a step pass."""
        if round(to) != self.wanted_mb:
            self.wanted_mb = round(to)
            self.memory.set_pressure(round(to) * MB_PAGES)
        self.memory.run(1)
