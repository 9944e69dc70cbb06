"""The picture of rings: who runs, how privileged the CPU is meanwhile, and where control leaves the guest.

::

    ring 3  guest program   --int 0x80--+
                                        |           +--cli--+               pushf --x  no trap
    ring 1  guest kernel                |           :       |           +-----------
                                        v           :       v           :
    ring 0  VMM                         +--gate 80--+       +--vIF<-0---+
                                                    dashed: back to the guest

Time runs to the right in beats; what lies right of the playhead is not drawn. A run of more than ten beats is seen
through a window that follows the playhead.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.events import (
    CalloutTaken,
    Emulated,
    ExceptionDelivered,
    HiddenFault,
    InterruptDelivered,
    RunEnded,
    TraceFault,
    TrapTaken,
    UnitTranslated,
)
from vilab.view import says
from vilab.view.beats import VMM, Beat, label
from vilab.view.frame import WIDTH, Stage
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.words import hex8, plain
from vilab.vmm.records import StepRecord

WINDOW = 10
_AHEAD = 3
"""Free slots right of the playhead in a run that is longer than the window."""

LEFT, RIGHT = 160.0, 900.0
_PITCH, _LANE, _PATH, _LABEL = 78.0, 72.0, 46.0, 32.0
_MONO = 7.83
"""Units that one character of the 13-unit monospace face takes."""


class Lane(msgspec.Struct, frozen=True):
    """``ring`` is 3 to 0, or -1 below ring 0 under VMRUN."""

    ring: int
    name: str


class Segment(msgspec.Struct, frozen=True):
    """One beat as the picture needs it: lanes by index, what stands on it, where control goes at its end."""

    lane: int
    goes_to: int
    label: str
    short: str
    vmm: bool
    kind: str
    leaves: bool
    enters_from: int | None
    wrong: bool
    note: str


class RingsScene(msgspec.Struct, frozen=True):
    """``segments`` are those of beats ``first`` + 1 to ``position``."""

    lanes: tuple[Lane, ...]
    first: int
    position: int
    total: int
    segments: tuple[Segment, ...]
    loud: str
    asides: tuple[str, ...]
    say: str
    first_eip: int

    @property
    def slots(self) -> int:
        return min(self.total, WINDOW) or 1

    @property
    def unit(self) -> float:
        return (RIGHT - LEFT) / self.slots

    def describe(self) -> str:
        """The text twin, without marks."""
        return plain(self.say)


def lanes_of(engine: str, kernel_ring: int) -> tuple[Lane, ...]:
    """The lanes of an engine: most privileged last. ``kernel_ring`` is where the CPU runs the guest's kernel."""
    program, kernel = Lane(3, "guest program"), Lane(kernel_ring, "guest kernel")
    if engine == "svm":
        return program, kernel, Lane(-1, "VMM")
    if engine == "bare":
        return Lane(3, "program"), Lane(0, "kernel, no VMM")
    return program, kernel, Lane(0, "VMM, memory only" if engine == "deprivileged" else "VMM")


def kernel_ring(records: Sequence[StepRecord], engine: str) -> int:
    """Where the CPU really runs the guest's kernel; seen in the run, else what the engine does."""
    for record in records:
        if record.cpl == 0:
            return record.cpu_cpl
    return 0 if engine in ("svm", "bare") else 1


def window_of(position: int, total: int) -> int:
    """The first position of the window."""
    if total <= WINDOW:
        return 0
    return max(0, min(position - (WINDOW - _AHEAD), total - WINDOW))


def scene(
    beats: Sequence[Beat],
    records: Sequence[StepRecord],
    position: int,
    lanes: tuple[Lane, ...],
    say: str,
    first_eip: int,
) -> RingsScene:
    """What the picture shows at ``position``; looks at no beat after it."""
    first = window_of(position, len(beats))
    segments = tuple(_segment(beats, records, at, lanes) for at in range(first, position))
    loud = ""
    asides: tuple[str, ...] = ()
    if position and beats[position - 1].wrong:
        finding = beats[position - 1].finding
        assert finding is not None
        loud = "no trap"
        asides = ("The VMM is not asked." if lanes[-1].name == "VMM" else "Nobody is asked.", finding.why)
    return RingsScene(lanes, first, position, len(beats), segments, loud, asides, say, first_eip)


def _segment(beats: Sequence[Beat], records: Sequence[StepRecord], at: int, lanes: tuple[Lane, ...]) -> Segment:
    beat = beats[at]
    record = records[beat.step]
    vmm_lane = len(lanes) - 1
    is_vmm = beat.actor == VMM
    lane = vmm_lane if is_vmm else _guest_lane(beat.cpl)
    last_of_step = beat.position > beat.step
    if beat.leaves:
        goes_to = vmm_lane
    elif last_of_step:
        goes_to = _guest_lane(record.guest.cpl)
    else:
        goes_to = _guest_lane(beat.cpl) if is_vmm else lane
    enters_from = None
    if is_vmm and (at == 0 or (beats[at - 1].actor != VMM and not beats[at - 1].leaves)):
        enters_from = _guest_lane(beat.cpl)
    if any(isinstance(event, RunEnded) for event in beat.events) and not beat.leaves:
        goes_to = lane
    if is_vmm and at + 1 < len(beats) and beats[at + 1].actor == VMM and beats[at + 1].step == beat.step:
        goes_to = vmm_lane
    full = _vmm_label(beat) if is_vmm else label(beat, record)
    note = ""
    if beat.finding is not None and beat.finding.right and not is_vmm and beat.finding.got_word:
        note = f"{beat.finding.what} = {beat.finding.got}: right"
    short = full.split(" ")[0]
    return Segment(lane, goes_to, full, short, is_vmm, beat.kind, beat.leaves, enters_from, beat.kind == "error", note)


def _guest_lane(cpl: int) -> int:
    return 0 if cpl == 3 else 1


def _vmm_label(beat: Beat) -> str:
    """What the VMM does, in a few characters."""
    for event in beat.events:
        if isinstance(event, Emulated):
            return says.arrow(event.effect)
    for event in beat.events:
        if isinstance(event, TrapTaken) and not event.handled:
            return "nobody"
        if isinstance(event, ExceptionDelivered):
            return f"gate {event.vector:02x}"
        if isinstance(event, InterruptDelivered):
            return f"IRQ {event.vector:02x}"
        if isinstance(event, UnitTranslated):
            return "translate"
        if isinstance(event, HiddenFault):
            return "fill entry"
        if isinstance(event, TraceFault):
            return "do store"
        if isinstance(event, CalloutTaken):
            return {"chain": "chain", "ret_miss": "find ret", "indirect_miss": "find"}.get(event.reason, "emulate")
    return "emulate"


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
