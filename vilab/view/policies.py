"""The picture of a sweep: three trace policies on several workloads, and what each of them pays for.

::

    forkwait   a process with 16 pages of data comes and goes                   0 to 338,312 cycles
      all          [ hidden |trace|        the same for all       ]  207,418   1.02 x
      lazy         [      hidden faults          |  the same for all       ]  338,312   ✕ 1.67 x
      prevalidate  [hidden|compare|        the same for all       ]  202,852   cheapest

A workload a step. Every bar begins at 0; the three bars of a workload share a scale, which is written beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.view.frame import WIDTH, Picture, Stage
from vilab.view.svg import number, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import grouped, plain
from vilab.vmm.comparison_counts import HIDDEN, TRACE, VALIDATED
from vilab.vmm.comparison_policies import WORKLOADS, Outcome

GROUPS = (
    ("hidden faults", (HIDDEN,), "vmm-wash"), ("traces", (TRACE, "simulate"), "vmm-fill"),
    ("comparing", (VALIDATED,), "warn-wash"),
)  # fmt: skip
"""What a policy pays for: name, reasons of the comparison, ground."""
SAME = "the same for all"

_BARS, _BAR_ROOM, _GROUP, _PITCH, _ROW = 108.0, 560.0, 124.0, 28.0, 22.0
HEIGHT = 3 * _GROUP - 8


class Bar(msgspec.Struct, frozen=True):
    """One policy on one workload. ``parts``: (name, ground, cycles)."""

    policy: str
    cycles: float
    ratio: float
    parts: tuple[tuple[str, str, float], ...]
    worst: bool


def bars(found: Sequence[Outcome], workload: str) -> list[Bar]:
    """The bars of one workload, in the policies' order."""
    here = [each for each in found if each.workload == workload]
    most = max(each.cycles for each in here)
    made = []
    for each in here:
        parts = [
            (name, ground, sum(each.parts.get(reason, 0) for reason in reasons)) for name, reasons, ground in GROUPS
        ]
        rest = each.cycles - sum(cycles for *_, cycles in parts)
        shown = tuple(part for part in (*parts, (SAME, "host-wash", rest)) if part[2] > 0)
        made.append(Bar(each.policy, each.cycles, each.ratio, shown, each.cycles == most))
    return made


def say(found: Sequence[Outcome], workload: str) -> str:
    """Who loses, against whom, and by what."""
    here = bars(found, workload)
    best = min(here, key=lambda bar: bar.cycles)
    cheapest = [bar.policy for bar in here if bar.cycles == best.cycles]
    words = []
    for bar in sorted(here, key=lambda bar: -bar.cycles):
        if bar.worst:
            who = " and ".join(cheapest)
            words.append(
                f"{workload[0].upper()}{workload[1:]}: **{bar.policy}** loses, {bar.ratio:.2f} times the cycles of "
                f"{who}, for its {extra(bar, best)}."
            )
        elif bar.policy not in cheapest:
            words.append(f"{bar.policy} pays {bar.ratio:.2f} times, for its {extra(bar, best)}.")
    return " ".join(words)


def extra(bar: Bar, best: Bar) -> str:
    """The part for which a bar pays most above the cheapest."""
    least = {name: cycles for name, _, cycles in best.parts}
    return max(bar.parts, key=lambda part: part[2] - least.get(part[0], 0))[0]


class PolicyTrack:
    """The sweep as something that can be played.

    Parameters
    ----------
    found : from ``comparison_policies.outcomes``.
    """

    def __init__(self, found: Sequence[Outcome], question: str) -> None:
        self.found = tuple(found)
        self.question = question
        self.workloads = tuple(dict.fromkeys(each.workload for each in found))
        self.total = len(self.workloads)

    def go(self, position: int) -> None:
        """Nothing has to move: all runs are over."""

    def open(self, row: int) -> None:
        """There are no rows."""

    def next_like(self, position: int, direction: int) -> int | None:
        at = position + direction
        return at if 1 <= at <= self.total else None

    def sentence(self, position: int) -> str:
        if not position:
            return f"**Nothing is shown yet.** Press Step for the first workload, {self.workloads[0]}."
        return say(self.found, self.workloads[position - 1])

    def describe(self, position: int) -> str:
        return plain(self.sentence(position))

    def picture(self, position: int) -> Picture:
        parts = [self._group(index, name, index < position) for index, name in enumerate(self.workloads)]
        words = self.sentence(position)
        stage = Stage(
            label=f"Cycles of three trace policies, {position} of {self.total} workloads. {plain(words)}",
            height=HEIGHT, over="".join(parts),
        )  # fmt: skip
        value = f"workload {position} of {self.total}"
        return Picture(position, self.total, "", words, value, stage, timeline((), position, self.total))

    def _group(self, index: int, workload: str, shown: bool) -> str:
        top = _GROUP * index
        what = next((each.what for each in WORKLOADS if each.name == workload), "")
        here = bars(self.found, workload)
        most = max(bar.cycles for bar in here)
        parts = [text(0, top + 16, workload, "l b"), text(_BARS + 16, top + 16, what, "soft")]
        if shown:
            parts.append(text(WIDTH, top + 16, "cycles a round", "s soft end"))
        for at, bar in enumerate(here):
            y = top + 28 + _PITCH * at
            parts.append(text(0, y + 16, bar.policy, "b" if shown and bar.worst else ""))
            parts.append(_bar(bar, y, most) if shown else _empty(y))
        return "".join(parts)


def _empty(y: float) -> str:
    return f'<path d="M{number(_BARS)} {number(y)}v{number(_ROW)}" class="axis"/>'


def _bar(bar: Bar, y: float, most: float) -> str:
    x, parts = _BARS, []
    for name, ground, cycles in bar.parts:
        width = _BAR_ROOM * cycles / most
        parts.append(rect(x, y, width, _ROW, f"var(--vl-{ground})", f'class="part {ground}"'))
        if width > 9.5 * len(name):
            hue = {"vmm-fill": "on-vmm", "vmm-wash": "vmm", "warn-wash": "warn"}.get(ground, "host")
            parts.append(text(x + width / 2, y + 15, name, f"s mid {hue}"))
        x += width
    words = f"✕ {bar.ratio:.2f} ×" if bar.worst else "cheapest" if bar.ratio == 1 else f"{bar.ratio:.2f} ×"
    css = "b fault end" if bar.worst else "soft end" if bar.ratio == 1 else "end"
    parts.append(text(WIDTH - 96, y + 16, grouped(round(bar.cycles)), "m end"))
    parts.append(text(WIDTH, y + 16, words, css))
    return _empty(y) + "".join(parts)
