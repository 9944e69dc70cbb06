"""A map of a VMFS volume: every block and what it belongs to, the heartbeats, and who has which file.

::

         0   1   2 ...                          31
      0  j   j   D   h   i   r   b   p   s  s  s  ...     written in this step: orange
     32  i   i   d   d   d   .   .   .                    given back in this step: dashed
    ...
      d  db-flat.vmdk    64 MB    3 blocks   25 to 27     esx1, slot 0, seq 1
"""

from __future__ import annotations

from vilab.view import vmfs_map_draw as drawing
from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.timeline import timeline
from vilab.view.vmfs_frame import FREE, FileMoment, VolumeMoment
from vilab.view.vmfs_map_says import megabytes, say, spans
from vilab.view.vmfs_run import VolumeRun
from vilab.view.words import plain


class VmfsMapTrack:
    """``Track`` for a player: a deed a step. ``rows``: how many files the picture has room for."""

    def __init__(self, run: VolumeRun, question: str, rows: int = 4) -> None:
        self.run, self.question, self.rows = run, question, rows

    @property
    def total(self) -> int:
        return self.run.total

    def go(self, position: int) -> None:
        self.run.go(position)

    def open(self, row: int) -> None:
        """There is nothing more to see of a row."""

    def next_like(self, position: int, direction: int) -> int | None:
        """The next step at the same file."""
        path = self.run.moment(position).path
        at = position + direction
        while 0 <= at < len(self.run.moments):
            if self.run.moments[at].path == path:
                return at
            at += direction
        return None

    def describe(self, position: int) -> str:
        return plain(self._say(position))

    def _say(self, position: int) -> str:
        before = self.run.moment(position - 1) if position else None
        return say(self.run.moment(position), before)

    def picture(self, position: int) -> Picture:
        moment = self.run.moment(position)
        before = self.run.moment(position - 1).volume if position else None
        words = self._say(position)
        free = megabytes(moment.volume.free_blocks * moment.volume.block_bytes)
        marks = [(at, "io") for at in range(1, position + 1)]
        return Picture(
            position, self.total, f"{free} free", words, f"step {position}. {plain(words)}",
            drawing.draw(moment, before, self.rows, f"{self.question} {plain(words)}"),
            timeline(marks, position, self.total), (self._written(position), self._files(moment.volume)),
        )  # fmt: skip

    def _written(self, position: int) -> Panel:
        """What has been written in this step, in its order."""
        moment = self.run.moment(position)
        rows: list[Row] = []
        if position:
            for pos, size in moment.written:
                sectors = size // 512
                what = moment.volume.where(pos, sectors)
                rows.append(Row((Cell(what), Cell(f"{sectors:,}", "r"))))
        empty = "Nothing." if position else "The whole of what a new volume consists of."
        return Panel("Written sectors", (Cell("where"), Cell("sectors", "r")), tuple(rows), "log", empty)

    def _files(self, volume: VolumeMoment) -> Panel:
        head = (Cell("file"), Cell("size", "r"), Cell("blocks", "r"), Cell("lock"))
        rows = [Row(tuple(_cells(file))) for file in volume.files if file.path != "/"]
        return Panel("All files", head, tuple(rows), "log")


def _cells(file: FileMoment) -> list[Cell]:
    where = f"{len(file.blocks)}" if not file.sub_blocks else f"sub-block {spans(file.sub_blocks)}"
    lock = "free" if file.lock == FREE else file.owner
    return [Cell(file.name, "mono"), Cell(megabytes(file.size_bytes), "r"), Cell(where, "r"), Cell(lock, "soft")]
