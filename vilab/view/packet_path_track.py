"""``packet_path`` for a player: a stop a step, with CSR0 bit by bit and a log of the exits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.frame_bytes_layers import fields
from vilab.view.packet_path import STATUS_BITS, Stop
from vilab.view.packet_path_draw import LEFT, RIGHT, draw
from vilab.view.step_track import StepTrack
from vilab.view.timeline import timeline
from vilab.view.words import duration, plain

MEANINGS = {
    "ERR": "BABL, CERR, MISS or MERR", "MISS": "a frame found no descriptor", "RINT": "a frame has come",
    "TINT": "a frame was sent", "IDON": "initialized", "INTR": "there is a reason", "IENA": "interrupts allowed",
    "RXON": "receiver on", "TXON": "transmitter on", "TDMD": "look at the send ring now", "STOP": "stopped",
}  # fmt: skip
TOLD = ("destination", "source", "type", "protocol", "source IP", "destination IP", "sequence", "operation",
        "sender IP", "target IP", "source port", "destination port")  # fmt: skip
"""Of a frame's fields those that say whose it is and what it wants; all of them are in a capture."""
WHO = {"card": "the card", "pic": "interrupt controller", "other": "nothing to do"}


def _frame(frame: bytes) -> Panel:
    head = (Cell("layer"), Cell("field"), Cell("value"))
    rows, before = [], ""
    for field in fields(frame):
        if field.name not in TOLD:
            continue
        layer = field.layer if field.layer != before else ""
        rows.append(Row((Cell(layer, "c-shared"), Cell(field.name, "soft"), Cell(field.words, "mono clip"))))
        before = field.layer
    return Panel("The frame", head, tuple(rows))


class Source(Protocol):
    """Runs when it is asked for the first time."""

    def stops(self) -> Sequence[Stop]: ...


class PacketPathTrack(StepTrack):
    """The whole way has happened when it is shown for the first time; what is to come is not drawn."""

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
            return "The guest stands at its prompt. Step follows one packet, an event a step."
        return self.made[position - 1].say

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        since = self.made[position - 1].at_ns - self.made[1].at_ns if position > 1 else 0
        marks = [(at, stop.kind) for at, stop in enumerate(self.made[:position], 1) if stop.kind]
        return Picture(
            position, self.total, duration(max(0, since)), words, f"step {position}. {plain(words)}",
            draw(self.made, position, self.question, plain(words)),
            timeline(marks, position, self.total, LEFT, RIGHT), (self._status(position), self._exits(position)),
        )  # fmt: skip

    def _status(self, position: int) -> Panel:
        """CSR0 as it went over the bus last; while a frame is there, what is in that."""
        if position and self.made[position - 1].frame:
            return _frame(self.made[position - 1].frame)
        head = (Cell("bit", "r"), Cell("CSR0"), Cell("meaning"))
        last = next((at for at in range(position, 0, -1) if self.made[at - 1].status is not None), None)
        if last is None:
            return Panel("Status register", head, (), empty="Nobody has asked for it yet.")
        value = self.made[last - 1].status or 0
        rows = [
            Row((Cell(str(15 - at), "r soft"), Cell(name, "mono"), Cell(MEANINGS.get(name, ""), "soft")),
                "now" if last == position else "")
            for at, name in enumerate(STATUS_BITS) if value >> 15 - at & 1
        ]  # fmt: skip
        return Panel("Status register", head, tuple(rows))

    def _exits(self, position: int) -> Panel:
        head = (Cell("", "r"), Cell("exit"), Cell("for"), Cell("µs", "r"))
        rows = [
            Row((Cell(str(at), "r soft"), Cell(stop.name, "mono"), Cell(WHO[stop.exit]),
                 Cell(f"{(stop.at_ns - self.made[1].at_ns) / 1000:,.1f}", "r soft")),
                "now" if at == position else "", at)
            for at, stop in enumerate(self.made[:position], 1) if stop.exit
        ]  # fmt: skip
        return Panel("Exits", head, tuple(rows), "log", "None yet.")
