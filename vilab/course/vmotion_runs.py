"""The runs of lesson 18: a guest that answers and writes is moved, over a link and by a rule of your choice.

::

    moved("steady", 100, "nelson")    a guest by its name, Mbit/s, the rule as it is written in ``termination``
    Demonstration("steady", 100, "nelson")     the same step by step: there, and back again, with a picture that follows
    measured_text(...), downtime_text(...)     lines to print

    guest     writes                                                      answers datagrams
    quiet     next to nothing                                             yes, all of them
    steady    600 hot pages at 12 a tick, 8 others a tick, in turn        yes
    busy      400 hot pages at 40 a tick, 10 others a tick                yes
    rogue     1,000 pages, one after the other, as fast as it can         yes

Each has 32 MB, about 5,100 pages of which have content; a tick is 10 ms. The links are those of a small machine: 32 MB
over 100 Mbit/s is what 320 MB are over Gigabit Ethernet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from vilab.course.feedback import columns
from vilab.course.vmotion_client import Heard
from vilab.course.vmotion_lab import MB, MS, VMotionLab
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.migration.agent_link import LinkSettings
from vilab.migration.migration_events import DirtySampled, MachineStunned, MigrationEnded, RoundSent
from vilab.migration.options import MigrationOptions
from vilab.migration.rate_control import MBIT
from vilab.migration.termination import PreCopyPolicy, policy_named
from vilab.view.vmotion_player import VMotionPlayer
from vilab.view.vmotion_run import MigrationEvent

GUESTS = {
    "quiet": "",
    "steady": "writer 5000 600 12 8",
    "busy": "writer 5000 400 40 10",
    "rogue": "writer-muncher 1000 400",
}
GUEST_MB, DELAY_NS = 32, 100_000
BEFORE_MS, AFTER_MS, SAMPLE_NS = 200, 200, 20_000_000


def link_of(mbit: float, delay_ns: int = DELAY_NS) -> LinkSettings:
    """``AdminError`` for a link that carries nothing."""
    if mbit <= 0:
        raise AdminError(f"A link of {mbit:g} Mbit/s moves no machine: give it more than 0.")
    return LinkSettings(round(mbit * MBIT), delay_ns)


def rule_of(rule: str | PreCopyPolicy) -> PreCopyPolicy:
    return policy_named(rule) if isinstance(rule, str) else rule


class Fewer:
    """A log for pictures: only what migrations report, and of samples no more than one in 20 ms."""

    def __init__(self) -> None:
        self.log = EventLog(keep=True)
        self._sampled_ns = -SAMPLE_NS

    def hear(self, event: Event) -> None:
        if isinstance(event, DirtySampled):
            if event.at_ns - self._sampled_ns < SAMPLE_NS:
                return
            self._sampled_ns = event.at_ns
        if isinstance(event, MigrationEvent):
            self.log.emit(event)


class Moved(msgspec.Struct, frozen=True, eq=False):
    """One migration that is over. ``events``: what it has reported. ``heard``: by the client meanwhile."""

    guest: str
    mbit: float
    rule: str
    events: tuple[Event, ...]
    heard: Heard

    @property
    def rounds(self) -> list[RoundSent]:
        """The last of them is the copy while the machine stood still."""
        return [event for event in self.events if isinstance(event, RoundSent)]

    @property
    def ended(self) -> MigrationEnded:
        return next(event for event in self.events if isinstance(event, MigrationEnded))

    @property
    def downtime_ns(self) -> int:
        return self.ended.downtime_ns

    @property
    def why(self) -> str:
        """The rule's sentence."""
        return next(event.why for event in self.events if isinstance(event, MachineStunned))


