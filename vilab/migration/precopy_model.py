"""Pre-copy without a machine: a rule over a trace of writes, page by page, in milliseconds.

::

    page written:      w              w    w                w
    round n      ├──────────▼─────────────────────┤              ▼ its turn, in pseudo-random order
                       written before its turn: skipped, it is dirty anyway ("peek")

    round n      ├──────────▼─────────────────────┤
                                  w    written after its turn: sent for nothing, dirty, sent again

    A page's turn comes when the pages sent before it are through:   turn = start + sent * page_bytes / rate
    skipped, if its first write of the round is before its turn;     dirty, if it has one before the round's end

What comes out is what a real migration reports: ``RoundSent`` events, downtime, total time. ``last_sent_ns`` says of
every page when it was copied last: never before its last write.

Source: Clark et al. 2005, section 5.2 (peeking, pseudo-random order), 5.4 (stunning a process after 40 write faults).
MODEL: a page is copied in the instant of its turn. A skipped page costs no time. Tracking costs the guest no time. A
stunned process writes nothing more. The wire carries page contents only: no headers, no zero pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from vilab.errors import AdminError
from vilab.migration.dirty_traces import SECOND_NS, WORKLOADS, Times, Trace, Writes, workload
from vilab.migration.migration_events import RoundSent, WriterStunned
from vilab.migration.rate_control import PAGE_BYTES, RateLimits
from vilab.migration.termination import NextRound, PreCopyPolicy, Stop

STUN_FAULTS = 40
"""Clark et al. 2005, figure 7."""

ROUNDS_BEFORE_GIVING_UP = 1000
NEVER = np.iinfo(np.int64).max


class Setting(msgspec.Struct, frozen=True):
    """How the model moves a machine.

    ``peek``: skip what is dirty again. ``pseudo_random``: else in order of page numbers. ``stun_faults``: a process
    (not the kernel) stops for good at its so-manieth fault of a round, 0: never; from round ``stun_from_round`` on.
    ``resume_ns``: what the downtime has beside the copying. ``begin_ns``: where in the trace it begins.
    """

    link_bytes_per_s: int
    peek: bool = True
    pseudo_random: bool = True
    seed: int = 1
    stun_faults: int = 0
    stun_from_round: int = 1
    resume_ns: int = 0
    begin_ns: int = 0
    vm: str = "model"


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """``rounds``: the last one is the copy while the machine stood still. ``why``: the rule's sentence.

    ``stunned_at_ns``: on the trace's clock, as are the events. ``last_sent_ns``: of every page.
    """

    rounds: tuple[RoundSent, ...]
    stunned_writers: tuple[WriterStunned, ...]
    why: str
    sent_pages: int
    sent_bytes: int
    stunned_at_ns: int
    downtime_ns: int
    total_ns: int
    last_sent_ns: Times


def migrate(policy: PreCopyPolicy, trace: Trace, setting: Setting) -> Outcome:
    """Moves the machine of the trace.

    ``AdminError`` if the link has no rate, if the rule answers with something else than ``NextRound`` or ``Stop``, or
    has not stopped after 1000 rounds.
    """
    if setting.link_bytes_per_s <= 0:
        raise AdminError(f"A link of {setting.link_bytes_per_s} bytes/s moves no machine: give it a rate above 0.")
    move = _Move(trace, setting)
    answer = policy.first(trace.pages)
    while isinstance(answer, NextRound) and len(move.rounds) < ROUNDS_BEFORE_GIVING_UP:
        move.round(_rate(policy, answer, setting))
        answer = policy.next(tuple(move.rounds))
    if isinstance(answer, NextRound):
        raise AdminError(f"The rule {policy.name} has not stopped the machine after {ROUNDS_BEFORE_GIVING_UP} rounds.")
    rate = _rate(policy, answer, setting)
    return move.stop(answer.why, rate)


def scaled_limits(limits: RateLimits, trace: Trace) -> RateLimits:
    """The paper's limits for a machine that is as many times smaller: rates, and how little is little."""
    return RateLimits(
        trace.scaled(limits.minimum_bytes_per_s), trace.scaled(limits.maximum_bytes_per_s),
        trace.scaled(limits.increment_bytes_per_s), max(1, limits.small_bytes // trace.divisor),
    )  # fmt: skip


def over_workloads(
    rule_for: Callable[[Trace], PreCopyPolicy], link_bytes_per_s: int, names: Iterable[str] = WORKLOADS, seed: int = 1
) -> dict[str, Outcome]:
    """One rule on each of the workloads, over a link of the paper's size. ``rule_for`` makes it, the trace given.

    ``AdminError`` as from ``migrate``, or for a workload that is not known.
    """
    outcomes = {}
    for name in names:
        trace = workload(name, seed)
        outcomes[name] = migrate(rule_for(trace), trace, Setting(trace.scaled(link_bytes_per_s), seed=seed))
    return outcomes


def _rate(policy: PreCopyPolicy, answer: NextRound | Stop, setting: Setting) -> int:
    if not isinstance(answer, NextRound | Stop):
        raise AdminError(f"The rule {policy.name} has answered {answer!r}: it has to be NextRound(...) or Stop(...).")
    if answer.limit_bytes_per_s < 0:
        raise AdminError(f"The rule {policy.name} asks for {answer.limit_bytes_per_s} bytes/s: 0 is for no limit.")
    return min(answer.limit_bytes_per_s or setting.link_bytes_per_s, setting.link_bytes_per_s)


def first_writes(writes: Writes, pages: int) -> Times:
    """When each page was written first, ``NEVER`` for one that was not."""
    first = np.full(pages, NEVER, np.int64)
    first[writes.ppns[::-1]] = writes.times_ns[::-1]
    return first


def turns(order: NDArray[np.int64], first: Times, offsets_ns: Times, peek: bool) -> tuple[NDArray[np.bool_], int]:
    """Which places of the order are sent, and how many.

    ``first``: of each page, since the round began. ``offsets_ns[n]``: when n pages are through. Only pages with a
    write have to be looked at one by one: all others are sent.
    """
    sent = np.ones(len(order), np.bool_)
    if peek:
        places = np.flatnonzero(first[order] != NEVER)
        when, offsets, skipped = first[order[places]].tolist(), offsets_ns, 0
        for place, at_ns in zip(places.tolist(), when, strict=True):
            if at_ns < offsets[place - skipped]:
                sent[place] = False
                skipped += 1
    return sent, int(sent.sum())


class _Move:
    """One migration on its way."""

    def __init__(self, trace: Trace, setting: Setting) -> None:
        self.trace, self.setting = trace, setting
        self.now_ns = setting.begin_ns
        self.left = np.ones(trace.pages, np.bool_)
        self.last_sent_ns = np.full(trace.pages, -1, np.int64)
        self.rounds: list[RoundSent] = []
        self.stunned: list[WriterStunned] = []
        random = np.random.Generator(np.random.PCG64(setting.seed))
        self.scan = random.permutation(trace.pages) if setting.pseudo_random else np.arange(trace.pages)

    def round(self, rate: int) -> None:
        begin_ns, number = self.now_ns, len(self.rounds) + 1
        order = self.scan[self.left[self.scan]]
        offsets_ns = _through_ns(len(order), rate)
        # Only first writes count, and a trace that has gone round once has written all that it writes.
        horizon_ns = min(int(offsets_ns[-1]), self.trace.duration_ns)
        writes = self._heard(self.trace.between(begin_ns, begin_ns + horizon_ns))
        while True:
            first = first_writes(writes, self.trace.pages)
            since = np.where(first == NEVER, NEVER, first - begin_ns)
            sent, count = turns(order, since, offsets_ns, self.setting.peek)
            end_ns = begin_ns + int(offsets_ns[count])
            place = self._next_to_stun(writes, number, end_ns)
            if place is None:
                break
            writes = self._stun(writes, place, number)
        self.last_sent_ns[order[sent]] = begin_ns + offsets_ns[:count]
        self.left = first < end_ns
        self.now_ns = end_ns
        self._report(count, len(order) - count, end_ns - begin_ns, int(self.left.sum()))

    def stop(self, why: str, rate: int) -> Outcome:
        stunned_at_ns = self.now_ns
        order = self.scan[self.left[self.scan]]
        offsets_ns = _through_ns(len(order), rate)
        self.last_sent_ns[order] = stunned_at_ns + offsets_ns[:-1]
        self.now_ns += int(offsets_ns[-1])
        self._report(len(order), 0, self.now_ns - stunned_at_ns, 0, stopped=True)
        self.now_ns += self.setting.resume_ns
        return Outcome(
            tuple(self.rounds), tuple(self.stunned), why, sum(r.sent_pages for r in self.rounds),
            sum(r.sent_bytes for r in self.rounds), stunned_at_ns, self.now_ns - stunned_at_ns,
            self.now_ns - self.setting.begin_ns, self.last_sent_ns,
        )  # fmt: skip

    def _heard(self, writes: Writes) -> Writes:
        """Without what processes stunned in earlier rounds would have written."""
        for event in self.stunned:
            writes = writes.only(writes.writers != event.address_space)
        return writes

    def _next_to_stun(self, writes: Writes, number: int, end_ns: int) -> int | None:
        """The place of the first write that is one fault too many. A fault: the round's first write to a page."""
        most = self.setting.stun_faults
        if not most or number < self.setting.stun_from_round:
            return None
        faults = np.sort(np.unique(writes.ppns, return_index=True)[1])
        who = writes.writers[faults]
        done = {0, *(event.address_space for event in self.stunned)}
        its_faults = (faults[who == writer] for writer in np.unique(who).tolist() if writer not in done)
        places = [int(each[most - 1]) for each in its_faults if len(each) >= most]
        return min((place for place in places if writes.times_ns[place] < end_ns), default=None)

    def _stun(self, writes: Writes, place: int, number: int) -> Writes:
        """The process that does the write at this place does no other after it."""
        at_ns, writer = int(writes.times_ns[place]), int(writes.writers[place])
        self.stunned.append(WriterStunned(at_ns, self.setting.vm, number, writer, self.setting.stun_faults))
        return writes.only((writes.writers != writer) | (np.arange(len(writes)) <= place))

    def _report(self, sent: int, skipped: int, duration_ns: int, dirtied: int, stopped: bool = False) -> None:
        self.rounds.append(
            RoundSent(
                self.now_ns, self.setting.vm, number=len(self.rounds) + 1, sent_pages=sent, zero_pages=0,
                skipped_pages=skipped, sent_bytes=sent * PAGE_BYTES, duration_ns=duration_ns, dirtied_pages=dirtied,
                traces=dirtied, stopped=stopped,
            )
        )  # fmt: skip


def _through_ns(pages: int, rate: int) -> Times:
    """When 0, 1, ... pages are through, from the beginning. Rounded down."""
    return np.arange(pages + 1, dtype=np.int64) * (PAGE_BYTES * SECOND_NS) // rate
