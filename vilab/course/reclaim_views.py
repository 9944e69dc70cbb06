"""What the cells of lessons 10 and 11 call: charts of a run, sliders to act on it, and what can be said of it.

Questions are answered by the run itself: when a choice has arrived the host runs ahead, is recorded, and the picture
goes back to where it was. Needs Jupyter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vilab.course.feedback import columns
from vilab.course.reclaim_runs import blocks, rounds
from vilab.course.tax_runs import TAX
from vilab.memory.free_states import DOWNWARDS, FreeState
from vilab.memory.memory_events import BalloonLocked, BalloonReset, DoublePaged, FreeStateChanged, PageSwappedIn
from vilab.view import memory_chart_says, memory_says
from vilab.view.memory_chart_draw import mb
from vilab.view.memory_frame import MemoryFrame
from vilab.view.memory_players import MemoryChart, MemoryPressure, MemoryTax
from vilab.view.memory_track import MemoryTrack
from vilab.view.playback import Ask
from vilab.view.predict import Prediction
from vilab.view.words import plain


def chart(track: MemoryTrack, question: str, steps: int, ask: Ask | None = None) -> MemoryChart:
    """The run over time."""
    return MemoryChart(track, question, steps, ask)


def pressure(track: MemoryTrack, question: str, steps: int, most_mb: int) -> MemoryPressure:
    """The run over time, with the slider."""
    return MemoryPressure(track, question, steps, most_mb)


def board(track: MemoryTrack, question: str, steps: int) -> MemoryTax:
    """The formula over the run, with sliders for tax and shares."""
    return MemoryTax(track, question, steps)


def figure_7(question: str) -> MemoryTax:
    """The formula with the paper's numbers; before the tax of 75 % it asks."""
    asked = MemoryTax.of_figure_7(question)
    track = asked.playback.track

    def ask(position: int) -> Prediction | None:
        if position != 2:
            return None
        return Prediction(
            "The next tax is 75 %. How much of the 342 MB will the idle vm1 be left with?",
            ("8 MB: what it uses.", "About 40 MB.", "About 100 MB.", "171 MB, as long as its shares are equal."),
            lambda: 2,
            "Both pay the same: W + 4 (P − W) is equal for both, and P1 + P2 = 342. That gives 101 and 241 MB.",
        )

    return MemoryTax.of_figure_7(track.question, ask)


# Questions that the run answers ---------------------------------------------------------------------------------------


def ahead(track: MemoryTrack, until: int) -> MemoryFrame:
    """The frame of a later step; the picture stays where it is."""
    here = track.position
    if until > track.newest.number:
        track.run(until - track.newest.number)
    track.seek(here)
    return track.frames[until]


def who_pages(track: MemoryTrack, at: int = 4, until: int = 12) -> Ask:
    """Before the balloons: which guest will have to write pages to its own disk?"""
    names = list(track.host.vms)
    options = (f"Only {names[0]}.", f"Only {names[1]}.", "Both.", "Neither: the host pages for them.")

    def right() -> int:
        ahead(track, until)
        paged = [blocks(track.host.vms[name])[-1]["page_outs"] > 0 for name in names]
        return {(True, False): 0, (False, True): 1, (True, True): 2, (False, False): 3}[paged[0], paged[1]]

    def why() -> str:
        said = [f"{name} {blocks(track.host.vms[name])[-1]['page_outs']:,}" for name in names]
        return f"Pages written by the guests themselves by step {until}: {', '.join(said)}. Free frames go first."

    asked = Prediction(
        "Free memory is about to fall below 4 %, and balloons will inflate. Both guests hold the same. "
        "Which will write pages to its own disk?", options, right, why,
    )  # fmt: skip
    return {at: asked}.get


def when_taxed(track: MemoryTrack, at: int, until: int) -> Ask:
    """Before the tax: what will the idle guest hold?"""

    def right() -> int:
        before, after = track.frames[at].vms[0].target, ahead(track, until).vms[0].target
        share = after / before
        return 0 if share > 0.95 else 1 if share > 0.75 else 2 if share > 0.45 else 3

    asked = Prediction(
        f"The tax goes from 0 to {TAX * 100:.0f} %. vm1 is idle. What will become of its target?",
        ("It stays: shares are equal.", "A little less.", "Somewhat above half.", "A quarter, or less."), right,
        lambda: (
            f"vm1's target is {mb(track.frames[until].vms[0].target)} MB, it was {mb(track.frames[at].vms[0].target)}: "
            "its idle pages cost four times as much now, and vm2's few do, too."
        ),
    )  # fmt: skip
    return {at: asked}.get


