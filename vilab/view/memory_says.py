"""What is said about a host's memory: one or two sentences a step, and a log of what the memory manager did.

The loudest thing comes first: what was refused, then a state of free memory that was left, pages on disk, balloons,
copies, pages that were found equal, pages that were touched for the first time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from vilab.memory import memory_events as events
from vilab.memory.free_states import FreeState
from vilab.memory.page_state import PageState
from vilab.view.frame import Cell, Panel, Row
from vilab.view.memory_frame import MemoryFrame, VmFrame
from vilab.view.memory_grid import in_mb, size
from vilab.view.words import NBSP, counted, grouped

LOG_ROWS = 60


def seconds(at_ns: int) -> str:
    """``3.2 s``"""
    return f"{at_ns / 1e9:.1f}{NBSP}s"


def say(frame: MemoryFrame, before: MemoryFrame | None) -> str:
    """The text twin of one moment."""
    if before is None:
        return f"{_standing(frame)} Nothing has run yet in this picture."
    happened = list(_happened(frame, before))
    return " ".join([*happened[:2], _standing(frame)])


def _standing(frame: MemoryFrame) -> str:
    free = f"{in_mb(frame.free_pages)} of {size(frame.machine_pages)} are free"
    if not frame.vms:
        return f"No virtual machine is on; {free}."
    configured = sum(vm.pages for vm in frame.vms)
    cost = sum(vm.private for vm in frame.vms) + frame.sharing.shared_frames
    monitors = sum(vm.overhead for vm in frame.vms)
    who = f"{len(frame.vms)} VMs have" if len(frame.vms) > 1 else f"{frame.vms[0].name} has"
    cost_words = f"{who} {size(configured)} and cost{'' if len(frame.vms) > 1 else 's'} {in_mb(cost)}"
    return f"{cost_words}, plus {in_mb(monitors)} for monitors; {free}."


def _happened(frame: MemoryFrame, before: MemoryFrame) -> Iterator[str]:
    for action in frame.actions:
        yield f"**{action}**" if action.endswith(".") else f"{action}."
    for vm in frame.vms:
        was = before.vm_of(vm.vm_id)
        if vm.stopped and (was is None or not was.stopped):
            yield f"**{vm.stopped}**"
    if frame.state is not before.state:
        yield f"Free memory is **{frame.state}**, it was {before.state}."
    out, back = _change(frame, before, "swapped_out"), _change(frame, before, "swapped_in")
    if out:
        yield f"**{counted(out, 'page')}** went to disk, {grouped(back)} came back."
    elif back:
        yield f"**{counted(back, 'page')}** came back from disk."
    balloon = _change(frame, before, "ballooned")
    if balloon:
        yield f"Balloons have **{'grown' if balloon > 0 else 'shrunk'} by {counted(abs(balloon), 'page')}**."
    copies = sum(1 for e in frame.events if isinstance(e, events.SharingBroken) and e.mpn != e.from_mpn)
    shared = frame.sharing.saved_frames - before.sharing.saved_frames + copies
    found = []
    if shared > 0:
        found.append(f"**{counted(shared, 'page')}** found equal to another")
    if copies:
        found.append(f"**{counted(copies, 'store')}** made {'a copy' if copies == 1 else 'copies'}")
    if found:
        yield f"{', '.join(found)}."
    touched = touched_since(frame, before)
    if touched:
        yield f"**{counted(touched, 'page')}** touched for the first time."
    elif not (copies or shared > 0 or out or back or balloon or frame.actions):
        yield "No page was touched for the first time, and none was shared."


def touched_since(frame: MemoryFrame, before: MemoryFrame) -> int:
    """Pages that were never touched before. What a balloon has taken was not: the guest's driver only names it."""
    found = 0
    for vm in frame.vms:
        was, now = before.vm_of(vm.vm_id), vm.states.array()
        has = (now != PageState.UNTOUCHED) & (now != PageState.BALLOONED)
        if was is not None:
            has &= was.states.array() == PageState.UNTOUCHED
        found += int(np.count_nonzero(has))
    return found


def _change(frame: MemoryFrame, before: MemoryFrame, what: str) -> int:
    """How much a count of each machine has grown, all together."""
    found = 0
    for vm in frame.vms:
        was = before.vm_of(vm.vm_id)
        found += getattr(vm, what) - (getattr(was, what) if was is not None else 0)
    return found


# Events ----------------------------------------------------------------------------------------------------------


def glyph_of(frame: MemoryFrame) -> str:
    """The mark of a step on the slider; empty for a step without one."""
    if any(vm.stopped for vm in frame.vms) or frame.state in (FreeState.HARD, FreeState.LOW):
        return "error"
    loud = (events.PageShared, events.SharingBroken, events.BalloonLocked, events.PageSwappedOut, events.PageSwappedIn)
    if any(isinstance(event, loud) for event in frame.events):
        return "memory"
    return "io" if frame.actions else ""


