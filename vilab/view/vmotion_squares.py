"""A round's bytes as squares: filled what is sent, a dashed outline around all that it has to send.

::

    ┌╌╌╌┐ what is not sent: it is under way, was cut off, or skipped pages     ██▌       half a square more
    ╎   ╎ that were written again before their turn                            █████
    █████ sent                                                                 █████     orange: the machine stood still
    ─────                                                                     ───────
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.svg import number
from vilab.view.vmotion_scale import BETWEEN, HIGH, SIDE, Block, Squares
from vilab.view.vmotion_seen import Round

BASE = 196.0
TOP = BASE - HIGH * SIDE
"""Where squares stand on, and where the highest column ends."""


def blocks(scale: Squares, rounds: Sequence[Round]) -> str:
    made = []
    for each, block in zip(rounds, scale.blocks, strict=False):
        hue = "vmm" if each.stopped else "guest"
        if each.due_bytes > each.bytes:
            outline = _outline(scale, block, each.due_bytes)
            made.append(
                f'<path d="{outline}" data-due="{each.due_bytes}" style="fill:none;stroke:var(--vl-{hue}-ink);'
                'stroke-width:1.2;stroke-dasharray:3 2.5"/>'
            )
        made.append(_filled(scale, block, each.bytes, hue))
    return "".join(made)


def _columns(scale: Squares, block: Block, size_bytes: int) -> list[tuple[float, int, float]]:
    """(x, full rows, squares in the row above them, not always whole) of each column that has something."""
    left, made = size_bytes / scale.unit_bytes, []
    for at in range(block.columns):
        here = min(left, float(scale.column_squares))
        if here <= 0:
            break
        rows = int(here // scale.across)
        made.append((block.x + at * (scale.across * scale.side + BETWEEN), rows, here - rows * scale.across))
        left -= here
    return made


def high(scale: Squares, each: Round) -> float:
    """Of all that a round has to send."""
    return scale.height(each.due_bytes)


def _outline(scale: Squares, block: Block, size_bytes: int) -> str:
    """Around all squares of that many bytes, a column a path."""
    n, side, path = number, scale.side, []
    for x, rows, rest in _columns(scale, block, size_bytes):
        wide, top = scale.across * side, BASE - rows * side
        if rest > 1e-6:
            up = f"V{n(top - side)}H{n(x + rest * side)}V{n(top)}"
            path.append(f"M{n(x)} {BASE}{up}" + (f"H{n(x + wide)}V{BASE}Z" if rows else "Z"))
        else:
            path.append(f"M{n(x)} {BASE}V{n(top)}H{n(x + wide)}V{BASE}Z")
    return "".join(path)


def _filled(scale: Squares, block: Block, size_bytes: int, hue: str) -> str:
    if not size_bytes:
        return ""
    n, side, lines = number, scale.side, []
    for x, rows, rest in _columns(scale, block, size_bytes):
        all_rows = rows + (1 if rest > 1e-6 else 0)
        for at in range(scale.across + 1):
            tall = all_rows if at < rest + 1 and rest > 1e-6 else rows
            lines.append(f"M{n(x + at * side)} {BASE}v{n(-tall * side)}")
        lines.extend(f"M{n(x)} {n(BASE - at * side)}h{n(scale.across * side)}" for at in range(all_rows + 1))
    lattice = f'<path d="{"".join(lines)}" style="fill:none;stroke:var(--vl-surface);stroke-width:.9"/>'
    fill = (
        f'<path d="{_outline(scale, block, size_bytes)}" data-bytes="{size_bytes}" style="fill:var(--vl-{hue}-fill)"/>'
    )
    return fill + (lattice if side > 3 else "")
