"""Exercises of lesson 10: a balloon policy, and pages that were paged twice. The judge: a host with running guests.

::

    10a   policy(guests, wanted_pages) ──> {name: pages in its balloon}      once a second, while the vmkernel presses
          cost = pages that guests wrote to their disks + pages that the host wrote to its own
    10b   double_paged(lines) ──> [(name, page), ...]                        lines of a log, as they were emitted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import msgspec

from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.reclaim_runs import CRAMPED, FINISHED, PRESSURE_MB, WORKING, blocks, pressed, start
from vilab.devices.ramdisk import BlockTransferred
from vilab.events import Event, EventLog
from vilab.host.host import SVM_MONITOR_BYTES, Host
from vilab.memory.client import MB_PAGES
from vilab.memory.memory_events import DoublePaged, PageSwappedIn, PageSwappedOut
from vilab.view.memory_track import MemoryTrack

# 10a -------------------------------------------------------------------------------------------------------------

STEPS = 16
TRACES: dict[str, tuple[str, ...]] = {
    "one works": (WORKING, FINISHED), "the other works": (FINISHED, WORKING),
}  # fmt: skip
BETTER = 0.5
"""The policy has to cost at most this part of what the host's own costs."""


class Guest(msgspec.Struct, frozen=True):
    """What a policy sees of one guest, a second at a time.

    ``inside``: pages in its balloon; ``asked``: pages that it was asked for last. ``paged_out``: pages that it says to
    have written to its own disk in the last second.
    """

    name: str
    pages: int
    inside: int
    asked: int
    paged_out: int


class Spent(msgspec.Struct, frozen=True):
    """What a whole run has cost, and where it ended."""

    by_guests: int
    by_host: int
    free_percent: float
    rows: tuple[str, ...]

    @property
    def cost(self) -> int:
        return self.by_guests + self.by_host


Policy = Callable[[Sequence[Guest], int], Mapping[str, int]]


