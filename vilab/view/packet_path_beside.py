"""The same packet through several cards, one below the other: what each of them is asked for, event by event.

::

    vlance    exits    ▼▼      ▼▼▼●▼▼...      30 + 10 exits         ▼ a register of the card
    pcnet32   DMA        ○○ ○○                                      ● the interrupt controllers
              port        ▰                                         ❘ the interrupt
    e1000     exits    ▼     ...
                       one event a step, all cards at once; the count is that of the step
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.predict import Prediction
from vilab.view.step_track import StepTrack
from vilab.view.svg import glyph, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import counted, plain

LEFT, RIGHT = 176.0, WIDTH - 140.0
TOP, PITCH, CARD = 6.0, 26.0, 106.0
ROWS = ("exits", "DMA", "port")
MARKS = {"read": ("trap", 0), "write": ("trap", 0), "pic": ("io", 0), "interrupt": ("space", 0), "dma": ("memory", 1),
         "frame": ("frame", 2)}  # fmt: skip
"""Kind of event to its glyph and its row."""


class Beat(msgspec.Struct, frozen=True):
    """One event of a card. ``kind`` as in ``MARKS``; ``name``: of the register, or what has moved."""

    kind: str
    name: str


class Way(msgspec.Struct, frozen=True):
    """One card. ``note``: what it is. No ``beats``: it was not measured."""

    card: str
    note: str
    beats: tuple[Beat, ...]

    def count(self, position: int, *kinds: str) -> int:
        return sum(beat.kind in kinds for beat in self.beats[:position])

    def exits(self, position: int) -> int:
        return self.count(position, "read", "write", "pic")


class BesideTrack(StepTrack):
    """``Track`` for a player: step n shows the first n events of each card."""

    def __init__(self, ways: Callable[[], Sequence[Way]], question: str, empty: str = "") -> None:
        self.question = question
        self.empty = empty or "Nothing has been sent yet. Step follows the packet, an event a step."
        self.ways = tuple(ways())

    @property
    def total(self) -> int:
        return max((len(way.beats) for way in self.ways), default=0)

    def next_like(self, position: int, direction: int) -> int | None:
        """The next step at which a card is done."""
        ends = sorted({len(way.beats) for way in self.ways if way.beats})
        later = [end for end in ends if (end > position if direction > 0 else end < position)]
        return (later[0] if direction > 0 else later[-1]) if later else None

    def sentence(self, position: int) -> str:
        if not position:
            return self.empty
        parts = []
        for way in self.ways:
            if not way.beats:
                continue
            exits = way.exits(position)
            if position < len(way.beats):
                beat = way.beats[position - 1]
                parts.append(f"{way.card}: {_said(beat)}")
            else:
                parts.append(f"**{way.card} is done, {counted(exits, 'exit')}**")
        return "; ".join(parts) + "."

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        return Picture(
            position, self.total, f"event {position}", words, f"step {position}. {plain(words)}",
            self._stage(position, plain(words)), timeline((), position, self.total, LEFT, RIGHT),
            (self._counts(position), self._registers(position)),
        )  # fmt: skip

    def _stage(self, position: int, words: str) -> Stage:
        height = TOP + CARD * len(self.ways) + 16
        unit = (RIGHT - LEFT) / max(1, self.total)
        key = (("trap", "a register of the card"), ("io", "interrupt controller"), ("space", "interrupt"))
        under, over, x = [], [], LEFT
        for kind, name in key:
            over.append(glyph(kind, x + 6, height - 18, 5) + text(x + 16, height - 14, name, "s soft"))
            x += 34 + 6.8 * len(name)
        for at, way in enumerate(self.ways):
            y = TOP + CARD * at
            under.append(rect(LEFT - 8, y, RIGHT - LEFT + 16, PITCH * 3 + 6, "var(--vl-host-wash)"))
            over.append(text(0, y + 21, way.card, "l b host") + text(0, y + 42, way.note, "s soft"))
            for row, name in enumerate(ROWS):
                over.append(text(LEFT - 16, y + 21 + PITCH * row, name, "s end soft"))
            for beat_at, beat in enumerate(way.beats[:position]):
                kind, row = MARKS[beat.kind]
                over.append(glyph(kind, LEFT + unit * (beat_at + 0.5), y + 16 + PITCH * row, min(6.0, unit * 0.55)))
            if exits := way.exits(position):
                over.append(text(WIDTH, y + 26, counted(exits, "exit"), "l b end vmm"))
                mine = way.count(position, "read", "write")
                over.append(text(WIDTH, y + 46, f"{mine} for registers", "s end soft"))
            if moved := way.count(position, "dma"):
                over.append(text(WIDTH, y + 66, counted(moved, "transfer"), "s end soft"))
        return Stage(
            label=f"{self.question} {words}", height=height, under="".join(under), over="".join(over),
            playhead=LEFT + unit * position, playhead_height=height - 36,
        )  # fmt: skip

    def _counts(self, position: int) -> Panel:
        head = (Cell("counted"), *(Cell(way.card, "r") for way in self.ways))
        kinds = (("reads of registers", "read"), ("writes of registers", "write"), ("interrupts", "interrupt"),
                 ("interrupt controllers", "pic"), ("DMA transfers", "dma"))  # fmt: skip
        rows = [Row((Cell(name), *(Cell(str(way.count(position, kind)), "r") for way in self.ways)))
                for name, kind in kinds]  # fmt: skip
        return Panel("So far", head, tuple(rows))

    def _registers(self, position: int) -> Panel:
        head = (Cell("card"), Cell("register"), Cell("accesses", "r"))
        rows = []
        for way in self.ways:
            names = Counter(beat.name for beat in way.beats[:position] if beat.kind in ("read", "write"))
            rows += [Row((Cell(way.card), Cell(name, "mono"), Cell(str(n), "r"))) for name, n in names.most_common()]
        return Panel("Registers", head, tuple(rows), "log", "None yet.")


def _said(beat: Beat) -> str:
    return {
        "read": f"reads `{beat.name}`", "write": f"writes `{beat.name}`", "pic": f"port `{beat.name}`",
        "interrupt": "the pin goes high", "dma": f"{beat.name} by DMA",
        "frame": "the frame leaves" if beat.name == "out" else "the answer is in memory",
    }[beat.kind]  # fmt: skip


def fewest(ways: Sequence[Way]) -> Prediction:
    """Which card needs fewest exits?"""
    totals: Mapping[str, int] = {way.card: way.exits(len(way.beats)) for way in ways}
    names = list(totals)

    def why() -> str:
        counts = ", ".join(f"{name} {count}" for name, count in totals.items())
        return f"Exits for one ping and its answer: {counts}."

    return Prediction(
        "One ping and its answer, with the driver that Linux has for each card. Which needs fewest exits?",
        tuple(names), lambda: names.index(min(names, key=lambda name: totals[name])), why,
    )  # fmt: skip
