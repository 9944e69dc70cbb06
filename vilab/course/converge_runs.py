"""The runs of lesson 19: guests that write faster than pages can be sent, and what is done about it.

::

    rogue     udpecho + writer-muncher 1500    all its 1,500 pages over and over, and somebody beside it who serves
    steady    udpecho + writer 1500 ...        2,000 stores a second into 200 hot pages, 1,000 into all others in turn
    zeros     udpecho + zeros 1500             has 1,500 pages and never writes into them

    moved("rogue", "plain")      once for each pair; WAYS says what is done
    downtimes()                  the rogue over four links

A link of 40 Mbit/s is a twenty-fifth of Gigabit Ethernet, and a guest of 16 MB a twenty-fifth of one of 400 MB: times
are those of the large ones. All of it is virtual time.
"""

from __future__ import annotations

from functools import cache

import msgspec

from vilab.course.converge_paper import by_clark
from vilab.course.feedback import columns
from vilab.course.vmotion_client import Heard
from vilab.course.vmotion_lab import VMotionLab
from vilab.events import Event
from vilab.migration.agent_link import LinkSettings
from vilab.migration.migration_events import MachineStunned, PostCopyEnded, RoundSent, WriterStunned
from vilab.migration.options import MigrationOptions
from vilab.migration.rate_control import MBIT, RateLimits
from vilab.migration.termination import ClarkPolicy, FixedRounds

MS = 1_000_000
LINK_MBIT, DELAY_NS = 40, 100_000
ROGUE_PAGES, SWEEPS = 1500, 20
GUESTS = {
    "rogue": f"writer-muncher {ROGUE_PAGES} {SWEEPS}",
    "steady": f"writer {ROGUE_PAGES} 200 20 10",
    "zeros": f"zeros {ROGUE_PAGES} 0 10",
}
HAS_BEGUN = {"zeros": "round 1 ok"}
ROUNDS = 5


class Way(msgspec.Struct, frozen=True):
    """What is done about a guest that writes much. ``name``, ``note``: in a picture."""

    name: str
    note: str
    options: MigrationOptions


WAYS = {
    "plain": Way("Nelson's rule", "and nothing else", MigrationOptions()),
    "rates": Way(
        "Clark's rates", "8 to 40 Mbit/s", MigrationOptions(policy=ClarkPolicy(RateLimits(8 * MBIT, 40 * MBIT)))
    ),
    "stun": Way("stunning", "after 40 write faults", MigrationOptions(policy=FixedRounds(ROUNDS), stun_after=40)),
    "delta": Way("deltas", "of pages sent before", MigrationOptions(kind="delta")),
    "every": Way("deltas, no peeking", "every page is sent", MigrationOptions(kind="delta", peek=False)),
    "post": Way("post-copy", "after Nelson's rule", MigrationOptions(post_copy=True)),
    "raw": Way("raw", "zeros are sent, too", MigrationOptions(kind="raw")),
}
FIVE = ("plain", "rates", "stun", "delta", "post")


class Moved(msgspec.Struct, frozen=True):
    """``rounds``: the last one is the copy while the machine stood still. ``why`` it was stopped then.

    ``heard``: by the client, from before it began until after it was over. ``done``: share of the stores that the guest
    would have made in this time if it had not been moved.
    """

    rounds: tuple[RoundSent, ...]
    stunned: tuple[WriterStunned, ...]
    why: str
    left_pages: int
    sent_bytes: int
    total_ns: int
    downtime_ns: int
    heard: Heard
    done: float | None
    events: tuple[Event, ...]
    asked: int = 0
    pushed: int = 0


def writes_of(said: str) -> int:
    """How many stores the guest has reported last."""
    lines = [line for line in said.splitlines() if line.endswith("writes, ok")]
    return int(lines[-1].split()[-3]) if lines else 0