def own_policy(guests: Sequence[Guest], wanted_pages: int) -> Mapping[str, int]:
    """The host's, where all guests have equal shares and look equally busy: each gives the same."""
    return {guest.name: guest.inside + wanted_pages // len(guests) for guest in guests}


def _host(trace: str) -> MemoryTrack:
    programs = TRACES[trace]
    names = {f"vm{number}": program for number, program in enumerate(programs, 1)}
    return pressed(names, guests_mb=16 * len(programs))


def measure(policy: Policy, trace: str) -> Spent:
    """Let the policy set the balloons of a running host, second by second."""
    track = _host(trace)
    memory = track.host.memory
    said = dict.fromkeys(track.host.vms, 0)
    for hosted in track.host.vms.values():
        memory.set_balloon(hosted.client, 0)
    rows = [("second", "wanted", *(f"{name}: balloon, wrote" for name in track.host.vms))]
    try:
        for step in range(1, STEPS + 1):
            guests = []
            for vm in track.newest.vms:
                outs = _counter(track, vm.name)
                guests.append(Guest(vm.name, vm.pages, vm.ballooned, vm.balloon_target, outs - said[vm.name]))
                said[vm.name] = outs
            press = pressure_pages(step)
            wanted = memory.aim_free_pages() - memory.free_pages + press - track.newest.pressure_pages
            for name, pages in _answer(policy, guests, wanted).items():
                memory.set_balloon(track.host.vms[name].client, pages)
            frame = track.step()
            cells = (f"{vm.ballooned:,}, {_counter(track, vm.name) - said[vm.name]:,}" for vm in frame.vms)
            rows.append((str(step), f"{wanted:,}", *cells))
        by_guests = sum(_counter(track, name) for name in track.host.vms)
        by_host = sum(vm.swapped_out for vm in track.newest.vms)
        missing = pressure_pages(STEPS) - track.newest.pressure_pages
        free = 100 * (track.newest.free_pages - missing) / track.newest.total_pages
        return Spent(by_guests, by_host, free, columns(rows))
    finally:
        track.host.close()


def pressure_pages(step: int) -> int:
    """What the vmkernel wants in a step."""
    return max((round(mb * MB_PAGES) for at, mb in PRESSURE_MB.items() if at <= step), default=0)


def _counter(track: MemoryTrack, name: str) -> int:
    found = blocks(track.host.vms[name])
    return found[-1]["page_outs"] if found else 0


def _answer(policy: Policy, guests: Sequence[Guest], wanted: int) -> dict[str, int]:
    said = f"policy({len(guests)} guests, {wanted})"
    answer = call(policy, list(guests), wanted, said=said)
    if not isinstance(answer, Mapping):
        raise WrongAnswer(f"{said} returned {str(answer)[:60]}; a dictionary from name to pages is wanted.")
    known = {guest.name: guest for guest in guests}
    found = {}
    for name, pages in answer.items():
        if name not in known or isinstance(pages, bool) or not isinstance(pages, int):
            raise WrongAnswer(f"{said} has {name!r}: {pages!r}; names of guests with whole numbers are wanted.")
        found[name] = max(0, pages)
    return found


@cache
def default_cost(trace: str) -> Spent:
    """What the host's own policy costs."""
    return measure(own_policy, trace)


def check_policy(policy: Policy, traces: Sequence[str] = ("one works",)) -> Feedback:
    """``policy(guests, wanted_pages)``: how many pages each balloon is to have. Measured on the running host."""
    told = []
    for trace in traces:
        default, mine = default_cost(trace), measure(policy, trace)
        if mine.free_percent < 4:
            raise WrongAnswer(
                f"Trace {trace!r}: in the end {max(0.0, mine.free_percent):.1f} % of memory are free, and at least 4 "
                "have to be: the balloons did not give what was wanted.", mine.rows,
            )  # fmt: skip
        if mine.cost > BETTER * default.cost:
            raise WrongAnswer(
                f"Trace {trace!r}: guests wrote {mine.by_guests:,} pages and the host {mine.by_host:,}. The host's own "
                f"policy needs {default.cost:,}; at most half of that are allowed. Who pages, and who does not?",
                mine.rows,
            )  # fmt: skip
        told.append(f"{mine.cost:,} pages written where the host's policy needs {default.cost:,}")
    return right(f"{'; '.join(told)}.")


# 10b -------------------------------------------------------------------------------------------------------------


class Listened(msgspec.Struct, frozen=True):
    """A log, and the pages that the memory manager itself counted as paged twice."""

    lines: tuple[str, ...]
    due: tuple[tuple[str, str], ...]


LOGS: dict[str, tuple[str, ...]] = {
    "cramped": (CRAMPED, FINISHED), "two cramped": (CRAMPED, CRAMPED), "working": (WORKING, FINISHED),
}  # fmt: skip
LOG_SECONDS, LOG_PAGES = 8, 1500


@cache
def listened(name: str) -> Listened:
    """``MADE_UP``, or one of ``LOGS``: a host without balloons pages guests out, some of which page by themselves."""
    if name == MADE_UP:
        return LATER
    host = Host(34 + 2 * SVM_MONITOR_BYTES // (1 << 20), quantum_ns=50_000_000)
    host.memory.reclaimer.ballooning = False
    lines: list[str] = []
    due: list[tuple[str, str]] = []
    names: dict[int, str] = {}

    def of_host(event: Event) -> None:
        if isinstance(event, PageSwappedOut | PageSwappedIn):
            verb = "writes" if isinstance(event, PageSwappedOut) else "reads"
            lines.append(f"host {verb} {names[event.vm]} {event.ppn:05x} slot {event.slot}")
        elif isinstance(event, DoublePaged):
            due.append((names[event.vm], f"{event.ppn:05x}"))

    def of_guest(name: str) -> Callable[[Event], None]:
        def heard(event: Event) -> None:
            if isinstance(event, BlockTransferred):
                lines.append(f"{name} {event.direction}s {event.gpa >> 12:05x} block {event.block}")

        return heard

    host.log.listen(of_host)
    for number, program in enumerate(LOGS[name], 1):
        log = EventLog()
        log.listen(of_guest(f"vm{number}"))
        vm = start(host, f"vm{number}", program.format(seed=number), log=log)
        names[vm.id] = vm.name
    host.run_for(2_000_000_000)
    for vm in host.vms.values():
        host.memory.reclaimer.page_out(vm.client, LOG_PAGES)
    host.run_for(LOG_SECONDS * 1_000_000_000)
    host.close()
    return Listened(tuple(lines), tuple(due))


MADE_UP = "made up"
LATER = Listened(
    (
        "host writes vm1 00aaa slot 0", "host writes vm1 00bbb slot 1", "host writes vm2 00aaa slot 0",
        "host reads vm1 00aaa slot 0", "vm1 reads 00ccc block 5", "vm1 writes 00aaa block 6",
        "host reads vm1 00bbb slot 1", "vm2 writes 00bbb block 1", "host reads vm2 00aaa slot 0",
        "vm1 writes 00bbb block 7", "vm2 reads 00aaa block 9", "vm1 reads 00bbb block 6", "vm1 writes 00bbb block 8",
        "vm2 writes 00aaa block 3",
    ),
    (("vm1", "00bbb"),),
)  # fmt: skip
"""Pages that came back because they were touched, and were written later; one that was paged twice."""

DoublePagedIn = Callable[[Sequence[str]], Sequence[tuple[str, str]]]


def check_double_paged(double_paged: DoublePagedIn, logs: Sequence[str] = ("cramped",)) -> Feedback:
    """``double_paged(lines)``: (guest, page) of every page that was paged twice, in order."""
    counted = []
    for name in logs:
        log = listened(name)
        said = f"double_paged({len(log.lines):,} lines, {name})"
        answer = call(double_paged, list(log.lines), said=said, steps=20 * len(log.lines) + 1000)
        if not isinstance(answer, Sequence) or isinstance(answer, str):
            raise WrongAnswer(f"{said} returned {str(answer)[:60]}; a list of pairs (guest, page) is wanted.")
        mine = [tuple(each) if isinstance(each, Sequence) else each for each in answer]
        for at, (got, due) in enumerate(zip(mine, log.due, strict=False)):
            if got != due:
                raise WrongAnswer(f"{said}: number {at + 1} is {got!r}, but {due!r} was paged twice.", _near(log, due))
        if len(mine) != len(log.due):
            example = log.due[len(mine)] if len(mine) < len(log.due) else None
            rows = _near(log, example) if example else ()
            raise WrongAnswer(f"{said} finds {len(mine)} pages; the host counted {len(log.due)}.", rows)
        counted.append(f"{len(log.due)} in {len(log.lines):,} lines")
    return right(f"Pages that were paged twice: {'; '.join(counted)}.")


def _near(log: Listened, page: tuple[str, str]) -> tuple[str, ...]:
    """The lines of that page, the last ones before its guest writes it."""
    name, ppn = page
    own = [
        line for line in log.lines if line.startswith((f"{name} ", f"host reads {name} ", f"host writes {name} "))
        and f" {ppn} " in line
    ]  # fmt: skip
    return ("every line of this page:", *own[-6:])
