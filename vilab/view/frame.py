"""What a player shows at one moment: the one record that goes from the models to the page.

::

    Frame
      +-- stage      the picture: SVG below and above the playhead, or a table
      +-- timeline   the slider: ticks, and the glyphs of what has happened so far
      +-- say        the text twin
      +-- panels     state on the left, log on the right
      +-- card       a prediction, before or after its reveal, or nothing
      +-- notice     an error of the person, a bug, or nothing

A frame holds nothing from the future of the run: no later event, no answer before its reveal.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

WIDTH = 912
"""Units of a stage: 960 px less the padding on both sides."""


class Stage(msgspec.Struct, frozen=True):
    """The picture. ``under`` and ``over`` are SVG on both sides of the playhead; ``table`` is HTML instead of both.

    height : in units of which there are ``WIDTH`` across; the same for every moment of one run.
    lecture_height : the shorter height without the second-rank band.
    playhead : its x, ``None`` where time is not on x.
    origin, unit : the step at the left edge and units a step, for pictures that follow the playhead.
    label : for those who cannot see it.
    rows : how many rows the cursor can stand on; 0 for none.
    """

    label: str
    height: float = 0
    lecture_height: float = 0
    under: str = ""
    over: str = ""
    table: str = ""
    playhead: float | None = None
    playhead_height: float = 0
    origin: int = 0
    unit: float = 0
    rows: int = 0


class Timeline(msgspec.Struct, frozen=True):
    """The slider's axis from position 0 at ``left`` to ``total`` at ``right``, and what is drawn on it."""

    left: float
    right: float
    svg: str


class Cell(msgspec.Struct, frozen=True):
    """One cell: sentence marks are allowed. ``css``: ``mono``, ``soft``, ``r`` (right-aligned), ``c-guest``..."""

    text: str
    css: str = ""
    glyph: str = ""


class Row(msgspec.Struct, frozen=True):
    """``mark``: ``now`` (changed in this step), ``bad`` (a mismatch that matters), or empty. ``goto``: a position."""

    cells: tuple[Cell, ...]
    mark: str = ""
    goto: int | None = None


class Panel(msgspec.Struct, frozen=True):
    """A heading of two words and a table. ``kind`` is ``state`` or ``log``; a log scrolls after eight rows."""

    title: str
    head: tuple[Cell, ...]
    rows: tuple[Row, ...]
    kind: str = "state"
    empty: str = ""


class Picture(msgspec.Struct, frozen=True):
    """What a track knows about one position."""

    position: int
    total: int
    when: str
    say: str
    value_text: str
    stage: Stage
    timeline: Timeline
    panels: tuple[Panel, ...] = ()
    fault: bool = False


class Track(Protocol):
    """Something that can be played: positions 0 (nothing has run) to ``total``."""

    question: str

    @property
    def total(self) -> int: ...

    def go(self, position: int) -> None:
        """Move the model there. What it raises is shown to the person."""
        ...

    def picture(self, position: int) -> Picture: ...

    def open(self, row: int) -> None:
        """Enter on a row of the stage."""
        ...

    def next_like(self, position: int, direction: int) -> int | None:
        """The next (1) or previous (-1) position with an event of the kind that is at ``position``."""
        ...
