"""A migration as steps: what its events have said so far, one round of pre-copy a step.

::

    position   0        1          2        ...   8          9            10
               begun    round 1    round 2        round 8    last copy    it runs on esx2
    kind                round      round          round      stopped      moved

    other kinds   writers   processes of the guest are stopped because they write too fast
                  open      a round is under way: only at the end of a log that goes on
                  failed    it was given up: the reason is a sentence of the events

Every step keeps the ``Migration`` as it was known then, so that a picture cannot show anything of what comes later.
Events may arrive while the migration runs: ``add`` takes one, ``of`` those of a whole log.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import msgspec

from vilab.events import Event
from vilab.migration.migration_events import (
    DirtySampled,
    HandedOver,
    MachineResumed,
    MachineStunned,
    MigrationBegan,
    MigrationEnded,
    RoundBegan,
    RoundSent,
    StateSent,
    WriterStunned,
)

PAGE_BYTES = 4096
MigrationEvent = (
    MigrationBegan | RoundBegan | DirtySampled | RoundSent | WriterStunned | MachineStunned | StateSent | HandedOver
    | MachineResumed | MigrationEnded
)  # fmt: skip
ROUND, OPEN, STOPPED, WRITERS, MOVED, FAILED = "round", "open", "stopped", "writers", "moved", "failed"

PLATEAU_ROUNDS, PLATEAU_SPREAD, PLATEAU_FALL = 3, 1.75, 0.9
"""MODEL: rounds show the writable working set where three in a row or more are alike, none more than 1.75 times as
large as another, and the last of them is not clearly the smallest: then they have stopped to shrink. Clark et al. 2005,
section 4, measure it instead; their SPECweb99 shows it from round 5 on (figure 9)."""


class Round(msgspec.Struct, frozen=True):
    """``sent`` is missing while the round is under way, and for ever if it was cut off; times count from the begin."""

    number: int
    pages: int
    limit_bytes_per_s: int
    began_ns: int
    sent: RoundSent | None = None
    dirty_pages: int = 0
    sent_pages: int = 0
    stopped: bool = False

    @property
    def bytes(self) -> int:
        """On the wire. MODEL: of a round that is under way, its pages without headers and as they are."""
        return self.sent.sent_bytes if self.sent else self.sent_pages * PAGE_BYTES

    @property
    def ended_ns(self) -> int:
        return self.began_ns + (self.sent.duration_ns if self.sent else 0)

    @property
    def overtaken(self) -> bool:
        """The guest has written as fast as pages were sent, or faster."""
        sent = self.sent
        return sent is not None and not self.stopped and 0 < sent.sent_bytes_per_s <= sent.dirtied_bytes_per_s


class Migration(msgspec.Struct, frozen=True):
    """What is known of one migration. Times in nanoseconds from its begin; what is missing has not happened."""

    began: MigrationBegan
    rounds: tuple[Round, ...] = ()
    writers: tuple[WriterStunned, ...] = ()
    stun: MachineStunned | None = None
    state_bytes: int | None = None
    handed_over: bool = False
    resumed: MachineResumed | None = None
    ended: MigrationEnded | None = None
    now_ns: int = 0

    @property
    def memory_bytes(self) -> int:
        return self.began.pages * PAGE_BYTES

    @property
    def sent_bytes(self) -> int:
        return sum(each.bytes for each in self.rounds)

    @property
    def left_pages(self) -> int:
        """What another round, or the last copy, would have to send."""
        if not self.rounds:
            return self.began.pages
        last = self.rounds[-1]
        if last.sent is None:
            return last.pages - last.sent_pages + last.dirty_pages
        return last.sent.dirtied_pages

    @property
    def finished(self) -> bool:
        """Nothing more is to be expected but what the other host has to say."""
        return self.ended is not None

    @property
    def moved(self) -> bool:
        if self.ended is not None:
            return self.ended.ok
        return self.resumed is not None and self.resumed.moved

    @property
    def runs_on(self) -> str:
        """The host; empty if it runs nowhere, or if nobody has said so yet."""
        if self.resumed is not None:
            return self.resumed.host
        if self.ended is not None and self.ended.ok:
            return self.began.destination
        return "" if self.stun is not None or self.handed_over else self.began.source

    @property
    def downtime_ns(self) -> int | None:
        """``None`` if it was not stunned, or does not run again yet. The hosts' clocks may differ: it is a duration."""
        if self.resumed is not None:
            return self.resumed.downtime_ns
        if self.ended is not None and (self.stun is not None or self.ended.downtime_ns):
            return self.ended.downtime_ns
        return None

    @property
    def stunned_ns(self) -> int | None:
        """When it was stunned."""
        if self.stun is not None:
            return self.stun.at_ns - self.began.at_ns
        return next((each.began_ns for each in self.rounds if each.stopped), None)

    @property
    def duration_ns(self) -> int:
        """Of everything so far."""
        if self.ended is not None:
            return max(self.ended.duration_ns, *(each.ended_ns for each in self.rounds), 0)
        return max(self.now_ns, *(each.ended_ns for each in self.rounds), 0)

    @property
    def plateau(self) -> tuple[int, int] | None:
        """The writable working set as the rounds show it: where it begins among them, and its bytes, the median."""
        sizes = [each.bytes for each in self.rounds if each.sent is not None]
        first = len(sizes)
        while first > 1 and min(sizes[first - 1 :]) * PLATEAU_SPREAD >= max(sizes[first - 1 :]):
            first -= 1
        if len(sizes) - first < PLATEAU_ROUNDS or not min(sizes[first:]):
            return None
        if sizes[-1] < PLATEAU_FALL * min(sizes[first:-1]):
            return None
        return first, round(statistics.median(sizes[first:]))


