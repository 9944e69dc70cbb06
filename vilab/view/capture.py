"""A capture of one port, frame by frame: the octets, and in place which of them are what.

::

    0000   ff ff ff ff ff ff 00 50 56 a1 3c 07 08 06 00 01      Ethernet   destination   everybody
    0010   08 00 06 04 00 01 ...                                           source        00:50:56:a1:3c:07
           ------------------ a band a layer                   ARP         operation     1, who has

The cursor goes from field to field and shows its octets. Frames are the port's own, from a tap; ``pcap`` is what
``vilab.network.pcap`` writes of them, for tcpdump and Wireshark.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from vilab.network.ethernet import text_of, vlan_of
from vilab.network.pcap import Packet
from vilab.view.frame import Cell, Panel, Picture, Row, Stage
from vilab.view.frame_bytes_layers import Field, brief, fields, sentence, tag_words
from vilab.view.playback import Playback
from vilab.view.step_track import StepTrack
from vilab.view.svg import number, text
from vilab.view.timeline import timeline
from vilab.view.words import counted, escape, plain

HUES = {"Ethernet": "host", "802.1Q": "shared", "ARP": "guest", "RARP": "guest", "IPv4": "guest", "ICMP": "balloon",
        "UDP": "balloon", "TCP": "balloon"}  # fmt: skip
OCTET, GRID, LINE, TOP = 22.5, 52.0, 24.0, 28.0
ROWS = 8
FIELDS_AT, NAME_AT, WORDS_AT = 446.0, 530.0, 660.0
FIELD_LINE = 20.0
MOST_FIELDS = 21
HEIGHT = TOP + FIELD_LINE * MOST_FIELDS + 8


class CaptureTrack(StepTrack):
    """``Track`` for a player: a frame a step, the first at position 0."""

    first = 0

    def __init__(self, packets: Sequence[Packet], port: str, question: str) -> None:
        self.packets, self.port, self.question = tuple(packets), port, question

    @property
    def total(self) -> int:
        return max(len(self.packets) - 1, 0)

    def kind_of(self, position: int) -> str | None:
        return brief(self.packets[position].frame) if self.packets else None

    def at_us(self, position: int) -> float:
        return (self.packets[position].at_ns - self.packets[0].at_ns) / 1000

    def sentence(self, position: int) -> str:
        if not self.packets:
            return f"Nothing has passed {self.port} yet."
        frame = self.packets[position].frame
        return (
            f"Frame {position + 1} of {len(self.packets)} on {self.port}, {len(frame)} octets, "
            f"**{tag_words(frame)}**, from "
            f"`{text_of(frame[6:12])}`. {sentence(frame)}."
        )

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        found = fields(self.packets[position].frame) if self.packets else ()
        drawn = self._draw(found[:MOST_FIELDS], self.packets[position].frame if self.packets else b"")
        stage = Stage(
            label=f"{self.question} {plain(words)}", height=HEIGHT, under=drawn, rows=min(len(found), MOST_FIELDS)
        )
        when = f"{self.at_us(position):,.1f}\u00a0µs" if self.packets else ""
        marks = [(at, "frame") for at in range(1, position + 1)]
        return Picture(
            position, self.total, when, words, f"frame {position + 1}. {plain(words)}", stage,
            timeline(marks, position, self.total), (self._list(position),),
        )  # fmt: skip

    # --- the picture --------------------------------------------------------------------------------------------------

    def _draw(self, found: Sequence[Field], frame: bytes) -> str:
        parts = [text(GRID + n * OCTET + (6 if n > 7 else 0), 14, f"{n:x}", "ms soft") for n in range(16)]
        parts += [
            text(0, TOP + 16 + LINE * row, f"{row * 16:04x}", "ms soft")
            for row in range(min(ROWS, -(-len(frame) // 16)))
        ]
        parts += [self._field(n, field) for n, field in enumerate(found)]
        before = ""
        for n, field in enumerate(found):
            if field.layer != before:
                parts.append(
                    text(FIELDS_AT, TOP + 15 + FIELD_LINE * n, field.layer, "b", f'style="fill:{_ink(field)}"')
                )
            before = field.layer
        if len(frame) > ROWS * 16:
            parts.append(text(GRID, TOP + 16 + LINE * ROWS, f"… {len(frame) - ROWS * 16} more octets", "s soft"))
        return "".join(parts)

    def _field(self, n: int, field: Field) -> str:
        y = TOP + FIELD_LINE * n
        runs, cursor = [], []
        for row, first, last in _runs(field):
            x, width = _x(first), _x(last) - _x(first) + OCTET - 2
            top = TOP + LINE * row
            style = (
                f"fill:var(--vl-{HUES.get(field.layer, 'host')}-wash)"
                if field.layer in HUES
                else "fill:var(--vl-ring-3)"
            )
            box = f'x="{number(x - 3)}" y="{number(top + 1)}" width="{number(width)}" height="{number(LINE - 3)}"'
            runs.append(f'<rect {box} style="{style}"/>')
            cursor.append(f'<rect {box} class="current"/>')
            for at in range(first, last + 1):
                octet = field.data[row * 16 + at - field.at]
                runs.append(text(_x(at), top + 16, f"{octet:02x}", "m"))
        left = FIELDS_AT - 6
        bar = f'<rect x="{left}" y="{number(y)}" width="{number(912 - left)}" height="{number(FIELD_LINE)}"'
        label = escape(f"{field.layer} {field.name}: {field.words}")
        words = field.words if len(field.words) <= 31 else field.words[:30] + "…"
        return (
            f'<g data-row="{n}" data-pick="yes" class="cap-field" aria-label="{label}">'
            f'{bar} style="fill:transparent"/>{"".join(runs)}'
            f"{text(NAME_AT, y + 15, field.name, 'soft')}{text(WORDS_AT, y + 15, words, 'm')}"
            f'<g class="vl-cursor">{"".join(cursor)}{bar} class="current"/></g></g>'
        )

    def _list(self, position: int) -> Panel:
        head = (
            Cell("", "r"),
            Cell("µs", "r"),
            Cell("from"),
            Cell("to"),
            Cell("tag"),
            Cell("octets", "r"),
            Cell("what"),
        )
        rows = []
        for at, packet in enumerate(self.packets):
            frame = packet.frame
            to = "everybody" if frame[:6] == b"\xff" * 6 else text_of(frame[:6])
            vlan = vlan_of(frame)
            cells = (
                Cell(str(at + 1), "r soft"), Cell(f"{self.at_us(at):,.1f}", "r soft"),
                Cell(text_of(frame[6:12]), "mono"),
                Cell(to, "mono" if ":" in to else ""), Cell("–" if vlan is None else str(vlan), "c-shared"),
                Cell(str(len(frame)), "r"), Cell(sentence(frame)),
            )  # fmt: skip
            rows.append(Row(cells, "now" if at == position else "", at))
        return Panel(f"Frames on {self.port}", head, tuple(rows), "log", "Nothing yet.")


def _ink(field: Field) -> str:
    hue = HUES.get(field.layer)
    return f"var(--vl-{hue}-ink)" if hue else "var(--vl-text-soft)"


def _x(octet: int) -> float:
    return GRID + octet * OCTET + (6 if octet > 7 else 0)


def _runs(field: Field) -> list[tuple[int, int, int]]:
    """(row, first, last column) of its octets, as far as there are rows."""
    found = []
    at = field.at
    while at < field.end and at // 16 < ROWS:
        last = min(field.end, (at // 16 + 1) * 16) - 1
        found.append((at // 16, at % 16, last % 16))
        at = last + 1
    return found


class CapturePlayback(Playback):
    """A playback whose page has the capture as a file to be saved.

    Parameters
    ----------
    pcap : the file, as ``PcapWriter`` has made it.
    """

    def __init__(self, track: CaptureTrack, pcap: bytes, position: int = 0) -> None:
        self.pcap, self._count, self._port = pcap, len(track.packets), track.port
        super().__init__(track, None, position)

    def frame(self) -> dict[str, Any]:
        made = super().frame()
        made["file"] = {
            "name": f"{self._port}.pcap",
            "words": f"{self._port}.pcap, {counted(self._count, 'frame')}, {len(self.pcap):,} bytes",
            "url": f"data:application/vnd.tcpdump.pcap;base64,{base64.b64encode(self.pcap).decode()}",
        }
        return made
