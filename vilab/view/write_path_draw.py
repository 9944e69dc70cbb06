"""The lanes, the path and the names of ``write_path`` as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import WIDTH, Stage
from vilab.view.svg import line, number, rect, text
from vilab.view.write_path import LANES, LUN, VOLUME, Stop

LEFT, RIGHT = 316.0, WIDTH - 16.0
PITCH, LANE = 54.0, 50.0
HEIGHT = PITCH * len(LANES) + 12
GUEST_LANES = 2
"""The upper ones are the guest's; below is the virtual machine, below that the host and the array."""


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
    now = made[position - 1] if position else None
    for lane, (name, at) in names.items():
        current = now is not None and lane == now.lane and at == position - 1
        old = now is not None and made[at].command != now.command
        css = "m b vmm" if current else "m soft" if old else "m"
        over.append(text(16, PITCH * lane + 42, _short(name), css))
    if now is not None:
        x, y = LEFT + unit * position, _y(now.lane)
        over.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="6" style="fill:var(--vl-vmm-ink)"/>')
    for lane in (VOLUME, LUN):
        count = sum(stop.lane == lane for stop in made[:position])
        if lane == LUN and count:
            over.append(text(RIGHT, PITCH * lane + 18, f"{count} commands" if count > 1 else "1 command", "s end host"))
    return Stage(
        label=f"{question} {says}", height=HEIGHT, under="".join(under), over="".join(over),
        playhead=LEFT + unit * position, playhead_height=HEIGHT - 12,
    )  # fmt: skip


def _y(lane: int) -> float:
    return PITCH * lane + 30


def _lane(index: int, name: str) -> str:
    ring = LANES[index][1]
    ground = f"var(--vl-ring-{ring})" if ring is not None else "var(--vl-host-wash)"
    edge = "" if index >= GUEST_LANES else 'class="guest-lane"'
    words = text(16, PITCH * index + 20, name, "b guest" if index < GUEST_LANES else "b host")
    return rect(0, PITCH * index, WIDTH, LANE, ground, edge) + words


def _piece(made: Sequence[Stop], at: int, unit: float) -> str:
    """From the stop before to this one: down or up at its left edge, then along its lane."""
    stop = made[at]
    left, right, y = LEFT + unit * at, LEFT + unit * (at + 1), _y(stop.lane)
    before = _y(made[at - 1].lane) if at else y
    css = "path-guest" if stop.lane < GUEST_LANES else "path-vmm"
    down = line(f"M{number(left)} {number(before)}V{number(y)}", "go-vmm") if before != y else ""
    along = line(f"M{number(left)} {number(y)}H{number(right)}", css)
    if stop.lane == LUN:
        along += line(f"M{number(left + unit / 2)} {number(y - 7)}v14", "go-vmm")
    return down + along


def _short(name: str) -> str:
    return name if len(name) <= 36 else f"{name[:35]}…"