# In words -------------------------------------------------------------------------------------------------------------


def walk(track: MemoryTrack, steps: Sequence[int]) -> str:
    """The text twins of some recorded steps, numbered."""
    lines = []
    for at in steps:
        before = track.frames[at - 1] if at else None
        lines.append(f"{at:3}  {plain(memory_chart_says.say(track.frames[at], before))}")
    return "\n".join(lines)


def figures(track: MemoryTrack, worker: str = "vm1") -> dict[str, int]:
    """What the run has cost by now. ``worker``: whose rounds are counted."""
    vms, names = track.newest.vms, list(track.host.vms)
    return {
        "pages in balloons": sum(vm.ballooned for vm in vms),
        "pages in the host's swap files": sum(vm.swapped for vm in vms),
        "written by the host": sum(vm.swapped_out for vm in vms),
        "read by the host": sum(vm.swapped_in for vm in vms),
        "written by the guests": sum(_last(track, name, "page_outs") for name in names),
        "read by the guests": sum(_last(track, name, "page_ins") for name in names),
        "paged twice": sum(vm.double_paged for vm in vms),
        f"rounds of {worker}": rounds(track.host.vms[worker]),
    }


def compare_text(runs: Mapping[str, Mapping[str, int]]) -> str:
    """``figures`` of several runs, in columns."""
    names = list(next(iter(runs.values())))
    rows = [("", *runs)]
    rows += [(name, *(f"{found[name]:,}".rjust(len(head)) for head, found in runs.items())) for name in names]
    return "\n".join(columns(rows))


def _last(track: MemoryTrack, name: str, counter: str) -> int:
    found = blocks(track.host.vms[name])
    return found[-1][counter] if found else 0


def targets_text(track: MemoryTrack, steps: Sequence[int]) -> str:
    """What each machine should hold, holds and seems to use, at some steps."""
    names = [vm.name for vm in track.frames[steps[0]].vms]
    rows = [("step", "tax", "free", *(f"{name}: {what}" for name in names for what in ("target", "holds", "uses")))]
    for at in steps:
        frame = track.frames[at]
        cells = [mb(value).rjust(4) for vm in frame.vms for value in (vm.target, vm.charged, vm.active)]
        rows.append((str(at), f"{frame.tax * 100:.0f} %", f"{frame.free_percent:.1f} %", *cells))
    return "\n".join(columns(rows))


def double_paged_text(track: MemoryTrack, most: int = 6) -> str:
    """The first pages that were read from one disk only to be written to another."""
    rows = [("second", "who", "page", "what happened")]
    count = 0
    for frame in track.frames:
        slots: dict[tuple[int, int], int] = {}
        for event in frame.events:
            if isinstance(event, PageSwappedIn):
                slots[event.vm, event.ppn] = event.slot
            elif isinstance(event, DoublePaged):
                count += 1
                vm = frame.vm_of(event.vm)
                if count <= most and vm is not None:
                    what = f"read from slot {slots[event.vm, event.ppn]} of the host, to be written to the guest's disk"
                    rows.append((f"{event.at_ns / 1e9:.2f}", vm.name, f"{event.ppn:05x}", what))
    return "\n".join([*columns(rows), f"{count} pages were paged twice."])


def states_text(track: MemoryTrack) -> str:
    """Every change of state, with free memory at that moment."""
    rows = [("second", "", "", "free")]
    for frame in track.frames:
        for event in frame.events:
            if isinstance(event, FreeStateChanged):
                down = DOWNWARDS.index(FreeState(event.state)) > DOWNWARDS.index(FreeState(event.was))
                arrow = "falls to" if down else "climbs to"
                percent = 100 * event.free_pages / event.total_pages
                rows.append((f"{event.at_ns / 1e9:.2f}", f"{event.was} {arrow}", event.state, f"{percent:.2f} %"))
    return "\n".join(columns(rows))


def log_text(track: MemoryTrack) -> str:
    """What the memory manager did in the step that is shown, a line each."""
    frame = track.frame
    names = {vm.vm_id: vm.name for vm in frame.vms}
    said = list(memory_says.lines(frame))
    locked: Counter[str] = Counter()
    for event in frame.events:
        if isinstance(event, BalloonReset):
            said.append((names[event.vm], f"its driver starts anew: {event.released_pages:,} pages are the guest's"))
        elif isinstance(event, BalloonLocked):
            locked[names[event.vm]] += event.pages
    said += [(name, f"its driver gives {pages:,} pages") for name, pages in locked.items() if pages]
    return "\n".join(f"{frame.at_ns / 1e9:4.0f} s  {who:4} {what}".rstrip() for who, what in said)
