"""What each virtual machine's memory is, over time: one stacked curve a machine, all on one scale.

::

    vm1       |            ....................... configured          target 9.8
    16 MB     |  o o o o o o o o o o  ballooned: no frame behind it    active 2.1
              |  ////////////////////////  shared
              |__████████████████████████  private                     private 8.2
              └──────────────────────────┴────────────> the playhead; behind it nothing is drawn

Stacked from below: what has machine memory behind it (private, shared), what the guest gave back (ballooned), what the
host took (swapped). What is missing to the dotted line was never touched. Lines: what the machine should have, solid;
the estimate of what it uses, dashed; its reservation and its limit, where there are any, dotted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from vilab.memory.client import MB_PAGES
from vilab.view.frame import WIDTH
from vilab.view.memory_bars import PATTERNS
from vilab.view.memory_frame import MemoryFrame, VmFrame
from vilab.view.svg import number, text
from vilab.view.words import escape, plain

LEFT, RIGHT = 108.0, 688.0
AREAS_AT, LINES_AT = RIGHT + 14, 808.0
_GAP, _LABEL_PITCH = 14.0, 14.5
_LEAST_LABEL_PAGES = 26
_PATTERN_HEIGHT = 14.0


class Layer(msgspec.Struct, frozen=True):
    """``value``: pages of it. ``fill`` and ``edge`` as in the bars of the grid; ``thin``: without a pattern, where it
    is nowhere high enough for one."""

    name: str
    value: Callable[[VmFrame], int]
    fill: str
    ink: str
    thin: str
    edge: str = ""


LAYERS = (
    Layer("private", lambda vm: vm.private, "var(--vl-guest-fill)", "guest", "guest-fill"),
    Layer("shared", lambda vm: vm.shared, "url(#vm-sh)", "shared", "shared-fill"),
    Layer("balloon", lambda vm: vm.ballooned, "url(#vm-ba)", "balloon", "balloon-fill", "balloon"),
    Layer("swapped", lambda vm: vm.swapped, "url(#vm-sw)", "host", "host-fill", "host"),
)


class Curve(msgspec.Struct, frozen=True):
    """A line over the layers. ``shown``: whether it says anything for that machine."""

    name: str
    value: Callable[[VmFrame], int]
    css: str
    shown: Callable[[VmFrame], bool]


CURVES = (
    Curve("target", lambda vm: vm.target, "mc-target", lambda vm: True),
    Curve("active", lambda vm: vm.active, "mc-active", lambda vm: True),
    Curve("reserved", lambda vm: vm.config.min_pages, "mc-bound", lambda vm: vm.config.min_pages > 0),
    Curve("limit", lambda vm: vm.config.max_pages, "mc-bound", lambda vm: vm.config.max_pages < vm.pages),
)


class Band(msgspec.Struct, frozen=True):
    """Where a machine's curve stands: ``top`` to ``bottom``, ``unit`` units a page; and where the frames stand on x."""

    top: float
    bottom: float
    unit: float
    xs: tuple[float, ...]

    def y(self, pages: float) -> float:
        return self.bottom - pages * self.unit


def draw(
    frames: Sequence[MemoryFrame], names: Sequence[str], xs: Sequence[float], top: float, pitch: float, chosen: str = ""
) -> str:
    """Every machine in ``names`` from ``top`` on, ``pitch`` units each. The last frame is the one that is shown."""
    pages = max((vm.pages for frame in frames for vm in frame.vms), default=1)
    marks = []
    for at, name in enumerate(names):
        y = top + pitch * at
        band = Band(y, y + pitch - _GAP, (pitch - _GAP) / pages, tuple(xs))
        marks.append(_machine(frames, name, band, at, name == chosen))
    return PATTERNS + "".join(marks)


def _machine(frames: Sequence[MemoryFrame], name: str, band: Band, at: int, chosen: bool) -> str:
    seen = [(frame.vm(name), x) for frame, x in zip(frames, band.xs, strict=True)]
    last = seen[-1][0]
    axis = f'<path d="M{number(LEFT)} {number(band.bottom)}H{number(RIGHT)}" class="axis"/>'
    runs = _runs(seen)
    body = "".join(_areas(run, band) for run in runs) + "".join(_curves(run, band) for run in runs)
    side = text(0, band.top + 13, name, "l b")
    if last is not None:
        side += text(0, band.top + 31, f"{last.pages // MB_PAGES} MB", "soft")
        side += _state(last, band) + _labels(last, band)
    else:
        side += text(0, band.top + 31, "is off", "soft")
    height = band.bottom - band.top
    here = (
        f'<rect x="-6" y="{number(band.top - 4)}" width="{WIDTH + 12}" height="{number(height + 8)}" class="vm-here"/>'
    )
    words = f"{spoken(last) if last is not None else name + ' is off'}. " + (
        "Shown alone; Enter shows all" if chosen else "Enter shows it alone"
    )
    return f'<g data-row="{at}" class="vm-row" aria-label="{escape(plain(words))}">{here}{body}{axis}{side}</g>'