def run(
    guest: str, options: MigrationOptions, link_mbit: int = LINK_MBIT, before_ms: float = 300, after_ms: float = 200
) -> Moved:
    """A lab of its own, one move. ``before_ms``: between the guest's start and the move."""
    lab = VMotionLab()
    try:
        lab.power_on()
        lab.type_line(f"together udpecho + {GUESTS.get(guest, guest)}", wait_for=HAS_BEGUN.get(guest, "pages filled"))
        lab.run_for(before_ms)
        lab.ask()
        began_ns, began = lab.clock.now_ns, writes_of(lab.vm().console.said)
        lab.run_for(before_ms)
        stores_a_ns = (writes_of(lab.vm().console.said) - began) / (lab.clock.now_ns - began_ns)
        at_ns, at = lab.clock.now_ns, writes_of(lab.vm().console.said)
        source = lab.move(link=LinkSettings(link_mbit * MBIT, DELAY_NS), options=options).source
        done = writes_of(lab.vm().console.said) - at
        took_ns = lab.clock.now_ns - at_ns
        lab.run_for(after_ms)
        (stop,) = lab.events(MachineStunned)
        assert isinstance(stop, MachineStunned)
        stunned = tuple(event for event in lab.events() if isinstance(event, WriterStunned))
        after = [event for event in lab.events() if isinstance(event, PostCopyEnded)]
        return Moved(
            tuple(source.rounds), stunned, stop.why, stop.pages, source.sent_bytes, took_ns, source.downtime_ns,
            lab.heard(), done / (stores_a_ns * took_ns) if stores_a_ns else None, tuple(lab.events()),
            sum(event.asked_pages for event in after), sum(event.pushed_pages for event in after),
        )  # fmt: skip
    finally:
        lab.close()


@cache
def moved(guest: str = "rogue", way: str = "plain", link_mbit: int = LINK_MBIT) -> Moved:
    """Run once."""
    return run(guest, WAYS[way].options, link_mbit)


def predicted_ns(pages: int, link_mbit: int) -> int:
    """What is left, at the speed of the link: nothing else."""
    return pages * 4096 * 1_000_000_000 // (link_mbit * MBIT)


LINKS_MBIT = (20, 40, 80, 160)


def downtimes(guest: str = "rogue") -> str:
    """A line for each link: what was left, what that should take, how long the machine stood still."""
    rows = [("link, Mbit/s", "pages left", "predicted, ms", "stood still, ms")]
    for link in LINKS_MBIT:
        found = moved(guest, "plain", link)
        due = predicted_ns(found.left_pages, link) / MS
        rows.append((str(link), str(found.left_pages), f"{due:.0f}", f"{found.downtime_ns / MS:.0f}"))
    return "\n".join(columns(rows))


def rounds_text(found: Moved) -> str:
    """A line for each round."""
    rows = [("round", "pages sent", "skipped", "bytes", "ms", "written meanwhile")]
    for each in found.rounds:
        last = "VM stopped" if each.stopped else str(each.dirtied_pages)
        rows.append((
            str(each.number), str(each.sent_pages), str(each.skipped_pages), f"{each.sent_bytes:,}",
            f"{each.duration_ns / MS:.0f}", last,
        ))  # fmt: skip
    return "\n".join([*columns(rows), f"stopped because {found.why}"])


def constant_writers() -> str:
    """The paper's, the trace's and ours: the last copy at the speed that it was sent at."""
    outcome, events = by_clark("constant-writer")
    trace_mb = next(event.pages for event in events if isinstance(event, MachineStunned)) * 4096 / 1e6
    found = moved()
    ours_mb = found.left_pages * 4096 / 1e6
    rows = [("constant writer", "machine", "last copy", "sent at", "predicted", "stood still")]
    for name, memory, left_mb, mbit, ns in (
        ("Clark et al., figure 12", "512 MB", 222.5, 500, 3_500 * MS),
        ("a trace, Clark's rule", "512 MB", trace_mb, 500, outcome.downtime_ns),
        ("the rogue, Nelson's rule", "16 MB", ours_mb, LINK_MBIT, found.downtime_ns),
    ):
        due_s = left_mb * 8 / mbit
        rows.append((name, memory, f"{left_mb:.1f} MB", f"{mbit} Mbit/s", f"{due_s:.2f} s", f"{ns / 1e9:.2f} s"))
    return "\n".join(columns(rows))


def ways_text(guest: str = "rogue", ways: tuple[str, ...] = FIVE) -> str:
    """What each way comes to, and for whom."""
    rows = [("", "stood still", "MB sent", "in all", "guest's own work", "client: lost", "slowest answer")]
    for way in ways:
        found = moved(guest, way)
        rows.append((
            WAYS[way].name, f"{found.downtime_ns / MS:.0f} ms", f"{found.sent_bytes / 1e6:.1f}",
            f"{found.total_ns / MS:.0f} ms", "-" if found.done is None else f"{100 * found.done:.0f} %",
            f"{found.heard.lost} of {found.heard.sent}", f"{found.heard.slowest_ns / MS:.0f} ms",
        ))  # fmt: skip
    return "\n".join(columns(rows))
