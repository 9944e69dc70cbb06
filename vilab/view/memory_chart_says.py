"""What is said about a host whose memory is being taken back: the state and its reason, who gives, who pays.

The loudest thing first: what was done by hand or refused, a guest that stopped or is blocked, a state that was left,
pages that went to disk twice or once, balloons.
"""

from __future__ import annotations

from collections.abc import Iterator

from vilab.memory import memory_events as events
from vilab.memory.free_states import MARGIN_PERCENT, THRESHOLD_PERCENT, FreeState
from vilab.view.frame import Cell, Panel, Row
from vilab.view.memory_chart_draw import mb
from vilab.view.memory_frame import MemoryFrame, VmFrame
from vilab.view.words import NBSP, counted, grouped, plain

LEAST_PAGES = 26
MOST_LETTERS = 150
"""Two lines: what does not fit into them is left out, the last first."""


def say(frame: MemoryFrame, before: MemoryFrame | None) -> str:
    """The text twin of one moment: what happened, then where the host stands."""
    said = list(_happened(frame, before)) if before is not None else ["Nothing has run yet."]
    words = ""
    for sentence in [*said, _standing(frame)]:
        if not words or len(plain(words)) + len(plain(sentence)) < MOST_LETTERS:
            words = f"{words} {sentence}".strip()
    return words


def _happened(frame: MemoryFrame, before: MemoryFrame) -> Iterator[str]:
    for action in frame.actions:
        yield f"**{action.rstrip('.')}.**"
    for vm in frame.vms:
        was = before.vm_of(vm.vm_id)
        if vm.stopped and (was is None or not was.stopped):
            yield f"**{vm.stopped}**"
        elif vm.blocked and (was is None or not was.blocked):
            above = mb(vm.charged - vm.target)
            yield f"**{vm.name} is blocked**: it holds {mb(vm.charged)} MB, {above} above its target."
    yield from _states(frame)
    double, out, back = (_grown(frame, before, what) for what in ("double_paged", "swapped_out", "swapped_in"))
    if double:
        yield (
            f"**{counted(double, 'page')}** {'was' if double == 1 else 'were'} paged twice: read from the host's swap "
            "file only to be written to a guest's."
        )
    if out:
        yield f"The host wrote **{counted(out, 'page')}** to swap files and read {grouped(back)} back."
    elif back:
        yield f"The host read {counted(back, 'page')} back from swap files."
    yield from _balloons(frame, before)


def _states(frame: MemoryFrame) -> Iterator[str]:
    """Each change of state within the step, with the threshold that was crossed."""
    changes = [event for event in frame.events if isinstance(event, events.FreeStateChanged)]
    for event in changes[-2:]:
        percent = 100 * event.free_pages / event.total_pages
        was, state = FreeState(event.was), FreeState(event.state)
        if THRESHOLD_PERCENT[state] < THRESHOLD_PERCENT[was]:
            limit = THRESHOLD_PERCENT[state]
            fell = f"free memory fell to {percent:.1f}{NBSP}%, below {limit:g}{NBSP}%"
            yield f"**{state.capitalize()}**: {fell}."
        else:
            limit = THRESHOLD_PERCENT[state] + MARGIN_PERCENT
            yield f"**{state.capitalize()}** again: free memory rose to {percent:.1f}{NBSP}%, above {limit:g}{NBSP}%."


def _balloons(frame: MemoryFrame, before: MemoryFrame) -> Iterator[str]:
    changes = []
    for vm in frame.vms:
        was = before.vm_of(vm.vm_id)
        by = vm.ballooned - (was.ballooned if was is not None else 0)
        if by:
            changes.append((by, vm))
    if not changes:
        return
    by, vm = max(changes, key=lambda change: abs(change[0]))
    verb = "grew" if by > 0 else "shrank"
    more = f", {counted(len(changes) - 1, 'other')} changed" if len(changes) > 1 else ""
    yield (
        f"{vm.name}'s balloon {verb} by {counted(abs(by), 'page')} to **{mb(vm.ballooned)} MB** "
        f"(asked for: {mb(vm.balloon_target)}){more}."
    )


def _grown(frame: MemoryFrame, before: MemoryFrame, what: str) -> int:
    total = 0
    for vm in frame.vms:
        was = before.vm_of(vm.vm_id)
        total += getattr(vm, what) - (getattr(was, what) if was is not None else 0)
    return total


def _standing(frame: MemoryFrame) -> str:
    free = f"{frame.free_percent:.1f}{NBSP}% of {mb(frame.total_pages)} MB are free: {frame.state}"
    if not frame.vms:
        return f"No virtual machine is on; {free}."
    most = max(frame.vms, key=lambda vm: vm.charged - vm.target)
    above = most.charged - most.target
    who = (
        f"{most.name} is furthest above its target, by {mb(above)} MB"
        if above >= LEAST_PAGES
        else "nobody is above the target"
    )
    return f"{free}; {who}."


def table(frame: MemoryFrame, before: MemoryFrame | None) -> Panel:
    """Every machine in pages. What has changed in this step has a wash."""
    names = ("target", "costs", "balloon", "swapped", "read in", "twice")
    rows = []
    for vm in frame.vms:
        was = before.vm_of(vm.vm_id) if before is not None else vm
        rows.append(Row((Cell(vm.name, "c-guest"), *(Cell(grouped(value), "r") for value in _values(vm))),
                        "now" if was is None or _values(was) != _values(vm) else ""))  # fmt: skip
    head = (Cell("pages"), *(Cell(name, "r") for name in names))
    return Panel("Each VM", head, tuple(rows), empty="No virtual machine is on.")


def _values(vm: VmFrame) -> tuple[int, ...]:
    return (
        vm.target, vm.charged, vm.ballooned, vm.swapped, vm.swapped_in, vm.double_paged,
    )  # fmt: skip