class Demonstration:
    """A machine that is on, writes and answers, and a picture of its journeys.

    Parameters
    ----------
    guest : of ``GUESTS``, or the words of a program for ``VMotionLab.serve``. mbit : of the link.
    rule : as ``termination.policy_named`` reads it, or a rule itself. options : other ones of ``MigrationOptions``.
    """

    def __init__(
        self, guest: str = "steady", mbit: float = 100, rule: str | PreCopyPolicy = "nelson", *, stun_after: int = 0,
        peek: bool = True, question: str = "When should pre-copy give up and stop the VM?",
    ) -> None:  # fmt: skip
        self.guest = guest
        self.change(mbit, rule, stun_after=stun_after, peek=peek)
        self.lab = VMotionLab()
        self.seen = Fewer()
        self.lab.log.listen(self.seen.hear)
        self.lab.power_on("web", memory_mb=GUEST_MB)
        self.lab.serve(GUESTS.get(guest, guest))
        self.lab.run_for(BEFORE_MS)
        self.view = VMotionPlayer((), question, position=-1)
        self.view.follow(self.seen.log)

    def change(self, mbit: float, rule: str | PreCopyPolicy, *, stun_after: int = 0, peek: bool = True) -> None:
        """Another link, another rule, from the next migration on. The guest goes on with what it does."""
        self.mbit, self.link = mbit, link_of(mbit)
        self.rule = rule if isinstance(rule, str) else rule.name
        self.options = MigrationOptions(policy=rule_of(rule), stun_after=stun_after, peek=peek)

    def move(self) -> Moved:
        """To the other host and no further; the client asks all the time, and a little before and after."""
        began = len(self.seen.log.events)
        self.lab.ask()
        self.lab.run_for(BEFORE_MS)
        self.lab.move(link=self.link, options=self.options)
        self.lab.run_for(AFTER_MS)
        heard = self.lab.heard()
        events = tuple(self.seen.log.events[began:])
        return Moved(self.guest, self.mbit, self.rule, events, heard)

    def back_and_forth(self, times: int) -> str:
        """So many migrations, one after the other, as lines."""
        runs = [self.move() for _ in range(times)]
        return f"{measured_text(runs)}\n{self.where()}"

    def where(self) -> str:
        """Where the machine is, and what its writer, which checks its pages all the time, has reported of them."""
        said = self.lab.vm().console.said
        reports, wrong = said.count(": report "), said.count("wrong")
        words = f" In {reports} reports of its writer {wrong or 'no'} pages were wrong." if reports else ""
        return f"web is on {self.lab.host_of().name}.{words}"

    def close(self) -> None:
        self.lab.close()


@cache
def moved(guest: str = "steady", mbit: float = 100, rule: str = "nelson", stun_after: int = 0) -> Moved:
    """Done once, with a new lab."""
    demonstration = Demonstration(guest, mbit, rule, stun_after=stun_after)
    try:
        return demonstration.move()
    finally:
        demonstration.close()


def summary(run: Moved, guess_ms: float | None = None) -> str:
    """What a migration came to, beside what was guessed."""
    rounds = run.rounds
    last = rounds[-1]
    lines = [
        f"{run.guest} over {run.mbit:g} Mbit/s by the rule {run.rule}: {len(rounds) - 1} rounds while it ran, "
        f"{run.ended.sent_bytes / MB:.1f} MB in {run.ended.duration_ns / 1e9:.2f} s.",
        f"Stopped because {run.why}.",
        f"It stood still for {_ms(run.downtime_ns)}, {_ms(last.duration_ns)} of them for the last {last.sent_pages} "
        "pages.",
    ]
    if guess_ms is not None:
        lines.append(f"You have guessed {guess_ms:g} ms.")
    lines.append(f"The client has sent {run.heard.describe()}.")
    return "\n".join(lines)


def measured_text(runs: Sequence[Moved]) -> str:
    """A line each."""
    rows = [("guest", "Mbit/s", "rule", "rounds", "sent", "took", "stood still", "datagrams", "lost", "slowest")]
    for run in runs:
        rows.append((
            run.guest, f"{run.mbit:g}", run.rule, str(len(run.rounds) - 1), f"{run.ended.sent_bytes / MB:.1f} MB",
            f"{run.ended.duration_ns / 1e9:.2f} s", _ms(run.downtime_ns), str(run.heard.sent),
            str(run.heard.lost), _ms(run.heard.slowest_ns),
        ))  # fmt: skip
    return "\n".join(columns(rows))


def rates_text(run: Moved) -> str:
    """Round by round: what had to go, what was written meanwhile, and the two rates."""
    rows: list[tuple[str, ...]] = [
        ("round", "to send", "sent", "took", "pages go at", "written meanwhile", "pages get dirty at", "ratio")
    ]
    for each in run.rounds:
        if each.stopped:
            rows.append(("last", str(each.sent_pages), str(each.sent_pages), _ms(each.duration_ns)))
            continue
        ratio = each.dirtied_pages / max(each.sent_pages + each.skipped_pages, 1)
        rows.append((
            str(each.number), str(each.sent_pages + each.skipped_pages), str(each.sent_pages),
            _ms(each.duration_ns), _rate(each.sent_bytes_per_s), str(each.dirtied_pages),
            _rate(each.dirtied_bytes_per_s), f"{ratio:.2f}",
        ))  # fmt: skip
    return "\n".join(columns(rows))


def _rate(bytes_per_s: float) -> str:
    return f"{bytes_per_s / MBIT:.0f} Mbit/s"


def _ms(ns: int) -> str:
    """Tenths only where they say something."""
    return f"{ns / MS:.1f} ms" if ns < 10 * MS else f"{ns / MS:,.0f} ms"
