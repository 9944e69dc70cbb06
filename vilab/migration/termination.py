"""When to stop a machine that moves: after each round of pre-copy a rule says how the next one goes, or that it ends.

::

                    ┌────────────── NextRound(limit) ◄───┐
                    ▼                                    │
    first(pages) ─► send the round, pages get dirty ─► next(rounds)
         │                                               │
         └──────────────► Stop(why) ◄────────────────────┘      stun the machine, send what is left, resume it there

    name           stops when                                                   Source
    nelson         little is left, or a round has made too little progress      Nelson et al. 2005, the default
    clark          little is left, or the rate needed is above the maximum      Clark et al. 2005, section 5.3
    stop-and-copy  at once: no pre-copy, the longest downtime                   Clark et al. 2005, section 3
    rounds         after so many rounds                                         Clark et al. 2005, section 4
    downtime       what is left takes no longer than the goal                   MODEL: what came after them

``rounds[-1].dirtied_pages`` is what is left. A rule holds no state: the same rounds get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from vilab.errors import AdminError
from vilab.migration.migration_events import RoundSent
from vilab.migration.rate_control import MBIT, PAGE_BYTES, RateLimits, after_round

SMALL_PAGES = 256
"""MODEL: the paper's figure is not known. 1 MB takes 8 ms on Gigabit Ethernet, no more than resuming a machine does
(9 and 40 ms in Clark's runs)."""

LEAST_PROGRESS = 0.25
"""MODEL: the paper's figure is not known. A round that leaves more than three quarters of what it began with is too
little: Clark's SPECweb99 leaves 19, 31, 73, then 85 % and wins nothing after that; four rounds in a row of 75 % still
cut the downtime to a third."""

MOST_ROUNDS = 30
"""MODEL: for rules that a guest could keep going for ever. The longest run in Clark's paper has 11 rounds."""

MOST_COPIES = 3.0
"""MODEL: for the same rules: so many times its memory may a machine send. Clark's runs send 1.2 to 1.4 times."""


class Stop(msgspec.Struct, frozen=True):
    """Stun the machine and send what is left, at most at ``limit_bytes_per_s`` (0: as fast as the link is)."""

    why: str
    limit_bytes_per_s: int = 0


class NextRound(msgspec.Struct, frozen=True):
    """Another round while the machine runs, at most at ``limit_bytes_per_s`` (0: as fast as the link is)."""

    limit_bytes_per_s: int = 0
    why: str = ""


class PreCopyPolicy(Protocol):
    """A rule. ``pages``: of the machine. ``rounds``: all that were sent, at least one."""

    @property
    def name(self) -> str: ...

    def first(self, pages: int) -> NextRound | Stop: ...

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop: ...


def work_pages(sent: RoundSent) -> int:
    """What the round had to send: what it skipped was its work, too."""
    return sent.sent_pages + sent.skipped_pages


class NelsonPolicy(msgspec.Struct, frozen=True):
    """Stops when what is left is small, or when a round has made too little progress.

    Each round that goes on takes a quarter off, so the rule ends for every guest.
    """

    small_pages: int = SMALL_PAGES
    least_progress: float = LEAST_PROGRESS
    name: str = "nelson"

    def first(self, pages: int) -> NextRound | Stop:
        return NextRound(why="every page")

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        last = rounds[-1]
        left, work = last.dirtied_pages, work_pages(last)
        if left <= self.small_pages:
            return Stop(f"{left} pages are left, no more than {self.small_pages}")
        if left > work * (1 - self.least_progress):
            return Stop(f"too little progress: round {last.number} had {work} pages to send and leaves {left}")
        return NextRound(why=f"{left} pages are left of {work}")


class ClarkPolicy(msgspec.Struct, frozen=True):
    """Dynamic rate limiting; see ``rate_control``.

    MODEL: it ends after ``most_rounds`` too: a link that is slower than the maximum could keep it going for ever.
    """

    limits: RateLimits = RateLimits()
    most_rounds: int = MOST_ROUNDS
    name: str = "clark"

    def first(self, pages: int) -> NextRound | Stop:
        return NextRound(self.limits.minimum_bytes_per_s, "the first round is sent at the minimum")

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        decision = after_round(self.limits, rounds[-1])
        if decision.stop:
            return Stop(decision.stop, decision.limit_bytes_per_s)
        if len(rounds) >= self.most_rounds:
            return Stop(f"{len(rounds)} rounds have not been enough", self.limits.maximum_bytes_per_s)
        rate = decision.limit_bytes_per_s / MBIT
        return NextRound(decision.limit_bytes_per_s, f"pages get dirty at a rate that asks for {rate:.0f} Mbit/s")


class StopAndCopy(msgspec.Struct, frozen=True):
    """No pre-copy at all."""

    name: str = "stop-and-copy"

    def first(self, pages: int) -> NextRound | Stop:
        return Stop(f"all {pages} pages are sent while the machine stands still")

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        return Stop("no more rounds")


class FixedRounds(msgspec.Struct, frozen=True):
    """So many rounds, or fewer if nothing is left. ``AdminError`` for a negative number."""

    count: int
    name: str = "rounds"

    def __post_init__(self) -> None:
        if self.count < 0:
            raise AdminError(f"There cannot be {self.count} rounds of pre-copy: give 0 or more.")

    def first(self, pages: int) -> NextRound | Stop:
        return NextRound(why=f"round 1 of {self.count}") if self.count else Stop("no rounds were asked for")

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        done = len(rounds)
        if not rounds[-1].dirtied_pages:
            return Stop(f"nothing is left after round {done}")
        if done >= self.count:
            return Stop(f"{done} of {self.count} rounds are sent")
        return NextRound(why=f"round {done + 1} of {self.count}")


class DowntimeGoal(msgspec.Struct, frozen=True):
    """Stops when what is left goes within the goal at the rate that was measured in the last round that sent anything.

    A guest may write too fast for any goal: ``most_rounds`` and ``most_copies`` of its memory bound what it costs.
    ``AdminError`` for a goal below 0.
    """

    goal_ns: int
    most_rounds: int = MOST_ROUNDS
    most_copies: float = MOST_COPIES
    name: str = "downtime"

    def __post_init__(self) -> None:
        if self.goal_ns < 0:
            raise AdminError(f"A downtime of {self.goal_ns} ns cannot be a goal: give 0 or more.")

    def first(self, pages: int) -> NextRound | Stop:
        return NextRound(why="nothing is measured yet")

    def next(self, rounds: Sequence[RoundSent]) -> NextRound | Stop:
        left, expected_ns = rounds[-1].dirtied_pages, self.expected_ns(rounds)
        goal = f"the goal of {self.goal_ns / 1e6:g} ms"
        if expected_ns is not None and expected_ns <= self.goal_ns:
            return Stop(f"{left} pages are left, {expected_ns / 1e6:.1f} ms of sending, within {goal}")
        sent = sum(r.sent_pages for r in rounds)
        if len(rounds) >= self.most_rounds:
            return Stop(f"{goal} is out of reach: {len(rounds)} rounds are sent and {left} pages are left")
        if sent >= self.most_copies * work_pages(rounds[0]):
            return Stop(f"{goal} is out of reach: {sent} pages are sent and {left} are left")
        return NextRound(why=f"{left} pages are left, too many for {goal}")

    @staticmethod
    def expected_ns(rounds: Sequence[RoundSent]) -> int | None:
        """How long what is left takes. ``None``: nothing was measured."""
        left_bytes = rounds[-1].dirtied_pages * PAGE_BYTES
        for sent in reversed(rounds):
            if sent.sent_bytes and sent.duration_ns:
                return -(-left_bytes * sent.duration_ns // sent.sent_bytes)
        return None if left_bytes else 0


MOST_DIGITS = 12


def _whole(text: str, unit: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        raise AdminError(f"{text[:40]!r} is not a number of {unit}: write whole numbers, as in the list of rules.")
    return int(text)


def _nelson(text: str) -> PreCopyPolicy:
    return NelsonPolicy() if not text else NelsonPolicy(small_pages=_whole(text, "pages"))


def _clark(text: str) -> PreCopyPolicy:
    if not text:
        return ClarkPolicy()
    low, _, high = text.partition("-")
    return ClarkPolicy(RateLimits(_whole(low, "Mbit/s") * MBIT, _whole(high, "Mbit/s") * MBIT))


def _stop_and_copy(text: str) -> PreCopyPolicy:
    if text:
        raise AdminError(f"The rule stop-and-copy takes no number, but {text!r} was given: leave it out.")
    return StopAndCopy()


def _rounds(text: str) -> PreCopyPolicy:
    return FixedRounds(_whole(text, "rounds"))


def _downtime(text: str) -> PreCopyPolicy:
    return DowntimeGoal(_whole(text, "milliseconds") * 1_000_000)


POLICIES: dict[str, tuple[str, Callable[[str], PreCopyPolicy]]] = {
    "nelson": ("nelson[:PAGES]", _nelson),
    "clark": ("clark[:MIN-MAX in Mbit/s]", _clark),
    "stop-and-copy": ("stop-and-copy", _stop_and_copy),
    "rounds": ("rounds:NUMBER", _rounds),
    "downtime": ("downtime:MILLISECONDS", _downtime),
}
"""Name, how it is written, and what makes it of the text after the colon."""

DEFAULT_POLICY = "nelson"


def policy_named(text: str = DEFAULT_POLICY) -> PreCopyPolicy:
    """The rule that is written so: ``clark:100-500``, ``downtime:300``. ``AdminError`` for one that is not known."""
    name, _, argument = text.partition(":")
    if name not in POLICIES:
        known = ", ".join(usage for usage, _ in POLICIES.values())
        raise AdminError(f"There is no rule {name!r} that says when to stop a machine that moves; there are: {known}.")
    return POLICIES[name][1](argument)
