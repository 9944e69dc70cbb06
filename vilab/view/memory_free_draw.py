"""Free memory over time, between the thresholds of the four states.

::

    Free      6 % ┤──────────╲────────────────────────   high   leave alone
    machine   4 % ┤━━━━━━━━━━━╲━━━━━━━━━━╱━━━ 4.6 %: soft soft   balloon
    memory    2 % ┤━━━━━━━━━━━━╲━━━━━━━━╱━━━━━━━━━━━━━━   hard   page out
              1 % ┤━━━━━━━━━━━━━╲──────╱━━━━━━━━━━━━━━━   low    page out, block
              0 %

The scale ends at 10 %: above it a line leaves the picture, and the number says where it is. What is decided there is
decided below 6 %. Where a threshold was crossed and pages were taken at once, the line shows both: it goes down, and up
again. A state holds until free memory is *clearly* above the next threshold, so that the band in which the
line stands and the state can differ: the words at the line are the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.memory.free_states import DOWNWARDS, THRESHOLD_PERCENT, FreeState
from vilab.memory.memory_events import FreeStateChanged
from vilab.view.memory_chart_draw import LEFT, RIGHT
from vilab.view.memory_frame import MemoryFrame
from vilab.view.svg import number, text

MOST_PERCENT = 10.0
HEIGHT = 132.0
DOES = {
    FreeState.HIGH: "leave alone", FreeState.SOFT: "balloon", FreeState.HARD: "page out",
    FreeState.LOW: "page out, block",
}  # fmt: skip
HUES = {FreeState.HIGH: "", FreeState.SOFT: "warn", FreeState.HARD: "fault", FreeState.LOW: "fault"}
_NOW_WIDTH = 118.0


def ground(top: float) -> str:
    """Bands, thresholds and the names of the states; the same at every moment."""
    y = _scale(top)
    soft, hard = y(THRESHOLD_PERCENT[FreeState.SOFT]), y(THRESHOLD_PERCENT[FreeState.HARD])
    wide = number(RIGHT - LEFT)
    marks = [
        text(0, top + 13, "Free", "l b"), text(0, top + 31, "machine", "soft"), text(0, top + 48, "memory", "soft"),
        f'<rect x="{LEFT}" y="{number(soft)}" width="{wide}" height="{number(hard - soft)}" '
        'style="fill:var(--vl-warn-wash)"/>',
        f'<rect x="{LEFT}" y="{number(hard)}" width="{wide}" height="{number(y(0) - hard)}" '
        'style="fill:var(--vl-fault-wash)"/>',
    ]  # fmt: skip
    for percent in (*THRESHOLD_PERCENT.values(), 0.0):
        marks.append(f'<path d="M{LEFT} {number(y(percent))}H{RIGHT}" class="axis"/>')
        if percent:
            marks.append(text(LEFT - 8, y(percent) + 4.5, f"{percent:g} %", "s end soft"))
    return "".join(marks)


def draw(frames: Sequence[MemoryFrame], xs: Sequence[float], top: float) -> str:
    """The line up to the last frame, what the state is, and what is done in it."""
    y = _scale(top)
    points = [(x, y(percent)) for x, percent in line_of(frames, xs)]
    now = frames[-1]
    x, here = points[-1]
    path = "M" + "L".join(f"{number(px)} {number(py)}" for px, py in points)
    hue = HUES[now.state]
    words = f"{now.free_percent:.1f} %: {now.state}"
    right = x + 12 + _NOW_WIDTH < RIGHT
    at = here + (20 if here < top + 60 else -9)
    if not right:  # above the line or below it, wherever there is room
        near = [py for px, py in points if px > x - 12 - _NOW_WIDTH]
        at = min(near) - 9 if min(near) - 24 > top else max(near) + 20
    at = max(top + 15, min(at, y(0) - 5))
    marks = [
        f'<clipPath id="mc-free"><rect x="{LEFT - 4}" y="{number(top)}" width="{number(RIGHT - LEFT + 8)}" '
        f'height="{number(HEIGHT)}"/></clipPath>',
        f'<path d="{path}" class="mc-free" clip-path="url(#mc-free)"/>',
    ]
    if now.free_percent <= MOST_PERCENT:
        marks.append(f'<circle cx="{number(x)}" cy="{number(here)}" r="5" class="mc-now"/>')
    else:
        marks.append(f'<path d="M{number(x - 5)} {number(top + 8)}L{number(x)} {number(top)}L{number(x + 5)} '
                     f'{number(top + 8)}Z" class="mc-now"/>')  # fmt: skip
    marks.append(text(x + (12 if right else -12), at, words, f"l b halo {hue} {'' if right else 'end'}"))
    marks += [_state(state, y, state is now.state) for state in DOWNWARDS]
    return "".join(marks)


def line_of(frames: Sequence[MemoryFrame], xs: Sequence[float]) -> list[tuple[float, float]]:
    """x and percent free: at each frame, and in between where a threshold was crossed, before anything was done."""
    points: list[tuple[float, float]] = []
    for at, (frame, x) in enumerate(zip(frames, xs, strict=True)):
        for event in frame.events:
            if at and isinstance(event, FreeStateChanged):
                before = frames[at - 1]
                part = (event.at_ns - before.at_ns) / max(frame.at_ns - before.at_ns, 1)
                points.append((xs[at - 1] + part * (x - xs[at - 1]), 100 * event.free_pages / event.total_pages))
        points.append((x, frame.free_percent))
    return points


def _state(state: FreeState, y: Callable[[float], float], current: bool) -> str:
    """The name beside its band; the current one is marked by a bar, too."""
    middles = {FreeState.HIGH: 7.2, FreeState.SOFT: 3.7, FreeState.HARD: 1.85, FreeState.LOW: 0.4}
    at = y(middles[state]) + 5
    bar = f'<rect x="{RIGHT + 4}" y="{number(at - 12)}" width="4" height="15" class="mc-now"/>' if current else ""
    weight = "b" if current else "soft"
    return (
        bar + text(RIGHT + 14, at, str(state), f"{weight} {HUES[state]}")
        + text(RIGHT + 60, at, DOES[state], "b" if current else "soft")
    )  # fmt: skip


def _scale(top: float) -> Callable[[float], float]:
    """Percent of free memory to a height."""
    return lambda percent: top + HEIGHT * (1 - percent / MOST_PERCENT)
