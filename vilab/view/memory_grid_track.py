"""A host's memory as a picture to be played: the machine's frames on the left, what the guests think on the right.

::

    Machine memory                         What each VM thinks it has
    ┌──┬──┬──┬──┬──┬──┐                    vm1                     16 MB, costs 5.1 MB
    │▓▓│▓▓│▓▒│▒▒│  │  │                    [ private | shared |. . . . . . . . . . . .]
    ├──┼──┼──┼──┼──┼──┤                    vm2
    │  │  │  │  │  │  │                    [ private | shared |. . . . . . . . . . . .]
    └──┴──┴──┴──┴──┴──┘
    ■ private 5.6 MB  ▨ shared  □ free
    Square 3 of 96: 120 private, 90 shared, 46 free.

The grid itself is drawn by the page (``memory_grid.js``); everything else is a player's stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from vilab.errors import AdminError
from vilab.memory.client import MB_PAGES
from vilab.view import memory_bars, memory_says
from vilab.view.frame import Picture, Stage
from vilab.view.memory_frame import MemoryFrame
from vilab.view.memory_grid import Kind, Shape, kinds, message, shape, size, stacks, totals
from vilab.view.memory_track import MemoryTrack
from vilab.view.playback import Ask, Playback
from vilab.view.svg import number, text
from vilab.view.timeline import timeline
from vilab.view.words import NBSP, plain

GRID_WIDTH, MOST_HEIGHT, LEAST_HEIGHT, TOP = 408.0, 306.0, 256.0, 46.0
KEY_HEIGHT, WORDS_HEIGHT = 62.0, 56.0
"""Under the grid: two rows of the key, two lines of words."""

_FILLS = {
    Kind.PRIVATE: "guest-fill", Kind.SHARED: "shared-fill", Kind.ZERO: "shared-wash", Kind.MONITOR: "host-fill",
    Kind.VMKERNEL: "host-ink",
}  # fmt: skip


class GridTrack:
    """``Track`` for a player.

    Parameters
    ----------
    memory : what is played; other views of it may move it, too.
    question : the heading, in the student's words.
    steps : how far the slider reaches. The run may be longer already.
    """

    def __init__(self, memory: MemoryTrack, question: str, steps: int, show: Sequence[str] = ("table", "log")) -> None:
        self.memory, self.question, self.steps, self.show = memory, question, steps, tuple(show)
        self.open_square: int | None = None
        self.cursor = 0
        """The page that is pointed at in the open square, or the square among all."""
        self.only = ""
        """Whose frames are shown alone."""

    @property
    def shape(self) -> Shape:
        return shape(self.memory.newest.machine_pages, GRID_WIDTH, MOST_HEIGHT)

    @property
    def grid_height(self) -> float:
        """As much as the squares need, and enough for the pages of one."""
        return max(LEAST_HEIGHT, self.shape.rows * self.shape.pitch)

    @property
    def total(self) -> int:
        return max(self.steps, len(self.memory.frames) - 1)

    # Moving --------------------------------------------------------------------------------------------------------

    def go(self, position: int) -> None:
        newest = self.memory.newest.number
        if position > newest:
            self.memory.run(position - newest)
        elif position != self.memory.position:
            self.memory.seek(position)

    def next_like(self, position: int, direction: int) -> int | None:
        """The next recorded step at which something like this happened."""
        frames = self.memory.frames
        kind = memory_says.glyph_of(frames[position]) if position < len(frames) else ""
        at = position + direction
        while 0 < at < len(frames):
            found = memory_says.glyph_of(frames[at])
            if found and (not kind or found == kind):
                return at
            at += direction
        return None

    # Looking closer ------------------------------------------------------------------------------------------------

    def open(self, row: int) -> None:
        """Enter on a machine: only its frames are shown; again: all."""
        vms = self.memory.frame.vms
        if 0 <= row < len(vms):
            self.only = "" if self.only == vms[row].name else vms[row].name

    def zoom(self, square: int | None, cursor: int = 0) -> None:
        """Open a square, or close it: the cursor stays on what was open."""
        squares = self.shape.squares
        if square is not None and not 0 <= square < squares:
            raise AdminError(f"The machine has {squares} MB of memory; there is no square {square + 1}.")
        self.cursor = cursor if square is not None else (self.open_square or 0)
        self.open_square = square

    def point(self, mpn: int) -> None:
        """Show this frame among its neighbours."""
        self.zoom(mpn // MB_PAGES, mpn % MB_PAGES)

    def grid(self) -> dict[str, Any]:
        """What the page draws the grid from."""
        made = message(self.memory.frame, self.shape, self.open_square, self.only, self.cursor)
        made["height"] = self.grid_height
        return made

    # The picture -----------------------------------------------------------------------------------------------------

    def before(self, position: int) -> MemoryFrame | None:
        return self.memory.frames[position - 1] if position else None

    def describe(self, position: int) -> str:
        """The text twin of one recorded step."""
        return plain(memory_says.say(self.memory.frames[position], self.before(position)))

    def picture(self, position: int) -> Picture:
        return self._picture(position, "")

    def still(self, position: int) -> Picture:
        """The same with the grid as SVG, for where no page draws."""
        return self._picture(position, still_grid(self.memory.frames[position], self.shape, self.only))

    def _picture(self, position: int, grid: str) -> Picture:
        frame, before = self.memory.frames[position], self.before(position)
        say = memory_says.say(frame, before)
        if self.memory.notice:
            say = f"**{self.memory.notice}** {say}"
        marks = [(each.number, glyph) for each in self.memory.frames if (glyph := memory_says.glyph_of(each))]
        made = {"sharing": lambda: memory_says.sharing_panel(frame, before),
                "table": lambda: memory_says.table(frame, before),
                "log": lambda: memory_says.log(self.memory.frames, position)}  # fmt: skip
        stage = Stage(
            label=f"{self.question} {plain(say)}", height=TOP + self.grid_height + KEY_HEIGHT + WORDS_HEIGHT,
            under=self._under(frame) + grid,
            over=memory_bars.draw(frame.vms, self.grid_height + KEY_HEIGHT, self.only), rows=len(frame.vms),
        )  # fmt: skip
        when = memory_says.seconds(frame.at_ns)
        return Picture(
            position, self.total, when, say, f"step {position} of {self.total}, {plain(when)}. {plain(say)}", stage,
            timeline(marks, position, self.total), tuple(made[name]() for name in self.show),
        )  # fmt: skip

    def _under(self, frame: MemoryFrame) -> str:
        total = size(frame.machine_pages).replace(" ", NBSP)
        small = f"{total} in address order, 1 square = 1{NBSP}MB; key in MB"
        if self.open_square is not None:
            first = self.open_square * MB_PAGES
            small = f"the {MB_PAGES} pages of square {self.open_square + 1}, from frame {first:05x} on"
        elif self.only:
            small = f"only what {self.only} has a part in"
        return text(0, 16, "Machine memory", "l b") + text(0, 35, small, "soft")


def still_grid(frame: MemoryFrame, form: Shape, only: str = "") -> str:
    """The squares as SVG, each a stack of its kinds; free memory is hollow."""
    found = kinds(frame, only)
    counts = stacks(found)
    side = form.pitch - (2 if form.pitch > 8 else 1)
    paths: dict[Kind, list[str]] = {}
    hollow = []
    for square, row in enumerate(counts.tolist()):
        x, y = form.pitch * (square % form.columns), TOP + form.pitch * (square // form.columns)
        if row[Kind.FREE] == sum(row):
            hollow.append(
                f"M{number(x + 0.5)} {number(y + 0.5)}h{number(side - 1)}v{number(side - 1)}h{number(1 - side)}Z"
            )
            continue
        bottom = y + side
        for kind in (Kind.VMKERNEL, Kind.MONITOR, Kind.PRIVATE, Kind.SHARED, Kind.ZERO):
            high = side * row[kind] / MB_PAGES
            if high:
                bottom -= high
                paths.setdefault(kind, []).append(
                    f"M{number(x)} {number(bottom)}h{number(side)}v{number(high)}h{number(-side)}Z"
                )
    drawn = [f'<path d="{"".join(d)}" style="fill:var(--vl-{_FILLS[kind]})"/>' for kind, d in paths.items()]
    drawn.append(f'<path d="{"".join(hollow)}" style="fill:none;stroke:var(--vl-line-strong)"/>')
    sums = totals(found)
    words = ", ".join(f"{name} {size(sums[kind])}" for kind, name in _KEY if sums[kind])
    y = TOP + form.rows * form.pitch + 18
    return "".join(drawn) + text(0, y, words, "soft")


_KEY = (
    (Kind.PRIVATE, "private"), (Kind.SHARED, "shared"), (Kind.ZERO, "zeros"), (Kind.MONITOR, "monitors"),
    (Kind.VMKERNEL, "vmkernel"), (Kind.FREE, "free"),
)  # fmt: skip


class GridPlayback(Playback):
    """A playback whose page may also ask for a square: ``{"do": "zoom", "square": 3, "cursor": 17}``, ``-1`` closes."""

    track: GridTrack

    def __init__(self, track: GridTrack, ask: Ask | None = None, position: int = 0) -> None:
        super().__init__(track, ask, position)

    def handle(self, wish: Mapping[str, Any]) -> None:
        if wish.get("do") != "zoom":
            super().handle(wish)
            return
        try:
            square = int(wish.get("square", -1))
            self.track.zoom(square if square >= 0 else None, int(wish.get("cursor", 0)))
            self._picture = None
        except AdminError as error:
            self.failed(error)

    def follow(self) -> None:
        """Somebody else has moved the track or acted on it."""
        self.position = self.track.memory.position
        self._picture = None

    def frame(self) -> dict[str, Any]:
        made = super().frame()
        made["stage"]["grid"] = self.track.grid()
        return made


def copy_of(frame: MemoryFrame, **changes: Any) -> MemoryFrame:
    """A frame with other values: for tests and for pictures of machines that are larger than the test's."""
    return msgspec.structs.replace(frame, **changes)