def _runs(seen: Sequence[tuple[VmFrame | None, float]]) -> list[list[tuple[VmFrame, float]]]:
    """The stretches in which the machine was on."""
    runs: list[list[tuple[VmFrame, float]]] = []
    fresh = True
    for vm, x in seen:
        if vm is None:
            fresh = True
            continue
        if fresh:
            runs.append([])
            fresh = False
        runs[-1].append((vm, x))
    return runs


def _areas(run: Sequence[tuple[VmFrame, float]], band: Band) -> str:
    if len(run) == 1:  # a moment has no width: a thin bar
        run = [(run[0][0], run[0][1] - 1.5), run[0]] if run[0][1] > LEFT + 2 else [run[0], (run[0][0], run[0][1] + 1.5)]
    first, last = run[0][1], run[-1][1]
    top = band.y(run[-1][0].pages)
    marks = [
        f'<path d="M{number(first)} {number(top)}H{number(last)}" class="not-there"/>',
    ]
    below = [0] * len(run)
    for layer in LAYERS:
        values = [layer.value(vm) for vm, _ in run]
        if any(values):
            above = [low + value for low, value in zip(below, values, strict=True)]
            there = [f"{number(x)} {number(band.y(high))}" for (_, x), high in zip(run, above, strict=True)]
            back = [f"{number(x)} {number(band.y(low))}" for (_, x), low in zip(run, below, strict=True)]
            patterned = max(values) * band.unit >= _PATTERN_HEIGHT
            edge = f";stroke:var(--vl-{layer.edge}-ink);stroke-width:1" if layer.edge and patterned else ""
            fill = layer.fill if patterned else f"var(--vl-{layer.thin})"
            path = "M" + "L".join([*there, *reversed(back)]) + "Z"
            marks.append(f'<path d="{path}" data-layer="{layer.name}" style="fill:{fill}{edge}"/>')
            below = above
    return "".join(marks)


def _curves(run: Sequence[tuple[VmFrame, float]], band: Band) -> str:
    marks = []
    for curve in CURVES:
        points = [(x, band.y(curve.value(vm))) for vm, x in run if curve.shown(vm)]
        if len(points) > 1:
            path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
            halo = f'<path d="{path}" class="mc-halo"/>' if curve.css != "mc-bound" else ""
            marks.append(f'{halo}<path d="{path}" class="{curve.css}" data-curve="{curve.name}"/>')
    return "".join(marks)


def _state(vm: VmFrame, band: Band) -> str:
    """What is the matter with it, under its name."""
    words = "✕ stopped" if vm.stopped else "✕ blocked" if vm.blocked else ""
    return text(0, band.top + 49, words, "b fault") if words else ""


def _labels(vm: VmFrame, band: Band) -> str:
    """Areas in one column, lines in the other, each beside what it names, none upon another."""
    areas, below = [], 0
    for layer in LAYERS:
        value = layer.value(vm)
        if value >= _LEAST_LABEL_PAGES:
            middle = band.y(below + value / 2)
            areas.append((middle, layer.name, mb(value), layer.ink, "tab"))
        below += value
    lines = [
        (band.y(curve.value(vm)), curve.name, mb(curve.value(vm)), curve.css, "")
        for curve in CURVES if curve.shown(vm)
    ]  # fmt: skip
    return _column(areas, AREAS_AT, band, False) + _column(lines, LINES_AT, band, True)


def _column(labels: list[tuple[float, str, str, str, str]], x: float, band: Band, sample: bool) -> str:
    marks = []
    for y, (_, name, value, css, weight) in zip(apart([y for y, *_ in labels], band), labels, strict=True):
        if sample:
            marks.append(f'<path d="M{number(x)} {number(y)}h14" class="{css}"/>')
            marks.append(text(x + 20, y + 4.5, name, "s") + text(WIDTH, y + 4.5, value, "s end tab"))
        else:
            ink = f'style="fill:var(--vl-{css}-ink)"'
            marks.append(text(x, y + 4.5, name, "s", ink))
            marks.append(text(LINES_AT - 14, y + 4.5, value, f"s end {weight}", ink))
    return "".join(marks)


def apart(wanted: Sequence[float], band: Band) -> list[float]:
    """The heights nearest to the wanted ones at which labels do not touch, in the same order from below to above."""
    order = sorted(range(len(wanted)), key=lambda at: -wanted[at])
    placed = [0.0] * len(wanted)
    last = band.bottom + _LABEL_PITCH - 4
    for at in order:
        placed[at] = last = min(wanted[at], last - _LABEL_PITCH)
    least = band.top - 2
    for at in reversed(order):
        placed[at] = max(placed[at], least)
        least = placed[at] + _LABEL_PITCH
    return placed


def mb(pages: float) -> str:
    """``9.8``: megabytes, one decimal below 100."""
    value = pages / MB_PAGES
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def spoken(vm: VmFrame) -> str:
    """One machine in words."""
    parts = [f"{layer.name} {mb(layer.value(vm))} MB" for layer in LAYERS if layer.value(vm)]
    lines = [f"{curve.name} {mb(curve.value(vm))} MB" for curve in CURVES if curve.shown(vm)]
    untouched = f"never touched {mb(vm.untouched)} MB"
    return f"{vm.name}, {mb(vm.pages)} MB: {', '.join([*parts, untouched])}; {', '.join(lines)}"
