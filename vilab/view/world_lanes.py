"""One packet through the worlds: lanes from the guest down to the host's kernel, a step an event.

::

    guest        OUT ━┓                                      ┏━━━
    VMM               ┗┓                                    ┏┛
    ══════════════════ ┃ ══════ world switch ══════════════ ┃ ═══════════
    VMDriver           ┗┓                                  ┏┛
    VMApp               ┗━━┓          ┏━━━━┓    ┏━━━━━━━━━━┛
    host kernel            ┗━ write ━━┛    ┗━━━━┛ select

Only the thick orange verticals are world switches; their number is the one that is written large.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.predict import Prediction
from vilab.view.step_track import StepTrack
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import duration, plain
from vilab.view.world_stops import LANES, Stop, summary, us

LEFT, RIGHT = 332.0, WIDTH - 16.0
PITCH, LANE, GAP = 58.0, 54.0, 34.0
_GROUND = {"guest": 1, "VMM": 0, "VMDriver": 0, "VMApp": 3, "host kernel": 0, "vmkernel": 0}
_HOST = 'style="stroke:var(--vl-host-ink)"'
_LARGE = 'style="font-size:32px"'
_MARKS = {"switch": "trap", "access": "io", "interrupt": "interrupt", "wire": "frame"}


class LanesTrack(StepTrack):
    """The steps of one packet. They have happened already; what is to come is not drawn."""

    def __init__(
        self, made: Sequence[Stop], question: str, lanes: Sequence[tuple[str, str]] = LANES,
        ask: Prediction | None = None, begin: str = "",
    ) -> None:  # fmt: skip
        self.made, self.question, self.lanes = tuple(made), question, tuple(lanes)
        self._ask, self._begin = ask, begin or "The guest has a frame in its ring and is about to tell its card."
        self._split = next((at for at, (name, _) in enumerate(lanes) if name == "VMDriver"), len(lanes))

    @property
    def total(self) -> int:
        return len(self.made)

    @property
    def height(self) -> float:
        return PITCH * len(self.lanes) + (GAP if self._split < len(self.lanes) else 0) + 8

    def ask(self, position: int) -> Prediction | None:
        return self._ask if position == 0 else None

    def kind_of(self, position: int) -> str:
        """A world switch, or what else it is."""
        return self.made[position - 1].kind

    def sentence(self, position: int) -> str:
        if not position:
            return self._begin
        say = self.made[position - 1].say
        return say if position < self.total else f"{say} In all: **{summary(self.made)}**."

    # The picture ------------------------------------------------------------------------------------------------------

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        since_ns = self.made[position - 1].end_ns - self.made[0].at_ns if position else 0
        marks = [(at, _MARKS[stop.kind]) for at, stop in enumerate(self.made[:position], 1) if stop.kind in _MARKS]
        return Picture(
            position, self.total, duration(since_ns), words, f"step {position} of {self.total}. {plain(words)}",
            self._stage(position, plain(words)), timeline(marks, position, self.total, LEFT, RIGHT),
            (self._state(position), self._log(position)),
        )  # fmt: skip

    def _top(self, lane: int) -> float:
        return PITCH * lane + (GAP if lane >= self._split else 0)

    def _y(self, name: str) -> float:
        return self._top(next(at for at, (lane, _) in enumerate(self.lanes) if lane == name)) + 34

    def _stage(self, position: int, says: str) -> Stage:
        unit = (RIGHT - LEFT) / max(1, self.total)
        under = [self._lane(at, name, what) for at, (name, what) in enumerate(self.lanes)]
        if self._split < len(self.lanes):
            under.append(self._border(self.made[position - 1].switches if position else 0))
        over = [self._piece(at, unit) for at in range(position)]
        if position:
            now = self.made[position - 1]
            over.append(self._label(now))
            x, y = LEFT + unit * position, self._y(now.lane)
            over.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="6" style="fill:var(--vl-vmm-ink)"/>')
        return Stage(
            label=f"{self.question} {says}", height=self.height, under="".join(under), over="".join(over),
            playhead=LEFT + unit * position, playhead_height=self.height - 8,
        )  # fmt: skip

    def _lane(self, at: int, name: str, what: str) -> str:
        hue = "guest" if name == "guest" else "vmm" if name == "VMM" else "host"
        ground = rect(0, self._top(at), WIDTH, LANE, f"var(--vl-ring-{_GROUND[name]})")
        return ground + text(16, self._top(at) + 22, name, f"b l {hue}") + text(136, self._top(at) + 22, what, "s soft")

    def _border(self, switches: int) -> str:
        y = self._top(self._split) - GAP / 2 - 2
        words = "world switches" if switches != 1 else "world switch"
        drawn = line(f"M{number(LEFT)} {number(y)}H{number(WIDTH)}", "axis")
        return drawn + text(16, y + 11, str(switches), "b vmm tab", _LARGE) + text(64, y + 6, words, "b vmm")

    def _label(self, stop: Stop) -> str:
        if not stop.name:
            return ""
        name = stop.name if len(stop.name) <= 38 else f"{stop.name[:37]}…"
        return text(16, self._y(stop.lane) + 10, name, "m b vmm")

    def _piece(self, at: int, unit: float) -> str:
        """Down or up at the left edge, then along the lane."""
        stop = self.made[at]
        left, right, y = LEFT + unit * at, LEFT + unit * (at + 1), self._y(stop.lane)
        before = self._y(self.made[at - 1].lane) if at else y
        switch = stop.kind == "switch"
        css, style = ("path-guest", "") if stop.lane == "guest" else ("path-vmm", "" if switch else _HOST)
        way = line(
            f"M{number(left)} {number(before)}V{number(y)}", "path-vmm" if switch else "go-vmm", "" if switch else _HOST
        )
        along = line(f"M{number(left)} {number(y)}H{number(right)}", css, style)
        mark = glyph("frame", (left + right) / 2, y - 12, 9) if stop.kind == "wire" else ""
        if stop.kind == "switch":
            middle = self._top(self._split) - GAP / 2 - 2
            mark = glyph("trap", left, middle, 9) if stop.lane == "VMDriver" else _up(left, middle)
        return (way if before != y else "") + along + mark

    # The panels -------------------------------------------------------------------------------------------------------

    def _state(self, position: int) -> Panel:
        """Whose time it was so far."""
        head = (Cell("who works"), Cell("steps", "r"), Cell("time", "r"))
        done = self.made[:position]
        rows = [Row((Cell("world switches"), Cell(str(sum(s.kind == "switch" for s in done)), "r"),
                     Cell(us(sum(s.ns for s in done if s.kind == "switch")), "r")))]  # fmt: skip
        for name, _ in self.lanes[1:]:
            mine = [stop for stop in done if stop.lane == name and stop.kind == "work"]
            if mine:
                rows.append(Row((Cell(name), Cell(str(len(mine)), "r"), Cell(us(sum(s.ns for s in mine)), "r"))))
        return Panel("Time spent", head, tuple(rows) if position else (), empty="Nothing has happened yet.")

    def _log(self, position: int) -> Panel:
        head = (Cell("", "r"), Cell(""), Cell("control is with"), Cell("what"), Cell("takes", "r"))
        rows = [
            Row(
                (
                    Cell(str(at), "r soft"), Cell("", glyph=_MARKS.get(stop.kind, "")), Cell(stop.lane),
                    Cell(stop.name or "world switch", "mono clip"), Cell(us(stop.ns) if stop.ns else "", "r"),
                ),
                "now" if at == position else "", at,
            )
            for at, stop in enumerate(self.made[:position], 1)
        ]  # fmt: skip
        return Panel("Event log", head, tuple(rows), "log", "No event yet.")


def _up(x: float, y: float) -> str:
    return (
        f'<path d="M{number(x - 9)} {number(y + 7)}H{number(x + 9)}L{number(x)} {number(y - 8)}Z" class="g-callout"/>'
    )
