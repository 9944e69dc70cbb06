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
from vilab.view.words import plain
from vilab.vmm.records import StepRecord

WINDOW = 10
_AHEAD = 3
"""Free slots right of the playhead in a run that is longer than the window."""

LEFT, RIGHT = 160.0, 900.0
"""The part of the stage that is time; left of it stand the lanes' names."""


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
