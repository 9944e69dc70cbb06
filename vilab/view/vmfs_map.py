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
from vilab.view.deed_run import DeedTrack
from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.timeline import timeline
from vilab.view.vmfs_frame import FREE, FileMoment, VolumeMoment
from vilab.view.vmfs_map_says import megabytes, say, spans
from vilab.view.vmfs_run import VolumeRun
from vilab.view.words import plain


class VmfsMapTrack(DeedTrack[VolumeRun]):
    """``Track`` for a player. Steps at the same file are alike, and the new volume is like all that are at none."""

    first_like = 0

    def __init__(self, run: VolumeRun, question: str, rows: int = 4) -> None:
        super().__init__(run, question, rows)

    def _kind(self, position: int) -> str:
        return self.run.moment(position).path

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