_SAID: dict[type, str] = {
    events.SharedFrameLeft: "left shared frames", events.FalseMatch: "same hash, other content",
    events.PageSwappedOut: "paged out", events.PageSwappedIn: "paged in", events.DoublePaged: "paged twice",
    events.BalloonPopped: "taken out of the balloon by a touch",
}  # fmt: skip


def lines(frame: MemoryFrame) -> list[tuple[str, str]]:
    """(who, what) of a step; many alike are one line with their number."""
    names = {vm.vm_id: vm.name for vm in frame.vms}
    counts: Counter[tuple[str, str]] = Counter()
    said: list[tuple[str, str]] = [("", action) for action in frame.actions]
    for event in frame.events:
        who = names.get(getattr(event, "vm", -1), "")
        if isinstance(event, events.PageShared):
            counts[who, "shared"] += 1
        elif isinstance(event, events.SharingBroken):
            counts[who, "copied for a store" if event.mpn != event.from_mpn else "its own again"] += 1
        elif type(event) in _SAID:
            counts[who, _SAID[type(event)]] += 1
        elif isinstance(event, events.FreeStateChanged):
            said.append(("", f"free memory {event.was} → {event.state}"))
        elif isinstance(event, events.BalloonTargetSet):
            said.append((who, f"balloon target {size(event.target_pages)}"))
        elif isinstance(event, events.WorkingSetSampled):
            said.append((who, f"{event.touched} of {event.sampled} sampled pages were in use"))
        elif isinstance(event, events.VmBlocked):
            said.append((who, "blocked: above its target while memory is low"))
    said += [(who, f"{counted(count, 'page')} {what}") for (who, what), count in counts.items()]
    return said


def log(frames: Sequence[MemoryFrame], position: int) -> Panel:
    """What the memory manager did up to a step, newest at the bottom."""
    rows: list[Row] = []
    for frame in reversed(frames[: position + 1]):
        mark = "now" if frame.number == position else ""
        for who, what in reversed(lines(frame)):
            cells = (Cell(str(frame.number)), Cell(seconds(frame.at_ns), "soft"), Cell(who, "c-guest"), Cell(what))
            rows.append(Row(cells, mark, frame.number))
        if len(rows) >= LOG_ROWS:
            break
    head = (Cell("step"), Cell("time"), Cell("who"), Cell("what"))
    return Panel(
        "Memory log", head, tuple(reversed(rows[:LOG_ROWS])), "log", "The memory manager has done nothing yet."
    )


def table(frame: MemoryFrame, before: MemoryFrame | None) -> Panel:
    """Every machine in pages. What has changed in this step has a wash."""
    head = (
        Cell("pages"), Cell("configured", "r"), Cell("touched", "r"), Cell("private", "r"), Cell("shared", "r"),
        Cell("zeros", "r"),
    )  # fmt: skip
    rows = []
    for vm in frame.vms:
        was = before.vm_of(vm.vm_id) if before is not None else vm
        rows.append(Row(_cells(vm), "now" if was is None or was.counts != vm.counts else ""))
    return Panel("Each VM", head, tuple(rows), empty="No virtual machine is on.")


def _cells(vm: VmFrame) -> tuple[Cell, ...]:
    values = (vm.pages, vm.pages - vm.untouched - vm.ballooned, vm.private, vm.shared, vm.zero)
    return (Cell(vm.name, "c-guest"), *(Cell(grouped(value), "r") for value in values))


def sharing_panel(frame: MemoryFrame, before: MemoryFrame | None) -> Panel:
    """What the search for equal pages has come to."""
    was = before.sharing if before is not None else frame.sharing
    rows = []
    for name, what in _SHARING:
        now, old = getattr(frame.sharing, name), getattr(was, name)
        more = f"+{grouped(now - old)}" if now > old else f"−{grouped(old - now)}" if now < old else ""
        rows.append(Row((Cell(what), Cell(more, "r soft"), Cell(grouped(now), "r")), "now" if more else ""))
    return Panel("Page sharing", (Cell(""), Cell("in this step", "r"), Cell("now", "r")), tuple(rows))


_SHARING = (
    ("scanned", "pages hashed"), ("hints", "hints: seen, and nobody had the like"), ("stale_hints", "stale hints met"),
    ("shared_pages", "pages on shared frames"), ("shared_frames", "shared frames"), ("saved_frames", "frames saved"),
    ("zero_pages", "pages of zeros"), ("copies", "copies for a store"),
)  # fmt: skip