class Step(msgspec.Struct, frozen=True):
    """One position of the slider: its kind, and what was known then."""

    kind: str
    seen: Migration


class MigrationRun:
    """One migration, event by event."""

    def __init__(self, began: MigrationBegan) -> None:
        self.begin = Migration(began)
        self.seen = self.begin
        self._steps: list[Step] = []

    @classmethod
    def of(cls, events: Iterable[Event], vm: str = "", which: int = -1) -> MigrationRun | None:
        """That of a log: the last one, or another in the order in which they began. ``None`` if there is none."""
        runs = migrations(events, vm)
        return runs[which] if -len(runs) <= which < len(runs) else None

    @property
    def steps(self) -> Sequence[Step]:
        """From position 1 on."""
        if self.seen.ended is None and self.seen.rounds and self.seen.rounds[-1].sent is None and not self._over:
            return [*self._steps, Step(OPEN, self.seen)]
        return self._steps

    @property
    def _over(self) -> bool:
        return bool(self._steps) and self._steps[-1].kind in (MOVED, FAILED)

    def at(self, position: int) -> Migration:
        """What was known at a position."""
        return self.steps[position - 1].seen if position else self.begin

    def add(self, event: Event) -> bool:
        """What comes next in the log; says whether it belongs to this migration."""
        if (
            not isinstance(event, MigrationEvent)
            or event.vm != self.begin.began.vm
            or isinstance(event, MigrationBegan)
        ):
            return False
        seen = self.seen
        now = event.at_ns - seen.began.at_ns
        elsewhere = isinstance(event, MachineResumed) and event.host != seen.began.source
        self.seen = msgspec.structs.replace(
            _after(seen, event, now), now_ns=seen.now_ns if elsewhere else max(seen.now_ns, now)
        )
        self._step(event)
        return True

    def _step(self, event: Event) -> None:
        if isinstance(event, RoundSent):
            over = (
                [self._steps.pop()] if self._over else []
            )  # post-copy: it runs already, and how it ends stays the last
            self._steps.append(Step(STOPPED if self.seen.rounds[-1].stopped else ROUND, self.seen))
            self._steps.extend(Step(each.kind, self.seen) for each in over)
        elif isinstance(event, WriterStunned):
            last = self._steps[-1] if self._steps else None
            if last is not None and last.kind == WRITERS and last.seen.writers[-1].number == event.number:
                self._steps.pop()
            self._steps.append(Step(WRITERS, self.seen))
        elif isinstance(event, MachineResumed | MigrationEnded) or self._over:
            if self._over:
                self._steps.pop()
            self._steps.append(Step(MOVED if self.seen.moved else FAILED, self.seen))


def _after(seen: Migration, event: Event, now: int) -> Migration:
    replace = msgspec.structs.replace
    if isinstance(event, RoundBegan):
        begun = Round(event.number, event.pages, event.limit_bytes_per_s, now, stopped=seen.stun is not None)
        return replace(seen, rounds=(*seen.rounds, begun))
    if isinstance(event, DirtySampled) and seen.rounds and seen.rounds[-1].sent is None:
        last = replace(seen.rounds[-1], dirty_pages=event.dirty_pages, sent_pages=event.sent_pages)
        return replace(seen, rounds=(*seen.rounds[:-1], last))
    if isinstance(event, RoundSent):
        return replace(seen, rounds=_closed(seen.rounds, event, now))
    if isinstance(event, WriterStunned):
        return replace(seen, writers=(*seen.writers, event))
    if isinstance(event, MachineStunned):
        return replace(seen, stun=event)
    if isinstance(event, StateSent):
        return replace(seen, state_bytes=event.state_bytes)
    if isinstance(event, HandedOver):
        return replace(seen, handed_over=True)
    if isinstance(event, MachineResumed):
        return replace(seen, resumed=event)
    if isinstance(event, MigrationEnded):
        return replace(seen, ended=event)
    return seen


def _closed(rounds: tuple[Round, ...], event: RoundSent, now: int) -> tuple[Round, ...]:
    """The round that is under way is over; one of which nobody has said that it began has, at the right time."""
    if rounds and rounds[-1].sent is None and rounds[-1].number == event.number:
        before, open_round = rounds[:-1], rounds[-1]
    else:
        pages = event.sent_pages + event.skipped_pages
        before, open_round = rounds, Round(event.number, pages, 0, now - event.duration_ns)
    closed = msgspec.structs.replace(
        open_round, sent=event, sent_pages=event.sent_pages, dirty_pages=event.dirtied_pages, stopped=event.stopped
    )
    return (*before, closed)


def migrations(events: Iterable[Event], vm: str = "") -> list[MigrationRun]:
    """All migrations in a log, of one machine if it is named, in the order in which they began."""
    found: list[MigrationRun] = []
    for event in events:
        if isinstance(event, MigrationBegan):
            if not vm or event.vm == vm:
                found.append(MigrationRun(event))
        else:
            for run in reversed(found):
                if run.add(event):
                    break
    return found
