"""Lanes, path, marks and words of ``rings`` as SVG."""

from __future__ import annotations

from vilab.view.frame import WIDTH, Stage
from vilab.view.rings import LEFT, RIGHT, Lane, RingsScene, Segment, kernel_ring, lanes_of
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.words import hex8

_PITCH, _LANE, _PATH, _LABEL = 78.0, 72.0, 46.0, 32.0
"""Units from lane to lane, height of one, and where in it the path and the words above it are."""
_MONO = 7.83
"""Units that one character of the 13-unit monospace face takes."""


def draw(picture: RingsScene) -> Stage:
    """The scene as SVG."""
    lanes, unit = picture.lanes, picture.unit
    height = _PITCH * len(lanes) - 6
    under = [_lane(lane, index) for index, lane in enumerate(lanes)]
    over: list[str] = []
    playhead = LEFT + unit * (picture.position - picture.first)
    body: list[str] = []
    for index, segment in enumerate(picture.segments):
        left = LEFT + unit * index
        now = picture.first + index + 1 == picture.position
        body.append(_path(segment, left, left + unit, now))
        if segment.wrong:
            over.append(_cross(left + unit, _y(segment.lane)))
    body.extend(_labels(picture))
    if picture.position == 0:
        body.append(_nothing_yet(picture))
    if picture.loud:
        over.append(_loud(picture, playhead))
    moving = f'<g class="vl-slide">{"".join(body)}</g>'
    return Stage(
        label=f"Control flow by ring, step {picture.position} of {picture.total}. {picture.describe()}",
        height=height + 16,
        under="".join(under) + moving,
        over=f'<g class="vl-slide">{"".join(over)}</g>',
        playhead=playhead,
        playhead_height=height + 6,
        origin=picture.first,
        unit=unit,
    )


def frame_only(engine: str) -> Stage:
    """Lanes and nothing on them: what stands there while something is being made ready."""
    lanes = lanes_of(engine, kernel_ring((), engine))
    ground = "".join(_lane(lane, index) for index, lane in enumerate(lanes))
    return Stage(label="Nothing is there yet.", height=_PITCH * len(lanes) + 10, under=ground)


def _y(lane: int) -> float:
    return _PITCH * lane + _PATH


def _lane(lane: Lane, index: int) -> str:
    top = _PITCH * index
    ring = "−1" if lane.ring < 0 else str(lane.ring)
    ground = rect(0, top, WIDTH, _LANE, f"var(--vl-ring-{'m1' if lane.ring < 0 else lane.ring})")
    return ground + text(16, top + 32, f"ring {ring}", "l b") + text(16, top + 52, lane.name, "soft")


def _path(segment: Segment, left: float, right: float, now: bool) -> str:
    n = number
    y, to = _y(segment.lane), _y(segment.goes_to)
    parts = []
    if segment.enters_from is not None:
        parts.append(line(f"M{n(left)} {n(_y(segment.enters_from))}V{n(y)}", "go-vmm"))
        parts.append(glyph(segment.kind or "callout", left, _PITCH * segment.lane - 1, 9))
    if segment.goes_to != segment.lane:
        css = "go-back" if segment.vmm else "go-vmm" if segment.leaves else "go-guest"
        parts.append(line(f"M{n(right)} {n(y)}V{n(to)}", css))
    parts.append(line(f"M{n(left)} {n(y)}H{n(right)}", "path-vmm" if segment.vmm else "path-guest"))
    if segment.leaves:
        parts.append(glyph(segment.kind, right, _PITCH * segment.goes_to - 1, 9))
    if segment.note:
        parts.append(text((left + right) / 2, y + 20, segment.note, "mid b shared"))
    return f'<g class="{"cur" if now else ""}">{"".join(parts)}</g>'


def _labels(picture: RingsScene) -> list[str]:
    """Names above the path. The current one is written out; an older one that would touch its neighbour is shortened
    to the mnemonic, and left out where even that touches."""
    free_until: dict[int, float] = {}
    drawn = []
    for index in reversed(range(len(picture.segments))):
        segment = picture.segments[index]
        centre = LEFT + picture.unit * (index + 0.5)
        now = picture.first + index + 1 == picture.position
        for words in _ways_to_say(segment):
            half = len(words) * _MONO / 2 + 3
            wide = half > picture.unit / 2
            if wide and segment.vmm and words != segment.short:
                continue  # would stand across the ways into and out of the lane
            right = LEFT + picture.unit * (index + 1)
            x = max(LEFT - 12 + half, right - half if wide and now else centre)
            if now or x + half <= free_until.get(segment.lane, float(WIDTH)):
                css = f"m mid {'vmm' if segment.vmm else 'guest'}{' b' if now else ''}"
                drawn.append(text(x, _PITCH * segment.lane + _LABEL, words, css))
                free_until[segment.lane] = x - half
                break
    return drawn


def _ways_to_say(segment: Segment) -> tuple[str, ...]:
    if segment.vmm:
        return segment.label, segment.label.replace(" ", ""), segment.short
    return segment.label, segment.short


def _cross(x: float, y: float) -> str:
    return f'<circle cx="{number(x)}" cy="{number(y)}" r="7" class="wrong"/>{glyph("error", x, y, 4)}'


def _loud(picture: RingsScene, x: float) -> str:
    """The answer to the question: at the playhead, on its free side, or left of it at the end of the run."""
    lane = picture.segments[-1].lane
    y, bottom = _y(lane), _PITCH * (len(picture.lanes) - 1)
    room = RIGHT - x >= 190
    at, anchor = (x + 14, "") if room else (x - 14, " end")
    parts = []
    if room:
        parts.append(line(f"M{number(x + 10)} {number(y)}H{number(RIGHT)}", "not-there"))
    parts.append(text(at, y - 16 if room else y + 24, picture.loud, f"l b fault{anchor}"))
    aside_y = bottom + 28 if lane != len(picture.lanes) - 1 else bottom + 20
    parts.extend(
        text(at, aside_y + 20 * row, words, f"soft halo-lane{anchor}") for row, words in enumerate(picture.asides)
    )
    return "".join(parts)


def _nothing_yet(picture: RingsScene) -> str:
    x, y = (LEFT + RIGHT) / 2, _PITCH * (len(picture.lanes) / 2) - 14
    if not picture.total:
        return text(x, y + 12, "There is nothing to step through.", "mid l b")
    return text(x, y, "Nothing has run yet.", "mid l b") + text(
        x, y + 26, f"Press Step to execute the first instruction at {hex8(picture.first_eip)}.", "mid"
    )
