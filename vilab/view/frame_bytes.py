"""The octets of a frame in two rows, aligned, so that the 802.1Q tag opens a gap.

::

                     destination        source             802.1Q tag   type   ARP: who has ...
    on web2's port   ff:ff:ff:ff:ff:ff  00:50:56:a1:3c:07  ..........   0806   0001 0800 06 04 …
    on vmnic0        ff:ff:ff:ff:ff:ff  00:50:56:a1:3c:07  8100 000a    0806   0001 0800 06 04 …
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.network.ethernet import TAG_TYPE
from vilab.view.frame_bytes_layers import sentence
from vilab.view.svg import line, number, text

COLUMNS = {"destination": (122.0, 165.0), "source": (290.0, 165.0), "tag": (458.0, 115.0), "type": (576.0, 65.0),
           "data": (644.0, 268.0)}  # fmt: skip
ROW, PITCH = 28.0, 38.0


class FrameRow(msgspec.Struct, frozen=True):
    """``bad``: a column that is not as it should be."""

    where: str
    frame: bytes
    bad: str = ""


def pieces(frame: bytes) -> dict[str, str]:
    """What stands in each column; no ``tag`` for a frame without one. Of several tags the first is shown."""
    tagged = frame[12:14] == TAG_TYPE and len(frame) >= 18
    at = 16 if tagged else 12
    data = frame[at + 2 : at + 8]
    found = {
        "destination": frame[:6].hex(":"), "source": frame[6:12].hex(":"), "type": frame[at : at + 2].hex(),
        "data": f"{data[:2].hex()} {data[2:4].hex()} {data[4:].hex(' ')} …",
    }  # fmt: skip
    if tagged:
        found["tag"] = f"{frame[12:14].hex()} {frame[14:16].hex()}"
    return found


def draw_frame(rows: Sequence[FrameRow], top: float) -> str:
    """At most two rows. Without any, the frame of the picture stands empty."""
    parts = [text(0, top + 8, "The frame", "l b")]
    tags = any("tag" in pieces(row.frame) for row in rows)
    for name, words in (("destination", "destination"), ("source", "source"), ("tag", "802.1Q tag"), ("type", "type")):
        css = "s b shared" if name == "tag" and tags else "s soft"
        parts.append(text(COLUMNS[name][0], top + 16, words, css))
    parts.append(text(COLUMNS["data"][0], top + 16, sentence(rows[0].frame) if rows else "data", "s soft"))
    for n in range(2):
        y = top + 26 + PITCH * n
        if n < len(rows):
            parts.append(_row(rows[n], y))
        elif not rows:
            parts.append(line(f"M122 {number(y + 14)}H912", "axis", 'stroke-dasharray="2 4"'))
    return "".join(parts)


def _row(row: FrameRow, y: float) -> str:
    parts = [text(0, y + 19, row.where)]
    found = pieces(row.frame)
    for name, (x, width) in COLUMNS.items():
        if name not in found:
            parts.append(line(f"M{number(x)} {number(y + 14)}H{number(x + width)}", "axis", 'stroke-dasharray="2 4"'))
            continue
        loud = name == "tag"
        hue = "fault" if row.bad == name else "shared"
        filled = loud or row.bad == name
        fill = f"var(--vl-{hue}-ink)" if filled else "var(--vl-surface)"
        edge = fill if filled else "var(--vl-line-strong)"
        spot = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(ROW)}"'
        parts.append(f'<rect {spot} style="fill:{fill};stroke:{edge};stroke-width:1"/>')
        ink = "var(--vl-surface)" if filled else "var(--vl-text)"
        parts.append(text(x + width / 2, y + 19, found[name], "m mid", f'style="fill:{ink}"'))
    return "".join(parts)
