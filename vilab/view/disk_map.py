"""A disk map: the grains of a chain of redo logs over the blocks of the disk.

::

                       0    4    8    12
    the guest reads    A A  C C B B B A ...                 one letter a block: its bytes
                            │   │                           a read at one go: one line a piece
    vm-000001  20 KB   . .  C C B B . . ...                 solid: this is what is read
    vm        160 KB   A A  a a a a A A ...                 outlined: there, and hidden
                                                            orange: changed in this step
"""

from __future__ import annotations

from vilab.storage import storage_events as events
from vilab.view.deed_run import DeedTrack
from vilab.view.disk_frame import ABSENT, ZEROS, DiskMoment
from vilab.view.disk_run import BLOCK_BYTES, DiskRun
from vilab.view.disk_says import kilobytes, say
from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.svg import number, rect, text
from vilab.view.timeline import timeline
from vilab.view.words import grouped, plain

LEFT, RIGHT, TOP, PITCH, BOX = 148.0, WIDTH - 76.0, 40.0, 46.0, 26.0
GAP_BELOW_GUEST = 18.0
GLYPHS = {"SnapshotTaken": "memory", "SnapshotReverted": "error", "SnapshotCommitted": "memory"}


class DiskTrack(DeedTrack[DiskRun]):
    """``Track`` for a player: a deed a step.

    Parameters
    ----------
    rows : how many files the picture has room for; more are refused by drawing none of the lowest.
    """

    def __init__(self, run: DiskRun, question: str, rows: int = 5) -> None:
        super().__init__(run, question, rows)

    def _kind(self, position: int) -> str:
        moment = self.run.moment(position)
        if moment.access is not None:
            return moment.access.kind
        return type(moment.events[-1]).__name__ if moment.events else ""

    def _say(self, position: int) -> str:
        before = self.run.moment(position - 1) if position else None
        return say(self.run.moment(position), before)

    def picture(self, position: int) -> Picture:
        moment = self.run.moment(position)
        words = self._say(position)
        marks = [(at, _glyph(self.run.moments[at])) for at in range(1, position + 1)]
        return Picture(
            position, self.total, f"{kilobytes(moment.file_bytes)} in all", words, f"step {position}. {plain(words)}",
            self._draw(position), timeline([mark for mark in marks if mark[1]], position, self.total),
            (self._files(moment), self._log(position)),
        )  # fmt: skip

    # Panels ----------------------------------------------------------------------------------------------------------

    def _files(self, moment: DiskMoment) -> Panel:
        head = (Cell("file"), Cell("blocks", "r"), Cell("hidden", "r"), Cell("size", "r"))
        rows = [
            Row(
                (
                    Cell(link.name, "mono"), Cell(str(link.held), "r"), Cell(str(moment.hidden(at)), "r soft"),
                    Cell(kilobytes(link.file_bytes), "r"),
                ),
            )
            for at, link in reversed(list(enumerate(moment.links)))
        ]  # fmt: skip
        return Panel("The files", head, tuple(rows))

    def _log(self, position: int) -> Panel:
        rows = []
        for at in range(1, position + 1):
            for event in self.run.moments[at].events:
                rows.append(Row((Cell(str(at), "r soft"), Cell(*_told(event))), "now" if at == position else "", at))
        return Panel(
            "Events", (Cell("step", "r"), Cell("what")), tuple(rows), "log", "The storage has said nothing yet."
        )

    # Drawing ---------------------------------------------------------------------------------------------------------

    def _x(self, block: float) -> float:
        return LEFT + (RIGHT - LEFT) * block / self.run.blocks

    def _y(self, row: int) -> float:
        return TOP + PITCH * row + (GAP_BELOW_GUEST if row else 0)

    def _draw(self, position: int) -> Stage:
        moment = self.run.moment(position)
        before = self.run.moment(position - 1) if position else None
        changed = _changed(moment, before)
        parts = [text(self._x(at), TOP - 12, str(at), "s soft") for at in range(0, self.run.blocks, 8)]
        parts.append(text(RIGHT, TOP - 12, f"blocks of {BLOCK_BYTES // 1024} KB", "s soft end"))
        parts.append(text(0, TOP + 18, "the guest reads", "b"))
        for at, cell in enumerate(moment.seen):
            parts.append(self._cell(at, 0, cell, "seen"))
        for number_, link in enumerate(moment.links):
            row = len(moment.links) - number_
            y = self._y(row)
            new = before is not None and all(link.name != each.name for each in before.links)
            parts.append(text(0, y + 17, link.name, "m b vmm" if new else "m"))
            parts.append(text(WIDTH, y + 17, kilobytes(link.file_bytes), "s end"))
            for at, cell in enumerate(link.cells):
                how = "changed" if (number_, at) in changed else "top" if moment.source[at] == number_ else "hidden"
                parts.append(self._cell(at, row, cell, "absent" if cell == ABSENT else how))
        over = self._pieces(moment)
        return Stage(
            label=f"{self.question} {self.describe(position)}", height=self._y(self.rows) + BOX + 12,
            under="".join(parts), over=over,
        )  # fmt: skip

    def _cell(self, block: int, row: int, cell: str, how: str) -> str:
        x, y = self._x(block), self._y(row)
        width = self._x(block + 1) - x - 1.5
        middle = x + width / 2
        if how == "absent":
            return (
                f'<circle cx="{number(middle)}" cy="{number(y + BOX / 2)}" r="1.2" style="fill:var(--vl-line-strong)"/>'
            )
        if cell == ZEROS and how != "changed":
            edge = 'stroke="var(--vl-line)" stroke-width="1"'
            return rect(x + 0.5, y + 0.5, width - 1, BOX - 1, "none", edge)
        if how == "changed":
            return rect(x, y, width, BOX, "var(--vl-vmm-fill)") + text(middle, y + 18, cell, "m mid b on-vmm")
        if how == "hidden":
            edge = 'stroke="var(--vl-guest-ink)" stroke-width="1" stroke-dasharray="2 2"'
            return rect(x + 0.5, y + 0.5, width - 1, BOX - 1, "none", edge) + text(middle, y + 18, cell, "m mid soft")
        if how == "seen":
            return rect(x, y, width, BOX, "var(--vl-guest-wash)") + text(middle, y + 18, cell, "m mid b guest")
        letter = 'style="fill:var(--vl-guest-on)"'
        return rect(x, y, width, BOX, "var(--vl-guest-fill)") + text(middle, y + 18, cell, "m mid b", letter)

    def _pieces(self, moment: DiskMoment) -> str:
        """A line from what was read to each piece of it."""
        drawn = []
        for link, first, blocks in moment.pieces:
            x, right = self._x(first) + 1, self._x(first + blocks) - 2.5
            top, bottom = self._y(0) + BOX + 4, self._y(len(moment.links) - link) - 4
            middle = (x + right) / 2
            path = f"M{number(x)} {number(top)}H{number(right)}M{number(middle)} {number(top)}V{number(bottom)}"
            drawn.append(f'<path d="{path}" style="fill:none;stroke:var(--vl-vmm-ink);stroke-width:2.5"/>')
        return "".join(drawn)


