"""``write_path`` for a player: a stop a step, with the CDB taken apart and a trace of all SCSI commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vilab.storage.scsi.cdb import decode, describe_cdb
from vilab.storage.scsi.sense import ScsiError
from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.predict import Prediction, measured
from vilab.view.step_track import StepTrack
from vilab.view.timeline import timeline
from vilab.view.words import duration, plain
from vilab.view.write_path import LUN, Stop, guests_commands, hosts_commands
from vilab.view.write_path_draw import LEFT, RIGHT, draw


class Source(Protocol):
    """Runs when it is asked for the first time."""

    def stops(self) -> Sequence[Stop]: ...


def _who(stop: Stop) -> Cell:
    guest = stop.nexus.startswith("vmhba")
    return Cell("guest" if guest else stop.nexus, "c-guest" if guest else "c-host")


class WritePathTrack(StepTrack):
    """The whole write has happened when it is shown for the first time; what is to come is not drawn."""

    def __init__(self, source: Source, question: str) -> None:
        self.source, self.question = source, question
        self.made = source.stops()

    @property
    def total(self) -> int:
        return len(self.made)

    def kind_of(self, position: int) -> int:
        """Its lane."""
        return self.made[position - 1].lane

    def sentence(self, position: int) -> str:
        if not position:
            return "The guest stands at its prompt. Step follows what it writes, an event a step."
        return self.made[position - 1].say

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        since = self.made[position - 1].at_ns - self._begin() if position > 1 else 0
        when = duration(max(0, since))
        marks = [(at, "io") for at in range(1, position + 1) if self.made[at - 1].cdb and self.made[at - 1].lane != LUN]
        return Picture(
            position, self.total, when, words, f"step {position}. {plain(words)}",
            draw(self.made, position, self.question, plain(words)),
            timeline(marks, position, self.total, LEFT, RIGHT), (self._cdb(position), self._trace(position)),
        )  # fmt: skip

    def _begin(self) -> int:
        return self.made[1].at_ns if len(self.made) > 1 else 0

    def _cdb(self, position: int) -> Panel:
        """The command that was seen last, byte by byte."""
        head = (Cell("field"), Cell("bytes", "mono"), Cell("value", "r"))
        last = next((stop for stop in reversed(self.made[:position]) if stop.cdb), None)
        if last is None:
            return Panel("The CDB", head, (), empty="No command yet.")
        rows = [
            Row(
                (
                    Cell("operation code"),
                    Cell(f"{last.cdb[0]:02x}", "mono"),
                    Cell(describe_cdb(last.cdb).split(" ")[0], "r"),
                )
            )
        ]
        try:
            known = decode(last.cdb)
        except ScsiError:
            return Panel("The CDB", head, tuple(rows))
        for name, field in known.command.fields.items():
            value = field.of(last.cdb)
            if value or name in ("lba", "blocks"):
                last_byte = field.first + max(0, (field.most.bit_length() - 1) // 8)
                raw = last.cdb[field.first : last_byte + 1].hex(" ")
                rows.append(Row((Cell(name), Cell(raw, "mono"), Cell(f"{value:,}", "r"))))
        return Panel("The CDB", head, tuple(rows))

    def _trace(self, position: int) -> Panel:
        head = (Cell("", "r"), Cell("who asks"), Cell("command"), Cell("answer"))
        rows = [
            Row(
                (
                    Cell(str(at), "r soft"), _who(stop),
                    Cell(describe_cdb(stop.cdb), "mono clip"), Cell(stop.outcome, "soft"),
                ),
                "now" if at == position else "", at,
            )
            for at, stop in enumerate(self.made[:position], 1)
            if stop.nexus
        ]  # fmt: skip
        return Panel("SCSI trace", head, tuple(rows), "log", "No command has been answered yet.")

    # Questions -----------------------------------------------------------------------------------------------------

    def ask(self, position: int) -> Prediction | None:
        """At the beginning, when the first command goes below the virtual machine, and when it is back."""
        first_at_lun = next((at for at, stop in enumerate(self.made) if stop.lane == LUN), None)
        back = next((at for at, stop in enumerate(self.made) if stop.command == 2), None)
        if position == 0:
            return measured(
                "One short line goes into a new file, and has to be safe on the disk. How many SCSI commands does the "
                "guest's driver give?",
                ("1: a WRITE.", "2 or 3.", "4 to 8.", "More."),
                (2, 4, 9), lambda: guests_commands(self.made),
                lambda n: f"{n}: data, metadata, superblock, and after each the order that it "
                "is to be safe. Otherwise a power cut could leave metadata that lead to nothing.",
            )  # fmt: skip
        if position == first_at_lun:
            return measured(
                "The guest's one WRITE is on its way down, into a redo log on a shared volume. How many commands will "
                "the host give to the LUN for it?",
                ("1, the same WRITE.", "2 to 5.", "6 to 12.", "More than 12."),
                (2, 6, 13), lambda: hosts_commands(self.made, 1),
                lambda n: f"{n}: the file becomes longer, so the volume changes, and other "
                "hosts share it: reserve, read what is true now, write, journal, release.",
            )  # fmt: skip
        if position == back and back is not None:
            second = next(
                number for number in range(2, guests_commands(self.made) + 1)
                if any(stop.command == number and stop.cdb[:1] == b"5" for stop in self.made)
            )  # fmt: skip
            return measured(
                "Next the driver orders that this is safe: SYNCHRONIZE CACHE, no data at all. What does the host do?",
                ("Nothing: it has no cache.", "One command of the same kind.",
                 "It writes the grain tables of the redo log, too."),
                (1, 2), lambda: hosts_commands(self.made, second),
                lambda n: f"{n} commands: the redo log has kept its tables in memory so "
                "far, and without them nobody would find the new grains.",
            )  # fmt: skip
        return None
