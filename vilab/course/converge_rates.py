"""Clark's rule with its two limits as sliders: each turn moves the machine of the trace again.

::

    machine ●───────  quake
    least ──●───────  100 Mbit/s      round 1 is sent at it
    most  ──────●───  500 Mbit/s      above it the machine is stopped; the last copy is sent at it
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.course.converge_paper import LEAST_MBIT, LINK_MBIT, MOST_MBIT, USUAL_MOST_MBIT, by_clark
from vilab.migration.dirty_traces import WORKLOADS
from vilab.view.memory_knobs import Knob
from vilab.view.vmotion_track import VMotionTrack
from vilab.view.words import NBSP

NAMES = tuple(WORKLOADS)
STEP_MBIT = 25


class RatesTrack(VMotionTrack):
    """``Turnable``."""

    def __init__(self, question: str, name: str = "specweb", least_mbit: int = LEAST_MBIT, most_mbit: int = 0) -> None:
        self.name, self.least_mbit = name, least_mbit
        self.most_mbit = most_mbit or MOST_MBIT.get(name, USUAL_MOST_MBIT)
        super().__init__(by_clark(name, self.least_mbit, self.most_mbit)[1], question)

    @property
    def now(self) -> int:
        """After a turn: the whole migration."""
        return self.total

    def knobs(self) -> Sequence[Knob]:
        at = NAMES.index(self.name)
        return [
            Knob("machine", "machine", 0, len(NAMES) - 1, 1, at, self.name),
            Knob("least", "least", STEP_MBIT, LINK_MBIT, STEP_MBIT, self.least_mbit, _words(self.least_mbit)),
            Knob("most", "most", STEP_MBIT, LINK_MBIT, STEP_MBIT, self.most_mbit, _words(self.most_mbit)),
        ]

    def turn(self, name: str, to: float) -> None:
        if name == "machine":
            self.name = NAMES[round(to)]
        elif name == "least":
            self.least_mbit = round(to)
            self.most_mbit = max(self.most_mbit, self.least_mbit)
        else:
            self.most_mbit = round(to)
            self.least_mbit = min(self.most_mbit, self.least_mbit)
        self.take(by_clark(self.name, self.least_mbit, self.most_mbit)[1])


def _words(mbit: int) -> str:
    return f"{mbit}{NBSP}Mbit/s"