def _changed(moment: DiskMoment, before: DiskMoment | None) -> set[tuple[int, int]]:
    """(link, block) of what holds other bytes than before, or holds any for the first time."""
    if before is None:
        return set()
    old = {link.name: link.cells for link in before.links}
    found = set()
    for number_, link in enumerate(moment.links):
        was = old.get(link.name, ABSENT * len(link.cells))
        found |= {(number_, at) for at, cell in enumerate(link.cells) if cell not in (was[at], ABSENT)}
    access = moment.access
    if access is not None and access.kind == "write":
        top = len(moment.links) - 1
        found |= {(top, at) for at in range(access.first, access.first + access.blocks)}
    return found


def _glyph(moment: DiskMoment) -> str:
    if moment.access is not None and moment.access.kind == "write":
        return "io"
    return next((GLYPHS[type(event).__name__] for event in moment.events if type(event).__name__ in GLYPHS), "")


def _told(event: object) -> tuple[str, str, str]:
    """An event in words, its style and its glyph."""
    if isinstance(event, events.SnapshotTaken):
        return f"{event.parent} is read-only from now on; {event.child} takes the writes", "", "memory"
    if isinstance(event, events.SnapshotReverted):
        return f"what {event.child} held is gone; the disk is {event.parent}", "", "error"
    if isinstance(event, events.SnapshotCommitted):
        size = f"{grouped(event.sectors)} sectors"
        return f"{event.child} is merged into {event.parent}: {size}", "", "memory"
    if isinstance(event, events.GrainsAllocated):
        return (
            f"{event.file}: sectors {event.first_sector} to {event.first_sector + event.sectors - 1} lie at "
            f"{event.file_sector}", "soft", "io",
        )  # fmt: skip
    return type(event).__name__, "soft", ""
