"""The lanes, the path, the rings and the frame of ``packet_path`` as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import WIDTH, Stage
from vilab.view.frame_bytes import FrameRow, draw_frame
from vilab.view.packet_path import DRIVER, LANES, MEMORY, MONITOR, Stop, exits, transfers
from vilab.view.packet_path_rings import draw_rings
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.words import counted

LEFT, RIGHT = 316.0, WIDTH - 16.0
PITCH, LANE = 48.0, 44.0
LANES_END = PITCH * len(LANES)
RINGS_TOP = LANES_END + 12
FRAME_TOP = RINGS_TOP + 116
HEIGHT = FRAME_TOP + 96


def draw(made: Sequence[Stop], position: int, question: str, says: str) -> Stage:
    """``position`` n: the first n stops have happened."""
    unit = (RIGHT - LEFT) / max(1, len(made))
    under = [_lane(index, name) for index, (name, _) in enumerate(LANES)]
    over = []
    names: dict[int, tuple[str, int]] = {}
    for at, stop in enumerate(made[:position]):
        if stop.name:
            names[stop.lane] = (stop.name, at)
        over.append(_piece(made, at, unit))
    for lane, (name, at) in names.items():
        css = "m b vmm" if at == position - 1 else "m soft"
        over.append(text(16, PITCH * lane + 37, _short(name), css))
    if position:
        over.append(
            f'<circle cx="{number(LEFT + unit * position)}" cy="{number(_y(made[position - 1].lane))}" r="6" '
            'style="fill:var(--vl-vmm-ink)"/>'
        )
    over.append(_counts(made[:position]))
    now, before = made[max(0, position - 1)].rings, made[max(0, position - 2)].rings
    over.append(draw_rings(before, now, RINGS_TOP))
    frames = list(dict.fromkeys(stop.frame for stop in made[:position] if stop.frame))[-2:]
    over.append(draw_frame([FrameRow(_direction(made, frame), frame) for frame in frames], FRAME_TOP))
    return Stage(
        label=f"{question} {says}", height=HEIGHT, under="".join(under), over="".join(over),
        playhead=LEFT + unit * position, playhead_height=LANES_END,
    )  # fmt: skip


def _direction(made: Sequence[Stop], frame: bytes) -> str:
    """The frame that the guest has sent first has its address as the source."""
    first = next(stop.frame for stop in made if stop.frame)
    return "sent" if frame[6:12] == first[6:12] else "received"


def _counts(lived: Sequence[Stop]) -> str:
    parts = []
    if count := exits(lived):
        parts.append(text(LEFT - 20, PITCH * MONITOR + 18, counted(count, "exit"), "b end vmm"))
    if count := transfers(lived):
        parts.append(text(LEFT - 20, PITCH * MEMORY + 18, counted(count, "transfer"), "s end host"))
    return "".join(parts)


def _y(lane: int) -> float:
    return PITCH * lane + 26


def _lane(index: int, name: str) -> str:
    ring = LANES[index][1]
    ground = f"var(--vl-ring-{ring})" if ring is not None else "var(--vl-host-wash)"
    if index == MONITOR:
        ground = "var(--vl-ring-m1)"
    css = "b guest" if index == DRIVER else "b vmm" if index == MONITOR else "b host"
    return rect(0, PITCH * index, WIDTH, LANE, ground) + text(16, PITCH * index + 18, name, css)


def _piece(made: Sequence[Stop], at: int, unit: float) -> str:
    """From the stop before to this one: down or up at its left edge, then along its lane."""
    stop = made[at]
    left, right, y = LEFT + unit * at, LEFT + unit * (at + 1), _y(stop.lane)
    before = _y(made[at - 1].lane) if at else y
    css = "path-guest" if stop.lane == DRIVER else "path-vmm" if stop.lane == MONITOR else "packet-host"
    style = 'style="stroke:var(--vl-host-ink);stroke-width:4;fill:none"' if css == "packet-host" else ""
    down = line(f"M{number(left)} {number(before)}V{number(y)}", "go-vmm") if before != y else ""
    along = line(f"M{number(left)} {number(y)}H{number(right)}", css, style)
    mark = glyph("trap", (left + right) / 2, y - 12, 4) if stop.exit else ""
    if stop.kind == "frame":
        mark = glyph("frame", (left + right) / 2, y - 12, 5)
    return down + along + mark


def _short(name: str) -> str:
    return name if len(name) <= 36 else f"{name[:35]}…"
